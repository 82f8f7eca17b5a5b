//! What a change of the ring means: which replicas go where, and how balanced and how spread the
//! result is. This is what a plan shows before it is committed.
//!
//! Counted are replica copies, (partition, node) pairs among the first N of a list, as these are
//! what has to be copied: one changed owner changes up to N lists. Not here: bytes (the storage
//! nodes know), and who holds what ([`super::possession`]).

use std::collections::{BTreeMap, BTreeSet};

use crate::id::{NodeId, PartitionId};
use crate::ring::claim::ClaimMember;
use crate::ring::ring::Ring;

/// One replica to be copied: `to` is among the first N of the partition's list and was not before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Move {
    /// The partition to copy.
    pub partition: PartitionId,
    /// The node that becomes one of its N.
    pub to: NodeId,
    /// The node that is no longer one of its N; `None` where the list grew.
    pub replaces: Option<NodeId>,
}

/// What one node has before and after.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct NodeShare {
    /// Partitions owned (first of the list) before.
    pub owned_before: u32,
    /// Partitions owned after.
    pub owned_after: u32,
    /// Partitions among whose first N the node was.
    pub replicas_before: u32,
    /// Partitions among whose first N the node is.
    pub replicas_after: u32,
    /// Replicas it has to fetch.
    pub gained: u32,
    /// Replicas it may drop once the new owners hold them.
    pub lost: u32,
}

/// How far the replicas of the new ring are spread over failure domains. A node without zone
/// counts as a zone of its own.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ZoneSpread {
    /// Zones among the members that own partitions.
    pub zones: u32,
    /// Distinct zones that every list can have: the smaller of N and `zones`.
    pub zones_wanted: u32,
    /// Distinct nodes that every list can have: the smaller of N and the number of owners.
    pub nodes_wanted: u32,
    /// Partitions whose first N have that many zones and nodes.
    pub partitions_spread: u32,
    /// The other partitions.
    pub partitions_short: Vec<PartitionId>,
}

/// The difference of two rings of the same size, for N replicas.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RingDiff {
    /// Replicas to copy, by partition.
    pub moves: Vec<Move>,
    /// Before and after of every node of either ring, by node.
    pub shares: BTreeMap<NodeId, NodeShare>,
    /// Highest load of a node after the change in relation to its weight, in thousandths of the
    /// mean: 1000 is perfect. Load is replicas; 0 for an empty ring.
    pub load_max_milli: u64,
    /// Spread of the new ring.
    pub spread: ZoneSpread,
}

/// Rings of different sizes cannot be compared: the number of partitions is fixed for life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a ring of {old} partitions cannot become one of {new}")]
pub struct RingDiffError {
    /// Partitions of the old ring.
    pub old: u32,
    /// Partitions of the new ring.
    pub new: u32,
}

impl RingDiff {
    /// Compares two rings for `n` replicas. `members` are those of the new ring; they give weights
    /// and zones.
    ///
    /// # Errors
    /// Where the rings have different numbers of partitions.
    pub fn between(
        old: &Ring,
        new: &Ring,
        n: u8,
        members: &[ClaimMember],
    ) -> Result<Self, RingDiffError> {
        if old.partitions() != new.partitions() {
            return Err(RingDiffError { old: old.partitions().get(), new: new.partitions().get() });
        }
        let mut diff = Self::default();
        for partition in new.partitions().iter() {
            let before = old.preference_list(partition).primaries(n);
            let after = new.preference_list(partition).primaries(n);
            diff.count(before, after);
            let mut lost = before.iter().copied().filter(|node| !after.contains(node));
            for to in after.iter().copied().filter(|node| !before.contains(node)) {
                let replaces = lost.next();
                diff.moves.push(Move { partition, to, replaces });
            }
        }
        diff.load_max_milli = load_max_milli(&diff.shares, members);
        diff.spread = spread(new, n, members);
        Ok(diff)
    }

    /// The share of a node, zero for an unknown one.
    #[must_use]
    pub fn share(&self, node: NodeId) -> NodeShare {
        self.shares.get(&node).copied().unwrap_or_default()
    }

    fn count(&mut self, before: &[NodeId], after: &[NodeId]) {
        if let Some(owner) = before.first() {
            self.shares.entry(*owner).or_default().owned_before += 1;
        }
        if let Some(owner) = after.first() {
            self.shares.entry(*owner).or_default().owned_after += 1;
        }
        for node in before {
            let share = self.shares.entry(*node).or_default();
            share.replicas_before += 1;
            share.lost += u32::from(!after.contains(node));
        }
        for node in after {
            let share = self.shares.entry(*node).or_default();
            share.replicas_after += 1;
            share.gained += u32::from(!before.contains(node));
        }
    }
}

/// Highest replicas per weight in thousandths of the mean, rounded up so that only a perfect ring
/// shows 1000.
fn load_max_milli(shares: &BTreeMap<NodeId, NodeShare>, members: &[ClaimMember]) -> u64 {
    let total: u128 = shares.values().map(|share| u128::from(share.replicas_after)).sum();
    let weight_of = |member: &ClaimMember| u128::from(member.weight);
    let weights: u128 = members.iter().map(weight_of).sum();
    let loads = members.iter().filter(|member| member.weight > 0).map(|member| {
        let replicas = shares.get(&member.node).map_or(0, |share| share.replicas_after);
        let fair = total.saturating_mul(weight_of(member));
        if fair == 0 {
            return 0;
        }
        (u128::from(replicas) * weights * 1000).div_ceil(fair)
    });
    u64::try_from(loads.max().unwrap_or(0)).unwrap_or(u64::MAX)
}

/// The spread of a ring over nodes and zones.
fn spread(ring: &Ring, n: u8, members: &[ClaimMember]) -> ZoneSpread {
    let named: BTreeMap<NodeId, &str> = members
        .iter()
        .filter_map(|member| member.zone.as_deref().map(|zone| (member.node, zone)))
        .collect();
    let zones_of = |nodes: &[NodeId]| {
        let zones: BTreeSet<Result<&str, NodeId>> =
            nodes.iter().map(|node| named.get(node).copied().ok_or(*node)).collect();
        zones.len()
    };
    let zones = zones_of(ring.nodes());
    let zones_wanted = zones.min(usize::from(n));
    let nodes_wanted = ring.nodes().len().min(usize::from(n));
    let partitions_short: Vec<PartitionId> = ring
        .partitions()
        .iter()
        .filter(|partition| {
            let list = ring.preference_list(*partition).primaries(n);
            list.len() < nodes_wanted || zones_of(list) < zones_wanted
        })
        .collect();
    let short = u32::try_from(partitions_short.len()).unwrap_or(u32::MAX);
    ZoneSpread {
        zones: u32::try_from(zones).unwrap_or(u32::MAX),
        zones_wanted: u32::try_from(zones_wanted).unwrap_or(u32::MAX),
        nodes_wanted: u32::try_from(nodes_wanted).unwrap_or(u32::MAX),
        partitions_spread: ring.partitions().get() - short,
        partitions_short,
    }
}
