//! What happens in a run, one thing after the other, and the hash that tells two runs apart.

use xxhash_rust::xxh3::xxh3_64;

use crate::membership::gossip::RoundId;
use crate::testing::sim::faults::Fault;
use crate::testing::sim::network::{Body, Endpoint, Message};
use crate::testing::sim::store::Ticket;
use crate::time::Mono;

#[derive(Debug, Clone)]
#[expect(clippy::large_enum_variant, reason = "the large variant is the common one")]
pub(super) enum Event {
    Deliver { to: Endpoint, message: Message },
    Flushed { node: usize, generation: u64, ticket: Ticket },
    CallTimeout { node: usize, generation: u64, call: u64 },
    GetTimer { node: usize, generation: u64, op: u64, at: Mono },
    PutTimer { node: usize, generation: u64, op: u64, at: Mono },
    CatchUpTimer { node: usize, generation: u64, op: u64 },
    ExchangeTimer { node: usize, generation: u64, exchange: u64 },
    Tick { node: usize, generation: u64 },
    GossipTick { node: usize, generation: u64 },
    GossipTimeout { node: usize, generation: u64, round: RoundId, number: u64 },
    ClientStep { client: usize },
    ClientTimeout { client: usize, request: u64 },
    Fault(Fault),
}

impl Event {
    /// The node and the process life that it is for; `None` for the world at large.
    pub(super) fn process(&self) -> Option<(usize, u64)> {
        match self {
            Self::Flushed { node, generation, .. }
            | Self::CallTimeout { node, generation, .. }
            | Self::GetTimer { node, generation, .. }
            | Self::PutTimer { node, generation, .. }
            | Self::CatchUpTimer { node, generation, .. }
            | Self::ExchangeTimer { node, generation, .. }
            | Self::Tick { node, generation }
            | Self::GossipTick { node, generation }
            | Self::GossipTimeout { node, generation, .. } => Some((*node, *generation)),
            Self::Deliver { .. }
            | Self::ClientStep { .. }
            | Self::ClientTimeout { .. }
            | Self::Fault(_) => None,
        }
    }

    /// The hash of a run that was at `trace` and now meets this event.
    pub(super) fn mixed_into(&self, trace: u64, now: Mono) -> u64 {
        let (kind, a, b): (u64, u64, u64) = match self {
            Self::Deliver { to, message } => {
                let (kind, number) = match &message.body {
                    Body::Request { call, .. } => (1, *call),
                    Body::Reply { call, .. } => (2, *call),
                    Body::Refused { call } => (3, *call),
                    Body::Ask { request, .. } => (4, *request),
                    Body::Answer { request, .. } => (5, *request),
                    Body::Gossip { round, .. } => (14, round.0),
                    Body::GossipAnswer { round, .. } => (15, round.0),
                };
                (kind, (*to * 1_000 + message.from) as u64, number)
            }
            Self::Flushed { node, ticket, .. } => (6, *node as u64, *ticket),
            Self::CallTimeout { node, call, .. } => (7, *node as u64, *call),
            Self::GetTimer { node, op, .. } => (8, *node as u64, *op),
            Self::PutTimer { node, op, .. } => (9, *node as u64, *op),
            Self::CatchUpTimer { node, op, .. } => (19, *node as u64, *op),
            Self::ExchangeTimer { node, exchange, .. } => (18, *node as u64, *exchange),
            Self::Tick { node, generation } => (10, *node as u64, *generation),
            Self::ClientStep { client } => (11, *client as u64, 0),
            Self::ClientTimeout { client, request } => (12, *client as u64, *request),
            Self::Fault(fault) => (13, fault.number(), 0),
            Self::GossipTick { node, generation } => (16, *node as u64, *generation),
            Self::GossipTimeout { node, number, .. } => (17, *node as u64, *number),
        };
        let mut form = [0u8; 40];
        for (to, from) in form.chunks_exact_mut(8).zip([trace, now.0, kind, a, b]) {
            to.copy_from_slice(&from.to_be_bytes());
        }
        xxh3_64(&form)
    }
}
