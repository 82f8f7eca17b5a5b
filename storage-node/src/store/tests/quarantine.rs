//! Files that are damaged while the store runs: an empty one takes their place, and wherever that
//! is cut short, the next start goes on from there.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use dynamo_core::actor::Actor;
use dynamo_core::entropy::SplitMix;
use dynamo_core::params::Durability;
use dynamo_core::ring::{PartitionSet, Partitions};
use dynamo_core::time::{Mono, WallMs};
use dynamo_core::transfer::Inventory;
use dynamo_core::wire::tree::TreeState;
use prometheus::Registry;
use service_kit::time::Clock;

use super::super::aside::{FilePlace, Place, count_aside};
use super::super::engine::Commit;
use super::super::error::StoreError;
use super::super::seal::identify;
use super::super::space::Space;
use super::super::successor::RecordsSuccessor;
use super::super::writer::{Home, RenewStep, StoreState, Successor};
use super::super::{RECORDS, RECORDS_FILE, Store};
use super::backend::{Fault, FaultyDisk};
use super::faults::wait_for;
use super::{ME, block_on, command, object, put, store_at, texts};
use crate::config::StoreSettings;
use crate::data_dir::{OpenedDir, open_data_dir};
use crate::epoch::EpochKeeper;
use crate::limits::UNREADABLE_RECORDS_MAX;
use crate::metrics::Metrics;
use crate::node_file::{NodeFile, read_node_file};

fn place(dir: &Path) -> FilePlace {
    FilePlace { path: dir.join(RECORDS_FILE), clock: Clock::system() }
}

/// Opens a real data directory and starts its store.
pub(super) fn open(dir: &Path, seed: u64) -> (Store, Metrics, OpenedDir) {
    let settings = StoreSettings::default();
    let opened = open_data_dir(dir, ME, &settings, WallMs(seed), &mut SplitMix::new(seed));
    let opened = opened.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    let metrics = Metrics::register(&Registry::new()).unwrap();
    let (epoch, ended) = (metrics.epoch.clone(), metrics.epochs_ended.clone());
    let epochs = Arc::new(EpochKeeper::new(dir, opened.actor, opened.file, epoch, ended));
    let space = Space::of_dir(dir.to_owned(), metrics.space.clone(), Mono(0));
    let home = Home::new(place(dir), Arc::new(space));
    let engine = Arc::clone(&opened.records);
    let (of_store, of_file) = (metrics.store.clone(), metrics.records_file.clone());
    let store = Store::start(engine, home, Clock::system(), epochs, of_store, of_file).unwrap();
    (store, metrics, opened)
}

/// Closes in order, as the service does.
pub(super) fn close(store: &Store) {
    assert!(store.close());
    store.shared.epochs.close_clean().unwrap();
}

fn node(dir: &Path) -> NodeFile {
    read_node_file(dir).unwrap().unwrap()
}

fn everything() -> Inventory {
    let partitions = Partitions::new(16).unwrap();
    let mut all = PartitionSet::empty(partitions);
    partitions.iter().for_each(|partition| {
        all.insert(partition);
    });
    Inventory::holding(&all)
}

#[test]
fn the_replacement_may_end_after_every_step() {
    for done in 0..=RenewStep::ALL.len() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        let (store, _, _) = open(dir, 1);
        put(&store, "k", command(1, "v", None), Durability::Fsync).unwrap();
        block_on(store.set_inventory(&everything(), store.life())).unwrap();
        let before = node(dir);
        // The steps, without the thread that does them: the process ends after the last one.
        assert!(store.writer.stop());
        store.engine.close();
        let mut successor = RecordsSuccessor::new(Arc::clone(&store.shared));
        successor.forget();
        for step in RenewStep::ALL.into_iter().take(done) {
            step.perform(store.engine.as_ref(), &place(dir), &mut successor, "test").unwrap();
        }
        store.engine.close();
        drop(store);
        for life in 2..4 {
            let (store, _, opened) = open(dir, life);
            let after = node(dir);
            assert!(after.epoch > before.epoch, "{done}: a dot could be minted twice");
            let identity = identify(opened.records.as_ref()).unwrap().unwrap();
            assert_eq!(identity.store, after.store_id);
            let found = store.read(&object("k")).unwrap().is_some();
            let held = opened.inventory.is_some();
            let same = after.store_id == before.store_id;
            assert_eq!((found, held, same), (done == 0, done == 0, done == 0), "{done}");
            put(&store, "new", command(2, "w", None), Durability::Fsync).unwrap();
            assert_eq!(count_aside(dir).unwrap(), usize::from(done > 0));
            close(&store);
        }
    }
}

