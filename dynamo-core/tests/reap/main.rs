//! What is dead goes only when nobody can raise it (I-10, I-11), and old clock entries only when
//! nobody can show them again (hazard C3).

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use dynamo_core::actor::{Actor, Custody};
use dynamo_core::clock::digest::RecordDigest;
use dynamo_core::clock::record::{Content, Record};
use dynamo_core::clock::truncate::truncate;
use dynamo_core::cluster_view::{Addresses, ClusterView, MemberStatus, NodeInfo, RingSnapshot};
use dynamo_core::id::{ActorId, ClusterId, Incarnation, PartitionId, StoreId};
use dynamo_core::key::ObjectKey;
use dynamo_core::limits::{CLOCK_TRUNCATE_AGE_MS, TOMBSTONE_GRACE_MS_DEFAULT};
use dynamo_core::merkle::KeyEntry;
use dynamo_core::params::{BucketProps, Reconciliation};
use dynamo_core::put_memory::PutsOf;
use dynamo_core::reap::{Candidate, NotNow, ReapEffect, ReapEvent, ReapRound, must_end_epoch};
use dynamo_core::replica::{PutCommand, PutRefusal, coordinate_put, coordinate_put_in, merge_in};
use dynamo_core::ring::{PartitionSet, Partitions, RingVersion};
use dynamo_core::testing::values::{context_of, node, put};
use dynamo_core::time::WallMs;
use dynamo_core::wire::reap::{ReapAction, ReapCheckAnswer, ReapPresence, ReapResult};
use dynamo_core::wire::ring::RING_FORMAT;

const THEN: WallMs = WallMs(1_700_000_000_000);
const GRACE: Duration = Duration::from_millis(TOMBSTONE_GRACE_MS_DEFAULT);
const RING: RingVersion = RingVersion { number: 5, hash: 5 };
const P: PartitionId = PartitionId(0);

fn now() -> WallMs {
    THEN.plus(GRACE).plus(Duration::from_secs(1))
}

fn object() -> ObjectKey {
    ObjectKey::parse("cart", "k").unwrap()
}

/// Five nodes, all but the last members; partition 0 belongs to the first three in order.
fn view(holders: &[u128]) -> Arc<ClusterView> {
    let partitions = Partitions::new(4).unwrap();
    let info = |number: u128| NodeInfo {
        id: node(number),
        name: format!("n{number}"),
        zone: None,
        weight: 100,
        addresses: Addresses::default(),
        status: if number == 4 { MemberStatus::Removed } else { MemberStatus::Member },
        incarnation: Incarnation(1),
        holds: holders.contains(&number).then(|| PartitionSet::full(partitions)),
        store_id: None,
        founding_store: None,
        epoch: 1,
    };
    let snapshot = RingSnapshot {
        format: RING_FORMAT,
        cluster: ClusterId(1),
        version: RING,
        partitions,
        spacing: 3,
        nodes: (0..5).map(info).collect(),
        owners: vec![Some(0), Some(1), Some(2), Some(3)],
        defaults: BucketProps::default(),
        buckets: BTreeMap::new(),
    };
    Arc::new(ClusterView::from_snapshot(snapshot).unwrap())
}

/// An object of partition 0.
fn here() -> ObjectKey {
    let partitions = Partitions::new(4).unwrap();
    (0..100)
        .map(|key| ObjectKey::parse("cart", &format!("k{key}")).unwrap())
        .find(|object| partitions.of(object.position()) == P)
        .unwrap()
}

fn tombstone() -> Record {
    let mut actor = Actor::restarted(node(1), 0);
    let value = coordinate_put(&Record::default(), &put(1, None), &mut actor, THEN).unwrap();
    let context = Some(context_of(&value.record));
    let delete = PutCommand { content: Content::Tombstone, ..put(2, context) };
    coordinate_put(&value.record, &delete, &mut actor, THEN).unwrap().record
}

fn candidate(record: &Record) -> Candidate {
    Candidate::of_record(&here(), record, now(), GRACE).unwrap()
}

