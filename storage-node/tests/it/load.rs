//! What a node says of its load.

use dynamo_core::wire::load::{LOAD_PATH, LoadDocument};

use crate::client::{Client, r, w};
use crate::cluster::{Cluster, PATIENCE};

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
