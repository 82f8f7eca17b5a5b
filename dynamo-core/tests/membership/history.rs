//! The history is a join semilattice, and the ring a function of it.

use std::collections::BTreeSet;

use dynamo_core::entropy::{Entropy, SplitMix};
use dynamo_core::limits::{CHANGES_MAX, HISTORY_EVENTS_MAX};
use dynamo_core::membership::fold::{Fold, FoldCache, Skip};
use dynamo_core::membership::history::{Change, Event, EventError, EventId, History, HistoryError};
use dynamo_core::ring::RingVersion;
use proptest::prelude::*;

use crate::support::{event, founded, init, joiner, node};

fn union(mut into: History, from: &History) -> History {
    for event in from.events() {
        into.insert((**event).clone()).unwrap();
    }
    into
}

/// Histories of several issuers that commit concurrently and sometimes merge, from one seed.
fn concurrent_histories(seed: u64, steps: usize) -> Vec<History> {
    let mut rng = SplitMix::new(seed);
    let mut histories = vec![founded(4); 4];
    for _ in 0..steps {
        let at = rng.below(4) as usize;
        if rng.chance(1, 3) {
            let other = histories[rng.below(4) as usize].clone();
            histories[at] = union(histories[at].clone(), &other);
            continue;
        }
        let subject = rng.below(9) as usize;
        let change = match rng.below(6) {
            0 | 1 => Change::Join { joiner: joiner(subject) },
            2 => Change::Leave { node: node(subject), forced: rng.chance(1, 2) },
            3 => Change::Replace { node: node(subject), joiner: joiner(rng.below(9) as usize) },
            4 => Change::SetWeight { node: node(subject), weight: rng.below(300) as u32 },
            _ => Change::SetZone { node: node(subject), zone: Some(format!("z{}", rng.below(4))) },
        };
        let next = event(&histories[at], node(at), vec![change]);
        histories[at].insert(next).unwrap();
    }
    histories
}

fn fold(history: &History) -> Fold {
    let mut result = None;
    for (index, event) in history.events().enumerate() {
        result = Fold::after(result.as_ref(), event, history.version_at(index + 1));
    }
    result.unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn merging_is_a_join(seed in any::<u64>(), steps in 1_usize..14) {
        let [a, b, c, d]: [History; 4] =
            concurrent_histories(seed, steps).try_into().unwrap();
        let ab = union(a.clone(), &b);
        prop_assert_eq!(&union(b.clone(), &a), &ab);
        prop_assert_eq!(&union(ab.clone(), &b), &ab);
        let left = union(union(ab.clone(), &c), &d);
        let right = union(union(d, &c), &union(b, &a));
        prop_assert_eq!(left.version(), right.version());
        prop_assert_eq!(&left, &right);
        // A digest says exactly what is missing.
        prop_assert!(left.missing(&left.digest()).next().is_none());
        let missing: Vec<Event> = left.missing(&a.digest()).map(|e| (**e).clone()).collect();
        let mut grown = a;
        for event in missing {
            prop_assert!(grown.insert(event).unwrap());
        }
        prop_assert_eq!(grown, left);
    }

    #[test]
    fn equal_histories_have_equal_rings(seed in any::<u64>(), steps in 1_usize..14) {
        let histories = concurrent_histories(seed, steps);
        let mut cache = FoldCache::default();
        let mut merged = founded(4);
        for history in &histories {
            // Folded step by step with a cache, in the order of arrival.
            merged = union(merged, history);
            prop_assert_eq!(&*cache.fold(&merged).unwrap(), &fold(&merged));
        }
        let reversed =
            histories.iter().rev().fold(founded(4), union);
        prop_assert_eq!(fold(&reversed), fold(&merged));
    }

    /// I-21 and I-25 on every node's own view, at every step.
    #[test]
    fn no_partition_is_without_owner_and_nobody_returns(
        seed in any::<u64>(),
        steps in 1_usize..14,
    ) {
        for history in concurrent_histories(seed, steps) {
            let mut before: Option<Fold> = None;
            for (index, event) in history.events().enumerate() {
                let version = history.version_at(index + 1);
                let after = Fold::after(before.as_ref(), event, version).unwrap();
                for partition in after.partitions().iter() {
                    let owner = after.ring.owner(partition).unwrap();
                    prop_assert!(after.members.contains_key(&owner));
                    let list = after.ring.preference_list(partition).as_slice();
                    let distinct: BTreeSet<_> = list.iter().collect();
                    prop_assert_eq!(distinct.len(), list.len());
                    prop_assert!(list.len() >= after.ring.nodes().len().min(3));
                }
                if let Some(before) = &before {
                    for left in before.former.keys() {
                        prop_assert!(after.former.contains_key(left));
                        prop_assert!(!after.members.contains_key(left));
                    }
                }
                before = Some(after);
            }
        }
    }
}

