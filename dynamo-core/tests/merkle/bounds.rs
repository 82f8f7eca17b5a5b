//! Bounds: many differences, large records, budgets, keys that nobody can repair. (Every run
//! checks the bounds of each effect, see [`crate::support`].)

use bytes::Bytes;
use dynamo_core::clock::record::{Content, Value};
use dynamo_core::limits::{
    EXCHANGE_KEYS_MAX, EXCHANGE_LEAVES_MAX, EXCHANGE_PASSES_MAX, TREE_KEYS_MAX,
};
use dynamo_core::merkle::exchange::{
    ExchangeEffect, ExchangeEnd, ExchangeMode, ExchangePlan, Side,
};

use crate::support::{OBJECTS, World, object, partitions};

/// As many records as asked for, each on one side alone, the sides in turn.
fn lone(count: usize, bytes: usize) -> World {
    let mut world = World { page_size: TREE_KEYS_MAX, ..World::default() };
    let value = Value { bytes: Bytes::from(vec![7; bytes]), ..Value::default() };
    for number in 0..count {
        let object = object("n2", number);
        let delta = world.delta(&object, 1, None, Content::Value(value.clone()));
        let side = if number % 2 == 0 { Side::Near } else { Side::Far };
        world.side(side).merge(&object, &delta);
    }
    world
}

fn plan() -> ExchangePlan {
    ExchangePlan::new(partitions(), World::everything(), ExchangeMode::Both)
}

#[test]
fn many_differences_are_mended_in_turns() {
    let count = 3 * EXCHANGE_LEAVES_MAX;
    let mut world = lone(count, 10);
    let mut leaves = 0;
    let result = world.run(
        plan(),
        |_, effect| match effect {
            ExchangeEffect::AskKeys { side: Side::Near, leaves: asked, after: None, .. } => {
                leaves += asked.len();
                assert!(leaves <= EXCHANGE_LEAVES_MAX, "leaves of one turn");
            }
            ExchangeEffect::Wait { .. } => leaves = 0,
            _ => {}
        },
        |_, event| event,
    );
    assert_eq!(result.end, ExchangeEnd::Agreed);
    assert!(world.differing().is_empty());
    assert_eq!(result.counts.pushed + result.counts.pulled, count as u64);
    assert!(world.traffic.waits >= 3);
    assert_eq!(result.counts.passes, 2, "one to mend, one to see that all is equal");
    world.check_quiet();
}

#[test]
fn crowded_leaves_are_mended_in_turns() {
    // So many that the leaves of one turn hold more keys than it takes.
    let mut world = lone(30_000, 1);
    let (mut reads, mut most) = (0, 0);
    let result = world.run(
        plan(),
        |_, effect| match effect {
            ExchangeEffect::ReadRecords { side: Side::Near, reads: asked } => {
                reads += asked.len();
                most = most.max(reads);
            }
            ExchangeEffect::Wait { .. } => reads = 0,
            _ => {}
        },
        |_, event| event,
    );
    assert_eq!(most, EXCHANGE_KEYS_MAX, "keys of one turn");
    assert_eq!((result.end, world.differing().len()), (ExchangeEnd::Agreed, 0));
}

#[test]
fn a_budget_of_bytes_ends_the_exchange_and_the_next_goes_on() {
    let mut world = lone(300, 1_000);
    let mut before = world.differing().len();
    let mut runs = 0;
    loop {
        let result = world.run(plan().with_bytes_max(50_000), |_, _| {}, |_, event| event);
        runs += 1;
        let after = world.differing().len();
        if result.end == ExchangeEnd::Agreed {
            assert_eq!(after, 0);
            break;
        }
        assert_eq!(result.end, ExchangeEnd::DifferencesLeft);
        assert!(after < before, "each brings the sides closer");
        let left = world.differing().iter().all(|o| result.left.contains(&World::part(o)));
        assert!(left, "what still differs is said to be left");
        // One batch may go beyond the bound.
        assert!(result.counts.bytes_moved() < 50_000 + 2 * 128 * 1_200);
        before = after;
    }
    assert!(runs > 2);
    world.check_quiet();
}

#[test]
fn without_a_budget_nothing_moves() {
    let mut world = lone(20, 10);
    let result = world.run(plan().with_bytes_max(0), |_, _| {}, |_, event| event);
    assert_eq!(result.end, ExchangeEnd::DifferencesLeft);
    assert!(world.traffic.moved().is_empty());
    assert_eq!(world.differing().len(), 20);
}

#[test]
fn large_records_travel_in_smaller_batches() {
    let mut world = World { message_max: 100_000, ..lone(60, 30_000) };
    let huge = Value { bytes: Bytes::from(vec![1; 200_000]), ..Value::default() };
    let delta = world.delta(&OBJECTS[0], 1, None, Content::Value(huge));
    world.near.merge(&OBJECTS[0], &delta);
    let result = world.exchange(ExchangeMode::Both);
    assert_eq!(result.end, ExchangeEnd::DifferencesLeft);
    let left = world.differing();
    assert_eq!(left.into_iter().collect::<Vec<_>>(), [OBJECTS[0].clone()], "too large for any");
    assert_eq!(result.left.into_iter().collect::<Vec<_>>(), [World::part(&OBJECTS[0])]);
}

#[test]
fn a_merge_that_does_not_fit_is_left() {
    let mut world = World { message_max: 1_500, ..lone(1, 1_000) };
    let mut once = true;
    let result = world.run(
        plan(),
        |world, effect| {
            if matches!(effect, ExchangeEffect::Merge { .. }) {
                world.message_max = if once { 10 } else { usize::MAX };
                once = false;
            }
        },
        |_, event| event,
    );
    assert_eq!((result.end, result.counts.refused), (ExchangeEnd::DifferencesLeft, 1));
    assert_eq!(world.differing().len(), 1);
}

#[test]
fn what_cannot_be_repaired_does_not_hold_up_the_rest() {
    let mut world = lone(50, 10);
    let refused = object("n2", 0);
    world.refused.insert(refused.clone());
    let result = world.exchange(ExchangeMode::Both);
    assert_eq!(result.end, ExchangeEnd::DifferencesLeft);
    assert_eq!(result.left.into_iter().collect::<Vec<_>>(), [World::part(&refused)]);
    assert_eq!(world.differing().into_iter().collect::<Vec<_>>(), [refused]);
    assert!(result.counts.passes <= EXCHANGE_PASSES_MAX);
}

#[test]
fn passes_are_bounded_where_differences_never_end() {
    let mut world = World::default();
    let mut number = 0;
    let result = world.run(
        plan(),
        // A side that loses what it was given, at every look at its roots.
        |world, effect| {
            if let ExchangeEffect::AskDigests { side: Side::Near, .. } = effect {
                number += 1;
                let value = Content::Value(Value { bytes: "x".into(), ..Value::default() });
                let delta = world.delta(&OBJECTS[0], number, None, value);
                world.near.merge(&OBJECTS[0], &delta);
            }
        },
        |_, event| event,
    );
    assert_eq!(result.end, ExchangeEnd::DifferencesLeft);
    assert_eq!(result.counts.passes, EXCHANGE_PASSES_MAX);
    assert!(result.left.contains(&World::part(&OBJECTS[0])));
}
