//! Comparisons of a simulated node with its peers: the shell around [`Exchange`].

use std::collections::VecDeque;

use crate::clock::record::Record;
use crate::id::NodeId;
use crate::merkle::exchange::{
    Exchange, ExchangeEffect, ExchangeEnd, ExchangeEvent, ExchangeMode, ExchangePlan,
    ExchangeResult, Side,
};
use crate::testing::sim::founding::partition_of;
use crate::testing::sim::network::Request;
use crate::testing::sim::node::{Purpose, Then};
use crate::testing::sim::store::Key;
use crate::testing::sim::work::{Job, Work, WorkAnswer};
use crate::testing::sim::world::{Event, World, index_of};
use crate::transfer::{MoveEvent, Ticket};
use crate::wire::tree::TreeState;

/// A comparison under way.
#[derive(Debug)]
pub(super) struct Comparing {
    machine: Exchange,
    peer: NodeId,
    /// The step of a partition on the move that it belongs to.
    step: Option<(Ticket, ExchangeMode)>,
    /// What either side had on its disk when it began.
    before: Vec<(Key, Side, Record)>,
}

impl World {
    pub(super) fn start_exchange(
        &mut self,
        at: usize,
        peer: NodeId,
        plan: ExchangePlan,
        step: Option<(Ticket, ExchangeMode)>,
    ) {
        let id = self.number();
        let (machine, effects) = Exchange::start(plan, self.now);
        let before = step.map(|(ticket, _)| self.both_disks(at, index_of(peer), ticket));
        let before = before.unwrap_or_default();
        let worker = &mut self.nodes[at].worker;
        if step.is_none() {
            worker.round.open.insert(id);
        }
        worker.exchanges.insert(id, Comparing { machine, peer, step, before });
        self.drive_exchange(at, id, effects);
    }

    fn both_disks(&self, near: usize, far: usize, ticket: Ticket) -> Vec<(Key, Side, Record)> {
        let keys = (0..self.config.keys).filter(|key| partition_of(*key) == ticket.partition);
        let both = |key| [(key, Side::Near, near), (key, Side::Far, far)];
        let sides = keys.flat_map(both);
        sides.map(|(key, side, at)| (key, side, self.nodes[at].store.on_disk(key))).collect()
    }

    pub(super) fn exchange_event(&mut self, at: usize, id: u64, event: ExchangeEvent) {
        let now = self.now;
        let Some(comparing) = self.nodes[at].worker.exchanges.get_mut(&id) else { return };
        let effects = comparing.machine.on_event(event, now);
        self.drive_exchange(at, id, effects);
    }

    pub(super) fn exchange_answered(&mut self, at: usize, id: u64, side: Side, answer: WorkAnswer) {
        self.exchange_event(at, id, event_of(side, answer));
    }

    fn drive_exchange(&mut self, at: usize, id: u64, effects: Vec<ExchangeEffect>) {
        let mut effects = VecDeque::from(effects);
        while let Some(effect) = effects.pop_front() {
            let ring = self.nodes[at].agent.version();
            let (side, work) = match effect {
                ExchangeEffect::AskDigests { side, class, prefixes } => {
                    (side, Work::Digests { class, prefixes })
                }
                ExchangeEffect::AskKeys { side, class, leaves, after } => {
                    self.covered("exchange compared keys");
                    (side, Work::Keys { class, leaves, after })
                }
                ExchangeEffect::ReadRecords { side, reads } => (side, Work::Records(reads)),
                ExchangeEffect::Merge { side, records } => (side, Work::Merge { records, ring }),
                ExchangeEffect::Wait { until } => {
                    let generation = self.nodes[at].generation;
                    let timer = Event::ExchangeTimer { node: at, generation, exchange: id };
                    self.at(until, timer);
                    continue;
                }
                ExchangeEffect::Done(result) => return self.exchange_done(at, id, &result),
            };
            let Some(comparing) = self.nodes[at].worker.exchanges.get(&id) else { return };
            let (peer, job) = (comparing.peer, Job::Exchange { id, side });
            if side == Side::Far {
                self.call(at, peer, Request::Work(work), Purpose::Work(job));
                continue;
            }
            match self.do_work(at, work) {
                (answer, Some(ticket)) => {
                    self.when_durable(at, ticket, Then::Worked { job, answer });
                }
                (answer, None) => {
                    let now = self.now;
                    let exchanges = &mut self.nodes[at].worker.exchanges;
                    let Some(comparing) = exchanges.get_mut(&id) else { return };
                    effects.extend(comparing.machine.on_event(event_of(side, answer), now));
                }
            }
        }
    }

    fn exchange_done(&mut self, at: usize, id: u64, result: &ExchangeResult) {
        let Some(comparing) = self.nodes[at].worker.exchanges.remove(&id) else { return };
        let moved = result.counts.pushed + result.counts.pulled;
        self.moved += moved;
        if moved > 0 {
            self.covered("exchange moved a record");
        }
        let agreed = result.end == ExchangeEnd::Agreed;
        self.note(|| format!("node {at} and {}: {result:?}", comparing.peer));
        match comparing.step {
            Some((ticket, mode)) => {
                let agreed = result.witness.filter(|_| agreed);
                if agreed.is_some() {
                    self.audit_agreed(at, &comparing, mode);
                    self.agreed.insert((self.nodes[at].store_id, ticket.partition));
                }
                self.move_event(at, MoveEvent::Compared { ticket, agreed });
            }
            None => {
                let round = &mut self.nodes[at].worker.round;
                round.open.remove(&id);
                round.failed |= !agreed;
                self.end_round(at);
            }
        }
    }

    /// I-22, I-23: agreement means that each side that was to get something has what the other had
    /// on its disk when the comparison began.
    fn audit_agreed(&mut self, at: usize, comparing: &Comparing, mode: ExchangeMode) {
        let far = index_of(comparing.peer);
        if self.config.amnesiac.is_some_and(|node| node == at || node == far) {
            return;
        }
        for (key, side, record) in &comparing.before {
            let other = match side {
                Side::Near => far,
                Side::Far if mode == ExchangeMode::PushOnly => continue,
                Side::Far => at,
            };
            // A node that has nothing of the partition any more has let it go since.
            let has_let_go = !self.nodes[other].accepts(*key);
            if has_let_go || self.may_be_reaped(other, record) {
                continue;
            }
            if !self.nodes[other].store.peek(*key).contains(record) {
                self.violate(format!(
                    "I-22: nodes {at} and {far} agreed, and {other} lacks what the other had of \
                     key {key}"
                ));
            }
        }
    }
}

fn event_of(side: Side, answer: WorkAnswer) -> ExchangeEvent {
    match answer {
        WorkAnswer::Digests { ring, store, digests } => {
            ExchangeEvent::Digests { side, ring, store, state: TreeState::Built, digests }
        }
        WorkAnswer::Keys { keys, next } => ExchangeEvent::Keys { side, keys, next },
        WorkAnswer::Records(answers) => ExchangeEvent::Records { side, answers },
        WorkAnswer::Merged(answers) => ExchangeEvent::Merged { side, answers },
        WorkAnswer::Document(_)
        | WorkAnswer::Page(_)
        | WorkAnswer::Checked(_)
        | WorkAnswer::Reaped(_)
        | WorkAnswer::Refused => {
            ExchangeEvent::Failed { side, reason: "refused, or no answer".to_owned() }
        }
    }
}