#[test]
fn concurrent_commits_on_one_parent_are_ordered() {
    let base = founded(3);
    let (mut a, mut b) = (base.clone(), base.clone());
    a.insert(event(&base, node(1), vec![Change::Join { joiner: joiner(3) }])).unwrap();
    let mut rival = joiner(3);
    rival.weight = 50;
    b.insert(event(&base, node(2), vec![Change::Join { joiner: rival }])).unwrap();
    let merged = union(a, &b);
    let fold = fold(&merged);
    let first = node(1).min(node(2));
    let expected = if first == node(1) { 100 } else { 50 };
    assert_eq!(fold.members[&node(3)].weight, expected, "the first in order wins");
    let reasons: Vec<Skip> = fold.skipped.iter().map(|skipped| skipped.reason).collect();
    assert_eq!(reasons, [Skip::AlreadyKnown], "the other is skipped, and says why");
}

#[test]
fn changes_that_are_illegal_at_their_place_are_skipped() {
    let check = |changes: Vec<Change>, reason: Skip| {
        let mut history = founded(2);
        history.insert(event(&history, node(0), changes)).unwrap();
        let fold = fold(&history);
        assert_eq!(fold.skipped.last().map(|skipped| skipped.reason), Some(reason));
    };
    let leave = |index: usize, forced| Change::Leave { node: node(index), forced };
    check(vec![leave(5, false)], Skip::NotMember);
    check(vec![leave(0, false), leave(1, true)], Skip::LastMember);
    check(vec![leave(0, true), Change::Join { joiner: joiner(0) }], Skip::AlreadyKnown);
    let same_name = Change::Join {
        joiner: dynamo_core::membership::history::Joiner { name: "n0".into(), ..joiner(5) },
    };
    check(vec![same_name], Skip::NameTaken);
    check(vec![Change::Replace { node: node(5), joiner: joiner(6) }], Skip::NotMember);
    check(vec![Change::SetWeight { node: node(5), weight: 1 }], Skip::NotMember);
}

#[test]
fn a_replaced_node_hands_over_its_positions_and_nothing_else_moves() {
    let mut history = founded(4);
    let before = fold(&history);
    let mut successor = joiner(7);
    successor.zone.clone_from(&joiner(1).zone);
    let change = Change::Replace { node: node(1), joiner: successor };
    history.insert(event(&history, node(0), vec![change])).unwrap();
    let after = fold(&history);
    for (old, new) in before.ring.owners().zip(after.ring.owners()) {
        let expected = if old == Some(node(1)) { Some(node(7)) } else { old };
        assert_eq!(new, expected);
    }
    assert!(!after.former[&node(1)].forced, "the replaced node still answers for what it holds");
}

/// I-21, rows 107 and 109: what no correct node issues is refused, whatever the rest says.
#[test]
fn forged_events_are_refused() {
    let base = founded(3);
    let good = event(&base, node(1), vec![Change::Leave { node: node(2), forced: false }]);
    let check = |change: &dyn Fn(&mut Event), expected: HistoryError| {
        let mut forged = good.clone();
        change(&mut forged);
        let mut history = base.clone();
        assert_eq!(history.insert(forged), Err(expected));
        assert_eq!(history, base, "nothing was taken");
    };
    let order = HistoryError::Event(EventError::Order);
    check(&|e| e.id.lamport = HISTORY_EVENTS_MAX as u64 + 1, order);
    check(&|e| e.id.lamport = u64::MAX, order);
    check(&|e| e.seq = 0, order);
    check(&|e| e.seq = 3, order);
    check(&|e| e.parent = RingVersion::default(), HistoryError::Event(EventError::Founding));
    check(&|e| e.changes.clear(), HistoryError::Event(EventError::Changes));
    let million = |e: &mut Event| e.changes = vec![e.changes[0].clone(); CHANGES_MAX + 1];
    check(&million, HistoryError::Event(EventError::Changes));
    check(&|e| e.changes.push(init()), HistoryError::Event(EventError::Founding));
    let gap = HistoryError::Gap { issuer: node(1), after: 0, seq: 2 };
    check(&|e| e.seq = 2, gap);
    let second_founding = |e: &mut Event| {
        e.id = EventId { lamport: 1, issuer: node(2) };
        e.parent = RingVersion::default();
        e.changes = vec![init()];
    };
    check(&second_founding, HistoryError::OtherCluster);
    let huge = |e: &mut Event| {
        e.changes = vec![Change::SetWeight { node: node(0), weight: u32::MAX }];
    };
    let member = dynamo_core::membership::member::MemberError::Weight;
    check(&huge, HistoryError::Event(EventError::Member(member)));
}

