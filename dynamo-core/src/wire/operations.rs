//! What operators ask of the whole cluster: progress and repairs summed over the workers of all
//! nodes, and reading and writing everything for backups and verification. Served by the router.
//!
//! A node that does not answer is part of every answer: what it would have said is not counted.

mod behind;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::id::{NodeId, PartitionId};
use crate::merkle::TreeDigest;
use crate::wire::partition::PageRequest;
use crate::wire::tree::{ObjectDto, TreeState};
use crate::wire::worker::{
    AntiEntropyDocument, RepairDocument, RepairState, TransferState, TransfersDocument,
};

pub use behind::{PartitionBehind, ReplicaApart};

/// `POST` of a [`RecordsRequest`], answered by a frame ([`crate::wire::partition::encode_page`]);
/// [`records_path`] fills it in.
pub const PARTITION_RECORDS_PATH: &str = "/v1/admin/partitions/{partition}/records";

/// `POST` of a [`ListRequest`], answered by a [`crate::wire::tree::KeysAnswer`];
/// [`partition_keys_path`] fills it in.
pub const PARTITION_KEYS_PATH: &str = "/v1/admin/partitions/{partition}/keys";

/// `POST` of a [`RootRequest`], answered by a [`RootDocument`]; [`partition_digest_path`] fills it
/// in.
pub const PARTITION_DIGEST_PATH: &str = "/v1/admin/partitions/{partition}/digest";

/// `POST` of a frame as [`PARTITION_RECORDS_PATH`] answers it, of whatever partition: each record
/// is merged into all its replicas. Answered by a [`MergedDocument`].
pub const MERGE_PATH: &str = "/v1/admin/merge";

/// The path of a partition's records.
#[must_use]
pub fn records_path(partition: PartitionId) -> String {
    format!("/v1/admin/partitions/{}/records", partition.0)
}

/// The path of the keys of a partition at one node.
#[must_use]
pub fn partition_keys_path(partition: PartitionId) -> String {
    format!("/v1/admin/partitions/{}/keys", partition.0)
}

/// The path of the digest of a partition at one node.
#[must_use]
pub fn partition_digest_path(partition: PartitionId) -> String {
    format!("/v1/admin/partitions/{}/digest", partition.0)
}

/// One node's part of an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeReport<T> {
    /// The node.
    pub node: NodeId,
    /// Its name.
    pub name: String,
    /// Whether its process answered at all.
    pub reachable: bool,
    /// The code of its refusal, where it refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
    /// What it said.
    #[serde(default = "none", skip_serializing_if = "Option::is_none")]
    pub report: Option<T>,
}

/// A default for a field of any type.
fn none<T>() -> Option<T> {
    None
}

impl<T> NodeReport<T> {
    /// Nodes without a report.
    pub(crate) fn silent(nodes: &[Self]) -> usize {
        nodes.iter().filter(|node| node.report.is_none()).count()
    }

    pub(crate) fn reports(nodes: &[Self]) -> impl Iterator<Item = &T> {
        nodes.iter().filter_map(|node| node.report.as_ref())
    }
}

/// Partitions on the move, everywhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterTransfers {
    /// Partitions by state, summed over the nodes.
    pub totals: BTreeMap<TransferState, usize>,
    /// Partitions that some node is to have and does not hold yet.
    pub incoming: usize,
    /// Partitions that some node gives up.
    pub outgoing: usize,
    /// Records copied so far of the partitions that are being copied.
    pub records: u64,
    /// Records that their sources have, as far as those said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub records_total: Option<u64>,
    /// Bytes copied since the start of each worker.
    pub bytes: u64,
    /// Estimated milliseconds until everything under way is copied: that of the slowest node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eta_ms: Option<u64>,
    /// Nodes whose worker was told to pause.
    pub paused: usize,
    /// Nodes that gave no report.
    pub silent: usize,
    /// What each node said.
    pub nodes: Vec<NodeReport<TransfersDocument>>,
}

