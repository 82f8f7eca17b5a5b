//! Where a finished assignment falls short, judged on the whole ring as requests will see it.

use std::collections::BTreeSet;

use super::board::Layout;
use super::{ClaimInput, ClaimViolation};
use crate::id::{NodeId, PartitionId};

/// The verdict on a ring without members.
pub(super) fn without_members(input: &ClaimInput<'_>) -> Vec<ClaimViolation> {
    if input.previous.is_empty() { Vec::new() } else { vec![ClaimViolation::NoMembers] }
}

/// All violations of a complete assignment, in the order of their kind, then of position or node.
pub(super) fn violations(
    layout: &Layout,
    owners: &[Option<NodeId>],
    asked_spacing: u8,
) -> Vec<ClaimViolation> {
    let mut found = Vec::new();
    if layout.nodes.len() < usize::from(asked_spacing) {
        found.push(ClaimViolation::TooFewNodes {
            nodes: count(layout.nodes.len()),
            wanted: u32::from(asked_spacing),
        });
    }
    let members: Vec<usize> = owners
        .iter()
        .flatten()
        .filter_map(|owner| layout.nodes.binary_search(owner).ok())
        .collect();
    found.extend(node_windows(layout, &members));
    found.extend(zone_windows(layout, &members));
    found.extend(shares(layout, &members));
    found
}

/// Windows in which a node occurs twice.
fn node_windows(layout: &Layout, members: &[usize]) -> Vec<ClaimViolation> {
    let repeats = |start: &usize| {
        let window = (0..layout.spacing).map(|step| members[(start + step) % members.len()]);
        window.collect::<BTreeSet<_>>().len() < layout.spacing
    };
    let starts = (0..members.len()).filter(repeats);
    starts.map(|start| ClaimViolation::NodeWindow { partition: partition(start) }).collect()
}

/// Lists whose first `spacing` distinct nodes are on too few zones.
fn zone_windows(layout: &Layout, members: &[usize]) -> Vec<ClaimViolation> {
    let wanted = layout.zone_spread();
    let mut found = Vec::new();
    for start in 0..members.len() {
        let (mut nodes, mut zones) = (BTreeSet::new(), BTreeSet::new());
        for step in 0..members.len() {
            let member = members[(start + step) % members.len()];
            if nodes.insert(member) {
                zones.insert(layout.zone_of[member]);
            }
            if nodes.len() == layout.spacing {
                break;
            }
        }
        if zones.len() < wanted {
            found.push(ClaimViolation::ZoneWindow {
                partition: partition(start),
                zones: count(zones.len()),
                wanted: count(wanted),
            });
        }
    }
    found
}

/// Nodes that own more than one partition below or above their exact share.
fn shares(layout: &Layout, members: &[usize]) -> Vec<ClaimViolation> {
    let mut owned = vec![0_u32; layout.nodes.len()];
    for member in members {
        owned[*member] += 1;
    }
    let weight: u64 = layout.weights.iter().map(|weight| u64::from(*weight)).sum();
    let mut found = Vec::new();
    for (member, node) in layout.nodes.iter().enumerate() {
        let exact = members.len() as u64 * u64::from(layout.weights[member]);
        let (node, owned) = (*node, owned[member]);
        let share = u32::try_from(exact / weight.max(1)).unwrap_or(u32::MAX);
        let has = u64::from(owned) * weight;
        if has + weight < exact {
            found.push(ClaimViolation::WeightCapped { node, owned, share });
        } else if has > exact + weight {
            found.push(ClaimViolation::Imbalance { node, owned, share });
        }
    }
    found
}

fn partition(position: usize) -> PartitionId {
    PartitionId(count(position))
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
