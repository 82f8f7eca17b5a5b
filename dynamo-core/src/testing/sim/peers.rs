//! A simulated node and its peers: calls, what becomes of them, and probes.

use std::time::Duration;

use crate::failure_view::{FailureKind, PeerChange};
use crate::id::NodeId;
use crate::quorum::{GetEvent, PutEvent, ReplicaFailure};
use crate::testing::sim::mutant::Mutant;
use crate::testing::sim::network::{Answer, Body, Endpoint, Reply, Request};
use crate::testing::sim::node::{Asker, Call, Purpose};
use crate::testing::sim::work::WorkAnswer;
use crate::testing::sim::world::{Event, World, id_of, index_of};

/// How long a node waits for a peer's answer.
const CALL_TIMEOUT: Duration = Duration::from_millis(600);

/// Calls to peers.
impl World {
    pub(super) fn tick(&mut self, at: usize) {
        let (now, rng) = (self.now, &mut self.rng);
        for peer in self.nodes[at].view.due_probes(now, rng) {
            self.call(at, peer, Request::Ping, Purpose::Probe);
        }
        self.deliver_due(at);
        self.report(at);
        self.work_on(at);
        self.note_given_up(at);
    }

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
            (Purpose::CatchUp(op), Reply::Found { record, applied }) => {
                self.catch_up_answered(at, op, from, Some((record, applied)));
            }
            (Purpose::Put(op), Reply::Merged) => {
                self.put_event(at, op, PutEvent::Acked { from });
            }
            (Purpose::Hint { owed, key }, Reply::Merged) => self.hint_answered(at, owed, key, true),
            (Purpose::Work(job), Reply::Work(answer)) => self.worked(at, job, answer),
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
        match change {
            Some(PeerChange { node, up: true }) => {
                self.nodes[at].schedule.on_recovered(node, self.now);
            }
            Some(PeerChange { node, up: false }) => {
                self.covered("peer down");
                if self.config.is(Mutant::DeadIsRemoved) {
                    self.remove_dead(at, node);
                }
            }
            None => {}
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
            Purpose::CatchUp(op) => self.catch_up_answered(at, op, from, None),
            Purpose::Repair => {}
            Purpose::Work(job) => self.worked(at, job, WorkAnswer::Refused),
            Purpose::Hint { owed, key } => self.hint_answered(at, owed, key, false),
            Purpose::Probe => {
                let (now, rng) = (self.now, &mut self.rng);
                let change = self.nodes[at].view.on_probe(from, now, false, rng);
                self.peer_changed(at, change);
            }
        }
    }
}
