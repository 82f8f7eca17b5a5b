//! Sends one object request to a coordinator and brings back its answer: the only hop that a
//! request takes inside the ring (paper section 4.5).
//!
//! A coordinator that cannot be reached, refuses without having done anything, or is late, is
//! followed by the next one in the order of [`dynamo_core::routing`]. Sending a write twice is safe
//! because both attempts carry one put id: whatever becomes of them, readers see the write once.
//! The first answer wins; the other attempts are dropped.
//!
//! Not here: the order itself, and what is in the messages.

mod race;

use std::time::Duration;

use bytes::Bytes;
use dynamo_core::id::NodeId;
use dynamo_core::key::ObjectKey;
use dynamo_core::routing::{ChoiceReason, Purpose};
use dynamo_core::time::Mono;
use http::HeaderMap;
use race::Race;
use service_kit::http::error::Problem;
use service_kit::peer::PeerResponse;

use crate::state::Router;

/// One request to a coordinator.
#[derive(Debug)]
pub struct Forward<'a> {
    /// The object.
    pub object: &'a ObjectKey,
    /// Whether it writes.
    pub purpose: Purpose,
    /// The fastest reader that the client's context names.
    pub preferred: Option<NodeId>,
    /// The coordinator's route.
    pub path: &'static str,
    /// Headers that go with the message.
    pub headers: HeaderMap,
    /// The message.
    pub message: Bytes,
    /// When the client stops waiting.
    pub deadline: Mono,
    /// Replies or acknowledgements that the client asked for.
    pub required: u32,
}

/// A coordinator's answer, success or refusal.
#[derive(Debug)]
pub struct Forwarded {
    /// The answer; its status is 200.
    pub response: PeerResponse,
    /// Who gave it.
    pub node: NodeId,
    /// Time from the choice of the first coordinator to the answer.
    pub took: Duration,
    /// Coordinators that the request was sent to.
    pub attempts: usize,
    /// Why the first of them was the first.
    pub reason: ChoiceReason,
}

/// A refusal of a coordinator, with the headers that belong to it.
#[derive(Debug)]
pub struct Refused {
    /// The refusal.
    pub problem: Problem,
    /// Headers that may go with it.
    pub headers: HeaderMap,
    /// Whether another process refused, rather than the router itself.
    pub by_peer: bool,
}

impl From<Problem> for Refused {
    fn from(problem: Problem) -> Self {
        Self { problem, headers: HeaderMap::new(), by_peer: false }
    }
}

impl Router {
    /// Sends `forward` to its coordinators until one gives an answer that stands.
    ///
    /// # Errors
    /// The refusal to pass on: of a coordinator, or our own where none answered.
    pub async fn forward(&self, forward: Forward<'_>) -> Result<Forwarded, Refused> {
        self.metrics.forwards.inc();
        let ring = self.ring()?;
        let mut race = Race::new(self, &forward, ring);
        self.metrics.chosen(race.reason);
        let result = race.run().await;
        let took = self.clock.mono().since(race.started);
        self.metrics.coordination_seconds.observe(took.as_secs_f64());
        result
    }
}
