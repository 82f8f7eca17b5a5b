//! Membership as one agent and as many: laws of the merge, the ring as a fold, plans, gossip.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod auto_join;
mod gossip;
mod history;
mod plan;
mod support;
mod view;
