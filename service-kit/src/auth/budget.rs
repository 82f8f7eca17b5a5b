//! A rate with a burst: so many at once, so many per second in the long run.

use dynamo_core::time::Mono;

/// Thousandths of a request, so that slow rates need no fractions.
const UNIT: u64 = 1000;

/// What is left of a rate.
#[derive(Debug, Clone, Copy)]
pub(super) struct Budget {
    left: u64,
    at: Mono,
}

/// The rate itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rate {
    pub(super) burst: u32,
    pub(super) per_s: u32,
}

impl Budget {
    /// Untouched.
    pub(super) fn full(rate: Rate, now: Mono) -> Self {
        Self { left: u64::from(rate.burst) * UNIT, at: now }
    }

    /// Takes one, where there is one.
    pub(super) fn take(&mut self, rate: Rate, now: Mono) -> bool {
        self.refill(rate, now);
        match self.left.checked_sub(UNIT) {
            Some(left) => {
                self.left = left;
                true
            }
            None => false,
        }
    }

    /// Whether nothing is missing.
    pub(super) fn is_full(&mut self, rate: Rate, now: Mono) -> bool {
        self.refill(rate, now);
        self.left >= u64::from(rate.burst) * UNIT
    }

    /// Whole seconds until there is one again, at least 1.
    pub(super) fn wait_s(&self, rate: Rate) -> u32 {
        let missing = UNIT.saturating_sub(self.left);
        let per_s = u64::from(rate.per_s.max(1)) * UNIT;
        u32::try_from(missing.div_ceil(per_s)).unwrap_or(u32::MAX).max(1)
    }

    fn refill(&mut self, rate: Rate, now: Mono) {
        let passed_us = u64::try_from(now.since(self.at).as_micros()).unwrap_or(u64::MAX);
        let earned = passed_us.saturating_mul(u64::from(rate.per_s)) / (1_000_000 / UNIT);
        // Less than a unit of time earns nothing yet; it must not be lost either.
        if earned > 0 {
            self.left = self.left.saturating_add(earned).min(u64::from(rate.burst) * UNIT);
            self.at = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_burst_and_then_the_rate() {
        let rate = Rate { burst: 3, per_s: 2 };
        let start = Mono(0);
        let mut budget = Budget::full(rate, start);
        assert!((0..3).all(|_| budget.take(rate, start)));
        assert!(!budget.take(rate, start));
        assert_eq!(budget.wait_s(rate), 1);
        assert!(!budget.take(rate, start.plus(Duration::from_millis(400))));
        assert!(budget.take(rate, start.plus(Duration::from_millis(501))));
        let later = start.plus(Duration::from_secs(60));
        assert!(budget.is_full(rate, later));
        assert!((0..3).all(|_| budget.take(rate, later)));
        assert!(!budget.take(rate, later), "no more than the burst is saved");
    }
}
