//! The membership agent of a simulated node: it drives the core's gossip as the real one does, and
//! hands every new view to the storage node beside it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::cluster_view::ClusterView;
use crate::entropy::Entropy;
use crate::id::{Incarnation, KeyHash, NodeId};
use crate::limits::GOSSIP_TIMEOUT_MS;
use crate::membership::gossip::{Gossip, GossipEffect, GossipEvent, GossipRefusal, RoundId, seal};
use crate::membership::history::{Change, HistoryError};
use crate::membership::judge::{Judged, Refusal};
use crate::membership::member::MemberStatus;
use crate::membership::state::{NodeState, Stamp};
use crate::membership::view::{Delta, Membership};
use crate::ring::{PartitionSet, ReplicaSets, RingVersion};
use crate::testing::sim::founding::{address, endpoint_of, object};
use crate::testing::sim::mutant::Mutant;
use crate::testing::sim::network::{Body, Endpoint};
use crate::testing::sim::ring_audit;
use crate::testing::sim::world::{Event, World};
use crate::time::Mono;
use crate::transfer::Inventory;
use crate::wire::gossip::GossipMessage;
use crate::wire::membership::LocalStorage;

/// Variation of the time between two rounds, so that the agents do not beat in time.
const JITTER_PERCENT: u64 = 10;

/// Least time between two gossip rounds once all agents were seen to agree.
const GOSSIP_HEALED: Duration = Duration::from_secs(1);

/// The nodes that everyone knows from the start.
const SEEDS: [usize; 2] = [0, 1];

#[derive(Debug)]
pub(super) struct Agent {
    /// As on its disk; what a crash may lose of it is decided at the restart.
    pub(super) membership: Membership,
    gossip: Gossip,
    /// The request of each round that is on its way.
    rounds: BTreeMap<RoundId, u64>,
    /// What the storage node works from; `None` before a cluster is known.
    pub(super) view: Option<Arc<ClusterView>>,
    /// Per key, who takes part, as the view has it.
    pub(super) sets: Vec<ReplicaSets>,
    reported: Option<LocalStorage>,
    /// Nodes that this agent has ever seen as former members.
    former: BTreeSet<NodeId>,
}

impl Agent {
    pub(super) fn new(membership: Membership) -> Self {
        Self {
            membership,
            gossip: Gossip::new(),
            rounds: BTreeMap::new(),
            view: None,
            sets: Vec::new(),
            reported: None,
            former: BTreeSet::new(),
        }
    }

    pub(super) fn version(&self) -> RingVersion {
        self.view.as_ref().map(|view| view.version()).unwrap_or_default()
    }

    pub(super) fn stop(&mut self) {
        self.gossip = Gossip::new();
        self.rounds.clear();
        self.reported = None;
    }

    /// A new process on the same disk. What other nodes said of themselves is not worth a flush,
    /// so a crash may have lost it.
    fn restart(&mut self, forgets: bool, now: Mono, life: u64) -> Result<(), HistoryError> {
        let last = self.membership.my_state();
        let incarnation = Incarnation(last.stamp.incarnation.0 + 1);
        let me = NodeState { stamp: Stamp { incarnation, life, version: 1 }, ..last.clone() };
        let mut kept = self.membership.everything();
        if forgets {
            kept.states.clear();
        }
        self.membership = Membership::new(me, now);
        self.membership.apply(kept, now)
    }
}

/// Gossip.
impl World {
    pub(super) fn start_gossip(&mut self, at: usize) {
        let generation = self.nodes[at].generation;
        let interval = u64::try_from(self.config.gossip.as_micros()).unwrap_or(u64::MAX);
        let first = Duration::from_micros(self.rng.below(interval));
        self.after(first, Event::GossipTick { node: at, generation });
    }

    pub(super) fn gossip_tick(&mut self, at: usize) {
        let now = self.now;
        self.note_agreement();
        if let Some(delta) = self.nodes[at].agent.membership.refresh(now) {
            self.learn(at, delta);
        }
        let seeds = SEEDS.iter().map(|seed| address(*seed)).collect();
        self.gossip_event(at, GossipEvent::Tick { seeds });
        let percent = 100 - JITTER_PERCENT + self.rng.below(2 * JITTER_PERCENT + 1);
        let slow = self.agreed_at.is_some() && self.config.gossip < GOSSIP_HEALED;
        let interval = if slow { GOSSIP_HEALED } else { self.config.gossip };
        let pause = interval * u32::try_from(percent).unwrap_or(100) / 100;
        let generation = self.nodes[at].generation;
        self.after(pause, Event::GossipTick { node: at, generation });
    }

