//! A disk that fills up, and gets space again.

use std::sync::Arc;
use std::time::{Duration, Instant};

use dynamo_core::actor::{Actor, Custody};
use dynamo_core::clock::record::Content;
use dynamo_core::params::{Durability, Reconciliation};
use dynamo_core::replica::PutCommand;

use super::super::Store;
use super::super::error::StoreError;
use super::super::merge::MergeRequest;
use super::super::put::PutError;
use super::super::space::Level;
use super::super::writer::StoreState;
use super::backend::FaultyDisk;
use super::faults::wait_for;
use super::{ME, block_on, command, context, object, put, store_at, texts};

const MIB: u64 = 1024 * 1024;

fn delete(store: &Store, key: &str, id: u128) -> Result<(), PutError> {
    let seen = store.read(&object(key))?.as_ref().map(context);
    let command = PutCommand { content: Content::Tombstone, ..command(id, "", seen) };
    put(store, key, command, Durability::Fsync).map(|_| ())
}

/// Fills the disk. How many values were taken.
fn fill(store: &Store, first_id: u128) -> u128 {
    let big = "x".repeat(64 * 1024);
    let mut taken = 0;
    while put(
        store,
        &format!("big{taken}"),
        command(first_id + taken, &big, None),
        Durability::Fsync,
    )
    .is_ok()
    {
        taken += 1;
        assert!(taken < 10_000, "the disk never fills");
    }
    taken
}

#[test]
fn a_full_disk_takes_deletes_and_everything_again_when_it_has_space() {
    let disk = FaultyDisk::default();
    disk.set_capacity(24 * MIB, 0);
    let dir = tempfile::tempdir().unwrap();
    let actor = Actor::restarted(ME, 0);
    let (store, metrics) = store_at(disk.open().unwrap(), dir.path(), actor, |m| disk.home(m));
    assert!(metrics.space.reserve_bytes.get() > 0);
    put(&store, "k", command(1, "kept", None), Durability::Fsync).unwrap();
    assert!(fill(&store, 1_000) > 20);
    wait_for(&store, StoreState::Full);
    // Reads and deletes go on, values are refused, and that costs nothing.
    let ended = metrics.epochs_ended.get();
    assert!(ended <= 1);
    for id in 0..20 {
        let refused = put(&store, "k", command(10_000 + id, "more", None), Durability::Fsync);
        assert_eq!(refused.unwrap_err(), PutError::Store(StoreError::Full));
        assert_eq!(delete(&store, &format!("big{id}"), 20_000 + id), Ok(()));
    }
    assert_eq!(texts(&store.read(&object("k")).unwrap().unwrap()), ["kept"]);
    assert_eq!(metrics.epochs_ended.get(), ended);
    let tombstone = store.read(&object("big0")).unwrap().unwrap();
    let merge = |key: &str, record| MergeRequest {
        object: object(key),
        record,
        reconciliation: Reconciliation::Siblings,
        custody: Custody::Held,
    };
    block_on(store.merge(vec![merge("elsewhere", tombstone)], Durability::Fsync, None)).unwrap();
    let value = store.read(&object("k")).unwrap().unwrap();
    let refused = block_on(store.merge(vec![merge("other", value)], Durability::Fsync, None));
    assert_eq!(refused, Err(StoreError::Full));
    assert!(!StoreError::Full.may_have_happened());
    assert!(metrics.records_file.refused_full.get() >= 21);
    // Space comes back, and with it everything, by itself.
    let before = Instant::now();
    disk.set_capacity(64 * MIB, 0);
    wait_for(&store, StoreState::Healthy);
    assert!(before.elapsed() < Duration::from_secs(10), "{:?}", before.elapsed());
    put(&store, "k", command(30_000, "more", None), Durability::Fsync).unwrap();
    assert!(metrics.space.reserve_bytes.get() > 0);
    assert!(store.close());
}

#[test]
fn little_space_stops_values_before_a_commit_fails() {
    let disk = FaultyDisk::default();
    disk.set_capacity(64 * MIB, 0);
    let dir = tempfile::tempdir().unwrap();
    let actor = Actor::restarted(ME, 0);
    let (store, metrics) = store_at(disk.open().unwrap(), dir.path(), actor, |m| disk.home(m));
    put(&store, "k", command(1, "kept", None), Durability::Fsync).unwrap();
    let others = 58 * MIB;
    disk.set_capacity(64 * MIB, others);
    wait_for(&store, StoreState::Full);
    let refused = put(&store, "k", command(2, "more", None), Durability::Fsync).unwrap_err();
    assert_eq!(refused, PutError::Store(StoreError::Full));
    assert_eq!(delete(&store, "k", 3), Ok(()));
    assert_eq!((metrics.epochs_ended.get(), metrics.records_file.failures.get()), (0, 0));
    assert_eq!(metrics.space.ran_out.get(), 0);
    disk.set_capacity(64 * MIB, 0);
    wait_for(&store, StoreState::Healthy);
    assert!(store.close());
}

/// Every value that [`fill`] wrote can be read: more of them than are held in memory.
fn can_read(store: &Store, values: u128) -> bool {
    (0..values)
        .all(|n| store.read(&object(&format!("big{n}"))).is_ok_and(|record| record.is_some()))
}

#[test]
fn an_exhausted_disk_takes_nothing_and_ends_no_epochs_and_is_read() {
    let disk = FaultyDisk::default();
    disk.set_capacity(24 * MIB, 0);
    let dir = tempfile::tempdir().unwrap();
    let actor = Actor::restarted(ME, 0);
    let mut space = None;
    let (store, metrics) = store_at(disk.open().unwrap(), dir.path(), actor, |metrics| {
        let home = disk.home(metrics);
        space = Some(Arc::clone(&home.space));
        home
    });
    let space = space.unwrap();
    put(&store, "k", command(1, "kept", None), Durability::Fsync).unwrap();
    let values = fill(&store, 100_000);
    // Others take it all, the reserve as well once it is given back.
    disk.set_capacity(24 * MIB, 24 * MIB);
    let big = "x".repeat(256 * 1024);
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut id = 10;
    while space.level() != Level::Exhausted {
        assert!(Instant::now() < deadline, "space never runs out");
        id += 1;
        // Deletes of new keys take space as well.
        put(&store, "k", command(id, &big, None), Durability::Fsync).ok();
        delete(&store, &format!("none{id}"), 1_000 + id).ok();
        std::thread::sleep(Duration::from_millis(5));
    }
    // After the last failure the file is opened once more, for reads.
    while !can_read(&store, values) {
        assert!(Instant::now() < deadline, "what is there cannot be read");
        std::thread::sleep(Duration::from_millis(5));
    }
    let ended = metrics.epochs_ended.get();
    assert!(ended <= 3, "{ended}");
    for id in 0..200 {
        let refused = delete(&store, &format!("never{id}"), 5_000 + id).unwrap_err();
        assert_eq!(refused, PutError::Store(StoreError::Full));
        assert_eq!(texts(&store.read(&object("k")).unwrap().unwrap()), ["kept"]);
    }
    assert_eq!(metrics.epochs_ended.get(), ended);
    disk.set_capacity(64 * MIB, 0);
    wait_for(&store, StoreState::Healthy);
    put(&store, "k", command(9_999, "more", None), Durability::Fsync).unwrap();
    assert!(store.stats().records.is_some());
    assert!(store.close());
    assert_eq!(store.stats().records, None, "it tells of a closed file, too");
}
