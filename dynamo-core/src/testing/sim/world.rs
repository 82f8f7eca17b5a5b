//! The event loop: one queue, one clock, one source of randomness.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::entropy::{Entropy, SplitMix};
use crate::id::{NodeId, PartitionId, StoreId};
use crate::merkle::exchange::ExchangeEvent;
use crate::ring::ReplicaSets;
use crate::testing::sim::SimReport;
use crate::testing::sim::agent::Agent;
use crate::testing::sim::audit::Audit;
use crate::testing::sim::client::Client;
use crate::testing::sim::config::SimConfig;
pub(super) use crate::testing::sim::event::Event;
use crate::testing::sim::founding::{Founding, first_store};
use crate::testing::sim::history::History;
use crate::testing::sim::network::{Body, Endpoint, Message, Network};
use crate::testing::sim::node::{Life, Node};
use crate::testing::sim::store::Key;
use crate::testing::values::node as node_id;
use crate::time::{Mono, WallMs};

/// Virtual time after which a run with stuck clients is broken.
const ACTIVE_MAX: Duration = Duration::from_secs(600);

const TICK: Duration = Duration::from_millis(100);

/// The same after the last fault, when there is time.
const TICK_HEALED: Duration = Duration::from_millis(400);

/// Where the wall clocks of all nodes start, an hour before the slowest.
pub(super) const WALL_START_MS: u64 = 1_790_000_000_000;

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
    /// What the cluster was founded with, and who held what then.
    pub(super) truth: Founding,
    /// Membership changes that were committed.
    pub(super) commits: usize,
    /// Nodes that were removed by force.
    pub(super) given_up: BTreeSet<usize>,
    pub(super) audit: Audit,
    pub(super) history: History,
    pub(super) coverage: BTreeMap<&'static str, u64>,
    pub(super) violation: Option<String>,
    log: Vec<String>,
    /// No more faults and no more requests.
    pub(super) healed: bool,
    /// When all agents were first seen to agree after that.
    pub(super) agreed_at: Option<Mono>,
    /// Records that exchanges have moved from one node to another.
    pub(super) moved: u64,
    /// Keys whose records were removed because they were dead.
    pub(super) reaped: BTreeSet<Key>,
    /// Stores that were found equal to a holder of a partition.
    pub(super) agreed: BTreeSet<(StoreId, PartitionId)>,
}

impl World {
    pub(super) fn new(config: SimConfig) -> Self {
        let mut rng = SplitMix::new(config.seed);
        let truth = Founding::new(&config);
        let hour = 3_600_000;
        let skew = |rng: &mut SplitMix| if config.skew { rng.below(2 * hour) } else { hour };
        let count = config.nodes + config.candidates;
        let nodes = (0..count).map(|index| {
            let agent = Agent::new(truth.membership(index, &config));
            Node::new(id_of(index), first_store(index), agent, skew(&mut rng))
        });
        let nodes = nodes.collect();
        let client = |index: usize| Client::new(index % config.nodes, config.requests);
        let history = History { reaps: config.reap.is_some(), ..History::default() };
        Self {
            clients: (0..config.clients).map(client).collect(),
            audit: Audit::new(config.reconciliation),
            config,
            now: Mono(0),
            rng,
            queue: BTreeMap::new(),
            counter: 0,
            trace: 0,
            events: 0,
            network: Network::default(),
            nodes,
            truth,
            commits: 0,
            given_up: BTreeSet::new(),
            history,
            coverage: BTreeMap::new(),
            violation: None,
            log: Vec::new(),
            healed: false,
            agreed_at: None,
            moved: 0,
            reaped: BTreeSet::new(),
            agreed: BTreeSet::new(),
        }
    }

    pub(super) fn run(mut self) -> SimReport {
        self.start_all();
        let end = self.now.plus(ACTIVE_MAX);
        while self.violation.is_none() && !self.clients.iter().all(Client::is_done) {
            if self.now > end || !self.step() {
                self.violate("clients are stuck".to_owned());
            }
        }
        self.conclude();
        SimReport {
            violation: self.violation,
            coverage: self.coverage,
            trace: self.trace,
            events: self.events,
            history: self.history,
            log: self.log,
        }
    }

    fn start_all(&mut self) {
        for node in 0..self.nodes.len() {
            if self.config.late == Some(node) {
                self.covered("late founder");
                self.nodes[node].stop();
                self.start_later(node);
            } else {
                self.adopt(node);
                self.start_ticking(node);
                self.start_gossip(node);
            }
        }
        for client in 0..self.clients.len() {
            self.after(Duration::ZERO, Event::ClientStep { client });
        }
        self.plan_strike();
        self.plan_changes();
    }

    /// Takes the next event. False where there is none.
    pub(super) fn step(&mut self) -> bool {
        let Some(((at, _), event)) = self.queue.pop_first() else { return false };
        self.now = at;
        self.events += 1;
        self.trace = event.mixed_into(self.trace, at);
        self.dispatch(event);
        true
    }

    fn dispatch(&mut self, event: Event) {
        let of_process = event.process();
        let delivered = match &event {
            Event::Deliver { to, .. } if *to < self.nodes.len() => Some(*to),
            _ => None,
        };
        if let Some(node) = of_process.map(|(node, _)| node).or(delivered)
            && self.nodes[node].life == Life::Frozen
        {
            self.nodes[node].inbox.push(event);
            return;
        }
        // What is for an earlier life of a process comes to nothing.
        if of_process.is_some_and(|(node, generation)| !self.lives(node, generation)) {
            return;
        }
        match event {
            Event::Deliver { to, message } if to >= self.nodes.len() => {
                self.client_receives(to - self.nodes.len(), message);
            }
            Event::Deliver { to, message } => self.node_receives(to, message),
            Event::Flushed { node, ticket, .. } => self.flushed(node, ticket),
            Event::CallTimeout { node, call, .. } => self.call_timed_out(node, call),
            Event::GetTimer { node, op, at, .. } => self.get_timer(node, op, at),
            Event::PutTimer { node, op, at, .. } => self.put_timer(node, op, at),
            Event::CatchUpTimer { node, op, .. } => self.caught_up(node, op),
            Event::ExchangeTimer { node, exchange, .. } => {
                self.exchange_event(node, exchange, ExchangeEvent::Timer);
            }
            Event::Tick { node, generation } => {
                self.tick(node);
                let pause = if self.healed { TICK_HEALED } else { TICK };
                self.after(pause, Event::Tick { node, generation });
            }
            Event::GossipTick { node, .. } => self.gossip_tick(node),
            Event::GossipTimeout { node, round, number, .. } => {
                self.gossip_timed_out(node, round, number);
            }
            Event::ClientStep { client } => self.client_step(client),
            Event::ClientTimeout { client, request } => self.client_timeout(client, request),
            Event::Fault(fault) => self.fault(fault),
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
        // Clients and agents speak over connections, which double nothing; they double by
        // retrying.
        let once =
            matches!(body, Body::Ask { .. } | Body::Gossip { .. } | Body::GossipAnswer { .. });
        let most = if once { 1 } else { usize::MAX };
        let delays = self.network.delays(from, to, &self.config, &mut self.rng);
        for delay in delays.into_iter().take(most) {
            let message = Message { from, body: body.clone() };
            self.after(delay, Event::Deliver { to, message });
        }
    }

    /// Who takes part for a key, as `at` knows it, which has a ring.
    pub(super) fn sets(&self, at: usize, key: Key) -> &ReplicaSets {
        &self.nodes[at].agent.sets[key]
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
        self.note(|| format!("VIOLATION {what}"));
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