    fn gossip_event(&mut self, at: usize, event: GossipEvent) {
        let (now, wall) = (self.now, self.wall(at));
        let agent = &mut self.nodes[at].agent;
        let effects = agent.gossip.on_event(&agent.membership, event, now, wall, &mut self.rng);
        for effect in effects {
            match effect {
                GossipEffect::Send { round, peer, message } => {
                    let number = self.number();
                    self.nodes[at].agent.rounds.insert(round, number);
                    let timeout = Duration::from_millis(GOSSIP_TIMEOUT_MS);
                    let generation = self.nodes[at].generation;
                    self.after(
                        timeout,
                        Event::GossipTimeout { node: at, generation, round, number },
                    );
                    if let Some(to) = endpoint_of(&peer.address) {
                        self.send(at, to, Body::Gossip { round, message: Box::new(message) });
                    }
                }
                GossipEffect::Accept(judged) => self.accept(at, judged),
                GossipEffect::Done { .. } => {}
            }
        }
    }

    pub(super) fn gossip_asked(
        &mut self,
        at: usize,
        from: Endpoint,
        round: RoundId,
        message: GossipMessage,
    ) {
        let (now, wall) = (self.now, self.wall(at));
        let agent = &mut self.nodes[at].agent;
        let message = match agent.gossip.on_request(&agent.membership, message, now, wall) {
            Ok(reply) => {
                self.accept(at, reply.judged);
                Some(Box::new(seal(&self.nodes[at].agent.membership, reply.body)))
            }
            Err(refusal) => {
                if matches!(refusal, GossipRefusal::WrongCluster { .. } | GossipRefusal::Itself) {
                    self.violate(format!("node {at} refuses gossip of node {from}: {refusal}"));
                }
                None
            }
        };
        self.send(at, from, Body::GossipAnswer { round, message });
    }

    pub(super) fn gossip_answered(
        &mut self,
        at: usize,
        round: RoundId,
        message: Option<Box<GossipMessage>>,
    ) {
        if self.nodes[at].agent.rounds.remove(&round).is_none() {
            return;
        }
        let event = match message {
            Some(message) => GossipEvent::Answer { round, message },
            None => GossipEvent::Failed { round },
        };
        self.gossip_event(at, event);
    }

    pub(super) fn gossip_timed_out(&mut self, at: usize, round: RoundId, number: u64) {
        if self.nodes[at].agent.rounds.get(&round) == Some(&number) {
            self.nodes[at].agent.rounds.remove(&round);
            self.gossip_event(at, GossipEvent::Failed { round });
        }
    }

    fn accept(&mut self, at: usize, judged: Judged) {
        for refusal in &judged.refused {
            let broken = match refusal {
                // A delta that a later one has overtaken, or a clock that leads: both come again.
                Refusal::Event(HistoryError::Gap { .. }) => false,
                Refusal::ClockSkew => !self.config.skew,
                _ => true,
            };
            if broken {
                self.violate(format!(
                    "I-20: node {at} refuses what a correct agent sent: {refusal}"
                ));
            }
        }
        if let Some(stamp) = judged.fenced {
            self.violate(format!("I-24: node {at} is fenced by {stamp:?}, which nobody started"));
        }
        self.learn(at, judged.accept);
    }

    /// Applies what was accepted, or decided here.
    pub(super) fn learn(&mut self, at: usize, delta: Delta) {
        if delta.is_empty() {
            return;
        }
        let shows = !delta.events.is_empty() || !delta.states.is_empty();
        let now = self.now;
        if let Err(error) = self.nodes[at].agent.membership.apply(delta, now) {
            self.violate(format!("I-20: node {at} cannot apply what it judged: {error}"));
        }
        if shows {
            self.adopt(at);
        }
        self.note_agreement();
    }
}

/// The storage node and its agent.
impl World {
    pub(super) fn restart_agent(&mut self, at: usize) {
        let forgets = self.rng.chance(1, 4);
        let (now, life) = (self.now, self.rng.next_u64());
        if let Err(error) = self.nodes[at].agent.restart(forgets, now, life) {
            self.violate(format!("node {at} cannot read its own history: {error}"));
        }
        self.nodes[at].agent.view = None;
        self.adopt(at);
        self.start_gossip(at);
    }

    /// Tells the agent about the store, where there is something new to tell.
    pub(super) fn report(&mut self, at: usize) {
        let node = &self.nodes[at];
        let local = LocalStorage {
            node: node.id,
            store_id: node.store_id,
            epoch: node.epoch,
            incarnation: node.incarnation,
            holds: node.inventory.as_ref().map(Inventory::advertised),
            leftover: node.has_leftovers(),
            bytes: None,
        };
        if node.agent.reported.as_ref() == Some(&local) {
            return;
        }
        match node.agent.membership.report(local.clone()) {
            Ok(delta) => {
                self.nodes[at].agent.reported = Some(local);
                self.learn(at, delta.unwrap_or_default());
            }
            Err(error) => self.violate(format!("node {at}: its agent refuses its report: {error}")),
        }
    }

