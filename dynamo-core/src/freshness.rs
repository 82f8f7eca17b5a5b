//! How likely a read is to see a write that was acknowledged a while before: t-visibility, after
//! "Probabilistically Bounded Staleness" (Bailis et al., VLDB 2012).
//!
//! Their model, WARS, has four delays per replica: the write on its way (W), its acknowledgement on
//! the way back (A), a read on its way (R) and its reply on the way back (S). A replica answers a
//! read with what was there before the write where the read arrives first: t after the
//! acknowledgement of the put, where `acked + t + R < W`.
//!
//! A coordinator cannot see W and R: clocks of different hosts are not compared here. It sees
//! round trips: `W + A` from each acknowledgement, `R + S` from each reply. They suffice where the
//! way back takes equally long for both (A = S): then `acked + t + (R + S) < W + A` says the same.
//! In words: *a reply that comes back before the acknowledgement would have did not see the write.*
//! The durable write is what is acknowledged; where a replica shows a write to readers before it is
//! durable, the estimate errs on the safe side.
//!
//! The estimate is exact over its sample, not drawn from it: every put of the sample meets every
//! get, at every choice of the reading coordinator among the replicas, and each such meeting gives
//! the one time from which on its read is fresh. So there is no error of drawing, the curve never
//! falls, the same sample always gives the same answer, and its cost is bounded by the sample.
//! Delays of one request stay together: replicas that are slow at the same time remain so.
//!
//! Assumptions: the reader's coordinator is each of the replicas with equal probability, and hears
//! its own replica first. Keys are not special, and nobody writes in between.
//!
//! Not here: taking times and showing results, which is the storage node's.

mod observed;

use std::time::Duration;

pub use observed::{Observed, Reservoir, Sample};

use crate::time::Mono;

/// A replica that did not answer while the request was followed.
const NEVER: u32 = u32::MAX;

/// How long each replica took to answer one request, the coordinator's own first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delays(Vec<u32>);

impl Delays {
    /// The delays since `begun`; `None` for a replica that did not answer.
    pub fn since(begun: Mono, answered: impl IntoIterator<Item = Option<Mono>>) -> Self {
        let delay = |at: Mono| u32::try_from(at.since(begun).as_micros()).unwrap_or(NEVER);
        Self(answered.into_iter().map(|at| at.map_or(NEVER, delay)).collect())
    }

    /// The number of replicas.
    #[must_use]
    pub fn n(&self) -> usize {
        self.0.len()
    }

    /// Delay of the answer that makes `count` of them.
    fn of_answer(&self, count: u8) -> Option<u32> {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let at = sorted.get(usize::from(count).checked_sub(1)?)?;
        (*at != NEVER).then_some(*at)
    }

    /// The first `count` answers: which replica, after how long. Fewer never, else none.
    fn first(&self, count: u8) -> Option<Vec<(usize, u32)>> {
        let mut order: Vec<(usize, u32)> = self.0.iter().copied().enumerate().collect();
        order.sort_by_key(|(_, delay)| *delay);
        order.truncate(usize::from(count));
        let whole = order.len() == usize::from(count) && order.iter().all(|(_, d)| *d != NEVER);
        (whole && count > 0).then_some(order)
    }
}

/// From when on reads are fresh, as a distribution.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Freshness {
    /// Microseconds from the acknowledgement of a put until a read of it is fresh, ascending.
    waits: Vec<u32>,
}

impl Freshness {
    /// The estimate for puts that wait for `w` acknowledgements and gets that wait for `r` replies.
    /// Samples of another number of replicas than the first put's are left out, and so are requests
    /// that never came to their answer. `None` where nothing is left.
    #[must_use]
    pub fn estimate(puts: &[Delays], gets: &[Delays], r: u8, w: u8) -> Option<Self> {
        let n = puts.first()?.n();
        let gets = gets.iter().filter(|get| get.n() == n);
        let gets: Vec<_> = gets.filter_map(|get| get.first(r)).collect();
        let mut waits = Vec::with_capacity(puts.len() * gets.len() * n);
        for put in puts.iter().filter(|put| put.n() == n) {
            let Some(acked) = put.of_answer(w) else { continue };
            for reader in 0..n {
                waits.extend(gets.iter().map(|get| wait(put, acked, get, reader)));
            }
        }
        waits.sort_unstable();
        (!waits.is_empty()).then_some(Self { waits })
    }

    /// The probability that a read `after` the acknowledgement is fresh.
    #[must_use]
    #[allow(clippy::cast_precision_loss, reason = "counts far below 2^52")]
    pub fn probability(&self, after: Duration) -> f64 {
        let after = u32::try_from(after.as_micros()).unwrap_or(NEVER - 1).min(NEVER - 1);
        let fresh = self.waits.partition_point(|wait| *wait <= after);
        fresh as f64 / self.waits.len() as f64
    }

