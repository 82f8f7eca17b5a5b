//! When to try again: full jitter over an exponentially growing span, so that clients that failed
//! together do not come back together.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use dynamo_core::entropy::{Entropy, SplitMix};

use crate::limits::{BACKOFF_BASE, BACKOFF_MAX};

/// The client's source of jitter and of random choices. Never used for secrets or identities.
#[derive(Debug)]
pub(crate) struct Dice(Mutex<SplitMix>);

impl Dice {
    /// Dice with a seed of the operating system's; a fixed one where it has none, which only
    /// makes jitter predictable.
    pub(crate) fn seeded() -> Self {
        Self(Mutex::new(SplitMix::new(getrandom::u64().unwrap_or(0x5eed))))
    }

    /// A number below `bound`; 0 where that is 0.
    pub(crate) fn below(&self, bound: u64) -> u64 {
        self.with(|dice| dice.below(bound))
    }

    /// Lends the generator.
    pub(crate) fn with<T>(&self, act: impl FnOnce(&mut SplitMix) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// An index below `len`; 0 where that is 0.
    pub(crate) fn index(&self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).unwrap_or(0)
    }

    /// The pause before retry number `retry`, from 0.
    pub(crate) fn pause(&self, retry: usize) -> Duration {
        let span = BACKOFF_BASE.saturating_mul(1u32 << retry.min(16)).min(BACKOFF_MAX);
        let micros = u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
        Duration::from_micros(self.below(micros.saturating_add(1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_is_jittered_within_its_span() {
        let dice = Dice::seeded();
        for (retry, span_ms) in [(0, 10), (1, 20), (3, 80), (30, 1000)] {
            let pauses: Vec<_> = (0..200).map(|_| dice.pause(retry)).collect();
            assert!(pauses.iter().all(|pause| *pause <= Duration::from_millis(span_ms)));
            let distinct: std::collections::BTreeSet<_> = pauses.iter().collect();
            assert!(distinct.len() > 50, "retry {retry}: {} distinct pauses", distinct.len());
        }
    }
}
