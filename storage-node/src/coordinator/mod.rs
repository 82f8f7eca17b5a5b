//! Request coordination (paper section 5): one client request is one pure state machine from
//! `dynamo_core::quorum`, and one task that performs its effects.
//!
//! | module | what |
//! |---|---|
//! | [`request`] | what all requests need: the ring, the object, the deadline |
//! | `driver` | running one operation: its events, its timer, its end and what is left after it |
//! | [`get`], [`put`] | performing the effects of the two machines |
//! | [`mod@write`] | puts and deletes as clients send them: conditions, contexts, what is seen first |
//! | [`repeated`] | asking about a put that may have been applied elsewhere |
//! | [`refusal`] | failures as problem documents |
//!
//! Answering is not finishing: what is left of a request when it was answered goes on in the
//! background (late replies, repairs, replicas for stand-ins), bounded by its deadline.

mod driver;
pub mod get;
pub mod put;
pub mod refusal;
pub mod repeated;
pub mod request;
pub mod write;
