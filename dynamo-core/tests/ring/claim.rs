//! The promises of claim on every small size and on random histories of changes.

use std::collections::{BTreeMap, BTreeSet};

use dynamo_core::id::NodeId;
use dynamo_core::ring::{ClaimMember, ClaimOutcome, ClaimViolation};
use proptest::prelude::*;

use crate::support::{
    claim_on, counts, in_zone, list, member, members, node, node_windows, zone_shortages,
};

/// Checks everything that must hold for every outcome, and returns its owners.
fn check(outcome: &ClaimOutcome, members: &[ClaimMember], spacing: usize) -> Vec<NodeId> {
    let owners: Vec<NodeId> =
        outcome.owners.iter().map(|owner| owner.expect("every partition has an owner")).collect();
    let able: BTreeSet<NodeId> =
        members.iter().filter(|member| member.weight > 0).map(|member| member.node).collect();
    assert!(owners.iter().all(|owner| able.contains(owner)), "only members of weight own");
    let distinct = able.len().min(spacing).min(owners.len());
    for start in 0..owners.len() {
        assert_eq!(list(&owners, start, spacing).len(), distinct, "list of partition {start}");
    }
    assert_eq!(zone_shortages(&owners, members, spacing), 0, "zones of the lists");
    let windows = outcome
        .violations
        .iter()
        .filter(|violation| matches!(violation, ClaimViolation::NodeWindow { .. }))
        .count();
    assert_eq!(windows, node_windows(&owners, distinct), "violated windows are reported");
    owners
}

/// Furthest distance of a node from its exact share, in thousandths of a partition.
fn imbalance_milli(owners: &[NodeId], members: &[ClaimMember]) -> u64 {
    let counts = counts(owners);
    let weight: u64 = members.iter().map(|member| u64::from(member.weight)).sum();
    let distance = |member: &ClaimMember| {
        let exact = owners.len() as u64 * u64::from(member.weight) * 1000 / weight;
        let owned = counts.get(&member.node).copied().unwrap_or(0) as u64 * 1000;
        owned.abs_diff(exact)
    };
    members.iter().map(distance).max().unwrap_or(0)
}

/// The fewest partitions that any balanced assignment must move, each node rounded its best way.
fn moves_min(previous: &[Option<NodeId>], members: &[ClaimMember]) -> usize {
    let owned: Vec<NodeId> = previous.iter().copied().flatten().collect();
    let mut held = counts(&owned);
    let weight: usize = members.iter().map(|member| member.weight as usize).sum();
    let mut surplus = 0;
    for member in members {
        let most = (previous.len() * member.weight as usize).div_ceil(weight);
        surplus += held.remove(&member.node).unwrap_or(0).saturating_sub(most);
    }
    surplus + held.values().sum::<usize>()
}

#[test]
fn every_small_size_is_spaced_and_balanced() {
    for count in 1..=50 {
        for spacing in 1..=5_usize {
            let all = members(count);
            let outcome = claim_on(&vec![None; 256], &all, u8::try_from(spacing).unwrap());
            let owners = check(&outcome, &all, spacing);
            // Where each window must hold every node and 256 does not divide, the surplus
            // positions repeat their predecessor, in at most `spacing - 1` windows each.
            let window = spacing.min(count);
            let echoes = if count <= spacing { 256 % window } else { 0 };
            assert!(
                node_windows(&owners, window) <= echoes * (window - 1),
                "{count} nodes, spacing {spacing}"
            );
            let bound = 1000 + 1000 * echoes as u64;
            assert!(imbalance_milli(&owners, &all) <= bound, "{count} nodes, spacing {spacing}");
        }
    }
}

#[test]
fn every_number_of_zones_is_spread() {
    for zones in 1..=8 {
        for count in zones..=24 {
            let all: Vec<ClaimMember> =
                (0..count).map(|number| in_zone(number, number % zones)).collect();
            check(&claim_on(&vec![None; 128], &all, 3), &all, 3);
        }
    }
}

#[test]
fn unequal_zones_are_spread_at_the_cost_of_balance() {
    // Ten nodes in one zone, one in each of two others: the two hold a copy of everything.
    let mut all: Vec<ClaimMember> = (0..10).map(|number| in_zone(number, 0)).collect();
    all.extend([in_zone(10, 1), in_zone(11, 2)]);
    let outcome = claim_on(&vec![None; 1024], &all, 3);
    let owners = check(&outcome, &all, 3);
    let counts = counts(&owners);
    assert!(counts[&node(10)] >= 341 && counts[&node(11)] >= 341);
    let capped =
        |violation: &&ClaimViolation| matches!(violation, ClaimViolation::WeightCapped { .. });
    assert_eq!(outcome.violations.iter().filter(capped).count(), 10);
    assert!(!outcome.violations.iter().any(ClaimViolation::weakens_durability));
}

