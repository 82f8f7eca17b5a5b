//! The ring snapshot: all that a process needs to route requests and to know its peers, as one
//! JSON document. Served by the membership agent at [`RING_PATH`] and by the router under the same
//! path; cached on disk by whoever works with it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use crate::id::{ClusterId, Incarnation, NodeId, StoreId};
use crate::membership::member::{Addresses, MemberStatus};
use crate::membership::state::NodeState;
use crate::params::BucketProps;
use crate::ring::{PartitionSet, Partitions, RingVersion};

/// `GET`, answered by a [`RingSnapshot`] with an `ETag`. With `?wait_ms=` and `If-None-Match` the
/// answer waits for a change, then 200, or 304 at the end of the wait. 503 `not_ready` before the
/// cluster has been founded.
pub const RING_PATH: &str = "/v1/ring";

/// The form of [`RingSnapshot`] that this build reads and writes.
pub const RING_FORMAT: u32 = 1;

/// One node in a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeInfo {
    /// Its identity.
    pub id: NodeId,
    /// Its name, unique among members.
    pub name: String,
    /// Its failure domain; absent where unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// Its capacity in relation to the others.
    pub weight: u32,
    /// Where its processes listen.
    pub addresses: Addresses,
    /// What it is to the ring.
    pub status: MemberStatus,
    /// Incarnation of its storage process; 0 while unknown.
    #[serde(default)]
    pub incarnation: Incarnation,
    /// The partitions it advertises to hold completely; absent for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holds: Option<PartitionSet>,
    /// Its present store; absent while unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store_id: Option<StoreId>,
    /// The store with which it founded the cluster; absent where it did not. That very store, and
    /// no other, holds everything it owned at the founding, as there was nothing to hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub founding_store: Option<StoreId>,
    /// Its present actor epoch; 0 while unknown.
    #[serde(default)]
    pub epoch: u64,
}

impl NodeInfo {
    /// A node of which nothing is known but what it says of itself.
    #[must_use]
    pub fn candidate(state: &NodeState) -> Self {
        let store = state.store.as_ref();
        Self {
            id: state.node,
            name: state.name.clone(),
            zone: state.zone.clone(),
            weight: state.weight,
            addresses: state.addresses.clone(),
            status: MemberStatus::Candidate,
            incarnation: store.map(|store| store.incarnation).unwrap_or_default(),
            holds: None,
            store_id: store.map(|store| store.store_id),
            founding_store: None,
            epoch: store.map_or(0, |store| store.epoch),
        }
    }
}

/// The whole view of a cluster. Nodes are sorted by id; owners are indexes into them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RingSnapshot {
    /// [`RING_FORMAT`].
    pub format: u32,
    /// The cluster.
    pub cluster: ClusterId,
    /// The ring's version.
    pub version: RingVersion,
    /// Number of partitions.
    pub partitions: Partitions,
    /// How many consecutive positions are on distinct nodes and zones where possible.
    pub spacing: u8,
    /// Every node that is known: members, candidates and former members.
    pub nodes: Vec<NodeInfo>,
    /// Owner of every partition as an index into `nodes`.
    pub owners: Vec<Option<u32>>,
    /// Properties of buckets that have no own.
    pub defaults: BucketProps,
    /// Properties of the others.
    pub buckets: BTreeMap<String, BucketProps>,
}

impl RingSnapshot {
    /// A tag that changes whenever anything in the snapshot does: ring version and content hash.
    #[must_use]
    pub fn etag(&self, encoded: &[u8]) -> String {
        format!("\"{}-{:016x}\"", self.version, xxh3_64(encoded))
    }
}
