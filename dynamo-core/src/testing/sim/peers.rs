//! A simulated node and its peers: calls with their failures, probes, and hints on their way.

use std::time::Duration;

use crate::clock::digest::RecordDigest;
use crate::failure_view::{FailureKind, PeerChange};
use crate::handoff::{BatchEnd, HintWork, may_delete};
use crate::id::NodeId;
use crate::quorum::{GetEvent, PutEvent, ReplicaFailure};
use crate::testing::sim::audit::Audit;
use crate::testing::sim::config::Mutant;
use crate::testing::sim::network::{Answer, Body, Endpoint, Reply, Request};
use crate::testing::sim::node::{Asker, Call, Delivery, Purpose};
use crate::testing::sim::store::Key;
use crate::testing::sim::world::{Event, World, id_of, index_of};

/// How long a node waits for a peer's answer.
const CALL_TIMEOUT: Duration = Duration::from_millis(600);

/// Hints of one delivery.
const HINT_BATCH: usize = 4;

/// Targets that one node delivers to at once.
const DELIVERIES: usize = 2;

/// Calls to peers.
impl World {
    pub(super) fn call(&mut self, at: usize, to: NodeId, request: Request, purpose: Purpose) {
        let call = self.number();
        let to = index_of(to);
        let sent = self.now;
        self.nodes[at].calls.insert(call, Call { to, sent, purpose });
        self.send(at, to, Body::Request { call, request });
        let generation = self.nodes[at].generation;
        self.after(CALL_TIMEOUT, Event::CallTimeout { node: at, generation, call });
    }

    pub(super) fn reply(&mut self, at: usize, to: Endpoint, call: u64, reply: Reply) {
        self.send(at, to, Body::Reply { call, reply });
    }

    pub(super) fn answer(&mut self, at: usize, asker: Asker, answer: Answer) {
        self.send(at, asker.client, Body::Answer { request: asker.request, answer });
    }

    pub(super) fn peer_replied(&mut self, at: usize, call: u64, reply: Reply) {
        let Some(Call { to, sent, purpose }) = self.nodes[at].calls.remove(&call) else { return };
        let (from, took) = (id_of(to), self.now.since(sent));
        let change = self.nodes[at].view.on_success(from, self.now, took);
        self.peer_changed(at, change);
        match (purpose, reply) {
            (Purpose::Get(op), Reply::Read(reply)) => {
                self.get_event(at, op, GetEvent::Reply { from, reply });
            }
            (Purpose::Put(op), Reply::Merged) => {
                self.put_event(at, op, PutEvent::Acked { from });
            }
            (Purpose::Hint { key, sent }, Reply::Merged) => self.hint_taken(at, from, key, sent),
            (Purpose::Probe, _) => {
                let (now, rng) = (self.now, &mut self.rng);
                let change = self.nodes[at].view.on_probe(from, now, true, rng);
                self.peer_changed(at, change);
            }
            (purpose, _) => {
                self.call_failed(at, from, purpose, &ReplicaFailure::Refused("corrupt".to_owned()));
            }
        }
    }

    pub(super) fn peer_refused(&mut self, at: usize, call: u64) {
        let Some(Call { to, purpose, .. }) = self.nodes[at].calls.remove(&call) else { return };
        self.peer_failed(at, id_of(to), FailureKind::Refused);
        self.call_failed(at, id_of(to), purpose, &ReplicaFailure::Unreachable);
    }

    pub(super) fn call_timed_out(&mut self, at: usize, call: u64) {
        let Some(Call { to, purpose, .. }) = self.nodes[at].calls.remove(&call) else { return };
        self.peer_failed(at, id_of(to), FailureKind::Timeout { waited: CALL_TIMEOUT });
        self.call_failed(at, id_of(to), purpose, &ReplicaFailure::Timeout);
    }

    pub(super) fn peer_failed(&mut self, at: usize, peer: NodeId, kind: FailureKind) {
        let (now, rng) = (self.now, &mut self.rng);
        let change = self.nodes[at].view.on_failure(peer, now, kind, rng);
        self.peer_changed(at, change);
    }

    pub(super) fn peer_changed(&mut self, at: usize, change: Option<PeerChange>) {
        if let Some(PeerChange { node, up: true }) = change {
            self.nodes[at].schedule.on_recovered(node, self.now);
        }
    }