fn answer(digest: Option<RecordDigest>, hint: bool) -> ReapCheckAnswer {
    let presence = vec![ReapPresence { digest, hint }];
    ReapCheckAnswer { ring: RING, store: StoreId(1), epoch: 1, presence }
}

/// Starts a round for `record` and answers for every node; returns what happens then.
fn decide(
    record: &Record,
    answers: &BTreeMap<u128, Option<ReapCheckAnswer>>,
) -> (ReapRound, Vec<ReapEffect>) {
    let view = view(&[0, 1, 2, 3]);
    let (mut round, asked) =
        ReapRound::start(node(0), view, P, vec![candidate(record)], now()).unwrap();
    assert_eq!(asked.len(), 4, "all that may hold anything, and nobody else");
    let mut last = Vec::new();
    for effect in asked {
        let ReapEffect::Check { node: asked, objects } = effect else { panic!("{effect:?}") };
        assert_eq!(objects, [here()]);
        let number = asked.0 - node(0).0;
        let answer = answers[&number].clone();
        let effects = round.on_event(ReapEvent::Checked { node: asked, answer });
        if !effects.is_empty() {
            last = effects;
        }
    }
    (round, last)
}

fn all_agree(record: &Record) -> BTreeMap<u128, Option<ReapCheckAnswer>> {
    let digest = Some(RecordDigest::of(record));
    let of = |number: u128| (number, Some(answer(digest.filter(|_| number < 3), false)));
    (0..4).map(of).collect()
}

#[test]
fn i10_a_tombstone_goes_when_all_agree_the_own_node_last() {
    let record = tombstone();
    let (mut round, mut effects) = decide(&record, &all_agree(&record));
    let mut order = Vec::new();
    while let [ReapEffect::Reap { node, ring, items }] = effects.as_slice() {
        assert_eq!((*ring, items.len()), (RING, 1));
        assert_eq!(items[0].action, ReapAction::Remove);
        order.push(*node);
        let results = Some(vec![ReapResult::Done]);
        effects = round.on_event(ReapEvent::Reaped { node: *node, results });
    }
    assert_eq!(order, [node(2), node(1), node(0)]);
    let [ReapEffect::Over(Ok(counts))] = effects.as_slice() else { panic!("{effects:?}") };
    assert_eq!((counts.candidates, counts.allowed, counts.removed), (1, 1, 1));
}

#[test]
fn i10_anything_less_keeps_the_tombstone() {
    let record = tombstone();
    let same = Some(RecordDigest::of(&record));
    let other_ring = |digest| {
        let ring = RingVersion { number: 4, hash: 4 };
        Some(ReapCheckAnswer { ring, ..answer(digest, false) })
    };
    let allowed = NotNow::NothingAllowed;
    let cases = [
        ("an owner does not have it", 1, Some(answer(None, false)), allowed),
        ("an owner has another record", 2, Some(answer(Some(RecordDigest(1)), false)), allowed),
        ("an owner could not read it", 2, Some(answer(Some(RecordDigest(0)), false)), allowed),
        ("an owner has a hint", 1, Some(answer(same, true)), allowed),
        ("another node has a hint", 3, Some(answer(None, true)), allowed),
        ("another node has an older copy", 3, Some(answer(Some(RecordDigest(1)), false)), allowed),
        ("a node is down", 3, None, NotNow::Unanswered(node(3))),
        ("a node is behind", 3, other_ring(None), NotNow::OtherRing(node(3))),
    ];
    for (what, number, said, expected) in cases {
        let mut answers = all_agree(&record);
        answers.insert(number, said);
        let (_, effects) = decide(&record, &answers);
        assert_eq!(effects, [ReapEffect::Over(Err(expected))], "{what}");
    }
    let mut short = all_agree(&record);
    short.insert(3, Some(ReapCheckAnswer { presence: Vec::new(), ..answer(None, false) }));
    let (_, effects) = decide(&record, &short);
    assert_eq!(effects, [ReapEffect::Over(Err(NotNow::Unanswered(node(3))))]);
}

