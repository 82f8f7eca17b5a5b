//! The shell of a simulated storage node: it performs the effects of the core's operations and
//! serves peers, as thinly as the real one.

use std::time::Duration;

use crate::clock::digest::RecordDigest;
use crate::clock::record::{Content, Record};
use crate::entropy::Entropy;
use crate::id::{NodeId, PutId};
use crate::limits::TIMEOUT_MS_DEFAULT;
use crate::params::Reconciliation;
use crate::quorum::{PutEvent, ReplicaReply};
use crate::replica::merge;
use crate::testing::sim::config::Mutant;
use crate::testing::sim::network::{Answer, Ask, Body, Endpoint, Message, Reply, Request};
use crate::testing::sim::node::{Asker, Life, Then};
use crate::testing::sim::store::{Hint, Key, Ticket};
use crate::testing::sim::world::{Event, World};
use crate::testing::values::text_of;

/// The simulated bucket keeps siblings.
pub(super) const RULE: Reconciliation = Reconciliation::Siblings;

/// The versions of a record by put, with the text of each (`None` for a tombstone).
pub(super) fn versions_of(record: &Record) -> Vec<(PutId, Option<String>)> {
    record.siblings().map(|sibling| (sibling.put_id, text_of(&sibling.content))).collect()
}

/// Requests.
impl World {
    pub(super) fn node_receives(&mut self, at: usize, message: Message) {
        let Message { from, body } = message;
        if self.nodes[at].life == Life::Down {
            match body {
                Body::Request { call, .. } => self.send(at, from, Body::Refused { call }),
                Body::Ask { request, .. } => {
                    self.send(at, from, Body::Answer { request, answer: Answer::Refused });
                }
                _ => {}
            }
            return;
        }
        match body {
            Body::Ask { request, ask } => self.serve_ask(at, Asker { client: from, request }, ask),
            Body::Request { call, request } => self.serve_peer(at, from, call, request),
            Body::Reply { call, reply } => self.peer_replied(at, call, reply),
            Body::Refused { call } => self.peer_refused(at, call),
            Body::Answer { .. } => {}
        }
    }

    pub(super) fn serve_peer(&mut self, at: usize, from: Endpoint, call: u64, request: Request) {
        let ticket = match request {
            Request::Ping => return self.reply(at, from, call, Reply::Pong),
            Request::Read { key, unless } => {
                let reply = match self.read(at, key) {
                    Err(()) => Reply::Unreadable,
                    Ok(ReplicaReply::Record(record))
                        if unless == Some(RecordDigest::of(&record)) =>
                    {
                        Reply::Read(ReplicaReply::Same)
                    }
                    Ok(reply) => Reply::Read(reply),
                };
                return self.reply(at, from, call, reply);
            }
            Request::Merge { key, record, hint_for: None } => self.merge(at, key, &record),
            Request::Merge { key, record, hint_for: Some(target) } => {
                self.keep_copy(at, target, key, &record)
            }
        };
        if self.config.is(Mutant::AckBeforeStore) {
            return self.reply(at, from, call, Reply::Merged);
        }
        self.when_durable(at, ticket, Then::Acknowledge { to: from, call });
    }

    pub(super) fn serve_ask(&mut self, at: usize, asker: Asker, ask: Ask) {
        let deadline = self.now.plus(Duration::from_millis(TIMEOUT_MS_DEFAULT));
        match ask {
            Ask::Get { key } => self.start_get(at, asker, key, deadline),
            Ask::Put { key, command, ring } => {
                let stand_in = ring == self.nodes[at].ring;
                self.start_put(at, asker, (key, command), stand_in, deadline);
            }
        }
    }

    /// The record of a key as this node knows it, hints for others included.
    pub(super) fn read(&mut self, at: usize, key: Key) -> Result<ReplicaReply, ()> {
        let mut record = self.load(at, key)?;
        for copy in self.nodes[at].store.copies(key) {
            record = record.sync(copy);
        }
        if !record.is_empty() {
            return Ok(ReplicaReply::Record(record));
        }
        let node = &self.nodes[at];
        let holds = self.replicas[0][key].owners.contains(&node.id) && !node.store.is_missing(key);
        Ok(ReplicaReply::Absent { holds })
    }

    /// Loads a record; one that is found unreadable ends the epoch at once (rule b).
    pub(super) fn load(&mut self, at: usize, key: Key) -> Result<Record, ()> {
        let loaded = self.nodes[at].store.load(key);
        if loaded.is_err() {
            self.covered("unreadable record");
            self.end_epoch(at, 0);
        }
        loaded
    }

    pub(super) fn end_epoch(&mut self, at: usize, seen: u64) {
        if self.config.is(Mutant::NoNewEpoch) {
            return;
        }
        let node = &mut self.nodes[at];
        if node.actor.on_loss(seen) {
            // Persisted and flushed before anything is minted under it.
            node.epoch = node.actor.id().epoch;
            self.covered("epoch ended");
        }
    }

