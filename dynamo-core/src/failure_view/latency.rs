//! Smoothed latency of one peer and its mean deviation, as TCP keeps them for its timeouts.

use std::time::Duration;

/// Weight of a new observation in the mean: 1/8.
const MEAN_PARTS: u32 = 8;
/// Weight of a new observation in the mean deviation: 1/4.
const DEVIATION_PARTS: u32 = 4;
/// Deviations above the mean that an answer rarely exceeds.
const DEVIATIONS: u32 = 4;

#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Latency {
    known: Option<(Duration, Duration)>,
}

impl Latency {
    /// Takes one observation.
    pub(super) fn observe(&mut self, latency: Duration) {
        self.known = Some(match self.known {
            None => (latency, latency / 2),
            Some((mean, deviation)) => {
                let distance = latency.abs_diff(mean);
                (weighed(mean, latency, MEAN_PARTS), weighed(deviation, distance, DEVIATION_PARTS))
            }
        });
    }

    /// The smoothed latency.
    pub(super) fn smoothed(&self) -> Option<Duration> {
        self.known.map(|(mean, _)| mean)
    }

    /// A time that answers rarely exceed.
    pub(super) fn usual(&self) -> Option<Duration> {
        self.known.map(|(mean, deviation)| mean.saturating_add(deviation * DEVIATIONS))
    }
}

/// `old` moved by one part in `parts` towards `new`.
fn weighed(old: Duration, new: Duration, parts: u32) -> Duration {
    old.saturating_sub(old / parts).saturating_add(new / parts)
}
