//! What was observed lately, read off metrics that only ever grow: one copy of their numbers per
//! tick, and the difference of the newest and the oldest. Requests pay nothing for it.
//!
//! How long a tick is, is up to whoever calls; a window of so many ticks keeps one copy more.

use std::collections::VecDeque;
use std::time::Duration;

use prometheus::Histogram;
use prometheus::core::Metric;

/// The last ticks of some histograms with the same buckets, taken together.
#[derive(Debug)]
pub struct Window {
    sources: Vec<Histogram>,
    /// Upper bounds of the buckets in seconds, ascending; the last one is open.
    bounds: Vec<f64>,
    copies: VecDeque<Vec<u64>>,
    ticks: usize,
}

impl Window {
    /// An empty window of `ticks` over `sources`, which measure seconds.
    #[must_use]
    pub fn new(sources: Vec<Histogram>, ticks: usize) -> Self {
        let bounds = sources.first().map(bounds).unwrap_or_default();
        Self { sources, bounds, copies: VecDeque::with_capacity(ticks + 1), ticks }
    }

    /// Takes a copy; once per tick.
    pub fn tick(&mut self) {
        let mut counts = vec![0; self.bounds.len() + 1];
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
        push(&mut self.copies, self.ticks, counts);
    }

    /// How many observations the window has.
    #[must_use]
    pub fn observations(&self) -> u64 {
        self.counts().iter().sum()
    }

    /// The ticks that the window really spans, fewer than it may while it is young.
    #[must_use]
    pub fn ticks(&self) -> usize {
        self.copies.len().saturating_sub(1)
    }

    /// The quantile of the window, in thousandths, rounded up to the bound of a bucket (and for the
    /// open bucket down to its bound); `None` where nothing was observed.
    #[must_use]
    pub fn quantile(&self, milli: u64) -> Option<Duration> {
        let counts = self.counts();
        let total: u64 = counts.iter().sum();
        let rank = (total * milli).div_ceil(1000).max(1);
        let mut seen = 0;
        for (index, count) in counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                let bound = self.bounds.get(index).or(self.bounds.last()).copied()?;
                return Some(Duration::from_secs_f64(bound));
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

fn bounds(source: &Histogram) -> Vec<f64> {
    let metric = source.metric();
    let buckets = metric.get_histogram().get_bucket().iter();
    buckets.map(|bucket| bucket.upper_bound()).filter(|bound| bound.is_finite()).collect()
}

fn push<T>(copies: &mut VecDeque<T>, ticks: usize, copy: T) {
    if copies.len() > ticks {
        copies.pop_front();
    }
    copies.push_back(copy);
}

/// The growth of a number over the last ticks.
#[derive(Debug)]
pub struct Growth {
    copies: VecDeque<u64>,
    ticks: usize,
}

impl Growth {
    /// Nothing yet, of a window of `ticks`.
    #[must_use]
    pub fn new(ticks: usize) -> Self {
        Self { copies: VecDeque::new(), ticks }
    }

    /// Takes the number of now, once per tick, and returns by how much it grew in the window.
    pub fn tick(&mut self, now: u64) -> u64 {
        push(&mut self.copies, self.ticks, now);
        self.over(self.ticks).0
    }

    /// By how much it grew over the last `ticks`, and how many of those there have been.
    #[must_use]
    pub fn over(&self, ticks: usize) -> (u64, usize) {
        let spanned = ticks.min(self.copies.len().saturating_sub(1));
        let newest = self.copies.back().copied().unwrap_or(0);
        let oldest = self.copies.iter().rev().nth(spanned).copied().unwrap_or(newest);
        (newest.saturating_sub(oldest), spanned)
    }
}

#[cfg(test)]
mod tests {
    use prometheus::HistogramOpts;

    use super::*;

    #[test]
    fn only_what_is_in_the_window_counts() {
        let options = HistogramOpts::new("h", "h").buckets(vec![0.001, 0.01, 0.1, 1.0]);
        let histogram = Histogram::with_opts(options).unwrap();
        let mut window = Window::new(vec![histogram.clone(), histogram.clone()], 60);
        let ms = |window: &Window, milli| window.quantile(milli).map(|q| q.as_millis());
        histogram.observe(0.5);
        window.tick();
        assert_eq!((ms(&window, 990), window.ticks()), (None, 0), "before the window");
        (0..98).for_each(|_| histogram.observe(0.005));
        (0..2).for_each(|_| histogram.observe(0.05));
        window.tick();
        assert_eq!((ms(&window, 500), ms(&window, 990)), (Some(10), Some(100)));
        assert_eq!((window.observations(), window.ticks()), (200, 1), "both sources");
        histogram.observe(7.0);
        window.tick();
        assert_eq!(ms(&window, 1000), Some(1000), "the open bucket");
        (0..60).for_each(|_| window.tick());
        assert_eq!((ms(&window, 990), window.ticks()), (None, 60), "long ago");
    }

    #[test]
    fn growth_is_that_of_the_last_ticks() {
        let mut growth = Growth::new(60);
        assert_eq!(growth.over(5), (0, 0));
        assert_eq!([5, 7, 9].map(|number| growth.tick(number)), [0, 2, 4]);
        assert_eq!([growth.over(1), growth.over(2), growth.over(9)], [(2, 1), (4, 2), (4, 2)]);
        (0..61).for_each(|_| assert!(growth.tick(9) <= 4));
        assert_eq!((growth.tick(10), growth.over(60)), (1, (1, 60)));
    }
}
