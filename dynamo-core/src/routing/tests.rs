use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::entropy::SplitMix;

fn nodes(ids: &[u128]) -> Vec<NodeId> {
    ids.iter().map(|id| NodeId(*id)).collect()
}

fn settled(n: u128, all: u128) -> ReplicaSets {
    let owners = nodes(&(1..=n).collect::<Vec<_>>());
    let fallbacks = nodes(&(n + 1..=all).collect::<Vec<_>>());
    ReplicaSets { holders: owners.clone(), owners, pending: Vec::new(), fallbacks }
}

const IDLE: NodeLoad = NodeLoad { reachable: true, slow: false, in_flight: 0, latency_us: 500 };

struct Case {
    name: &'static str,
    sets: ReplicaSets,
    purpose: Purpose,
    preferred: Option<u128>,
    loads: &'static [(u128, NodeLoad)],
    first: &'static [u128],
    last: Option<u128>,
    reason: ChoiceReason,
}

fn check(case: &Case) {
    let loads: BTreeMap<u128, NodeLoad> = case.loads.iter().copied().collect();
    let load = |node: NodeId| loads.get(&node.0).copied().unwrap_or(IDLE);
    let mut seen = BTreeSet::new();
    for seed in 0..200 {
        let order = coordinator_order(
            &case.sets,
            case.purpose,
            case.preferred.map(NodeId),
            load,
            &mut SplitMix::new(seed),
        );
        let distinct: BTreeSet<_> = order.nodes.iter().collect();
        assert_eq!(distinct.len(), order.nodes.len(), "{} seed {seed}: {order:?}", case.name);
        let all: BTreeSet<_> = case.sets.owners.iter().chain(&case.sets.holders).collect();
        assert!(all.is_subset(&distinct), "{} seed {seed}: {order:?}", case.name);
        assert_eq!(order.reason, case.reason, "{} seed {seed}: {order:?}", case.name);
        let reach: Vec<bool> = order.nodes.iter().map(|n| load(*n).reachable).collect();
        assert!(reach.is_sorted_by(|a, b| a >= b), "{} seed {seed}: {order:?}", case.name);
        if let Some(last) = case.last {
            assert_eq!(order.nodes.last(), Some(&NodeId(last)), "{} seed {seed}", case.name);
        }
        seen.extend(order.nodes.first().map(|node| node.0));
    }
    let expected: BTreeSet<u128> = case.first.iter().copied().collect();
    assert_eq!(seen, expected, "{}", case.name);
}

const DOWN: NodeLoad = NodeLoad { reachable: false, ..IDLE };
const SLOW: NodeLoad = NodeLoad { slow: true, ..IDLE };
const CROWDED: NodeLoad = NodeLoad { in_flight: 100, ..IDLE };
const FAST: NodeLoad = NodeLoad { latency_us: 100, ..IDLE };

#[test]
#[expect(clippy::too_many_lines, reason = "a table of cases")]
fn the_order_follows_the_rules() {
    use ChoiceReason::{BetterOfTwo, Fallback, Fastest, LastResort, OnlyPrimary};
    use Purpose::{Read, Write};
    let moving = ReplicaSets {
        owners: nodes(&[1, 2, 9]),
        pending: nodes(&[9]),
        holders: nodes(&[1, 2, 3]),
        fallbacks: nodes(&[4]),
    };
    let fresh = ReplicaSets {
        owners: nodes(&[1, 2, 3]),
        pending: nodes(&[1, 2, 3]),
        holders: Vec::new(),
        fallbacks: nodes(&[4]),
    };
    let case = |name, sets: &ReplicaSets, purpose, preferred, loads, first, last, reason| Case {
        name,
        sets: sets.clone(),
        purpose,
        preferred,
        loads,
        first,
        last,
        reason,
    };
    let five = settled(3, 5);
    let cases = [
        case("equal loads share", &five, Write, None, &[], &[1, 2, 3], None, BetterOfTwo),
        case(
            "the slowest never wins",
            &five,
            Write,
            None,
            &[(1, CROWDED)],
            &[2, 3],
            None,
            BetterOfTwo,
        ),
        case(
            "latency counts",
            &five,
            Read,
            None,
            &[(2, FAST), (3, FAST)],
            &[2, 3],
            None,
            BetterOfTwo,
        ),
        case("slow goes last", &five, Write, None, &[(2, SLOW)], &[1, 3], None, BetterOfTwo),
        case(
            "prompt before slow",
            &five,
            Write,
            None,
            &[(1, SLOW), (2, SLOW)],
            &[3],
            None,
            BetterOfTwo,
        ),
        case(
            "the fastest is slow",
            &five,
            Write,
            Some(1),
            &[(1, SLOW)],
            &[2, 3],
            None,
            BetterOfTwo,
        ),
        case(
            "all slow",
            &five,
            Write,
            None,
            &[(1, SLOW), (2, SLOW), (3, SLOW)],
            &[1, 2, 3],
            None,
            BetterOfTwo,
        ),
        case("the context decides", &five, Write, Some(2), &[], &[2], None, Fastest),
        case("not an owner", &five, Write, Some(4), &[], &[1, 2, 3], None, BetterOfTwo),
        case("a stranger", &five, Write, Some(77), &[], &[1, 2, 3], None, BetterOfTwo),
        case(
            "the fastest is down",
            &five,
            Write,
            Some(2),
            &[(2, DOWN)],
            &[1, 3],
            Some(2),
            BetterOfTwo,
        ),
        case(
            "the fastest is crowded",
            &five,
            Write,
            Some(2),
            &[(2, CROWDED)],
            &[1, 3],
            None,
            BetterOfTwo,
        ),
        case("one left", &five, Write, None, &[(1, DOWN), (2, DOWN)], &[3], Some(2), OnlyPrimary),
        case(
            "stand in",
            &five,
            Write,
            None,
            &[(1, DOWN), (2, DOWN), (3, DOWN)],
            &[4],
            Some(3),
            Fallback,
        ),
        case(
            "nothing reachable",
            &settled(1, 2),
            Write,
            None,
            &[(1, DOWN), (2, DOWN)],
            &[1],
            Some(2),
            LastResort,
        ),
        case("reads ask holders", &moving, Read, None, &[], &[1, 2, 3], Some(4), BetterOfTwo),
        case("writes ask holding owners", &moving, Write, None, &[], &[1, 2], Some(3), BetterOfTwo),
        case(
            "a pending owner is next",
            &moving,
            Write,
            None,
            &[(1, DOWN), (2, DOWN)],
            &[9],
            None,
            Fallback,
        ),
        case("nobody holds", &fresh, Write, None, &[], &[1, 2, 3], Some(4), BetterOfTwo),
        case("nobody holds, read", &fresh, Read, None, &[], &[1, 2, 3], Some(4), BetterOfTwo),
    ];
    for case in &cases {
        check(case);
    }
}

#[test]
fn an_empty_ring_has_no_coordinator() {
    let order = coordinator_order(
        &ReplicaSets::default(),
        Purpose::Write,
        None,
        |_| IDLE,
        &mut SplitMix::new(1),
    );
    assert_eq!(order.nodes, Vec::new());
    assert_eq!(order.reason, ChoiceReason::LastResort);
}

#[test]
fn silence_makes_a_slow_node_worth_a_try() {
    let slow = Duration::from_millis(80);
    let cases = [(0, 80_000), (1, 80_000), (2, 40_000), (5, 20_000), (60, 0), (10_000, 0)];
    for (silence_s, expected) in cases {
        let got = aged_latency(slow, Duration::from_secs(silence_s));
        assert_eq!(got, expected, "after {silence_s} s");
    }
}