#[test]
fn a_copy_beside_the_owners_goes_first() {
    let record = tombstone();
    let mut answers = all_agree(&record);
    answers.insert(3, Some(answer(Some(RecordDigest::of(&record)), false)));
    let (mut round, effects) = decide(&record, &answers);
    let [ReapEffect::Reap { node: first, .. }] = effects.as_slice() else { panic!("{effects:?}") };
    assert_eq!(*first, node(3));
    // It was written meanwhile: the owners keep theirs.
    let results = Some(vec![ReapResult::Changed]);
    let effects = round.on_event(ReapEvent::Reaped { node: node(3), results });
    let [ReapEffect::Over(Ok(counts))] = effects.as_slice() else { panic!("{effects:?}") };
    assert_eq!((counts.allowed, counts.removed), (1, 0));
    let (mut round, _) = decide(&record, &answers);
    let effects = round.on_event(ReapEvent::Reaped { node: node(3), results: None });
    assert_eq!(effects, [ReapEffect::Over(Err(NotNow::Unanswered(node(3))))]);
}

#[test]
fn rounds_begin_where_everything_is_at_its_place() {
    let start = |me: u128, holders: &[u128]| {
        let candidates = vec![candidate(&tombstone())];
        ReapRound::start(node(me), view(holders), P, candidates, now()).map(|_| ())
    };
    assert_eq!(start(0, &[0, 1, 2]), Ok(()));
    assert_eq!(start(1, &[0, 1, 2]), Err(NotNow::NotFirstOwner));
    assert_eq!(start(0, &[0, 1]), Err(NotNow::Unsettled));
    let elsewhere = (0..100)
        .map(|key| ObjectKey::parse("cart", &format!("k{key}")).unwrap())
        .find(|object| Partitions::new(4).unwrap().of(object.position()) != P)
        .unwrap();
    let stranger = Candidate::of_record(&elsewhere, &tombstone(), now(), GRACE).unwrap();
    let none = ReapRound::start(node(0), view(&[0, 1, 2]), P, vec![stranger], now());
    assert_eq!(none.map(|_| ()), Err(NotNow::NothingAllowed));
}

#[test]
fn only_the_old_and_dead_are_candidates() {
    let record = tombstone();
    let of = |record: &Record, at| Candidate::of_record(&object(), record, at, GRACE).is_some();
    assert!(!of(&record, THEN.plus(GRACE)), "not a moment too early");
    assert!(of(&record, now()));
    let mut actor = Actor::restarted(node(1), 0);
    let live = coordinate_put(&record, &put(3, None), &mut actor, THEN).unwrap().record;
    assert!(!of(&live, now()));
    assert!(!of(&Record::default(), now()));
    let digest = RecordDigest::of(&record);
    let entry = |dead_since| KeyEntry { object: object(), digest, dead_since };
    assert!(Candidate::of_entry(&entry(None), now(), GRACE).is_none());
    assert!(Candidate::of_entry(&entry(Some(now())), now(), GRACE).is_none());
    assert!(Candidate::of_entry(&entry(Some(THEN)), now(), GRACE).is_some());
}

#[test]
fn i11_a_reaped_key_is_written_again_under_a_new_epoch() {
    let record = tombstone();
    let mut actor = Actor::resumed(node(1), 1);
    assert!(must_end_epoch(&record, actor.id()), "counters were minted under it");
    assert!(!must_end_epoch(&record, ActorId { node: node(1), epoch: 2 }), "once per grace");
    assert!(!must_end_epoch(&record, ActorId { node: node(2), epoch: 1 }));
    let behind = record.clone();
    // Without the rule the new put takes a counter that a replica one step behind covers.
    let reused = coordinate_put(&Record::default(), &put(9, None), &mut actor.clone(), now());
    let reused = reused.unwrap();
    assert!(behind.sync(&reused.delta).sibling(&reused.dot).is_none(), "swallowed");
    assert!(actor.on_loss(0));
    let minted = coordinate_put(&Record::default(), &put(9, None), &mut actor, now()).unwrap();
    assert!(behind.sync(&minted.delta).sibling(&minted.dot).is_some());
    // An old context is welcome, and ends no epoch.
    let epoch = actor.id().epoch;
    let again = put(10, Some(context_of(&behind)));
    let minted = coordinate_put(&minted.record, &again, &mut actor, now()).unwrap();
    assert_eq!((actor.id().epoch, minted.replayed), (epoch, false));
}

