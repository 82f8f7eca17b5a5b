//! The background worker beside each simulated storage node: it moves partitions as the core's
//! [`Mover`] says, and compares the node with its partners, round after round.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use crate::clock::record::Record;
use crate::entropy::Entropy;
use crate::id::{NodeId, PartitionId};
use crate::merkle::exchange::{ExchangeMode, ExchangePlan, ExchangeWitness};
use crate::merkle::partners::partners;
use crate::params::Durability;
use crate::reap::must_end_epoch;
use crate::testing::sim::compare::Comparing;
use crate::testing::sim::founding::{PARTITIONS, partition_of};
use crate::testing::sim::mutant::Mutant;
use crate::testing::sim::network::Request;
use crate::testing::sim::node::{Purpose, Then};
use crate::testing::sim::reaping::Reaping;
use crate::testing::sim::store::Key;
use crate::testing::sim::work::{Job, Work, WorkAnswer};
use crate::testing::sim::world::{World, index_of};
use crate::time::Mono;
use crate::transfer::{MoveEffect, MoveEvent, Mover, Progress, Ticket};

/// Time between two rounds of comparisons once everything has healed.
const ROUND_HEALED: Duration = Duration::from_secs(3);

/// One round of comparisons with all partners.
#[derive(Debug, Default)]
pub(super) struct Round {
    due: Mono,
    pub(super) open: BTreeSet<u64>,
    pub(super) failed: bool,
    /// Rounds in which all partners were found equal.
    pub(super) complete: u64,
}

#[derive(Debug)]
pub(super) struct Worker {
    /// Number of the worker's process.
    pub(super) life: u64,
    pub(super) mover: Mover,
    pub(super) exchanges: BTreeMap<u64, Comparing>,
    pub(super) round: Round,
    pub(super) reaping: Option<Reaping>,
}

impl Worker {
    pub(super) fn new(
        me: NodeId,
        progress: impl IntoIterator<Item = (PartitionId, Progress)>,
        life: u64,
    ) -> Self {
        let mover = Mover::new(me, progress);
        Self { life, mover, exchanges: BTreeMap::new(), round: Round::default(), reaping: None }
    }
}

/// Rounds and steps.
impl World {
    pub(super) fn work_on(&mut self, at: usize) {
        if !self.nodes[at].store.is_tree_true() {
            self.violate(format!("I-16: the tree of node {at} is not that of its records"));
        }
        let node = &mut self.nodes[at];
        let (Some(view), Some(document)) = (node.agent.view.clone(), node.document()) else {
            return;
        };
        if self.config.crashes && !self.healed && self.rng.chance(1, 300) {
            self.covered("worker killed");
            self.nodes[at].restart_worker();
        }
        let node = &mut self.nodes[at];
        node.worker.mover.on_view(view);
        node.worker.mover.on_own(document);
        self.move_on(at, VecDeque::new());
        self.begin_round(at);
        self.reap_alone(at);
    }

    fn begin_round(&mut self, at: usize) {
        let now = self.now;
        let round = &self.nodes[at].worker.round;
        if now < round.due || !round.open.is_empty() {
            return;
        }
        let Some(view) = self.nodes[at].agent.view.clone() else { return };
        let pause = if self.healed {
            ROUND_HEALED
        } else {
            Duration::from_millis(500 + self.rng.below(1_500))
        };
        let round = &mut self.nodes[at].worker.round;
        round.due = now.plus(pause);
        round.failed = false;
        if self.healed || self.rng.chance(1, 4) {
            self.scrub(at);
        }
        let me = self.nodes[at].id;
        let partners = partners(&view, me);
        for (peer, parts) in partners {
            if self.nodes[at].view.reachable(peer) {
                let plan = ExchangePlan::new(PARTITIONS, parts, ExchangeMode::Both);
                self.start_exchange(at, peer, plan, None);
            } else {
                self.nodes[at].worker.round.failed = true;
            }
        }
        self.end_round(at);
    }

    /// Counts the round where it is over and all was well.
    pub(super) fn end_round(&mut self, at: usize) {
        let round = &mut self.nodes[at].worker.round;
        if round.open.is_empty() && !round.failed {
            round.complete += 1;
            // Counted once.
            round.failed = true;
            self.begin_reap(at, None);
        }
    }

    /// Whether a record is dead for so long that it may be removed at any time.
    pub(super) fn may_be_reaped(&self, at: usize, record: &Record) -> bool {
        self.config.reap.is_some() && record.is_deleted(self.wall(at))
    }

