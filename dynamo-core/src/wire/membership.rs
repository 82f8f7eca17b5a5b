//! Administration of membership: staging, plan, commit, members, bucket properties, and what a
//! storage node tells its agent. Served by the membership agent, proxied by the router.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::id::{ClusterId, Incarnation, NodeId, PartitionId, StoreId};
use crate::membership::history::Change;
use crate::membership::member::{Addresses, MemberStatus};
use crate::membership::plan::{Note, Plan, unsettled};
use crate::membership::registers::StagedChange;
use crate::membership::stage::{StageError, resolve};
use crate::membership::state::StoreState;
use crate::membership::view::Membership;
use crate::params::BucketProps;
use crate::ring::{PartitionSet, Placement, RingDiff, RingVersion};

/// `GET`: the node and the state of its agent, a [`NodeView`].
pub const NODE_PATH: &str = "/v1/node";
/// `GET`: members and candidates, a [`ClusterDocument`].
pub const CLUSTER_PATH: &str = "/v1/cluster";
/// `POST` of a [`StageRequest`], `DELETE` to drop; both answer a [`StagedDocument`].
pub const STAGE_PATH: &str = "/v1/cluster/stage";
/// `GET`: a [`PlanDocument`].
pub const PLAN_PATH: &str = "/v1/cluster/plan";
/// `POST` with `If-Match: <plan>`: a [`CommitDocument`].
pub const COMMIT_PATH: &str = "/v1/cluster/commit";
/// `GET`: a [`BucketsDocument`]; `GET`, `PUT`, `DELETE` below it: a [`BucketDocument`].
pub const BUCKETS_PATH: &str = "/v1/buckets";
/// `POST` of a [`LocalStorage`] by the storage node of the same host.
pub const LOCAL_STORAGE_PATH: &str = "/v1/local/storage";

/// Moves that a [`PlanDocument`] lists; it counts all of them.
pub const PLAN_MOVES_SHOWN_MAX: usize = 4096;

/// What an administrator wants to stage. Nodes are named by id or name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum StageRequest {
    /// A candidate becomes a member.
    Join {
        /// The candidate.
        node: String,
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
        node: String,
    },
    /// A candidate takes a member's place.
    Replace {
        /// The member.
        node: String,
        /// The candidate.
        with: String,
    },
    /// A member that will not come back is removed.
    ForceRemove {
        /// The member.
        node: String,
        /// Commit even where no other node holds a partition.
        #[serde(default)]
        accept_data_loss: bool,
    },
    /// One property of a member changes.
    Set {
        /// The member.
        node: String,
        /// Its new weight.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        weight: Option<u32>,
        /// Its new zone; an empty one for unknown.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        zone: Option<String>,
        /// Its new addresses; absent ones stay.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        addresses: Option<Addresses>,
    },
}

impl StageRequest {
    /// The change that is meant, with its nodes found.
    ///
    /// # Errors
    /// [`StageError`] where a node is unknown or ambiguous, or nothing or two things are set.
    pub fn resolve(&self, view: &Membership) -> Result<StagedChange, StageError> {
        let candidate = |name: &str| resolve(view, name, |s| s == MemberStatus::Candidate);
        let member = |name: &str| resolve(view, name, |s| s == MemberStatus::Member);
        Ok(match self {
            Self::Join { node, zone, weight } => {
                StagedChange::Join { node: candidate(node)?, zone: zone.clone(), weight: *weight }
            }
            Self::Leave { node } => StagedChange::Leave { node: member(node)? },
            Self::Replace { node, with } => {
                StagedChange::Replace { node: member(node)?, with: candidate(with)? }
            }
            Self::ForceRemove { node, accept_data_loss } => StagedChange::ForceRemove {
                node: member(node)?,
                accept_data_loss: *accept_data_loss,
            },
            Self::Set { node, weight, zone, addresses } => {
                let node = member(node)?;
                match (weight, zone, addresses) {
                    (Some(weight), None, None) => StagedChange::SetWeight { node, weight: *weight },
                    (None, Some(zone), None) => {
                        let zone = Some(zone.clone()).filter(|zone| !zone.is_empty());
                        StagedChange::SetZone { node, zone }
                    }
                    (None, None, Some(addresses)) => {
                        StagedChange::SetAddress { node, addresses: addresses.clone() }
                    }
                    _ => return Err(StageError::Invalid),
                }
            }
        })
    }
}

/// The staged changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StagedDocument {
    /// In order.
    pub staged: Vec<StagedChange>,
}

/// A node and the state of its agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeView {
    /// The node.
    pub node: NodeId,
    /// Its name.
    pub name: String,
    /// Incarnation of its agent.
    pub incarnation: Incarnation,
    /// Its cluster; absent before it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<ClusterId>,
    /// What it is to the ring.
    pub status: MemberStatus,
    /// A newer process speaks for this node; this one is not listened to any more.
    pub fenced: bool,
    /// Version of history and ring.
    pub version: RingVersion,
}

