//! The shell over real sockets on free ports: what a server does with hostile bytes, what a client
//! learns of a failing peer, and how a process starts, is watched and ends.

#![allow(clippy::unwrap_used, reason = "a broken assumption is a failed test")]

mod error_docs;
mod harness;
mod launch;
mod peer;
mod raw_requests;
mod ring_watch;
mod server_life;
mod tls;
