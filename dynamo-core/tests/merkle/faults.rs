//! Sides that fail, lie or talk nonsense: the exchange ends as failed, and never otherwise than
//! cleanly.

use std::collections::VecDeque;

use dynamo_core::clock::digest::RecordDigest;
use dynamo_core::id::StoreId;
use dynamo_core::key::ObjectKey;
use dynamo_core::limits::{EXCHANGE_REQUESTS_MAX, TREE_KEYS_MAX};
use dynamo_core::merkle::exchange::{
    Exchange, ExchangeEffect, ExchangeEnd, ExchangeEvent, ExchangeFailure, ExchangeMode,
    ExchangePlan, MergeAnswer, ReadAnswer, Side,
};
use dynamo_core::merkle::{KeyEntry, TreeDigest, scan_order};
use dynamo_core::ring::RingVersion;
use dynamo_core::time::Mono;
use dynamo_core::wire::tree::TreeState;
use proptest::collection::vec;
use proptest::prelude::{Just, Strategy, any, prop_oneof, proptest};

use crate::support::{OBJECTS, World, Write, partitions};

fn plan() -> ExchangePlan {
    ExchangePlan::new(partitions(), World::everything(), ExchangeMode::Both)
}

/// Differences of every kind.
fn divergent() -> World {
    let writes: Vec<Write> = (0..OBJECTS.len())
        .map(|object| Write {
            object,
            actor: object as u128 % 2,
            read: None,
            delete: object % 5 == 0,
            near: object % 3 != 0,
            far: object % 3 != 1 || object % 4 == 0,
        })
        .collect();
    let mut world = World::of(&writes);
    for object in 0..6 {
        let (near, far) = (object % 2 == 0, object % 2 != 0);
        world.write(&Write { object, actor: 3, read: None, delete: false, near, far });
    }
    world
}

/// Replaces an answer by what `change` makes of it, in one run for each answer that it changes. Every such run must end as failed; returns how many there were.
fn each_change(
    make: impl Fn() -> World,
    change: impl Fn(ExchangeEvent) -> Option<ExchangeEvent>,
    expected: impl Fn(&ExchangeFailure) -> bool,
) -> usize {
    let mut answers = 0;
    make().run(plan(), |_, _| answers += 1, |_, event| event);
    let mut changed = 0;
    for at in 0..answers {
        let mut world = make();
        let mut is_changed = false;
        let result = world.run(
            plan(),
            |_, _| {},
            |number, event| {
                let other = if number == at { change(event.clone()) } else { None };
                is_changed |= other.is_some();
                other.unwrap_or(event)
            },
        );
        if !is_changed {
            continue;
        }
        changed += 1;
        match &result.end {
            ExchangeEnd::Failed { failure, .. } if expected(failure) => {}
            end => panic!("answer {at}: {end:?}"),
        }
        assert!(!result.left.is_empty());
        world.check_trees();
    }
    changed
}

fn is_malformed(failure: &ExchangeFailure) -> bool {
    matches!(failure, ExchangeFailure::Malformed(_))
}

#[test]
fn a_side_that_fails_ends_it_wherever_it_is() {
    for failing in Side::BOTH {
        let failed = |event: ExchangeEvent| {
            let side = match event {
                ExchangeEvent::Digests { side, .. }
                | ExchangeEvent::Keys { side, .. }
                | ExchangeEvent::Records { side, .. }
                | ExchangeEvent::Merged { side, .. } => side,
                _ => return None,
            };
            let reason = "connection lost".to_owned();
            (side == failing).then_some(ExchangeEvent::Failed { side, reason })
        };
        let runs = each_change(divergent, failed, |failure| {
            *failure == ExchangeFailure::Unanswered("connection lost".to_owned())
        });
        assert!(runs > 10, "{runs} answers of {failing:?}");
    }
}

#[test]
fn after_a_failure_the_next_exchange_mends_the_rest() {
    for at in 0..40 {
        let mut world = divergent();
        world.run(
            plan(),
            |_, _| {},
            |number, event| match event {
                ExchangeEvent::Timer => ExchangeEvent::Timer,
                _ if number >= at => {
                    ExchangeEvent::Failed { side: Side::Far, reason: String::new() }
                }
                event => event,
            },
        );
        assert_eq!(world.exchange(ExchangeMode::Both).end, ExchangeEnd::Agreed);
        assert!(world.differing().is_empty());
        world.check_quiet();
    }
}

#[test]
fn a_tree_that_is_being_built_is_no_evidence() {
    let building = |event| match event {
        ExchangeEvent::Digests { side, ring, store, .. } => {
            let (state, digests) = (TreeState::Building, Vec::new());
            Some(ExchangeEvent::Digests { side, ring, store, state, digests })
        }
        _ => None,
    };
    let runs = each_change(divergent, building, |f| *f == ExchangeFailure::Building);
    assert!(runs > 6);
}

