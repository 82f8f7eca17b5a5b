//! Whose turn it is: every partner once per interval, shortened at random; sooner where it came
//! back, the ring changed, or differences were left. Pure, with the time as an argument.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use dynamo_core::entropy::Entropy;
use dynamo_core::id::NodeId;
use dynamo_core::time::Mono;
use service_kit::rng::jittered;

use crate::limits::{EARLY_ROUND_PAUSE, EXCHANGE_JITTER_PERCENT};

#[derive(Debug)]
struct Turn {
    due: Mono,
    running: bool,
}

/// The turns of all partners.
#[derive(Debug)]
pub struct Schedule {
    interval: Duration,
    turns: BTreeMap<NodeId, Turn>,
}

impl Schedule {
    /// Nobody's turn yet. `interval` is that between two comparisons driven from this end.
    #[must_use]
    pub fn new(interval: Duration) -> Self {
        Self { interval, turns: BTreeMap::new() }
    }

    /// Whom there is to be compared with. New ones have their first turn soon, others keep theirs.
    pub fn set_partners(
        &mut self,
        partners: &BTreeSet<NodeId>,
        now: Mono,
        entropy: &mut impl Entropy,
    ) {
        self.turns.retain(|node, turn| turn.running || partners.contains(node));
        for node in partners {
            let first = EARLY_ROUND_PAUSE + jittered(EARLY_ROUND_PAUSE, 100, entropy);
            let turn = || Turn { due: now.plus(first.min(self.interval)), running: false };
            self.turns.entry(*node).or_insert_with(turn);
        }
    }

    /// Brings the turn of `node` forward.
    pub fn hurry(&mut self, node: NodeId, now: Mono) {
        if let Some(turn) = self.turns.get_mut(&node) {
            turn.due = turn.due.min(now.plus(EARLY_ROUND_PAUSE));
        }
    }

    /// Brings everybody's turn forward.
    pub fn hurry_all(&mut self, now: Mono) {
        for turn in self.turns.values_mut() {
            turn.due = turn.due.min(now.plus(EARLY_ROUND_PAUSE));
        }
    }

    /// The partner whose turn has been due for longest, among those that are not being compared.
    #[must_use]
    pub fn due(&self, now: Mono) -> Option<NodeId> {
        let due = self.turns.iter().filter(|(_, turn)| !turn.running && turn.due <= now);
        due.min_by_key(|(_, turn)| turn.due).map(|(node, _)| *node)
    }

    /// Notes that `node` is being compared.
    pub fn begin(&mut self, node: NodeId) {
        if let Some(turn) = self.turns.get_mut(&node) {
            turn.running = true;
        }
    }

    /// Notes that the turn of `node` is over, used or not. `soon` where differences were left.
    pub fn end(&mut self, node: NodeId, soon: bool, now: Mono, entropy: &mut impl Entropy) {
        let pause = if soon {
            EARLY_ROUND_PAUSE.min(self.interval)
        } else {
            jittered(self.interval, EXCHANGE_JITTER_PERCENT, entropy)
        };
        if let Some(turn) = self.turns.get_mut(&node) {
            *turn = Turn { due: now.plus(pause), running: false };
        }
    }
}

#[cfg(test)]
mod tests {
    use dynamo_core::entropy::SplitMix;

    use super::*;

    const INTERVAL: Duration = Duration::from_secs(100);
    const A: NodeId = NodeId(1);
    const B: NodeId = NodeId(2);

    fn at(seconds: u64) -> Mono {
        Mono(0).plus(Duration::from_secs(seconds))
    }

    #[test]
    fn everybody_has_a_turn_and_keeps_it() {
        let mut entropy = SplitMix::new(7);
        let mut schedule = Schedule::new(INTERVAL);
        schedule.set_partners(&BTreeSet::from([A, B]), at(0), &mut entropy);
        assert_eq!(schedule.due(at(0)), None, "hints come first");
        let first = schedule.due(at(2)).unwrap();
        schedule.begin(first);
        let second = schedule.due(at(2)).unwrap();
        assert_ne!(first, second, "one comparison of a pair at a time");
        schedule.begin(second);
        assert_eq!(schedule.due(at(1_000)), None);
        schedule.end(first, false, at(10), &mut entropy);
        schedule.set_partners(&BTreeSet::from([A, B]), at(10), &mut entropy);
        assert_eq!(schedule.due(at(60)), None, "the interval is shortened by a third at most");
        assert_eq!(schedule.due(at(110)), Some(first));
        schedule.end(second, true, at(10), &mut entropy);
        assert_eq!(schedule.due(at(11)), Some(second), "differences were left");
    }

    #[test]
    fn turns_are_brought_forward_and_never_put_off() {
        let mut entropy = SplitMix::new(7);
        let mut schedule = Schedule::new(INTERVAL);
        schedule.set_partners(&BTreeSet::from([A, B]), at(0), &mut entropy);
        for node in [A, B] {
            schedule.end(node, false, at(0), &mut entropy);
        }
        assert_eq!(schedule.due(at(50)), None);
        schedule.hurry(B, at(49));
        assert_eq!(schedule.due(at(50)), Some(B));
        schedule.end(B, false, at(50), &mut entropy);
        schedule.hurry_all(at(50));
        schedule.hurry_all(at(52));
        assert!(schedule.due(at(51)).is_some());
        schedule.set_partners(&BTreeSet::from([A]), at(51), &mut entropy);
        schedule.end(B, false, at(51), &mut entropy);
        assert_eq!(schedule.due(at(51)), Some(A));
        schedule.set_partners(&BTreeSet::new(), at(51), &mut entropy);
        assert_eq!(schedule.due(at(1_000)), None, "nobody to be compared with");
    }
}
