//! How a get ends.

use crate::clock::record::Record;
use crate::id::NodeId;
use crate::quorum::report::ReplicaReport;

/// What a get found, and what it rests on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GetOutcome {
    /// All versions that the replies have: empty where the key was never written, without a live
    /// sibling where it was deleted.
    pub record: Record,
    /// Places that counted when the answer was given.
    pub acks: u8,
    /// Places that were needed (R).
    pub asked: u8,
    /// Primaries that answered for themselves.
    pub primaries: u8,
    /// Replicas of the object (N).
    pub n: u8,
    /// The primary that answered first: the preferred coordinator of the put that follows (paper
    /// section 5).
    pub fastest: Option<NodeId>,
    /// What each replica said, where the plan asked to explain; else empty.
    pub replicas: Vec<ReplicaReport>,
}

/// Why a get was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GetFailureKind {
    /// Too few replicas can answer (503 `quorum_unavailable`).
    QuorumUnavailable,
    /// Nothing was found, and too few holders confirm that nothing is there (503
    /// `absence_unconfirmed`).
    AbsenceUnconfirmed,
    /// The deadline came while replicas that might have answered were silent (504
    /// `deadline_exceeded`).
    Deadline,
}

/// A refused get.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind:?}: {got} of {required} replies")]
pub struct GetFailure {
    /// Why.
    pub kind: GetFailureKind,
    /// Places that were needed: R, or the primaries that the get insisted on where those lack.
    pub required: u8,
    /// Places that counted; where nobody was asked as too few are reachable, those that are.
    pub got: u8,
    /// What each replica said.
    pub replicas: Vec<ReplicaReport>,
}
