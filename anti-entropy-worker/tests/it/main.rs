//! Workers in one process, over real sockets. Agents and storage nodes are small servers of this
//! test: services never depend on each other. Scenarios with the real ones are in the tests of the
//! workspace.

#![allow(clippy::unwrap_used, reason = "a test fails where its setup does")]

mod agent;
mod comparing;
mod control;
mod moving;
mod reaping;
mod scene;
mod store;
