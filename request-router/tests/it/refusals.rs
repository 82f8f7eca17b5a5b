//! What clients get when a coordinator refuses or misbehaves.

use service_kit::http::error::{ErrorCode, Outcome};

use crate::support::{Cluster, Mode};

#[test]
fn refusals_pass_without_what_is_not_for_clients() {
    for (expose, shown) in [(false, false), (true, true)] {
        let cluster = Cluster::start_with(3, |config| config.expose_replicas = expose);
        cluster.set_all(&Mode::Refuse(ErrorCode::QuorumUnavailable, Outcome::Unknown));
        let reply = cluster.put("/v1/kv/b/k", &[("x-request-id", "mine-2")], b"v");
        let problem = reply.json();
        assert_eq!(reply.status, 503);
        assert_eq!(problem["code"], "quorum_unavailable");
        assert_eq!(problem["outcome"], "unknown");
        assert_eq!((&problem["required"], &problem["got"]), (&2.into(), &1.into()));
        assert_eq!(problem["request_id"], "mine-2", "not that of the coordinator");
        assert_eq!(problem.get("replicas").is_some(), shown, "{problem}");
    }
}

#[test]
fn trouble_between_our_processes_is_ours() {
    let cluster = Cluster::start(3);
    let codes = [ErrorCode::WrongCluster, ErrorCode::BadFrame, ErrorCode::Internal];
    for code in codes {
        cluster.set_all(&Mode::Refuse(code, Outcome::NotApplied));
        let reply = cluster.get("/v1/kv/b/k");
        assert_eq!((reply.status, reply.json()["code"].as_str()), (500, Some("internal")));
        assert!(!reply.text().contains("127.0.0.1"), "{reply:?}");
    }
    cluster.set_all(&Mode::Garbage);
    let reply = cluster.put("/v1/kv/b/k", &[], b"v");
    assert_eq!((reply.status, reply.json()["code"].as_str()), (500, Some("internal")));
    assert_eq!(reply.json()["outcome"], "unknown", "it may have been applied");
    let reply = cluster.get("/v1/kv/b/k");
    assert_eq!(reply.json()["outcome"], "not_applied", "a read applies nothing");
}

#[test]
fn nobody_can_be_reached() {
    let cluster = Cluster::start(3);
    let dead: Vec<_> =
        cluster.nodes.iter().map(|node| (node.id, crate::support::dead_address())).collect();
    cluster.agent.publish(&crate::support::snapshot(2, &dead));
    let reply = loop {
        let reply = cluster.put("/v1/kv/b/k", &[], b"v");
        if reply.status != 204 {
            break reply;
        }
    };
    let problem = reply.json();
    assert_eq!((reply.status, problem["code"].as_str()), (503, Some("quorum_unavailable")));
    assert_eq!(problem["outcome"], "not_applied");
    assert_eq!((&problem["required"], &problem["got"]), (&2.into(), &0.into()));
}

#[test]
fn the_deadline_ends_a_request() {
    let cluster = Cluster::start(3);
    cluster.set_all(&Mode::Frozen);
    for (method, outcome) in [("GET", "not_applied"), ("DELETE", "unknown")] {
        let reply = cluster.ask(method, "/v1/kv/b/k?timeout_ms=300", &[]);
        let problem = reply.json();
        assert_eq!((reply.status, problem["code"].as_str()), (504, Some("deadline_exceeded")));
        assert_eq!(problem["outcome"], outcome);
    }
}

#[test]
fn overload_is_told() {
    let cluster = Cluster::start_with(1, |config| config.limits.requests = 1);
    cluster.set_all(&Mode::Frozen);
    let router = cluster.router;
    let slow = std::thread::spawn(move || {
        crate::support::request(router, "GET", "/v1/kv/b/k?timeout_ms=1500", &[], b"").status
    });
    while cluster.coordinated() == 0 {
        std::thread::yield_now();
    }
    let refused = cluster.get("/v1/kv/b/k");
    assert_eq!((refused.status, refused.json()["code"].as_str()), (503, Some("overloaded")));
    assert!(refused.header("retry-after").is_some());
    assert_eq!(cluster.get("/v1/cluster").status, 200, "operators are not locked out");
    assert_eq!(slow.join().unwrap(), 504);
}
