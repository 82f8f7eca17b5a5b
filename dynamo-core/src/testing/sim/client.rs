//! Simulated clients, each with the router that picks its coordinators: they read, modify and
//! write, sometimes write blindly, delete, and retry under the same put id.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::clock::context::CausalContext;
use crate::clock::dvv::Dvv;
use crate::clock::hlc::Hlc;
use crate::clock::record::Content;
use crate::cluster_view::ClusterView;
use crate::entropy::Entropy;
use crate::id::PutId;
use crate::params::Reconciliation;
use crate::quorum::Outcome;
use crate::replica::PutCommand;
use crate::ring::RingVersion;
use crate::testing::sim::config::Workload;
use crate::testing::sim::founding::object;
use crate::testing::sim::history::{GetEntry, PutEnd, PutEntry};
use crate::testing::sim::network::{Answer, Ask, Attempt, Body, Message};
use crate::testing::sim::store::Key;
use crate::testing::sim::world::{Event, World, index_of};
use crate::testing::values::{put, text};
use crate::time::{Mono, WallMs};

/// How long a router waits for one coordinator.
const ATTEMPT: Duration = Duration::from_millis(700);

/// Coordinators tried for one request, those aside that are known not to have got it.
const ATTEMPTS: usize = 3;

/// What a client knows of one key.
#[derive(Debug, Clone, Default)]
struct Session {
    context: Option<CausalContext>,
    seen: BTreeSet<PutId>,
    /// Clocks of the last read and of the last one that all primaries answered, to see whether
    /// reads go backwards.
    read: Dvv,
    complete: Dvv,
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
    /// Whether the router has looked for a newer ring since.
    refreshed: bool,
    /// An attempt may have been applied.
    unknown: bool,
}

#[derive(Debug)]
pub(super) struct Client {
    /// Whose agent the router beside it follows.
    host: usize,
    /// The ring that the router knows.
    ring: Option<Arc<ClusterView>>,
    left: usize,
    sessions: BTreeMap<Key, Session>,
    current: Option<Current>,
}

impl Client {
    pub(super) fn new(host: usize, requests: usize) -> Self {
        Self { host, ring: None, left: requests, sessions: BTreeMap::new(), current: None }
    }

    fn version(&self) -> RingVersion {
        self.ring.as_ref().map(|ring| ring.version()).unwrap_or_default()
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
        if self.clients[client].ring.is_none() || self.rng.chance(1, 3) {
            self.refresh_router(client);
        }
        let key = usize::try_from(self.rng.below(self.config.keys as u64)).unwrap_or(0);
        let task = self.next_task(client, key);
        let targets = self.coordinators(client, key);
        let (request, sent, unknown, refreshed) = (0, 0, false, false);
        let current = Current { request, key, task, targets, sent, refreshed, unknown };
        self.clients[client].current = Some(current);
        self.attempt(client);
    }

    /// The router takes over the ring of its host's agent.
    fn refresh_router(&mut self, client: usize) {
        let host = self.clients[client].host;
        let ring = self.nodes[host].agent.view.clone();
        self.clients[client].ring = ring.or(self.clients[client].ring.take());
    }

    fn next_task(&mut self, client: usize, key: Key) -> Task {
        let session = self.clients[client].sessions.entry(key).or_default().clone();
        let choice = match self.config.workload {
            Workload::Mixed => self.rng.below(20),
            Workload::Deleting => [0, 0, 8, 10, 10, 18, 18][self.rng.below(7) as usize % 7],
            Workload::Interleaved => 10,
            Workload::Blind => 8,
        };
        if choice < 8 {
            return Task::Get;
        }
        let blind = choice < 10 || session.context.is_none();
        let id = PutId(u128::from(self.number()));
        let context = if blind { None } else { session.context };
        let seen = if blind { BTreeSet::new() } else { session.seen };
        let mut command = put(id.0, context);
        command.reconciliation = self.config.reconciliation;
        let delete = !blind && choice >= 18;
        let body = (!delete).then(|| format!("{} by {client} in {key}", id.0));
        command.content = body.as_deref().map_or(Content::Tombstone, text);
        let expires = self.config.expiry && self.rng.chance(1, 4);
        if let (true, Content::Value(value)) = (expires, &mut command.content) {
            let host = self.clients[client].host;
            let life = 500 + self.rng.below(4_000);
            value.expires_at = Some(WallMs(self.wall(host).0 + life));
            self.covered("value expired");
        }
        let entry = PutEntry {
            client,
            key,
            body,
            seen,
            expires,
            minted: 0,
            forgotten: false,
            stamps: (Hlc(u64::MAX), Hlc::default()),
            volatile: false,
            end: None,
            ended: Mono(u64::MAX),
        };
        self.history.puts.insert(id, entry);
        Task::Put(command)
    }

