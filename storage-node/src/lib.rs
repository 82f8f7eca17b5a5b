//! The storage node: redb persistence, replica operations, request coordination and hinted handoff
//! (paper sections 4.5, 4.6 and 5).
//!
//! | module | what |
//! |---|---|
//! | [`service`], [`config`], [`args`] | the life of the process, its settings, its command line |
//! | [`node`] | what all requests share |
//! | [`api`] | the HTTP routes |
//! | [`coordinator`] | client gets and puts: performing the effects of the quorum machines |
//! | [`replica`] | operations of other coordinators on this node's replica |
//! | [`peers`] | sending to the other nodes, and judging whether they are there |
//! | [`handoff`] | delivering hints |
//! | [`freshness`] | how fresh reads are, estimated from the requests coordinated here |
//! | [`possession`] | what this node has of each partition |
//! | [`background`] | slices of background work, and the scrub |
//! | [`cluster`] | following the ring, and telling the membership agent about the store |
//! | [`store`] | records and hints on disk, one writer per file |
//! | [`data_dir`], [`node_file`], [`epoch`] | whose data this is, and the actor that mints |
//! | [`metrics`], [`limits`] | what operators see, and every bound |
//!
//! Whatever decides about replication, versions or ownership is in `dynamo-core`; this crate
//! performs it.

pub mod api;
pub mod args;
pub mod background;
pub mod cluster;
pub mod config;
pub mod coordinator;
pub mod data_dir;
pub mod epoch;
pub mod freshness;
pub mod handoff;
pub mod limits;
pub mod metrics;
pub mod node;
pub mod node_file;
pub mod peers;
pub mod possession;
pub mod replica;
pub mod service;
pub mod store;

pub use args::{Args, main};