#[test]
fn a_store_that_is_replaced_under_way_ends_it() {
    let mut world = divergent();
    let mut asked = 0;
    let result = world.run(
        plan(),
        |world, effect| {
            if let ExchangeEffect::AskDigests { side: Side::Far, .. } = effect {
                asked += 1;
                world.stores[1] = StoreId(asked);
            }
        },
        |_, event| event,
    );
    let (side, failure) = (Side::Far, ExchangeFailure::StoreReplaced);
    assert_eq!(result.end, ExchangeEnd::Failed { side, failure });
    assert_eq!(result.witness.map(|witness| witness.far), Some(StoreId(1)));
}

#[test]
fn digests_that_do_not_fit_the_question_are_malformed() {
    for more in [true, false] {
        let change = |event| match event {
            ExchangeEvent::Digests { side, ring, store, state, mut digests } => {
                if more {
                    digests.push(TreeDigest::EMPTY);
                } else {
                    digests.pop();
                }
                Some(ExchangeEvent::Digests { side, ring, store, state, digests })
            }
            _ => None,
        };
        assert!(each_change(divergent, change, is_malformed) > 6);
    }
}

/// What makes a page of keys malformed; `None` where the page does not allow it.
type Spoil = fn(&mut Vec<KeyEntry>, &mut Option<ObjectKey>) -> Option<()>;

#[test]
fn keys_that_do_not_fit_the_question_are_malformed() {
    let spoils: [(&str, Spoil); 5] = [
        ("unsorted", |keys, _| (keys.len() > 1).then(|| keys.reverse())),
        ("twice", |keys, _| {
            let last = keys.last()?.clone();
            keys.push(last);
            Some(())
        }),
        ("of another leaf", |keys, _| {
            let object = crate::support::object("n1", 77_777);
            keys.pop()?;
            *keys = vec![KeyEntry { object, digest: RecordDigest(1), dead_since: None }];
            Some(())
        }),
        ("too many", |keys, _| {
            let one = keys.first()?.clone();
            keys.resize(TREE_KEYS_MAX + 1, one);
            Some(())
        }),
        ("a cursor before the last key", |keys, next| {
            let first = keys.first().filter(|_| keys.len() > 1)?.object.clone();
            *next = Some(first);
            Some(())
        }),
    ];
    for (name, spoil) in spoils {
        let change = |event| match event {
            ExchangeEvent::Keys { side, mut keys, mut next } => {
                spoil(&mut keys, &mut next)?;
                Some(ExchangeEvent::Keys { side, keys, next })
            }
            _ => None,
        };
        assert!(each_change(divergent, change, is_malformed) > 0, "{name}");
    }
}

#[test]
fn pages_that_begin_again_are_malformed() {
    for has_keys in [false, true] {
        let mut world = divergent();
        let mut first = None;
        let result = world.run(
            plan(),
            |_, _| {},
            |_, event| match (event, &first) {
                (ExchangeEvent::Keys { side: Side::Far, .. }, Some((keys, next))) => {
                    let keys: Vec<KeyEntry> = if has_keys { Vec::clone(keys) } else { vec![] };
                    ExchangeEvent::Keys { side: Side::Far, keys, next: Some(Clone::clone(next)) }
                }
                (ExchangeEvent::Keys { side: Side::Far, keys, next: Some(next) }, None) => {
                    first = Some((keys.clone(), next.clone()));
                    ExchangeEvent::Keys { side: Side::Far, keys, next: Some(next) }
                }
                (event, _) => event,
            },
        );
        match result.end {
            ExchangeEnd::Failed { side: Side::Far, failure } => assert!(is_malformed(&failure)),
            end => panic!("{end:?}"),
        }
    }
}

#[test]
fn answers_about_records_that_do_not_fit_are_malformed() {
    let other_number = |event| match event {
        ExchangeEvent::Records { side, mut answers } => {
            answers.push(ReadAnswer::Absent);
            Some(ExchangeEvent::Records { side, answers })
        }
        ExchangeEvent::Merged { side, mut answers } => {
            answers.pop();
            Some(ExchangeEvent::Merged { side, answers })
        }
        _ => None,
    };
    assert!(each_change(divergent, other_number, is_malformed) > 2);
    let fewer = |event| match event {
        ExchangeEvent::Records { side, .. } => {
            Some(ExchangeEvent::Records { side, answers: vec![] })
        }
        ExchangeEvent::Merged { side, mut answers } => {
            answers.push(MergeAnswer::Merged);
            Some(ExchangeEvent::Merged { side, answers })
        }
        _ => None,
    };
    assert!(each_change(divergent, fewer, is_malformed) > 2);
    // Some were asked for without a digest that they could equal.
    let same = |event| match event {
        ExchangeEvent::Records { side: Side::Near, answers } => {
            let answers = vec![ReadAnswer::Same; answers.len()];
            Some(ExchangeEvent::Records { side: Side::Near, answers })
        }
        _ => None,
    };
    assert!(each_change(divergent, same, is_malformed) > 0);
}

