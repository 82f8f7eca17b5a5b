//! The simulated network: what is sent, who can send to whom, how long it takes, what is lost or
//! doubled.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::clock::context::CausalContext;
use crate::clock::digest::RecordDigest;
use crate::clock::record::Record;
use crate::entropy::Entropy;
use crate::id::{NodeId, PutId};
use crate::membership::gossip::RoundId;
use crate::params::Durability;
use crate::put_memory::AppliedPut;
use crate::quorum::{Outcome, ReplicaReply};
use crate::replica::PutCommand;
use crate::ring::RingVersion;
use crate::testing::sim::config::SimConfig;
use crate::testing::sim::store::Key;
use crate::testing::sim::work::{Work, WorkAnswer};
use crate::time::{Mono, WallMs};
use crate::wire::gossip::GossipMessage;

/// A node by its index, or a client by the number of nodes plus its own index.
pub(super) type Endpoint = usize;

/// What travels.
#[derive(Debug, Clone)]
pub(super) struct Message {
    pub(super) from: Endpoint,
    pub(super) body: Body,
}

#[derive(Debug, Clone)]
pub(super) enum Body {
    /// Node to node, and what comes back.
    Request {
        call: u64,
        request: Request,
    },
    Reply {
        call: u64,
        reply: Reply,
    },
    /// Nobody listens at the other end.
    Refused {
        call: u64,
    },
    /// Client to coordinator, and what comes back.
    Ask {
        request: u64,
        ask: Ask,
    },
    Answer {
        request: u64,
        answer: Answer,
    },
    /// Agent to agent, and what comes back: nothing where it is refused.
    Gossip {
        round: RoundId,
        message: Box<GossipMessage>,
    },
    GossipAnswer {
        round: RoundId,
        message: Option<Box<GossipMessage>>,
    },
}

#[derive(Debug, Clone)]
pub(super) enum Request {
    Read {
        key: Key,
        unless: Option<RecordDigest>,
    },
    /// What it has of the key, and whether it remembers the put.
    FindPut {
        key: Key,
        put: PutId,
    },
    Merge(Merge),
    Ping,
    /// Of a background worker.
    Work(Work),
}

/// A record for a replica.
#[derive(Debug, Clone)]
pub(super) struct Merge {
    pub(super) key: Key,
    pub(super) record: Record,
    pub(super) hint_for: Option<NodeId>,
    pub(super) durability: Durability,
    /// Superseded puts of the key that the sender remembers.
    pub(super) puts: Vec<(PutId, AppliedPut)>,
    /// The ring by which the sender chose the receiver.
    pub(super) ring: RingVersion,
}

#[derive(Debug, Clone)]
pub(super) enum Reply {
    Read(ReplicaReply),
    Found {
        record: Record,
        applied: Option<AppliedPut>,
    },
    /// It did not do what it was asked.
    Failed,
    Merged,
    Pong,
    Work(WorkAnswer),
}

#[derive(Debug, Clone)]
#[expect(clippy::large_enum_variant, reason = "few exist at once")]
pub(super) enum Ask {
    Get { key: Key },
    Put { key: Key, command: PutCommand, ring: RingVersion, attempt: Attempt },
}

#[derive(Debug, Clone)]
pub(super) enum Answer {
    /// What a read showed: every version with its put and bytes (`None` for a tombstone).
    Got {
        versions: Vec<(PutId, Option<String>)>,
        context: Option<CausalContext>,
        primaries: u8,
        began: Mono,
    },
    Stored {
        context: CausalContext,
    },
    /// Nothing was done: the coordinator knows no ring.
    NotReady,
    /// For a get, the outcome says nothing.
    Failed {
        outcome: Outcome,
        not_owner: bool,
    },
    Refused,
}

/// What a put says of the attempt that it is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Attempt {
    /// By the wall clock of its sender.
    pub(super) sent: WallMs,
    /// An earlier one may have reached another coordinator.
    pub(super) repeated: bool,
}

/// The state of all links.
#[derive(Debug, Default)]
pub(super) struct Network {
    /// Directed links that carry nothing.
    cut: BTreeSet<(Endpoint, Endpoint)>,
    /// From here on nothing is lost, doubled or slow.
    healed: bool,
}

impl Network {
    pub(super) fn cut(&mut self, from: Endpoint, to: Endpoint) {
        self.cut.insert((from, to));
    }

    /// Joins all links.
    pub(super) fn join(&mut self) {
        self.cut.clear();
    }

    /// Joins all links and makes them perfect.
    pub(super) fn heal(&mut self) {
        self.join();
        self.healed = true;
    }

    /// The delays after which copies of a message arrive: none where it is lost.
    pub(super) fn delays(
        &self,
        from: Endpoint,
        to: Endpoint,
        config: &SimConfig,
        rng: &mut impl Entropy,
    ) -> Vec<Duration> {
        let mut delay = || {
            let most = if self.healed { 500 } else { config.delay_us };
            Duration::from_micros(50 + rng.below(most))
        };
        if self.healed {
            return vec![delay()];
        }
        let mut delays = vec![delay()];
        let second = delay();
        if rng.chance(config.doubled, 1_000) {
            delays.push(second);
        }
        if self.cut.contains(&(from, to)) || rng.chance(config.loss, 1_000) {
            delays.clear();
        }
        delays
    }
}
