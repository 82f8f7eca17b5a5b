//! Gossip (paper section 4.8.1): once a second with a random node, sometimes a seed, the two
//! reconcile what they know. Events in, effects out; the agent performs the effects.
//!
//! Invariants:
//! - a message of another cluster, or of an older life of its sender, changes nothing;
//! - an agent without a cluster takes one only from a seed or from a node it already knew, and an
//!   agent with a cluster never takes another;
//! - a round that fails is forgotten: nobody is declared dead (paper section 4.8.3).
//!
//! Not here: sockets, what is said in a round ([`super::reconcile`]), and how it looks on the wire
//! ([`crate::wire::gossip`]).

use std::collections::BTreeMap;
use std::time::Duration;

use super::judge::Judged;
use super::member::MemberStatus;
use super::reconcile::{compare, digest, give, summary};
use super::state::Stamp;
use super::view::Membership;
use crate::entropy::Entropy;
use crate::id::{ClusterId, NodeId};
use crate::limits::{
    GOSSIP_RATE_ALARM_PER_S, GOSSIP_RATE_MAX_PER_S, GOSSIP_ROUNDS_MAX, GOSSIP_SEED_ONE_IN,
    GOSSIP_TIMEOUT_MS,
};
use crate::time::{Mono, WallMs};
use crate::wire::gossip::{Digest, GossipBody, GossipMessage, Want};

/// How long the rate alarm stays on after the last second that raised it.
const ALARM_HOLD: Duration = Duration::from_secs(60);

/// Draws of a random node before a round is left out: with one other node known, one in 256 is.
const PEER_DRAWS: usize = 8;

/// One round that this agent opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RoundId(pub u64);

/// Whom to send to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Its membership agent, `host:port`.
    pub address: String,
    /// Its node; `None` of a seed, which is an address and nothing else.
    pub node: Option<NodeId>,
}

/// What the agent has to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GossipEffect {
    /// Send this, and report the answer or the failure.
    Send {
        /// The round.
        round: RoundId,
        /// To whom.
        peer: Peer,
        /// What.
        message: GossipMessage,
    },
    /// Make what was accepted durable, then apply it.
    Accept(Judged),
    /// The round is over.
    Done {
        /// Whether both sides knew the same.
        equal: bool,
    },
}

/// What happened to a round.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GossipEvent {
    /// A second has passed; these are the seeds by their present addresses.
    Tick {
        /// Addresses of the seeds.
        seeds: Vec<String>,
    },
    /// The peer answered.
    Answer {
        /// The round.
        round: RoundId,
        /// The answer.
        message: Box<GossipMessage>,
    },
    /// No answer, or not one that could be used.
    Failed {
        /// The round.
        round: RoundId,
    },
}

/// An answer to a request of a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GossipReply {
    /// To be made durable and applied before the answer goes out.
    pub judged: Judged,
    /// The answer.
    pub body: GossipBody,
}

/// Why a message is refused as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum GossipRefusal {
    /// The sender belongs to another cluster.
    #[error("this node belongs to cluster {mine}, the message to {theirs}")]
    WrongCluster {
        /// This agent's cluster.
        mine: ClusterId,
        /// The sender's.
        theirs: ClusterId,
    },
    /// This agent belongs to no cluster and does not know the sender.
    #[error("this node waits for a cluster through its seeds, not through strangers")]
    Stranger,
    /// A newer process speaks for the sending node.
    #[error("a newer process (incarnation {}) speaks for the sending node", newer.incarnation.0)]
    StaleIncarnation {
        /// The newer one.
        newer: Stamp,
    },
    /// The message came from this very process.
    #[error("a node does not gossip with itself")]
    Itself,
    /// Not a step that opens or continues a round.
    #[error("the message is an answer, not a request")]
    OutOfTurn,
    /// More requests than gossip may take.
    #[error("more gossip than is taken")]
    Overloaded,
}

#[derive(Debug, Clone)]
struct Round {
    peer: Peer,
    opened: Mono,
}

/// The gossip of one agent.
#[derive(Debug, Clone, Default)]
pub struct Gossip {
    rounds: BTreeMap<RoundId, Round>,
    opened: u64,
    equal_at: Option<Mono>,
    rate: Rate,
}