#[test]
fn digests_and_keys_are_never_too_large() {
    let change = |event| match event {
        ExchangeEvent::Digests { side, .. } | ExchangeEvent::Keys { side, .. } => {
            Some(ExchangeEvent::TooLarge { side })
        }
        _ => None,
    };
    assert!(each_change(divergent, change, is_malformed) > 6);
}

/// A partner whose lists never end costs a bounded number of requests.
#[test]
fn endless_lists_are_given_up() {
    // Cursors further and further on, with no key in between.
    let most = usize::try_from(EXCHANGE_REQUESTS_MAX).unwrap() + 10;
    let mut cursors: Vec<_> = (0..most).map(|i| crate::support::object("n1", i)).collect();
    cursors.sort_by(scan_order);
    let mut cursors = cursors.into_iter();
    let (mut exchange, effects) = Exchange::start(plan(), Mono(0));
    let mut world = divergent();
    let mut queue = VecDeque::from(effects);
    let mut end = None;
    while let Some(effect) = queue.pop_front() {
        let event = match effect {
            ExchangeEffect::AskKeys { side: Side::Far, .. } => {
                ExchangeEvent::Keys { side: Side::Far, keys: vec![], next: cursors.next() }
            }
            ExchangeEffect::Done(result) => {
                end = Some(result);
                continue;
            }
            effect => world.perform(effect),
        };
        queue.extend(exchange.on_event(event, Mono(u64::MAX)));
    }
    let result = end.unwrap();
    assert_eq!(result.end, ExchangeEnd::DifferencesLeft);
    assert!(result.counts.requests <= EXCHANGE_REQUESTS_MAX + 2);
    assert!(!result.left.is_empty());
}

/// Answers to questions that nobody asked.
fn junk() -> impl Strategy<Value = ExchangeEvent> {
    let side = prop_oneof![Just(Side::Near), Just(Side::Far)];
    let digests = vec(any::<u128>().prop_map(TreeDigest), 0..30);
    let objects = vec((0..OBJECTS.len()).prop_map(|i| OBJECTS[i].clone()), 0..4);
    (0..6u8, side, digests, objects, any::<bool>()).prop_map(
        |(kind, side, digests, objects, more)| match kind {
            0 => {
                let (ring, store) = (RingVersion::default(), StoreId(u128::from(side as u8) + 1));
                ExchangeEvent::Digests { side, ring, store, state: TreeState::Built, digests }
            }
            1 => {
                let next = objects.first().filter(|_| more).cloned();
                let digest = RecordDigest(5);
                let entry = |object| KeyEntry { object, digest, dead_since: None };
                ExchangeEvent::Keys { side, keys: objects.into_iter().map(entry).collect(), next }
            }
            2 => ExchangeEvent::Timer,
            3 => {
                let answer = if more { ReadAnswer::Absent } else { ReadAnswer::Same };
                ExchangeEvent::Records { side, answers: vec![answer; objects.len()] }
            }
            4 => {
                let answers = vec![MergeAnswer::Merged; objects.len()];
                ExchangeEvent::Merged { side, answers }
            }
            _ => ExchangeEvent::TooLarge { side },
        },
    )
}

proptest! {
    #[test]
    fn nonsense_never_panics_and_never_hangs(
        nonsense in vec((0..60usize, junk()), 0..12),
        times in vec(0..3u64, 60),
    ) {
        let mut world = divergent();
        let (mut exchange, effects) = Exchange::start(plan(), Mono(0));
        let mut queue = VecDeque::from(effects);
        let (mut number, mut now, mut is_over) = (0, Mono(0), false);
        while let Some(effect) = queue.pop_front() {
            now = Mono(now.0 + times.get(number).copied().unwrap_or(1) * 1_000_000);
            for (_, junk) in nonsense.iter().filter(|(at, _)| *at == number) {
                queue.extend(exchange.on_event(junk.clone(), now));
            }
            if let ExchangeEffect::Done(_) = effect {
                is_over = true;
                break;
            }
            let event = world.perform(effect);
            queue.extend(exchange.on_event(event, now));
            number += 1;
        }
        proptest::prop_assert!(is_over);
        world.check_trees();
    }
}