#[test]
fn a_heavy_node_is_capped_and_the_others_take_the_rest() {
    let mut all = members(6);
    all[0].weight = 10_000;
    let outcome = claim_on(&vec![None; 1024], &all, 3);
    let owners = check(&outcome, &all, 3);
    assert_eq!(node_windows(&owners, 3), 0);
    assert_eq!(counts(&owners)[&node(0)], 1024 / 3);
    let is_cap = |violation: &ClaimViolation| {
        matches!(violation, ClaimViolation::WeightCapped { node: capped, owned: 341, .. }
            if *capped == node(0))
    };
    assert!(outcome.violations.iter().any(is_cap));
}

#[test]
fn edge_cases_have_an_answer() {
    let none = claim_on(&[None; 8], &[], 3);
    assert_eq!(none.owners, [None; 8]);
    assert_eq!(none.violations, [ClaimViolation::NoMembers]);
    assert!(claim_on(&[], &members(3), 3).owners.is_empty());

    let one = claim_on(&[None; 8], &members(1), 3);
    assert_eq!(one.owners, [Some(node(0)); 8]);
    assert_eq!(one.violations, [ClaimViolation::TooFewNodes { nodes: 1, wanted: 3 }]);

    // The last member leaves: everything moves to nobody.
    let empty = claim_on(&one.owners, &[], 3);
    assert_eq!((empty.moved, empty.owners), (8, vec![None; 8]));

    // More nodes than partitions, and spacing 0, which counts as 1.
    let crowd = members(20);
    check(&claim_on(&[None; 8], &crowd, 3), &crowd, 3);
    let all = members(3);
    check(&claim_on(&[None; 8], &all, 0), &all, 1);

    // All weights zero count as all equal.
    let idle: Vec<ClaimMember> =
        members(4).into_iter().map(|member| ClaimMember { weight: 0, ..member }).collect();
    let owners = claim_on(&[None; 8], &idle, 3).owners;
    assert!(owners.iter().all(Option::is_some));
}

#[test]
fn a_ring_that_is_fine_stays_as_it_is() {
    let zoned: Vec<ClaimMember> = (0..9).map(|number| in_zone(number, number % 3)).collect();
    for all in [members(3), members(7), zoned] {
        let first = claim_on(&[None; 64], &all, 3);
        let mut reversed = all.clone();
        reversed.reverse();
        let again = claim_on(&first.owners, &reversed, 3);
        assert_eq!((again.moved, &again.owners), (0, &first.owners));
    }
}

/// A host replaced by a new one in the same zone: its partitions move, hardly any other.
#[test]
fn a_replacement_takes_over_what_was_lost() {
    let all: Vec<ClaimMember> = (0..9).map(|number| in_zone(number, number % 3)).collect();
    let first = claim_on(&vec![None; 1024], &all, 3);
    let mut replaced = all.clone();
    replaced[4] = in_zone(99, 1);
    let second = claim_on(&first.owners, &replaced, 3);
    check(&second, &replaced, 3);
    let lost = first.owners.iter().filter(|owner| **owner == Some(node(4))).count();
    assert!(second.moved as usize <= lost + 2, "{} moved for {lost}", second.moved);
}

/// The largest ring that is allowed keeps its promises too, and moves the minimum.
#[test]
fn the_largest_ring_moves_little() {
    let all: Vec<ClaimMember> = (0..1000).map(|number| in_zone(number, number % 4)).collect();
    let first = claim_on(&vec![None; 65_536], &all[..999], 3);
    let joined = claim_on(&first.owners, &all, 3);
    assert!(joined.moved <= 200, "{} moved on a join", joined.moved);
    let left = claim_on(&joined.owners, &all[1..], 3);
    assert!(left.moved <= 400, "{} moved on a leave", left.moved);
    assert!(!left.violations.iter().any(ClaimViolation::weakens_durability));
}

/// A change of the membership, resolved against the members at its turn.
#[derive(Debug, Clone)]
enum Change {
    Join { weight: u32, zone: usize },
    Leave(prop::sample::Index),
    Replace(prop::sample::Index),
    SetWeight(prop::sample::Index, u32),
    SetZone(prop::sample::Index, usize),
}

