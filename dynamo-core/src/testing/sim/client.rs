//! Simulated clients, each with the router that picks its coordinators: they read, modify and
//! write, sometimes write blindly, delete, and retry under the same put id.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::clock::context::CausalContext;
use crate::clock::dvv::Dvv;
use crate::clock::record::Content;
use crate::entropy::Entropy;
use crate::id::PutId;
use crate::quorum::Outcome;
use crate::replica::PutCommand;
use crate::testing::sim::history::{GetEntry, PutEnd, PutEntry};
use crate::testing::sim::network::{Answer, Ask, Body, Message};
use crate::testing::sim::store::Key;
use crate::testing::sim::world::{Event, World, index_of};
use crate::testing::values::{put, text};

/// How long a router waits for one coordinator.
const ATTEMPT: Duration = Duration::from_millis(700);

/// Coordinators tried for one request, those aside that are known not to have got it.
const ATTEMPTS: usize = 3;

/// What a client knows of one key.
#[derive(Debug, Clone, Default)]
struct Session {
    context: Option<CausalContext>,
    seen: BTreeSet<PutId>,
    /// Clock of the last read, to see whether reads go backwards.
    read: Dvv,
    own: Option<PutId>,
}

#[derive(Debug, Clone)]
#[expect(clippy::large_enum_variant, reason = "one of each client exists")]
enum Task {
    Get,
    Put(PutCommand),
}

#[derive(Debug)]
struct Current {
    request: u64,
    key: Key,
    task: Task,
    /// Coordinators that were not tried yet, next first.
    targets: Vec<usize>,
    sent: usize,
    /// The ring that its router knows.
    ring: usize,
    /// An attempt may have been applied.
    unknown: bool,
}

#[derive(Debug)]
pub(super) struct Client {
    left: usize,
    sessions: BTreeMap<Key, Session>,
    current: Option<Current>,
}

impl Client {
    pub(super) fn new(requests: usize) -> Self {
        Self { left: requests, sessions: BTreeMap::new(), current: None }
    }

    pub(super) fn is_done(&self) -> bool {
        self.left == 0 && self.current.is_none()
    }
}

impl World {
    pub(super) fn client_step(&mut self, client: usize) {
        if self.clients[client].left == 0 {
            return;
        }
        self.clients[client].left -= 1;
        let key = usize::try_from(self.rng.below(self.config.keys as u64)).unwrap_or(0);
        let task = self.next_task(client, key);
        let ring = usize::from(self.grown && self.rng.chance(1, 2));
        let targets = self.coordinators(key, ring);
        let (request, sent, unknown) = (0, 0, false);
        let current = Current { request, key, task, targets, sent, ring, unknown };
        self.clients[client].current = Some(current);
        self.attempt(client);
    }

    fn next_task(&mut self, client: usize, key: Key) -> Task {
        let session = self.clients[client].sessions.entry(key).or_default().clone();
        let choice = self.rng.below(20);
        if choice < 8 {
            return Task::Get;
        }
        let blind = choice < 10 || session.context.is_none();
        let id = PutId(u128::from(self.number()));
        let context = if blind { None } else { session.context };
        let seen = if blind { BTreeSet::new() } else { session.seen };
        let mut command = put(id.0, context);
        let delete = !blind && choice >= 18;
        let body = (!delete).then(|| format!("{} by {client} in {key}", id.0));
        command.content = body.as_deref().map_or(Content::Tombstone, text);
        self.history.puts.insert(id, PutEntry { client, key, body, seen, minted: 0, end: None });
        Task::Put(command)
    }

    /// The primaries in random order, then the fallbacks; now and then a fallback first, as a
    /// router does that cannot reach the primaries.
    fn coordinators(&mut self, key: Key, ring: usize) -> Vec<usize> {
        let sets = &self.replicas[ring][key];
        let mut primaries: Vec<usize> = sets.owners.iter().map(|id| index_of(*id)).collect();
        let mut fallbacks: Vec<usize> = sets.fallbacks.iter().map(|id| index_of(*id)).collect();
        for index in (1..primaries.len()).rev() {
            let other = usize::try_from(self.rng.below(index as u64 + 1)).unwrap_or(0);
            primaries.swap(index, other);
        }
        if self.rng.chance(1, 12) {
            fallbacks.extend(primaries);
            return fallbacks;
        }
        primaries.append(&mut fallbacks);
        primaries
    }

