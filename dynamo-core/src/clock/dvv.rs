//! The dotted version vector: which write events of one key are known.
//!
//! A version vector says "all dots of this actor up to n". A replica that receives only the newest
//! write of a coordinator knows that dot without the ones before it, so beside the vector there is
//! a set of *loose* dots. Loose dots sink into the vector as soon as the gap below them closes.
//! Without them a delta would claim to cover siblings that it never saw, and they would be lost
//! (hazards C1 and C2 of optimistic replication with per-server version vectors).
//!
//! Loose dots are kept as runs. A client that goes on from the context of its own last put, and
//! never reads, sees one more dot of its coordinator each time: as single dots its context would
//! outgrow its token after a thousand puts, as a run it stays as short as it began.
//!
//! Invariants: a vector entry is at least 1; a run starts more than one above its actor's entry
//! and above the run before it; two clocks are equal when they cover the same dots, whatever the
//! times beside them.
//!
//! The time kept with each entry is when its actor last updated the key (paper section 4.4). It
//! serves truncation alone and takes no part in any comparison.

use std::collections::BTreeMap;
use std::fmt;

use crate::clock::dot::Dot;
use crate::id::{ActorId, NodeId};
use crate::time::WallMs;

/// One actor's part of a clock: every dot from 1 to `counter` is covered.
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    /// The highest contiguous counter.
    pub counter: u64,
    /// When the actor last updated the key, as far as known.
    pub at: WallMs,
}

/// Consecutive loose dots of one actor: every dot from `first` to `last` is covered.
#[derive(Debug, Clone, Copy)]
pub struct Run {
    /// Who minted them.
    pub actor: ActorId,
    /// The lowest counter, at least 2.
    pub first: u64,
    /// The highest counter.
    pub last: u64,
    /// When the actor last updated the key, as far as known.
    pub at: WallMs,
}

/// A set of dots, stored as a version vector plus the loose dots above it.
#[derive(Clone, Default)]
pub struct Dvv {
    vector: BTreeMap<ActorId, Entry>,
    /// By the first dot of each run; the entry's counter is the last one.
    loose: BTreeMap<Dot, Entry>,
}

impl PartialEq for Dvv {
    fn eq(&self, other: &Self) -> bool {
        self.counters().eq(other.counters()) && self.runs().eq(other.runs())
    }
}

impl Eq for Dvv {}

impl fmt::Debug for Dvv {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.counters()).entries(self.runs()).finish()
    }
}