/// What a storage node tells its agent: on every change, and every second.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LocalStorage {
    /// Its node; must be the agent's.
    pub node: NodeId,
    /// Its store.
    pub store_id: StoreId,
    /// Its actor epoch.
    pub epoch: u64,
    /// Its incarnation.
    pub incarnation: Incarnation,
    /// The partitions it holds completely; absent before it knows the ring.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holds: Option<PartitionSet>,
    /// Whether it has data beside what it holds that must go to others before the node may be
    /// switched off: partitions left over, hints.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub leftover: bool,
    /// Bytes stored; absent where unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
}

impl LocalStorage {
    /// As it is gossiped. Bytes are rounded up to a power of two, so that their steady growth is
    /// no steady news to the whole cluster; they serve estimates only.
    #[must_use]
    pub fn state(self) -> StoreState {
        StoreState {
            store_id: self.store_id,
            epoch: self.epoch,
            incarnation: self.incarnation,
            holds: self.holds,
            leftover: self.leftover,
            bytes: self.bytes.map(|bytes| bytes.checked_next_power_of_two().unwrap_or(bytes)),
        }
    }
}

/// One node of a [`ClusterDocument`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberView {
    /// The node.
    pub node: NodeId,
    /// Its name.
    pub name: String,
    /// What it is to the ring.
    pub status: MemberStatus,
    /// Its failure domain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// Its capacity in relation to the others.
    pub weight: u32,
    /// Where its processes listen.
    pub addresses: Addresses,
    /// Partitions of which it is the first node.
    pub owns: u32,
    /// Partitions among whose first N it is.
    pub replicas: u32,
    /// Partitions it advertises to hold.
    pub holds: u32,
    /// Partitions among whose first N it is and that it does not hold yet.
    pub pending: u32,
}

/// The cluster for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterDocument {
    /// The cluster; absent before the founding.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<ClusterId>,
    /// Version of history and ring.
    pub version: RingVersion,
    /// Number of partitions; absent before the founding.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partitions: Option<u32>,
    /// Replicas that the ring is laid out for; absent before the founding.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spacing: Option<u8>,
    /// Properties of buckets that have no own; absent before the founding.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub defaults: Option<BucketProps>,
    /// Members, leaving nodes and candidates, by name.
    pub members: Vec<MemberView>,
    /// Number of staged changes.
    pub staged: usize,
    /// Partitions of which an owner does not hold the data yet.
    pub partitions_pending: usize,
}

impl ClusterDocument {
    /// The cluster as `view` has it. Removed nodes are left out.
    #[must_use]
    pub fn of(view: &Membership) -> Self {
        let fold = view.fold();
        let shares = fold.map(|fold| {
            let members = fold.claim_members();
            let diff = RingDiff::between(&fold.ring, &fold.ring, fold.spacing, &members);
            diff.unwrap_or_default()
        });
        let snapshot = view.snapshot();
        let nodes = match &snapshot {
            Some(snapshot) => snapshot.nodes.clone(),
            None => view.states().iter().map(super::ring::NodeInfo::candidate).collect(),
        };
        let pending = pending_of(view);
        let mut members: Vec<MemberView> = nodes
            .into_iter()
            .filter(|node| node.status != MemberStatus::Removed)
            .map(|node| {
                let share = shares.as_ref().map(|diff| diff.share(node.id)).unwrap_or_default();
                MemberView {
                    node: node.id,
                    owns: share.owned_after,
                    replicas: share.replicas_after,
                    holds: node.holds.map_or(0, |held| count(held.len())),
                    pending: pending.get(&node.id).copied().unwrap_or(0),
                    name: node.name,
                    status: node.status,
                    zone: node.zone,
                    weight: node.weight,
                    addresses: node.addresses,
                }
            })
            .collect();
        members.sort_by(|a, b| (&a.name, a.node).cmp(&(&b.name, b.node)));
        Self {
            cluster: view.cluster(),
            version: view.version(),
            partitions: fold.map(|fold| fold.partitions().get()),
            spacing: fold.map(|fold| fold.spacing),
            defaults: fold.map(|fold| fold.defaults),
            members,
            staged: view.staged().len(),
            partitions_pending: unsettled(view),
        }
    }
}

/// Per node the partitions that it owns a replica of and does not hold.
fn pending_of(view: &Membership) -> BTreeMap<NodeId, u32> {
    let mut pending = BTreeMap::new();
    let Some(fold) = view.fold() else { return pending };
    let held = |node: NodeId| view.states().get(node)?.store.as_ref()?.holds.clone();
    let holdings = fold.members.keys().filter_map(|node| Some((*node, held(*node)?))).collect();
    let placement = Placement::new(fold.ring.clone(), holdings);
    for partition in fold.partitions().iter() {
        if !placement.is_settled(partition, fold.spacing) {
            for node in placement.replica_sets(partition, fold.spacing).pending {
                *pending.entry(node).or_default() += 1;
            }
        }
    }
    pending
}

/// One replica to be copied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MoveView {
    /// The partition.
    pub partition: PartitionId,
    /// The node that becomes one of its N.
    pub to: NodeId,
    /// The node that is no longer one of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaces: Option<NodeId>,
}

