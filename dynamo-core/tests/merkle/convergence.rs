//! What an exchange is for: replicas that differ in any way end equal, what is equal stays where
//! it is, and writes on their way are nobody's business.

use std::collections::BTreeSet;

use dynamo_core::clock::record::Record;
use dynamo_core::key::ObjectKey;
use dynamo_core::merkle::exchange::{
    ExchangeEffect, ExchangeEnd, ExchangeMode, ExchangePlan, ExchangeWitness, Side,
};
use dynamo_core::ring::RingVersion;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::{Just, Strategy, any, prop_oneof, proptest};
use proptest::{prop_assert, prop_assert_eq};

use crate::support::{OBJECTS, Replica, World, Write, class, partitions};

/// Writes that arrived at one side, at both, or at none.
fn writes(most: usize) -> impl Strategy<Value = Vec<Write>> {
    let read = option::of(prop_oneof![Just(Side::Near), Just(Side::Far)]);
    let arrived = prop_oneof![
        3 => Just((true, true)),
        1 => Just((true, false)),
        1 => Just((false, true)),
    ];
    let write = (0..OBJECTS.len(), 0..4u128, read, any::<bool>(), arrived);
    let write = write.prop_map(|(object, actor, read, delete, (near, far))| Write {
        object,
        actor,
        read,
        delete,
        near,
        far,
    });
    vec(write, 0..most)
}

/// A write that arrived at one side alone.
fn lost(object: usize, at: Side) -> Write {
    let (near, far) = (at == Side::Near, at == Side::Far);
    Write { object, actor: 1, read: Some(at), delete: false, near, far }
}

fn plan(mode: ExchangeMode) -> ExchangePlan {
    ExchangePlan::new(partitions(), World::everything(), mode)
}

/// The join of what both sides have.
fn joined(a: &Replica, b: &Replica) -> Replica {
    let mut all = a.clone();
    for (object, record) in &b.records {
        all.merge(object, record);
    }
    all
}

fn contains(replica: &Replica, object: &ObjectKey, record: &Record) -> bool {
    replica.records.get(object).is_some_and(|held| held.contains(record))
}

proptest! {
    #[test]
    fn replicas_that_differ_end_equal(writes in writes(80), page_size in 1..6usize) {
        let mut world = World { page_size, ..World::of(&writes) };
        let (expected, differing) = (joined(&world.near, &world.far), world.differing());
        let result = world.exchange(ExchangeMode::Both);
        prop_assert_eq!(&result.end, &ExchangeEnd::Agreed);
        prop_assert!(result.left.is_empty());
        prop_assert!(world.differing().is_empty());
        prop_assert_eq!(&world.near.tree, &expected.tree, "nothing but the join of both");
        world.check_trees();
        // Only what differed moved, each at most once in either direction.
        let traffic = &world.traffic;
        prop_assert!(traffic.moved().is_subset(&differing));
        for moves in [&traffic.far_sent, &traffic.near_got, &traffic.far_got] {
            prop_assert_eq!(moves.iter().collect::<BTreeSet<_>>().len(), moves.len());
        }
        let counts = result.counts;
        prop_assert_eq!(counts.differing, differing.len() as u64);
        prop_assert_eq!(counts.pushed, traffic.far_got.len() as u64);
        prop_assert_eq!(counts.pulled, traffic.near_got.len() as u64);
        prop_assert_eq!((counts.settled, counts.refused), (0, 0));
        world.check_quiet();
    }

    #[test]
    fn writes_between_the_steps_do_no_harm(
        before in writes(40),
        during in writes(60),
        pace in 1..4usize,
    ) {
        let mut world = World::of(&before);
        let mut coming = during.iter();
        let result = world.run(plan(ExchangeMode::Both), |world, _| {
            for write in coming.by_ref().take(pace) {
                world.write(write);
            }
        }, |_, event| event);
        // They may leave differences behind, which it may or may not have seen; nothing is lost.
        prop_assert!(matches!(result.end, ExchangeEnd::Agreed | ExchangeEnd::DifferencesLeft));
        world.check_trees();
        prop_assert_eq!(world.exchange(ExchangeMode::Both).end, ExchangeEnd::Agreed);
        prop_assert!(world.differing().is_empty());
        world.check_quiet();
    }

    /// The evidence for possession and reaping: an exchange that agreed has shown that each side
    /// has everything that the other had when it began.
    #[test]
    fn agreement_covers_everything_from_before(
        before in writes(40),
        during in writes(60),
        pace in 1..4usize,
        is_push in any::<bool>(),
    ) {
        let mode = if is_push { ExchangeMode::PushOnly } else { ExchangeMode::Both };
        let mut world = World::of(&before);
        let (near, far) = (world.near.clone(), world.far.clone());
        let mut coming = during.iter();
        let result = world.run(plan(mode), |world, _| {
            for write in coming.by_ref().take(pace) {
                world.write(write);
            }
        }, |_, event| event);
        let is_left = |object: &ObjectKey| result.left.contains(&World::part(object));
        for (object, record) in near.records.iter().filter(|(object, _)| !is_left(object)) {
            prop_assert!(contains(&world.far, object, record));
        }
        for (object, record) in far.records.iter().filter(|(object, _)| !is_left(object)) {
            prop_assert!(is_push || contains(&world.near, object, record));
        }
    }

    #[test]
    fn push_only_gives_and_takes_nothing(writes in writes(80)) {
        let mut world = World::of(&writes);
        let near = world.near.clone();
        let expected = joined(&world.near, &world.far);
        let result = world.exchange(ExchangeMode::PushOnly);
        prop_assert_eq!(&result.end, &ExchangeEnd::Agreed);
        prop_assert_eq!(&world.near.records, &near.records);
        prop_assert_eq!(&world.far.tree, &expected.tree);
        prop_assert!(world.traffic.moved().iter().all(|o| near.records.contains_key(o)));
        let again = world.exchange(ExchangeMode::PushOnly);
        prop_assert_eq!(again.end, ExchangeEnd::Agreed);
        prop_assert_eq!(again.counts.pushed, 0);
    }

    /// Differences that vanish before the second look are writes on their way: whichever side got
    /// them first, no value moves between the sides.
    #[test]
    fn writes_on_their_way_are_not_repaired(
        before in writes(40),
        flying in vec((0..OBJECTS.len(), any::<bool>(), any::<bool>()), 1..20),
    ) {
        let settled = before.into_iter().map(|write| Write { near: true, far: true, ..write });
        let mut world = World::of(&settled.collect::<Vec<_>>());
        let mut late = Vec::new();
        for (object, near_first, delete) in flying {
            let first = if near_first { Side::Near } else { Side::Far };
            late.push(world.write(&Write { delete, ..lost(object, first) }));
        }
        let differing = world.differing().len() as u64;
        let result = world.run(plan(ExchangeMode::Both), |world, effect| {
            if matches!(effect, ExchangeEffect::Wait { .. }) {
                for (object, delta) in late.drain(..) {
                    world.near.merge(&object, &delta);
                    world.far.merge(&object, &delta);
                }
            }
        }, |_, event| event);
        prop_assert_eq!(&result.end, &ExchangeEnd::Agreed);
        prop_assert!(world.traffic.moved().is_empty());
        prop_assert_eq!(result.counts.bytes_moved(), 0);
        prop_assert_eq!((result.counts.differing, result.counts.settled), (differing, differing));
        prop_assert_eq!(result.counts.passes, 1);
    }
}