/// A record with an own entry of epoch 1, written at `THEN` by node 1, below a version of node 2.
fn long_clock() -> Record {
    let mut old = Actor::restarted(node(1), 0);
    let mut record =
        coordinate_put(&Record::default(), &put(1, None), &mut old, THEN).unwrap().record;
    for number in 2..13 {
        let mut other = Actor::restarted(node(number), 0);
        let next = put(number, Some(context_of(&record)));
        let at = THEN.plus(Duration::from_secs(u64::try_from(number).unwrap()));
        record = coordinate_put(&record, &next, &mut other, at).unwrap().record;
    }
    record
}

#[test]
fn c3_truncated_entries_are_not_taken_for_lost_ones() {
    let full = long_clock();
    let late = THEN.plus(Duration::from_millis(CLOCK_TRUNCATE_AGE_MS + 60_000));
    let current = (0..13).map(|number| ActorId { node: node(number), epoch: 7 }).collect();
    let long = Candidate::of_record(&here(), &full, late, GRACE).unwrap();
    let Some(ReapAction::Truncate(actors)) = long.action(&current, late) else { panic!("long") };
    assert_eq!(actors.first(), Some(&ActorId { node: node(1), epoch: 1 }), "the oldest first");
    let present = (0..13).map(|number| ActorId { node: node(number), epoch: 1 }).collect();
    assert_eq!(long.action(&present, late), None, "never a present actor");
    let mut short = full.clone();
    truncate(&mut short, &actors);

    let me = ActorId { node: node(1), epoch: 7 };
    let (siblings, none) = (Reconciliation::Siblings, PutsOf::default());
    let merge_at = |present, at| {
        merge_in(&short, &full, present, Custody::Held, siblings, none, at).lost_epoch
    };
    assert_eq!(merge_at(me, late), None, "a late replica shows it again");
    assert_eq!(merge_at(me, THEN.plus(Duration::from_secs(60))), Some(1), "too young for it");
    let same = ActorId { node: node(1), epoch: 1 };
    assert_eq!(merge_at(same, late), Some(1), "the present epoch is never truncated");

    let mut actor = Actor::resumed(node(1), 7);
    let old_context = put(50, Some(context_of(&full)));
    coordinate_put(&short, &old_context, &mut actor, late).unwrap();
    assert_eq!(actor.id().epoch, 7, "an old context ends no epoch");
    let mut actor = Actor::resumed(node(1), 1);
    let refused = coordinate_put(&short, &old_context, &mut actor, late);
    assert_eq!(refused, Err(PutRefusal::Amnesia { seen: 1 }));
}

#[test]
fn what_is_missing_while_a_partition_arrives_was_not_lost() {
    let full = long_clock();
    let soon = THEN.plus(Duration::from_secs(60));
    let nothing = Record::default();
    let (siblings, none) = (Reconciliation::Siblings, PutsOf::default());
    let lost = |epoch, custody| {
        let present = ActorId { node: node(1), epoch };
        merge_in(&nothing, &full, present, custody, siblings, none, soon).lost_epoch
    };
    assert_eq!(lost(2, Custody::Arriving), None, "the epoch ended when it became wanted");
    assert_eq!(lost(1, Custody::Arriving), Some(1), "the present epoch must have it");
    assert_eq!(lost(2, Custody::Held), Some(1));
    let mut actor = Actor::resumed(node(1), 2);
    let command = put(50, Some(context_of(&full)));
    let arriving = coordinate_put_in(&nothing, &command, &mut actor, Custody::Arriving, none, soon);
    assert!(arriving.is_ok());
    let held = coordinate_put(&nothing, &command, &mut actor, soon);
    assert_eq!(held, Err(PutRefusal::Amnesia { seen: 1 }));
}
