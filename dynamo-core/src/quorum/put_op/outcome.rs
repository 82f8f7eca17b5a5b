//! How a put ends.

use crate::quorum::report::ReplicaReport;
use crate::replica::PutRefusal;

/// What an accepted put rests on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PutOutcome {
    /// Places filled when the answer was given, in the active set that had the fewest to spare.
    pub acks: u8,
    /// Places that were needed (W).
    pub asked: u8,
    /// Primaries that have it themselves.
    pub primaries: u8,
    /// Replicas of the object (N).
    pub n: u8,
    /// Places for which a stand-in, or the coordinator by reference, keeps a hint so far.
    pub hinted: u8,
    /// What each replica did.
    pub replicas: Vec<ReplicaReport>,
}

/// Whether a refused put may have happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing was stored anywhere, and nothing will be.
    NotApplied,
    /// It may be stored in part or in whole, now or later.
    Unknown,
}

/// Why the coordinator's own replica did not take a put.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LocalFailure {
    /// The put itself is not acceptable.
    Refused(PutRefusal),
    /// The store failed.
    Store {
        /// The error code of the failure.
        code: String,
    },
}

/// Why a put was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PutFailureKind {
    /// The coordinator is not in the object's active list (421 `not_owner`).
    NotOwner,
    /// Too few replicas can take it (503 `quorum_unavailable`).
    QuorumUnavailable,
    /// The deadline came while replicas that might have taken it were silent (504
    /// `deadline_exceeded`).
    Deadline,
    /// The coordinator's own replica did not take it, and no dot was minted.
    Local(LocalFailure),
}

/// A refused put.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind:?} ({outcome:?}): {got} of {required} acknowledgements")]
pub struct PutFailure {
    /// Why.
    pub kind: PutFailureKind,
    /// Whether it may have happened all the same.
    pub outcome: Outcome,
    /// Places that were needed: W, or the primaries that the put insisted on where those lack.
    pub required: u8,
    /// Places that were filled; where nothing was written as too few are reachable, those that are.
    pub got: u8,
    /// What each replica did.
    pub replicas: Vec<ReplicaReport>,
}
