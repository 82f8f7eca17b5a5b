//! The membership agent of a host (paper sections 4.8.1 and 4.8.2).
//!
//! A thin shell around [`dynamo_core::membership`]: it keeps what is known in a file, gossips once
//! a second, serves the ring to the processes of its host and to clients, and takes the
//! administrator's changes at any node.
//!
//! | module | what |
//! |---|---|
//! | [`config`] | settings |
//! | [`agent`] | the one place where the view changes: judge, make durable, apply, publish |
//! | [`store`] | the file: identity, history, registers, last known states |
//! | `gossip` | performs the effects of gossip, once a second |
//! | `join` | joins the ring by itself, once, where it is configured to |
//! | [`seeds`] | addresses of the seeds, from a list and from DNS |
//! | [`api`] | routes |
//! | [`metrics`] | what Prometheus sees |
//!
//! Invariants: an event or a register is on the disk before anyone is told that it was taken, and
//! before it is passed on; the storage node, router and worker of the host go on without this
//! process.

pub mod agent;
pub mod api;
pub mod config;
pub mod metrics;
pub mod seeds;
pub mod store;

mod gossip;
mod join;
mod service;

pub use config::Config;
pub use service::{Args, MembershipService, main, run};
