//! Puts that two coordinators have minted: what superseded one of the two versions has superseded
//! the put (I-3), however late the other one shows, and nothing else goes with it.
//!
//! Every case is one put `P` that coordinators A and B both minted, and a put `Q` whose client had
//! seen A's version of it.

use std::collections::BTreeSet;

use dynamo_core::actor::{Actor, Custody};
use dynamo_core::clock::record::{Content, Record};
use dynamo_core::clock::twin::{join, settle};
use dynamo_core::id::{NodeId, PutId};
use dynamo_core::key::ObjectKey;
use dynamo_core::limits::{LATE_PUT_MS, TOLD_PUTS_MAX};
use dynamo_core::params::Reconciliation;
use dynamo_core::put_memory::{AppliedPut, PutMemory, PutsOf, fingerprint};
use dynamo_core::quorum::CatchUp;
use dynamo_core::quorum::catch_up::is_late;
use dynamo_core::replica::{
    Merged, Minted, PutCommand, PutRefusal, coordinate_put, coordinate_put_in, merge_in,
};
use dynamo_core::ring::ReplicaSets;
use dynamo_core::testing::values::{context_of, node, put, text, text_of};
use dynamo_core::time::{Mono, WallMs};
use dynamo_core::versions::write_context;

const NOW: WallMs = WallMs(1_700_000_000_000);
const P: u128 = 7;

fn object() -> ObjectKey {
    ObjectKey::parse("carts", "alice").expect("a legal name")
}

fn values(record: &Record) -> BTreeSet<String> {
    record.siblings().filter_map(|sibling| text_of(&sibling.content)).collect()
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(ToString::to_string).collect()
}

/// What became of `P` and `Q`.
struct Scene {
    a: Minted,
    b: Minted,
    q: Minted,
}

impl Scene {
    /// A and B mint `command`, and A then `Q` on what it has.
    fn of(command: &PutCommand) -> Self {
        let (mut one, mut other) = (Actor::resumed(node(0), 1), Actor::resumed(node(1), 1));
        let a = coordinate_put(&Record::default(), command, &mut one, NOW).expect("first");
        let b = coordinate_put(&Record::default(), command, &mut other, NOW).expect("second");
        let mut next = put(8, Some(context_of(&a.record)));
        next.reconciliation = command.reconciliation;
        let q = coordinate_put(&a.record, &next, &mut one, NOW).expect("a legal put");
        Self { a, b, q }
    }

    fn new() -> Self {
        Self::of(&put(P, None))
    }

    /// What a replica remembers that was sent A's version.
    fn memory(&self) -> PutMemory {
        let mut memory = PutMemory::default();
        memory.learn(object().position(), &self.a.delta, &[], Mono(0));
        memory
    }
}

fn merged(local: &Record, incoming: &Record, puts: PutsOf<'_>) -> Merged {
    let me = Actor::resumed(node(2), 1).id();
    merge_in(local, incoming, me, Custody::Held, Reconciliation::Siblings, puts, NOW)
}

#[test]
fn a_late_twin_of_a_superseded_put_is_not_taken_in() {
    let Scene { a, b, q } = Scene::new();
    let memory = Scene::new().memory();
    let puts = memory.of(object().position());
    let forgetful = merged(&q.record, &b.delta, PutsOf::default()).record;
    assert_eq!(values(&forgetful), set(&["7", "8"]), "the defect, where nothing is remembered");
    let record = merged(&q.record, &b.delta, puts).record;
    assert_eq!(values(&record), set(&["8"]));
    assert!(record.clock().covers(&b.dot), "or it would be sent again for ever");
    // One replica that remembers is enough, in whatever order they meet.
    for (one, other) in [(&record, &forgetful), (&forgetful, &record)] {
        assert_eq!(values(&one.sync(other)), set(&["8"]));
    }
    // As long as nothing supersedes the put, both versions stay, and are shown as one.
    let both = merged(&a.record, &b.delta, puts).record;
    assert_eq!((both.sibling_count(), both.visible(NOW).len()), (2, 1));
}

