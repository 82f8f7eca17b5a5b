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
//! | [`config`], [`mutant`] | what one seed makes of a run; the bugs that the checks must catch |
//! | `network`, `store`, `node`, `client` | the simulated parts |
//! | `world`, `event`, `faults`, `changes` | the event loop, what goes wrong, what changes |
//! | `agent`, `founding` | the membership agent beside each storage node |
//! | `serve`, `peers`, `hints`, `coordinate` | the shell around the core |
//! | `worker`, `compare`, `reaping`, `work` | the background worker beside each storage node, and what it asks |
//! | [`audit`], [`ring_audit`] | what must hold after every step |
//! | `ending` | the quiet period, and the comparison of all replicas |
//! | [`history`], [`check`] | what clients saw, and what must hold of it in the end |
//!
//! Every node works from the ring that its own agent's history folds to, so nodes and routers see
//! different rings at one time (I-27). Nodes join, leave, are replaced and removed during a run, and
//! partitions move as the core's [`Mover`](crate::transfer::Mover) says: copied page by page, held
//! after agreement (I-22), given up when every owner holds them (I-23). Replicas are compared with
//! [`Exchange`](crate::merkle::exchange::Exchange) round after round, so in the end all are equal
//! without any client, and then nothing moves any more (I-15). The tree of each store is that of
//! its records at any time (I-16).
//!
//! What is promised of reads (I-7, I-8, I-22): a sloppy quorum may miss an acknowledged write, also
//! one of the reader's own, and may even say that its key is absent, as long as a replica that
//! answers has not got it yet. So these are counted, and demanded only where they are promised:
//! no key is absent once every node that has to answer for it has it on its disk; reads that all
//! replicas answer never go backwards; strict reads show strict writes under one ring.
//!
//! One seed is one run: the same events in the same order, which the trace hash proves.

#![allow(clippy::indexing_slicing, reason = "indexes of simulated nodes come from the same world")]

mod agent;
pub mod audit;
mod changes;
pub mod check;
mod client;
mod compare;
pub mod config;
mod coordinate;
mod ending;
mod event;
mod faults;
mod founding;
mod hints;
pub mod history;
pub mod mutant;
mod network;
mod node;
mod peers;
mod reaping;
mod repeats;
pub mod ring_audit;
mod serve;
mod store;
mod work;
mod worker;
mod world;

use std::collections::BTreeMap;

pub use config::{SimConfig, Workload};
pub use history::History;
pub use mutant::Mutant;

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
    "clock skew refused",
    "crash",
    "disk replaced",
    "epoch ended: a context shows a lost dot",
    "epoch ended: a merge shows a lost dot",
    "epoch ended: a record is unreadable",
    "epoch ended: a record that it wrote is removed",
    "epoch ended: keys come to the node",
    "epoch ended: unclean start",
    "exchange compared keys",
    "exchange moved a record",
    "fallback coordinates",
    "frozen node resumed",
    "hint changed while it was on its way",
    "hint delivered",
    "hint delivered again",
    "hint given to the present owners",
    "hint kept",
    "hint kept by reference",
    "last write chosen",
    "late founder",
    "left-over record deleted",
    "merge that belongs elsewhere refused",
    "node joined",
    "node left",
    "node removed",
    "node replaced",
    "one-way cut",
    "page of a partition merged",
    "partition",
    "partition dropped",
    "partition gained",
    "partition released",
    "peer down",
    "power loss",
    "put found elsewhere",
    "put not applied",
    "put refused where the partition is given up",
    "put replayed",
    "put unknown",
    "read repair",
    "read with a pending owner",
    "record kept for a hint alone cleared away",
    "request while views differ",
    "retry made a second version",
    "ring changed",
    "router and coordinator see different rings",
    "router refreshed its ring",
    "sender killed between acknowledgement and removal",
    "siblings merged",
    "target killed between apply and acknowledgement",
    "twin taken out",
    "two active sets",
    "unreadable record",
    "weight set",
    "worker killed",
];

/// Behaviours that every batch of reaping runs must reach.
pub const REAPING_MUST_COVER: &[&str] = &[
    "dead record reaped everywhere",
    "hint refused at the cap",
    "put made anew after the reap",
    "reaping put off",
    "value expired",
];

/// Runs one seed to its end.
#[must_use]
pub fn run(config: &SimConfig) -> SimReport {
    world::World::new(config.clone()).run()
}