impl ClusterTransfers {
    /// Sums the reports.
    #[must_use]
    pub fn of(nodes: Vec<NodeReport<TransfersDocument>>) -> Self {
        let mut sum = Self {
            totals: BTreeMap::new(),
            incoming: 0,
            outgoing: 0,
            records: 0,
            records_total: Some(0),
            bytes: 0,
            eta_ms: None,
            paused: 0,
            silent: NodeReport::silent(&nodes),
            nodes: Vec::new(),
        };
        for report in NodeReport::reports(&nodes) {
            for (state, count) in &report.totals {
                *sum.totals.entry(*state).or_default() += count;
                match direction(*state) {
                    Some(Direction::In) => sum.incoming += count,
                    Some(Direction::Out) => sum.outgoing += count,
                    None => {}
                }
            }
            sum.bytes = sum.bytes.saturating_add(report.bytes);
            sum.paused += usize::from(report.paused);
            for view in &report.partitions {
                if direction(view.state) == Some(Direction::In) {
                    sum.records = sum.records.saturating_add(view.records);
                    sum.records_total =
                        sum.records_total.zip(view.records_total).map(|(a, b)| a.saturating_add(b));
                }
                sum.eta_ms = sum.eta_ms.max(view.eta_ms);
            }
        }
        sum.records_total = sum.records_total.filter(|total| *total > 0);
        sum.nodes = nodes;
        sum
    }

    /// Whether every node was heard and none has anything to move.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.silent == 0 && self.incoming == 0 && self.outgoing == 0
    }
}

/// Which way a partition moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    In,
    Out,
}

fn direction(state: TransferState) -> Option<Direction> {
    match state {
        TransferState::Waiting
        | TransferState::NoHolder
        | TransferState::Offered
        | TransferState::Copying
        | TransferState::Closing => Some(Direction::In),
        TransferState::WaitingForOwners
        | TransferState::Releasing
        | TransferState::Grace
        | TransferState::Pushing
        | TransferState::Dropping => Some(Direction::Out),
        TransferState::Held => None,
    }
}

/// How the comparisons stand, everywhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterAntiEntropy {
    /// Milliseconds since everything was last seen equal everywhere: that of the node that is
    /// furthest behind. Absent where some node has not finished a first round or gave no report.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lag_ms: Option<u64>,
    /// Keys found to differ and not repaired yet.
    pub keys_behind: u64,
    /// Keys compared one by one since the start of each worker. A key counts at both of its nodes.
    pub keys_compared: u64,
    /// Keys repaired.
    pub keys_repaired: u64,
    /// Bytes of records moved for it.
    pub bytes: u64,
    /// Comparisons under way.
    pub running: usize,
    /// Partners with whom the last comparison failed.
    pub failing: usize,
    /// Nodes whose worker was told to pause.
    pub paused: usize,
    /// Nodes that gave no report.
    pub silent: usize,
    /// Partitions whose replicas the last comparisons did not find equal everywhere.
    #[serde(default)]
    pub partitions_behind: usize,
    /// The [`PARTITIONS_BEHIND_SHOWN_MAX`](crate::limits::PARTITIONS_BEHIND_SHOWN_MAX) of them that
    /// are furthest behind, the worst first.
    #[serde(default)]
    pub behind: Vec<PartitionBehind>,
    /// What each node said.
    pub nodes: Vec<NodeReport<AntiEntropyDocument>>,
}

impl ClusterAntiEntropy {
    /// Sums the reports.
    #[must_use]
    pub fn of(nodes: Vec<NodeReport<AntiEntropyDocument>>) -> Self {
        let lags: Option<Vec<u64>> = nodes
            .iter()
            .map(|node| node.report.as_ref().and_then(|report| report.lag_ms))
            .collect();
        let peers = || NodeReport::reports(&nodes).flat_map(|report| &report.peers);
        let (partitions_behind, behind) = behind::of(&nodes);
        Self {
            partitions_behind,
            behind,
            lag_ms: lags.and_then(|lags| lags.into_iter().max()),
            keys_behind: NodeReport::reports(&nodes).map(|report| report.keys_behind).sum(),
            keys_compared: peers().map(|peer| peer.keys_compared).sum(),
            keys_repaired: peers().map(|peer| peer.keys_repaired).sum(),
            bytes: peers().map(|peer| peer.bytes).sum(),
            running: peers().filter(|peer| peer.running).count(),
            failing: peers().filter(|peer| peer.error.is_some()).count(),
            paused: NodeReport::reports(&nodes).filter(|report| report.paused).count(),
            silent: NodeReport::silent(&nodes),
            nodes,
        }
    }
}

/// A repair that was asked of every node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterRepair {
    /// Its name, the same at every node.
    pub id: String,
    /// How far it is: done when it is at every node, failed as soon as it is at one of them.
    pub state: RepairState,
    /// Keys compared one by one.
    pub keys_compared: u64,
    /// Keys repaired.
    pub keys_repaired: u64,
    /// Nodes at which it has ended.
    pub ended: usize,
    /// Nodes that gave no report: not reachable, or restarted since.
    pub silent: usize,
    /// What each node said.
    pub nodes: Vec<NodeReport<RepairDocument>>,
}

