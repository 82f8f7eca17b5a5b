//! How many slices of background work there are: additive increase, multiplicative decrease.
//!
//! The paper (section 6.5) watches the 99th percentile of foreground latency over the last minute
//! against a threshold, and failures and waiting times beside it. A breach of any threshold halves
//! the slices; calm in all of them adds one; in between nothing changes, so that the number does
//! not swing around a threshold.
//!
//! Pure and deterministic: the same samples at the same times give the same slices.

use std::time::Duration;

use crate::limits::{SLICES_MAX, SLICES_MIN, SLICES_STEP_MS};
use crate::time::Mono;

/// Slices of a node that has not measured anything yet.
const SLICES_START: u32 = 4;

/// Calm is this much, in per cent, of a threshold or less.
const CALM_PERCENT: u64 = 70;

/// What foreground requests may suffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Thresholds {
    /// 99th percentile of the latency of foreground requests, in milliseconds (the paper's
    /// example: 50).
    pub foreground_p99_ms: u64,
    /// 99th percentile of the latency of the store's own operations, in milliseconds.
    pub store_p99_ms: u64,
    /// Failed or timed-out store operations per window.
    pub failures: u64,
    /// Longest time that a foreground request waited in a queue, in milliseconds.
    pub queue_wait_ms: u64,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self { foreground_p99_ms: 50, store_p99_ms: 50, failures: 5, queue_wait_ms: 10 }
    }
}

/// What was measured over the last 60 s. Where there were no requests there is no latency, and
/// nobody suffers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sample {
    /// 99th percentile of the latency of foreground requests, in milliseconds.
    pub foreground_p99_ms: Option<u64>,
    /// 99th percentile of the latency of store operations, in milliseconds.
    pub store_p99_ms: Option<u64>,
    /// Store operations that failed or timed out.
    pub failures: u64,
    /// Longest wait of a foreground request in a queue, in milliseconds.
    pub queue_wait_ms: u64,
}

/// How a sample compares with the thresholds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// All values are well below their thresholds.
    Calm,
    /// Something is near its threshold.
    Tense,
    /// Something is beyond its threshold.
    Breach,
}

impl Thresholds {
    /// Judges a sample.
    #[must_use]
    pub fn judge(&self, sample: &Sample) -> Verdict {
        let values = [
            (sample.foreground_p99_ms.unwrap_or(0), self.foreground_p99_ms),
            (sample.store_p99_ms.unwrap_or(0), self.store_p99_ms),
            (sample.failures, self.failures),
            (sample.queue_wait_ms, self.queue_wait_ms),
        ];
        if values.iter().any(|(value, limit)| value > limit) {
            return Verdict::Breach;
        }
        let calm = |(value, limit): &(u64, u64)| {
            value.saturating_mul(100) <= limit.saturating_mul(CALM_PERCENT)
        };
        if values.iter().all(calm) { Verdict::Calm } else { Verdict::Tense }
    }
}

/// The feedback loop of one node.
#[derive(Debug, Clone)]
pub struct SliceController {
    thresholds: Thresholds,
    slices: u32,
    max: u32,
    changed_at: Option<Mono>,
}

impl SliceController {
    /// A loop that hands out at most `max` slices, itself at most [`SLICES_MAX`].
    #[must_use]
    pub fn new(thresholds: Thresholds, max: u32) -> Self {
        let max = max.clamp(SLICES_MIN, SLICES_MAX);
        Self { thresholds, slices: SLICES_START.min(max), max, changed_at: None }
    }

    /// The number of slices of now.
    #[must_use]
    pub fn slices(&self) -> u32 {
        self.slices
    }

    /// Takes a sample and returns the number of slices from now on. Samples may come at any rate;
    /// the number changes at most once in [`SLICES_STEP_MS`], as its effect must show first.
    pub fn step(&mut self, now: Mono, sample: &Sample) -> u32 {
        let pause = Duration::from_millis(SLICES_STEP_MS);
        if self.changed_at.is_some_and(|at| now.since(at) < pause) {
            return self.slices;
        }
        let next = match self.thresholds.judge(sample) {
            Verdict::Breach => (self.slices / 2).max(SLICES_MIN),
            Verdict::Tense => self.slices,
            Verdict::Calm => self.slices.saturating_add(1).min(self.max),
        };
        if next != self.slices {
            self.slices = next;
            self.changed_at = Some(now);
        }
        next
    }
}
