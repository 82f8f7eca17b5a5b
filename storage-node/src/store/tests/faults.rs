//! Disks that fail while the store runs.

use std::time::{Duration, Instant};

use dynamo_core::actor::{Actor, Custody};
use dynamo_core::id::ActorId;
use dynamo_core::params::{Durability, Reconciliation};
use dynamo_core::replica::coordinate_put;
use service_kit::time::Clock;

use super::super::Store;
use super::super::error::StoreError;
use super::super::merge::MergeRequest;
use super::super::put::PutError;
use super::super::writer::StoreState;
use super::backend::{Fault, FaultyDisk};
use super::{ME, block_on, command, object, put, store, store_at, texts};

pub(super) fn wait_for(store: &Store, state: StoreState) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while store.state() != state {
        assert!(Instant::now() < deadline, "never {state:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_failed_commit_is_not_acknowledged_and_ends_the_epoch() {
    for fault in [Fault::Sync, Fault::Full] {
        let disk = FaultyDisk::default();
        let dir = tempfile::tempdir().unwrap();
        let actor = Actor::restarted(ME, 0);
        let (store, metrics) =
            store_at(disk.open().unwrap(), dir.path(), actor, |metrics| disk.home(metrics));
        put(&store, "k", command(1, "kept", None), Durability::Fsync).unwrap();
        disk.set_fault(fault);
        let mut id = 1;
        // A full disk takes what fits into the space that the file has.
        let refused = loop {
            id += 1;
            let big = "x".repeat(64 * 1024);
            match put(&store, &format!("k{id}"), command(id, &big, None), Durability::Fsync) {
                Ok(_) => assert!(id < 10_000, "{fault:?} never strikes"),
                Err(error) => break error,
            }
        };
        assert_eq!(refused, PutError::Store(StoreError::CommitFailed), "{fault:?}");
        assert!(StoreError::CommitFailed.may_have_happened());
        assert_eq!(metrics.epochs_ended.get(), 1);
        // Writes are refused, reads go on.
        wait_for(&store, StoreState::ReadOnly);
        let refused = put(&store, "k", command(9_999_999, "no", None), Durability::Fsync);
        let refused = refused.unwrap_err();
        let whys = [StoreError::Unavailable, StoreError::Full].map(PutError::Store);
        assert!(whys.contains(&refused), "{fault:?}: {refused:?}");
        disk.set_fault(Fault::None);
        wait_for(&store, StoreState::Healthy);
        assert_eq!(texts(&store.read(&object("k")).unwrap().unwrap()), ["kept"]);
        let minted = put(&store, "after", command(0, "v", None), Durability::Fsync).unwrap();
        assert_eq!(minted.dot.actor, ActorId { node: ME, epoch: 2 });
        assert!(store.close());
    }
}

#[test]
fn a_read_error_is_no_absence() {
    let disk = FaultyDisk::default();
    let dir = tempfile::tempdir().unwrap();
    {
        let (store, _) = store(disk.open().unwrap(), dir.path(), Actor::restarted(ME, 0));
        for id in 0..200u128 {
            let key = format!("k{id}");
            let big = "x".repeat(40 * 1024);
            put(&store, &key, command(id, &big, None), Durability::Buffered).unwrap();
        }
        assert!(store.close());
    }
    // The cache is smaller than the data, so some reads have to go to the disk.
    let (store, metrics) = store(disk.open().unwrap(), dir.path(), Actor::restarted(ME, 1));
    disk.set_fault(Fault::Read);
    let failed = (0..200).filter(|id| match store.read(&object(&format!("k{id}"))) {
        Ok(found) => {
            assert!(found.is_some(), "a failed read is never an absent key");
            false
        }
        Err(error) => {
            assert_eq!(error, StoreError::Unavailable);
            true
        }
    });
    assert!(failed.count() > 0);
    assert!(metrics.store.read_failures.get() > 0);
    disk.set_fault(Fault::None);
    // redb answers nothing more until the file is opened anew; the store sees to that by itself.
    let deadline = Instant::now() + Duration::from_secs(30);
    while (0..200).any(|id| store.read(&object(&format!("k{id}"))).is_err()) {
        assert!(Instant::now() < deadline, "reads never come back");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn an_unreadable_record_fails_ends_the_epoch_once_and_is_healed_by_a_merge() {
    let disk = FaultyDisk::default();
    let dir = tempfile::tempdir().unwrap();
    let marker = "a value that is found on the disk";
    let minted = {
        let (store, _) = store(disk.open().unwrap(), dir.path(), Actor::restarted(ME, 0));
        let minted = put(&store, "k", command(1, marker, None), Durability::Fsync).unwrap();
        assert!(store.close());
        minted
    };
    assert!(disk.replace(marker.as_bytes(), b"another") > 0);
    let (store, metrics) = store(disk.open().unwrap(), dir.path(), Actor::resumed(ME, 1));
    for _ in 0..3 {
        assert_eq!(store.read(&object("k")), Err(StoreError::Corrupt));
    }
    let refused = put(&store, "k", command(2, "new", None), Durability::Fsync).unwrap_err();
    assert_eq!(refused, PutError::Store(StoreError::Corrupt));
    let metrics_of = &metrics.store;
    assert_eq!((metrics_of.corrupt_records.get(), metrics_of.corrupt_keys.get()), (1, 1));
    assert_eq!(metrics.epochs_ended.get(), 1);
    let merge = MergeRequest {
        object: object("k"),
        record: minted.record.clone(),
        reconciliation: Reconciliation::Siblings,
        custody: Custody::Held,
    };
    block_on(store.merge(vec![merge], Durability::Fsync, None)).unwrap();
    assert_eq!(store.read(&object("k")).unwrap(), Some(minted.record));
    assert_eq!(metrics_of.corrupt_keys.get(), 0);
}

#[test]
fn amnesia_ends_the_epoch_and_the_put_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let disk = FaultyDisk::default();
    let (store, metrics) = store(disk.open().unwrap(), dir.path(), Actor::resumed(ME, 4));
    // A client has seen a write of ours that we do not have.
    let mut elsewhere = Actor::resumed(ME, 4);
    let lost = coordinate_put(
        &dynamo_core::clock::record::Record::default(),
        &command(1, "lost", None),
        &mut elsewhere,
        Clock::system().wall(),
    )
    .unwrap();
    let seen = super::context(&lost.record);
    let minted = put(&store, "k", command(2, "next", Some(seen)), Durability::Fsync).unwrap();
    assert_eq!(minted.dot.actor.epoch, 5);
    assert_eq!(metrics.epochs_ended.get(), 1);
    // Another replica shows one of ours that we do not have.
    let merge = MergeRequest {
        object: object("other"),
        record: lost.record,
        reconciliation: Reconciliation::Siblings,
        custody: Custody::Held,
    };
    block_on(store.merge(vec![merge], Durability::Fsync, None)).unwrap();
    let minted = put(&store, "k", command(3, "last", None), Durability::Fsync).unwrap();
    assert_eq!(minted.dot.actor.epoch, 6, "minted was something under 5, so it is over");
}
