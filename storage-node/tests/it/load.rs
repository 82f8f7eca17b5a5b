//! What a node says of its load, and of its peers.

use dynamo_core::wire::load::{LOAD_PATH, LoadDocument};
use dynamo_core::wire::peers::{PEERS_PATH, PeerMark, PeersDocument};

use crate::client::{Client, r, w};
use crate::cluster::{Cluster, PATIENCE, node};

#[tokio::test(flavor = "multi_thread")]
async fn requests_count_where_they_were_coordinated_and_at_the_other_replicas() {
    let cluster = Cluster::start(3).await;
    let client = Client::new(31);
    let load =
        async |id| -> LoadDocument { client.json(cluster.address(id), LOAD_PATH).await.unwrap() };
    let end = tokio::time::Instant::now() + PATIENCE;
    let sees = async |id, coordinated, replica| {
        loop {
            let windows = load(id).await.windows;
            if windows.iter().all(|w| (w.coordinated, w.replica) == (coordinated, replica)) {
                return;
            }
            assert!(tokio::time::Instant::now() < end, "node {id}: {windows:?}");
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    // Counting begins with a first look at the counters.
    for id in 1..=3 {
        while load(id).await.windows[0].seconds == 0 {
            assert!(tokio::time::Instant::now() < end);
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    }
    for _ in 0..3 {
        client.put(cluster.address(1), "k", "v", w(3)).await.unwrap();
    }
    client.get(cluster.address(1), "k", r(3)).await.unwrap();
    sees(1, 4, 0).await;
    sees(2, 0, 4).await;
    sees(3, 0, 4).await;
    // The same for Prometheus: the figures of both windows, summed up, a tick later at most.
    for id in 1..=3 {
        while cluster.metric(id, "atoll_load_operations") < 8.0 {
            assert!(tokio::time::Instant::now() < end);
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        assert_eq!(cluster.metric(id, "atoll_load_weight"), 1.0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_says_how_long_its_peers_took() {
    let mut cluster = Cluster::start(3).await;
    let client = Client::new(32);
    let end = tokio::time::Instant::now() + PATIENCE;
    // Until both peers satisfy `enough`; something is written to them meanwhile.
    let write_until = async |cluster: &Cluster, enough: fn(PeerMark, u64, Option<u64>) -> bool| {
        for turn in 0_u64.. {
            // A refusal tells the node as much of its peers as an acknowledgement.
            drop(client.put(cluster.address(1), &format!("k{turn}"), "v", w(1)).await);
            let seen: PeersDocument = client.json(cluster.address(1), PEERS_PATH).await.unwrap();
            assert_eq!((seen.node, seen.store.as_str(), seen.peers.len()), (node(1), "healthy", 2));
            if seen.peers.iter().all(|peer| enough(peer.state, peer.messages, peer.p99_us)) {
                return;
            }
            assert!(tokio::time::Instant::now() < end, "{seen:?}");
        }
    };
    write_until(&cluster, |state, messages, p99| {
        state == PeerMark::Up && messages > 0 && p99.is_some()
    })
    .await;
    cluster.stop(2).await.unwrap();
    cluster.stop(3).await.unwrap();
    write_until(&cluster, |state, _, _| state == PeerMark::Down).await;
}
