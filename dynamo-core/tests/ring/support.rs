//! Shared measures: what a ring promises, computed from the owners alone and not by the code under
//! test.

use std::collections::{BTreeMap, BTreeSet};

use dynamo_core::entropy::{Entropy, SplitMix};
use dynamo_core::id::NodeId;
use dynamo_core::ring::{ClaimInput, ClaimMember, ClaimOutcome, claim};

pub(crate) fn node(number: usize) -> NodeId {
    // Spread over the id space, so that the order of ids is not the order of joining.
    NodeId(u128::from(number as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835))
}

pub(crate) fn member(number: usize) -> ClaimMember {
    ClaimMember { node: node(number), weight: 100, zone: None }
}

pub(crate) fn members(count: usize) -> Vec<ClaimMember> {
    (0..count).map(member).collect()
}

pub(crate) fn in_zone(number: usize, zone: usize) -> ClaimMember {
    ClaimMember { zone: Some(format!("zone-{zone}")), ..member(number) }
}

pub(crate) fn claim_on(
    previous: &[Option<NodeId>],
    members: &[ClaimMember],
    spacing: u8,
) -> ClaimOutcome {
    claim(&ClaimInput { previous, members, spacing })
}

/// A ring grown to `count` members one join at a time.
pub(crate) fn grown(partitions: usize, all: &[ClaimMember], spacing: u8) -> Vec<NodeId> {
    let mut owners = vec![None; partitions];
    for count in 1..=all.len() {
        owners = claim_on(&owners, &all[..count], spacing).owners;
    }
    owners.into_iter().map(Option::unwrap).collect()
}

/// The first `n` distinct nodes clockwise, by the plainest possible walk.
pub(crate) fn list(owners: &[NodeId], start: usize, n: usize) -> Vec<NodeId> {
    let mut met = Vec::new();
    for step in 0..owners.len() {
        let owner = owners[(start + step) % owners.len()];
        if met.len() < n && !met.contains(&owner) {
            met.push(owner);
        }
    }
    met
}

pub(crate) fn counts(owners: &[NodeId]) -> BTreeMap<NodeId, usize> {
    let mut counts = BTreeMap::new();
    for owner in owners {
        *counts.entry(*owner).or_default() += 1;
    }
    counts
}

/// Windows of `n` positions with a repeated node.
pub(crate) fn node_windows(owners: &[NodeId], n: usize) -> usize {
    let len = owners.len();
    (0..len)
        .filter(|start| {
            let window: BTreeSet<_> = (0..n).map(|step| owners[(start + step) % len]).collect();
            window.len() < n
        })
        .count()
}

/// Lists of `n` nodes on fewer zones than there could be; a node without zone is its own zone.
pub(crate) fn zone_shortages(owners: &[NodeId], members: &[ClaimMember], n: usize) -> usize {
    let zone_of: BTreeMap<NodeId, String> = members
        .iter()
        .filter(|member| member.weight > 0)
        .map(|member| {
            let own = format!("own-{}", member.node);
            (member.node, member.zone.clone().map_or(own, |zone| format!("named-{zone}")))
        })
        .collect();
    let zones = zone_of.values().collect::<BTreeSet<_>>().len();
    let wanted = zones.min(n).min(zone_of.len());
    (0..owners.len())
        .filter(|start| {
            let list = list(owners, *start, n);
            list.iter().map(|node| &zone_of[node]).collect::<BTreeSet<_>>().len() < wanted
        })
        .count()
}

/// Load of the nodes as the paper's figure 8 counts it: partitions for which a node is among the
/// first `n` distinct ones.
pub(crate) fn loads(owners: &[NodeId], n: usize) -> BTreeMap<NodeId, usize> {
    let mut loads = BTreeMap::new();
    for start in 0..owners.len() {
        for node in list(owners, start, n) {
            *loads.entry(node).or_default() += 1;
        }
    }
    loads
}

/// The paper's strategy 3: equal numbers of tokens, randomly placed.
pub(crate) fn shuffled(positions: usize, servers: usize, rng: &mut SplitMix) -> Vec<NodeId> {
    let mut owners: Vec<NodeId> = (0..positions).map(|index| node(index % servers)).collect();
    for last in (1..positions).rev() {
        owners.swap(last, usize::try_from(rng.below(last as u64 + 1)).unwrap());
    }
    owners
}
