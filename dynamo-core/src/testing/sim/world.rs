//! The event loop: one queue, one clock, one source of randomness.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_64;

use crate::entropy::{Entropy, SplitMix};
use crate::id::NodeId;
use crate::key::ObjectKey;
use crate::ring::{Holdings, PartitionSet, Partitions, Placement, ReplicaSets, Ring, RingVersion};
use crate::testing::sim::audit::Audit;
use crate::testing::sim::client::Client;
use crate::testing::sim::config::SimConfig;
use crate::testing::sim::faults::Fault;
use crate::testing::sim::history::History;
use crate::testing::sim::network::{Body, Endpoint, Message, Network};
use crate::testing::sim::node::{Life, Node};
use crate::testing::sim::store::{Key, Ticket};
use crate::testing::sim::{SimReport, check};
use crate::testing::values::node as node_id;
use crate::time::{Mono, WallMs};

/// Partitions of the simulated ring.
const PARTITIONS: Partitions = match Partitions::new(16) {
    Ok(partitions) => partitions,
    Err(_) => panic!("16 is a power of two"),
};

/// Virtual time after which a run with stuck clients is broken.
const ACTIVE_MAX: Duration = Duration::from_secs(600);

/// Virtual time within which everything must have settled after the last fault: the longest that
/// a recovered peer may be avoided, and a hint's longest pause, with room.
const SETTLE_MAX: Duration = Duration::from_secs(240);

const TICK: Duration = Duration::from_millis(100);

/// Where the wall clocks of all nodes start, an hour before the slowest.
const WALL_START_MS: u64 = 1_790_000_000_000;

#[derive(Debug, Clone)]
#[expect(clippy::large_enum_variant, reason = "the large variant is the common one")]
pub(super) enum Event {
    Deliver { to: Endpoint, message: Message },
    Flushed { node: usize, generation: u64, ticket: Ticket },
    CallTimeout { node: usize, generation: u64, call: u64 },
    GetTimer { node: usize, generation: u64, op: u64, at: Mono },
    PutTimer { node: usize, generation: u64, op: u64, at: Mono },
    Tick { node: usize, generation: u64 },
    ClientStep { client: usize },
    ClientTimeout { client: usize, request: u64 },
    Fault(Fault),
}

pub(super) struct World {
    pub(super) config: SimConfig,
    pub(super) now: Mono,
    pub(super) rng: SplitMix,
    queue: BTreeMap<(Mono, u64), Event>,
    counter: u64,
    trace: u64,
    events: u64,
    pub(super) network: Network,
    pub(super) nodes: Vec<Node>,
    pub(super) clients: Vec<Client>,
    /// Per ring, before and after the change, and key: who takes part.
    pub(super) replicas: [Vec<ReplicaSets>; 2],
    /// Whether the ring has changed; each node learns of it in its own time.
    pub(super) grown: bool,
    pub(super) audit: Audit,
    pub(super) history: History,
    pub(super) coverage: BTreeMap<&'static str, u64>,
    pub(super) violation: Option<String>,
    log: Vec<String>,
    /// No more faults and no more requests.
    pub(super) healed: bool,
}

impl World {
    pub(super) fn new(config: SimConfig) -> Self {
        let mut rng = SplitMix::new(config.seed);
        let founders = config.nodes - usize::from(config.joins);
        let first = ring(founders);
        let held = founders_hold(&first, founders, config.n);
        let replicas = [first, ring(config.nodes)].map(|ring| {
            let placement = Placement::new(Arc::new(ring), held.clone());
            let sets =
                |key| placement.replica_sets(PARTITIONS.of(object(key).position()), config.n);
            (0..config.keys).map(sets).collect()
        });
        let hour = 3_600_000;
        let skew = |rng: &mut SplitMix| if config.skew { rng.below(2 * hour) } else { hour };
        let nodes = (0..config.nodes).map(|node| Node::new(id_of(node), skew(&mut rng))).collect();
        let clients = (0..config.clients).map(|_| Client::new(config.requests)).collect();
        Self {
            config,
            now: Mono(0),
            rng,
            queue: BTreeMap::new(),
            counter: 0,
            trace: 0,
            events: 0,
            network: Network::default(),
            nodes,
            clients,
            replicas,
            grown: false,
            audit: Audit::default(),
            history: History::default(),
            coverage: BTreeMap::new(),
            violation: None,
            log: Vec::new(),
            healed: false,
        }
    }

