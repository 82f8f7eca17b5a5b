//! What happens to a get, and what it has its shell do.

use crate::clock::digest::RecordDigest;
use crate::clock::record::Record;
use crate::id::NodeId;
use crate::quorum::get_op::outcome::{GetFailure, GetOutcome};
use crate::quorum::report::ReplicaFailure;
use crate::time::Mono;

/// What a replica said to a read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReplicaReply {
    /// Its record.
    Record(Record),
    /// Its record equals the one named by `unless`.
    Same,
    /// It has nothing under the key.
    Absent {
        /// Whether it holds the key's partition completely.
        holds: bool,
    },
}

/// What happens to a get.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GetEvent {
    /// A replica answered; also the local one.
    Reply {
        /// Which one.
        from: NodeId,
        /// What it said.
        reply: ReplicaReply,
    },
    /// A replica failed; also the local one.
    Failed {
        /// Which one.
        from: NodeId,
        /// How.
        failure: ReplicaFailure,
    },
    /// The time that was set has come.
    Timer,
}

/// What the shell does for a get.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GetEffect {
    /// Read the replica of `node`; hints that it keeps for others count. `node` may be the
    /// coordinator itself: read the local store.
    Read {
        /// Whom to ask.
        node: NodeId,
        /// Digest of the record that is here already.
        unless: Option<RecordDigest>,
    },
    /// Answer the client.
    Answer(GetOutcome),
    /// Refuse.
    Fail(GetFailure),
    /// Merge `record` into the replica of `node`, which may be the coordinator itself.
    Repair {
        /// The stale primary.
        node: NodeId,
        /// What it shall have.
        record: Record,
    },
    /// Tell the failure view that `node` exceeded its patience.
    Overdue {
        /// The slow node.
        node: NodeId,
    },
    /// Send [`GetEvent::Timer`] at this time, and at no earlier one.
    SetTimer(Mono),
    /// Drop the operation.
    Done,
}
