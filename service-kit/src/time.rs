//! The only clock of a process. Everything that needs the time is given a [`Clock`]; nothing else
//! in the services asks the operating system (a lint of the workspace's tests holds this).
//!
//! Invariant: all system clocks of one process share one monotonic origin, so that a [`Mono`] read
//! from one handle may be compared with a [`Mono`] read from another.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use dynamo_core::time::{Mono, WallMs};

/// Where the monotonic time of this process starts.
static ORIGIN: OnceLock<Instant> = OnceLock::new();

/// Start of a process on its own monotonic axis. Not zero, so that "an hour ago" is a valid time.
const MONO_START_US: u64 = 3_600_000_000;

/// A handle on the time: the operating system's, or one that a test moves by hand.
#[derive(Debug, Clone, Default)]
pub struct Clock {
    manual: Option<Arc<ManualTime>>,
}

#[derive(Debug)]
struct ManualTime {
    mono_us: AtomicU64,
    wall_ms: AtomicU64,
}

/// Moves the time of the [`Clock`] it was made with.
#[derive(Debug, Clone)]
pub struct ManualClock(Arc<ManualTime>);

impl Clock {
    /// The clock of the operating system.
    #[must_use]
    pub fn system() -> Self {
        ORIGIN.get_or_init(Instant::now);
        Self { manual: None }
    }

    /// A clock that stands still until its [`ManualClock`] moves it. Starts at `wall`.
    #[must_use]
    pub fn manual(wall: WallMs) -> (Self, ManualClock) {
        let time = Arc::new(ManualTime {
            mono_us: AtomicU64::new(MONO_START_US),
            wall_ms: AtomicU64::new(wall.0),
        });
        (Self { manual: Some(Arc::clone(&time)) }, ManualClock(time))
    }

    /// Monotonic time now.
    #[must_use]
    pub fn mono(&self) -> Mono {
        match &self.manual {
            Some(time) => Mono(time.mono_us.load(Ordering::Relaxed)),
            None => {
                let passed = ORIGIN.get_or_init(Instant::now).elapsed();
                Mono(MONO_START_US).plus(passed)
            }
        }
    }

    /// Wall-clock time now; the epoch itself where the system's clock is set before it.
    #[must_use]
    pub fn wall(&self) -> WallMs {
        match &self.manual {
            Some(time) => WallMs(time.wall_ms.load(Ordering::Relaxed)),
            None => {
                let passed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                WallMs(u64::try_from(passed.as_millis()).unwrap_or(u64::MAX))
            }
        }
    }

    /// The moment `budget` from now.
    #[must_use]
    pub fn deadline(&self, budget: Duration) -> Mono {
        self.mono().plus(budget)
    }

    /// Time left until `deadline`; zero where it has passed.
    #[must_use]
    pub fn remaining(&self, deadline: Mono) -> Duration {
        deadline.since(self.mono())
    }
}

impl ManualClock {
    /// Moves both times forward.
    pub fn advance(&self, by: Duration) {
        let us = u64::try_from(by.as_micros()).unwrap_or(u64::MAX);
        self.0.mono_us.fetch_add(us, Ordering::Relaxed);
        self.0.wall_ms.fetch_add(us / 1000, Ordering::Relaxed);
    }

    /// Sets the wall clock, also backwards, as an administrator or NTP may.
    pub fn set_wall(&self, wall: WallMs) {
        self.0.wall_ms.store(wall.0, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn system_clocks_share_an_origin() {
        let first = Clock::system();
        let early = first.mono();
        let second = Clock::system();
        assert!(second.mono() >= early);
        assert!(first.wall() > WallMs(1_600_000_000_000));
        assert_eq!(first.remaining(early), Duration::ZERO);
        assert!(first.remaining(first.deadline(Duration::from_secs(60))) > Duration::from_secs(1));
    }

    #[test]
    fn a_manual_clock_moves_only_by_hand() {
        let (clock, hand) = Clock::manual(WallMs(5_000));
        let start = clock.mono();
        hand.advance(Duration::from_millis(250));
        assert_eq!(clock.mono().since(start), Duration::from_millis(250));
        assert_eq!(clock.wall(), WallMs(5_250));
        hand.set_wall(WallMs(1));
        assert_eq!(clock.wall(), WallMs(1));
    }
}