/// A node is replaced on one host while its successor joins by itself on another: whichever event
/// comes first, the node has left, and the successor is a member once.
#[test]
fn a_replaced_node_has_left_also_where_its_successor_joined_meanwhile() {
    let base = founded(3);
    let replace = vec![Change::Replace { node: node(2), joiner: joiner(3) }];
    let join = vec![Change::Join { joiner: joiner(3) }];
    for (first, second) in [(node(0), node(1)), (node(1), node(0))] {
        let mut history = base.clone();
        history.insert(event(&base, first, join.clone())).unwrap();
        history.insert(event(&base, second, replace.clone())).unwrap();
        let fold = FoldCache::default().fold(&history).unwrap();
        let members: BTreeSet<_> = fold.members.keys().copied().collect();
        let expected = BTreeSet::from([node(0), node(1), node(3)]);
        assert_eq!(members, expected, "join issued by {first}");
        assert!(fold.former.contains_key(&node(2)));
        assert!(!fold.ring.nodes().contains(&node(2)));
    }
}

#[test]
fn two_different_events_with_one_number_are_a_conflict() {
    let mut history = founded(3);
    let base = history.clone();
    let leave = |forced| Change::Leave { node: node(2), forced };
    history.insert(event(&base, node(1), vec![leave(false)])).unwrap();
    let other = event(&base, node(1), vec![leave(true)]);
    assert_eq!(
        history.insert(other),
        Err(HistoryError::Conflict { issuer: node(1), seq: 1 }),
        "a copied or restored data directory does not rewrite history"
    );
}

#[test]
fn nothing_comes_before_the_founding() {
    let first = founded(2).events().next().unwrap().as_ref().clone();
    let later = event(&founded(2), node(1), vec![Change::Leave { node: node(0), forced: true }]);
    let mut history = History::new();
    assert_eq!(history.insert(later.clone()), Err(HistoryError::OtherCluster));
    assert_eq!(history.insert(first.clone()), Ok(true));
    assert_eq!(history.insert(later), Ok(true));
    assert_eq!(history.insert(first), Ok(false), "known events are no news");
    assert!(history.cluster().is_some());
}

/// The form that is hashed, stored and gossiped. If this fails, old files and peers are lost.
#[test]
fn events_have_their_golden_form() {
    let mut history = founded(1);
    let changes = vec![
        Change::Join { joiner: joiner(1) },
        Change::Leave { node: node(0), forced: true },
        Change::Replace { node: node(1), joiner: joiner(2) },
        Change::SetWeight { node: node(2), weight: 5 },
        Change::SetZone { node: node(2), zone: None },
        Change::SetAddress { node: node(2), addresses: joiner(3).addresses },
    ];
    history.insert(event(&history, node(0), changes)).unwrap();
    let lines: Vec<String> = history
        .events()
        .map(|event| String::from_utf8(event.encode()).unwrap())
        .chain([history.version().to_string()])
        .collect();
    let golden = include_str!("../../testdata/membership/events.ndjson");
    assert_eq!(lines.join("\n") + "\n", golden);
    for line in golden.lines().take(2) {
        let event: Event = serde_json::from_str(line).unwrap();
        assert_eq!(event.encode(), line.as_bytes());
    }
    assert!(
        serde_json::from_str::<Event>(&lines[1].replace("set_zone", "set_moon")).is_err(),
        "unknown kinds are refused"
    );
}
