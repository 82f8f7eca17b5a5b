//! A dot names one write event: the counter-th write that one actor minted for one key.
//!
//! Invariant: a dot never names two values (I-6). It holds because counters are contiguous per key
//! and actor, and an actor's epoch changes whenever its node may have lost what it minted.

use std::fmt;

use crate::id::ActorId;

/// The identity of one write of one key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Dot {
    /// Who minted it.
    pub actor: ActorId,
    /// Which write of that actor to that key, from 1.
    pub counter: u64,
}

impl fmt::Display for Dot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.actor, self.counter)
    }
}

impl fmt::Debug for Dot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