/// What one node has before and after.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanNode {
    /// The node.
    pub node: NodeId,
    /// Its name.
    pub name: String,
    /// Partitions of which it is the first node, before.
    pub owned_before: u32,
    /// The same after.
    pub owned_after: u32,
    /// Partitions among whose first N it was.
    pub replicas_before: u32,
    /// The same after.
    pub replicas_after: u32,
    /// Replicas it has to fetch.
    pub gained: u32,
    /// Replicas it may drop in the end.
    pub lost: u32,
}

/// A warning or refusal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NoteView {
    /// A stable name of its kind.
    pub code: String,
    /// What it is about.
    pub detail: String,
}

impl From<&Note> for NoteView {
    fn from(note: &Note) -> Self {
        Self { code: note.code.to_owned(), detail: note.detail.clone() }
    }
}

/// Spread of the replicas over failure domains.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpreadView {
    /// Zones among the members.
    pub zones: u32,
    /// Distinct zones that every list can have.
    pub zones_wanted: u32,
    /// Partitions that have them.
    pub partitions_spread: u32,
    /// Partitions that do not.
    pub partitions_short: u32,
}

/// What a commit would do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanDocument {
    /// The plan's name: `If-Match` of the commit.
    pub plan: String,
    /// The history it was made on.
    pub parent: RingVersion,
    /// Whether the commit founds the cluster. Then nothing moves: there is nothing yet.
    pub founding: bool,
    /// The changes.
    pub changes: Vec<Change>,
    /// Members after it.
    pub members_after: usize,
    /// Replicas to copy.
    pub moves_total: usize,
    /// The first [`PLAN_MOVES_SHOWN_MAX`] of them.
    pub moves: Vec<MoveView>,
    /// Bytes to copy, estimated; absent where unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// Before and after of every node.
    pub nodes: Vec<PlanNode>,
    /// Owner of every partition after it, as an index into `nodes`; absent from older agents.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub owners_after: Vec<Option<u32>>,
    /// Highest load per weight after it, in thousandths of the mean: 1000 is perfect.
    pub load_max_milli: u64,
    /// Spread over zones after it.
    pub spread: SpreadView,
    /// Reasons to think again.
    pub warnings: Vec<NoteView>,
    /// Reasons for which a commit is refused.
    pub refusals: Vec<NoteView>,
}

impl PlanDocument {
    /// A plan for people.
    #[must_use]
    pub fn of(plan: &Plan, view: &Membership) -> Self {
        let founding = plan.founds();
        let moves = if founding { &[][..] } else { &plan.diff.moves };
        let name = |node: NodeId| {
            let member = view.fold().and_then(|fold| fold.members.get(&node));
            let state = view.states().get(node);
            member.map(|m| m.name.clone()).or_else(|| state.map(|s| s.name.clone()))
        };
        let shown = moves.iter().take(PLAN_MOVES_SHOWN_MAX).map(|step| MoveView {
            partition: step.partition,
            to: step.to,
            replaces: step.replaces,
        });
        let nodes = plan.diff.shares.iter().map(|(node, share)| PlanNode {
            node: *node,
            name: name(*node).unwrap_or_default(),
            owned_before: share.owned_before,
            owned_after: share.owned_after,
            replicas_before: share.replicas_before,
            replicas_after: share.replicas_after,
            gained: if founding { 0 } else { share.gained },
            lost: share.lost,
        });
        let nodes: Vec<PlanNode> = nodes.collect();
        let place = |owner: NodeId| nodes.binary_search_by_key(&owner, |node| node.node).ok();
        let owners = plan.ring.owners().map(|owner| u32::try_from(place(owner?)?).ok());
        let spread = &plan.diff.spread;
        Self {
            owners_after: owners.collect(),
            plan: plan.tag(),
            parent: plan.parent,
            founding,
            changes: plan.changes.clone(),
            members_after: plan.members_after,
            moves_total: moves.len(),
            moves: shown.collect(),
            bytes: plan.bytes,
            nodes,
            load_max_milli: plan.diff.load_max_milli,
            spread: SpreadView {
                zones: spread.zones,
                zones_wanted: spread.zones_wanted,
                partitions_spread: spread.partitions_spread,
                partitions_short: count(spread.partitions_short.len()),
            },
            warnings: plan.warnings.iter().map(NoteView::from).collect(),
            refusals: plan.refusals.iter().map(NoteView::from).collect(),
        }
    }
}

/// The answer to a commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommitDocument {
    /// The cluster.
    pub cluster: ClusterId,
    /// Version of history and ring after the commit.
    pub version: RingVersion,
}

/// Properties of one bucket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BucketDocument {
    /// The bucket.
    pub bucket: String,
    /// Whether the properties are its own, not the cluster's defaults.
    pub own: bool,
    /// The properties.
    pub props: BucketProps,
    /// What is legal but worth knowing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// All buckets with properties of their own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BucketsDocument {
    /// Properties of all other buckets.
    pub defaults: BucketProps,
    /// Properties by bucket.
    pub buckets: BTreeMap<String, BucketProps>,
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
