//! The hint file: caps, unchanged deletes, forms.

use std::sync::Arc;

use bytes::Bytes;
use dynamo_core::actor::Actor;
use dynamo_core::clock::dot::Dot;
use dynamo_core::clock::dvv::Dvv;
use dynamo_core::clock::hlc::Hlc;
use dynamo_core::clock::record::{Content, Record, Sibling, Value};
use dynamo_core::codec::bytes::DecodeError;
use dynamo_core::id::{ActorId, NodeId, PutId};
use dynamo_core::params::{Durability, Reconciliation};
use dynamo_core::replica::coordinate_put;
use dynamo_core::time::WallMs;
use prometheus::Registry;
use proptest::prelude::*;
use service_kit::time::{Clock, ManualClock};

use super::super::engine::Engine;
use super::super::error::StoreError;
use super::super::hint_form::{
    Hint, HintEntry, decode_entry, decode_hint, encode_entry, encode_hint, from_index_key,
    hint_key, index_key, parse_hint_key,
};
use super::super::hints::{HintCaps, HintFile, HintStore, KeepRequest, KeepWhat};
use super::super::memory::MemoryEngine;
use super::{block_on, command, no_home, object, texts};
use crate::metrics::Metrics;

const TARGET: NodeId = NodeId(9);
const OTHER: NodeId = NodeId(8);

fn record(id: u128, text: &str) -> Record {
    let mut actor = Actor::resumed(NodeId(2), u64::try_from(id).unwrap());
    let command = command(id, text, None);
    coordinate_put(&Record::default(), &command, &mut actor, WallMs(1)).unwrap().record
}

fn start(engine: Arc<dyn Engine>, caps: HintCaps) -> (HintStore, Metrics, ManualClock) {
    let metrics = Metrics::register(&Registry::new()).unwrap();
    let (clock, hand) = Clock::manual(WallMs(1_000_000));
    let (hints, file) = (metrics.hints.clone(), metrics.hints_file.clone());
    let (home, read) = (no_home(&metrics), HintFile::read(engine).unwrap());
    let store = HintStore::start(read, home, caps, clock, hints, file).unwrap();
    (store, metrics, hand)
}

const WIDE: HintCaps = HintCaps { hints: 100, bytes: 1_000_000 };

fn keep(store: &HintStore, key: &str, target: NodeId, what: KeepWhat) -> Result<(), StoreError> {
    let reconciliation = Reconciliation::Siblings;
    let request = KeepRequest { object: object(key), target, what, reconciliation };
    block_on(store.keep(vec![request], Durability::Fsync, None)).remove(0)
}

fn keep_record(store: &HintStore, key: &str, target: NodeId, id: u128) -> Result<(), StoreError> {
    keep(store, key, target, KeepWhat::Record(record(id, &format!("v{id}"))))
}

#[test]
fn a_hint_is_removed_only_as_it_was_read() {
    let (store, _, _) = start(Arc::new(MemoryEngine::new(2)), WIDE);
    keep_record(&store, "k", TARGET, 1).unwrap();
    keep_record(&store, "k", OTHER, 1).unwrap();
    let read = store.page(TARGET, None).unwrap().hints;
    assert_eq!(read.len(), 1);
    // A newer put joins the hint while the first is on its way.
    keep_record(&store, "k", TARGET, 2).unwrap();
    assert_eq!(block_on(store.remove_delivered(TARGET, read)), Ok(0));
    let read = store.page(TARGET, None).unwrap().hints;
    assert_eq!(texts(read[0].hint.record.as_ref().unwrap()), ["v1", "v2"]);
    let held = store.for_object(&object("k")).unwrap();
    assert_eq!(held.len(), 2, "hints for all targets answer reads");
    assert_eq!(block_on(store.remove_delivered(TARGET, read)), Ok(1));
    assert!(store.page(TARGET, None).unwrap().hints.is_empty());
    assert_eq!(store.totals().into_keys().collect::<Vec<_>>(), [OTHER]);
}

#[test]
fn references_and_records_of_one_key_share_a_hint() {
    let (store, _, _) = start(Arc::new(MemoryEngine::new(2)), WIDE);
    keep(&store, "k", TARGET, KeepWhat::Reference).unwrap();
    assert_eq!(store.for_object(&object("k")).unwrap(), [], "a reference holds no replica");
    keep_record(&store, "k", TARGET, 1).unwrap();
    let hints = store.page(TARGET, None).unwrap().hints;
    assert!(hints[0].hint.reference && hints[0].hint.record.is_some());
    assert_eq!(store.totals()[&TARGET].hints, 1);
}

