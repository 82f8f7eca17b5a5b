//! Request coordination (paper section 5): one client request is one pure state machine from
//! `dynamo_core::quorum`, and one task that performs its effects.
//!
//! | module | what |
//! |---|---|
//! | [`request`] | what all requests need: the ring, the object, the deadline |
//! | [`get`], [`put`] | performing the effects of the two machines |
//! | [`mod@write`] | puts and deletes as clients send them: conditions, contexts, what is seen first |
//! | [`refusal`] | failures as problem documents |
//!
//! Answering is not finishing: what is left of a request when it was answered goes on in the
//! background (late replies, repairs, replicas for stand-ins), bounded by its deadline.

pub mod get;
pub mod put;
pub mod refusal;
pub mod request;
pub mod write;
