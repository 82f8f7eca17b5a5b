//! Counting: which places are filled, and whether that is a quorum in every active set.
//!
//! While a partition moves, a request must reach its quorum among the owners *and* among those who
//! hold the data now (hazard C12), so there may be two sets; a place can be a member of both.
//! Counting is over places, and each place counts once per set, whoever filled it and however
//! often (see the module doc of [`crate::quorum`]).
//!
//! Invariant: a tally is never both reached and impossible; filling a place never undoes a
//! quorum.

use std::cmp::Reverse;

use crate::id::NodeId;
use crate::params::{ParamError, WriteQuorum};
use crate::ring::ReplicaSets;

/// What a put waits for, resolved against N.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteGoal {
    /// One copy anywhere (`w=any`): a stand-in's hint or the coordinator's own copy is enough.
    Any,
    /// This many places, from 1.
    Count(u8),
}

impl WriteGoal {
    /// What `w` means for `n` replicas.
    ///
    /// # Errors
    /// [`ParamError::Range`] where a number is not in 1..=n.
    pub fn resolve(w: WriteQuorum, n: u8) -> Result<Self, ParamError> {
        match w {
            WriteQuorum::Any => Ok(Self::Any),
            WriteQuorum::Of(quorum) => quorum.resolve(n).map(Self::Count),
        }
    }

    /// The number of acknowledgements it stands for, as shown in answers.
    #[must_use]
    pub fn count(self) -> u8 {
        match self {
            Self::Any => 1,
            Self::Count(count) => count,
        }
    }
}

/// One set in which a quorum is needed.
#[derive(Debug, Clone, PartialEq, Eq)]
struct QuorumSet {
    members: Vec<NodeId>,
    needed: usize,
    primaries_needed: usize,
}

/// Who fills a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filler {
    /// The node of the place, as a full member.
    Itself,
    /// Another node for it, or the node itself while it does not hold the partition: counts, but
    /// not as a primary.
    StandIn,
}

/// How a place was filled so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Fill {
    by_itself: bool,
    by_stand_in: bool,
}

/// What may still come for a place that is not filled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Open {
    /// The node of the place itself may still answer as a full member.
    pub itself: bool,
    /// A stand-in may still answer.
    pub stand_in: bool,
}

/// The count of one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tally {
    sets: Vec<QuorumSet>,
    fills: Vec<(NodeId, Fill)>,
    /// A copy that fills no place: that of a coordinator which stands in for nobody.
    extra: bool,
    any: bool,
}

impl Tally {
    /// The tally of a get: `r` of the `places`, `pr` of them by their own nodes.
    #[must_use]
    pub fn of_read(places: Vec<NodeId>, r: u8, pr: u8) -> Self {
        let set = QuorumSet { members: places, needed: r.into(), primaries_needed: pr.into() };
        Self { sets: vec![set], fills: Vec::new(), extra: false, any: false }
    }

    /// The tally of a put: the goal must be met among the owners and, while they are others, among
    /// the holders. Where fewer nodes hold the partition than the goal asks (the rest was lost),
    /// all of those that do are enough for the second set; otherwise a partition that lost two of
    /// three disks could not be written until it is restored.
    #[must_use]
    pub fn of_write(replicas: &ReplicaSets, goal: WriteGoal, pw: u8) -> Self {
        let sets = replicas
            .write_sets()
            .into_iter()
            .enumerate()
            .map(|(index, members)| {
                let most = if index == 0 { usize::MAX } else { members.len() };
                let needed = match goal {
                    WriteGoal::Any => 0,
                    WriteGoal::Count(count) => usize::from(count).min(most),
                };
                QuorumSet { needed, primaries_needed: usize::from(pw).min(most), members }
            })
            .collect();
        Self { sets, fills: Vec::new(), extra: false, any: goal == WriteGoal::Any }
    }

    /// Fills `place`. Filling it the same way again changes nothing.
    pub fn fill(&mut self, place: NodeId, filler: Filler) {
        if !self.is_filled(place) {
            self.fills.push((place, Fill::default()));
        }
        for (_, fill) in self.fills.iter_mut().filter(|(other, _)| *other == place) {
            match filler {
                Filler::Itself => fill.by_itself = true,
                Filler::StandIn => fill.by_stand_in = true,
            }
        }
    }

