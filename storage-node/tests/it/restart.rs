//! Restarts: what is kept, when the epoch changes, and which directories are refused.

use dynamo_core::id::ClusterId;
use storage_node::node_file::{NodeFile, read_node_file, write_node_file};
use storage_node::store::RECORDS_FILE;

use crate::client::{Ask, Client, w, with};
use crate::cluster::{Cluster, node};

fn file(cluster: &Cluster, id: usize) -> NodeFile {
    read_node_file(&cluster.data_dir(id)).unwrap().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn data_survives_and_only_an_unclean_end_begins_an_epoch() {
    let mut cluster = Cluster::start(3).await;
    let client = Client::new(31);
    let put = client.put(cluster.address(1), "k", "v", w(3)).await.unwrap();
    let before = file(&cluster, 1);
    assert!(!before.clean);
    cluster.stop(1).await.unwrap();
    assert!(file(&cluster, 1).clean);
    cluster.start_node(1).await.unwrap();
    cluster.settle().await;
    let resumed = file(&cluster, 1);
    assert_eq!(
        (resumed.epoch, resumed.clean, resumed.store_id),
        (before.epoch, false, before.store_id)
    );
    assert_eq!(resumed.incarnation.0, before.incarnation.0 + 1);
    client.put(cluster.address(1), "k", "w", with(put.versions.context)).await.unwrap();
    cluster.kill(1).await;
    cluster.start_node(1).await.unwrap();
    cluster.settle().await;
    assert_eq!(file(&cluster, 1).epoch, before.epoch + 1);
    assert_eq!(client.get(cluster.address(1), "k", Ask::default()).await.unwrap().texts(), ["w"]);
    client.put(cluster.address(1), "k", "x", Ask::default()).await.unwrap();
    let read = client.get(cluster.address(2), "k", Ask::default()).await.unwrap();
    assert_eq!(read.texts(), ["w", "x"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_disk_is_a_new_store_that_claims_nothing() {
    let mut cluster = Cluster::start(3).await;
    let client = Client::new(32);
    client.put(cluster.address(1), "k", "v", w(3)).await.unwrap();
    let before = file(&cluster, 2);
    cluster.kill(2).await;
    std::fs::remove_file(cluster.data_dir(2).join(RECORDS_FILE)).unwrap();
    cluster.start_node(2).await.unwrap();
    cluster.ready(2).await;
    let after = file(&cluster, 2);
    assert_ne!(after.store_id, before.store_id);
    assert!(after.epoch > before.epoch);
    crate::cluster::until("the new store is known", || {
        cluster.agents.store_of(node(2)) == Some(after.store_id)
    })
    .await;
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    assert_eq!(cluster.metric(2, "atoll_partitions_held"), 0.0);
    for id in 1..=3 {
        let read = client.get(cluster.address(id), "k", Ask::default()).await.unwrap();
        assert_eq!(read.texts(), ["v"], "never a false absence");
    }
    client.put(cluster.address(2), "k", "w", w(3)).await.unwrap();
    let read = client.get(cluster.address(1), "k", Ask::default()).await.unwrap();
    assert_eq!(read.texts(), ["v", "w"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_file_is_set_aside() {
    let mut cluster = Cluster::start(3).await;
    let client = Client::new(33);
    client.put(cluster.address(1), "k", "v", w(3)).await.unwrap();
    cluster.stop(2).await.unwrap();
    let path = cluster.data_dir(2).join(RECORDS_FILE);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[..4096].fill(0xaa);
    std::fs::write(&path, &bytes).unwrap();
    let before = file(&cluster, 2);
    cluster.start_node(2).await.unwrap();
    cluster.ready(2).await;
    let after = file(&cluster, 2);
    assert!(after.store_id != before.store_id && after.epoch > before.epoch);
    let aside = std::fs::read_dir(cluster.data_dir(2))
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().contains(".damaged-"))
        .count();
    assert_eq!(aside, 1);
    let read = client.get(cluster.address(2), "k", Ask::default()).await.unwrap();
    assert_eq!(read.texts(), ["v"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn foreign_directories_are_refused_unmodified() {
    let mut cluster = Cluster::start(3).await;
    cluster.stop(1).await.unwrap();
    let ours = file(&cluster, 1);
    let dir = cluster.data_dir(1);
    // The records of one node under the node file of another.
    let foreign = NodeFile { store_id: dynamo_core::id::StoreId(0xdead), ..ours };
    write_node_file(&dir, &foreign).unwrap();
    let refused = cluster.start_node(1).await.unwrap_err();
    assert!(refused.contains("names store"), "{refused}");
    assert_eq!(file(&cluster, 1), foreign);
    // Records that nobody vouches for.
    std::fs::remove_file(dir.join("node.json")).unwrap();
    let refused = cluster.start_node(1).await.unwrap_err();
    assert!(refused.contains("whose they are"), "{refused}");
    write_node_file(&dir, &ours).unwrap();
    cluster.start_node(1).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_does_not_serve_another_cluster() {
    let mut cluster = Cluster::start(3).await;
    cluster.stop(1).await.unwrap();
    let before = file(&cluster, 1).cluster_id;
    assert!(before.is_some());
    std::fs::remove_file(cluster.data_dir(1).join("ring.json")).unwrap();
    cluster.agents.set_cluster(ClusterId(0xbad));
    cluster.start_node(1).await.unwrap();
    let ended = cluster.ended(1).await.unwrap_err();
    assert!(ended.to_string().contains("belongs to cluster"), "{ended}");
    assert_eq!(file(&cluster, 1).cluster_id, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_serves_with_the_ring_it_remembers() {
    let mut cluster = Cluster::start_with(3, |_| {}).await;
    let client = Client::new(34);
    client.put(cluster.address(1), "k", "v", w(3)).await.unwrap();
    // All nodes keep their addresses in the cached ring; only node 1 restarts, under a ring whose
    // publisher is gone.
    cluster.stop(1).await.unwrap();
    assert!(cluster.data_dir(1).join("ring.json").exists());
    cluster.start_node_without_agent(1).await;
    let read = client.get(cluster.address(1), "k", Ask::default()).await.unwrap();
    assert_eq!(read.texts(), ["v"]);
}