impl ClusterRepair {
    /// Sums the reports. A node without one counts as failed: it has compared nothing that could
    /// be relied upon.
    #[must_use]
    pub fn of(id: String, nodes: Vec<NodeReport<RepairDocument>>) -> Self {
        let silent = NodeReport::silent(&nodes);
        let reports = || NodeReport::reports(&nodes);
        let in_state = |state| reports().filter(|report| report.state == state).count();
        let (done, failed) = (in_state(RepairState::Done), in_state(RepairState::Failed));
        let state = if failed + silent > 0 {
            RepairState::Failed
        } else if done == nodes.len() {
            RepairState::Done
        } else if done + in_state(RepairState::Running) > 0 {
            RepairState::Running
        } else {
            RepairState::Queued
        };
        Self {
            state,
            keys_compared: reports().map(|report| report.keys_compared).sum(),
            keys_repaired: reports().map(|report| report.keys_repaired).sum(),
            ended: done + failed,
            silent,
            id,
            nodes,
        }
    }
}

/// What became of an acceptance of loss at each node that it concerned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LossAccepted {
    /// Partitions whose loss was accepted, ascending.
    pub partitions: Vec<PartitionId>,
    /// The nodes that had been waiting for them.
    pub nodes: Vec<NodeReport<TransfersDocument>>,
}

/// Why a node should not stop now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StopReasonView {
    /// `writes`, `reads` or `last_holder`; see [`crate::routing::stopping::StopReason`].
    pub reason: String,
    /// Copies that the objects concerned have (N).
    pub n: u8,
    /// How many partitions it is about.
    pub partitions: u32,
    /// The first of them.
    pub first: PartitionId,
    /// Of those, how many are in this state already, whether the node stops or not.
    pub already: u32,
}

/// Whether a node may stop.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SafeToStop {
    /// The node.
    pub node: NodeId,
    /// Its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Whether every partition keeps a reachable quorum of primaries without it.
    pub safe: bool,
    /// Partitions that would not.
    pub partitions_at_risk: u32,
    /// Why not.
    pub reasons: Vec<StopReasonView>,
    /// Partitions that are being copied from nodes of which it is one: stopping it delays them.
    pub moves_delayed: u32,
    /// Hints it keeps for others: they wait until it is back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hints_kept: Option<u64>,
    /// Nodes that do not answer now.
    pub unreachable: Vec<NodeId>,
    /// What is legal but worth knowing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// Asks for a page of all records of a partition.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordsRequest {
    /// Where the page before ended; absent for the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<ObjectDto>,
    /// Whether a page of fewer than a majority of the holders will do.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub partial: bool,
}

impl From<&RecordsRequest> for PageRequest {
    fn from(request: &RecordsRequest) -> Self {
        Self { for_node: None, after: request.after.clone() }
    }
}

/// Asks one node for the keys that it has of a partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListRequest {
    /// The node, by id or name.
    pub node: String,
    /// Only of buckets with so many copies.
    pub n: u8,
    /// First leaf of the tree that is listed.
    pub first: u16,
    /// Last leaf that is listed; at most [`crate::limits::TREE_LEAVES_MAX`] in all.
    pub last: u16,
    /// Where the page before ended; absent for the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<ObjectDto>,
}

/// Asks one node for the digest of all it has of a partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RootRequest {
    /// The node, by id or name.
    pub node: String,
    /// Only of buckets with so many copies.
    pub n: u8,
}

/// The digest of a partition at one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootDocument {
    /// The node.
    pub node: NodeId,
    /// Whether its tree is complete; while it is not, the digest is no evidence.
    pub state: TreeState,
    /// The digest; absent while the tree is being built.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<TreeDigest>,
}

/// What became of records at one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MergedAt {
    /// The node.
    pub node: NodeId,
    /// Its name, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Records it merged durably.
    pub merged: u64,
    /// Records it did not.
    pub failed: u64,
    /// Why not, of the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// What became of a page that was merged back.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct MergedDocument {
    /// Records in the page.
    pub records: u64,
    /// Of those: merged at every replica.
    pub everywhere: u64,
    /// Merged at a majority; anti-entropy brings them to the rest.
    pub quorum: u64,
    /// Merged at too few. Merging the page again is harmless and needed.
    pub short: u64,
    /// What each node did.
    pub nodes: Vec<MergedAt>,
}

#[cfg(test)]
mod tests;
