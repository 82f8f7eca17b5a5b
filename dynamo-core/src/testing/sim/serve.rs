//! The shell of a simulated storage node: it performs the effects of the core's operations and
//! serves peers, as thinly as the real one.

use std::time::Duration;

use crate::clock::digest::RecordDigest;
use crate::clock::record::{Content, Record, Sibling};
use crate::entropy::Entropy;
use crate::id::{NodeId, PutId};
use crate::limits::TIMEOUT_MS_DEFAULT;
use crate::membership::member::MemberStatus;
use crate::params::{Durability, Reconciliation};
use crate::quorum::catch_up::is_late;
use crate::quorum::{PutEvent, ReplicaReply};
use crate::replica::{merge_in, reconciled};
use crate::testing::sim::config::Workload;
use crate::testing::sim::founding::object;
use crate::testing::sim::history::PutEnd;
use crate::testing::sim::mutant::Mutant;
use crate::testing::sim::network::{Answer, Ask, Body, Endpoint, Merge, Message, Reply, Request};
use crate::testing::sim::node::{Asker, Life, Node, Purpose, Then};
use crate::testing::sim::store::{Hint, Key, Ticket};
use crate::testing::sim::world::{Event, World};
use crate::testing::values::text_of;

/// Longest time that a buffered write stays in memory.
const BUFFER_AGE_MAX: Duration = Duration::from_millis(50);

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
                Body::Gossip { round, .. } => {
                    self.send(at, from, Body::GossipAnswer { round, message: None });
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
            Body::Gossip { round, message } => self.gossip_asked(at, from, round, *message),
            Body::GossipAnswer { round, message } => self.gossip_answered(at, round, message),
        }
    }

    pub(super) fn serve_peer(&mut self, at: usize, from: Endpoint, call: u64, request: Request) {
        let merge = match request {
            Request::Ping => return self.reply(at, from, call, Reply::Pong),
            Request::Read { key, unless } => {
                let reply = match self.read(at, key) {
                    Err(()) => Reply::Failed,
                    Ok(ReplicaReply::Record(record))
                        if unless == Some(RecordDigest::of(&record)) =>
                    {
                        Reply::Read(ReplicaReply::Same)
                    }
                    Ok(reply) => Reply::Read(reply),
                };
                return self.reply(at, from, call, reply);
            }
            Request::FindPut { key, put } => {
                let reply = self.find_put(at, key, put);
                return self.reply(at, from, call, reply);
            }
            Request::Work(work) => return self.serve_work(at, from, call, work),
            Request::Merge(merge) => merge,
        };
        if self.refuses(at, &merge) {
            return self.reply(at, from, call, Reply::Failed);
        }
        let Merge { key, record, hint_for, durability, puts, .. } = merge;
        self.remember(at, key, &record, &puts);
        let others = hint_for.filter(|target| *target != self.nodes[at].id);
        if others.is_some_and(|target| self.is_full_of_hints(at, target, key)) {
            self.covered("hint refused at the cap");
            return self.reply(at, from, call, Reply::Failed);
        }
        let ticket = match hint_for.filter(|target| *target != self.nodes[at].id) {
            None => self.merge(at, key, &record, durability),
            Some(target) => self.keep_copy(at, target, key, &record, durability),
        };
        let is_hint = matches!(
            self.nodes.get(from).and_then(|node| node.calls.get(&call)),
            Some(call) if matches!(call.purpose, Purpose::Hint { .. })
        );
        if is_hint && self.config.crashes && !self.healed && self.rng.chance(1, 30) {
            self.covered("target killed between apply and acknowledgement");
            return self.crash(at);
        }
        if self.config.is(Mutant::AckBeforeStore) || durability == Durability::Buffered {
            return self.reply(at, from, call, Reply::Merged);
        }
        self.when_durable(at, ticket, Then::Acknowledge { to: from, call });
    }

    /// Whether a merge is not this node's to take (I-27).
    fn refuses(&mut self, at: usize, merge: &Merge) -> bool {
        let node = &self.nodes[at];
        let Some(view) = &node.agent.view else { return false };
        if let Some(target) = merge.hint_for.filter(|target| *target != node.id) {
            let gone = view.node(target).is_none_or(|info| info.status == MemberStatus::Removed);
            if gone {
                self.covered("hint for a removed node refused");
            }
            return gone;
        }
        let refused = !self.takes(at, merge.key, merge.ring);
        if refused {
            self.covered("merge that belongs elsewhere refused");
        }
        refused
    }

    pub(super) fn serve_ask(&mut self, at: usize, asker: Asker, ask: Ask) {
        let deadline = self.now.plus(Duration::from_millis(TIMEOUT_MS_DEFAULT));
        let ring = self.nodes[at].agent.version();
        if self.nodes[at].agent.view.is_none() {
            return self.answer(at, asker, Answer::NotReady);
        }
        if self.nodes.iter().any(|other| other.agent.version() != ring) {
            self.covered("request while views differ");
        }
        match ask {
            Ask::Get { key } => self.start_get(at, asker, key, deadline),
            Ask::Put { key, command, ring: theirs, attempt } => {
                if theirs != ring {
                    self.covered("router and coordinator see different rings");
                }
                let stand_in = theirs == ring;
                if attempt.repeated || is_late(attempt.sent, self.wall(at)) {
                    return self.catch_up(at, asker, (key, command), stand_in, deadline);
                }
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
        record = reconciled(record, self.config.reconciliation);
        if !record.is_empty() {
            return Ok(ReplicaReply::Record(record));
        }
        let node = &self.nodes[at];
        Ok(ReplicaReply::Absent { holds: node.confirms(key) && !node.store.is_missing(key) })
    }

    /// Loads a record; one that is found unreadable ends the epoch at once (rule b).
    pub(super) fn load(&mut self, at: usize, key: Key) -> Result<Record, ()> {
        let loaded = self.nodes[at].store.load(key);
        if loaded.is_err() {
            self.covered("unreadable record");
            self.end_epoch(at, 0, "epoch ended: a record is unreadable");
        }
        loaded
    }

    pub(super) fn end_epoch(&mut self, at: usize, seen: u64, rule: &'static str) {
        if self.config.is(Mutant::NoNewEpoch) {
            return;
        }
        let node = &mut self.nodes[at];
        if node.actor.on_loss(seen) {
            // Persisted and flushed before anything is minted under it.
            node.epoch = node.actor.id().epoch;
            self.covered(rule);
        }
    }

    /// Merges a record into the main store; the ticket says when it is durable.
    pub(super) fn merge(
        &mut self,
        at: usize,
        key: Key,
        incoming: &Record,
        durability: Durability,
    ) -> Ticket {
        let local = self.load(at, key).unwrap_or_default();
        let (node, wall) = (&self.nodes[at], self.wall(at));
        let (actor, custody) = (node.actor.id(), node.custody(key));
        let puts = node.memory.of(object(key).position());
        let rule = self.config.reconciliation;
        let merged = merge_in(&local, incoming, actor, custody, rule, puts, wall);
        self.remember(at, key, incoming, &[]);
        if let Some(seen) = merged.lost_epoch {
            self.end_epoch(at, seen, "epoch ended: a merge shows a lost dot");
        }
        let takes_out = merged.record.sibling_count() < local.sibling_count();
        if local.contains(incoming) && merged.changed && !takes_out {
            self.violate(format!(
                "I-12: node {at} merged what it had of key {key}, and it changed"
            ));
        }
        let record = match self.config.mutant {
            Some(Mutant::BiggerClockWins) if size(incoming) > size(&local) => incoming.clone(),
            Some(Mutant::BiggerClockWins) => local.clone(),
            Some(Mutant::LastArrivalWins) => last_arrival(&local, incoming, merged.record),
            _ => merged.record,
        };
        if record == local && !local.is_empty() {
            return self.nodes[at].store.last_ticket();
        }
        if record.sibling_count() > local.sibling_count().max(incoming.sibling_count()) {
            self.covered("siblings merged");
        }
        let merged_fewer = record.sibling_count() < local.sync(incoming).sibling_count();
        if merged_fewer {
            self.covered(match rule {
                Reconciliation::Lww => "last write chosen",
                Reconciliation::Siblings => "twin taken out",
            });
        }
        self.demand(self.audit.record(key, &record));
        self.demand_bound(key, &record);
        self.note(|| format!("node {at} key {key}: merged to {}", shown(&record)));
        let ticket = self.nodes[at].store.put(key, record);
        self.flush_soon(at, ticket, durability);
        ticket
    }

    /// I-9: clients that always present their last answer leave one sibling each, and one more for
    /// each put of which they never got an answer, or that a retry made twice.
    pub(super) fn demand_bound(&mut self, key: Key, record: &Record) {
        if self.config.workload != Workload::Interleaved {
            return;
        }
        let of_key = self.history.puts.values().filter(|put| put.key == key);
        let loose = of_key.map(|put| {
            let unanswered = usize::from(put.end == Some(PutEnd::Info));
            unanswered + (put.minted as usize).saturating_sub(1)
        });
        let most = self.config.clients + loose.sum::<usize>();
        if record.sibling_count() > most {
            let count = record.sibling_count();
            self.violate(format!("I-9: key {key} has {count} siblings, at most {most} are due"));
        }
    }

    /// Whether every node whose "absent" counts has some version of the key on its disk. A read
    /// that begins now must not say that it is absent (I-22), whatever R is: who comes to hold the
    /// partition meanwhile has agreed with one of them.
    pub(super) fn is_everywhere(&self, key: Key) -> bool {
        let mut holders = self.nodes.iter().filter(|node| node.confirms(key)).peekable();
        let has = |node: &Node| {
            let record = node.store.on_disk(key);
            // What is dead may be removed at any time.
            let stays = |sibling: &Sibling| matches!(&sibling.content, Content::Value(value) if value.expires_at.is_none());
            let is_there = !record.is_empty() && !node.store.is_missing(key);
            is_there && (self.config.reap.is_none() || record.siblings().any(stays))
        };
        holders.peek().is_some() && holders.all(has)
    }

    /// I-13: a node at its cap keeps no further hint; the write goes on without.
    fn is_full_of_hints(&self, at: usize, target: NodeId, key: Key) -> bool {
        let store = &self.nodes[at].store;
        let full = self.config.hints_max.is_some_and(|most| store.hints().count() >= most);
        full && store.hint(target, key).is_none()
    }

    pub(super) fn keep_copy(
        &mut self,
        at: usize,
        target: NodeId,
        key: Key,
        record: &Record,
        durability: Durability,
    ) -> Ticket {
        self.covered("hint kept");
        self.note(|| format!("node {at} key {key}: hint for {target}: {}", shown(record)));
        let rule = self.config.reconciliation;
        let copy = match self.nodes[at].store.hint(target, key) {
            Some(Hint::Copy(known)) => known.sync(record),
            // A copy beside a reference would take its place; so it takes in what it stood for.
            Some(Hint::Reference) => self.nodes[at].store.peek(key).sync(record),
            None => record.clone(),
        };
        let copy = Hint::Copy(reconciled(copy, rule));
        let ticket = self.nodes[at].store.put_hint(target, key, copy);
        self.nodes[at].schedule.noted(target, self.now);
        self.flush_soon(at, ticket, durability);
        ticket
    }

    pub(super) fn keep_reference(&mut self, at: usize, target: NodeId, key: Key) -> Ticket {
        self.covered("hint kept by reference");
        self.note(|| format!("node {at} key {key}: hint by reference for {target}"));
        let rule = self.config.reconciliation;
        let node = &mut self.nodes[at];
        let ticket = match node.store.hint(target, key) {
            Some(Hint::Copy(known)) => {
                let copy = reconciled(known.sync(&node.store.peek(key)), rule);
                node.store.put_hint(target, key, Hint::Copy(copy))
            }
            _ => node.store.put_hint(target, key, Hint::Reference),
        };
        node.schedule.noted(target, self.now);
        self.flush_soon(at, ticket, Durability::Fsync);
        ticket
    }
}

/// Durability.
impl World {
    /// Durable writes are flushed one after the other, buffered ones with the next durable write
    /// or when they are old enough.
    pub(super) fn flush_soon(&mut self, at: usize, ticket: Ticket, durability: Durability) {
        if durability == Durability::Buffered && !self.healed {
            let age = u64::try_from(BUFFER_AGE_MAX.as_micros()).unwrap_or(u64::MAX);
            let when = self.now.plus(Duration::from_micros(self.rng.below(age)));
            let generation = self.nodes[at].generation;
            return self.at(when, Event::Flushed { node: at, generation, ticket });
        }
        let most = if self.healed { 300 } else { self.config.flush_us };
        let takes = Duration::from_micros(100 + self.rng.below(most));
        let node = &mut self.nodes[at];
        node.flush_at = node.flush_at.max(self.now.plus(takes));
        let (when, generation) = (node.flush_at, node.generation);
        self.at(when, Event::Flushed { node: at, generation, ticket });
    }

    /// Notes what has reached a disk that loses nothing.
    pub(super) fn note_durable(&mut self, at: usize, stored: &[(Key, Record)]) {
        if self.config.durability == Durability::Buffered && self.config.amnesiac != Some(at) {
            for (key, record) in stored {
                self.audit.stored(*key, record);
            }
        }
    }

    pub(super) fn when_durable(&mut self, at: usize, ticket: Ticket, then: Then) {
        if ticket <= self.nodes[at].durable {
            self.then(at, then);
        } else {
            self.nodes[at].waiting.push((ticket, then));
        }
    }

    pub(super) fn flushed(&mut self, at: usize, ticket: Ticket) {
        let stored = self.nodes[at].store.flush(ticket);
        self.note_durable(at, &stored);
        let node = &mut self.nodes[at];
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
            Then::Reply { to, call, answer } => self.reply(at, to, call, Reply::Work(answer)),
            Then::Worked { job, answer } => self.worked(at, job, answer),
        }
    }
}

/// A record in a line: its versions and its clock.
pub(super) fn shown(record: &Record) -> String {
    let puts: Vec<String> = record.siblings().map(|s| format!("{:x}", s.put_id.0)).collect();
    format!("{puts:?} {:?}", record.clock())
}

/// What a last-write-wins replica has that goes by arrival.
fn last_arrival(local: &Record, incoming: &Record, joined: Record) -> Record {
    if local.contains(incoming) || incoming.sibling_count() == 0 {
        return joined;
    }
    Record::new(joined.clock().clone(), incoming.siblings().cloned())
}

/// What a naive replica would take for progress.
fn size(record: &Record) -> u64 {
    let vector: u64 = record.clock().vector().map(|(_, entry)| entry.counter).sum();
    let tombstones = record.siblings().filter(|s| s.content == Content::Tombstone).count();
    vector
        + record.clock().loose().map(|run| run.last - run.first + 1).sum::<u64>()
        + u64::from(tombstones > 0)
}
