//! Ownership is not possession (design of ring changes; hazard C12, invariants I-22 and I-23).
//!
//! Who *owns* a partition follows from the ring the moment a change is committed. Who *holds* it
//! is what each node advertises about itself: the partitions of which it has every record that an
//! owner must have. Between the two, data is on its way:
//!
//! - an owner that does not hold the partition is *pending*: it takes writes, its reads count for
//!   nothing;
//! - while an owner is pending, *former holders* (nodes that advertise the partition without
//!   owning it) fill the set of holders up to N and go on answering reads;
//! - a write must reach its quorum among the owners and, while that is another set, among the
//!   holders too, so that neither the readers of now nor those of later miss it.
//!
//! Any chain of ring changes works, as no history of moves is kept: owners and holders suffice.
//!
//! Where nobody advertises a partition (the advertisements have not arrived, or the data is lost
//! everywhere), reads still ask the owners and found values are served, but no node can confirm
//! that a key is absent: an empty answer proves nothing ([`ReplicaSets::confirmable`]).
//!
//! Not here: reachability, and the order to drop a former holder's copy.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::id::{NodeId, PartitionId};
use crate::ring::partition_set::PartitionSet;
use crate::ring::ring::Ring;

/// Per node the partitions it advertises to hold completely. A node that advertises nothing, or a
/// set for another ring size, holds nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Holdings {
    by_node: BTreeMap<NodeId, PartitionSet>,
}

impl Holdings {
    /// No advertisement at all.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Records what `node` advertises, in place of what it advertised before.
    pub fn set(&mut self, node: NodeId, held: PartitionSet) {
        self.by_node.insert(node, held);
    }

    /// Forgets a node.
    pub fn remove(&mut self, node: NodeId) {
        self.by_node.remove(&node);
    }

    /// What `node` advertises.
    #[must_use]
    pub fn get(&self, node: NodeId) -> Option<&PartitionSet> {
        self.by_node.get(&node)
    }

    /// Whether `node` advertises the partition.
    #[must_use]
    pub fn holds(&self, node: NodeId, partition: PartitionId) -> bool {
        self.by_node.get(&node).is_some_and(|held| held.contains(partition))
    }

    /// All advertisements, by node.
    pub fn iter(&self) -> impl Iterator<Item = (NodeId, &PartitionSet)> {
        self.by_node.iter().map(|(node, held)| (*node, held))
    }

    /// The nodes that advertise the partition, by node.
    pub fn holders_of(&self, partition: PartitionId) -> impl Iterator<Item = NodeId> + '_ {
        self.iter().filter(move |(_, held)| held.contains(partition)).map(|(node, _)| node)
    }
}

impl FromIterator<(NodeId, PartitionSet)> for Holdings {
    fn from_iter<I: IntoIterator<Item = (NodeId, PartitionSet)>>(items: I) -> Self {
        Self { by_node: items.into_iter().collect() }
    }
}

/// Which nodes take part in requests for one partition at a given N.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ReplicaSets {
    /// The first N of the preference list: those that shall hold the partition.
    pub owners: Vec<NodeId>,
    /// Owners that do not hold it yet, in order.
    pub pending: Vec<NodeId>,
    /// The nodes whose answers count for reads: owners that hold the partition and, while an
    /// owner is pending, former holders; preference-list order, at most N. Empty where nobody
    /// advertises the partition.
    pub holders: Vec<NodeId>,
    /// The rest of the preference list, in the order in which nodes stand in.
    pub fallbacks: Vec<NodeId>,
}

impl ReplicaSets {
    /// The sets in each of which a write must reach its quorum: the owners, and the holders where
    /// those are other nodes.
    #[must_use]
    pub fn write_sets(&self) -> Vec<Vec<NodeId>> {
        if self.pending.is_empty() || self.holders.is_empty() {
            return vec![self.owners.clone()];
        }
        vec![self.owners.clone(), self.holders.clone()]
    }

    /// All nodes that a write is sent to: owners in order, then the other holders.
    #[must_use]
    pub fn write_targets(&self) -> Vec<NodeId> {
        let mut targets = self.owners.clone();
        targets.extend(self.holders.iter().filter(|node| !self.owners.contains(node)));
        targets
    }