/// Requests counted by the second.
#[derive(Debug, Clone, Copy, Default)]
struct Rate {
    second: u64,
    count: u64,
    alarmed_at: Option<Mono>,
}

impl Rate {
    /// Counts a request; false where it is one too many.
    fn admit(&mut self, now: Mono) -> bool {
        let second = now.0 / 1_000_000;
        if second != self.second {
            (self.second, self.count) = (second, 0);
        }
        self.count += 1;
        if self.count > GOSSIP_RATE_ALARM_PER_S {
            self.alarmed_at = Some(now);
        }
        self.count <= GOSSIP_RATE_MAX_PER_S
    }
}

impl Gossip {
    /// No rounds yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Advances this agent's own rounds.
    pub fn on_event(
        &mut self,
        view: &Membership,
        event: GossipEvent,
        now: Mono,
        wall: WallMs,
        entropy: &mut impl Entropy,
    ) -> Vec<GossipEffect> {
        match event {
            GossipEvent::Tick { seeds } => self.tick(view, &seeds, now, entropy),
            GossipEvent::Answer { round, message } => self.answer(view, round, *message, now, wall),
            GossipEvent::Failed { round } => {
                self.rounds.remove(&round);
                Vec::new()
            }
        }
    }

    /// Time since both sides of a round last knew the same; `None` where they never did.
    #[must_use]
    pub fn age(&self, now: Mono) -> Option<Duration> {
        self.equal_at.map(|at| now.since(at))
    }

    /// Whether requests come faster than a healthy cluster sends them.
    #[must_use]
    pub fn rate_alarm(&self, now: Mono) -> bool {
        self.rate.alarmed_at.is_some_and(|at| now.since(at) < ALARM_HOLD)
    }

    fn tick(
        &mut self,
        view: &Membership,
        seeds: &[String],
        now: Mono,
        entropy: &mut impl Entropy,
    ) -> Vec<GossipEffect> {
        // Twice the time of both requests: whoever reports nothing by then never will.
        let overdue = Duration::from_millis(4 * GOSSIP_TIMEOUT_MS);
        self.rounds.retain(|_, round| now.since(round.opened) < overdue);
        if self.rounds.len() >= GOSSIP_ROUNDS_MAX {
            return Vec::new();
        }
        let Some(peer) = choose(view, seeds, entropy) else { return Vec::new() };
        self.opened += 1;
        let round = RoundId(self.opened);
        self.rounds.insert(round, Round { peer: peer.clone(), opened: now });
        let message = seal(view, GossipBody::Probe(summary(view)));
        vec![GossipEffect::Send { round, peer, message }]
    }

    fn answer(
        &mut self,
        view: &Membership,
        id: RoundId,
        message: GossipMessage,
        now: Mono,
        wall: WallMs,
    ) -> Vec<GossipEffect> {
        let Some(round) = self.rounds.remove(&id) else { return Vec::new() };
        if check_sender(view, &message, true).is_err() {
            return Vec::new();
        }
        let shared = message.cluster == view.cluster();
        match message.body {
            GossipBody::Digest(digest) => {
                if digest == Digest::default() {
                    self.equal_at = Some(now);
                    return vec![GossipEffect::Done { equal: true }];
                }
                let (delta, want) = compare(view, &digest, shared);
                if delta.is_empty() && want == Want::default() {
                    return vec![GossipEffect::Done { equal: false }];
                }
                let peer = round.peer.clone();
                self.rounds.insert(id, round);
                let message = seal(view, GossipBody::Push { delta, want });
                vec![GossipEffect::Send { round: id, peer, message }]
            }
            GossipBody::Give(delta) => {
                // The peer was chosen here, as a seed or as a known node.
                let judged = view.judge(delta, true, wall);
                vec![GossipEffect::Accept(judged), GossipEffect::Done { equal: false }]
            }
            GossipBody::Probe(_) | GossipBody::Push { .. } => Vec::new(),
        }
    }

