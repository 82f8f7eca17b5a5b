//! When a step that failed is tried again: the pause doubles, and lies between a half and the
//! whole, so that many partitions that failed together do not come back together.

use std::time::Duration;

use crate::entropy::Entropy;
use crate::limits::{TRANSFER_BACKOFF_MS_MAX, TRANSFER_BACKOFF_MS_MIN};
use crate::time::Mono;

/// The pauses of one partition.
#[derive(Debug, Clone, Copy, Default)]
pub struct Retry {
    failures: u32,
    due: Mono,
}

impl Retry {
    /// Whether it may be tried at `now`.
    #[must_use]
    pub fn is_due(&self, now: Mono) -> bool {
        self.due <= now
    }

    /// The step failed.
    pub fn failed(&mut self, now: Mono, entropy: &mut impl Entropy) {
        let doubled = TRANSFER_BACKOFF_MS_MIN.checked_shl(self.failures.min(16));
        let pause = doubled.unwrap_or(TRANSFER_BACKOFF_MS_MAX).min(TRANSFER_BACKOFF_MS_MAX);
        self.failures = self.failures.saturating_add(1);
        let pause = pause / 2 + entropy.below(pause / 2 + 1);
        self.due = now.plus(Duration::from_millis(pause));
    }

    /// A step succeeded.
    pub fn succeeded(&mut self) {
        *self = Self::default();
    }
}
