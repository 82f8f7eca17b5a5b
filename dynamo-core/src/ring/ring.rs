//! The ring: an immutable map from every partition to its owner, with its version and with the
//! preference lists precomputed, so that a lookup per request is one slice of a table.
//!
//! Invariants: either every list holds the same number of distinct nodes or the ring is empty;
//! nodes are sorted; the owners decide everything else. Two rings with equal partitions, owners and
//! version are equal, whatever process built them.
//!
//! Not here: who is alive ([`super::preference_list::ActiveList`] takes that as an argument) and
//! who holds the data ([`super::possession`]).

use crate::id::{KeyHash, NodeId, PartitionId};
use crate::limits::{LIST_PREFIX_MAX, MEMBERS_MAX};
use crate::ring::preference_list::{PreferenceList, clockwise, prefix_table};
use crate::ring::token::Partitions;
use crate::ring::version::RingVersion;

/// Index in the owner table for a partition without owner.
const UNOWNED: u32 = u32::MAX;

/// Owners that do not make a ring.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RingError {
    /// The owner table has another length than the ring has partitions.
    #[error("{owners} owners given for {partitions} partitions")]
    OwnerCount {
        /// Partitions of the ring.
        partitions: u32,
        /// Owners given.
        owners: usize,
    },
    /// More distinct owners than a ring may have members.
    #[error("{0} nodes own partitions; at most {MEMBERS_MAX} may")]
    TooManyNodes(usize),
    /// An owner index points past the node table.
    #[error("owner index {index} of partition {partition} is beyond {nodes} nodes")]
    OwnerIndex {
        /// The partition whose owner is wrong.
        partition: u32,
        /// The index given.
        index: u32,
        /// Length of the node table.
        nodes: usize,
    },
}

/// Immutable map of all partitions to owners at a version.
#[derive(Debug, Clone)]
pub struct Ring {
    partitions: Partitions,
    version: RingVersion,
    /// Distinct owners, sorted.
    nodes: Vec<NodeId>,
    /// Per partition an index into `nodes`, or [`UNOWNED`].
    owners: Vec<u32>,
    /// Per partition the first `prefix_len` distinct nodes clockwise, partition after partition.
    prefixes: Vec<NodeId>,
    prefix_len: usize,
}

impl PartialEq for Ring {
    fn eq(&self, other: &Self) -> bool {
        // What is left out is computed from these.
        self.version == other.version
            && self.partitions == other.partitions
            && self.nodes == other.nodes
            && self.owners == other.owners
    }
}

impl Eq for Ring {}

impl Ring {
    /// A ring from one owner per partition. An ordinary ring has an owner everywhere or nowhere;
    /// a partition without owner is served by the owners that follow it.
    ///
    /// # Errors
    /// Where the table does not fit the number of partitions or names too many nodes.
    pub fn new(
        partitions: Partitions,
        owners: &[Option<NodeId>],
        version: RingVersion,
    ) -> Result<Self, RingError> {
        if owners.len() != partitions.len() {
            return Err(RingError::OwnerCount {
                partitions: partitions.get(),
                owners: owners.len(),
            });
        }
        let mut nodes: Vec<NodeId> = owners.iter().copied().flatten().collect();
        nodes.sort_unstable();
        nodes.dedup();
        if nodes.len() > MEMBERS_MAX {
            return Err(RingError::TooManyNodes(nodes.len()));
        }
        let index_of =
            |node: &NodeId| nodes.binary_search(node).ok().and_then(|i| i.try_into().ok());
        let indexes = owners
            .iter()
            .map(|owner| owner.as_ref().and_then(index_of).unwrap_or(UNOWNED))
            .collect();
        let (prefixes, prefix_len) = prefix_table(owners, nodes.len().min(LIST_PREFIX_MAX));
        Ok(Self { partitions, version, nodes, owners: indexes, prefixes, prefix_len })
    }

