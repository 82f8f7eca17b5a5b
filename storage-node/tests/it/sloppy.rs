//! Sloppy quorums: nodes that are gone, and nodes that never answer.

use std::time::{Duration, Instant};

use dynamo_core::params::{Durability, Quorum, WriteQuorum};
use service_kit::http::error::{ErrorCode, Outcome};

use crate::client::{Ask, Client, r, w};
use crate::cluster::{Cluster, node, number};

#[tokio::test(flavor = "multi_thread")]
async fn a_fallback_stands_in_for_a_dead_primary() {
    let mut cluster = Cluster::start(5).await;
    let client = Client::new(11);
    let key = cluster.key_of(1);
    let dead = number(cluster.replicas(&key).owners[2]);
    cluster.kill(dead).await;
    let put = client.put(cluster.address(1), &key, "v", w(3)).await.unwrap();
    assert_eq!((put.evidence.acks, put.evidence.primaries, put.evidence.hinted), (3, 2, 1));
    let read = client.get(cluster.address(1), &key, r(3)).await.unwrap();
    assert_eq!(read.texts(), ["v"], "the hint answers reads");
    let strict = Ask { pw: Some(Quorum::Count(3)), ..w(3) };
    let refused = client.put(cluster.address(1), &key, "w", strict).await.unwrap_err();
    assert_eq!(refused.code(), ErrorCode::QuorumUnavailable);
    // The dead node comes back and gets what it missed.
    cluster.start_node(dead).await.unwrap();
    client.until_replica(cluster.address(dead), &key, &["v"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_three_is_enough_for_w_1_and_any_and_not_for_2() {
    let mut cluster = Cluster::start(3).await;
    let client = Client::new(12);
    client.put(cluster.address(1), "k", "before", w(3)).await.unwrap();
    cluster.kill(2).await;
    cluster.kill(3).await;
    let at = cluster.address(1);
    let any = Ask { w: Some(WriteQuorum::Any), ..Ask::default() };
    client.put(at, "any", "v", any).await.unwrap();
    client.put(at, "one", "v", w(1)).await.unwrap();
    let started = Instant::now();
    let refused = client.put(at, "two", "v", w(2)).await.unwrap_err();
    assert_eq!(refused.code(), ErrorCode::QuorumUnavailable);
    assert_eq!(refused.known_outcome(), Outcome::NotApplied);
    assert!(started.elapsed() < Duration::from_secs(2), "refused at once, not at the deadline");
    assert_eq!(client.replica(at, "two").await, Vec::<String>::new());
    assert_eq!(client.get(at, "one", r(1)).await.unwrap().texts(), ["v"]);
    // A delete sees what it can and works with one node too.
    client.delete(at, "one", w(1)).await.unwrap();
    assert!(client.get(at, "one", r(1)).await.unwrap().answer.versions.deleted);
    // Nothing here is no proof that there is nothing anywhere.
    let unknown = client.get(at, "never", Ask::default()).await.unwrap_err();
    assert_eq!(unknown.status().as_u16(), 503);
    // Where no stand-in was left, the coordinator owes both by reference, and pays.
    cluster.start_node(2).await.unwrap();
    cluster.start_node(3).await.unwrap();
    for id in [2, 3] {
        client.until_replica(cluster.address(id), "any", &["v"]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fallback_coordinates_when_all_primaries_are_gone() {
    let mut cluster = Cluster::start(5).await;
    let client = Client::new(13);
    let key = cluster.key_of(2);
    let replicas = cluster.replicas(&key);
    let owners: Vec<usize> = replicas.owners.iter().map(|n| number(*n)).collect();
    for id in &owners {
        cluster.kill(*id).await;
    }
    let ring = Some(cluster.agents.view().version());
    let fallback = number(replicas.fallbacks[0]);
    let ask = Ask { ring, ..w(1) };
    client.put(cluster.address(fallback), &key, "v", ask).await.unwrap();
    for id in &owners {
        cluster.start_node(*id).await.unwrap();
    }
    for id in &owners {
        client.until_replica(cluster.address(*id), &key, &["v"]).await;
    }
    // The stand-in was not to have it, and does not keep it.
    client.until_replica(cluster.address(fallback), &key, &[]).await;
    assert!(cluster.metric(fallback, "atoll_records_dropped_total") >= 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_never_answers_is_replaced_within_the_request() {
    let mut cluster = Cluster::start(5).await;
    let client = Client::new(14);
    let key = cluster.key_of(1);
    let replicas = cluster.replicas(&key);
    let zombie = number(replicas.owners[1]);
    cluster.kill(zombie).await;
    // It accepts connections and says nothing.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    cluster.agents.set_address(node(zombie), listener.local_addr().unwrap());
    let silence = tokio::spawn(async move {
        let mut held = Vec::new();
        loop {
            held.push(listener.accept().await.unwrap());
        }
    });
    tokio::time::sleep(Duration::from_millis(300)).await;
    for round in 0..20 {
        let key = format!("{key}-{round}");
        let at = cluster.replicas(&key).owners.iter().map(|n| number(*n)).find(|n| *n != zombie);
        let at = cluster.address(at.unwrap());
        client.put(at, &key, "v", w(3)).await.unwrap();
        assert_eq!(client.get(at, &key, r(3)).await.unwrap().texts(), ["v"]);
    }
    silence.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn at_the_deadline_the_outcome_is_unknown_and_the_rest_is_owed() {
    let mut cluster = Cluster::start(3).await;
    let client = Client::new(16);
    cluster.kill(3).await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    cluster.agents.set_address(node(3), listener.local_addr().unwrap());
    tokio::time::sleep(Duration::from_millis(300)).await;
    let ask = Ask { timeout_ms: Some(400), ..w(3) };
    let started = Instant::now();
    let refused = client.put(cluster.address(1), "k", "v", ask).await.unwrap_err();
    assert!(started.elapsed() < Duration::from_secs(5));
    assert_eq!(refused.known_outcome(), Outcome::Unknown, "{refused}");
    assert_eq!(client.get(cluster.address(2), "k", r(1)).await.unwrap().texts(), ["v"]);
    drop(listener);
    cluster.start_node(3).await.unwrap();
    client.until_replica(cluster.address(3), "k", &["v"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn buffered_writes_have_one_durable_copy() {
    let mut cluster = Cluster::start(3).await;
    let client = Client::new(15);
    let ask = Ask { durability: Some(Durability::Buffered), ..w(2) };
    let put = client.put(cluster.address(1), "k", "v", ask).await.unwrap();
    assert_eq!(put.evidence.durability, Durability::Buffered);
    for id in 1..=3 {
        client.until_replica(cluster.address(id), "k", &["v"]).await;
    }
    for id in 1..=3 {
        cluster.stop(id).await.unwrap();
    }
    for id in 1..=3 {
        cluster.start_node(id).await.unwrap();
    }
    cluster.settle().await;
    assert_eq!(client.get(cluster.address(2), "k", Ask::default()).await.unwrap().texts(), ["v"]);
}
