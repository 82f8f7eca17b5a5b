//! What the background worker says about its work, and what it can be told. Documents for
//! operators, the console and dashboards.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::id::{NodeId, PartitionId};
use crate::limits::PARTITIONS_MAX;
use crate::ring::RingVersion;
use crate::time::WallMs;

/// `GET`, answered by an [`AntiEntropyDocument`].
pub const ANTI_ENTROPY_PATH: &str = "/v1/anti-entropy";

/// `POST` of a [`RepairRequest`], answered by a [`RepairDocument`]; `GET` of one with
/// `/{id}` behind it.
pub const REPAIR_PATH: &str = "/v1/anti-entropy/repair";

/// `POST`: exchanges and transfers pause after the step they are in. Answered as
/// [`ANTI_ENTROPY_PATH`].
pub const PAUSE_PATH: &str = "/v1/anti-entropy/pause";

/// `POST`: they go on.
pub const RESUME_PATH: &str = "/v1/anti-entropy/resume";

/// `GET`, answered by a [`TransfersDocument`].
pub const TRANSFERS_PATH: &str = "/v1/transfers";

/// `POST` of an [`AcceptLossRequest`], answered by a [`TransfersDocument`].
pub const ACCEPT_LOSS_PATH: &str = "/v1/transfers/accept-loss";

/// A request to the worker that makes no sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WorkerMessageError {
    /// A partition and a bucket at once.
    #[error("a repair is of one partition, of one bucket, or of everything")]
    Scope,
    /// Nothing to accept, or more than there is.
    #[error("1 to {PARTITIONS_MAX} partitions must be named")]
    Partitions,
}

/// How one exchange partner stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerExchange {
    /// The other node.
    pub node: NodeId,
    /// Its name, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Partitions in common.
    pub partitions: usize,
    /// When all of them were last found equal; absent for never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agreed_at: Option<WallMs>,
    /// When the last round ended, however it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<WallMs>,
    /// Whether a round is under way.
    pub running: bool,
    /// Why the last round failed, where it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Keys compared one by one since the start of the worker.
    pub keys_compared: u64,
    /// Keys repaired, in either direction.
    pub keys_repaired: u64,
    /// Bytes of records sent and received.
    pub bytes: u64,
}

/// When a partition was last found equal at all its owners.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionAgreement {
    /// The partition.
    pub partition: PartitionId,
    /// When; absent for never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agreed_at: Option<WallMs>,
    /// Partners from which it differed after the last comparison with them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub differs_from: Vec<NodeId>,
    /// Partners with which the last comparison failed, or did not come about.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub not_compared_with: Vec<NodeId>,
}

/// State of exchanges and repairs of one worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AntiEntropyDocument {
    /// Its node.
    pub node: NodeId,
    /// The ring it works with; absent before it knows one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ring: Option<RingVersion>,
    /// Whether it was told to pause.
    pub paused: bool,
    /// Its exchange partners, by node.
    pub peers: Vec<PeerExchange>,
    /// Its partitions, ascending.
    pub partitions: Vec<PartitionAgreement>,
    /// Milliseconds since every partition was last seen equal with every partner: how stale a
    /// replica may be at most. Absent until there has been a first full round.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lag_ms: Option<u64>,
    /// Keys that the last rounds found to differ and have not repaired yet.
    pub keys_behind: u64,
}

/// What is to be compared at once, out of turn.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RepairRequest {
    /// One partition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partition: Option<PartitionId>,
    /// The keys of one bucket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bucket: Option<String>,
}

impl RepairRequest {
    /// Checks that at most one scope is named.
    ///
    /// # Errors
    /// [`WorkerMessageError::Scope`].
    pub fn check(&self) -> Result<(), WorkerMessageError> {
        if self.partition.is_some() && self.bucket.is_some() {
            Err(WorkerMessageError::Scope)
        } else {
            Ok(())
        }
    }
}

