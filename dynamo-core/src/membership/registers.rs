//! Last-writer-wins registers that travel with the membership: properties of buckets and the staged
//! changes. Ordered by hybrid time, then writer; the hybrid time of a write follows everything its
//! writer had seen, so a later decision beats an earlier one even on a slow clock (hazard C13).
//!
//! Not here: validation against the wall clock and the cluster ([`super::view`]).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use super::member::{Addresses, MemberError, check_weight, check_zone};
use crate::clock::hlc::Hlc;
use crate::id::{ClusterId, NodeId};
use crate::limits::CHANGES_MAX;
use crate::params::BucketProps;

/// When and by whom a register was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WriteStamp {
    /// Hybrid time of the write.
    pub at: Hlc,
    /// The node that wrote: decides between equal times.
    pub by: NodeId,
}

/// The properties of one bucket, or the fact that they were deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BucketEntry {
    /// When and by whom.
    pub stamp: WriteStamp,
    /// The properties; absent after a delete, which must be remembered to win over older writes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub props: Option<BucketProps>,
}

/// A change that an administrator has staged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum StagedChange {
    /// A candidate becomes a member.
    Join {
        /// The candidate.
        node: NodeId,
        /// Its zone where it differs from what the node says.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        zone: Option<String>,
        /// Its weight where it differs from what the node says.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        weight: Option<u32>,
    },
    /// A member leaves in good order.
    Leave {
        /// The member.
        node: NodeId,
    },
    /// A candidate takes a member's place.
    Replace {
        /// The member.
        node: NodeId,
        /// The candidate.
        with: NodeId,
    },
    /// A member that will not come back is removed, and its data given up.
    ForceRemove {
        /// The member.
        node: NodeId,
        /// Commit even where no other node holds a partition.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        accept_data_loss: bool,
    },
    /// A member's weight.
    SetWeight {
        /// The member.
        node: NodeId,
        /// The new weight.
        weight: u32,
    },
    /// A member's zone.
    SetZone {
        /// The member.
        node: NodeId,
        /// The new zone; absent for unknown.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        zone: Option<String>,
    },
    /// Where to reach a member of which nothing newer is known.
    SetAddress {
        /// The member.
        node: NodeId,
        /// The addresses; absent ones stay.
        addresses: Addresses,
    },
}

impl StagedChange {
    /// The node that the change is about.
    #[must_use]
    pub fn node(&self) -> NodeId {
        match self {
            Self::Join { node, .. }
            | Self::Leave { node }
            | Self::Replace { node, .. }
            | Self::ForceRemove { node, .. }
            | Self::SetWeight { node, .. }
            | Self::SetZone { node, .. }
            | Self::SetAddress { node, .. } => *node,
        }
    }

    fn check(&self) -> Result<(), MemberError> {
        match self {
            Self::Join { zone, weight, .. } => {
                check_zone(zone.as_deref())?;
                weight.map_or(Ok(()), check_weight)
            }
            Self::SetWeight { weight, .. } => check_weight(*weight),
            Self::SetZone { zone, .. } => check_zone(zone.as_deref()),
            Self::SetAddress { addresses, .. } => addresses.check(),
            Self::Leave { .. } | Self::Replace { .. } | Self::ForceRemove { .. } => Ok(()),
        }
    }
}

/// The staged changes: one register for all, so that a plan is about all of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StagedEntry {
    /// When and by whom.
    pub stamp: WriteStamp,
    /// The cluster that the changes are for; absent before the founding. What was staged among
    /// nodes without a cluster must not follow one of them into another cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<ClusterId>,
    /// The changes in order; empty after a commit or a drop.
    pub changes: Vec<StagedChange>,
}

impl StagedEntry {
    /// Whether the changes are within their bounds.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        self.changes.len() <= CHANGES_MAX && self.changes.iter().all(|c| c.check().is_ok())
    }
}

/// All registers of one agent.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Registers {
    /// Bucket properties by name, deleted ones included.
    pub buckets: BTreeMap<String, BucketEntry>,
    /// The staged changes, if ever any.
    pub staged: Option<StagedEntry>,
}

impl Registers {
    /// Whether `entry` wins over what is known of the bucket.
    #[must_use]
    pub fn bucket_is_news(&self, name: &str, entry: &BucketEntry) -> bool {
        self.buckets.get(name).is_none_or(|known| rank_bucket(entry) > rank_bucket(known))
    }

    /// Whether `entry` wins over the staged changes, for an agent of `cluster`.
    #[must_use]
    pub fn staged_is_news(&self, entry: &StagedEntry, cluster: Option<ClusterId>) -> bool {
        let known = self.staged.as_ref().filter(|known| known.cluster == cluster);
        entry.cluster == cluster
            && known.is_none_or(|known| rank_staged(entry) > rank_staged(known))
    }

    /// The latest hybrid time in any register.
    #[must_use]
    pub fn latest(&self) -> Hlc {
        let buckets = self.buckets.values().map(|entry| entry.stamp.at);
        buckets.chain(self.staged.iter().map(|entry| entry.stamp.at)).max().unwrap_or_default()
    }

    /// A hash of all bucket entries.
    #[must_use]
    pub fn buckets_hash(&self) -> u64 {
        if self.buckets.is_empty() {
            return 0;
        }
        let encoded = serde_json::to_vec(&self.buckets)
            .expect("bucket entries have string keys and no failing serializer");
        xxh3_64(&encoded)
    }
}

/// Equal stamps with different content come from a faulty writer only; all nodes prefer the same.
fn rank_bucket(entry: &BucketEntry) -> (WriteStamp, u64) {
    let encoded = serde_json::to_vec(entry).expect("a bucket entry has no failing serializer");
    (entry.stamp, xxh3_64(&encoded))
}

fn rank_staged(entry: &StagedEntry) -> (WriteStamp, u64) {
    let encoded = serde_json::to_vec(entry).expect("a staged entry has no failing serializer");
    (entry.stamp, xxh3_64(&encoded))
}