    /// Answers a request of a peer.
    ///
    /// # Errors
    /// [`GossipRefusal`]: nothing was taken from the message.
    pub fn on_request(
        &mut self,
        view: &Membership,
        message: GossipMessage,
        now: Mono,
        wall: WallMs,
    ) -> Result<GossipReply, GossipRefusal> {
        if !self.rate.admit(now) {
            return Err(GossipRefusal::Overloaded);
        }
        let known = view.states().get(message.from).is_some();
        check_sender(view, &message, known)?;
        let shared = message.cluster == view.cluster();
        match message.body {
            GossipBody::Probe(theirs) => {
                let digest = digest(view, &theirs, shared);
                if digest == Digest::default() {
                    self.equal_at = Some(now);
                }
                Ok(GossipReply { judged: Judged::default(), body: GossipBody::Digest(digest) })
            }
            GossipBody::Push { delta, want } => {
                let body = GossipBody::Give(give(view, &want));
                Ok(GossipReply { judged: view.judge(delta, known, wall), body })
            }
            GossipBody::Digest(_) | GossipBody::Give(_) => Err(GossipRefusal::OutOfTurn),
        }
    }
}

/// Puts a step into this agent's envelope.
#[must_use]
pub fn seal(view: &Membership, body: GossipBody) -> GossipMessage {
    GossipMessage::seal(view.cluster(), view.me(), view.my_state().stamp, body)
}

/// Whether a message may be listened to.
fn check_sender(
    view: &Membership,
    message: &GossipMessage,
    trusted: bool,
) -> Result<(), GossipRefusal> {
    let said = Stamp { incarnation: message.incarnation, life: message.life, version: 0 };
    let known = view.states().get(message.from).map(|state| state.stamp);
    if let Some(newer) = known.filter(|known| said.is_fenced_by(*known)) {
        return Err(GossipRefusal::StaleIncarnation { newer });
    }
    if message.from == view.me() && !view.my_state().stamp.is_fenced_by(said) {
        return Err(GossipRefusal::Itself);
    }
    match (view.cluster(), message.cluster) {
        (Some(mine), Some(theirs)) if mine != theirs => {
            Err(GossipRefusal::WrongCluster { mine, theirs })
        }
        (None, Some(_)) if !trusted => Err(GossipRefusal::Stranger),
        _ => Ok(()),
    }
}

/// A random node, or a seed: now and then, and whenever nobody is known or no cluster found yet.
fn choose(view: &Membership, seeds: &[String], entropy: &mut impl Entropy) -> Option<Peer> {
    let mine = view.my_state().addresses.membership.as_deref();
    let seeds: Vec<&String> = seeds.iter().filter(|seed| Some(seed.as_str()) != mine).collect();
    let searching = view.cluster().is_none() && entropy.chance(1, 2);
    let node = if searching || entropy.chance(1, GOSSIP_SEED_ONE_IN) {
        None
    } else {
        choose_node(view, entropy)
    };
    let seed = || pick(&seeds, entropy).map(|seed| Peer { address: (*seed).clone(), node: None });
    node.or_else(seed).or_else(|| choose_node(view, entropy))
}

/// A random node with a known address, by a few draws from all that are known: members have a
/// place in the history and one among the states, so they are drawn more often than candidates.
/// Looking at every node each second would be the dearest part of a round in a large cluster.
fn choose_node(view: &Membership, entropy: &mut impl Entropy) -> Option<Peer> {
    let states = view.states();
    let members = view.fold().map(|fold| &fold.members);
    let drawn_from = states.len() + members.map_or(0, |members| members.len());
    for _ in 0..PEER_DRAWS {
        let index = usize::try_from(entropy.below(drawn_from as u64)).ok()?;
        let node = match index.checked_sub(states.len()) {
            None => states.iter().nth(index).map(|state| state.node),
            Some(index) => members.and_then(|members| members.keys().nth(index).copied()),
        };
        let Some(node) = node.filter(|node| *node != view.me()) else { continue };
        if view.status(node) == Some(MemberStatus::Removed) {
            continue;
        }
        let said = states.get(node).and_then(|state| state.addresses.membership.clone());
        let recorded = || members?.get(&node)?.addresses.membership.clone();
        if let Some(address) = said.or_else(recorded) {
            return Some(Peer { address, node: Some(node) });
        }
    }
    None
}

fn pick<'a, T>(items: &'a [T], entropy: &mut impl Entropy) -> Option<&'a T> {
    let index = usize::try_from(entropy.below(items.len() as u64)).ok()?;
    items.get(index)
}