/// How far a repair is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RepairState {
    /// Not begun.
    Queued,
    /// Under way.
    Running,
    /// Every partner was compared, and equal in the end.
    Done,
    /// A partner did not answer, or keys still differ.
    Failed,
}

/// One repair that somebody asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepairDocument {
    /// Its name.
    pub id: String,
    /// What is compared.
    #[serde(flatten)]
    pub scope: RepairRequest,
    /// How far it is.
    pub state: RepairState,
    /// When it was asked for.
    pub asked_at: WallMs,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<WallMs>,
    /// Keys compared one by one.
    pub keys_compared: u64,
    /// Keys repaired.
    pub keys_repaired: u64,
    /// Why it failed, where it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Where a partition on the move stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TransferState {
    /// Wanted, and waiting for its turn.
    Waiting,
    /// Wanted, and nobody is known to hold it.
    NoHolder,
    /// A holder was asked whether it has it.
    Offered,
    /// Being copied.
    Copying,
    /// Copied; compared with every holder.
    Closing,
    /// Held.
    Held,
    /// Not needed any more, and waiting until every owner holds it.
    WaitingForOwners,
    /// Compared with every owner before it is given up.
    Releasing,
    /// Given up; requests that began before must end first.
    Grace,
    /// Compared once more, in one direction: what came late goes to the owners.
    Pushing,
    /// Being deleted.
    Dropping,
}

impl TransferState {
    /// All of them, in the order in which they occur.
    pub const ALL: [Self; 11] = [
        Self::Waiting,
        Self::NoHolder,
        Self::Offered,
        Self::Copying,
        Self::Closing,
        Self::Held,
        Self::WaitingForOwners,
        Self::Releasing,
        Self::Grace,
        Self::Pushing,
        Self::Dropping,
    ];

    /// Its text in answers, logs and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::NoHolder => "no_holder",
            Self::Offered => "offered",
            Self::Copying => "copying",
            Self::Closing => "closing",
            Self::Held => "held",
            Self::WaitingForOwners => "waiting_for_owners",
            Self::Releasing => "releasing",
            Self::Grace => "grace",
            Self::Pushing => "pushing",
            Self::Dropping => "dropping",
        }
    }
}

/// One partition on the move.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransferView {
    /// The partition.
    pub partition: PartitionId,
    /// Where it stands.
    pub state: TransferState,
    /// The node that it is copied from or compared with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<NodeId>,
    /// Records copied, restarts included once.
    pub records: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Records that the source has, where it said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub records_total: Option<u64>,
    /// Estimated milliseconds until it is copied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eta_ms: Option<u64>,
    /// How often it went on after a failure, a restart or another source.
    pub restarts: u32,
    /// What went wrong last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// All partitions on the move at one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransfersDocument {
    /// The node.
    pub node: NodeId,
    /// The ring it works with; absent before it knows one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ring: Option<RingVersion>,
    /// Whether the worker was told to pause.
    pub paused: bool,
    /// Number of partitions by state; states without any are left out.
    pub totals: BTreeMap<TransferState, usize>,
    /// Records copied since the start of the worker.
    pub records: u64,
    /// Bytes copied since then.
    pub bytes: u64,
    /// The partitions that are not simply held, ascending.
    pub partitions: Vec<TransferView>,
}

/// An operator accepts that what nobody holds is lost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AcceptLossRequest {
    /// The partitions, each of them in the state [`TransferState::NoHolder`]; others are refused.
    pub partitions: Vec<PartitionId>,
}

impl AcceptLossRequest {
    /// Checks that something is named, and not too much.
    ///
    /// # Errors
    /// [`WorkerMessageError::Partitions`].
    pub fn check(&self) -> Result<(), WorkerMessageError> {
        if (1..=PARTITIONS_MAX as usize).contains(&self.partitions.len()) {
            Ok(())
        } else {
            Err(WorkerMessageError::Partitions)
        }
    }
}