    /// Who gets a hint that was kept for `target`: the target while it takes part in writes, and
    /// otherwise those that do now. A node that has left, or that has given the partition away
    /// since, would refuse it for ever.
    #[must_use]
    pub fn hint_receivers(&self, target: NodeId) -> Vec<NodeId> {
        let targets = self.write_targets();
        if targets.contains(&target) { vec![target] } else { targets }
    }

    /// The nodes that a read asks, in order: holders, then pending owners, whose values may be
    /// used but whose answers count for nothing.
    #[must_use]
    pub fn read_targets(&self) -> Vec<NodeId> {
        self.holders.iter().chain(&self.pending).copied().collect()
    }

    /// Whether `node` saying "absent" is evidence of absence: only a holder's word is.
    #[must_use]
    pub fn confirmable(&self, node: NodeId) -> bool {
        self.holders.contains(&node)
    }

    /// Whether every owner holds the partition.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.pending.is_empty()
    }
}

/// A ring together with what its nodes hold: all that routing needs to know. Immutable; a new one
/// is built whenever the ring or an advertisement changes.
#[derive(Debug, Clone)]
pub struct Placement {
    ring: Arc<Ring>,
    holdings: Holdings,
    /// Per partition how many nodes from the start of its list hold it without gap, at most 255:
    /// the fast path of every request.
    held_prefix: Vec<u8>,
}

impl Placement {
    /// Combines the two.
    #[must_use]
    pub fn new(ring: Arc<Ring>, mut holdings: Holdings) -> Self {
        let size = ring.partitions();
        holdings.by_node.retain(|_, held| held.partitions() == size);
        let held_prefix = size
            .iter()
            .map(|partition| {
                let list = ring.preference_list(partition).as_slice();
                let held = list.iter().take_while(|node| holdings.holds(**node, partition));
                u8::try_from(held.count()).unwrap_or(u8::MAX)
            })
            .collect();
        Self { ring, holdings, held_prefix }
    }

    /// The ring.
    #[must_use]
    pub fn ring(&self) -> &Arc<Ring> {
        &self.ring
    }

    /// What the nodes advertise.
    #[must_use]
    pub fn holdings(&self) -> &Holdings {
        &self.holdings
    }

    /// Whether the first `n` nodes of the partition's list all hold it. Then owners are holders,
    /// there is one active set, and the preference list of the ring says everything. Constant
    /// time, no allocation. False on an empty ring.
    #[must_use]
    pub fn is_settled(&self, partition: PartitionId, n: u8) -> bool {
        let owners = self.ring.preference_list(partition).primaries(n).len();
        let held = self.held_prefix.get(partition.0 as usize).copied().unwrap_or(0);
        owners > 0 && usize::from(held) >= owners
    }

    /// The replica sets of a partition. Allocates; requests for a settled partition do not need
    /// it.
    #[must_use]
    pub fn replica_sets(&self, partition: PartitionId, n: u8) -> ReplicaSets {
        let list = self.ring.preference_list(partition);
        let owners = list.primaries(n).to_vec();
        let holds = |node: &NodeId| self.holdings.holds(*node, partition);
        let (mut holders, pending): (Vec<_>, Vec<_>) = owners.iter().partition(|node| holds(node));
        let mut fallbacks = list.fallbacks(n).to_vec();
        if !pending.is_empty() {
            let limit = usize::from(n);
            holders.extend(self.former_holders(partition, &owners, limit - holders.len()));
            fallbacks.retain(|node| !holders.contains(node));
        }
        ReplicaSets { owners, pending, holders, fallbacks }
    }

    /// Up to `limit` nodes that advertise the partition without being among its `owners`: in
    /// preference-list order, then those that own nothing any more, by node.
    fn former_holders(
        &self,
        partition: PartitionId,
        owners: &[NodeId],
        limit: usize,
    ) -> Vec<NodeId> {
        let mut former: Vec<NodeId> =
            self.holdings.holders_of(partition).filter(|node| !owners.contains(node)).collect();
        if former.len() > 1 {
            let near = self.ring.preference_list(partition).as_slice();
            let full;
            let list = if former.iter().all(|node| near.contains(node)) {
                near
            } else {
                full = self.ring.full_preference_list(partition);
                &full
            };
            former.sort_by_key(|node| {
                (list.iter().position(|other| other == node).unwrap_or(usize::MAX), *node)
            });
        }
        former.truncate(limit);
        former
    }
}
