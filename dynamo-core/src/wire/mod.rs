//! What travels between processes: JSON shapes, paths and header names, in one place. Domain types
//! do not derive serde for the wire; the conversions are here and check every limit.
//!
//! | module | between |
//! |---|---|
//! | [`frame`] | the body form of messages that carry object bytes |
//! | [`coordinate`] | router or client library and coordinator |
//! | [`replica`], [`record`] | coordinator and replicas |
//! | [`ring`] | the ring snapshot, to everyone |
//! | [`membership`] | administration, and storage node to agent |
//! | [`gossip`] | agent and agent |
//! | [`headers`], [`key_text`] | names and text forms |

pub mod coordinate;
pub mod frame;
pub mod gossip;
pub mod headers;
pub mod key_text;
pub mod membership;
pub mod record;
pub mod replica;
pub mod ring;