#[test]
fn a_damaged_file_is_replaced_while_the_process_runs() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let (store, metrics, _) = open(dir, 1);
    for id in 0..50 {
        let text = format!("{id} {}", "x".repeat(1_000));
        put(&store, &format!("k{id}"), command(id, &text, None), Durability::Fsync).unwrap();
    }
    block_on(store.set_inventory(&everything(), store.life())).unwrap();
    let (before, life) = (node(dir), store.life());
    // Rot in all pages but those of the header.
    use std::os::unix::fs::FileExt;
    let path = dir.join(RECORDS_FILE);
    let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    let length = file.metadata().unwrap().len();
    let rot = vec![0x5a; usize::try_from(length - 8192).unwrap()];
    file.write_all_at(&rot, 8192).unwrap();
    // A read that met it says so.
    store.shared.damaged.store(true, Ordering::Release);
    let mut states = store.watch_state();
    block_on(async {
        while metrics.records_file.quarantines.get() == 0
            || *states.borrow_and_update() != StoreState::Healthy
        {
            tokio::time::timeout(std::time::Duration::from_secs(30), states.changed())
                .await
                .expect("never replaced")
                .unwrap();
        }
    });
    assert_eq!(store.life(), life + 1);
    let after = node(dir);
    assert!(after.store_id != before.store_id && after.epoch > before.epoch && !after.clean);
    assert_eq!(after.incarnation, before.incarnation, "the process goes on");
    assert_eq!(store.read(&object("k1")), Ok(None));
    let late = block_on(store.set_inventory(&everything(), life));
    assert_eq!(late, Err(StoreError::Unavailable), "what the old file held, the new one does not");
    let minted = put(&store, "k1", command(100, "new", None), Durability::Fsync).unwrap();
    assert_eq!(minted.dot.actor.epoch, after.epoch);
    assert_eq!(store.tree_stats().state, TreeState::Built, "of nothing the tree is complete");
    assert_eq!(count_aside(dir).unwrap(), 1);
    close(&store);
    drop(store);
    let (store, _, opened) = open(dir, 2);
    assert_eq!((opened.file.store_id, opened.file.epoch), (after.store_id, after.epoch));
    assert_eq!(opened.inventory, None);
    assert_eq!(texts(&store.read(&object("k1")).unwrap().unwrap()), ["new"]);
}

#[test]
fn a_passing_fault_costs_an_epoch_and_no_data() {
    let disk = FaultyDisk::default();
    let dir = tempfile::tempdir().unwrap();
    let actor = Actor::restarted(ME, 0);
    let (store, metrics) = store_at(disk.open().unwrap(), dir.path(), actor, |m| disk.home(m));
    put(&store, "k", command(1, "v", None), Durability::Fsync).unwrap();
    store.shared.damaged.store(true, Ordering::Release);
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while metrics.records_file.reopens.get() == 0 || store.state() != StoreState::Healthy {
        assert!(std::time::Instant::now() < deadline, "never opened anew");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    assert_eq!((metrics.epochs_ended.get(), metrics.records_file.quarantines.get()), (1, 0));
    assert_eq!(texts(&store.read(&object("k")).unwrap().unwrap()), ["v"]);
    assert_eq!((store.life(), disk.times_aside()), (0, 0));
}

#[test]
fn many_unreadable_records_are_replaced_and_few_are_not() {
    for (bad, replaced) in [(UNREADABLE_RECORDS_MAX - 1, false), (UNREADABLE_RECORDS_MAX, true)] {
        let disk = FaultyDisk::default();
        let dir = tempfile::tempdir().unwrap();
        let actor = Actor::restarted(ME, 0);
        let engine = disk.open().unwrap();
        let (store, metrics) = store_at(Arc::clone(&engine), dir.path(), actor, |m| disk.home(m));
        let names: Vec<_> = (0..bad).map(|id| object(&format!("k{id}"))).collect();
        engine
            .transact(Commit::Durable, &mut |tables| {
                names.iter().try_for_each(|n| tables.put(RECORDS, &n.storage_key(), b"rot"))
            })
            .unwrap();
        for name in &names {
            assert_eq!(store.read(name), Err(StoreError::Corrupt));
        }
        if replaced {
            let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
            while metrics.records_file.quarantines.get() == 0 {
                assert!(std::time::Instant::now() < deadline, "never replaced");
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
            wait_for(&store, StoreState::Healthy);
            assert_eq!(store.read(&names[0]), Ok(None));
            assert_eq!(metrics.store.corrupt_keys.get(), 0);
        } else {
            put(&store, "other", command(1, "v", None), Durability::Fsync).unwrap();
            assert_eq!(metrics.records_file.quarantines.get(), 0);
            assert_eq!(metrics.store.corrupt_keys.get(), i64::try_from(bad).unwrap());
        }
    }
}

#[test]
fn a_disk_that_gives_nothing_any_more_is_given_up_and_comes_back_empty() {
    let disk = FaultyDisk::default();
    let dir = tempfile::tempdir().unwrap();
    let actor = Actor::restarted(ME, 0);
    let (store, metrics) = store_at(disk.open().unwrap(), dir.path(), actor, |m| disk.home(m));
    put(&store, "k", command(1, "v", None), Durability::Fsync).unwrap();
    disk.set_fault(Fault::Broken);
    put(&store, "k", command(2, "w", None), Durability::Fsync).unwrap_err();
    wait_for(&store, StoreState::Quarantined);
    assert_eq!(store.read(&object("k")), Err(StoreError::Unavailable), "no absence");
    assert!(metrics.records_file.reopens.get() >= 5);
    disk.set_fault(Fault::None);
    wait_for(&store, StoreState::Healthy);
    assert_eq!(store.read(&object("k")), Ok(None));
    assert_eq!((store.life(), disk.times_aside()), (1, 1));
}

#[test]
fn a_place_that_is_empty_can_be_set_aside() {
    let dir = tempfile::tempdir().unwrap();
    place(dir.path()).set_aside("test").unwrap();
    assert_eq!(count_aside(dir.path()).unwrap(), 0);
}
