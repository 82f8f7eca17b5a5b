//! The end of a run: everything heals, hints and gossip come to rest, replicas are compared, and
//! the checks of the whole history follow.

use std::time::Duration;

use crate::clock::digest::RecordDigest;
use crate::membership::view::Membership;
use crate::params::Durability;
use crate::testing::sim::check::{Promises, check};
use crate::testing::sim::history::PutEnd;
use crate::testing::sim::ring_audit::agree;
use crate::testing::sim::serve::versions_of;
use crate::testing::sim::store::Key;
use crate::testing::sim::world::{World, index_of};

/// Virtual time within which everything must have settled after the last fault: the longest that
/// a recovered peer may be avoided, and a hint's longest pause, with room.
const SETTLE_MAX: Duration = Duration::from_secs(240);

/// I-20: gossip rounds within which all agents must agree, for each doubling of the nodes.
const VIEW_ROUNDS: u32 = 10;

impl World {
    pub(super) fn conclude(&mut self) {
        if self.violation.is_none() {
            self.settle();
        }
        if self.violation.is_none() {
            self.check_membership();
            self.exchange();
        }
        if self.violation.is_none() {
            self.note_volatile();
            let promises = Promises {
                rule: self.config.reconciliation,
                lossless: !self.config.loses_data(),
                strict: self.config.reads_its_writes(),
            };
            self.violation = check(&self.history, promises).err();
        }
    }

    /// Heals everything and waits until gossip, hints and requests have come to their ends.
    fn settle(&mut self) {
        self.healed = true;
        self.network.heal();
        for node in 0..self.nodes.len() {
            self.revive(node);
        }
        let doublings = self.nodes.len().next_power_of_two().trailing_zeros().max(1);
        // Rounds of an agent are a little apart, and its first one may just have passed.
        let rounds = self.config.gossip * (VIEW_ROUNDS * doublings + 1) * 11 / 10;
        let (agreed, end) = (self.now.plus(rounds), self.now.plus(SETTLE_MAX));
        while self.violation.is_none() && !self.is_settled() {
            if self.now > end || !self.step() {
                let owed: usize = self.nodes.iter().map(|node| node.store.hints().count()).sum();
                self.violate(format!("I-12: {owed} hints or requests left after all has healed"));
            }
            if self.agreed_at.is_none() && self.now > agreed {
                let known: String =
                    self.nodes.iter().map(|node| summary(&node.agent.membership)).collect();
                self.violate(format!("I-20: agents do not agree in time after the heal: {known}"));
            }
        }
    }

    /// Notes when the agents first agree after everything has healed.
    pub(super) fn note_agreement(&mut self) {
        if self.healed && self.agreed_at.is_none() && self.agents_agree() {
            self.agreed_at = Some(self.now);
        }
    }

    fn agents_agree(&self) -> bool {
        let live = (0..self.nodes.len()).filter(|node| !self.is_given_up(*node));
        let mut agents = live.map(|node| &self.nodes[node].agent.membership);
        let Some(first) = agents.next() else { return true };
        agents.all(|other| agree(first, other, !self.config.skew))
    }

    fn is_settled(&self) -> bool {
        let rests = |index: &usize| {
            let node = &self.nodes[*index];
            let at_rest =
                node.store.unflushed() == 0 && node.gets.is_empty() && node.puts.is_empty();
            at_rest && (self.is_given_up(*index) || node.store.hints().next().is_none())
        };
        self.agreed_at.is_some()
            && (0..self.nodes.len()).all(|index| rests(&index))
            && self.agents_agree()
    }

    /// I-25 and I-26: the ring is what administrators committed, and nothing else.
    fn check_membership(&mut self) {
        for at in 0..self.nodes.len() {
            let membership = &self.nodes[at].agent.membership;
            let events = membership.history().len();
            if self.is_given_up(at) {
                continue;
            }
            if events != 1 + self.commits {
                let commits = self.commits;
                self.violate(format!(
                    "I-26: node {at} knows {events} events, and {commits} changes were committed"
                ));
            }
        }
    }

    /// Every owner and holder of a key sends its record to every other: what anti-entropy does in
    /// time. Where the ring changed, so does whoever has a record without being either, as transfer
    /// has it; under one ring hints alone must bring every record home.
    fn exchange(&mut self) {
        let Some(by) = (0..self.nodes.len()).find(|node| !self.is_given_up(*node)) else { return };
        for key in 0..self.config.keys {
            let targets = self.sets(by, key).write_targets();
            let homes: Vec<usize> = targets.into_iter().map(index_of).collect();
            let count = if self.config.changes > 0 { self.nodes.len() } else { 0 };
            let strangers =
                (0..count).filter(|node| !homes.contains(node) && !self.is_given_up(*node));
            let strangers: Vec<usize> =
                strangers.filter(|node| !self.nodes[*node].store.peek(key).is_empty()).collect();
            if !strangers.is_empty() {
                self.covered("record outside of its owners");
            }
            for _ in 0..2 {
                for from in strangers.iter().chain(&homes) {
                    let record = self.load(*from, key).unwrap_or_default();
                    for to in homes.iter().filter(|to| *to != from) {
                        self.merge(*to, key, &record, Durability::Fsync);
                    }
                }
            }
            self.compare(key, &homes);
        }
    }

    /// I-15: all replicas of a key are equal.
    fn compare(&mut self, key: Key, homes: &[usize]) {
        let records: Vec<_> = homes.iter().map(|at| self.nodes[*at].store.peek(key)).collect();
        let mut digests = records.iter().map(RecordDigest::of);
        let first = digests.next();
        if digests.any(|digest| Some(digest) != first) {
            self.violate(format!("I-15: replicas of key {key} differ: {records:?}"));
        }
        self.history.last.insert(key, records.iter().map(versions_of).collect());
    }

    /// Finds the writes that were acknowledged from memory and never reached a disk.
    fn note_volatile(&mut self) {
        if self.config.durability != Durability::Buffered {
            return;
        }
        let audit = &self.audit;
        let mut lost = 0;
        for (id, put) in &mut self.history.puts {
            put.volatile = put.end == Some(PutEnd::Ok) && !audit.is_durable(put.key, *id);
            lost += u64::from(put.volatile);
        }
        if lost > 0 {
            self.covered("buffered write lost with all its copies");
            if !self.config.loses_data() {
                self.violate(format!("I-1: {lost} buffered writes never reached a disk"));
            }
        }
    }
}

/// What an agent knows, in a line.
fn summary(membership: &Membership) -> String {
    let states: Vec<_> =
        membership.states().iter().map(|state| (state.name.as_str(), state.stamp)).collect();
    let staged = membership.registers().staged.as_ref().map(|entry| entry.stamp);
    format!("\n{} {} {states:?} {staged:?}", membership.my_state().name, membership.version())
}
