//! What was observed over the last minute, read off histograms that only ever grow: one copy of
//! their counts per second, and the difference of the newest and the oldest. Requests pay nothing
//! for it.

use std::collections::VecDeque;

use prometheus::Histogram;
use prometheus::core::Metric;

/// Copies kept: a minute of them, one per second.
const COPIES: usize = 61;

/// The last minute of some histograms with the same buckets, taken together.
#[derive(Debug)]
pub struct Window {
    sources: Vec<Histogram>,
    /// Upper bounds of the buckets in milliseconds, ascending; the last one is open.
    bounds_ms: Vec<u64>,
    copies: VecDeque<Vec<u64>>,
}

impl Window {
    /// An empty window over `sources`.
    #[must_use]
    pub fn new(sources: Vec<Histogram>) -> Self {
        let bounds_ms = sources.first().map(bounds_ms).unwrap_or_default();
        Self { sources, bounds_ms, copies: VecDeque::with_capacity(COPIES) }
    }

    /// Takes a copy; once per second.
    pub fn tick(&mut self) {
        let mut counts = vec![0; self.bounds_ms.len() + 1];
        for source in &self.sources {
            let metric = source.metric();
            let histogram = metric.get_histogram();
            let mut below = 0;
            for (count, bucket) in counts.iter_mut().zip(histogram.get_bucket()) {
                *count += bucket.cumulative_count() - below;
                below = bucket.cumulative_count();
            }
            if let Some(open) = counts.last_mut() {
                *open += histogram.get_sample_count().saturating_sub(below);
            }
        }
        if self.copies.len() == COPIES {
            self.copies.pop_front();
        }
        self.copies.push_back(counts);
    }

    /// The percentile of the window in milliseconds, rounded up to the bound of a bucket (and for
    /// the open bucket down to its bound); `None` where nothing was observed.
    #[must_use]
    pub fn percentile_ms(&self, percent: u64) -> Option<u64> {
        let counts = self.counts();
        let total: u64 = counts.iter().sum();
        let rank = (total * percent).div_ceil(100).max(1);
        let mut seen = 0;
        for (index, count) in counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return self.bounds_ms.get(index).or(self.bounds_ms.last()).copied();
            }
        }
        None
    }

    /// What was observed within the window, per bucket.
    fn counts(&self) -> Vec<u64> {
        let (Some(oldest), Some(newest)) = (self.copies.front(), self.copies.back()) else {
            return Vec::new();
        };
        newest.iter().zip(oldest).map(|(new, old)| new.saturating_sub(*old)).collect()
    }
}

fn bounds_ms(source: &Histogram) -> Vec<u64> {
    let metric = source.metric();
    let buckets = metric.get_histogram().get_bucket().iter();
    let finite = buckets.map(|bucket| bucket.upper_bound()).filter(|bound| bound.is_finite());
    finite.map(|seconds| (seconds * 1000.0).ceil() as u64).collect()
}

/// The growth of a number over the last minute.
#[derive(Debug, Default)]
pub struct Growth {
    copies: VecDeque<u64>,
}

impl Growth {
    /// Takes the number of now, once per second, and returns by how much it grew in the window.
    pub fn tick(&mut self, now: u64) -> u64 {
        if self.copies.len() == COPIES {
            self.copies.pop_front();
        }
        self.copies.push_back(now);
        now.saturating_sub(self.copies.front().copied().unwrap_or(now))
    }
}

#[cfg(test)]
mod tests {
    use prometheus::HistogramOpts;

    use super::*;

    #[test]
    fn only_the_last_minute_counts() {
        let options = HistogramOpts::new("h", "h").buckets(vec![0.001, 0.01, 0.1, 1.0]);
        let histogram = Histogram::with_opts(options).unwrap();
        let mut window = Window::new(vec![histogram.clone(), histogram.clone()]);
        histogram.observe(0.5);
        window.tick();
        assert_eq!(window.percentile_ms(99), None, "before the window");
        (0..98).for_each(|_| histogram.observe(0.005));
        (0..2).for_each(|_| histogram.observe(0.05));
        window.tick();
        assert_eq!((window.percentile_ms(50), window.percentile_ms(99)), (Some(10), Some(100)));
        histogram.observe(7.0);
        window.tick();
        assert_eq!(window.percentile_ms(100), Some(1000), "the open bucket");
        (0..COPIES - 1).for_each(|_| window.tick());
        assert_eq!(window.percentile_ms(99), None, "long ago");
        let mut growth = Growth::default();
        assert_eq!([5, 7, 9].map(|number| growth.tick(number)), [0, 2, 4]);
        (0..COPIES).for_each(|_| assert!(growth.tick(9) <= 4));
        assert_eq!(growth.tick(10), 1);
    }
}
