//! The tree is what a scan of the records gives (I-16): after puts, merges, failed commits, power
//! cuts, changes of the classes, and restarts with and without a clean close.

use std::path::Path;
use std::sync::Arc;

use dynamo_core::actor::{Actor, Custody};
use dynamo_core::clock::digest::RecordDigest;
use dynamo_core::clock::record::Content;
use dynamo_core::entropy::{Entropy, SplitMix};
use dynamo_core::id::{KeyHash, NodeId, PartitionId};
use dynamo_core::merkle::{Leaf, Prefix, Tree, entry_digest};
use dynamo_core::params::{Durability, Reconciliation};
use dynamo_core::replica::{PutCommand, coordinate_put};
use dynamo_core::ring::Partitions;
use dynamo_core::time::WallMs;
use dynamo_core::transfer::Inventory;
use dynamo_core::wire::reap::{ReapAction, ReapItem, ReapResult};
use dynamo_core::wire::tree::TreeState;
use proptest::prelude::*;

use super::super::engine::{Commit, Engine};
use super::super::error::StoreError;
use super::super::memory::MemoryEngine;
use super::super::merge::MergeRequest;
use super::super::partitions::{DropPage, Dropped};
use super::super::scrub::ScrubStep;
use super::super::tree::classes::Classes;
use super::super::tree::disk::load;
use super::super::tree::jobs::TreeChange;
use super::super::{Store, TREE, meta};
use super::backend::{Fault, FaultyDisk};
use super::{ME, block_on, command, context, object, put, store};

/// The tree that the records make, in one class each as the store sorts them.
pub(super) fn truth(store: &Store) -> Tree {
    let classes = store.shared.tree.committed_classes();
    let (mut tree, mut cursor) = (Tree::new(), None);
    loop {
        let page = store.scan(KeyHash(0), KeyHash(u128::MAX), cursor).unwrap();
        for (object, record) in page.records {
            let Some(record) = record else { continue };
            let digest = entry_digest(&object.storage_key(), RecordDigest::of(&record));
            let class = classes.of(object.bucket().as_str());
            tree.apply(class, Leaf::of(object.position()), digest);
        }
        cursor = page.next;
        if cursor.is_none() {
            return tree;
        }
    }
}

/// Tree, records and disk say the same.
pub(super) fn check(store: &Store) {
    assert_eq!(store.shared.tree.sums(), truth(store), "memory and records");
    let loaded = load(store.engine.as_ref()).unwrap().expect("written");
    assert_eq!(loaded.tree, store.shared.tree.sums(), "disk and memory");
    assert_eq!(store.shared.tree.state(), TreeState::Built);
}

/// Scrubs until a full pass has ended.
pub(super) fn scrub_all(store: &Store) -> usize {
    let mut differences = 0;
    for _ in 0..100_000 {
        let step = store.next_scrub().expect("the tree is there");
        let report = match store.scrub(step) {
            // The file is being checked, because of what an earlier step has found.
            Err(StoreError::Unavailable) => {
                std::thread::sleep(std::time::Duration::from_millis(5));
                continue;
            }
            report => report.unwrap(),
        };
        differences += report.differences;
        if report.pass_ended {
            return differences;
        }
    }
    panic!("the pass never ends");
}