#[test]
fn a_key_reaped_between_the_looks_stays_away() {
    for holder in [Side::Near, Side::Far] {
        let mut world = World::of(&[lost(0, holder)]);
        let result = world.run(
            plan(ExchangeMode::Both),
            |world, effect| {
                if matches!(effect, ExchangeEffect::Wait { .. }) {
                    world.side(holder).set(&OBJECTS[0], None);
                }
            },
            |_, event| event,
        );
        assert_eq!(result.end, ExchangeEnd::Agreed);
        assert_eq!(result.counts.settled, 1);
        assert!(world.near.records.is_empty() && world.far.records.is_empty());
    }
}

#[test]
fn only_what_is_common_is_compared() {
    let mut world = World::of(&[lost(0, Side::Near), lost(1, Side::Near), lost(2, Side::Far)]);
    let common = [World::part(&OBJECTS[0])];
    let plan = ExchangePlan::new(partitions(), common, ExchangeMode::Both);
    let result = world.run(plan, |_, _| {}, |_, event| event);
    assert_eq!(result.end, ExchangeEnd::Agreed);
    assert!(world.far.records.contains_key(&OBJECTS[0]));
    assert!(world.differing().contains(&OBJECTS[1]) && world.differing().contains(&OBJECTS[2]));
}

#[test]
fn nothing_in_common_is_over_at_once() {
    let plan = ExchangePlan::new(partitions(), [], ExchangeMode::Both);
    let mut world = World::of(&[lost(0, Side::Near)]);
    let result = world.run(plan, |_, _| {}, |_, event| event);
    assert_eq!((result.end, result.witness), (ExchangeEnd::Agreed, None));
    assert_eq!(world.traffic.effects, 1);
}

#[test]
fn agreement_says_under_which_ring_and_stores() {
    let mut world = World::default();
    let (ring, [near, far]) = (RingVersion { number: 3, hash: 9 }, world.stores);
    world.rings = [ring; 2];
    let witness = world.exchange(ExchangeMode::Both).witness;
    assert_eq!(witness, Some(ExchangeWitness { ring, near, far }));
    world.rings[1] = RingVersion { number: 4, hash: 9 };
    let result = world.exchange(ExchangeMode::Both);
    assert_eq!((result.end, result.witness), (ExchangeEnd::Agreed, None), "two rings");
    world.rings[1] = ring;
    let mut asked = 0;
    let result = world.run(
        plan(ExchangeMode::Both),
        |world, _| {
            asked += 1;
            if asked == 3 {
                world.rings = [RingVersion { number: 4, hash: 9 }; 2];
            }
        },
        |_, event| event,
    );
    assert_eq!(result.witness, None, "the ring changed under way");
}

#[test]
fn each_class_is_compared_by_itself() {
    // The same leaf in two classes: a difference in one asks for the keys of that one alone.
    let twins: Vec<_> = OBJECTS[12..].iter().filter(|o| class(o) == 1).take(1).collect();
    let mut world = World::default();
    let at = OBJECTS.iter().position(|o| o == twins[0]).unwrap();
    for object in 0..OBJECTS.len() {
        world.write(&Write { far: true, ..lost(object, Side::Near) });
    }
    world.write(&lost(at, Side::Far));
    let plan = plan(ExchangeMode::Both);
    let mut classes = BTreeSet::new();
    let result = world.run(
        plan,
        |_, effect| {
            if let ExchangeEffect::AskKeys { class, .. } = effect {
                classes.insert(*class);
            }
        },
        |_, event| event,
    );
    assert_eq!((result.end, classes), (ExchangeEnd::Agreed, BTreeSet::from([1])));
    assert_eq!((result.counts.pulled, result.counts.pushed), (1, 0));
}