#[test]
fn a_full_file_drops_new_hints_and_says_so() {
    let caps = HintCaps { hints: 2, bytes: 100_000 };
    let (store, metrics, _) = start(Arc::new(MemoryEngine::new(2)), caps);
    keep_record(&store, "a", TARGET, 1).unwrap();
    keep_record(&store, "b", TARGET, 1).unwrap();
    assert_eq!(keep_record(&store, "c", TARGET, 1), Err(StoreError::HintsFull));
    keep_record(&store, "a", TARGET, 2).expect("a hint that is held may grow");
    let large = KeepWhat::Record(record(3, &"x".repeat(200_000)));
    assert_eq!(keep(&store, "a", TARGET, large), Err(StoreError::HintsFull));
    assert_eq!(metrics.hints.dropped_full.get(), 2);
    assert_eq!(metrics.hints.held.get(), 2);
}

#[test]
fn counts_and_generations_survive_reopening_and_age_is_bounded() {
    let engine: Arc<dyn Engine> = Arc::new(MemoryEngine::new(2));
    let (first, _, _) = start(Arc::clone(&engine), WIDE);
    for id in 0..5 {
        keep_record(&first, &format!("k{id}"), TARGET, 1).unwrap();
    }
    let (totals, generation) = (first.totals(), first.generation());
    assert!(first.close());
    let (second, metrics, hand) = start(engine, WIDE);
    assert_eq!(second.totals(), totals);
    assert!(second.generation() >= generation);
    assert_eq!(second.born_before(second.generation()), Ok(5));
    hand.set_wall(WallMs(5_000_000));
    keep_record(&second, "young", TARGET, 1).unwrap();
    keep_record(&second, "k0", TARGET, 2).unwrap();
    assert_eq!(second.born_before(generation), Ok(5), "a hint that grew is as old as it was");
    let (next, dropped) = block_on(second.expire(WallMs(2_000_000), None)).unwrap();
    assert_eq!(dropped, 5);
    assert_eq!(block_on(second.expire(WallMs(2_000_000), next)).unwrap(), (None, 0));
    assert_eq!(metrics.hints.dropped_expired.get(), 5);
    assert_eq!(second.totals()[&TARGET].hints, 1);
}

#[test]
fn pages_go_through_all_hints_of_a_target() {
    let caps = HintCaps { hints: 1_000, bytes: 10_000_000 };
    let (store, _, _) = start(Arc::new(MemoryEngine::new(2)), caps);
    for id in 0..150 {
        keep_record(&store, &format!("k{id}"), TARGET, 1).unwrap();
        keep_record(&store, &format!("k{id}"), OTHER, 1).unwrap();
    }
    let (mut from, mut seen) = (None, 0);
    loop {
        let page = store.page(TARGET, from).unwrap();
        seen += page.hints.len();
        from = page.next;
        if from.is_none() {
            break;
        }
    }
    assert_eq!(seen, 150);
}

/// Forms are read by every later build: this text changes only with the version of the form.
#[test]
fn the_forms_are_the_golden_ones() {
    let dot = Dot { actor: ActorId { node: NodeId(2), epoch: 1 }, counter: 1 };
    let content = Content::Value(Value { bytes: Bytes::from_static(b"v"), ..Value::default() });
    let sibling = Sibling { dot, put_id: PutId(7), stamp: Hlc::at(WallMs(1)), content };
    let hint = Hint {
        record: Some(Record::new(Dvv::new(), [sibling])),
        reference: true,
        kept_at: WallMs(300),
        generation: 5,
    };
    let key = hint_key(&object("k"), TARGET);
    let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
    let golden = include_str!("golden/hint_v1.txt");
    let entry = HintEntry { kept_at: WallMs(300), born: 4, generation: 5, bytes: 123 };
    let lines = [
        hex(&key),
        hex(&encode_hint(&key, &hint)),
        hex(&index_key(&key)),
        hex(&encode_entry(&entry)),
    ];
    assert_eq!(lines.join("\n") + "\n", golden);
    assert_eq!(decode_hint(&key, encode_hint(&key, &hint)), Ok(hint.clone()));
    assert_eq!(parse_hint_key(&key), Ok((object("k"), TARGET)));
    assert_eq!(from_index_key(&index_key(&key)), Ok((TARGET, key.clone())));
    assert_eq!(decode_entry(&encode_entry(&entry)), Ok(entry));
    let other = hint_key(&object("k"), OTHER);
    let stored = encode_hint(&key, &hint);
    assert_eq!(decode_hint(&other, stored), Err(DecodeError::Checksum), "bound to its key");
}

proptest! {
    #[test]
    fn damaged_hints_are_never_read(at in any::<prop::sample::Index>(), bit in 0..8u8) {
        let key = hint_key(&object("k"), TARGET);
        let hint = Hint {
            record: Some(record(1, "value")),
            reference: false,
            kept_at: WallMs(1),
            generation: 1,
        };
        let mut stored = encode_hint(&key, &hint).to_vec();
        let at = at.index(stored.len());
        stored[at] ^= 1 << bit;
        prop_assert!(decode_hint(&key, Bytes::from(stored.clone())).is_err());
        stored.truncate(at);
        prop_assert!(decode_hint(&key, Bytes::from(stored)).is_err());
    }
}