    pub(super) fn run(mut self) -> SimReport {
        for node in 0..self.nodes.len() {
            self.start_ticking(node);
        }
        for client in 0..self.clients.len() {
            self.after(Duration::ZERO, Event::ClientStep { client });
        }
        self.plan_strike();
        if self.config.joins {
            let pause = Duration::from_millis(500 + self.rng.below(2_500));
            self.after(pause, Event::Fault(Fault::Grow));
        }
        let end = self.now.plus(ACTIVE_MAX);
        while self.violation.is_none() && !self.clients.iter().all(Client::is_done) {
            if self.now > end || !self.step() {
                self.violate("clients are stuck".to_owned());
            }
        }
        if self.violation.is_none() {
            self.settle();
        }
        if self.violation.is_none() {
            self.exchange();
            let lossless = !self.config.loses_data();
            self.violation = check::check(&self.history, lossless).err();
        }
        SimReport {
            violation: self.violation,
            coverage: self.coverage,
            trace: self.trace,
            events: self.events,
            history: self.history,
            log: self.log,
        }
    }

    /// Heals everything and waits until hints and requests have come to their ends.
    fn settle(&mut self) {
        self.healed = true;
        self.network.heal();
        for node in 0..self.nodes.len() {
            self.revive(node);
            self.nodes[node].ring = usize::from(self.config.joins);
        }
        let end = self.now.plus(SETTLE_MAX);
        while self.violation.is_none() && !self.is_settled() {
            if self.now > end || !self.step() {
                let owed: usize = self.nodes.iter().map(|node| node.store.hints().count()).sum();
                self.violate(format!("I-12: {owed} hints or requests left after all has healed"));
            }
        }
    }

    fn is_settled(&self) -> bool {
        self.nodes.iter().all(|node| {
            node.store.hints().next().is_none()
                && node.store.unflushed() == 0
                && node.gets.is_empty()
                && node.puts.is_empty()
        })
    }

    /// Every primary of a key sends its record to every other: what anti-entropy does in time.
    fn exchange(&mut self) {
        for key in 0..self.config.keys {
            let targets = self.replicas[usize::from(self.config.joins)][key].write_targets();
            let homes: Vec<usize> = targets.into_iter().map(index_of).collect();
            for _ in 0..2 {
                for from in &homes {
                    let record = self.load(*from, key).unwrap_or_default();
                    for to in homes.iter().filter(|to| *to != from) {
                        self.merge(*to, key, &record);
                    }
                }
            }
            let last = homes
                .iter()
                .map(|home| super::serve::versions_of(&self.nodes[*home].store.peek(key)))
                .collect();
            self.history.last.insert(key, last);
        }
    }

    /// Takes the next event. False where there is none.
    fn step(&mut self) -> bool {
        let Some(((at, _), event)) = self.queue.pop_first() else { return false };
        self.now = at;
        self.events += 1;
        self.mix(&event);
        self.dispatch(event);
        true
    }

    fn dispatch(&mut self, event: Event) {
        if let Some(node) = self.node_of(&event) {
            let state = &mut self.nodes[node];
            if state.life == Life::Frozen {
                state.inbox.push(event);
                return;
            }
        }
        match event {
            Event::Deliver { to, message } if to >= self.nodes.len() => {
                self.client_receives(to - self.nodes.len(), message);
            }
            Event::Deliver { to, message } => self.node_receives(to, message),
            Event::Flushed { node, generation, ticket } if self.lives(node, generation) => {
                self.flushed(node, ticket);
            }
            Event::CallTimeout { node, generation, call } if self.lives(node, generation) => {
                self.call_timed_out(node, call);
            }
            Event::GetTimer { node, generation, op, at } if self.lives(node, generation) => {
                self.get_timer(node, op, at);
            }
            Event::PutTimer { node, generation, op, at } if self.lives(node, generation) => {
                self.put_timer(node, op, at);
            }
            Event::Tick { node, generation } if self.lives(node, generation) => {
                self.tick(node);
                self.after(TICK, Event::Tick { node, generation });
            }
            Event::ClientStep { client } => self.client_step(client),
            Event::ClientTimeout { client, request } => self.client_timeout(client, request),
            Event::Fault(fault) => self.fault(fault),
            // For an earlier life of the process.
            _ => {}
        }
    }

    fn node_of(&self, event: &Event) -> Option<usize> {
        match event {
            Event::Deliver { to, .. } => (*to < self.nodes.len()).then_some(*to),
            Event::Flushed { node, .. }
            | Event::CallTimeout { node, .. }
            | Event::GetTimer { node, .. }
            | Event::PutTimer { node, .. }
            | Event::Tick { node, .. } => Some(*node),
            _ => None,
        }
    }

    fn lives(&self, node: usize, generation: u64) -> bool {
        let state = &self.nodes[node];
        state.life == Life::Running && state.generation == generation
    }

    pub(super) fn start_ticking(&mut self, node: usize) {
        let generation = self.nodes[node].generation;
        let first = Duration::from_micros(self.rng.below(100_000));
        self.after(first, Event::Tick { node, generation });
    }

    pub(super) fn after(&mut self, pause: Duration, event: Event) {
        self.at(self.now.plus(pause), event);
    }

