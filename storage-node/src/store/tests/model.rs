//! The store against a map of records that follows the pure rules directly, on both engines.

use std::collections::BTreeMap;
use std::sync::Arc;

use dynamo_core::actor::{Actor, Custody};
use dynamo_core::clock::record::Record;
use dynamo_core::id::{KeyHash, NodeId};
use dynamo_core::key::ObjectKey;
use dynamo_core::params::{Durability, Reconciliation};
use dynamo_core::replica::coordinate_put;
use dynamo_core::time::WallMs;
use proptest::prelude::*;

use super::super::engine::Engine;
use super::super::memory::MemoryEngine;
use super::super::merge::MergeRequest;
use super::backend::FaultyDisk;
use super::{ME, block_on, command, context, object, put, store};

#[derive(Debug, Clone)]
enum Step {
    /// A put; with what is there as its context, or blind.
    Put {
        key: u8,
        informed: bool,
        durability: Durability,
    },
    /// A merge of what a stranger has written.
    Merge {
        key: u8,
    },
    Read {
        key: u8,
    },
    Scan,
}

fn step() -> impl Strategy<Value = Step> {
    let durability = prop_oneof![Just(Durability::Fsync), Just(Durability::Buffered)];
    prop_oneof![
        4 => (0..6u8, any::<bool>(), durability)
            .prop_map(|(key, informed, durability)| Step::Put { key, informed, durability }),
        2 => (0..6u8).prop_map(|key| Step::Merge { key }),
        2 => (0..6u8).prop_map(|key| Step::Read { key }),
        1 => Just(Step::Scan),
    ]
}

fn check(engine: Arc<dyn Engine>, steps: &[Step]) {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = store(engine, dir.path(), Actor::restarted(ME, 0));
    let mut model: BTreeMap<ObjectKey, Record> = BTreeMap::new();
    let mut stranger = Actor::resumed(NodeId(2), 1);
    for (id, step) in (1u128..).zip(steps) {
        match step {
            Step::Put { key, informed, durability } => {
                let name = format!("k{key}");
                let known = model.entry(object(&name)).or_default();
                let seen = informed.then(|| context(known));
                let text = format!("v{id}");
                let minted = put(&store, &name, command(id, &text, seen), *durability).unwrap();
                assert_eq!(minted.record, known.sync(&minted.delta));
                *known = minted.record;
            }
            Step::Merge { key } => {
                let name = format!("k{key}");
                let known = model.entry(object(&name)).or_default();
                let text = format!("m{id}");
                let other =
                    coordinate_put(known, &command(id, &text, None), &mut stranger, WallMs(1))
                        .unwrap();
                let merge = MergeRequest {
                    object: object(&name),
                    record: other.delta.clone(),
                    reconciliation: Reconciliation::Siblings,
                    custody: Custody::Held,
                };
                block_on(store.merge(vec![merge], Durability::Fsync, None)).unwrap();
                *known = known.sync(&other.delta);
            }
            Step::Read { key } => {
                let name = object(&format!("k{key}"));
                let known = model.get(&name).filter(|record| !record.is_empty()).cloned();
                assert_eq!(store.read(&name).unwrap(), known);
            }
            Step::Scan => {
                let page = store.scan(KeyHash(0), KeyHash(u128::MAX), None).unwrap();
                let found: Vec<_> =
                    page.records.into_iter().map(|(o, r)| (o, r.unwrap())).collect();
                let known: Vec<_> = model
                    .iter()
                    .filter(|(_, r)| !r.is_empty())
                    .map(|(o, r)| (o.clone(), r.clone()))
                    .collect();
                assert_eq!(found, known, "records lie in position order");
            }
        }
    }
    assert!(store.close());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn the_store_is_its_model(steps in prop::collection::vec(step(), 1..40)) {
        check(Arc::new(MemoryEngine::new(super::MAIN_TABLES.len())), &steps);
        check(FaultyDisk::default().open().unwrap(), &steps);
    }
}

#[test]
fn scans_go_page_by_page_and_keep_to_their_range() {
    let dir = tempfile::tempdir().unwrap();
    let engine = Arc::new(MemoryEngine::new(super::MAIN_TABLES.len()));
    let (store, _) = store(engine, dir.path(), Actor::restarted(ME, 0));
    let count = 2_500u128;
    for id in 0..count {
        put(&store, &format!("k{id}"), command(id, "v", None), Durability::Buffered).unwrap();
    }
    let middle = KeyHash(u128::MAX / 2);
    let halves =
        [(KeyHash(0), middle), (KeyHash(middle.0 + 1), KeyHash(u128::MAX))].map(|(first, last)| {
            let (mut cursor, mut found) = (None, Vec::new());
            loop {
                let page = store.scan(first, last, cursor).unwrap();
                found.extend(page.records.into_iter().map(|(object, _)| object.position()));
                cursor = page.next;
                if cursor.is_none() {
                    return found;
                }
            }
        });
    let [low, high] = halves;
    assert_eq!(low.len() + high.len(), usize::try_from(count).unwrap());
    assert!(low.is_sorted() && high.is_sorted());
    assert!(low.iter().all(|position| *position <= middle) && !low.is_empty());
    assert!(high.iter().all(|position| *position > middle) && !high.is_empty());
}

#[test]
fn concurrent_puts_share_commits_and_never_a_dot() {
    const THREADS: u128 = 8;
    const PUTS: u128 = 40;
    let dir = tempfile::tempdir().unwrap();
    let engine = FaultyDisk::default().open().unwrap();
    let (store, metrics) = store(engine, dir.path(), Actor::restarted(ME, 0));
    let dots = std::sync::Mutex::new(std::collections::BTreeSet::new());
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (store, dots) = (&store, &dots);
            scope.spawn(move || {
                for number in 0..PUTS {
                    let id = thread * PUTS + number;
                    // All write the same key; the newest context keeps siblings few.
                    let seen = store.read(&object("k")).unwrap().map(|r| context(&r));
                    let text = format!("v{id}");
                    let minted =
                        put(store, "k", command(id, &text, seen), Durability::Fsync).unwrap();
                    assert!(dots.lock().unwrap().insert(minted.dot), "{} twice", minted.dot);
                }
            });
        }
    });
    assert_eq!(dots.lock().unwrap().len(), usize::try_from(THREADS * PUTS).unwrap());
    let commits = metrics.records_file.commit_seconds.get_sample_count();
    assert!(u128::from(commits) <= THREADS * PUTS, "never more than one commit per put");
    let record = store.read(&object("k")).unwrap().unwrap();
    assert!(record.clock().vector().map(|(_, entry)| entry.counter).eq([320]));
}
