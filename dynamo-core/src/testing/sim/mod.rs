//! A seeded simulation of a whole cluster: the real core on a simulated network, disk and clock.
//!
//! Every node drives the core exactly as a storage node does ([`GetOp`](crate::quorum::GetOp),
//! [`PutOp`](crate::quorum::PutOp), [`coordinate_put`](crate::replica::coordinate_put),
//! [`FailureView`](crate::failure_view::FailureView),
//! [`HintSchedule`](crate::handoff::HintSchedule)); only what a shell does is simulated: messages
//! that are delayed, lost, doubled or cut off in one direction, disks that lose what was not
//! flushed, processes that crash, freeze and come back, clocks that disagree. Clients read, modify
//! and write, retry with the same put id, and note what they were told.
//!
//! | module | what |
//! |---|---|
//! | [`config`] | what one seed makes of a run; the mutants that the checks must catch |
//! | `network`, `store`, `node`, `client` | the simulated parts |
//! | `world`, `faults` | the event loop, what goes wrong |
//! | `serve`, `peers`, `coordinate` | the shell around the core |
//! | [`audit`] | what must hold after every step |
//! | [`history`], [`check`] | what clients saw, and what must hold of it in the end |
//!
//! In some runs a node joins the ring, and the others learn of it one by one (I-27): it stays a
//! pending owner, and requests need both active sets.
//!
//! One seed is one run: the same events in the same order, which the trace hash proves. Not here:
//! anti-entropy and transfer, which a last full exchange stands in for, and gossip (its own
//! simulation is in the membership tests).

#![allow(clippy::indexing_slicing, reason = "indexes of simulated nodes come from the same world")]

pub mod audit;
pub mod check;
mod client;
pub mod config;
mod coordinate;
mod faults;
pub mod history;
mod network;
mod node;
mod peers;
mod serve;
mod store;
mod world;

use std::collections::BTreeMap;

pub use config::{Mutant, SimConfig};
pub use history::History;

/// What became of one run.
#[derive(Debug)]
pub struct SimReport {
    /// The first invariant that was broken, and how; `None` for a good run.
    pub violation: Option<String>,
    /// How often each behaviour that a batch of runs must reach was reached.
    pub coverage: BTreeMap<&'static str, u64>,
    /// Hash over every event in order.
    pub trace: u64,
    /// Events that were processed.
    pub events: u64,
    /// What the clients saw.
    pub history: History,
    /// What happened, where the run was to write it down.
    pub log: Vec<String>,
}

/// Behaviours that every batch of runs must reach: a simulation that never gets there checks
/// nothing there.
pub const MUST_COVER: &[&str] = &[
    "absence unconfirmed",
    "clean restart",
    "crash",
    "epoch ended",
    "fallback coordinates",
    "frozen node resumed",
    "hint delivered",
    "hint kept",
    "hint kept by reference",
    "lost dot seen",
    "one-way cut",
    "partition",
    "power loss",
    "put not applied",
    "put replayed",
    "put unknown",
    "read repair",
    "retry made a second version",
    "siblings merged",
    "two active sets",
    "unreadable record",
];

/// Runs one seed to its end.
#[must_use]
pub fn run(config: &SimConfig) -> SimReport {
    world::World::new(config.clone()).run()
}