fn change() -> impl Strategy<Value = Change> {
    let weight = 50..200_u32;
    let index = any::<prop::sample::Index>;
    prop_oneof![
        5 => (weight.clone(), 0..8_usize).prop_map(|(weight, zone)| Change::Join { weight, zone }),
        2 => index().prop_map(Change::Leave),
        1 => index().prop_map(Change::Replace),
        1 => (index(), weight).prop_map(|(index, weight)| Change::SetWeight(index, weight)),
        1 => (index(), 0..8_usize).prop_map(|(index, zone)| Change::SetZone(index, zone)),
    ]
}

/// Applies a change; `zones` is the number of zones in the history, 0 for none.
fn apply(change: &Change, all: &mut Vec<ClaimMember>, next: &mut usize, zones: usize) {
    let zone = |number: usize| (zones > 0).then(|| format!("zone-{}", number % zones.max(1)));
    *next += 1;
    match change {
        Change::Join { weight, zone: number } => {
            all.push(ClaimMember { weight: *weight, zone: zone(*number), ..member(*next) });
        }
        Change::Leave(index) if all.len() > 1 => {
            all.remove(index.index(all.len()));
        }
        Change::Replace(index) if !all.is_empty() => {
            let place = index.index(all.len());
            all[place].node = node(*next);
        }
        Change::SetWeight(index, weight) if !all.is_empty() => {
            let place = index.index(all.len());
            all[place].weight = *weight;
        }
        Change::SetZone(index, number) if !all.is_empty() => {
            let place = index.index(all.len());
            all[place].zone = zone(*number);
        }
        _ => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Random histories without zones: distinct windows, balance within one partition unless a
    /// cap binds, and movement near the minimum.
    #[test]
    fn histories_without_zones(
        changes in prop::collection::vec(change(), 1..24),
        spacing in 1..=4_usize,
        positions in prop::sample::select(vec![64_usize, 256, 960]),
    ) {
        let (mut all, mut next) = (Vec::new(), 0);
        let mut previous = vec![None; positions];
        let mut totals = (0, 0);
        for change in &changes {
            apply(change, &mut all, &mut next, 0);
            if all.is_empty() {
                continue;
            }
            let outcome = claim_on(&previous, &all, u8::try_from(spacing).unwrap());
            let again = claim_on(&previous, &all, u8::try_from(spacing).unwrap());
            prop_assert_eq!(&outcome, &again);
            let owners = check(&outcome, &all, spacing);
            let heaviest = all.iter().map(|member| member.weight as usize).max().unwrap_or(0);
            let weight: usize = all.iter().map(|member| member.weight as usize).sum();
            // With slack, neither spacing nor caps bind.
            if all.len() > 2 * spacing && heaviest * (spacing + 1) < weight {
                prop_assert_eq!(node_windows(&owners, spacing), 0);
                prop_assert!(imbalance_milli(&owners, &all) <= 1000);
                totals.0 += outcome.moved as usize;
                totals.1 += moves_min(&previous, &all) + 2;
            }
            previous = outcome.owners;
        }
        prop_assert!(
            totals.0 <= totals.1 * 3 / 2 + positions / 8,
            "moved {} where {} suffice", totals.0, totals.1
        );
    }

    /// Random histories with zones: every list is on as many zones as there are.
    #[test]
    fn histories_with_zones(
        changes in prop::collection::vec(change(), 1..20),
        zones in 2..=8_usize,
        spacing in 2..=4_usize,
        positions in prop::sample::select(vec![64_usize, 128, 256]),
    ) {
        let (mut all, mut next) = (Vec::new(), 0);
        let mut previous = vec![None; positions];
        for change in &changes {
            apply(change, &mut all, &mut next, zones);
            if all.is_empty() {
                continue;
            }
            let outcome = claim_on(&previous, &all, u8::try_from(spacing).unwrap());
            check(&outcome, &all, spacing);
            previous = outcome.owners;
        }
    }

    /// Any previous table, also one that no claim made, is brought in order.
    #[test]
    fn any_table_is_put_in_order(
        table in prop::collection::vec(prop::option::of(0..12_usize), 64),
        count in 1..12_usize,
    ) {
        let previous: Vec<Option<NodeId>> = table.iter().map(|owner| owner.map(node)).collect();
        let all = members(count);
        let owners = check(&claim_on(&previous, &all, 3), &all, 3);
        if count > 3 {
            prop_assert_eq!(node_windows(&owners, 3), 0);
        }
        let sizes: BTreeMap<NodeId, usize> = counts(&owners);
        prop_assert_eq!(sizes.values().sum::<usize>(), 64);
    }
}
