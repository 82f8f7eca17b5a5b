//! Each signed message is taken once. The messages of a stream are numbered; what has come is
//! remembered as a window below the highest number, as IPsec does, so that memory depends on the
//! number of senders and not on that of messages.

use std::collections::HashMap;
use std::time::Duration;

use dynamo_core::time::Mono;

use crate::limits::{PEER_REORDER_MAX, PEER_SKEW_MAX, PEER_STREAMS_MAX};

/// Bits of one word of a window.
const WORD: u64 = 64;

/// Words of a window.
const WORDS: usize = (PEER_REORDER_MAX / WORD) as usize;

/// Time for which a stream must be quiet before it may be forgotten. A message is good for the skew
/// on either side of its time: one that was taken before this long is refused by its time alone.
const FORGET_AFTER: Duration = Duration::from_secs(3 * PEER_SKEW_MAX.as_secs());

/// What a number means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It has not come before.
    New,
    /// It has, or it is so far behind that this cannot be known.
    Seen,
    /// Its stream is new, and no more can be remembered.
    Full,
}

/// What has come of all streams.
#[derive(Default)]
pub(super) struct Replays {
    streams: HashMap<u64, Window>,
}

struct Window {
    highest: u64,
    /// A ring: the bit of a number is at its place modulo the size of the window.
    words: Box<[u64; WORDS]>,
    last: Mono,
}

impl Replays {
    /// Takes message `number` of `stream`, if it has not come before.
    pub(super) fn take(&mut self, stream: u64, number: u64, now: Mono) -> Verdict {
        if self.streams.len() >= PEER_STREAMS_MAX && !self.streams.contains_key(&stream) {
            self.streams.retain(|_, window| now.since(window.last) < FORGET_AFTER);
            if self.streams.len() >= PEER_STREAMS_MAX {
                return Verdict::Full;
            }
        }
        let window = self.streams.entry(stream).or_insert_with(|| Window {
            highest: 0,
            words: Box::new([0; WORDS]),
            last: now,
        });
        if window.take(number) {
            window.last = now;
            Verdict::New
        } else {
            Verdict::Seen
        }
    }
}

impl Window {
    fn take(&mut self, number: u64) -> bool {
        if number == 0 || number.saturating_add(PEER_REORDER_MAX) <= self.highest {
            return false;
        }
        if number > self.highest {
            self.advance(number);
        }
        let (word, bit) = Self::place(number);
        let Some(word) = self.words.get_mut(word) else { return false };
        let new = *word & bit == 0;
        *word |= bit;
        new
    }

    /// Makes `number` the highest, and forgets what falls out of the window.
    fn advance(&mut self, number: u64) {
        if number - self.highest >= PEER_REORDER_MAX {
            self.words.fill(0);
        } else {
            for skipped in self.highest + 1..=number {
                let (word, bit) = Self::place(skipped);
                if let Some(word) = self.words.get_mut(word) {
                    *word &= !bit;
                }
            }
        }
        self.highest = number;
    }

    fn place(number: u64) -> (usize, u64) {
        let at = number % PEER_REORDER_MAX;
        (usize::try_from(at / WORD).unwrap_or(usize::MAX), 1 << (at % WORD))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn each_number_is_taken_once() {
        let mut replays = Replays::default();
        let now = Mono(0);
        let steps = [
            (1, Verdict::New),
            (1, Verdict::Seen),
            (3, Verdict::New),
            (2, Verdict::New),
            (2, Verdict::Seen),
            (0, Verdict::Seen),
            (PEER_REORDER_MAX, Verdict::New),
            (4, Verdict::New),
            (PEER_REORDER_MAX + 3, Verdict::New),
            (3, Verdict::Seen),
            (4, Verdict::Seen),
            (5, Verdict::New),
            (10 * PEER_REORDER_MAX, Verdict::New),
            (9 * PEER_REORDER_MAX, Verdict::Seen),
            (9 * PEER_REORDER_MAX + 1, Verdict::New),
            (u64::MAX, Verdict::New),
            (u64::MAX, Verdict::Seen),
        ];
        for (number, expected) in steps {
            assert_eq!(replays.take(7, number, now), expected, "{number}");
        }
        assert_eq!(replays.take(8, 1, now), Verdict::New, "another stream");
    }

    #[test]
    fn streams_are_bounded_and_quiet_ones_forgotten() {
        let mut replays = Replays::default();
        for stream in 0..PEER_STREAMS_MAX as u64 {
            assert_eq!(replays.take(stream, 1, Mono(0)), Verdict::New);
        }
        assert_eq!(replays.take(u64::MAX, 1, Mono(0)), Verdict::Full);
        assert_eq!(replays.take(3, 2, Mono(0).plus(FORGET_AFTER)), Verdict::New);
        let later = Mono(0).plus(FORGET_AFTER);
        assert_eq!(replays.take(u64::MAX, 1, later), Verdict::New);
        assert_eq!(replays.take(3, 2, later), Verdict::Seen, "this one was not quiet");
    }

    proptest::proptest! {
        /// Against a set of all that came, for numbers that stay within the window.
        #[test]
        fn a_window_is_a_set(numbers in proptest::collection::vec(1u64..4000, 1..200)) {
            let mut window = Window { highest: 0, words: Box::new([0; WORDS]), last: Mono(0) };
            let mut seen = HashSet::new();
            for number in numbers {
                assert_eq!(window.take(number), seen.insert(number), "{number}");
            }
        }
    }
}
