//! What changes behind the tree's back: the scrub finds it, mends the sums, and ends the epoch.

use std::sync::Arc;

use dynamo_core::actor::{Actor, Custody};
use dynamo_core::merkle::Leaf;
use dynamo_core::params::{Durability, Reconciliation};

use super::super::engine::{Commit, Engine};
use super::super::memory::MemoryEngine;
use super::super::merge::MergeRequest;
use super::super::scrub::ScrubStep;
use super::super::writer::StoreState;
use super::super::{RECORDS, Store};
use super::tree::{check, scrub_all, truth};
use super::{ME, block_on, command, object, put, store};
use crate::metrics::Metrics;

const KEYS: u128 = 200;

fn filled(dir: &std::path::Path) -> (Arc<MemoryEngine>, Store, Metrics) {
    let engine = Arc::new(MemoryEngine::new(super::MAIN_TABLES.len()));
    let (store, metrics) = store(engine.clone(), dir, Actor::restarted(ME, 0));
    for id in 0..KEYS {
        put(&store, &format!("k{id}"), command(id, "v", None), Durability::Buffered).unwrap();
    }
    check(&store);
    (engine, store, metrics)
}

#[test]
fn a_record_that_vanished_is_noticed_and_ends_the_epoch() {
    let dir = tempfile::tempdir().unwrap();
    let (engine, store, metrics) = filled(dir.path());
    let key = object("k7").storage_key();
    engine.transact(Commit::Durable, &mut |tables| tables.remove(RECORDS, &key)).unwrap();
    assert_ne!(store.shared.tree.sums(), truth(&store));
    assert_eq!(scrub_all(&store), 1);
    assert_eq!(metrics.store.tree.mismatches.get(), 1);
    // The file is checked as a whole, once, and found to be good.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while metrics.records_file.reopens.get() == 0 || store.state() != StoreState::Healthy {
        assert!(std::time::Instant::now() < deadline, "never opened anew");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    assert!(metrics.epochs_ended.get() > 0);
    assert_eq!(metrics.records_file.quarantines.get(), 0);
    check(&store);
    assert_eq!(scrub_all(&store), 0);
    assert_eq!(metrics.store.tree.passes.get(), 2);
    assert!(store.tree_stats().last_full.is_some());
    assert_eq!(metrics.records_file.reopens.get(), 1);
}

#[test]
fn a_flipped_byte_is_noticed_and_taken_out_of_the_sum_until_it_is_healed() {
    let dir = tempfile::tempdir().unwrap();
    let (engine, store, metrics) = filled(dir.path());
    let name = object("k7");
    let good = store.read(&name).unwrap().unwrap();
    let key = name.storage_key();
    let mut bytes = engine.get(RECORDS, &key).unwrap().unwrap().to_vec();
    *bytes.last_mut().unwrap() ^= 4;
    engine.transact(Commit::Durable, &mut |tables| tables.put(RECORDS, &key, &bytes)).unwrap();
    assert_eq!(scrub_all(&store), 1, "the sum still has it");
    assert_eq!((metrics.epochs_ended.get(), metrics.store.corrupt_records.get()), (1, 1));
    check(&store);
    // A peer that compares sees the key missing, and sends its record.
    let leaf = Leaf::of(name.position());
    let listed = store.tree_keys(3, &[leaf], None).unwrap();
    assert!(listed.keys.iter().all(|entry| entry.object != name));
    let reconciliation = Reconciliation::Siblings;
    let merge = MergeRequest {
        object: name.clone(),
        record: good.clone(),
        reconciliation,
        custody: Custody::Held,
    };
    block_on(store.merge(vec![merge], Durability::Fsync, None)).unwrap();
    assert_eq!(store.read(&name), Ok(Some(good)));
    check(&store);
}

