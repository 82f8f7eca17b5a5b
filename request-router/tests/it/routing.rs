//! Which coordinator a request goes to, and what happens when it is in trouble.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

use dynamo_core::clock::context::CausalContext;
use dynamo_core::key::ObjectKey;
use service_kit::http::error::{ErrorCode, Outcome};

use crate::support::{Cluster, Mode, dead_address, snapshot};

#[test]
fn one_forward_per_request_spread_over_the_replicas() {
    let cluster = Cluster::start(5);
    for index in 0..200 {
        assert_eq!(cluster.put(&format!("/v1/kv/b/{index}"), &[], b"v").status, 204);
    }
    assert_eq!(cluster.coordinated(), 200);
    assert!(cluster.nodes.iter().all(|node| node.seen() > 0));
    assert_eq!(cluster.metric("atoll_router_forwards_total") as u64, 200);
    let head = cluster.nodes[0].last_head().unwrap();
    assert_eq!(head["x-atoll-ring"], "1-0000000000000001");
    let deadline: u64 = head["x-atoll-deadline-ms"].to_str().unwrap().parse().unwrap();
    assert!((1..2000).contains(&deadline), "{deadline}");
    assert_eq!(head["x-atoll-cluster"].len(), 32);
}

#[test]
fn the_fastest_reader_of_the_context_coordinates() {
    let cluster = Cluster::start(3);
    let object = ObjectKey::parse("b", "k").unwrap();
    for node in &cluster.nodes {
        let context = CausalContext { fastest: Some(node.id), ..CausalContext::default() };
        let token = cluster.shared.keys.encode(&object, &context).unwrap();
        for _ in 0..5 {
            let put = cluster.put("/v1/kv/b/k", &[("x-atoll-context", &token)], b"v");
            assert_eq!(put.header("x-atoll-coordinator"), Some(&*node.id.to_string()));
        }
    }
}

#[test]
fn stopped_nodes_cost_no_request() {
    let cluster = Cluster::start(5);
    let mut members: Vec<_> = cluster.nodes.iter().map(|n| (n.id, n.address)).collect();
    members[0].1 = dead_address();
    members[1].1 = dead_address();
    cluster.agent.publish(&snapshot(2, &members));
    while !cluster.get("/v1/ring").text().contains("\"2-") {
        std::thread::yield_now();
    }
    for index in 0..100 {
        let put = cluster.put(&format!("/v1/kv/b/{index}"), &[], b"v");
        assert_eq!(put.status, 204, "{put:?}");
    }
    let seen: BTreeSet<_> =
        cluster.nodes.iter().filter(|node| node.seen() > 0).map(|node| node.id.0).collect();
    assert_eq!(seen, BTreeSet::from([3, 4, 5]));
}

#[test]
fn frozen_nodes_are_hedged_around_and_found_out() {
    let cluster = Cluster::start(5);
    cluster.nodes[0].set(Mode::Frozen);
    cluster.nodes[1].set(Mode::Frozen);
    for index in 0..60 {
        let path = format!("/v1/kv/b/{index}");
        assert_eq!(cluster.put(&path, &[], path.as_bytes()).status, 204);
        assert_eq!(cluster.get(&path).text(), path);
    }
    assert!(cluster.metric("atoll_router_hedges_total") >= 1.0);
    assert!(cluster.metric("atoll_router_hedges_won_total") >= 1.0);
    // Pings tell that they are frozen, and then nothing more is sent there.
    let frozen = || cluster.nodes[..2].iter().map(|node| node.seen()).sum::<usize>();
    let mut before = usize::MAX;
    while std::mem::replace(&mut before, frozen()) != before {
        for index in 0..20 {
            assert_eq!(cluster.put(&format!("/v1/kv/b/{index}"), &[], b"v").status, 204);
        }
    }
    assert!(cluster.nodes[..2].iter().all(|node| node.pings() > 0));
}

