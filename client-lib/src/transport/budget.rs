//! The retry budget: retries are a share of recent calls, so a cluster in trouble gets at most a
//! fifth more load from its clients, never three times as much.
//!
//! Pure: the caller passes the time. A window of one-second slots is reused in a circle.

use crate::limits::{BUDGET_FLOOR_PER_S, BUDGET_PERCENT, BUDGET_WINDOW_S};

#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    second: u64,
    calls: u64,
    retries: u64,
}

/// Counts of the last [`BUDGET_WINDOW_S`] seconds.
#[derive(Debug, Default)]
pub(crate) struct RetryBudget {
    slots: [Slot; BUDGET_WINDOW_S as usize],
}

impl RetryBudget {
    /// Notes one call that is no retry.
    pub(crate) fn deposit(&mut self, second: u64) {
        self.slot(second).calls += 1;
    }

    /// Takes one retry from the budget, where there is one.
    pub(crate) fn withdraw(&mut self, second: u64) -> bool {
        let oldest = second.saturating_sub(BUDGET_WINDOW_S - 1);
        let (mut calls, mut retries) = (0, 0);
        for slot in self.slots.iter().filter(|slot| (oldest..=second).contains(&slot.second)) {
            calls += slot.calls;
            retries += slot.retries;
        }
        let allowed = calls * BUDGET_PERCENT / 100 + BUDGET_FLOOR_PER_S * BUDGET_WINDOW_S;
        let granted = retries < allowed;
        if granted {
            self.slot(second).retries += 1;
        }
        granted
    }

    fn slot(&mut self, second: u64) -> &mut Slot {
        let index = usize::try_from(second % BUDGET_WINDOW_S).unwrap_or(0);
        let slot = &mut self.slots[index];
        if slot.second != second {
            *slot = Slot { second, ..Slot::default() };
        }
        slot
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn granted(budget: &mut RetryBudget, second: u64) -> u64 {
        let mut count = 0;
        while budget.withdraw(second) {
            count += 1;
        }
        count
    }

    #[test]
    fn a_quiet_client_has_the_floor() {
        let mut budget = RetryBudget::default();
        assert_eq!(granted(&mut budget, 100), BUDGET_FLOOR_PER_S * BUDGET_WINDOW_S);
    }

    #[test]
    fn a_busy_client_has_its_share_on_top_and_old_seconds_fall_out() {
        let mut budget = RetryBudget::default();
        for second in 50..60 {
            for _ in 0..1000 {
                budget.deposit(second);
            }
        }
        assert_eq!(granted(&mut budget, 59), 2000 + 100);
        assert_eq!(granted(&mut budget, 60), 0, "what was spent a second ago is still spent");
        assert_eq!(granted(&mut budget, 69), 100, "the window has passed: the floor again");
    }
}