/// Regression: a flipped bit in a key left a row that nothing would ever replace, and an alarm with
/// it.
#[test]
fn a_row_whose_key_was_damaged_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    let (engine, store, metrics) = filled(dir.path());
    let key = object("k7").storage_key();
    let mut damaged = key.clone();
    *damaged.last_mut().unwrap() ^= 1;
    let stored = engine.get(RECORDS, &key).unwrap().unwrap();
    engine
        .transact(Commit::Durable, &mut |tables| {
            tables.remove(RECORDS, &key)?;
            tables.put(RECORDS, &damaged, &stored)
        })
        .unwrap();
    assert_eq!(scrub_all(&store), 1, "the record under its right key is missed");
    check(&store);
    // The job was submitted before the steps after it, so it is done.
    scrub_all(&store);
    assert_eq!(engine.get(RECORDS, &damaged).unwrap(), None);
    assert_eq!(metrics.store.corrupt_keys.get(), 0);
}

#[test]
fn a_merge_over_an_unreadable_record_has_its_leaf_looked_at() {
    let dir = tempfile::tempdir().unwrap();
    let (engine, store, metrics) = filled(dir.path());
    let name = object("k7");
    let good = store.read(&name).unwrap().unwrap();
    let key = name.storage_key();
    engine.transact(Commit::Durable, &mut |tables| tables.put(RECORDS, &key, b"rubbish")).unwrap();
    let reconciliation = Reconciliation::Siblings;
    let merge =
        MergeRequest { object: name.clone(), record: good, reconciliation, custody: Custody::Held };
    block_on(store.merge(vec![merge], Durability::Fsync, None)).unwrap();
    // What the bad record had added is still in the sum, and nobody knows how much that is.
    assert_ne!(store.shared.tree.sums(), truth(&store));
    let step = store.next_scrub().unwrap();
    assert_eq!(step, ScrubStep::Suspect(Leaf::of(name.position())));
    assert_eq!(store.scrub(step).unwrap().differences, 1);
    check(&store);
    assert_eq!(metrics.epochs_ended.get(), 1, "once, for the unreadable record");
    assert!(matches!(store.next_scrub(), Some(ScrubStep::Regular(_))));
}

#[test]
fn keys_that_do_not_add_up_to_their_digest_are_looked_at() {
    let dir = tempfile::tempdir().unwrap();
    let (engine, store, _) = filled(dir.path());
    let name = object("k7");
    let leaf = Leaf::of(name.position());
    store.tree_keys(3, &[leaf], None).unwrap();
    assert!(matches!(store.next_scrub(), Some(ScrubStep::Regular(_))), "all is well");
    let key = name.storage_key();
    engine.transact(Commit::Durable, &mut |tables| tables.remove(RECORDS, &key)).unwrap();
    store.tree_keys(3, &[leaf], None).unwrap();
    assert_eq!(store.next_scrub(), Some(ScrubStep::Suspect(leaf)));
}

#[test]
fn pages_of_keys_follow_each_other_without_gap() {
    let dir = tempfile::tempdir().unwrap();
    let (_, store, _) = filled(dir.path());
    let mut expected: Vec<_> = (0..KEYS).map(|id| object(&format!("k{id}"))).collect();
    expected.sort_by(dynamo_core::merkle::scan_order);
    let mut leaves: Vec<Leaf> = expected.iter().map(|o| Leaf::of(o.position())).collect();
    leaves.dedup();
    let all = store.tree_keys(3, &leaves, None).unwrap();
    assert_eq!(all.next, None);
    let names = |page: &super::super::keys::KeyPage| -> Vec<_> {
        page.keys.iter().map(|entry| entry.object.clone()).collect()
    };
    assert_eq!(names(&all), expected);
    assert!(store.tree_keys(2, &leaves, None).unwrap().keys.is_empty(), "another class");
    let rest = store.tree_keys(3, &leaves, Some(&expected[99])).unwrap();
    assert_eq!(names(&rest), expected[100..]);
    assert!(store.tree_keys(3, &[], None).unwrap().keys.is_empty());
}
