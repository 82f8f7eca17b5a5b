//! Gets and puts (paper sections 4.5 and 4.6): one request is one state machine.
//!
//! | module | what it decides |
//! |---|---|
//! | [`tally`] | which replies and acknowledgements make a quorum, in every active set |
//! | [`get_op`] | one get: whom to ask, when to answer, when absence is certain, whom to repair |
//! | [`put_op`] | one put: whom to send to, who stands in, what is owed as a hint, when to answer |
//! | [`catch_up`] | what a put asks first, where another attempt of it may have been applied |
//! | [`report`] | what each replica did, for answers and refusals |
//!
//! The unit of counting is the *place*: a node that shall have the replica, or whoever stands in
//! for it. A primary and its stand-in fill one place together, as their two copies become one when
//! the hint is delivered; counting both would break R + W > N after the handoff.
//!
//! An operation takes events and returns effects. The shell performs the effects in order and
//! decides nothing. Every operation emits exactly one `Answer` or `Fail`; repairs, hints and sends
//! may follow it; `Done` is last, and events after it are ignored. `SetTimer` replaces the timer
//! set before. Events that fit nothing that was asked (duplicates, strangers) are ignored.
//!
//! Not here: who is reachable ([`crate::failure_view`]), what a replica does with a record
//! ([`crate::replica`]), the transport.

pub mod catch_up;
pub mod get_op;
mod invariants;
pub mod put_op;
pub mod report;
mod roster;
pub mod tally;

pub use catch_up::CatchUp;
pub use get_op::{
    GetEffect, GetEvent, GetFailure, GetFailureKind, GetOp, GetOutcome, GetPlan, ReplicaReply,
};
pub use put_op::{
    LocalFailure, Outcome, PutEffect, PutEvent, PutFailure, PutFailureKind, PutOp, PutOutcome,
    PutPlan,
};
pub use report::{ReplicaFailure, ReplicaReport, Reported};
pub use tally::{Tally, WriteGoal};