    /// Reads every record, which finds those that have become unreadable.
    fn scrub(&mut self, at: usize) {
        let keys: Vec<Key> = self.nodes[at].store.keys().collect();
        for key in keys {
            // What cannot be read is gone from now on, and comes back from the partners.
            let _found = self.load(at, key);
        }
    }

    /// Answers the mover's steps and performs the next, until all that is left takes time.
    fn move_on(&mut self, at: usize, mut events: VecDeque<MoveEvent>) {
        loop {
            let (now, rng) = (self.now, &mut self.rng);
            let node = &mut self.nodes[at];
            let mut effects = Vec::new();
            let event = events.pop_front();
            let is_last = event.is_none();
            if let Some(event) = event {
                effects = node.worker.mover.on_event(event, now, rng);
            }
            effects.extend(node.worker.mover.poll(now, |peer| node.view.reachable(peer)));
            if is_last && effects.is_empty() {
                return;
            }
            for effect in effects {
                events.extend(self.perform(at, effect));
            }
        }
    }

    pub(super) fn move_event(&mut self, at: usize, event: MoveEvent) {
        self.move_on(at, VecDeque::from([event]));
    }

    /// What became of something that the worker asked for.
    pub(super) fn worked(&mut self, at: usize, job: Job, answer: WorkAnswer) {
        let life = self.nodes[at].worker.life;
        match job {
            Job::Offer { life: of, node } if of == life => {
                let document = match answer {
                    WorkAnswer::Document(document) => Some(*document),
                    _ => None,
                };
                self.move_event(at, MoveEvent::Offer { node, document });
            }
            Job::Move { life: of, ticket } if of == life => {
                let refused = crate::merkle::exchange::MergeAnswer::Refused;
                let event = match answer {
                    WorkAnswer::Page(page) => MoveEvent::Page { ticket, page: *page },
                    WorkAnswer::Merged(all) if !all.contains(&refused) => {
                        MoveEvent::Merged { ticket }
                    }
                    _ => failed(ticket),
                };
                self.move_event(at, event);
            }
            Job::Offer { .. } | Job::Move { .. } => {}
            Job::Reap { id, node } => self.reap_answered(at, id, node, answer),
            Job::Exchange { id, side } => self.exchange_answered(at, id, side, answer),
        }
    }

    /// Does what the mover asks for; the event is there where it took no time.
    fn perform(&mut self, at: usize, effect: MoveEffect) -> Option<MoveEvent> {
        self.note(|| format!("node {at} moves: {effect:?}"));
        let (me, life, ring) =
            (self.nodes[at].id, self.nodes[at].worker.life, self.nodes[at].agent.version());
        match effect {
            MoveEffect::AskOffer { node } => {
                let job = Job::Offer { life, node };
                self.call(at, node, Request::Work(Work::Document), Purpose::Work(job));
                None
            }
            MoveEffect::Fetch { ticket, source, after } => {
                let work = Work::Page { partition: ticket.partition, for_node: me, after };
                let job = Job::Move { life, ticket };
                self.call(at, source, Request::Work(work), Purpose::Work(job));
                None
            }
            MoveEffect::Merge { ticket, records } => {
                if !records.is_empty() {
                    self.covered("page of a partition merged");
                }
                let (answer, durable) = self.do_work(at, Work::Merge { records, ring });
                let job = Job::Move { life, ticket };
                let durable = durable.unwrap_or_default();
                self.when_durable(at, durable, Then::Worked { job, answer });
                None
            }
            MoveEffect::Checkpoint { ticket, progress } => {
                let stored = Progress::decode(&progress.encode());
                let stored = stored.expect("what this build has written it can read");
                self.nodes[at].progress.insert(ticket.partition, stored);
                Some(MoveEvent::Saved { ticket })
            }
            MoveEffect::Compare { ticket, peer, classes, mode } => {
                if self.config.is(Mutant::HoldBeforeAgreement) && mode == ExchangeMode::Both {
                    let (near, far) =
                        (self.nodes[at].store_id, self.nodes[index_of(peer)].store_id);
                    let agreed = Some(ExchangeWitness { ring, near, far });
                    return Some(MoveEvent::Compared { ticket, agreed });
                }
                let parts = classes.into_iter().map(|class| (class, ticket.partition));
                let plan = ExchangePlan::new(PARTITIONS, parts, mode);
                self.start_exchange(at, peer, plan, Some((ticket, mode)));
                None
            }
            MoveEffect::Hold { ticket, ring: under } => {
                let held = under == ring && self.hold(at, ticket.partition);
                Some(done(ticket, held))
            }
            MoveEffect::Release { ticket, ring: under } => {
                let released = under == ring && self.release(at, ticket.partition);
                Some(done(ticket, released))
            }
            MoveEffect::Drop { ticket, ring: under } => {
                let dropped =
                    if under == ring { self.drop_page(at, ticket.partition) } else { None };
                Some(match dropped {
                    Some((done, dropped)) => MoveEvent::Dropped { ticket, done, dropped },
                    None => failed(ticket),
                })
            }
            MoveEffect::Forget { partition } => {
                self.nodes[at].progress.remove(&partition);
                None
            }
        }
    }