#[test]
fn what_supersedes_one_twin_supersedes_the_other() {
    let Scene { a, b, q } = Scene::new();
    let both = a.record.sync(&b.record);
    for (one, other) in [(&both, &q.delta), (&q.delta, &both), (&both, &q.record)] {
        assert_eq!(values(&one.sync(other)), set(&["7", "8"]), "not seen from clocks alone");
        assert_eq!(values(&join(one, other)), set(&["8"]));
    }
    assert_eq!(values(&merged(&both, &q.delta, PutsOf::default()).record), set(&["8"]));
    // Also where the incoming record has nothing new but the knowledge that they are twins.
    let knows_q = b.record.sync(&q.record);
    assert!(knows_q.contains(&a.record));
    let merged = merged(&knows_q, &a.record, PutsOf::default());
    assert!(merged.changed);
    assert_eq!(values(&merged.record), set(&["8"]));
}

#[test]
fn a_put_follows_the_twins_of_what_its_client_saw() {
    let Scene { a, b, .. } = Scene::new();
    let command = put(9, Some(context_of(&a.record)));
    let mut by = Actor::resumed(node(2), 1);
    let both = a.record.sync(&b.record);
    let minted = coordinate_put(&both, &command, &mut by, NOW).expect("a legal put");
    assert_eq!(values(&minted.record), set(&["9"]));
    assert!(minted.delta.clock().covers(&b.dot), "so that no replica has to know of the twins");
    let answer = write_context(command.context.as_ref(), &minted, node(2));
    assert!(answer.clock.covers(&b.dot), "the next put of the client follows them as well");
    // The coordinator may know the first version by memory alone.
    let memory = Scene::new().memory();
    let puts = memory.of(object().position());
    let minted = coordinate_put_in(&b.record, &command, &mut by, Custody::Held, puts, NOW);
    assert_eq!(values(&minted.expect("a legal put").record), set(&["9"]));
}

#[test]
fn a_late_attempt_is_answered_with_the_dot_of_the_first() {
    let Scene { a, q, .. } = Scene::new();
    let memory = Scene::new().memory();
    let puts = memory.of(object().position());
    let mut by = Actor::resumed(node(2), 1);
    let mut late = |local: &Record, command: &PutCommand, puts| {
        coordinate_put_in(local, command, &mut by, Custody::Held, puts, NOW)
    };
    let again = late(&q.record, &put(P, None), puts).expect("a retry");
    assert!(again.replayed);
    assert_eq!((again.dot, &again.record), (a.dot, &q.record));
    // Its context is no older than what has superseded it, so that the client's next put is not
    // taken for an earlier one where the last write wins.
    let context = write_context(None, &again, node(2));
    assert!(context.stamp >= q.record.latest_stamp());
    let mut other = put(P, None);
    other.content = text("something else");
    assert_eq!(late(&q.record, &other, puts), Err(PutRefusal::IdempotencyMismatch));
    // What is remembered of a record that was lost does not count.
    assert!(!late(&Record::default(), &put(P, None), puts).expect("anew").replayed);
}

#[test]
fn a_put_id_used_for_two_objects_is_two_puts() {
    let Scene { a, q, .. } = Scene::new();
    let mut misused = put(P, None);
    misused.content = text("something else");
    let mut by = Actor::resumed(node(1), 1);
    let b = coordinate_put(&Record::default(), &misused, &mut by, NOW).expect("a put");
    let memory = Scene::new().memory();
    let puts = memory.of(object().position());
    let both = a.record.sync(&b.record);
    for record in [
        merged(&q.record, &b.delta, puts).record,
        merged(&both, &q.delta, puts).record,
        settle(q.record.sync(&b.record), puts),
    ] {
        assert_eq!(values(&record), set(&["8", "something else"]));
    }
    let command = put(9, Some(context_of(&a.record)));
    let minted = coordinate_put(&both, &command, &mut by, NOW).expect("a legal put");
    assert_eq!(values(&minted.record), set(&["9", "something else"]));
}

