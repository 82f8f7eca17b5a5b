//! What travels between processes: JSON shapes, paths and header names, in one place. Domain types
//! do not derive serde for the wire; the conversions are here and check every limit.
//!
//! | module | between |
//! |---|---|
//! | [`frame`] | the body form of messages that carry object bytes |
//! | [`coordinate`] | router or client library and coordinator |
//! | [`replica`], [`record`] | coordinator and replicas |
//! | [`tree`] | background worker and storage node: comparing replicas |
//! | [`partition`], [`reap`] | background worker and storage node: moving partitions, removing the dead |
//! | [`worker`] | background worker and operators |
//! | [`operations`] | router and operators: the workers of all nodes, backups, verification |
//! | [`load`] | storage node, router and operators: who had how many operations |
//! | [`peers`] | storage node, router and operators: how the nodes see each other |
//! | [`ring`] | the ring snapshot, to everyone |
//! | [`membership`] | administration, and storage node to agent |
//! | [`gossip`] | agent and agent |
//! | [`headers`], [`key_text`] | names and text forms |

pub mod coordinate;
pub mod frame;
pub mod gossip;
pub mod headers;
pub mod key_text;
pub mod load;
pub mod log_level;
pub mod membership;
pub mod operations;
pub mod partition;
pub mod peers;
pub mod reap;
pub mod record;
pub mod replica;
pub mod ring;
pub mod tree;
pub mod worker;