    /// Counts a copy that fills no place; only a put with [`WriteGoal::Any`] is satisfied by it.
    pub fn fill_none(&mut self) {
        self.extra = true;
    }

    /// Whether the place is filled, by its own node or by a stand-in.
    #[must_use]
    pub fn is_filled(&self, place: NodeId) -> bool {
        self.fills.iter().any(|(other, _)| *other == place)
    }

    /// Whether every quorum is reached.
    #[must_use]
    pub fn is_reached(&self) -> bool {
        let somewhere = !self.any || self.extra || !self.fills.is_empty();
        somewhere && self.holds_with(|_| Open::default())
    }

    /// Whether every quorum can still be reached, given what may come for each place.
    #[must_use]
    pub fn is_possible(&self, open: impl Fn(NodeId) -> Open) -> bool {
        let somewhere = !self.any
            || self.extra
            || !self.fills.is_empty()
            || self.members().any(|place| open(place) != Open::default());
        somewhere && self.holds_with(open)
    }

    /// Filled places, in the set that is furthest from its quorum (of two that have reached it, in
    /// the one that needed more).
    #[must_use]
    pub fn acks(&self) -> u8 {
        if self.any {
            return small(self.fills.len().max(usize::from(self.extra)));
        }
        let counts = self.sets.iter().map(|set| (set, self.counts(set, &|_| Open::default()).0));
        let worst = counts.min_by_key(|(set, filled)| {
            let gap = set.needed.saturating_sub(*filled);
            (Reverse(gap), Reverse(set.needed), *filled)
        });
        small(worst.map_or(0, |(_, filled)| filled))
    }

    /// For a refusal: how many are needed and how many there are, or would be if everything open
    /// came. Where only primaries lack, the two numbers are about primaries.
    #[must_use]
    pub fn prospects(&self, open: impl Fn(NodeId) -> Open) -> (u8, u8) {
        let mut worst = (0, if self.any { (1, self.acks().into()) } else { (0, 0) });
        for set in &self.sets {
            let (total, own) = self.counts(set, &open);
            for (needed, got) in [(set.needed, total), (set.primaries_needed, own)] {
                let gap = needed.saturating_sub(got);
                if gap > worst.0 || (worst.1.0 == 0 && needed > 0) {
                    worst = (gap, (needed, got));
                }
            }
        }
        let (needed, got) = worst.1;
        (small(needed), small(got))
    }

    /// Places of the first set (the owners, for a put) that their own nodes filled.
    #[must_use]
    pub fn primaries(&self) -> u8 {
        small(self.sets.first().map_or(0, |set| self.counts(set, &|_| Open::default()).1))
    }

    /// Whether the place's own node filled it.
    #[must_use]
    pub fn by_itself(&self, place: NodeId) -> bool {
        self.fills.iter().any(|(other, fill)| *other == place && fill.by_itself)
    }

    fn holds_with(&self, open: impl Fn(NodeId) -> Open) -> bool {
        self.sets.iter().all(|set| {
            let (total, own) = self.counts(set, &open);
            total >= set.needed && own >= set.primaries_needed
        })
    }

    /// Places of the set that are filled or open, and those of them that count as primaries.
    fn counts(&self, set: &QuorumSet, open: &impl Fn(NodeId) -> Open) -> (usize, usize) {
        let (mut total, mut own) = (0, 0);
        for member in &set.members {
            let open = open(*member);
            total += usize::from(self.is_filled(*member) || open.itself || open.stand_in);
            own += usize::from(self.by_itself(*member) || open.itself);
        }
        (total, own)
    }

    fn members(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.sets.iter().flat_map(|set| set.members.iter().copied())
    }
}

/// Counts of places are below 2 N, far below the limit.
fn small(count: usize) -> u8 {
    u8::try_from(count).unwrap_or(u8::MAX)
}

#[cfg(test)]
mod tests;
