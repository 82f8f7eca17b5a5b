//! Hybrid logical clock: a wall-clock time that never runs behind what it has seen. It orders
//! *concurrent* writes in last-write-wins buckets; causally related writes are ordered by their
//! clocks, and the stamp of a later write is always the greater one, so both orders agree (C13).

use serde::{Deserialize, Serialize};

use crate::limits::CLOCK_SKEW_MS_MAX;
use crate::time::WallMs;

/// Bits of the stamp that count events within one millisecond.
const LOGICAL_BITS: u32 = 16;

/// A hybrid timestamp: milliseconds since the Unix epoch in the upper 48 bits, a counter below.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Hlc(pub u64);

impl Hlc {
    /// The first stamp of the millisecond `wall`.
    #[must_use]
    pub fn at(wall: WallMs) -> Self {
        Self(wall.0 << LOGICAL_BITS)
    }

    /// The wall-clock part.
    #[must_use]
    pub fn wall(self) -> WallMs {
        WallMs(self.0 >> LOGICAL_BITS)
    }

    /// A stamp for an event at `now` that follows everything up to `seen`.
    #[must_use]
    pub fn after(seen: Self, now: WallMs) -> Self {
        Self::at(now).max(Self(seen.0.saturating_add(1)))
    }

    /// Whether the stamp leads `now` by more than the tolerated clock skew. Such a stamp is never
    /// adopted: one broken wall clock must not drag the whole cluster into the future.
    #[must_use]
    pub fn is_ahead_of(self, now: WallMs) -> bool {
        self.wall().0 > now.0.saturating_add(CLOCK_SKEW_MS_MAX)
    }
}
