//! Agents without sockets, and a network without time.

use std::collections::BTreeMap;

use dynamo_core::entropy::{Entropy, SplitMix};
use dynamo_core::id::{ClusterId, Incarnation, NodeId, StoreId};
use dynamo_core::membership::gossip::{Gossip, GossipEffect, GossipEvent};
use dynamo_core::membership::history::{Change, Event, History, Joiner};
use dynamo_core::membership::member::Addresses;
use dynamo_core::membership::plan::{self, FoundingParams};
use dynamo_core::membership::registers::StagedChange;
use dynamo_core::membership::stage;
use dynamo_core::membership::state::{NodeState, Stamp, StoreState};
use dynamo_core::membership::view::{Delta, Membership};
use dynamo_core::params::BucketProps;
use dynamo_core::ring::{PartitionSet, Partitions, RingVersion};
use dynamo_core::time::{Mono, WallMs};
use dynamo_core::wire::gossip::GossipMessage;

pub(crate) const WALL: WallMs = WallMs(1_700_000_000_000);

pub(crate) fn node(index: usize) -> NodeId {
    // Spread over the id space as random ids are.
    NodeId((index as u128 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_0c2d_9d4f_1b55))
}

pub(crate) fn address(index: usize) -> String {
    format!("n{index}:7720")
}

pub(crate) fn state(index: usize) -> NodeState {
    NodeState {
        node: node(index),
        stamp: Stamp { incarnation: Incarnation(1), life: index as u64, version: 1 },
        name: format!("n{index}"),
        zone: Some(format!("z{}", index % 3)),
        weight: 100,
        addresses: Addresses { membership: Some(address(index)), ..Addresses::default() },
        store: Some(store(index, None)),
    }
}

pub(crate) fn store(index: usize, holds: Option<PartitionSet>) -> StoreState {
    StoreState {
        store_id: StoreId(index as u128 + 1),
        epoch: 1,
        incarnation: Incarnation(1),
        holds,
        leftover: false,
        bytes: None,
    }
}

pub(crate) fn partitions() -> Partitions {
    Partitions::new(64).unwrap()
}

pub(crate) fn founding() -> FoundingParams {
    FoundingParams { partitions: partitions(), spacing: 3, defaults: BucketProps::default() }
}

pub(crate) fn joiner(index: usize) -> Joiner {
    let said = state(index);
    Joiner {
        node: said.node,
        name: said.name,
        zone: said.zone,
        weight: said.weight,
        addresses: said.addresses,
        store: said.store.map(|store| store.store_id),
    }
}

pub(crate) fn init() -> Change {
    Change::Init {
        cluster: ClusterId(7),
        partitions: partitions(),
        spacing: 3,
        defaults: BucketProps::default(),
    }
}

/// The next event of `issuer` on a history.
pub(crate) fn event(history: &History, issuer: NodeId, changes: Vec<Change>) -> Event {
    let (id, seq) = history.next_id(issuer);
    Event { id, seq, issued_at: WALL, parent: history.version(), changes }
}

/// A history that was founded with the first `members` nodes.
pub(crate) fn founded(members: usize) -> History {
    let mut history = History::new();
    let mut changes = vec![init()];
    changes.extend((0..members).map(|index| Change::Join { joiner: joiner(index) }));
    let first = event(&history, node(0), changes);
    assert!(history.insert(first).unwrap());
    assert_eq!(history.version().number, 1);
    assert_ne!(history.version(), RingVersion::default());
    history
}

/// One agent of the simulated network.
pub(crate) struct SimAgent {
    pub(crate) view: Membership,
    pub(crate) gossip: Gossip,
    pub(crate) seeds: Vec<String>,
}

/// Agents that reach each other unless a cut says otherwise. Messages pass the wire form.
pub(crate) struct Sim {
    pub(crate) agents: Vec<SimAgent>,
    by_address: BTreeMap<String, usize>,
    pub(crate) entropy: SplitMix,
    pub(crate) now: Mono,
    /// Side of each agent; only agents of one side reach each other.
    pub(crate) side: Vec<u8>,
    /// One message in this many is lost; 0 for none.
    pub(crate) loss_one_in: u64,
    pub(crate) bytes: usize,
}

