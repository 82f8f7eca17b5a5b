//! How many requests may be sent to a second coordinator although the first is alive: because it is
//! late, or sheds load. That pays while few are; when all are, it would multiply the load of a
//! cluster that is short of capacity already. So hedges are earned by requests, with a reserve for
//! sudden failures. Nodes that cannot be reached are not counted: asking the next costs nobody.

use std::time::Duration;

use dynamo_core::time::Mono;

use crate::limits::{HEDGE_BURST, HEDGES_PER_S_MIN, REQUESTS_PER_HEDGE};

/// A token bucket that fills with requests, and a little with time.
#[derive(Debug)]
pub struct HedgeBudget {
    /// Tokens; one request earns one, a hedge costs [`REQUESTS_PER_HEDGE`].
    tokens: u32,
    refilled: Mono,
}

const FULL: u32 = HEDGE_BURST * REQUESTS_PER_HEDGE;

/// Time in which an idle budget earns one token.
const TOKEN_EVERY: Duration =
    Duration::from_micros(1_000_000 / (HEDGES_PER_S_MIN * REQUESTS_PER_HEDGE) as u64);

impl HedgeBudget {
    /// A full budget.
    #[must_use]
    pub fn new(now: Mono) -> Self {
        Self { tokens: FULL, refilled: now }
    }

    /// Counts a request.
    pub fn earn(&mut self) {
        self.tokens = (self.tokens + 1).min(FULL);
    }

    /// Takes one hedge out of the budget; false where there is none.
    pub fn spend(&mut self, now: Mono) -> bool {
        let passed = now.since(self.refilled).as_micros() / TOKEN_EVERY.as_micros();
        if passed > 0 {
            let earned = u32::try_from(passed).unwrap_or(FULL).min(FULL);
            self.tokens = (self.tokens + earned).min(FULL);
            self.refilled = now;
        }
        match self.tokens.checked_sub(REQUESTS_PER_HEDGE) {
            Some(left) => {
                self.tokens = left;
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_then_a_fifth_then_a_trickle() {
        let start = Mono(1_000_000);
        let mut budget = HedgeBudget::new(start);
        let burst = (0..).take_while(|_| budget.spend(start)).count();
        assert_eq!(burst, HEDGE_BURST as usize);
        for _ in 0..100 {
            budget.earn();
        }
        let earned = (0..).take_while(|_| budget.spend(start)).count();
        assert_eq!(earned, 100 / REQUESTS_PER_HEDGE as usize);
        let later = start.plus(Duration::from_secs(1));
        let trickle = (0..).take_while(|_| budget.spend(later)).count();
        assert_eq!(trickle, HEDGES_PER_S_MIN as usize);
        let much_later = start.plus(Duration::from_secs(1_000_000));
        let refilled = (0..).take_while(|_| budget.spend(much_later)).count();
        assert_eq!(refilled, HEDGE_BURST as usize);
    }
}