    /// Sends the request to the next coordinator, or gives up.
    fn attempt(&mut self, client: usize) {
        let request = self.number();
        let Some(current) = &mut self.clients[client].current else { return };
        if current.targets.is_empty() || current.sent >= ATTEMPTS {
            let end = if current.unknown { PutEnd::Info } else { PutEnd::Fail };
            return self.finish(client, end);
        }
        let to = current.targets.remove(0);
        current.sent += 1;
        current.request = request;
        let key = current.key;
        let ask = match &current.task {
            Task::Get => Ask::Get { key },
            Task::Put(command) => Ask::Put { key, command: command.clone(), ring: current.ring },
        };
        let from = self.nodes.len() + client;
        self.note(|| format!("client {client} to node {to}: {ask:?}"));
        self.send(from, to, Body::Ask { request, ask });
        self.after(ATTEMPT, Event::ClientTimeout { client, request });
    }

    pub(super) fn client_timeout(&mut self, client: usize, request: u64) {
        let Some(current) = &mut self.clients[client].current else { return };
        if current.request == request {
            current.unknown = true;
            self.attempt(client);
        }
    }

    pub(super) fn client_receives(&mut self, client: usize, message: Message) {
        let Body::Answer { request, answer } = message.body else { return };
        let Some(current) = &mut self.clients[client].current else { return };
        if current.request != request {
            return;
        }
        match answer {
            Answer::Refused | Answer::Failed { not_owner: true, .. } => {
                current.sent -= 1;
                self.attempt(client);
            }
            Answer::Failed { outcome: Outcome::Unknown, .. } => {
                current.unknown = true;
                if self.rng.chance(1, 2) {
                    self.attempt(client);
                } else {
                    self.finish(client, PutEnd::Info);
                }
            }
            Answer::Failed { outcome: Outcome::NotApplied, .. } => {
                let end = if current.unknown { PutEnd::Info } else { PutEnd::Fail };
                self.finish(client, end);
            }
            Answer::Got { versions, context, primaries } => {
                let key = current.key;
                self.note_read(client, key, versions, context, primaries);
                self.finish(client, PutEnd::Ok);
            }
            Answer::Stored { context } => {
                let key = current.key;
                if let Task::Put(command) = &current.task {
                    let id = command.put_id;
                    let session = self.clients[client].sessions.entry(key).or_default();
                    if command_is_blind(&self.history.puts, id) {
                        session.seen.clear();
                    }
                    session.seen.insert(id);
                    session.context = Some(context);
                    session.own = Some(id);
                }
                self.finish(client, PutEnd::Ok);
            }
        }
    }

    fn note_read(
        &mut self,
        client: usize,
        key: Key,
        versions: Vec<(PutId, Option<String>)>,
        context: Option<CausalContext>,
        primaries: u8,
    ) {
        let session = self.clients[client].sessions.entry(key).or_default();
        let shown: BTreeSet<PutId> = versions.iter().map(|(id, _)| *id).collect();
        let clock = context.as_ref().map(|context| context.clock.clone()).unwrap_or_default();
        self.history.backwards.1 += 1;
        if !clock.descends(&session.read) {
            self.history.backwards.0 += 1;
        }
        if let Some(own) = session.own {
            self.history.own_write_missed.1 += 1;
            if !shown.contains(&own) && !self.history.is_superseded(own) {
                self.history.own_write_missed.0 += 1;
            }
        }
        session.read = clock;
        session.seen = shown;
        session.context = context;
        let complete = primaries >= self.config.n;
        self.note(|| format!("client {client}: read of key {key}: {versions:?}"));
        self.history.gets.push(GetEntry { client, key, versions, complete });
    }

    fn finish(&mut self, client: usize, end: PutEnd) {
        let Some(current) = self.clients[client].current.take() else { return };
        if let Task::Put(command) = current.task {
            match end {
                PutEnd::Ok => {}
                PutEnd::Fail => self.covered("put not applied"),
                PutEnd::Info => self.covered("put unknown"),
            }
            self.note(|| format!("client {client}: put {:x} ends {end:?}", command.put_id.0));
            if let Some(entry) = self.history.puts.get_mut(&command.put_id) {
                entry.end = Some(end);
            }
        }
        let pause = Duration::from_millis(1 + self.rng.below(150));
        self.after(pause, Event::ClientStep { client });
    }
}

/// Whether a put was made without context: its answer's context then covers the put alone.
fn command_is_blind(puts: &BTreeMap<PutId, PutEntry>, id: PutId) -> bool {
    puts.get(&id).is_some_and(|entry| entry.seen.is_empty())
}
