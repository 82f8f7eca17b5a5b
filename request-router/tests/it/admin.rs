//! Routes for operators and client libraries.

use std::sync::Arc;

use service_kit::http::error::ErrorCode;

use crate::support::{Cluster, Mode, dead_address, request, snapshot};

#[test]
fn membership_and_buckets_are_the_agents_business() {
    let cluster = Cluster::start(3);
    let json = [("content-type", "application/json")];
    let plan = [("if-match", "\"plan-1\"")];
    let stage = b"{\"leave\":{\"node\":\"host-1\"}}";
    let props = b"{\"n\":3,\"r\":1}";
    type Ask<'a> = (&'a str, &'a str, &'a [(&'a str, &'a str)], &'a [u8]);
    let asks: [Ask<'_>; 9] = [
        ("GET", "/v1/cluster", &[], b""),
        ("POST", "/v1/cluster/stage", &json, stage),
        ("DELETE", "/v1/cluster/stage", &[], b""),
        ("GET", "/v1/cluster/plan", &[], b""),
        ("POST", "/v1/cluster/commit", &plan, b""),
        ("GET", "/v1/buckets", &[], b""),
        ("GET", "/v1/buckets/carts", &[], b""),
        ("PUT", "/v1/buckets/carts", &json, props),
        ("DELETE", "/v1/buckets/carts", &[], b""),
    ];
    for (index, (method, path, headers, body)) in asks.into_iter().enumerate() {
        let reply = request(cluster.router, method, path, headers, body);
        assert_eq!((reply.status, reply.text()), (200, "{\"ok\":true}"), "{method} {path}");
        assert_eq!(reply.header("etag"), Some("\"plan-1\""));
        assert_eq!(reply.header("x-internal"), None);
        let asked = cluster.agent.asked();
        assert_eq!(asked.len(), index + 1);
        let last = asked.last().unwrap();
        assert_eq!((last.method.as_str(), last.path.as_str()), (method, path));
        assert_eq!(last.body.as_bytes(), body);
        assert_eq!(last.if_match.is_some(), path.ends_with("commit"));
    }
    cluster.agent.refuse(ErrorCode::StalePlan);
    let stale = request(cluster.router, "POST", "/v1/cluster/commit", &plan, b"");
    assert_eq!((stale.status, stale.json()["code"].as_str()), (412, Some("stale_plan")));
}

#[test]
fn the_ring_is_served_and_waited_for() {
    let cluster = Cluster::start(3);
    let ring = cluster.get("/v1/ring");
    assert_eq!((ring.status, &ring.json()["format"]), (200, &1.into()));
    let etag = ring.header("etag").unwrap().to_owned();
    let known = [("if-none-match", etag.as_str())];
    assert_eq!(cluster.ask("GET", "/v1/ring", &known).status, 304);
    assert_eq!(cluster.ask("GET", "/v1/ring?wait_ms=50", &known).status, 304);
    assert_eq!(cluster.ask("GET", "/v1/ring", &[("if-none-match", "\"other\"")]).status, 200);

    let (router, tag) = (cluster.router, etag.clone());
    let waiting = std::thread::spawn(move || {
        let known = [("if-none-match", tag.as_str())];
        request(router, "GET", "/v1/ring?wait_ms=60000", &known, b"")
    });
    let members: Vec<_> = cluster.nodes.iter().map(|node| (node.id, node.address)).collect();
    cluster.agent.publish(&snapshot(2, &members));
    let newer = waiting.join().unwrap();
    assert_eq!((newer.status, newer.json()["version"].as_str()), (200, Some("2-0000000000000002")));
    assert_ne!(newer.header("etag"), Some(&*etag));
}

#[test]
fn a_key_can_be_located() {
    let cluster = Cluster::start(5);
    let reply = cluster.get("/v1/ring/preference?bucket=carts&key=a%2Fb+c%ff");
    let place = reply.json();
    assert_eq!((reply.status, &place["key"]), (200, &"a/b%2Bc%FF".into()));
    let list = place["list"].as_array().unwrap();
    let roles: Vec<&str> = list.iter().map(|node| node["role"].as_str().unwrap()).collect();
    assert_eq!(roles, ["primary", "primary", "primary", "fallback", "fallback"]);
    assert!(list.iter().all(|node| node["holder"] == true && node["reachable"] == true));
}