impl Sim {
    pub(crate) fn new(count: usize, seeds: &[usize], seed: u64) -> Self {
        let now = Mono(1_000_000);
        let seeds: Vec<String> = seeds.iter().map(|index| address(*index)).collect();
        let agents = (0..count).map(|index| SimAgent {
            view: Membership::new(state(index), now),
            gossip: Gossip::new(),
            seeds: seeds.clone(),
        });
        Self {
            agents: agents.collect(),
            by_address: (0..count).map(|index| (address(index), index)).collect(),
            entropy: SplitMix::new(seed),
            now,
            side: vec![0; count],
            loss_one_in: 0,
            bytes: 0,
        }
    }

    pub(crate) fn apply(&mut self, index: usize, delta: Delta) {
        self.agents[index].view.apply(delta, self.now).unwrap();
    }

    /// Stages at one agent.
    pub(crate) fn stage(&mut self, index: usize, change: StagedChange) {
        let delta = stage::stage(&self.agents[index].view, change, WALL).unwrap();
        self.apply(index, delta);
    }

    /// Commits what is staged at one agent.
    pub(crate) fn commit(&mut self, index: usize) {
        let view = &self.agents[index].view;
        let plan = plan::plan(view, founding(), |_| None).unwrap();
        assert_eq!(plan.refusals, []);
        let cluster = ClusterId::random(&mut self.entropy);
        let delta = plan::commit(view, founding(), &plan.tag(), cluster, WALL).unwrap();
        self.apply(index, delta);
    }

    /// One second: every agent opens a round.
    pub(crate) fn round(&mut self) {
        self.now = Mono(self.now.0 + 1_000_000);
        for index in 0..self.agents.len() {
            let seeds = self.agents[index].seeds.clone();
            self.event(index, GossipEvent::Tick { seeds });
        }
    }

    fn event(&mut self, index: usize, event: GossipEvent) {
        let agent = &mut self.agents[index];
        let effects = agent.gossip.on_event(&agent.view, event, self.now, WALL, &mut self.entropy);
        for effect in effects {
            match effect {
                GossipEffect::Send { round, peer, message } => {
                    let event = match self.request(index, &peer.address, message) {
                        Some(message) => GossipEvent::Answer { round, message: Box::new(message) },
                        None => GossipEvent::Failed { round },
                    };
                    self.event(index, event);
                }
                GossipEffect::Accept(judged) => {
                    assert_eq!(judged.refused, [], "correct agents send nothing invalid");
                    self.apply(index, judged.accept);
                }
                GossipEffect::Done { .. } => {}
            }
        }
    }

    fn request(
        &mut self,
        from: usize,
        address: &str,
        message: GossipMessage,
    ) -> Option<GossipMessage> {
        let to = *self.by_address.get(address)?;
        if self.side[from] != self.side[to] || self.is_lost() {
            return None;
        }
        let encoded = message.encode();
        self.bytes += encoded.len();
        let message = GossipMessage::decode(&encoded).unwrap();
        let agent = &mut self.agents[to];
        let reply = agent.gossip.on_request(&agent.view, message, self.now, WALL).ok()?;
        assert_eq!(reply.judged.refused, [], "correct agents send nothing invalid");
        agent.view.apply(reply.judged.accept, self.now).unwrap();
        let answer = dynamo_core::membership::gossip::seal(&agent.view, reply.body);
        let encoded = answer.encode();
        self.bytes += encoded.len();
        if self.is_lost() { None } else { Some(GossipMessage::decode(&encoded).unwrap()) }
    }

    fn is_lost(&mut self) -> bool {
        self.loss_one_in > 0 && self.entropy.chance(1, self.loss_one_in)
    }

    /// Whether all agents know exactly the same.
    pub(crate) fn converged(&self) -> bool {
        let first = &self.agents[0].view;
        self.agents.iter().all(|agent| {
            agent.view.version() == first.version()
                && agent.view.states().ranges() == first.states().ranges()
                && agent.view.registers() == first.registers()
        })
    }

    /// Rounds until all agents know the same, at most `limit`.
    pub(crate) fn rounds_to_converge(&mut self, limit: usize) -> Option<usize> {
        for round in 0..=limit {
            if self.converged() {
                return Some(round);
            }
            self.round();
        }
        None
    }
}

/// I-20: the most rounds that a healed network of `count` agents may take.
pub(crate) fn view_bound(count: usize) -> usize {
    10 * count.next_power_of_two().trailing_zeros().max(1) as usize
}
