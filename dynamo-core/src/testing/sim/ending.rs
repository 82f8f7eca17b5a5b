//! The end of a run: everything heals, hints and gossip come to rest, replicas are compared, and
//! the checks of the whole history follow.

use std::time::Duration;

use crate::clock::digest::RecordDigest;
use crate::membership::view::Membership;
use crate::params::Durability;
use crate::testing::sim::check::{Promises, check};
use crate::testing::sim::founding::PARTITIONS;
use crate::testing::sim::history::PutEnd;
use crate::testing::sim::ring_audit::agree;
use crate::testing::sim::serve::versions_of;
use crate::testing::sim::store::Key;
use crate::testing::sim::world::{World, index_of};

/// Virtual time within which everything must have settled after the last fault: the longest that
/// a recovered peer may be avoided, and a hint's longest pause, with room.
const SETTLE_MAX: Duration = Duration::from_secs(600);

/// How often it is looked whether all has settled.
const LOOK: Duration = Duration::from_millis(200);

/// Virtual time within which what is dead must be removed: the longest that a recovered peer may be
/// avoided, and the grace, with room.
const REAP_MAX: Duration = Duration::from_secs(120);

/// Virtual time within which rounds of comparison between equal replicas must end.
const QUIET_MAX: Duration = Duration::from_secs(60);

/// I-20: gossip rounds within which all agents must agree, for each doubling of the nodes.
const VIEW_ROUNDS: u32 = 10;

impl World {
    pub(super) fn conclude(&mut self) {
        if self.violation.is_none() {
            self.settle();
        }
        if self.violation.is_none() {
            self.check_membership();
            self.reap();
            self.stay_quiet();
            self.compare_all();
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
        let mut look = self.now;
        while self.violation.is_none() {
            if self.now >= look {
                if self.is_settled() {
                    return;
                }
                look = self.now.plus(LOOK);
            }
            if self.now > end || !self.step() {
                let left = self.what_is_left();
                self.violate(format!("I-15: not settled in time after all has healed: {left}"));
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
            let at_rest = node.store.unflushed() == 0
                && !node.store.is_damaged()
                && node.gets.is_empty()
                && node.puts.is_empty();
            at_rest && (self.is_given_up(*index) || node.store.hints().next().is_none())
        };
        self.agreed_at.is_some()
            && (0..self.nodes.len()).all(|index| rests(&index))
            && self.is_moved()
            && self.is_equal()
            && self.agents_agree()
    }

    fn what_is_left(&self) -> String {
        let hints: usize = self.nodes.iter().map(|node| node.store.hints().count()).sum();
        let (moved, equal, agree) = (self.is_moved(), self.is_equal(), self.agents_agree());
        let moves: Vec<_> = (0..self.nodes.len())
            .map(|at| {
                let node = &self.nodes[at];
                let document = node.worker.mover.document(false, self.now);
                let views = document.partitions.into_iter();
                (at, views.map(|v| (v.partition.0, v.state, v.peer, v.error)).collect::<Vec<_>>())
            })
            .collect();
        format!("{hints} hints, moved {moved}, equal {equal}, agents agree {agree}, {moves:?}")
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

    /// Everything is where the ring wants it, and nothing is left elsewhere.
    fn is_moved(&self) -> bool {
        (0..self.nodes.len()).filter(|at| !self.is_given_up(*at)).all(|at| {
            let node = &self.nodes[at];
            let (Some(view), Some(inventory)) = (&node.agent.view, &node.inventory) else {
                return true;
            };
            PARTITIONS.iter().all(|partition| {
                let needed = view.needs_from(node.id, partition);
                inventory.held_from(partition) == needed && !inventory.is_leftover(partition)
            })
        })
    }

    /// I-15: whether all replicas are equal.
    fn is_equal(&self) -> bool {
        (0..self.config.keys).all(|key| {
            let owners = self.owners(key).into_iter();
            let mut digests = owners.map(|at| RecordDigest::of(&self.nodes[at].store.peek(key)));
            let first = digests.next();
            digests.all(|digest| Some(digest) == first)
        })
    }

    /// Waits until what is dead is removed: all of it is, unless somebody has a copy who is not to
    /// have one.
    fn reap(&mut self) {
        if self.config.reap.is_none() {
            return;
        }
        let (mut look, end) = (self.now, self.now.plus(REAP_MAX));
        while self.violation.is_none() {
            if self.now >= look {
                let left = |key: &Key| self.is_dead(*key) && self.copies_elsewhere(*key) == 0;
                let Some(key) = (0..self.config.keys).find(left) else { return };
                if self.now > end {
                    self.violate(format!("C5: key {key} is dead, and is not removed"));
                }
                look = self.now.plus(LOOK);
            }
            if !self.step() {
                self.violate("nothing happens any more".to_owned());
            }
        }
    }

    /// Whether an owner has a record of the key, and that is dead.
    fn is_dead(&self, key: Key) -> bool {
        self.owners(key).iter().any(|at| {
            let record = self.nodes[*at].store.peek(key);
            !record.is_empty() && record.is_deleted(self.wall(*at))
        })
    }

    /// The owners of the key, as any node knows them.
    fn owners(&self, key: Key) -> Vec<usize> {
        let by = (0..self.nodes.len()).find(|node| !self.is_given_up(*node));
        let owners = by.map(|by| &self.sets(by, key).owners);
        owners.into_iter().flatten().map(|id| index_of(*id)).collect()
    }

    fn copies_elsewhere(&self, key: Key) -> usize {
        let owners = self.owners(key);
        let has = |at: &usize| !self.nodes[*at].store.peek(key).is_empty();
        (0..self.nodes.len()).filter(|at| !owners.contains(at)).filter(has).count()
    }

    /// I-15: once all is equal, comparisons move nothing any more.
    fn stay_quiet(&mut self) {
        // What was under way may still end; two full rounds follow.
        self.pass_rounds(1);
        let before = self.moved;
        self.pass_rounds(2);
        if self.moved != before && self.violation.is_none() {
            let moved = self.moved - before;
            self.violate(format!("I-15: {moved} records moved between equal replicas"));
        }
    }

    fn pass_rounds(&mut self, count: u64) {
        let live = |world: &Self| -> Vec<(usize, u64)> {
            let all = (0..world.nodes.len()).filter(|at| !world.is_given_up(*at));
            all.map(|at| (at, world.nodes[at].worker.round.complete)).collect()
        };
        let goal: Vec<(usize, u64)> =
            live(self).into_iter().map(|(at, done)| (at, done + count)).collect();
        let end = self.now.plus(QUIET_MAX);
        let is_short = |world: &Self| {
            goal.iter().any(|(at, due)| {
                let node = &world.nodes[*at];
                node.inventory.is_some() && node.worker.round.complete < *due
            })
        };
        while self.violation.is_none() && is_short(self) {
            if self.now > end || !self.step() {
                self.violate("I-15: rounds of comparison do not come to their ends".to_owned());
            }
        }
    }

    fn compare_all(&mut self) {
        for key in 0..self.config.keys {
            if self.copies_elsewhere(key) > 0 {
                self.covered("record outside of its owners");
            }
            let owners = self.owners(key);
            self.compare(key, &owners);
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