    pub(super) fn call_failed(
        &mut self,
        at: usize,
        from: NodeId,
        purpose: Purpose,
        failure: &ReplicaFailure,
    ) {
        let failure = failure.clone();
        match purpose {
            Purpose::Get(op) => self.get_event(at, op, GetEvent::Failed { from, failure }),
            Purpose::Put(op) => self.put_event(at, op, PutEvent::Failed { from, failure }),
            Purpose::Repair => {}
            Purpose::Hint { .. } => self.delivery_step(at, from, true),
            Purpose::Probe => {
                let (now, rng) = (self.now, &mut self.rng);
                let change = self.nodes[at].view.on_probe(from, now, false, rng);
                self.peer_changed(at, change);
            }
        }
    }
}

/// Probes and hints.
impl World {
    pub(super) fn tick(&mut self, at: usize) {
        let (now, rng) = (self.now, &mut self.rng);
        for peer in self.nodes[at].view.due_probes(now, rng) {
            self.call(at, peer, Request::Ping, Purpose::Probe);
        }
        let node = &mut self.nodes[at];
        let room = DELIVERIES.saturating_sub(node.deliveries.len());
        let work = node.schedule.due(now, room, |peer| node.view.reachable(peer), |_| true);
        for work in work {
            if let HintWork::Deliver(target) = work {
                self.deliver(at, target);
            }
        }
    }

    pub(super) fn deliver(&mut self, at: usize, target: NodeId) {
        let keys: Vec<Key> = self.nodes[at]
            .store
            .hints()
            .filter(|(owed, _)| *owed == target)
            .map(|(_, key)| key)
            .take(HINT_BATCH)
            .collect();
        if keys.is_empty() {
            return self.delivered(at, target, BatchEnd::Drained);
        }
        let delivery = Delivery { open: keys.len(), failed: false };
        self.nodes[at].deliveries.insert(target, delivery);
        for key in keys {
            // A hint by reference to a record that was lost has nothing left to deliver.
            let Some(record) = self.nodes[at].store.hinted(target, key) else { continue };
            let sent = RecordDigest::of(&record);
            if self.config.is(Mutant::DropHintBeforeAck) {
                self.forget_hint(at, target, key);
            }
            let request = Request::Merge { key, record, hint_for: None };
            self.call(at, target, request, Purpose::Hint { key, sent });
        }
    }

    /// The target has a hint's record on its disk.
    pub(super) fn hint_taken(&mut self, at: usize, target: NodeId, key: Key, sent: RecordDigest) {
        self.covered("hint delivered");
        let stored = self.nodes[at].store.hinted(target, key).map(|r| RecordDigest::of(&r));
        if may_delete(sent, stored) {
            self.forget_hint(at, target, key);
        }
        self.delivery_step(at, target, false);
    }

    pub(super) fn forget_hint(&mut self, at: usize, target: NodeId, key: Key) {
        let Some(record) = self.nodes[at].store.hinted(target, key) else { return };
        self.note(|| format!("node {at} key {key}: hint for {target} dropped"));
        let to = index_of(target);
        if self.config.amnesiac != Some(to) && self.config.amnesiac != Some(at) {
            let on_disk = self.nodes[to].store.on_disk(key);
            self.demand(Audit::hint_dropped(key, &record, &on_disk));
        }
        let ticket = self.nodes[at].store.drop_hint(target, key);
        self.flush_soon(at, ticket);
    }

    pub(super) fn delivery_step(&mut self, at: usize, target: NodeId, failed: bool) {
        let Some(delivery) = self.nodes[at].deliveries.get_mut(&target) else { return };
        delivery.open = delivery.open.saturating_sub(1);
        delivery.failed |= failed;
        if delivery.open > 0 {
            return;
        }
        let failed = delivery.failed;
        let left = self.nodes[at].store.hints().any(|(owed, _)| owed == target);
        let end = match (failed, left) {
            (true, _) => BatchEnd::Failed,
            (false, true) => BatchEnd::More,
            (false, false) => BatchEnd::Drained,
        };
        self.delivered(at, target, end);
    }

    pub(super) fn delivered(&mut self, at: usize, target: NodeId, end: BatchEnd) {
        let (now, rng) = (self.now, &mut self.rng);
        let node = &mut self.nodes[at];
        node.deliveries.remove(&target);
        node.schedule.finished(target, now, end, rng);
    }
}