    /// A ring from its compact form, as [`Ring::owner_indexes`] and [`Ring::nodes`] give it: one
    /// index into `nodes` per partition, `None` for no owner. `nodes` may be in any order.
    ///
    /// # Errors
    /// As [`Ring::new`], and where an index points past `nodes`.
    pub fn from_indexes(
        partitions: Partitions,
        nodes: &[NodeId],
        indexes: &[Option<u32>],
        version: RingVersion,
    ) -> Result<Self, RingError> {
        let mut owners = Vec::with_capacity(indexes.len());
        for (partition, index) in indexes.iter().enumerate() {
            let owner = match index {
                None => None,
                Some(index) => Some(nodes.get(*index as usize).copied().ok_or_else(|| {
                    let partition = u32::try_from(partition).unwrap_or(u32::MAX);
                    RingError::OwnerIndex { partition, index: *index, nodes: nodes.len() }
                })?),
            };
            owners.push(owner);
        }
        Self::new(partitions, &owners, version)
    }

    /// The ring of a cluster without members: nobody owns anything.
    #[must_use]
    pub fn empty(partitions: Partitions) -> Self {
        Self {
            partitions,
            version: RingVersion::default(),
            nodes: Vec::new(),
            owners: vec![UNOWNED; partitions.len()],
            prefixes: Vec::new(),
            prefix_len: 0,
        }
    }

    /// Whether no node owns anything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// How many partitions the ring has.
    #[must_use]
    pub fn partitions(&self) -> Partitions {
        self.partitions
    }

    /// The version of the ring.
    #[must_use]
    pub fn version(&self) -> RingVersion {
        self.version
    }

    /// The nodes that own at least one partition, sorted.
    #[must_use]
    pub fn nodes(&self) -> &[NodeId] {
        &self.nodes
    }

    /// The owner of a partition: the first node of its preference list.
    #[must_use]
    pub fn owner(&self, partition: PartitionId) -> Option<NodeId> {
        let index = self.owners.get(partition.0 as usize)?;
        self.nodes.get(*index as usize).copied()
    }

    /// All owners in partition order.
    pub fn owners(&self) -> impl ExactSizeIterator<Item = Option<NodeId>> + '_ {
        self.owners.iter().map(|index| self.nodes.get(*index as usize).copied())
    }

    /// All owners in partition order as indexes into [`Ring::nodes`]: the compact form.
    pub fn owner_indexes(&self) -> impl ExactSizeIterator<Item = Option<u32>> + '_ {
        self.owners.iter().map(|index| (*index != UNOWNED).then_some(*index))
    }

    /// The partitions that `node` owns, in ring order.
    pub fn partitions_of(&self, node: NodeId) -> impl Iterator<Item = PartitionId> + '_ {
        let wanted = self.nodes.binary_search(&node).ok();
        self.partitions
            .iter()
            .zip(&self.owners)
            .filter(move |(_, index)| wanted == Some(**index as usize))
            .map(|(partition, _)| partition)
    }

    /// How many partitions `node` owns.
    #[must_use]
    pub fn owners_count(&self, node: NodeId) -> u32 {
        u32::try_from(self.partitions_of(node).count()).unwrap_or(u32::MAX)
    }

    /// The partition of a position.
    #[must_use]
    pub fn partition_of(&self, hash: KeyHash) -> PartitionId {
        self.partitions.of(hash)
    }

    /// The beginning of the preference list of a partition: all distinct nodes, or the first
    /// [`LIST_PREFIX_MAX`] of a larger ring. No allocation, no walk.
    #[must_use]
    pub fn preference_list(&self, partition: PartitionId) -> PreferenceList<'_> {
        let start = (partition.0 as usize).saturating_mul(self.prefix_len);
        let end = start.saturating_add(self.prefix_len);
        PreferenceList::new(self.prefixes.get(start..end).unwrap_or(&[]))
    }

    /// The whole preference list: every distinct node, met clockwise. Walks the ring; for the rare
    /// case that the precomputed beginning does not reach.
    #[must_use]
    pub fn full_preference_list(&self, partition: PartitionId) -> Vec<NodeId> {
        if self.prefix_len == self.nodes.len() {
            return self.preference_list(partition).as_slice().to_vec();
        }
        let count = self.partitions.len();
        let start = (partition.0 as usize) % count;
        let walk = (0..count).filter_map(|step| {
            let index = *self.owners.get((start + step) % count)?;
            self.nodes.get(index as usize).copied()
        });
        clockwise(walk, self.nodes.len())
    }
}
