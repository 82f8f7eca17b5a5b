//! Pings of storage nodes that are down or were late, beside the traffic: a client's request is
//! never the probe that finds out whether a node is back.

use std::collections::HashSet;

use bytes::Bytes;
use dynamo_core::failure_view::FailureKind;
use dynamo_core::id::NodeId;
use http::{HeaderMap, Method};
use service_kit::peer::{NotSentReason, PeerError, PeerRequest};
use tokio::task::JoinSet;

use crate::limits::{PROBE_TICK, PROBE_TIMEOUT, PROBES_MAX};
use crate::state::App;

/// The route that tells whether a storage node is there.
const PING: &str = "/v1/ping";

/// Why a node is pinged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cause {
    /// It counts as down.
    Down,
    /// It was late.
    Late,
}

/// Probes until the process stops.
pub async fn run(app: App) {
    let shutdown = app.shutdown.clone();
    shutdown.unless_requested(probe_forever(app)).await;
}

async fn probe_forever(app: App) {
    let mut running = JoinSet::new();
    let mut busy: HashSet<NodeId> = HashSet::new();
    let mut tick = tokio::time::interval(PROBE_TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            Some(ended) = running.join_next() => {
                match ended {
                    Ok(node) => { busy.remove(&node); }
                    // A probe that panicked leaves its node to the next outage's probes.
                    Err(error) => tracing::error!(%error, "a probe failed unexpectedly"),
                }
                continue;
            }
        }
        let now = app.clock.mono();
        let down = app.balance.due_probes(now).into_iter().map(|node| (node, Cause::Down));
        let late = app.balance.doubted().into_iter().map(|node| (node, Cause::Late));
        for (node, cause) in down.chain(late) {
            if running.len() < PROBES_MAX && busy.insert(node) {
                running.spawn(probe(app.clone(), node, cause));
            }
        }
    }
}

async fn probe(app: App, node: NodeId, cause: Cause) -> NodeId {
    let failure = ping(&app, node).await;
    let now = app.clock.mono();
    match cause {
        Cause::Down => app.balance.probed(node, now, failure.is_none()),
        Cause::Late => app.balance.pinged(node, now, failure),
    }
    node
}

/// `None` where the node answers.
async fn ping(app: &App, node: NodeId) -> Option<FailureKind> {
    let ring = app.watch.current();
    let info = ring.as_ref().and_then(|ring| ring.view.node(node));
    let Some(address) = info.and_then(|info| info.addresses.storage.as_deref()) else {
        return Some(FailureKind::Refused);
    };
    let started = app.clock.mono();
    let request = PeerRequest {
        address,
        method: Method::GET,
        path: PING,
        headers: HeaderMap::new(),
        body: Bytes::new(),
        timeout: PROBE_TIMEOUT,
        idempotent: true,
    };
    let error = match app.peers.call(request).await {
        Ok(response) if response.status.is_success() => return None,
        Ok(_) => return Some(FailureKind::ConnectionLost),
        Err(error) => error,
    };
    Some(match error {
        PeerError::NotSent(NotSentReason::Connect(_) | NotSentReason::Invalid(_)) => {
            FailureKind::Refused
        }
        PeerError::NotSent(_) | PeerError::Deadline => {
            FailureKind::Timeout { waited: app.clock.mono().since(started).max(PROBE_TIMEOUT) }
        }
        _ => FailureKind::ConnectionLost,
    })
}
