//! How likely a read is to see a write that was acknowledged a while before: t-visibility, after
//! "Probabilistically Bounded Staleness" (Bailis et al., VLDB 2012).
//!
//! Their model, WARS, has four delays per replica: the write on its way (W), its acknowledgement on
//! the way back (A), a read on its way (R) and its reply on the way back (S). A replica answers a
//! read with what was there before the write where the read arrives first: t after the
//! acknowledgement of the put, where `acked + t + R < W`.
//!
//! A coordinator cannot see one-way delays: clocks of different hosts are not compared here. It
//! sees round trips: `W + A` from each acknowledgement, `R + S` from each reply. A reply is quick to
//! make, so its round trip is two ways of equal length: `R` is half of it. In an acknowledgement the
//! commit is the most. The way back is as long as a reply's *on average*, and the same share of
//! every acknowledgement: a slow one was slow in all its parts. (To take off a way drawn from the
//! replies instead makes early acknowledgements earlier than they can have been.) A coordinator's
//! own replica has no way. What is acknowledged is durable; where a replica shows a write to readers
//! before that, the estimate errs on the safe side.
//!
//! The estimate is exact over its sample, not drawn from it: every put of the sample meets every
//! get, at every choice of the reading coordinator among the replicas, and each such meeting gives
//! the one time from which on its read is fresh. So there is no error of drawing, the curve never
//! falls, the same sample always gives the same answer, and its cost is bounded by the sample.
//! Delays of one request stay together: replicas that are slow at the same time remain so.
//!
//! Assumptions: a message takes as long out as back; the reader's coordinator is each of the
//! replicas with equal probability. Keys are not special, and nobody writes in between. Where the
//! way out takes much longer than the way back, reads are less fresh than estimated by up to half
//! the difference, and fresher where it is the other way round.
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

    /// When the replicas had a put that waited for `w` acknowledgements; `None` where there never
    /// were so many.
    fn stored(&self, w: u8, back: &WayBack) -> Option<Stored> {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let acked = *sorted.get(usize::from(w).checked_sub(1)?)?;
        if acked == NEVER {
            return None;
        }
        let at = |(place, delay): (usize, &u32)| match (place, *delay) {
            (_, NEVER) => NEVER,
            (0, delay) => delay.saturating_sub(acked),
            (_, delay) => back.stored(delay).saturating_sub(acked),
        };
        Some(Stored { after_ack: self.0.iter().enumerate().map(at).collect() })
    }

    /// The first `count` replies of a get; `None` where there never were so many.
    fn replies(&self, count: u8) -> Option<Replies> {
        let mut order: Vec<(u32, usize)> = self.0.iter().copied().zip(0..).collect();
        order.sort_unstable();
        order.truncate(usize::from(count));
        let whole = order.len() == usize::from(count) && order.iter().all(|(d, _)| *d != NEVER);
        let ways = order.into_iter().map(|(delay, place)| (place, delay / 2));
        (whole && count > 0).then(|| Replies(ways.collect()))
    }
}

/// The replies of one get that count: those who replied first, by place, and the way out to each. 0
/// is the place of the coordinator's own replica, which has no way.
struct Replies(Vec<(usize, u32)>);

impl Replies {
    /// Microseconds after its acknowledgement from which on this get sees `put`, where the put's
    /// replica number `reader` coordinates the get.
    fn wait(&self, put: &Stored, reader: usize) -> u32 {
        let of = |(place, out): &(usize, u32)| {
            let stored = put.after_ack.get((place + reader) % put.after_ack.len());
            let out = if *place == 0 { 0 } else { *out };
            stored.map_or(NEVER, |at| if *at == NEVER { NEVER } else { at.saturating_sub(out) })
        };
        self.0.iter().map(of).min().unwrap_or(NEVER)
    }
}

/// When each replica had a put, in microseconds after the put was acknowledged.
struct Stored {
    after_ack: Vec<u32>,
}

/// The part of an acknowledgement's round trip that is the way back.
struct WayBack {
    replies: u64,
    acknowledgements: u64,
}

impl WayBack {
    /// From the delays of other replicas than the coordinator's own.
    fn of(puts: &[&Delays], gets: &[&Delays]) -> Self {
        let mean = |all: &[&Delays]| {
            let remote = all.iter().flat_map(|delays| delays.0.iter().skip(1));
            let (sum, count) = remote
                .filter(|delay| **delay != NEVER)
                .fold((0_u64, 0_u64), |(sum, count), delay| (sum + u64::from(*delay), count + 1));
            sum / count.max(1)
        };
        Self { replies: mean(gets), acknowledgements: mean(puts) }
    }

    /// When a replica had what it acknowledged after `delay`. The way back is no longer than the
    /// way out, so it is half of the round trip at most.
    fn stored(&self, delay: u32) -> u32 {
        let back = u64::from(delay) * self.replies / (2 * self.acknowledgements).max(1);
        delay - u32::try_from(back).unwrap_or(NEVER).min(delay / 2)
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
        let puts: Vec<_> = puts.iter().filter(|put| put.n() == n).collect();
        let gets: Vec<_> = gets.iter().filter(|get| get.n() == n).collect();
        let back = WayBack::of(&puts, &gets);
        let gets: Vec<_> = gets.iter().filter_map(|get| get.replies(r)).collect();
        let mut waits = Vec::with_capacity(puts.len() * gets.len() * n);
        for put in puts.iter().filter_map(|put| put.stored(w, &back)) {
            for reader in 0..n {
                waits.extend(gets.iter().map(|get| get.wait(&put, reader)));
            }
        }
        waits.sort_unstable();
        (!waits.is_empty()).then_some(Self { waits })
    }

    /// The probability that a read `after` the acknowledgement is fresh.
    #[must_use]
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
    fn a_read_is_fresh_once_it_reaches_a_replica_after_the_write() {
        let cases: &[Case] = &[
            // All replicas have it at once.
            (&[&[5, 5, 5]], &[&[0, 1, 1]], 1, 1, &[(0, 100)]),
            // The two others have it 10 ms later than the first: one reader in three is fresh.
            (&[&[0, 10, 10]], &[&[0, 0, 0]], 1, 1, &[(0, 33), (9, 33), (10, 100)]),
            // Of those 10 ms, 2 are the way of the acknowledgement back.
            (&[&[0, 10, 10]], &[&[0, 4, 4]], 1, 1, &[(7, 33), (8, 100)]),
            // With two replies, the way to the other one gives the write as much time more.
            (&[&[0, 10, 10]], &[&[0, 4, 4]], 2, 1, &[(0, 67), (5, 67), (6, 100)]),
            // Two acknowledgements, one of them from a replica at 10 ms: one reader in three waits,
            // until what took 30 ms in all was stored: a twentieth of it was the way back.
            (&[&[0, 10, 30]], &[&[0, 2, 2]], 1, 2, &[(0, 67), (18, 67), (19, 100)]),
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
        let put = [ms(&[0, 1, 2])];
        assert_eq!(Freshness::estimate(&[], &put, 1, 1), None);
        assert_eq!(Freshness::estimate(&put, &[], 1, 1), None);
        assert_eq!(Freshness::estimate(&put, &[ms(&[0, 1])], 1, 1), None);
        for (r, w) in [(0, 1), (1, 0), (4, 1), (1, 4)] {
            assert_eq!(Freshness::estimate(&put, &put, r, w), None);
        }
    }
}
