//! Removing dead records, and the oldest entries of long clocks, from every node at once (hazards
//! C3 and C5, invariants I-10 and I-11).
//!
//! A tombstone protects against older values that may still lie somewhere. It may go when there is
//! no such value: every owner has the very same record, no other copy exists on any disk of the
//! cluster, and nobody keeps a hint for the key. All nodes that may hold anything are asked, and
//! all must answer under one ring; a node that is down or behind keeps everything where it is. So
//! a copy that a node has left over, or has not brought up to date, blocks the removal instead of
//! bringing back what was deleted. What is younger than the grace stays, whatever the answers:
//! requests and hints that are on their way are not on any disk.
//!
//! The same evidence allows to truncate a clock: nobody can show the dropped entries again.
//!
//! A node that removes a record forgets which counters it minted for the key. So it must not mint
//! under the same epoch again ([`must_end_epoch`]); as only old records are removed, that happens
//! about once per grace.
//!
//! | module | what it decides |
//! |---|---|
//! | [`candidate`] | what may be removed or truncated if everybody agrees |
//! | [`round`] | whom to ask, what the answers allow, in which order it is done |
//!
//! Not here: requests, and when a round begins: after the owners of a partition agreed.

pub mod candidate;
pub mod round;

pub use candidate::{Candidate, must_end_epoch};
pub use round::{NotNow, ReapCounts, ReapEffect, ReapEvent, ReapRound};