    pub(super) fn at(&mut self, at: Mono, event: Event) {
        let number = self.number();
        self.queue.insert((at.max(self.now), number), event);
    }

    /// A number that was not given out before in this run.
    pub(super) fn number(&mut self) -> u64 {
        self.counter += 1;
        self.counter
    }

    pub(super) fn send(&mut self, from: Endpoint, to: Endpoint, body: Body) {
        // Clients speak over connections, which double nothing; they double by retrying.
        let most = if matches!(body, Body::Ask { .. }) { 1 } else { usize::MAX };
        let delays = self.network.delays(from, to, &self.config, &mut self.rng);
        for delay in delays.into_iter().take(most) {
            let message = Message { from, body: body.clone() };
            self.after(delay, Event::Deliver { to, message });
        }
    }

    /// Who takes part for a key, as `at` knows it.
    pub(super) fn sets(&self, at: usize, key: Key) -> &ReplicaSets {
        &self.replicas[self.nodes[at].ring][key]
    }

    pub(super) fn wall(&self, node: usize) -> WallMs {
        WallMs(WALL_START_MS + self.now.0 / 1_000 + self.nodes[node].skew_ms)
    }

    pub(super) fn covered(&mut self, what: &'static str) {
        *self.coverage.entry(what).or_insert(0) += 1;
    }

    /// Notes the first violation.
    pub(super) fn violate(&mut self, what: String) {
        let at = Duration::from_micros(self.now.0);
        self.violation.get_or_insert(format!("{what} (at {at:?})"));
    }

    pub(super) fn demand(&mut self, outcome: Result<(), String>) {
        if let Err(what) = outcome {
            self.violate(what);
        }
    }

    /// Writes down what happens, if this run is to.
    pub(super) fn note(&mut self, what: impl FnOnce() -> String) {
        if self.config.log {
            self.log.push(format!("{:>12} {}", self.now.0, what()));
        }
    }

    fn mix(&mut self, event: &Event) {
        let (kind, a, b): (u64, u64, u64) = match event {
            Event::Deliver { to, message } => {
                let (kind, number) = match &message.body {
                    Body::Request { call, .. } => (1, *call),
                    Body::Reply { call, .. } => (2, *call),
                    Body::Refused { call } => (3, *call),
                    Body::Ask { request, .. } => (4, *request),
                    Body::Answer { request, .. } => (5, *request),
                };
                (kind, (*to * 1_000 + message.from) as u64, number)
            }
            Event::Flushed { node, ticket, .. } => (6, *node as u64, *ticket),
            Event::CallTimeout { node, call, .. } => (7, *node as u64, *call),
            Event::GetTimer { node, op, .. } => (8, *node as u64, *op),
            Event::PutTimer { node, op, .. } => (9, *node as u64, *op),
            Event::Tick { node, generation } => (10, *node as u64, *generation),
            Event::ClientStep { client } => (11, *client as u64, 0),
            Event::ClientTimeout { client, request } => (12, *client as u64, *request),
            Event::Fault(fault) => (13, fault.number(), 0),
        };
        let mut form = [0u8; 40];
        for (to, from) in form.chunks_exact_mut(8).zip([self.trace, self.now.0, kind, a, b]) {
            to.copy_from_slice(&from.to_be_bytes());
        }
        self.trace = xxh3_64(&form);
    }
}

/// A ring of the first `members` nodes.
fn ring(members: usize) -> Ring {
    let owners: Vec<Option<NodeId>> =
        (0..PARTITIONS.get()).map(|p| Some(id_of(p as usize % members))).collect();
    Ring::new(PARTITIONS, &owners, RingVersion::default()).expect("one owner for each partition")
}

/// What the founders hold: the partitions of which they are a replica from the start, and no more,
/// as they miss the later writes to all others.
fn founders_hold(ring: &Ring, founders: usize, n: u8) -> Holdings {
    let held = |node: NodeId| {
        let mut held = PartitionSet::empty(PARTITIONS);
        for partition in PARTITIONS.iter() {
            if ring.preference_list(partition).primaries(n).contains(&node) {
                held.insert(partition);
            }
        }
        held
    };
    (0..founders).map(|node| (id_of(node), held(id_of(node)))).collect()
}

/// The id of the `index`-th node.
pub(super) fn id_of(index: usize) -> NodeId {
    node_id(index as u128)
}

/// The index of a node's id.
pub(super) fn index_of(id: NodeId) -> usize {
    let offset = id.0.wrapping_sub(node_id(0).0);
    usize::try_from(offset).expect("ids of simulated nodes are small numbers from the first on")
}

fn object(key: Key) -> ObjectKey {
    let bucket = "sim".parse().expect("a legal name");
    ObjectKey::new(bucket, Bytes::from(format!("key {key}"))).expect("a legal key")
}