    /// Merges a record into the main store; the ticket says when it is durable.
    pub(super) fn merge(&mut self, at: usize, key: Key, incoming: &Record) -> Ticket {
        let local = self.load(at, key).unwrap_or_default();
        let merged = merge(&local, incoming, self.nodes[at].id, RULE);
        if let Some(seen) = merged.lost_epoch {
            self.covered("lost dot seen");
            self.end_epoch(at, seen);
        }
        let mut record = merged.record;
        if self.config.is(Mutant::BiggerClockWins) {
            record = if size(incoming) > size(&local) { incoming.clone() } else { local.clone() };
        }
        if record == local && !local.is_empty() {
            return self.nodes[at].store.last_ticket();
        }
        if record.sibling_count() > local.sibling_count().max(incoming.sibling_count()) {
            self.covered("siblings merged");
        }
        self.demand(self.audit.record(key, &record));
        self.note(|| format!("node {at} key {key}: merged to {}", shown(&record)));
        let ticket = self.nodes[at].store.put(key, record);
        self.flush_soon(at, ticket);
        ticket
    }

    pub(super) fn keep_copy(
        &mut self,
        at: usize,
        target: NodeId,
        key: Key,
        record: &Record,
    ) -> Ticket {
        self.covered("hint kept");
        self.note(|| format!("node {at} key {key}: hint for {target}: {}", shown(record)));
        let copy = match self.nodes[at].store.hint(target, key) {
            Some(Hint::Copy(known)) => known.sync(record),
            // A copy beside a reference would take its place; so it takes in what it stood for.
            Some(Hint::Reference) => self.nodes[at].store.peek(key).sync(record),
            None => record.clone(),
        };
        let ticket = self.nodes[at].store.put_hint(target, key, Hint::Copy(copy));
        self.nodes[at].schedule.noted(target, self.now);
        self.flush_soon(at, ticket);
        ticket
    }

    pub(super) fn keep_reference(&mut self, at: usize, target: NodeId, key: Key) -> Ticket {
        self.covered("hint kept by reference");
        self.note(|| format!("node {at} key {key}: hint by reference for {target}"));
        let node = &mut self.nodes[at];
        let ticket = match node.store.hint(target, key) {
            Some(Hint::Copy(known)) => {
                let copy = known.sync(&node.store.peek(key));
                node.store.put_hint(target, key, Hint::Copy(copy))
            }
            _ => node.store.put_hint(target, key, Hint::Reference),
        };
        node.schedule.noted(target, self.now);
        self.flush_soon(at, ticket);
        ticket
    }
}

/// Durability.
impl World {
    pub(super) fn flush_soon(&mut self, at: usize, ticket: Ticket) {
        let most = if self.healed { 300 } else { self.config.flush_us };
        let takes = Duration::from_micros(100 + self.rng.below(most));
        let node = &mut self.nodes[at];
        node.flush_at = node.flush_at.max(self.now.plus(takes));
        let (when, generation) = (node.flush_at, node.generation);
        self.at(when, Event::Flushed { node: at, generation, ticket });
    }

    pub(super) fn when_durable(&mut self, at: usize, ticket: Ticket, then: Then) {
        if ticket <= self.nodes[at].durable {
            self.then(at, then);
        } else {
            self.nodes[at].waiting.push((ticket, then));
        }
    }

    pub(super) fn flushed(&mut self, at: usize, ticket: Ticket) {
        let node = &mut self.nodes[at];
        node.store.flush(ticket);
        node.durable = node.durable.max(ticket);
        let durable = node.durable;
        let (due, rest) = std::mem::take(&mut node.waiting)
            .into_iter()
            .partition::<Vec<_>, _>(|(number, _)| *number <= durable);
        node.waiting = rest;
        for (_, then) in due {
            self.then(at, then);
        }
    }

    pub(super) fn then(&mut self, at: usize, then: Then) {
        match then {
            Then::LocalDone(op) => self.put_event(at, op, PutEvent::LocalDone),
            Then::Acknowledge { to, call } => self.reply(at, to, call, Reply::Merged),
            Then::Answer { asker, answer } => self.answer(at, asker, answer),
        }
    }
}

/// A record in a line: its versions and its clock.
pub(super) fn shown(record: &Record) -> String {
    let puts: Vec<String> = record.siblings().map(|s| format!("{:x}", s.put_id.0)).collect();
    format!("{puts:?} {:?}", record.clock())
}

/// What a naive replica would take for progress.
fn size(record: &Record) -> u64 {
    let vector: u64 = record.clock().vector().map(|(_, entry)| entry.counter).sum();
    let tombstones = record.siblings().filter(|s| s.content == Content::Tombstone).count();
    vector
        + record.clock().loose().map(|run| run.last - run.first + 1).sum::<u64>()
        + u64::from(tombstones > 0)
}
