//! Who is responsible for a partition, in order (paper section 4.3), and who acts right now (4.6).
//!
//! The preference list of a partition is the distinct nodes met clockwise from it, its owner
//! first; positions whose node was met before are skipped. The first N are primaries, the rest are
//! fallbacks in order. The active list of a request is the first N *reachable* nodes: reachable
//! primaries keep their place, and each unreachable primary is replaced, in order, by the next
//! reachable fallback, which holds the replica for it with a hint.
//!
//! Invariant: no list names a node twice. Not here: what "reachable" means; every process judges
//! that by its own traffic and passes it in.

use std::collections::BTreeSet;

use crate::id::{NodeId, PartitionId};
use crate::ring::ring::Ring;

/// The beginning of a preference list; a view into the ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PreferenceList<'a> {
    nodes: &'a [NodeId],
}

impl<'a> PreferenceList<'a> {
    pub(in crate::ring) fn new(nodes: &'a [NodeId]) -> Self {
        Self { nodes }
    }

    /// The distinct nodes in order.
    #[must_use]
    pub fn as_slice(self) -> &'a [NodeId] {
        self.nodes
    }

    /// The first `n` nodes: those that should hold a replica. Fewer where the ring has fewer.
    #[must_use]
    pub fn primaries(self, n: u8) -> &'a [NodeId] {
        self.nodes.get(..usize::from(n)).unwrap_or(self.nodes)
    }

    /// The nodes after the first `n`, in the order in which they stand in for primaries.
    #[must_use]
    pub fn fallbacks(self, n: u8) -> &'a [NodeId] {
        self.nodes.get(usize::from(n)..).unwrap_or(&[])
    }

    /// Whether `node` is one of the first `n`.
    #[must_use]
    pub fn is_primary(self, node: NodeId, n: u8) -> bool {
        self.primaries(n).contains(&node)
    }
}

/// Why a node is on an active list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// One of the first N of the preference list.
    Primary,
    /// Stands in for an unreachable primary and keeps the replica with a hint.
    Fallback {
        /// The primary that the replica belongs to.
        for_node: NodeId,
    },
}

/// A node of an active list with its role.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ActiveEntry {
    /// The node to ask.
    pub node: NodeId,
    /// Why it is asked.
    pub role: Role,
}

/// The nodes that take part in a request now.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ActiveList {
    /// The first N reachable nodes: place i is primary i or the fallback for it. Shorter than N
    /// where too few nodes are reachable.
    pub entries: Vec<ActiveEntry>,
    /// Unreachable primaries for which no reachable fallback was left, in order.
    pub unserved: Vec<NodeId>,
    /// Reachable fallbacks that are not used yet, in order: the next to try when an entry fails.
    pub spare: Vec<NodeId>,
}

impl ActiveList {
    /// The active list of a partition for `n` replicas. Looks at the precomputed beginning of the
    /// preference list and walks the whole ring only where that does not yield enough nodes.
    pub fn new(
        ring: &Ring,
        partition: PartitionId,
        n: u8,
        reachable: impl Fn(NodeId) -> bool,
    ) -> Self {
        let list = ring.preference_list(partition);
        let active = Self::of_nodes(list.as_slice(), n, &reachable);
        if active.unserved.is_empty() || list.as_slice().len() == ring.nodes().len() {
            return active;
        }
        Self::of_nodes(&ring.full_preference_list(partition), n, &reachable)
    }

    /// The active list of any ordered list of distinct nodes.
    pub fn of_nodes(list: &[NodeId], n: u8, reachable: impl Fn(NodeId) -> bool) -> Self {
        let (primaries, fallbacks) = list.split_at(list.len().min(usize::from(n)));
        let mut spare = fallbacks.iter().copied().filter(|node| reachable(*node));
        let mut active = Self { entries: Vec::with_capacity(primaries.len()), ..Self::default() };
        for &primary in primaries {
            if reachable(primary) {
                active.entries.push(ActiveEntry { node: primary, role: Role::Primary });
            } else if let Some(node) = spare.next() {
                let role = Role::Fallback { for_node: primary };
                active.entries.push(ActiveEntry { node, role });
            } else {
                active.unserved.push(primary);
            }
        }
        active.spare = spare.collect();
        active
    }

    /// The nodes of the entries in order.
    pub fn nodes(&self) -> impl ExactSizeIterator<Item = NodeId> + '_ {
        self.entries.iter().map(|entry| entry.node)
    }
}

/// The first `limit` distinct nodes of a walk, in the order in which they are met.
pub fn clockwise(walk: impl IntoIterator<Item = NodeId>, limit: usize) -> Vec<NodeId> {
    let mut met = BTreeSet::new();
    walk.into_iter().filter(|node| met.insert(*node)).take(limit).collect()
}

/// The first `len` distinct nodes clockwise of every position of a round table, position after
/// position, and the length per position. `len` must not exceed the number of distinct owners.
///
/// The list of a position is its owner followed by the others of the next position's list, so one
/// backward pass builds all of them.
pub(in crate::ring) fn prefix_table(owners: &[Option<NodeId>], len: usize) -> (Vec<NodeId>, usize) {
    if len == 0 {
        return (Vec::new(), 0);
    }
    let Some((last, before)) = owners.split_last() else {
        return (Vec::new(), 0);
    };
    let mut list = clockwise(last.iter().chain(before.iter().flatten()).copied(), len);
    let mut reversed: Vec<NodeId> = Vec::with_capacity(owners.len() * len);
    for owner in owners.iter().rev() {
        if let Some(owner) = owner {
            let place = list.iter().position(|node| node == owner).unwrap_or(list.len() - 1);
            if let Some(head) = list.get_mut(..=place) {
                head.rotate_right(1);
                if let Some(first) = head.first_mut() {
                    *first = *owner;
                }
            }
        }
        reversed.extend(list.iter().rev());
    }
    reversed.reverse();
    (reversed, len)
}
