//! The router as a process would run it, over real sockets, before a membership agent and storage
//! nodes that speak the real messages and keep real records in memory.

#![allow(clippy::unwrap_used, reason = "a test that fails should panic, also in its helpers")]

mod admin;
mod answers;
#[path = "../bad_input/mod.rs"]
mod bad_input;
mod bad_requests;
mod bulk;
mod console;
mod operations;
mod permissions;
mod properties;
mod refusals;
mod routing;
mod support;