#[test]
fn a_node_that_is_no_replica_sends_the_router_to_a_newer_ring() {
    let cluster = Cluster::start(2);
    let newer = &snapshot(2, &[(cluster.nodes[1].id, cluster.nodes[1].address)]);
    cluster.nodes[0].set(Mode::NotOwner(newer.version.to_string()));
    cluster.nodes[1].set(Mode::NotOwner(newer.version.to_string()));
    let first = cluster.put("/v1/kv/b/k?w=1", &[], b"v");
    assert_eq!((first.status, first.json()["code"].as_str()), (503, Some("quorum_unavailable")));
    assert_eq!(first.json()["outcome"], "not_applied");

    cluster.nodes[1].set(Mode::Work);
    cluster.agent.publish(newer);
    let put = cluster.put("/v1/kv/b/k?w=1", &[], b"v");
    assert_eq!(put.status, 204, "{put:?}");
    assert!(cluster.metric("atoll_router_not_owner_total") >= 2.0);
    while !cluster.get("/v1/ring").text().contains("\"2-") {
        std::thread::yield_now();
    }
}

#[test]
fn refusals_that_another_node_may_not_give_are_retried() {
    let cluster = Cluster::start(3);
    let refusals = [
        ErrorCode::Overloaded,
        ErrorCode::NotReady,
        ErrorCode::StoreUnavailable,
        ErrorCode::StoreFull,
    ];
    for code in refusals {
        cluster.nodes[0].set(Mode::Refuse(code, Outcome::NotApplied));
        cluster.nodes[1].set(Mode::Refuse(code, Outcome::NotApplied));
        for _ in 0..10 {
            assert_eq!(cluster.put("/v1/kv/b/k", &[], b"v").status, 204, "{code:?}");
        }
    }
    cluster.nodes[0].set(Mode::Refuse(ErrorCode::PreconditionFailed, Outcome::NotApplied));
    cluster.nodes[1].set(Mode::Refuse(ErrorCode::PreconditionFailed, Outcome::NotApplied));
    cluster.nodes[2].set(Mode::Refuse(ErrorCode::PreconditionFailed, Outcome::NotApplied));
    let before = cluster.coordinated();
    assert_eq!(cluster.put("/v1/kv/b/k", &[], b"v").status, 412);
    assert_eq!(cluster.coordinated() - before, 1, "a refusal of the request itself stands");
}

#[test]
fn at_most_three_coordinators_are_asked() {
    let cluster = Cluster::start(5);
    cluster.set_all(&Mode::Refuse(ErrorCode::StoreUnavailable, Outcome::NotApplied));
    let reply = cluster.put("/v1/kv/b/k", &[], b"v");
    assert_eq!((reply.status, reply.json()["code"].as_str()), (503, Some("store_unavailable")));
    assert_eq!(cluster.coordinated(), 3);
}

/// An answer that is lost after the write was applied: the next coordinator is sent the same put
/// id, so that the client's one write stays one.
#[test]
fn a_lost_answer_does_not_make_a_second_write() {
    let cluster = Cluster::start(3);
    cluster.nodes[0].set(Mode::LoseAnswer);
    cluster.nodes[1].set(Mode::LoseAnswer);
    for index in 0..20 {
        let path = format!("/v1/kv/b/{index}");
        assert_eq!(cluster.put(&path, &[], b"v").status, 204);
        assert_eq!(cluster.get(&path).header("x-atoll-siblings"), Some("1"));
    }
    assert_eq!(cluster.shared.applied.load(Ordering::Relaxed), 20);
    assert!(cluster.coordinated() > 40);
    cluster.nodes[2].set(Mode::LoseAnswer);
    let lost = cluster.put("/v1/kv/b/last?timeout_ms=1000", &[], b"v");
    assert_eq!((lost.status, lost.json()["outcome"].as_str()), (503, Some("unknown")));
}

#[test]
fn a_restarted_router_serves_from_its_cached_ring() {
    let cache = tempfile::tempdir().unwrap();
    let dir = cache.path().to_owned();
    let first = Cluster::start_with(3, |config| config.data_dir = Some(dir.clone()));
    assert_eq!(first.put("/v1/kv/b/k", &[], b"v").status, 204);
    while !dir.join("ring.json").exists() {
        std::thread::yield_now();
    }
    // The agent of the second is not there.
    let second = Cluster::start_with(0, |config| {
        config.data_dir = Some(dir.clone());
        config.membership = dead_address().to_string();
    });
    assert_eq!(second.get("/v1/kv/b/k").text(), "v");
    assert_eq!(second.get("/v1/cluster").json()["code"], "not_ready");
}
