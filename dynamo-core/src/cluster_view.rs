//! The view that every process works from: ring, nodes, what they hold, bucket properties. An
//! immutable value built from a [`RingSnapshot`]; a newer one replaces it as a whole, so that one
//! request never sees two rings.
//!
//! Not here: who is reachable. That is each process's own judgement.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::id::{ClusterId, KeyHash, NodeId, PartitionId, StoreId};
use crate::key::{Bucket, NameError};
use crate::limits::{BUCKETS_MAX, NODES_KNOWN_MAX};
use crate::membership::member::MemberError;
use crate::params::{BucketProps, ParamError};
use crate::ring::{Holdings, PartitionSet, Partitions, Placement, ReplicaSets, Ring, RingError};
use crate::ring::{RingVersion, token::PartitionsError};
use crate::wire::ring::RING_FORMAT;

pub use crate::membership::member::{Addresses, MemberStatus, check_address, check_name};
pub use crate::wire::ring::{NodeInfo, RingSnapshot};

/// A snapshot that does not describe a cluster.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    /// Another form than this build reads.
    #[error("ring snapshot format {0} is not known to this build (it reads {RING_FORMAT})")]
    Format(u32),
    /// More nodes or buckets than a cluster may have.
    #[error("ring snapshot has too many {0}")]
    TooMany(&'static str),
    /// Nodes are not sorted by id, or one occurs twice.
    #[error("ring snapshot does not list its nodes once each, by id")]
    NodeOrder,
    /// The owner table does not fit.
    #[error(transparent)]
    Ring(#[from] RingError),
    /// A number of partitions that no ring has.
    #[error(transparent)]
    Partitions(#[from] PartitionsError),
    /// A node's name, zone, weight or address is invalid.
    #[error("node {node}: {error}")]
    Node {
        /// The node.
        node: NodeId,
        /// What is wrong.
        error: MemberError,
    },
    /// An owner that is not a member.
    #[error("node {0} owns partitions and is not a member")]
    Owner(NodeId),
    /// A bucket's name is invalid.
    #[error("bucket name: {0}")]
    BucketName(#[from] NameError),
    /// A bucket's properties are invalid.
    #[error("bucket properties: {0}: {1}")]
    Props(&'static str, ParamError),
}

/// One cluster as one process knows it.
#[derive(Debug, Clone)]
pub struct ClusterView {
    cluster: ClusterId,
    spacing: u8,
    placement: Placement,
    nodes: BTreeMap<NodeId, NodeInfo>,
    defaults: BucketProps,
    buckets: BTreeMap<Bucket, BucketProps>,
    /// Every N in use, ascending: that of the defaults and those of the buckets.
    classes: Vec<u8>,
}

impl ClusterView {
    /// Checks a snapshot and indexes it.
    ///
    /// # Errors
    /// [`SnapshotError`] where it breaks a limit or does not fit together; the view in use stays.
    pub fn from_snapshot(snapshot: RingSnapshot) -> Result<Self, SnapshotError> {
        if snapshot.format != RING_FORMAT {
            return Err(SnapshotError::Format(snapshot.format));
        }
        if snapshot.nodes.len() > NODES_KNOWN_MAX {
            return Err(SnapshotError::TooMany("nodes"));
        }
        if snapshot.buckets.len() > BUCKETS_MAX {
            return Err(SnapshotError::TooMany("buckets"));
        }
        let ids: Vec<NodeId> = snapshot.nodes.iter().map(|node| node.id).collect();
        if !ids.is_sorted_by(|a, b| a < b) {
            return Err(SnapshotError::NodeOrder);
        }
        let ring =
            Ring::from_indexes(snapshot.partitions, &ids, &snapshot.owners, snapshot.version)?;
        let mut nodes = BTreeMap::new();
        for node in snapshot.nodes {
            check_node(&node).map_err(|error| SnapshotError::Node { node: node.id, error })?;
            nodes.insert(node.id, node);
        }
        let is_member =
            |id: &NodeId| nodes.get(id).is_some_and(|node| node.status == MemberStatus::Member);
        if let Some(stranger) = ring.nodes().iter().find(|id| !is_member(id)) {
            return Err(SnapshotError::Owner(*stranger));
        }
        let props = |props: BucketProps| {
            props.validated().map_err(|(name, error)| SnapshotError::Props(name, error))
        };
        let mut buckets = BTreeMap::new();
        for (name, own) in snapshot.buckets {
            buckets.insert(name.parse()?, props(own)?);
        }
        let holdings = holdings_of(nodes.values());
        let defaults = props(snapshot.defaults)?;
        let classes: BTreeSet<u8> =
            buckets.values().map(|own: &BucketProps| own.n).chain([defaults.n]).collect();
        Ok(Self {
            cluster: snapshot.cluster,
            spacing: snapshot.spacing,
            placement: Placement::new(Arc::new(ring), holdings),
            nodes,
            defaults,
            buckets,
            classes: classes.into_iter().collect(),
        })
    }

    /// The snapshot that this view was built from.
    #[must_use]
    pub fn to_snapshot(&self) -> RingSnapshot {
        let ids: Vec<NodeId> = self.nodes.keys().copied().collect();
        let index = |owner: NodeId| ids.binary_search(&owner).ok().and_then(|i| i.try_into().ok());
        RingSnapshot {
            format: RING_FORMAT,
            cluster: self.cluster,
            version: self.version(),
            partitions: self.partitions(),
            spacing: self.spacing,
            owners: self.ring().owners().map(|owner| owner.and_then(index)).collect(),
            nodes: self.nodes.values().cloned().collect(),
            defaults: self.defaults,
            buckets: self.buckets.iter().map(|(b, props)| (b.to_string(), *props)).collect(),
        }
    }

    /// The cluster.
    #[must_use]
    pub fn cluster(&self) -> ClusterId {
        self.cluster
    }

    /// The ring's version.
    #[must_use]
    pub fn version(&self) -> RingVersion {
        self.ring().version()
    }

    /// The ring.
    #[must_use]
    pub fn ring(&self) -> &Ring {
        self.placement.ring()
    }

    /// The number of partitions.
    #[must_use]
    pub fn partitions(&self) -> Partitions {
        self.ring().partitions()
    }

    /// The spacing of the ring.
    #[must_use]
    pub fn spacing(&self) -> u8 {
        self.spacing
    }

    /// What is known of a node.
    #[must_use]
    pub fn node(&self, id: NodeId) -> Option<&NodeInfo> {
        self.nodes.get(&id)
    }

    /// Every known node, by id: members, candidates and former members.
    pub fn nodes(&self) -> impl Iterator<Item = &NodeInfo> {
        self.nodes.values()
    }

    /// The members of the ring, by id.
    pub fn members(&self) -> impl Iterator<Item = &NodeInfo> {
        self.nodes().filter(|node| node.status == MemberStatus::Member)
    }

    /// The node with this id or name. Of several nodes of one name the one nearest to the ring is
    /// meant (member before leaving before candidate); `None` where two are equally near.
    #[must_use]
    pub fn resolve(&self, name_or_id: &str) -> Option<NodeId> {
        if let Ok(id) = name_or_id.parse::<NodeId>() {
            return self.nodes.contains_key(&id).then_some(id);
        }
        for status in [MemberStatus::Member, MemberStatus::Leaving, MemberStatus::Candidate] {
            let mut named =
                self.nodes().filter(|node| node.status == status && node.name == name_or_id);
            if let Some(first) = named.next() {
                return named.next().is_none().then_some(first.id);
            }
        }
        None
    }

    /// Whether `node` founded the cluster with `store`. If that store has never held anything, it
    /// holds [`Self::founding_holds`].
    #[must_use]
    pub fn is_founding_store(&self, node: NodeId, store: StoreId) -> bool {
        self.node(node).is_some_and(|info| info.founding_store == Some(store))
    }

    /// The partitions that a founder holds from the start: an empty cluster has nothing that could
    /// be missing. Only those of which it is a replica: what it is not sent it does not hold for
    /// long, and a holder without the data loses acknowledged writes.
    #[must_use]
    pub fn founding_holds(&self, node: NodeId) -> PartitionSet {
        let n = self.spacing().max(self.defaults().n);
        let mut holds = PartitionSet::empty(self.partitions());
        for partition in self.partitions().iter() {
            if self.ring().preference_list(partition).primaries(n).contains(&node) {
                holds.insert(partition);
            }
        }
        holds
    }

    /// Ring and holdings together.
    #[must_use]
    pub fn placement(&self) -> &Placement {
        &self.placement
    }

    /// What the nodes advertise to hold. Candidates and removed nodes hold nothing.
    #[must_use]
    pub fn holdings(&self) -> &Holdings {
        self.placement.holdings()
    }

    /// Which nodes take part in requests for a position at `n` replicas.
    #[must_use]
    pub fn replica_sets(&self, position: KeyHash, n: u8) -> ReplicaSets {
        self.placement.replica_sets(self.ring().partition_of(position), n)
    }

    /// Properties of a bucket: its own, or the defaults.
    #[must_use]
    pub fn bucket(&self, bucket: &Bucket) -> BucketProps {
        self.buckets.get(bucket).copied().unwrap_or(self.defaults)
    }

    /// The buckets that have properties of their own, by name.
    pub fn buckets(&self) -> impl Iterator<Item = (&Bucket, BucketProps)> {
        self.buckets.iter().map(|(bucket, props)| (bucket, *props))
    }

    /// Properties of buckets without own ones.
    #[must_use]
    pub fn defaults(&self) -> BucketProps {
        self.defaults
    }

    /// Every number of copies (N) that some bucket has, ascending.
    #[must_use]
    pub fn classes(&self) -> &[u8] {
        &self.classes
    }

    /// The largest N of any bucket, and at least the spacing: so many nodes from the start of its
    /// preference list are concerned with a partition.
    #[must_use]
    pub fn n_max(&self) -> u8 {
        self.classes.last().copied().unwrap_or_default().max(self.spacing)
    }

    /// The nodes that are to have a partition, each for the buckets that have so many copies.
    #[must_use]
    pub fn wanting(&self, partition: PartitionId) -> &[NodeId] {
        self.ring().preference_list(partition).primaries(self.n_max())
    }

    /// Whether `node` is to have keys of `partition`, of whatever bucket.
    #[must_use]
    pub fn wants(&self, node: NodeId, partition: PartitionId) -> bool {
        self.wanting(partition).contains(&node)
    }

    /// The least N of the buckets of which `node` is to have the keys in `partition`: one more
    /// than its place (from 0) in the preference list. `None` where it is to have none.
    #[must_use]
    pub fn needs_from(&self, node: NodeId, partition: PartitionId) -> Option<u8> {
        let place = self.wanting(partition).iter().position(|other| *other == node)?;
        u8::try_from(place + 1).ok()
    }

    /// Whether `node` is to have the keys of `bucket` in `partition`.
    #[must_use]
    pub fn needs(&self, node: NodeId, partition: PartitionId, bucket: &Bucket) -> bool {
        self.ring().preference_list(partition).is_primary(node, self.bucket(bucket).n)
    }
}

/// What may be read from whom.
fn holdings_of<'a>(nodes: impl Iterator<Item = &'a NodeInfo>) -> Holdings {
    let held = |node: &NodeInfo| -> Option<(NodeId, PartitionSet)> {
        let set = node.holds.as_ref().filter(|_| node.status.may_hold())?;
        Some((node.id, set.clone()))
    };
    nodes.filter_map(held).collect()
}

fn check_node(node: &NodeInfo) -> Result<(), MemberError> {
    use crate::membership::member::{check_weight, check_zone};
    check_name(&node.name)?;
    check_zone(node.zone.as_deref())?;
    check_weight(node.weight)?;
    node.addresses.check()
}