    /// The time after which `per_mille` of a thousand reads are fresh; `None` where so many never
    /// were while they were followed.
    #[must_use]
    pub fn time_until(&self, per_mille: u16) -> Option<Duration> {
        let rank = (self.waits.len() * usize::from(per_mille)).div_ceil(1000).max(1);
        let wait = self.waits.get(rank - 1).or(self.waits.last())?;
        (*wait != NEVER).then(|| Duration::from_micros(u64::from(*wait)))
    }
}

/// Microseconds after its acknowledgement from which on `put` is seen by a get whose first replies
/// are `get`, where replica `reader` coordinates the get.
fn wait(put: &Delays, acked: u32, get: &[(usize, u32)], reader: usize) -> u32 {
    let of = |(place, reply): &(usize, u32)| {
        let replica = (place + reader) % put.n();
        match put.0.get(replica) {
            Some(stored) if *stored != NEVER => stored.saturating_sub(acked).saturating_sub(*reply),
            _ => NEVER,
        }
    };
    get.iter().map(of).min().unwrap_or(NEVER)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(delays: &[u32]) -> Delays {
        Delays(delays.iter().map(|d| if *d == NEVER { NEVER } else { d * 1000 }).collect())
    }

    /// Puts, gets, r, w, then pairs of a time in milliseconds and the reads of a hundred that are
    /// fresh after it.
    type Case =
        (&'static [&'static [u32]], &'static [&'static [u32]], u8, u8, &'static [(u64, u32)]);

    #[test]
    fn a_read_is_fresh_once_its_reply_comes_after_the_acknowledgement() {
        let cases: &[Case] = &[
            // All replicas have it at once.
            (&[&[5, 5, 5]], &[&[0, 1, 1]], 1, 1, &[(0, 100)]),
            // The two others have it 10 ms later than the first: one reader in three is fresh.
            (&[&[0, 10, 10]], &[&[0, 1, 1]], 1, 1, &[(0, 33), (9, 33), (10, 100)]),
            // A reply that takes 4 ms gives the write as much time more.
            (&[&[0, 10, 10]], &[&[4, 5, 5]], 1, 1, &[(5, 33), (6, 100)]),
            // Two acknowledgements, one of them from a replica at 10 ms: one reader in three waits.
            (&[&[0, 10, 30]], &[&[0, 1, 1]], 1, 2, &[(0, 67), (19, 67), (20, 100)]),
            // Quorums that overlap are always fresh.
            (&[&[0, 10, 30]], &[&[0, 1, 2]], 2, 2, &[(0, 100)]),
            (&[&[0, 10, 30]], &[&[0, 1, 2]], 3, 1, &[(0, 100)]),
            // A replica that never answers: its reader is never fresh.
            (&[&[0, 10, NEVER]], &[&[0, 1, 1]], 1, 1, &[(10, 67), (1_000_000, 67)]),
            // A put that never was acknowledged says nothing.
            (&[&[0, NEVER, NEVER], &[0, 0, 0]], &[&[0, 1, 1]], 1, 2, &[(0, 100)]),
        ];
        for (puts, gets, r, w, wanted) in cases {
            let puts: Vec<_> = puts.iter().map(|put| ms(put)).collect();
            let gets: Vec<_> = gets.iter().map(|get| ms(get)).collect();
            let found = Freshness::estimate(&puts, &gets, *r, *w).unwrap();
            for (after, fresh) in *wanted {
                let got = found.probability(Duration::from_millis(*after)) * 100.0;
                assert!(
                    (got - f64::from(*fresh)).abs() < 0.5,
                    "{puts:?} r={r} w={w} {after} ms: {got}"
                );
            }
        }
    }

    #[test]
    fn the_time_of_a_share_is_that_at_which_the_curve_reaches_it() {
        let puts: Vec<_> = (0..50).map(|i| ms(&[0, i, 2 * i])).collect();
        let found = Freshness::estimate(&puts, &[ms(&[0, 1, 1])], 1, 1).unwrap();
        for per_mille in [1, 333, 500, 900, 999, 1000] {
            let time = found.time_until(per_mille).unwrap();
            let share = f64::from(per_mille) / 1000.0;
            assert!(found.probability(time) >= share, "{per_mille}");
            let before = time.saturating_sub(Duration::from_micros(1));
            assert!(time.is_zero() || found.probability(before) < share, "{per_mille}");
        }
        let never = Freshness::estimate(&[ms(&[0, NEVER, 1])], &[ms(&[0, 1, 1])], 1, 1).unwrap();
        assert_eq!(never.time_until(999), None);
    }

    #[test]
    fn without_samples_there_is_no_estimate() {
        let put = ms(&[0, 1, 2]);
        assert_eq!(Freshness::estimate(&[], &[put.clone()], 1, 1), None);
        assert_eq!(Freshness::estimate(&[put.clone()], &[], 1, 1), None);
        assert_eq!(Freshness::estimate(&[put.clone()], &[ms(&[0, 1])], 1, 1), None);
        for (r, w) in [(0, 1), (1, 0), (4, 1), (1, 4)] {
            assert_eq!(Freshness::estimate(&[put.clone()], &[put.clone()], r, w), None);
        }
    }
}
