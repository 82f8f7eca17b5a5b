//! How often each source has failed to authenticate. Guessing a key is hopeless; this bounds what
//! the attempt costs us, in work and in lines of the log.
//!
//! Invariant: bounded memory whatever the number of sources.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};

use dynamo_core::time::Mono;

use super::budget::{Budget, Rate};
use crate::limits::{FAILED_AUTH_BURST, FAILED_AUTH_PER_S, FAILED_SOURCES_MAX};

const RATE: Rate = Rate { burst: FAILED_AUTH_BURST, per_s: FAILED_AUTH_PER_S };

/// What a failure means for its source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failure {
    /// The first after a quiet time: worth a line in the log.
    First,
    /// One of a few.
    Counted,
    /// One too many; seconds until the next is an answer of its own.
    TooMany(u32),
}

/// The failures of all sources.
#[derive(Debug, Default)]
pub(super) struct Failures {
    sources: HashMap<IpAddr, Budget>,
}

impl Failures {
    /// Counts a failure of `source`.
    pub(super) fn count(&mut self, source: IpAddr, now: Mono) -> Failure {
        let source = network_of(source);
        if self.sources.len() >= FAILED_SOURCES_MAX && !self.sources.contains_key(&source) {
            self.sources.retain(|_, budget| !budget.is_full(RATE, now));
            if self.sources.len() >= FAILED_SOURCES_MAX {
                return Failure::TooMany(1);
            }
        }
        let budget = self.sources.entry(source).or_insert_with(|| Budget::full(RATE, now));
        let first = budget.is_full(RATE, now);
        if !budget.take(RATE, now) {
            return Failure::TooMany(budget.wait_s(RATE));
        }
        if first { Failure::First } else { Failure::Counted }
    }
}

/// Whoever has one IPv6 address has all of its /64.
fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) => IpAddr::V4(v4),
        IpAddr::V6(v6) => {
            let network = v6.to_bits() & !u128::from(u64::MAX);
            IpAddr::V6(Ipv6Addr::from_bits(network))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_source_fails_so_often_and_then_waits() {
        let mut failures = Failures::default();
        let one: IpAddr = "10.0.0.1".parse().unwrap();
        let start = Mono(0);
        assert_eq!(failures.count(one, start), Failure::First);
        for _ in 1..FAILED_AUTH_BURST {
            assert_eq!(failures.count(one, start), Failure::Counted);
        }
        assert_eq!(failures.count(one, start), Failure::TooMany(1));
        assert_eq!(failures.count("10.0.0.2".parse().unwrap(), start), Failure::First);
        let later = start.plus(Duration::from_secs(u64::from(FAILED_AUTH_BURST)));
        assert_eq!(failures.count(one, later), Failure::First);
    }

    #[test]
    fn a_whole_network_is_one_source() {
        let mut failures = Failures::default();
        let start = Mono(0);
        let first: IpAddr = "2001:db8::1".parse().unwrap();
        assert_eq!(failures.count(first, start), Failure::First);
        assert_eq!(failures.count("2001:db8::2".parse().unwrap(), start), Failure::Counted);
        assert_eq!(failures.count("2001:db8:0:1::1".parse().unwrap(), start), Failure::First);
    }

    #[test]
    fn the_table_is_bounded_and_forgets_the_quiet() {
        let mut failures = Failures::default();
        let start = Mono(0);
        let source = |n: usize| IpAddr::from((u32::try_from(n).unwrap()).to_be_bytes());
        for n in 0..FAILED_SOURCES_MAX {
            assert_eq!(failures.count(source(n), start), Failure::First);
        }
        assert_eq!(failures.count(source(FAILED_SOURCES_MAX), start), Failure::TooMany(1));
        let later = start.plus(Duration::from_secs(60));
        assert_eq!(failures.count(source(FAILED_SOURCES_MAX), later), Failure::First);
        assert_eq!(failures.sources.len(), 1);
    }
}