/// Two replicas could each drop what the other keeps.
#[test]
fn where_the_last_write_wins_twins_are_left_to_their_stamps() {
    let mut command = put(P, None);
    command.reconciliation = Reconciliation::Lww;
    let scene = Scene::of(&command);
    let memory = scene.memory();
    let puts = memory.of(object().position());
    let me = Actor::resumed(node(2), 1).id();
    let lww = Reconciliation::Lww;
    let merge = |local: &Record, incoming: &Record| {
        merge_in(local, incoming, me, Custody::Held, lww, puts, NOW).record
    };
    let (here, there) =
        (merge(&scene.q.record, &scene.b.record), merge(&scene.b.record, &scene.q.record));
    assert_eq!(here, there);
    assert_eq!(here.sibling_count(), 1);
}

/// A fallback coordinated the put and what superseded it: no primary has seen its version.
#[test]
fn a_hint_tells_of_the_puts_that_came_and_went() {
    let Scene { a, b, q } = Scene::new();
    let (memory, key) = (Scene::new().memory(), object().position());
    let told = memory.of(key).superseded(&q.record);
    let applied = AppliedPut { dot: a.dot, content: fingerprint(&text("7")) };
    assert_eq!(told, [(PutId(P), applied)]);
    assert_eq!(memory.of(key).superseded(&a.record), [], "what is there speaks for itself");
    let mut primary = PutMemory::default();
    primary.learn(key, &q.record, &told, Mono(0));
    assert_eq!(values(&merged(&b.record, &q.record, primary.of(key)).record), set(&["8"]));
    let mut many = PutMemory::default();
    for id in 0..2 * TOLD_PUTS_MAX as u128 {
        many.insert(PutId(id), key, applied, Mono(0));
    }
    assert_eq!(many.of(key).superseded(&q.record).len(), TOLD_PUTS_MAX);
}

#[test]
fn a_coordinator_asks_until_one_remembers() {
    let (me, near, far): (NodeId, NodeId, NodeId) = (node(0), node(1), node(2));
    let replicas = ReplicaSets {
        owners: vec![me, near, far],
        holders: vec![me, near, far],
        ..ReplicaSets::default()
    };
    let Scene { a, .. } = Scene::new();
    let applied = AppliedPut { dot: a.dot, content: 1 };
    let start = |down: Option<NodeId>| CatchUp::start(me, &replicas, |peer| down != Some(peer));
    assert_eq!(start(None).open().collect::<Vec<_>>(), [near, far]);
    assert_eq!(start(Some(near)).open().collect::<Vec<_>>(), [far]);

    let mut op = start(None);
    op.on_answer(far, &a.record, Some(applied));
    assert!(op.is_over(), "nobody knows more");
    assert_eq!(op.finish(), (a.record.clone(), Some(applied)));

    let mut op = start(None);
    op.on_answer(far, &Record::default(), Some(applied));
    assert!(!op.is_over(), "one that remembers the put, and has lost the record");
    op.on_answer(me, &a.record, None);
    assert!(!op.is_over(), "was not asked");
    op.on_silence(near);
    assert!(op.is_over());

    let sent = |ago: u64| WallMs(NOW.0 - ago);
    assert!(!is_late(sent(LATE_PUT_MS), NOW));
    assert!(is_late(sent(LATE_PUT_MS + 1), NOW));
    assert!(!is_late(WallMs(NOW.0 + 60_000), NOW), "the sender's clock leads");
}

#[test]
fn a_deleted_twin_goes_like_any_other() {
    let Scene { a, .. } = Scene::new();
    let mut delete = put(P + 100, Some(context_of(&a.record)));
    delete.content = Content::Tombstone;
    let (mut one, mut other) = (Actor::resumed(node(1), 1), Actor::resumed(node(2), 1));
    let first = coordinate_put(&a.record, &delete, &mut one, NOW).expect("a delete");
    let second = coordinate_put(&a.record, &delete, &mut other, NOW).expect("its retry");
    let both = first.record.sync(&second.record);
    let next = put(9, Some(context_of(&first.record)));
    let minted = coordinate_put(&first.record, &next, &mut one, NOW).expect("made anew");
    let record = join(&both, &minted.record);
    assert_eq!((values(&record), record.sibling_count()), (set(&["9"]), 1));
}
