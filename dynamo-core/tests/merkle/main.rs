//! The Merkle tree against scans, and exchanges between replicas in memory.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

mod bounds;
mod convergence;
mod faults;
mod golden;
mod messages;
mod support;
mod tree;
