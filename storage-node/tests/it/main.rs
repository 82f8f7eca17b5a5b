//! Storage nodes in one process, over real sockets and real files. The membership agent is a small
//! server of this test: services never depend on each other.

#![allow(clippy::unwrap_used, reason = "a test fails where its setup does")]

mod agent;
mod client;
mod cluster;
mod handoff;
mod load;
mod movement;
mod objects;
mod permissions;
mod quarantine;
mod restart;
mod sloppy;
mod tree;
