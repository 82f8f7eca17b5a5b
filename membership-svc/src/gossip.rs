//! Performs the effects of gossip: one round a second, each in a task of its own, so that a slow
//! peer delays nobody else.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dynamo_core::id::Incarnation;
use dynamo_core::limits::GOSSIP_TIMEOUT_MS;
use dynamo_core::membership::gossip::{GossipEffect, GossipEvent, Peer, RoundId};
use dynamo_core::membership::state::Stamp;
use dynamo_core::wire::gossip::{GOSSIP_PATH, GossipDecodeError, GossipMessage};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Method};
use service_kit::http::error::{ErrorCode, Problem};
use service_kit::peer::{PeerClient, PeerError, PeerRequest, X_ATOLL_INCARNATION};
use service_kit::rng::{OsEntropy, jittered};
use service_kit::shutdown::Shutdown;
use tokio::task::{JoinError, JoinSet};

use crate::agent::Agent;
use crate::seeds::Seeds;

/// Variation of the interval, so that the agents of a cluster do not beat in time.
const JITTER_PERCENT: u32 = 10;

/// Why a round brought nothing.
#[derive(Debug, thiserror::Error)]
enum RoundError {
    #[error(transparent)]
    Call(#[from] PeerError),
    #[error("refused: {problem}")]
    Refused {
        problem: Box<Problem>,
        /// The incarnation that the peer knows of this node, where it states one.
        newer: Option<Stamp>,
    },
    #[error(transparent)]
    Decode(#[from] GossipDecodeError),
}

/// Gossips until the stop. No round is left when it returns.
pub(crate) async fn run(
    agent: Arc<Agent>,
    client: PeerClient,
    mut seeds: Seeds,
    interval: Duration,
    stop: Shutdown,
) {
    let mut entropy = OsEntropy;
    let mut rounds = JoinSet::new();
    loop {
        let pause = jittered(interval, JITTER_PERCENT, &mut entropy);
        tokio::select! {
            () = stop.requested() => break,
            () = tokio::time::sleep(pause) => {}
        }
        while let Some(ended) = rounds.try_join_next() {
            report(ended);
        }
        if agent.is_fenced() {
            continue;
        }
        if let Err(error) = agent.maintain().await {
            tracing::error!(%error, "the membership file could not be written");
        }
        let addresses = seeds.addresses(&agent.clock).await;
        match agent.on_event(GossipEvent::Tick { seeds: addresses }).await {
            Ok(effects) => {
                rounds.spawn(round(Arc::clone(&agent), client.clone(), effects));
            }
            Err(error) => tracing::error!(%error, "a gossip round could not begin"),
        }
    }
    rounds.abort_all();
    while let Some(ended) = rounds.join_next().await {
        report(ended);
    }
}

fn report(ended: Result<(), JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "a gossip round ended abnormally");
    }
}

/// One round, to its end. At most `GOSSIP_ROUNDS_MAX` run, as the core opens no more.
async fn round(agent: Arc<Agent>, client: PeerClient, mut effects: Vec<GossipEffect>) {
    while let Some(effect) = effects.pop() {
        match effect {
            GossipEffect::Send { round, peer, message } => {
                let sent = send(&agent, &client, &peer, &message).await;
                let event = after(&agent, round, &peer, sent).await;
                match agent.on_event(event).await {
                    Ok(more) => effects.extend(more),
                    Err(error) => tracing::error!(%error, "gossip could not be made durable"),
                }
            }
            GossipEffect::Done { equal: true } => agent.metrics.rounds_equal.inc(),
            GossipEffect::Done { equal: false } => agent.metrics.rounds_exchanged.inc(),
            GossipEffect::Accept(_) => {}
        }
    }
}

async fn send(
    agent: &Agent,
    client: &PeerClient,
    peer: &Peer,
    message: &GossipMessage,
) -> Result<GossipMessage, RoundError> {
    let body = Bytes::from(message.encode());
    agent.metrics.bytes_sent.inc_by(body.len() as u64);
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let request = PeerRequest {
        address: &peer.address,
        method: Method::POST,
        path: GOSSIP_PATH,
        headers,
        body,
        timeout: Duration::from_millis(GOSSIP_TIMEOUT_MS),
        // Deltas merge: the same one twice is the same as once.
        idempotent: true,
    };
    let response = client.call(request).await?;
    agent.metrics.bytes_received.inc_by(response.body.len() as u64);
    let newer = stated_incarnation(&response.headers);
    let response = response
        .into_success()
        .map_err(|problem| RoundError::Refused { problem: Box::new(problem), newer })?;
    Ok(GossipMessage::decode(&response.body)?)
}

/// What the end of a call means for the round.
async fn after(
    agent: &Arc<Agent>,
    round: RoundId,
    peer: &Peer,
    sent: Result<GossipMessage, RoundError>,
) -> GossipEvent {
    let error = match sent {
        Ok(message) => return GossipEvent::Answer { round, message: Box::new(message) },
        Err(error) => error,
    };
    agent.metrics.rounds_failed.inc();
    match &error {
        RoundError::Refused { problem, newer } if problem.code() == ErrorCode::StaleIncarnation => {
            agent.fence(*newer).await;
        }
        RoundError::Refused { problem, .. } if problem.code() == ErrorCode::WrongCluster => {
            tracing::warn!(peer = peer.address, %error, "a peer belongs to another cluster");
        }
        // Down or restarting, which is ordinary, or this node met itself through a seed address.
        _ => tracing::debug!(peer = peer.address, %error, "a gossip round failed"),
    }
    GossipEvent::Failed { round }
}

/// The incarnation that a refusing peer states.
fn stated_incarnation(headers: &HeaderMap) -> Option<Stamp> {
    let stated = headers.get(X_ATOLL_INCARNATION)?.to_str().ok()?.parse().ok()?;
    Some(Stamp { incarnation: Incarnation(stated), ..Stamp::default() })
}