    /// The primaries in random order, then the fallbacks; now and then a fallback first, as a
    /// router does that cannot reach the primaries.
    fn coordinators(&mut self, client: usize, key: Key) -> Vec<usize> {
        let Some(ring) = &self.clients[client].ring else { return Vec::new() };
        let sets = ring.replica_sets(object(key).position(), self.config.n);
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
        let ring = self.clients[client].version();
        let wall = self.wall(self.clients[client].host);
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
            Task::Put(command) => {
                let attempt = Attempt { sent: wall, repeated: current.sent > 1 };
                Ask::Put { key, command: command.clone(), ring, attempt }
            }
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
            Answer::Refused | Answer::NotReady => {
                current.sent -= 1;
                self.attempt(client);
            }
            Answer::Failed { not_owner: true, .. } => {
                current.sent -= 1;
                self.not_owner(client);
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
            Answer::Got { versions, context, primaries, began } => {
                let (key, complete) = (current.key, primaries >= self.config.n);
                let get = GetEntry { client, key, began, versions, complete };
                self.note_read(get, context);
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

    /// The coordinator knows another ring: there may be a newer one.
    fn not_owner(&mut self, client: usize) {
        let before = self.clients[client].version();
        self.refresh_router(client);
        let changed = self.clients[client].version() != before;
        let Some(current) = &mut self.clients[client].current else { return };
        let again = changed && !current.refreshed;
        current.refreshed = true;
        let key = current.key;
        if again {
            self.covered("router refreshed its ring");
            let targets = self.coordinators(client, key);
            if let Some(current) = &mut self.clients[client].current {
                current.targets = targets;
            }
        }
        self.attempt(client);
    }

    fn note_read(&mut self, get: GetEntry, context: Option<CausalContext>) {
        // What was removed takes its clock along.
        let lossless = !self.config.loses_data() && self.config.reap.is_none();
        let session = self.clients[get.client].sessions.entry(get.key).or_default();
        let shown: BTreeSet<PutId> = get.versions.iter().map(|(id, _)| *id).collect();
        let clock = context.as_ref().map(|context| context.clock.clone()).unwrap_or_default();
        self.history.backwards.1 += 1;
        if !clock.descends(&session.read) {
            self.history.backwards.0 += 1;
        }
        let regressed = get.complete && lossless && !clock.descends(&session.complete);
        if let Some(own) = session.own {
            self.history.own_write_missed.1 += 1;
            if !shown.contains(&own) && !self.history.is_superseded(own) {
                self.history.own_write_missed.0 += 1;
            }
        }
        if get.complete {
            session.complete = clock.clone();
        }
        session.read = clock;
        session.seen = shown;
        session.context = context;
        if regressed {
            let (client, key) = (get.client, get.key);
            self.violate(format!("I-7: reads of key {key} by client {client} went backwards"));
        }
        if self.config.strict && self.config.r + self.config.w > self.config.n {
            let lww = self.config.reconciliation == Reconciliation::Lww;
            let missed = self.history.missed(&get, lww).next().is_some();
            self.history.strict_missed.1 += 1;
            self.history.strict_missed.0 += u64::from(missed);
        }
        self.note(|| format!("client {}: read of key {}: {:?}", get.client, get.key, get.versions));
        self.history.gets.push(get);
    }

    fn finish(&mut self, client: usize, end: PutEnd) {
        let now = self.now;
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
                entry.ended = now;
            }
        }
        let pause = Duration::from_millis(1 + self.rng.below(self.config.pause_ms));
        self.after(pause, Event::ClientStep { client });
    }
}

/// Whether a put was made without context: its answer's context then covers the put alone.
fn command_is_blind(puts: &BTreeMap<PutId, PutEntry>, id: PutId) -> bool {
    puts.get(&id).is_some_and(|entry| entry.seen.is_empty())
}