    /// The storage node works under the present view from now on.
    pub(super) fn adopt(&mut self, at: usize) {
        let Some(snapshot) = self.nodes[at].agent.membership.snapshot() else { return };
        let view = match ClusterView::from_snapshot(snapshot) {
            Ok(view) => view,
            Err(error) => return self.violate(format!("node {at}: its agent's ring: {error}")),
        };
        let before = self.nodes[at].agent.version();
        if view.version() != before {
            self.covered("ring changed");
            self.demand(ring_audit::placement(&view, self.config.n));
            if view.version().number < before.number {
                self.violate(format!("node {at} went back from ring {before}"));
            }
            self.note_former(at);
        }
        self.take_inventory(at, &view);
        let sets = (0..self.config.keys)
            .map(|key| view.replica_sets(object(key).position(), self.config.n))
            .collect();
        self.nodes[at].agent.sets = sets;
        self.nodes[at].agent.view = Some(Arc::new(view));
    }

    /// I-25: who has left is never a member again. One change can be undone, by a concurrent one
    /// that comes before it: a replacement by a node that somebody else let join.
    fn note_former(&mut self, at: usize) {
        let agent = &mut self.nodes[at].agent;
        let Some(fold) = agent.membership.fold().cloned() else { return };
        agent.former.extend(fold.former.keys());
        let back = agent.former.iter().find(|node| fold.members.contains_key(node)).copied();
        let Some(node) = back else { return };
        let undone = fold.skipped.iter().any(|skipped| {
            let event = agent.membership.history().events().find(|event| event.id == skipped.event);
            let change = event.and_then(|event| event.changes.get(skipped.index));
            matches!(change, Some(Change::Replace { node: replaced, .. }) if *replaced == node)
        });
        if undone {
            agent.former.remove(&node);
            self.covered("replacement undone by a concurrent join");
        } else {
            self.violate(format!("I-25: {node} left, and is a member again for node {at}"));
        }
    }

    /// The store makes what it has fit the view before it is used: a founder has its share of an
    /// empty cluster, anybody else nothing at first.
    fn take_inventory(&mut self, at: usize, view: &ClusterView) {
        let node = &self.nodes[at];
        let founds = view.is_founding_store(node.id, node.store_id);
        let mut inventory = match &node.inventory {
            Some(inventory) => inventory.clone(),
            None if founds => {
                let inventory = Inventory::founding(view, node.id);
                let owed = self.truth.share_of(node.id);
                let share = inventory.advertised();
                if let Some(extra) = share.iter().find(|partition| !owed.contains(*partition)) {
                    self.violate(format!(
                        "I-22: founder {at} says that it holds partition {}, of which it was no \
                         replica when the cluster was founded",
                        extra.0
                    ));
                }
                inventory
            }
            None => Inventory::empty(view.partitions()),
        };
        let (id, before) = (self.nodes[at].id, inventory.advertised());
        let adopted = inventory.adopt(view, id);
        if adopted.gained && !self.config.is(Mutant::KeepsEpochOnRemoval) {
            self.end_epoch(at, 0, "epoch ended: keys come to the node");
        }
        self.nodes[at].inventory = Some(inventory);
        self.claim_wrongly(at, view);
        let after = self.nodes[at].inventory.as_ref().map(Inventory::advertised);
        for partition in after.iter().flat_map(PartitionSet::iter) {
            if !before.contains(partition) {
                self.audit_held(at, partition);
            }
        }
    }

    /// Bugs of the shell, see [`Mutant`].
    fn claim_wrongly(&mut self, at: usize, view: &ClusterView) {
        let (n, keys) = (self.config.n, self.config.keys);
        let node = &mut self.nodes[at];
        let status = view.node(node.id).map(|info| info.status);
        if self.config.is(Mutant::IgnoredPartition)
            && status == Some(MemberStatus::Member)
            && let Some(inventory) = &mut node.inventory
        {
            let mut positions = (0..keys).map(|key| object(key).position());
            let is_pending =
                |position: &KeyHash| view.replica_sets(*position, n).pending.contains(&node.id);
            let pending = positions.find(is_pending);
            if let Some(position) = pending {
                let partition = view.ring().partition_of(position);
                inventory.hold(partition).expect("a pending owner wants it");
            }
        }
        if self.config.is(Mutant::DropBeforeConfirmed) {
            self.drop_at_once(at, view);
        }
        let node = &mut self.nodes[at];
        if self.config.is(Mutant::LeaverDropsAll) && status == Some(MemberStatus::Leaving) {
            node.store.drop_records();
        }
    }

    fn drop_at_once(&mut self, at: usize, view: &ClusterView) {
        let id = self.nodes[at].id;
        for partition in view.partitions().iter().filter(|p| !view.wants(id, *p)) {
            if let Some(inventory) = &mut self.nodes[at].inventory
                && inventory.release(partition).is_ok()
            {
                while self.drop_page(at, partition) == Some((false, 1)) {}
            }
        }
    }
}
