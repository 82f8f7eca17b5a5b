//! A file that is damaged under a running node: the process goes on with an empty one, and nobody
//! is told a false absence meanwhile or after.

use std::os::unix::fs::FileExt;
use std::time::Duration;

use dynamo_core::key::ObjectKey;
use dynamo_core::wire::replica::ReplicaResult;
use redb::ReadableTable;
use storage_node::config::StorageConfig;
use storage_node::node_file::read_node_file;
use storage_node::store::RECORDS_FILE;

use crate::client::{Ask, Client, w};
use crate::cluster::{Cluster, node, until};

const KEYS: usize = 60;

/// A page cache smaller than the data, and a scrub that reads all of it again and again.
fn eager(config: &mut StorageConfig) {
    config.store.cache_bytes = 1024 * 1024;
    config.background.scrub_interval_s = 1;
    config.background.controller = false;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_file_is_damaged_goes_on_with_an_empty_one() {
    let cluster = Cluster::start_with(3, eager).await;
    let client = Client::new(91);
    let value = "x".repeat(100 * 1024);
    for id in 0..KEYS {
        client.put(cluster.address(1), &format!("k{id}"), &value, w(3)).await.unwrap();
    }
    // An epoch under which nothing was minted has nothing to lose, and would go on.
    client.put(cluster.address(2), "minted", &value, w(3)).await.unwrap();
    let before = read_node_file(&cluster.data_dir(2)).unwrap().unwrap();
    let path = cluster.data_dir(2).join(RECORDS_FILE);
    let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    let length = usize::try_from(file.metadata().unwrap().len()).unwrap();
    file.write_all_at(&vec![0x5a; length - 8192], 8192).unwrap();
    until("the damaged file is replaced", || {
        cluster.metric(2, "atoll_store_quarantines_total") > 0.0
    })
    .await;
    until("the new store is known", || {
        cluster.agents.store_of(node(2)).is_some_and(|store| store != before.store_id)
    })
    .await;
    let after = read_node_file(&cluster.data_dir(2)).unwrap().unwrap();
    assert!(after.epoch > before.epoch);
    assert_eq!(after.incarnation, before.incarnation, "the process goes on");
    until("what it holds is noted", || cluster.metric(2, "atoll_partitions_held") == 0.0).await;
    cluster.ready(2).await;
    for id in 0..KEYS {
        for at in 1..=3 {
            let read = client.get(cluster.address(at), &format!("k{id}"), Ask::default()).await;
            assert_eq!(read.unwrap().texts(), [value.as_str()], "never a false absence");
        }
    }
    // It takes writes again, as replica and as coordinator.
    tokio::time::timeout(Duration::from_secs(20), async {
        while client.put(cluster.address(2), "new", "v", w(3)).await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await
    .unwrap();
    let aside = std::fs::read_dir(cluster.data_dir(2)).unwrap();
    let aside = aside.filter(|entry| {
        entry.as_ref().unwrap().file_name().to_string_lossy().contains(".damaged-")
    });
    assert_eq!(aside.count(), 1);
}

/// Regression: exchanges took an unreadable record for a replica that refuses, and never repaired
/// it. To background work it is missing; to a quorum it is a replica that failed.
#[tokio::test(flavor = "multi_thread")]
async fn an_unreadable_record_is_missing_to_background_work_and_failed_to_a_quorum() {
    let mut cluster = Cluster::start(3).await;
    let client = Client::new(92);
    client.put(cluster.address(1), "k", "value", w(3)).await.unwrap();
    cluster.stop(2).await.unwrap();
    let stored = ObjectKey::parse("b", "k").unwrap().storage_key();
    let records: redb::TableDefinition<'_, &[u8], &[u8]> = redb::TableDefinition::new("records");
    let file = redb::Database::open(cluster.data_dir(2).join(RECORDS_FILE)).unwrap();
    let change = file.begin_write().unwrap();
    {
        let mut table = change.open_table(records).unwrap();
        let mut record = table.get(stored.as_slice()).unwrap().unwrap().value().to_vec();
        *record.last_mut().unwrap() ^= 1;
        table.insert(stored.as_slice(), record.as_slice()).unwrap();
    }
    change.commit().unwrap();
    drop(file);
    cluster.start_node(2).await.unwrap();
    cluster.ready(2).await;
    let at = cluster.address(2);
    let failed = client.read_replica(at, "k", None).await;
    assert!(matches!(failed, ReplicaResult::Refused { .. }), "{failed:?}");
    let missing = client.read_replica(at, "k", Some("exchange")).await;
    assert_eq!(missing, ReplicaResult::Absent { holds: false });
    let read = client.get(cluster.address(1), "k", Ask::default()).await.unwrap();
    assert_eq!(read.texts(), ["value"]);
}
