//! How the comparisons stand, and halting them.

use std::sync::Arc;

use axum::extract::State;
use dynamo_core::id::{ClusterId, Incarnation, NodeId, PartitionId};
use dynamo_core::ring::RingVersion;
use dynamo_core::wire::worker::{AntiEntropyDocument, PartitionAgreement, PeerExchange};
use serde::{Deserialize, Serialize};
use service_kit::http::json::JsonAnswer;

use crate::exchange::agreement::Apart;
use crate::worker::Worker;

/// Who answers.
#[derive(Debug, Serialize, Deserialize)]
pub struct PingDocument {
    /// The node.
    pub node: NodeId,
    /// Its cluster, once known.
    pub cluster: Option<ClusterId>,
    /// The life of this process.
    pub incarnation: Incarnation,
    /// The ring in use.
    pub ring: Option<RingVersion>,
}

/// `GET /v1/ping`.
pub async fn ping(State(worker): State<Arc<Worker>>) -> JsonAnswer<PingDocument> {
    JsonAnswer(PingDocument {
        node: worker.me,
        cluster: worker.identity.cluster(),
        incarnation: worker.identity.incarnation(),
        ring: worker.ring(),
    })
}

/// `GET /v1/anti-entropy`.
pub async fn anti_entropy(State(worker): State<Arc<Worker>>) -> JsonAnswer<AntiEntropyDocument> {
    JsonAnswer(document(&worker))
}

/// `POST /v1/anti-entropy/pause`.
pub async fn pause(State(worker): State<Arc<Worker>>) -> JsonAnswer<AntiEntropyDocument> {
    set_paused(&worker, true)
}

/// `POST /v1/anti-entropy/resume`.
pub async fn resume(State(worker): State<Arc<Worker>>) -> JsonAnswer<AntiEntropyDocument> {
    set_paused(&worker, false)
}

fn set_paused(worker: &Worker, paused: bool) -> JsonAnswer<AntiEntropyDocument> {
    worker.pause.set(paused);
    worker.rounds.wake.notify_waiters();
    tracing::info!(target: "audit", paused, "exchanges and transfers");
    JsonAnswer(document(worker))
}

fn document(worker: &Worker) -> AntiEntropyDocument {
    let now = worker.clock.wall();
    let view = worker.view.load_full();
    let name = |node| Some(view.as_ref()?.node(node)?.name.clone());
    let agreement = worker.rounds.agreement().clone();
    let peers: Vec<PeerExchange> = agreement
        .partners()
        .map(|(node, standing)| {
            let mut partitions: Vec<_> = standing.parts.keys().map(|(_, part)| *part).collect();
            partitions.sort_unstable();
            partitions.dedup();
            PeerExchange {
                node,
                name: name(node),
                partitions: partitions.len(),
                agreed_at: standing.agreed_at,
                ended_at: standing.ended_at,
                running: standing.running,
                error: standing.error.clone(),
                keys_compared: standing.keys_compared,
                keys_repaired: standing.keys_repaired,
                bytes: standing.bytes,
            }
        })
        .collect();
    let apart = agreement.apart();
    let apart_from = |partition: &PartitionId, why: Apart| -> Vec<NodeId> {
        let partners = apart.get(partition).into_iter().flatten();
        partners.filter(|(_, known)| **known == why).map(|(node, _)| *node).collect()
    };
    let lag = agreement.full_round(now).map(|at| now.since(at));
    AntiEntropyDocument {
        node: worker.me,
        ring: worker.ring(),
        paused: worker.pause.is_paused(),
        peers,
        partitions: agreement
            .partitions()
            .into_iter()
            .map(|(partition, agreed_at)| PartitionAgreement {
                partition,
                agreed_at,
                differs_from: apart_from(&partition, Apart::Differs),
                not_compared_with: apart_from(&partition, Apart::NotCompared),
            })
            .collect(),
        lag_ms: lag.map(|lag| u64::try_from(lag.as_millis()).unwrap_or(u64::MAX)),
        keys_behind: agreement.partners().map(|(_, standing)| standing.keys_behind).sum(),
    }
}
