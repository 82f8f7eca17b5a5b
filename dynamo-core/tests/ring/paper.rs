//! What the paper measured about placement, on our rings.

use std::collections::{BTreeMap, BTreeSet};

use dynamo_core::entropy::SplitMix;
use dynamo_core::id::NodeId;

use crate::support::{
    claim_on, counts, grown, list, loads, member, members, node, node_windows, shuffled,
};

const SERVERS: usize = 30;
const POSITIONS: usize = 960;
const N: usize = 3;

fn fresh(positions: usize, servers: usize) -> Vec<NodeId> {
    let outcome = claim_on(&vec![None; positions], &members(servers), 3);
    assert_eq!(outcome.violations, []);
    outcome.owners.into_iter().map(Option::unwrap).collect()
}

/// Mean over largest load, in thousandths.
fn efficiency_milli(owners: &[NodeId]) -> usize {
    let loads = loads(owners, N);
    let sum: usize = loads.values().sum();
    sum * 1000 / loads.len() / loads.values().max().unwrap()
}

/// H6, figure 8: strategy 3 reached 0.94 at 960 partitions; random placement, measured by the
/// same code, about that. Claim must reach 0.99, laid out at once or grown node by node.
#[test]
fn h6_load_is_balanced_better_than_by_strategy_3() {
    let random = shuffled(POSITIONS, SERVERS, &mut SplitMix::new(8));
    let paper = efficiency_milli(&random);
    assert!((900..980).contains(&paper), "the measure itself is off: {paper}");
    for owners in [fresh(POSITIONS, SERVERS), grown(POSITIONS, &members(SERVERS), 3)] {
        let efficiency = efficiency_milli(&owners);
        assert!(efficiency >= 990, "efficiency {efficiency}/1000");
    }
}

/// H6 over all sizes of figure 8 that leave every node four partitions or more, and powers of two.
#[test]
fn h6_every_metadata_size_is_balanced() {
    for positions in [120, 240, 480, 960, 1920, 3840, 7680] {
        let efficiency = efficiency_milli(&fresh(positions, SERVERS));
        assert!(efficiency >= 990, "Q = {positions}: {efficiency}/1000");
    }
    // 1024 is no multiple of 30: the best possible is 34.13 / 35.
    assert!(efficiency_milli(&fresh(1024, SERVERS)) >= 975);
}

/// T5: random strategy 3 repeats a host among the first three positions here and there, and every
/// list has three distinct hosts nevertheless; claim does not repeat.
#[test]
fn t5_lists_are_distinct_even_where_positions_repeat() {
    let random = shuffled(POSITIONS, SERVERS, &mut SplitMix::new(5));
    assert!((30..130).contains(&node_windows(&random, N)));
    for start in 0..POSITIONS {
        let distinct: BTreeSet<_> = list(&random, start, N).into_iter().collect();
        assert_eq!(distinct.len(), N);
    }
    assert_eq!(node_windows(&fresh(POSITIONS, SERVERS), N), 0);
}

/// Load of every node with one of them gone, its keys served by the next in the lists.
fn loads_without(owners: &[NodeId], gone: NodeId) -> BTreeMap<NodeId, usize> {
    let mut loads = BTreeMap::new();
    for start in 0..owners.len() {
        let active = list(owners, start, N + 1).into_iter().filter(|node| *node != gone);
        for node in active.take(N) {
            *loads.entry(node).or_default() += 1;
        }
    }
    loads
}

/// H17 (section 4.2): the load of a failed node goes to nearly all others, and none of them gets
/// much more than its part. C10: placement is scattered over many replica sets.
#[test]
fn h17_load_of_a_failed_node_is_dispersed() {
    for owners in [fresh(POSITIONS, SERVERS), grown(POSITIONS, &members(SERVERS), 3)] {
        let before = loads(&owners, N);
        for failed in 0..SERVERS {
            let after = loads_without(&owners, node(failed));
            let helpers = after.iter().filter(|(node, load)| **load > before[*node]).count();
            let hottest = after.values().max().unwrap() * 1000 * (SERVERS - 1) / (POSITIONS * N);
            assert!(helpers >= 22, "node {failed}: only {helpers} of 29 take its load");
            assert!(hottest <= 1120, "node {failed}: hottest node at {hottest}/1000 of the mean");
        }
        let copysets: BTreeSet<BTreeSet<NodeId>> =
            (0..POSITIONS).map(|start| list(&owners, start, N).into_iter().collect()).collect();
        assert!(copysets.len() >= 700, "{} copysets", copysets.len());
    }
}

/// H17 (section 4.2): a joining node takes about the same from each other node.
#[test]
fn h17_a_joiner_takes_equal_shares() {
    let owners = fresh(POSITIONS, SERVERS);
    let previous: Vec<_> = owners.iter().copied().map(Some).collect();
    let outcome = claim_on(&previous, &members(SERVERS + 1), 3);
    assert_eq!(outcome.violations, []);
    let mut given: BTreeMap<NodeId, usize> = BTreeMap::new();
    for (before, after) in owners.iter().zip(&outcome.owners) {
        if Some(*before) != *after {
            assert_eq!(*after, Some(node(SERVERS)), "only the joiner gains");
            *given.entry(*before).or_default() += 1;
        }
    }
    assert_eq!(given.values().sum::<usize>(), POSITIONS / (SERVERS + 1));
    assert!(given.values().all(|count| *count <= 2), "{given:?}");
}

/// E15: tokens are in proportion to weight, where the paper's strategy 3 has only equals.
#[test]
fn e15_tokens_are_in_proportion_to_weight() {
    let mut all = members(10);
    all[3].weight = 300;
    all[4].weight = 50;
    all.push(member(10));
    all[10].weight = 0;
    let outcome = claim_on(&vec![None; 1024], &all, 3);
    assert_eq!(outcome.violations, []);
    let owners: Vec<NodeId> = outcome.owners.into_iter().map(Option::unwrap).collect();
    let counts = counts(&owners);
    let exact = |weight: usize| 1024 * weight / 1150;
    for member in &all {
        let owned = counts.get(&member.node).copied().unwrap_or(0);
        let share = exact(member.weight as usize);
        assert!((share..=share + 1).contains(&owned) || member.weight == 0 && owned == 0);
    }
}
