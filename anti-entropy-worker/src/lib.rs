//! The anti-entropy worker (paper sections 4.7 and 4.9): keeps the replicas of a node equal to
//! those of the others, brings partitions to their owners, and removes what nobody needs.
//!
//! It has no data of its own: everything is read and repaired through the storage nodes, the local
//! one and those of the other hosts. Killing it delays repair and hurts nothing.
//!
//! | module | what |
//! |---|---|
//! | [`service`], [`config`], [`args`] | the life of the process, its settings, its command line |
//! | [`worker`], [`pause`] | what handlers and tasks share, and halting them |
//! | [`api`] | status and control over HTTP |
//! | [`agent`] | the local membership agent: identity and ring |
//! | [`peers`] | calling storage nodes, and judging whether they are there |
//! | [`exchange`] | comparing replicas and repairing them |
//! | [`movement`], [`progress`] | partitions on the move, and what survives the process |
//! | [`reaper`] | removing tombstones and old clock entries |
//! | [`metrics`], [`limits`] | what operators see, and every bound |
//!
//! Whatever decides about replication, versions or ownership is in `dynamo-core`; this crate
//! performs it.

pub mod agent;
pub mod api;
pub mod args;
pub mod config;
pub mod exchange;
pub mod limits;
pub mod metrics;
pub mod movement;
pub mod pause;
pub mod peers;
pub mod progress;
pub mod reaper;
pub mod service;
pub mod worker;

pub use args::{Args, main};
