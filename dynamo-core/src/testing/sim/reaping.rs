//! Removing what is dead, in a simulated cluster with a short grace: the shell around
//! [`ReapRound`], and a store's part in it.

use std::collections::BTreeMap;

use crate::clock::digest::RecordDigest;
use crate::id::{NodeId, PartitionId};
use crate::key::ObjectKey;
use crate::reap::candidate::dead_since;
use crate::reap::{Candidate, ReapEffect, ReapEvent, ReapRound};
use crate::ring::RingVersion;
use crate::testing::sim::founding::{key_of, object, partition_of};
use crate::testing::sim::mutant::Mutant;
use crate::testing::sim::network::Request;
use crate::testing::sim::node::{Purpose, Then};
use crate::testing::sim::store::Key;
use crate::testing::sim::work::{Job, Work, WorkAnswer};
use crate::testing::sim::world::World;
use crate::wire::reap::{ReapAction, ReapCheckAnswer, ReapItem, ReapPresence, ReapResult};

/// A round under way.
#[derive(Debug)]
pub(super) struct Reaping {
    id: u64,
    machine: ReapRound,
}

/// The worker's part.
impl World {
    /// Begins a round for the next partition after `after` that this node is the first owner of and
    /// that has something dead. Its partners have just been found equal.
    pub(super) fn begin_reap(&mut self, at: usize, after: Option<PartitionId>) {
        let Some(grace) = self.config.reap else { return };
        if self.nodes[at].worker.reaping.is_some() {
            return;
        }
        let (me, now) = (self.nodes[at].id, self.wall(at));
        let Some(view) = self.nodes[at].agent.view.clone() else { return };
        let mut found: BTreeMap<PartitionId, Vec<Candidate>> = BTreeMap::new();
        for key in self.nodes[at].store.keys() {
            let partition = partition_of(key);
            let record = self.nodes[at].store.peek(key);
            let candidate = Candidate::of_record(object(key), &record, now, grace);
            let is_led = view.wanting(partition).first() == Some(&me);
            let is_next = after.is_none_or(|after| partition > after);
            if let Some(candidate) = candidate.filter(|_| is_led && is_next) {
                found.entry(partition).or_default().push(candidate);
            }
        }
        let Some((partition, candidates)) = found.pop_first() else { return };
        if let Ok((machine, effects)) = ReapRound::start(me, view, partition, candidates, now) {
            let id = self.number();
            self.nodes[at].worker.reaping = Some(Reaping { id, machine });
            self.drive_reap(at, id, effects);
        }
    }

    pub(super) fn reap_answered(&mut self, at: usize, id: u64, node: NodeId, answer: WorkAnswer) {
        let Some(reaping) = &mut self.nodes[at].worker.reaping else { return };
        if reaping.id != id {
            return;
        }
        let events = match answer {
            WorkAnswer::Checked(answer) => vec![ReapEvent::Checked { node, answer: Some(answer) }],
            WorkAnswer::Reaped(results) => {
                vec![ReapEvent::Reaped { node, results: Some(results) }]
            }
            // Whichever it was: the other one is waited for by nobody.
            _ => vec![
                ReapEvent::Checked { node, answer: None },
                ReapEvent::Reaped { node, results: None },
            ],
        };
        for event in events {
            let Some(reaping) = &mut self.nodes[at].worker.reaping else { return };
            let effects = reaping.machine.on_event(event);
            self.drive_reap(at, id, effects);
        }
    }

    fn drive_reap(&mut self, at: usize, id: u64, effects: Vec<ReapEffect>) {
        for effect in effects {
            let (node, work) = match effect {
                ReapEffect::Check { node, objects } => (node, Work::ReapCheck(objects)),
                ReapEffect::Reap { node, ring, items } => (node, Work::Reap { ring, items }),
                ReapEffect::Over(result) => {
                    let over = self.nodes[at].worker.reaping.take();
                    self.covered(match result {
                        Ok(counts) if counts.removed > 0 => "dead record reaped everywhere",
                        _ => "reaping put off",
                    });
                    let partition = over.map(|over| over.machine.partition());
                    return self.begin_reap(at, partition);
                }
            };
            let job = Job::Reap { id, node };
            if node != self.nodes[at].id {
                self.call(at, node, Request::Work(work), Purpose::Work(job));
                continue;
            }
            let (answer, ticket) = self.do_work(at, work);
            self.when_durable(at, ticket.unwrap_or_default(), Then::Worked { job, answer });
        }
    }

    /// What no correct worker does (a bug, see [`Mutant::ReapWithoutEvidence`]).
    pub(super) fn reap_alone(&mut self, at: usize) {
        let (Some(grace), true) = (self.config.reap, self.config.is(Mutant::ReapWithoutEvidence))
        else {
            return;
        };
        let now = self.wall(at);
        let keys: Vec<Key> = self.nodes[at].store.keys().collect();
        for key in keys {
            let since = dead_since(&self.nodes[at].store.peek(key), now);
            if since.is_some_and(|since| now.since(since) > grace) {
                self.remove_record(at, key);
            }
        }
    }
}

/// The store's part.
impl World {
    fn owes(&self, at: usize, key: Key) -> bool {
        self.nodes[at].store.hints().any(|(_, other)| other == key)
    }

    pub(super) fn reap_check(&mut self, at: usize, objects: &[ObjectKey]) -> WorkAnswer {
        let mut presence = Vec::with_capacity(objects.len());
        for object in objects {
            let Some(key) = key_of(object) else { return WorkAnswer::Refused };
            let digest = match self.load(at, key) {
                Ok(record) if record.is_empty() => None,
                Ok(record) => Some(RecordDigest::of(&record)),
                Err(()) => Some(RecordDigest(0)),
            };
            presence.push(ReapPresence { digest, hint: self.owes(at, key) });
        }
        let node = &self.nodes[at];
        let (ring, store, epoch) = (node.agent.version(), node.store_id, node.actor.id().epoch);
        WorkAnswer::Checked(ReapCheckAnswer { ring, store, epoch, presence })
    }

    pub(super) fn reap_items(
        &mut self,
        at: usize,
        ring: RingVersion,
        items: &[ReapItem],
    ) -> WorkAnswer {
        if ring != self.nodes[at].agent.version() {
            return WorkAnswer::Refused;
        }
        let mut results = Vec::with_capacity(items.len());
        for item in items {
            results.push(self.reap_item(at, item));
        }
        WorkAnswer::Reaped(results)
    }

    fn reap_item(&mut self, at: usize, item: &ReapItem) -> ReapResult {
        let Some(key) = key_of(&item.object) else { return ReapResult::Absent };
        let Ok(record) = self.load(at, key) else { return ReapResult::Changed };
        if record.is_empty() {
            return ReapResult::Absent;
        }
        let now = self.wall(at);
        let is_same = RecordDigest::of(&record) == item.digest && !self.owes(at, key);
        // Clocks are not truncated in a run: none gets old enough.
        if !is_same || item.action != ReapAction::Remove || !record.is_deleted(now) {
            self.covered("dead record changed before it was reaped");
            return ReapResult::Changed;
        }
        self.remove_record(at, key);
        self.reaped.insert(key);
        ReapResult::Done
    }
}