    fn hold(&mut self, at: usize, partition: PartitionId) -> bool {
        let Some(inventory) = &mut self.nodes[at].inventory else { return false };
        let held = inventory.hold(partition).is_ok();
        if held {
            self.covered("partition gained");
            self.audit_held(at, partition);
        }
        held
    }

    fn release(&mut self, at: usize, partition: PartitionId) -> bool {
        let Some(inventory) = &mut self.nodes[at].inventory else { return false };
        let released = inventory.release(partition).is_ok();
        if released {
            self.covered("partition released");
        }
        released
    }

    /// Deletes a record of what is left over, unless a hint refers to it. Whether nothing is left,
    /// and how many went; `None` where nothing may go.
    pub(super) fn drop_page(&mut self, at: usize, partition: PartitionId) -> Option<(bool, u64)> {
        let node = &self.nodes[at];
        let below = node.inventory.as_ref()?.may_drop(partition).ok()?;
        let is_owed = |key: &Key| node.store.hints().any(|(_, other)| other == *key);
        let (mut owed, mut keys) = (0, Vec::new());
        for key in node.store.keys().filter(|key| partition_of(*key) == partition) {
            if below.is_some() {
                continue;
            }
            if is_owed(&key) {
                owed += 1;
            } else {
                keys.push(key);
            }
        }
        if let Some(key) = keys.pop() {
            self.audit_drop(at, key);
            self.covered("left-over record deleted");
            self.remove_record(at, key);
            return Some((false, 1));
        }
        if owed > 0 {
            self.covered("left-over record spared for a hint");
            return Some((false, 0));
        }
        // One commit: the note that nothing is left is not there before the deletions are.
        let last = self.nodes[at].store.last_ticket();
        self.flushed(at, last);
        self.nodes[at].inventory.as_mut()?.dropped(partition);
        self.covered("partition dropped");
        Some((true, 0))
    }

    /// Removes a record, and with it the knowledge of the counters that were minted for its key.
    pub(super) fn remove_record(&mut self, at: usize, key: Key) {
        let record = self.nodes[at].store.peek(key);
        let keeps = self.config.is(Mutant::KeepsEpochOnRemoval);
        if !keeps && must_end_epoch(&record, self.nodes[at].actor.id()) {
            self.end_epoch(at, 0, "epoch ended: a record that it wrote is removed");
        }
        self.note(|| format!("node {at} key {key}: removed"));
        let is_heard = !self.config.is(Mutant::TreeForgetsRemoval);
        let ticket = self.nodes[at].store.remove(key, is_heard);
        self.flush_soon(at, ticket, Durability::Fsync);
    }

    /// I-22: who comes to hold a partition has been found equal to a holder (and see
    /// [`World::audit_agreed`] for what that means).
    pub(super) fn audit_held(&mut self, at: usize, partition: PartitionId) {
        let store = self.nodes[at].store_id;
        if !self.agreed.contains(&(store, partition)) {
            let partition = partition.0;
            self.violate(format!(
                "I-22: node {at} holds partition {partition}, and agreed with no holder"
            ));
        }
    }

    /// I-23: a copy goes only when every owner holds the partition and has what the copy has.
    fn audit_drop(&mut self, at: usize, key: Key) {
        let Some(view) = self.nodes[at].agent.view.clone() else { return };
        let record = self.nodes[at].store.on_disk(key);
        for owner in view.wanting(partition_of(key)).iter().map(|id| index_of(*id)) {
            if owner == at || self.config.amnesiac == Some(owner) {
                continue;
            }
            if !self.nodes[owner].confirms(key) {
                self.violate(format!("I-23: node {at} drops key {key}, and {owner} holds it not"));
            }
            let is_there = self.nodes[owner].store.on_disk(key).contains(&record);
            if !is_there && !self.may_be_reaped(at, &record) {
                self.violate(format!("I-23: node {at} drops key {key}, and {owner} lacks it"));
            }
        }
    }
}

fn failed(ticket: Ticket) -> MoveEvent {
    MoveEvent::Failed { ticket, reason: "refused, or no answer".to_owned() }
}

fn done(ticket: Ticket, is_done: bool) -> MoveEvent {
    if is_done { MoveEvent::Done { ticket } } else { failed(ticket) }
}
