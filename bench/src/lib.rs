//! Load generation against a running Atoll, and honest numbers about it.
//!
//! Closed loop: every client waits for its answer before it asks again; shows what the system can
//! do. Open loop: requests are due at a constant rate whatever the answers do, and latency counts
//! from when a request was *due*, so a stall is charged to every request that waited behind it (no
//! coordinated omission). Percentiles come from HDR histograms with three digits.
//!
//! CPU per operation is taken from the kernel's accounts of the server processes, so figures of a
//! busy machine can be compared with those of a quiet one.
//!
//! | module | what |
//! |---|---|
//! | [`options`] | what to measure |
//! | [`workload`] | which operation on which key with which bytes |
//! | [`connection`] | one keep-alive connection to a router |
//! | [`tls`] | the same inside TLS |
//! | [`driver`] | the loops |
//! | [`processes`] | CPU and memory of the server processes |
//! | [`report`] | the results, for people and as JSON |
//!
//! Not here: starting servers.

pub mod connection;
pub mod driver;
pub mod options;
pub mod processes;
pub mod report;
pub mod tls;
pub mod workload;

pub use driver::{BenchError, run};
pub use options::Options;
pub use report::Report;