impl Dvv {
    /// The clock that covers nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// True where no dot is covered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.vector.is_empty() && self.loose.is_empty()
    }

    /// Number of vector entries and loose runs: what truncation keeps small.
    #[must_use]
    pub fn len(&self) -> usize {
        self.vector.len() + self.loose.len()
    }

    /// Whether the write event `dot` is known.
    #[must_use]
    pub fn covers(&self, dot: &Dot) -> bool {
        self.contiguous(dot.actor) >= dot.counter
            || self.in_run(dot.actor, dot.counter, dot.counter)
    }

    /// Whether everything that `other` covers is covered here ("descends").
    #[must_use]
    pub fn descends(&self, other: &Self) -> bool {
        other.vector.iter().all(|(actor, entry)| self.contiguous(*actor) >= entry.counter)
            && other.loose().all(|run| self.covers_run(&run))
    }

    /// Adds one dot, seen at `at`.
    pub fn insert(&mut self, dot: Dot, at: WallMs) {
        self.insert_run(Run { actor: dot.actor, first: dot.counter, last: dot.counter, at });
    }

    /// Covers all dots of `actor` up to `counter`, seen at `at`.
    pub fn insert_up_to(&mut self, actor: ActorId, counter: u64, at: WallMs) {
        self.insert_run(Run { actor, first: 1, last: counter, at });
    }

    /// Covers a run of dots. Counters start at 1; an empty run adds nothing.
    pub fn insert_run(&mut self, run: Run) {
        let Run { actor, first, last, mut at } = run;
        if last == 0 || first > last {
            return;
        }
        if first <= self.contiguous(actor).saturating_add(1) {
            let entry = self.vector.entry(actor).or_insert(Entry { counter: last, at });
            entry.counter = entry.counter.max(last);
            entry.at = entry.at.max(at);
            self.sink(actor);
            return;
        }
        // Runs that overlap or touch the new one become one run with it.
        let (mut from, mut to) = (first, last);
        let below = Dot { actor, counter: 0 }..=Dot { actor, counter: last.saturating_add(1) };
        let touching: Vec<(Dot, Entry)> = self
            .loose
            .range(below)
            .rev()
            .take_while(|(_, run)| run.counter.saturating_add(1) >= first)
            .map(|(start, run)| (*start, *run))
            .collect();
        for (start, run) in touching {
            self.loose.remove(&start);
            from = from.min(start.counter);
            to = to.max(run.counter);
            at = at.max(run.at);
        }
        self.loose.insert(Dot { actor, counter: from }, Entry { counter: to, at });
    }

    /// Adds everything that `other` covers. Commutative, associative, idempotent and monotone.
    pub fn merge(&mut self, other: &Self) {
        for (actor, entry) in &other.vector {
            self.insert_up_to(*actor, entry.counter, entry.at);
        }
        for run in other.loose() {
            self.insert_run(run);
        }
    }

    /// The highest counter of `actor` that is covered at all, loose dots included; 0 for none.
    #[must_use]
    pub fn highest(&self, actor: ActorId) -> u64 {
        let last = Dot { actor, counter: u64::MAX };
        let first = Dot { actor, counter: 0 };
        let loose = self.loose.range(first..=last).next_back().map_or(0, |(_, run)| run.counter);
        loose.max(self.contiguous(actor))
    }

    /// The vector entries in actor order.
    pub fn vector(&self) -> impl Iterator<Item = (ActorId, Entry)> + '_ {
        self.vector.iter().map(|(actor, entry)| (*actor, *entry))
    }

    /// The runs of loose dots in order.
    pub fn loose(&self) -> impl Iterator<Item = Run> + '_ {
        self.loose.iter().map(|(start, run)| Run {
            actor: start.actor,
            first: start.counter,
            last: run.counter,
            at: run.at,
        })
    }

    /// The highest epoch of `node` of which `self` covers a dot that `held` does not, if any. A
    /// node that finds one of its own has lost data, unless [`crate::actor::LossRule`] knows better
    /// (rule (c) of actor epochs).
    #[must_use]
    pub fn unheld_epoch(&self, node: NodeId, held: &Self) -> Option<u64> {
        self.unheld(node, held).map(|(epoch, _)| epoch).max()
    }

    /// The epochs of `node` of which `self` covers a dot that `held` does not, each with the time
    /// of its last update as far as known; in no particular order.
    pub fn unheld(&self, node: NodeId, held: &Self) -> impl Iterator<Item = (u64, WallMs)> {
        let vector = self
            .vector
            .iter()
            .filter(move |(actor, entry)| held.contiguous(**actor) < entry.counter)
            .map(|(actor, entry)| (*actor, entry.at));
        let loose =
            self.loose().filter(move |run| !held.covers_run(run)).map(|run| (run.actor, run.at));
        vector
            .chain(loose)
            .filter(move |(actor, _)| actor.node == node)
            .map(|(actor, at)| (actor.epoch, at))
    }

    /// When `actor` last updated the key; `None` where the actor is unknown here.
    #[must_use]
    pub fn updated_at(&self, actor: ActorId) -> Option<WallMs> {
        self.vector.get(&actor).map(|entry| entry.at)
    }

    /// Forgets an actor's vector entry. Only truncation may: see [`crate::clock::truncate`].
    pub(crate) fn forget(&mut self, actor: ActorId) {
        self.vector.remove(&actor);
    }

    fn counters(&self) -> impl Iterator<Item = (ActorId, u64)> + '_ {
        self.vector.iter().map(|(actor, entry)| (*actor, entry.counter))
    }

    fn runs(&self) -> impl Iterator<Item = (Dot, u64)> + '_ {
        self.loose.iter().map(|(start, run)| (*start, run.counter))
    }

    fn contiguous(&self, actor: ActorId) -> u64 {
        self.vector.get(&actor).map_or(0, |entry| entry.counter)
    }

    /// Whether every dot of the run is covered. Runs never touch the vector entry or each other,
    /// so one of the two covers it whole or something is missing.
    fn covers_run(&self, run: &Run) -> bool {
        self.contiguous(run.actor) >= run.last || self.in_run(run.actor, run.first, run.last)
    }

    /// Whether one run of `actor` reaches from `first` to `last`.
    fn in_run(&self, actor: ActorId, first: u64, last: u64) -> bool {
        let below = Dot { actor, counter: 0 }..=Dot { actor, counter: first };
        self.loose.range(below).next_back().is_some_and(|(_, run)| run.counter >= last)
    }

    /// Moves the runs of `actor` that the vector entry reached into it.
    fn sink(&mut self, actor: ActorId) {
        let Some(entry) = self.vector.get_mut(&actor) else { return };
        let all = Dot { actor, counter: 0 }..=Dot { actor, counter: u64::MAX };
        while let Some((start, run)) = self.loose.range(all.clone()).next() {
            if start.counter > entry.counter.saturating_add(1) {
                return;
            }
            let (start, run) = (*start, *run);
            entry.counter = entry.counter.max(run.counter);
            entry.at = entry.at.max(run.at);
            self.loose.remove(&start);
        }
    }
}
