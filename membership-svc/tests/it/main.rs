//! Real agents in this process: real HTTP on free ports, real files.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod cluster;
mod hostile;
mod join;
mod support;
