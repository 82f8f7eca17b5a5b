//! What a coordinator keeps of its own traffic for the estimate: a bounded, uniform sample of the
//! requests since the last one.

use std::collections::BTreeMap;

use super::Delays;
use crate::entropy::Entropy;
use crate::limits::{FRESHNESS_GETS_MAX, FRESHNESS_PUTS_MAX, FRESHNESS_SAMPLES_MIN};

/// A uniform sample of a stream of unknown length (Vitter's algorithm R).
#[derive(Debug, Clone)]
pub struct Reservoir<T> {
    kept: Vec<T>,
    seen: u64,
    capacity: usize,
}

impl<T> Reservoir<T> {
    /// An empty sample of at most `capacity`.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self { kept: Vec::new(), seen: 0, capacity }
    }

    /// Offers one item; each item offered is in the sample with equal probability.
    pub fn offer(&mut self, item: T, entropy: &mut impl Entropy) {
        self.seen = self.seen.saturating_add(1);
        if self.kept.len() < self.capacity {
            self.kept.push(item);
            return;
        }
        let place = usize::try_from(entropy.below(self.seen)).unwrap_or(usize::MAX);
        if let Some(kept) = self.kept.get_mut(place) {
            *kept = item;
        }
    }

    /// The sample.
    #[must_use]
    pub fn kept(&self) -> &[T] {
        &self.kept
    }
}

/// Requests for objects of one N.
#[derive(Debug, Clone)]
pub struct Sample {
    /// Puts: when each replica had stored them.
    pub puts: Reservoir<Delays>,
    /// Gets: when each replica had replied.
    pub gets: Reservoir<Delays>,
}

impl Default for Sample {
    fn default() -> Self {
        Self { puts: Reservoir::new(FRESHNESS_PUTS_MAX), gets: Reservoir::new(FRESHNESS_GETS_MAX) }
    }
}

impl Sample {
    fn suffices(&self) -> bool {
        self.puts.kept.len() >= FRESHNESS_SAMPLES_MIN
            && self.gets.kept.len() >= FRESHNESS_SAMPLES_MIN
    }
}

/// The traffic of one coordinator, by N.
#[derive(Debug, Default)]
pub struct Observed {
    by_n: BTreeMap<usize, Sample>,
}

impl Observed {
    /// Notes a put that has come to its end.
    pub fn put(&mut self, delays: Delays, entropy: &mut impl Entropy) {
        self.by_n.entry(delays.n()).or_default().puts.offer(delays, entropy);
    }

    /// Notes a get that has come to its end.
    pub fn get(&mut self, delays: Delays, entropy: &mut impl Entropy) {
        self.by_n.entry(delays.n()).or_default().gets.offer(delays, entropy);
    }

    /// Takes the samples that are large enough, with their N; the others go on growing.
    pub fn take(&mut self) -> Vec<(usize, Sample)> {
        let ready: Vec<_> =
            self.by_n.iter().filter(|(_, s)| s.suffices()).map(|(n, _)| *n).collect();
        ready.into_iter().filter_map(|n| Some((n, self.by_n.remove(&n)?))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entropy::SplitMix;
    use crate::time::Mono;

    #[test]
    fn every_item_is_kept_with_equal_probability() {
        let (mut times, mut entropy) = ([0_u32; 100], SplitMix::new(7));
        for _ in 0..4_000 {
            let mut reservoir = Reservoir::new(10);
            (0..100).for_each(|item: usize| reservoir.offer(item, &mut entropy));
            assert_eq!(reservoir.kept().len(), 10);
            reservoir.kept().iter().for_each(|item| times[*item] += 1);
        }
        assert!(times.iter().all(|count| (300..500).contains(count)), "{times:?}");
    }

    #[test]
    fn small_samples_grow_until_they_suffice() {
        let (mut observed, mut entropy) = (Observed::default(), SplitMix::new(1));
        let delays = |n: usize| Delays::since(Mono(0), vec![Some(Mono(1)); n]);
        for i in 0..FRESHNESS_SAMPLES_MIN {
            assert!(observed.take().is_empty(), "{i}");
            observed.put(delays(3), &mut entropy);
            observed.get(delays(3), &mut entropy);
            observed.put(delays(5), &mut entropy);
        }
        let taken = observed.take();
        assert_eq!(taken.iter().map(|(n, _)| *n).collect::<Vec<_>>(), [3]);
        assert!(observed.take().is_empty());
    }
}
