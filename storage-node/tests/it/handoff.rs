//! Hints: delivered when their target is back, and gone then.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method};
use service_kit::http::error::ErrorCode;
use storage_node::api::hints::{HintsDocument, SyncPointDocument};

use crate::client::{Client, w};
use crate::cluster::{Cluster, PATIENCE, node, number};

async fn hints_of(client: &Client, cluster: &Cluster, id: usize) -> u64 {
    let document: HintsDocument = client.json(cluster.address(id), "/v1/hints").await.unwrap();
    assert_eq!(document.hints, document.targets.iter().map(|t| t.hints).sum::<u64>());
    document.hints
}

#[tokio::test(flavor = "multi_thread")]
async fn hints_drain_and_sync_points_say_when() {
    let mut cluster = Cluster::start(4).await;
    let client = Client::new(21);
    let dead = 4;
    cluster.kill(dead).await;
    let mut keys = Vec::new();
    for number_of_key in 0..60 {
        let key = format!("k{number_of_key}");
        let owners = cluster.replicas(&key).owners;
        let at = owners.iter().map(|n| number(*n)).find(|n| *n != dead).unwrap();
        client.put(cluster.address(at), &key, "v", w(3)).await.unwrap();
        if owners.contains(&node(dead)) {
            keys.push(key);
        }
    }
    let mut held = 0;
    for id in 1..=3 {
        held += hints_of(&client, &cluster, id).await;
    }
    assert_eq!(held, keys.len() as u64, "one hint per replica that is missing");
    let id = "0123456789abcdef0123456789abcdef";
    let body = || Bytes::from(format!("{{\"id\":\"{id}\"}}"));
    let json = || {
        let mut headers = HeaderMap::new();
        headers.insert("content-type", "application/json".parse().unwrap());
        headers
    };
    let path = "/v1/hints/sync-point";
    for holder in 1..=3 {
        let to = cluster.address(holder);
        let set = client.call(to, Method::POST, path, json(), body(), 2_000).await.unwrap();
        let set: SyncPointDocument = serde_json::from_slice(&set.body).unwrap();
        assert_eq!(set.done, set.hints == 0);
    }
    cluster.start_node(dead).await.unwrap();
    for key in &keys {
        client.until_replica(cluster.address(dead), key, &["v"]).await;
    }
    let deadline = tokio::time::Instant::now() + PATIENCE;
    for holder in 1..=3 {
        loop {
            let path = format!("{path}/{id}");
            let point: SyncPointDocument =
                client.json(cluster.address(holder), &path).await.unwrap();
            if point.done {
                break;
            }
            assert!(tokio::time::Instant::now() < deadline, "{} hints left", point.hints);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(hints_of(&client, &cluster, holder).await, 0);
        let delivered = cluster.metric(holder, "atoll_hints_delivered_total");
        let stored = cluster.metric(holder, "atoll_hints_stored_total");
        assert!(delivered <= stored);
    }
    let unknown = format!("{path}/{}", "f".repeat(32));
    let missing = client.json::<SyncPointDocument>(cluster.address(1), &unknown).await;
    assert_eq!(missing.unwrap_err().code(), ErrorCode::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn hints_survive_a_restart_of_their_holder() {
    let mut cluster = Cluster::start(4).await;
    let client = Client::new(22);
    let key = cluster.key_of(1);
    let replicas = cluster.replicas(&key);
    let (dead, holder) = (number(replicas.owners[2]), number(replicas.fallbacks[0]));
    cluster.kill(dead).await;
    client.put(cluster.address(1), &key, "v", w(3)).await.unwrap();
    assert_eq!(hints_of(&client, &cluster, holder).await, 1);
    cluster.kill(holder).await;
    cluster.start_node(holder).await.unwrap();
    assert_eq!(hints_of(&client, &cluster, holder).await, 1);
    cluster.start_node(dead).await.unwrap();
    client.until_replica(cluster.address(dead), &key, &["v"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hints_for_a_removed_node_go_to_the_present_owners() {
    let mut cluster = Cluster::start(4).await;
    let client = Client::new(23);
    let key = cluster.key_of(1);
    let replicas = cluster.replicas(&key);
    let dead = number(replicas.owners[1]);
    cluster.kill(dead).await;
    client.put(cluster.address(1), &key, "v", w(3)).await.unwrap();
    cluster.agents.remove(node(dead));
    let owners = cluster.replicas(&key).owners;
    assert_eq!(owners.len(), 3);
    for owner in owners {
        client.until_replica(cluster.address(number(owner)), &key, &["v"]).await;
    }
    let deadline = tokio::time::Instant::now() + PATIENCE;
    for id in (1..=4).filter(|id| *id != dead) {
        while hints_of(&client, &cluster, id).await > 0 {
            assert!(tokio::time::Instant::now() < deadline, "hints stay");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}