#[derive(Debug, Clone)]
enum Step {
    Put {
        key: u8,
        informed: bool,
        durability: Durability,
    },
    Merge {
        keys: Vec<u8>,
    },
    Fold,
    Reclass {
        n: u8,
        own: u8,
    },
    Scrub {
        leaf: u16,
    },
    Restart {
        clean: bool,
    },
    FailedCommit {
        key: u8,
    },
    /// Deletes a quarter of the hash space, as it would be after a ring change.
    Drop {
        quarter: u32,
        below: Option<u8>,
    },
    /// Deletes a key and reaps it.
    Reap {
        key: u8,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let durability = prop_oneof![Just(Durability::Fsync), Just(Durability::Buffered)];
    prop_oneof![
        8 => (0..9u8, any::<bool>(), durability)
            .prop_map(|(key, informed, durability)| Step::Put { key, informed, durability }),
        3 => prop::collection::vec(0..9u8, 1..4).prop_map(|keys| Step::Merge { keys }),
        1 => Just(Step::Fold),
        1 => (1..4u8, 1..4u8).prop_map(|(n, own)| Step::Reclass { n, own }),
        1 => any::<u16>().prop_map(|leaf| Step::Scrub { leaf }),
        1 => any::<bool>().prop_map(|clean| Step::Restart { clean }),
        1 => (0..9u8).prop_map(|key| Step::FailedCommit { key }),
        1 => (0..4u32, prop::option::of(2..5u8))
            .prop_map(|(quarter, below)| Step::Drop { quarter, below }),
        2 => (0..9u8).prop_map(|key| Step::Reap { key }),
    ]
}

fn wait_until_healthy(store: &Store) {
    use super::super::writer::StoreState;
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while store.state() != StoreState::Healthy {
        assert!(std::time::Instant::now() < deadline, "never healthy");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

/// Drops a quarter of the hash space to the end.
fn drop_quarter(store: &Store, quarter: u32, below: Option<u8>) {
    let partitions = Partitions::new(4).unwrap();
    let partition = PartitionId(quarter);
    let (objects, next) = store.droppable(partitions, partition, below, None).unwrap();
    assert!(next.is_none() || !objects.is_empty() || below.is_some());
    let last = Some(Inventory::empty(partitions));
    let count = objects.len() as u64;
    let page = DropPage { partition, partitions, below, objects, life: 0, last };
    let dropped = block_on(store.drop_page(page)).unwrap();
    assert_eq!(dropped, Dropped { records: count, done: true });
    let stored = meta::stored_inventory(store.engine.as_ref()).unwrap();
    assert_eq!(stored, Some(Inventory::empty(partitions)));
    assert!(store.droppable(partitions, partition, below, None).unwrap().0.is_empty());
}

/// Deletes a key and reaps what is left of it.
fn reap(store: &Store, name: &str, id: u128) {
    let known = store.read(&object(name)).unwrap();
    let alive = known.as_ref().map(RecordDigest::of);
    let delete =
        PutCommand { content: Content::Tombstone, ..command(id, "", known.as_ref().map(context)) };
    let dead = put(store, name, delete, Durability::Fsync).unwrap();
    assert_ne!(alive, Some(RecordDigest::of(&dead.record)));
    let item = |digest| ReapItem { object: object(name), digest, action: ReapAction::Remove };
    let items = vec![item(RecordDigest(1)), item(RecordDigest::of(&dead.record))];
    let results = block_on(store.reap(items)).unwrap();
    assert_eq!(results, [ReapResult::Changed, ReapResult::Done]);
    assert_eq!(store.presence(&object(name)), Ok(None));
}

/// Ends the store, in order or with a power cut, and opens it again.
fn restarted(disk: &FaultyDisk, old: Store, dir: &Path, clean: bool, seed: u64) -> Store {
    if clean {
        assert!(old.close());
        assert_eq!(old.tree_stats().log_entries, 0, "folded at a clean close");
    } else {
        disk.lose_power(&mut SplitMix::new(seed));
    }
    drop(old);
    store(disk.open().unwrap(), dir, Actor::restarted(ME, seed * 10)).0
}

/// Waits for the first commit, which writes the tree of a new file.
fn written(store: &Store) {
    block_on(store.change_tree(TreeChange::Fold)).unwrap();
}

/// Runs the steps; a memory engine (no disk) is neither restarted nor made to fail.
fn run(disk: Option<&FaultyDisk>, steps: &[Step]) {
    let dir = tempfile::tempdir().unwrap();
    let open = || -> Arc<dyn Engine> {
        match disk {
            Some(disk) => disk.open().unwrap(),
            None => Arc::new(MemoryEngine::new(super::MAIN_TABLES.len())),
        }
    };
    let (mut current, _) = store(open(), dir.path(), Actor::restarted(ME, 0));
    written(&current);
    let mut stranger = Actor::resumed(NodeId(2), 1);
    for (id, step) in (1u128..).zip(steps) {
        match step {
            Step::Put { key, informed, durability } => {
                let name = format!("k{key}");
                let known = current.read(&object(&name)).unwrap();
                let seen = known.as_ref().filter(|_| *informed).map(context);
                put(&current, &name, command(id, "v", seen), *durability).unwrap();
            }
            Step::Merge { keys } => {
                let merges = keys.iter().map(|key| {
                    let name = object(&format!("k{key}"));
                    let known = current.read(&name).unwrap().unwrap_or_default();
                    let put = command(id * 100 + u128::from(*key), "m", None);
                    let other = coordinate_put(&known, &put, &mut stranger, WallMs(1)).unwrap();
                    let reconciliation = Reconciliation::Siblings;
                    MergeRequest {
                        object: name,
                        record: other.delta,
                        reconciliation,
                        custody: Custody::Held,
                    }
                });
                block_on(current.merge(merges.collect(), Durability::Fsync, None)).unwrap();
            }
            Step::Fold => {
                block_on(current.change_tree(TreeChange::Fold)).unwrap();
                assert_eq!(current.tree_stats().log_entries, 0);
            }
            Step::Reclass { n, own } => {
                let classes = Arc::new(Classes::for_test(*n, &[("b", *own)]));
                block_on(current.change_tree(TreeChange::Reclass(classes))).unwrap();
                // What is written before the scrub comes is summed once all the same.
                put(&current, "k0", command(id, "r", None), Durability::Fsync).unwrap();
                scrub_all(&current);
            }
            Step::Scrub { leaf } => {
                let report = current.scrub(ScrubStep::Regular(Leaf(*leaf))).unwrap();
                assert_eq!(report.differences, 0);
            }
            Step::Restart { clean } => {
                let Some(disk) = disk else { continue };
                current = restarted(disk, current, dir.path(), *clean, id as u64);
                written(&current);
            }
            Step::FailedCommit { key } => {
                let Some(disk) = disk else { continue };
                disk.set_fault(Fault::Sync);
                let put =
                    put(&current, &format!("k{key}"), command(id, "f", None), Durability::Fsync);
                assert!(put.is_err());
                disk.set_fault(Fault::None);
                wait_until_healthy(&current);
            }
            Step::Drop { quarter, below } => drop_quarter(&current, *quarter, *below),
            Step::Reap { key } => reap(&current, &format!("k{key}"), id),
        }
        check(&current);
    }
    assert!(current.close());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn the_tree_is_what_a_scan_gives(steps in prop::collection::vec(step(), 1..30)) {
        run(None, &steps);
        run(Some(&FaultyDisk::default()), &steps);
    }
}

#[test]
fn a_power_cut_leaves_tree_and_records_of_the_same_moment() {
    for seed in 0..60 {
        let mut random = SplitMix::new(seed);
        let disk = FaultyDisk::default();
        let dir = tempfile::tempdir().unwrap();
        let mut id = 0;
        for life in 0..3 {
            let (store, _) =
                store(disk.open().unwrap(), dir.path(), Actor::restarted(ME, life * 1000));
            if life > 0 {
                // A new file whose first commit was lost has no tree yet, and gets one.
                written(&store);
                check(&store);
            }
            disk.fail_power_after(random.below(300));
            for _ in 0..random.below(40) {
                id += 1;
                let key = format!("k{}", random.below(200));
                let durability =
                    if random.chance(1, 2) { Durability::Fsync } else { Durability::Buffered };
                if put(&store, &key, command(id, "v", None), durability).is_err() {
                    break;
                }
                if random.chance(1, 10) && block_on(store.change_tree(TreeChange::Fold)).is_err() {
                    break;
                }
            }
            disk.lose_power(&mut random);
        }
    }
}

#[test]
fn the_log_is_folded_by_itself_and_the_start_reads_no_records() {
    let dir = tempfile::tempdir().unwrap();
    let disk = FaultyDisk::default();
    let (first, metrics) = store(disk.open().unwrap(), dir.path(), Actor::restarted(ME, 0));
    let count = crate::limits::TREE_LOG_ENTRIES_MAX as u128 + 500;
    for chunk in 0..count.div_ceil(100) {
        let merges = (0..100).map(|number| {
            let id = chunk * 100 + number;
            let put = command(id + 1, "v", None);
            let mut stranger = Actor::resumed(NodeId(2), 1);
            let record =
                coordinate_put(&Default::default(), &put, &mut stranger, WallMs(1)).unwrap().delta;
            let object = object(&format!("k{id}"));
            MergeRequest {
                object,
                record,
                reconciliation: Reconciliation::Siblings,
                custody: Custody::Held,
            }
        });
        block_on(first.merge(merges.collect(), Durability::Buffered, None)).unwrap();
    }
    assert_eq!(metrics.store.tree.folds.get(), 1);
    let length = first.tree_stats().log_entries;
    assert!((1..crate::limits::TREE_LOG_ENTRIES_MAX).contains(&length));
    check(&first);
    let digest = first.tree_digests(3, &[Prefix::ALL]);
    assert!(first.close());
    let (second, _) = store(disk.open().unwrap(), dir.path(), Actor::resumed(ME, 1));
    check(&second);
    assert_eq!(second.tree_digests(3, &[Prefix::ALL]), digest);
    assert_eq!(digest.0, TreeState::Built);
}

#[test]
fn a_file_of_an_older_build_gets_a_tree() {
    let dir = tempfile::tempdir().unwrap();
    let engine = Arc::new(MemoryEngine::new(super::MAIN_TABLES.len()));
    {
        let (store, _) = store(engine.clone(), dir.path(), Actor::restarted(ME, 0));
        for id in 0..300u128 {
            put(&store, &format!("k{id}"), command(id, "v", None), Durability::Buffered).unwrap();
        }
        assert!(store.close());
    }
    let unbounded = || (std::ops::Bound::Unbounded, std::ops::Bound::Unbounded);
    engine
        .transact(Commit::Durable, &mut |tables| {
            tables.remove_range(TREE, unbounded())?;
            tables.put(super::super::META, b"format", b"1")
        })
        .unwrap();
    let (store, metrics) = store(engine.clone(), dir.path(), Actor::resumed(ME, 1));
    put(&store, "new", command(1000, "v", None), Durability::Fsync).unwrap();
    assert_eq!(store.tree_digests(3, &[Prefix::ALL]).0, TreeState::Building);
    assert_eq!(
        engine.get(super::super::META, b"format").unwrap().unwrap(),
        meta::STORE_FORMAT.to_string()
    );
    let ScrubStep::Build(first) = store.next_scrub().unwrap() else { panic!("not building") };
    assert_eq!(first, Leaf(0));
    store.scrub(ScrubStep::Build(first)).unwrap();
    put(&store, "k1", command(1001, "v", None), Durability::Fsync).unwrap();
    assert!(scrub_all(&store) > 0);
    check(&store);
    assert_eq!(metrics.epochs_ended.get(), 0, "nothing was lost");
    assert_eq!(metrics.store.tree.mismatches.get(), 0);
}

#[test]
fn an_unreadable_tree_is_built_anew_and_ends_the_epoch() {
    let dir = tempfile::tempdir().unwrap();
    for row in ["h", "b", "d"] {
        let engine = Arc::new(MemoryEngine::new(super::MAIN_TABLES.len()));
        {
            let (store, _) = store(engine.clone(), dir.path(), Actor::restarted(ME, 0));
            put(&store, "k1", command(1, "v", None), Durability::Fsync).unwrap();
            block_on(store.change_tree(TreeChange::Fold)).unwrap();
            put(&store, "k2", command(2, "v", None), Durability::Fsync).unwrap();
            // Not closed: the log keeps its row.
        }
        let from = std::ops::Bound::Included(row.as_bytes().to_vec());
        let rows = engine.page(TREE, (from, std::ops::Bound::Unbounded), 1, 1).unwrap();
        let (key, value) = &rows[0];
        let mut damaged = value.to_vec();
        *damaged.last_mut().unwrap() ^= 1;
        engine.transact(Commit::Durable, &mut |tables| tables.put(TREE, key, &damaged)).unwrap();
        let (store, metrics) = store(engine, dir.path(), Actor::resumed(ME, 1));
        assert_eq!(metrics.epochs_ended.get(), 1, "{row}");
        assert_eq!(store.tree_digests(3, &[Prefix::ALL]).0, TreeState::Building);
        put(&store, "k3", command(3, "v", None), Durability::Fsync).unwrap();
        scrub_all(&store);
        check(&store);
    }
}

#[test]
fn a_clock_is_shortened_by_actors_that_nothing_needs_and_by_no_others() {
    let dir = tempfile::tempdir().unwrap();
    let engine = Arc::new(MemoryEngine::new(super::MAIN_TABLES.len()));
    let (store, metrics) = store(engine, dir.path(), Actor::restarted(ME, 0));
    let mut stranger = Actor::resumed(NodeId(2), 1);
    let old =
        coordinate_put(&Default::default(), &command(1, "old", None), &mut stranger, WallMs(1));
    let merge = MergeRequest {
        object: object("k"),
        record: old.unwrap().delta,
        reconciliation: Reconciliation::Siblings,
        custody: Custody::Held,
    };
    block_on(store.merge(vec![merge], Durability::Fsync, None)).unwrap();
    let seen = context(&store.read(&object("k")).unwrap().unwrap());
    let minted = put(&store, "k", command(2, "new", Some(seen)), Durability::Fsync).unwrap();
    let order = |actor, record| ReapItem {
        object: object("k"),
        digest: RecordDigest::of(record),
        action: ReapAction::Truncate(vec![actor]),
    };
    let mine = vec![order(minted.dot.actor, &minted.record)];
    assert_eq!(block_on(store.reap(mine)).unwrap(), [ReapResult::Changed], "a live dot");
    let theirs = vec![order(stranger.id(), &minted.record)];
    assert_eq!(block_on(store.reap(theirs)).unwrap(), [ReapResult::Done]);
    let shorter = store.read(&object("k")).unwrap().unwrap();
    assert_eq!(shorter.clock().vector().count(), 1);
    assert_eq!(super::texts(&shorter), ["new"]);
    check(&store);
    let partitions = &metrics.store.partitions;
    assert_eq!((partitions.truncated.get(), partitions.reap_changed.get()), (1, 1));
}

#[test]
fn a_store_that_went_without_a_tree_builds_it_at_the_next_start() {
    let dir = tempfile::tempdir().unwrap();
    let engine = Arc::new(MemoryEngine::new(super::MAIN_TABLES.len()));
    let (first, _) = store(engine.clone(), dir.path(), Actor::restarted(ME, 0));
    put(&first, "k1", command(1, "v", None), Durability::Fsync).unwrap();
    drop(first);
    let (without, _) = store(engine.clone(), dir.path(), Actor::restarted(ME, 1));
    without.disable_tree();
    put(&without, "k2", command(2, "v", None), Durability::Fsync).unwrap();
    assert_eq!(without.tree_digests(3, &[Prefix::ALL]), (TreeState::Building, Vec::new()));
    assert_eq!(without.next_scrub(), None);
    assert!(without.close());
    let (with, metrics) = store(engine, dir.path(), Actor::restarted(ME, 2));
    written(&with);
    scrub_all(&with);
    check(&with);
    assert_eq!(metrics.epochs_ended.get(), 0);
}

#[test]
fn a_key_whose_record_was_reaped_never_gets_a_dot_again() {
    let dir = tempfile::tempdir().unwrap();
    let engine = Arc::new(MemoryEngine::new(super::MAIN_TABLES.len()));
    let (store, _) = store(engine, dir.path(), Actor::restarted(ME, 0));
    let mut dots = std::collections::BTreeSet::new();
    for life in 0..3u128 {
        let minted =
            put(&store, "k", command(life * 10 + 1, "v", None), Durability::Fsync).unwrap();
        assert!(dots.insert(minted.dot), "{} twice", minted.dot);
        reap(&store, "k", life * 10 + 2);
    }
}
