//! The only entropy of a process: a ChaCha generator per thread, seeded and reseeded by the
//! operating system. Identities and keys come from it, so its output cannot be predicted.
//!
//! Not here: seeded generators for simulations (`dynamo_core::entropy::SplitMix`).

use std::time::Duration;

use dynamo_core::entropy::Entropy;
use rand::Rng;

/// A handle on the generator of the current thread. It has no state of its own, so every thread
/// and task may have one.
#[derive(Debug, Clone, Copy, Default)]
pub struct OsEntropy;

impl Entropy for OsEntropy {
    fn next_u64(&mut self) -> u64 {
        rand::rng().next_u64()
    }
}

/// `duration` shortened at random by up to `percent` (at most 100), so that equal timers of many
/// processes drift apart.
#[must_use]
pub fn jittered(duration: Duration, percent: u32, entropy: &mut impl Entropy) -> Duration {
    let us = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
    let range = us / 100 * u64::from(percent.min(100));
    Duration::from_micros(us - entropy.below(range.saturating_add(1)).min(us))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn threads_never_draw_the_same_numbers() {
        let draw = || (0..1000).map(|_| OsEntropy.next_u64()).collect::<Vec<_>>();
        let threads: Vec<_> = (0..4).map(|_| std::thread::spawn(draw)).collect();
        let drawn: Vec<u64> = threads.into_iter().flat_map(|t| t.join().unwrap()).collect();
        assert_eq!(drawn.iter().collect::<BTreeSet<_>>().len(), 4000);
    }

    #[test]
    fn jitter_shortens_within_its_range() {
        let full = Duration::from_secs(10);
        for _ in 0..1000 {
            let short = jittered(full, 20, &mut OsEntropy);
            assert!(short <= full && short >= Duration::from_secs(8), "{short:?}");
        }
        assert_eq!(jittered(full, 0, &mut OsEntropy), full);
    }
}