#[test]
fn health_counts_who_answers() {
    let cluster = Cluster::start(3);
    let health = cluster.get("/v1/cluster/health").json();
    let expected = serde_json::json!({
        "status": "healthy", "nodes": 3, "nodes_reachable": 3, "partitions": 8,
        "partitions_all_ok": 8, "partitions_quorum_ok": 8, "pending_moves": 0, "hints": 9,
    });
    assert_eq!(health, expected);
    let stop = |node: &str| cluster.get(&format!("/v1/cluster/safe-to-stop?node={node}")).json();
    assert_eq!(stop("host-1")["safe"], true);

    let mut members: Vec<_> = cluster.nodes.iter().map(|n| (n.id, n.address)).collect();
    members[0].1 = dead_address();
    cluster.agent.publish(&snapshot(2, &members));
    let mut health = health;
    while health["nodes_reachable"] != 2 {
        health = cluster.get("/v1/cluster/health").json();
    }
    assert_eq!(health["status"], "degraded");
    assert_eq!((&health["partitions_all_ok"], &health["hints"]), (&0.into(), &6.into()));
    assert_eq!(stop("host-2")["partitions_at_risk"], 8);
    assert_eq!(stop("host-2")["safe"], false);
}

#[test]
fn hints_are_summed_and_awaited() {
    let cluster = Cluster::start(3);
    cluster.nodes[2].set(Mode::Frozen);
    let hints = cluster.get("/v1/hints").json();
    assert_eq!((&hints["hints"], &hints["bytes"]), (&6.into(), &600.into()));
    assert_eq!(hints["unreachable"], 1);
    assert_eq!(hints["nodes"][2]["reachable"], false);
    assert!(hints["nodes"][0]["report"]["targets"].is_array());

    let set = request(cluster.router, "POST", "/v1/hints/sync-point", &[], b"");
    assert_eq!((set.status, &set.json()["done"]), (201, &false.into()));
    let location = set.header("location").unwrap();
    let point = cluster.get(location).json();
    assert_eq!((&point["done"], &point["hints"]), (&true.into(), &0.into()));
    assert_eq!(point["nodes"][0]["state"], "drained");
    let unknown = format!("/v1/hints/sync-point/{}", "0".repeat(32));
    assert_eq!(cluster.get(&unknown).status, 404);
}

#[test]
fn the_description_and_the_metrics_are_served() {
    let cluster = Cluster::start(1);
    let document = cluster.get("/openapi.json");
    assert_eq!((document.status, document.header("content-type")), (200, Some("application/json")));
    assert!(document.json()["paths"]["/v1/kv/{bucket}/{key}"]["put"].is_object());
    assert_eq!(cluster.get("/readyz").status, 404, "health is on the other port");

    assert_eq!(request(cluster.health, "GET", "/readyz", &[], b"").status, 200);
    assert_eq!(cluster.put("/v1/kv/b/k", &[], b"v").status, 204);
    let text = request(cluster.health, "GET", "/metrics", &[], b"");
    let wanted = [
        "atoll_http_requests_total{listener=\"api\",method=\"PUT\",route=\"/v1/kv/{bucket}/{*key}\",status=\"2xx\"} 1",
        "atoll_router_forwards_total 1",
        "atoll_router_coordinator_choices_total{reason=\"only_primary\"} 1",
        "atoll_router_value_bytes_in_count 1",
        "atoll_router_body_bytes_in_flight 0",
        "atoll_ring_watch_version 1",
    ];
    for line in wanted {
        assert!(text.text().contains(line), "{line} missing in\n{}", text.text());
    }
}

#[test]
fn a_router_without_a_ring_is_not_ready() {
    let config = request_router::config::RouterConfig {
        listen: "127.0.0.1:0".into(),
        metrics_listen: "127.0.0.1:0".into(),
        membership: dead_address().to_string(),
        ..Default::default()
    };
    let data = tempfile::tempdir().unwrap();
    let ports = data.path().join("ports.json");
    let mut config = config;
    config.runtime.ports_file = Some(ports.clone());
    let shutdown = service_kit::shutdown::Shutdown::new();
    let runtime = Arc::new(tokio::runtime::Runtime::new().unwrap());
    let context =
        service_kit::launch::ServiceContext::new("router", config, shutdown.clone()).unwrap();
    use service_kit::launch::Service;
    let running = runtime.spawn(request_router::RequestRouter::run(context));
    let ports: serde_json::Value = loop {
        match std::fs::read(&ports) {
            Ok(text) => break serde_json::from_slice(&text).unwrap(),
            Err(_) => std::thread::yield_now(),
        }
    };
    let address = |name: &str| ports[name].as_str().unwrap().parse().unwrap();
    let ready = request(address("metrics_listen"), "GET", "/readyz", &[], b"");
    assert_eq!(ready.status, 503);
    assert!(ready.text().contains("ring"), "{ready:?}");
    let get = request(address("listen"), "GET", "/v1/kv/b/k", &[], b"");
    assert_eq!((get.status, get.json()["code"].as_str()), (503, Some("not_ready")));
    shutdown.request();
    runtime.block_on(running).unwrap().unwrap();
}
