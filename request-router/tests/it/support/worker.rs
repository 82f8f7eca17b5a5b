//! The worker of a host, as far as the router asks it.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Json, Router};
use dynamo_core::id::PartitionId;
use dynamo_core::time::WallMs;
use dynamo_core::wire::worker::{
    AcceptLossRequest, AntiEntropyDocument, PeerExchange, RepairDocument, RepairRequest,
    RepairState, TransferState, TransferView, TransfersDocument,
};
use http::StatusCode;
use service_kit::http::error::{ErrorCode, Problem};

use super::node::{Mode, Node};

/// What a worker says, and was told.
#[derive(Debug, Default)]
pub(crate) struct WorkerState {
    /// Its partitions on the move.
    pub(crate) moving: Vec<(PartitionId, TransferState)>,
    /// Its lag.
    pub(crate) lag_ms: Option<u64>,
    repairs: BTreeMap<String, RepairDocument>,
}

pub(super) fn routes() -> Router<Arc<Node>> {
    Router::new()
        .route("/v1/transfers", get(transfers))
        .route("/v1/transfers/accept-loss", post(accept_loss))
        .route("/v1/anti-entropy", get(anti_entropy))
        .route("/v1/anti-entropy/repair/{id}", put(repair).get(repair_status))
}

impl Node {
    pub(crate) fn worker(&self, edit: impl FnOnce(&mut WorkerState)) {
        edit(&mut self.worker.lock().unwrap());
    }

    /// Ends the repairs that it was asked for.
    pub(crate) fn end_repairs(&self, state: RepairState) {
        for repair in self.worker.lock().unwrap().repairs.values_mut() {
            repair.state = state;
        }
    }

    fn transfers(&self) -> TransfersDocument {
        let mut totals = BTreeMap::new();
        let worker = self.worker.lock().unwrap();
        for (_, state) in &worker.moving {
            *totals.entry(*state).or_default() += 1;
        }
        let view = |(partition, state): &(PartitionId, TransferState)| TransferView {
            partition: *partition,
            state: *state,
            peer: None,
            records: 10,
            bytes: 1000,
            records_total: Some(40),
            eta_ms: Some(100 * u64::from(partition.0)),
            restarts: 0,
            error: None,
        };
        TransfersDocument {
            node: self.id,
            ring: None,
            paused: false,
            totals,
            records: 10,
            bytes: 1000,
            partitions: worker.moving.iter().map(view).collect(),
        }
    }
}

/// A worker that is frozen with its host does not answer.
async fn freeze(node: &Node) {
    if matches!(node.mode(), Mode::Frozen) {
        std::future::pending::<()>().await;
    }
}

async fn transfers(State(node): State<Arc<Node>>) -> Response {
    freeze(&node).await;
    Json(node.transfers()).into_response()
}

async fn accept_loss(
    State(node): State<Arc<Node>>,
    Json(request): Json<AcceptLossRequest>,
) -> Response {
    freeze(&node).await;
    for partition in &request.partitions {
        let mut worker = node.worker.lock().unwrap();
        let lost = (*partition, TransferState::NoHolder);
        match worker.moving.iter_mut().find(|moving| **moving == lost) {
            Some(moving) => moving.1 = TransferState::Held,
            None => return Problem::new(ErrorCode::Conflict, "has a holder").into_response(),
        }
    }
    Json(node.transfers()).into_response()
}

async fn anti_entropy(State(node): State<Arc<Node>>) -> Response {
    freeze(&node).await;
    let peer = PeerExchange {
        node: node.id,
        name: None,
        partitions: 8,
        agreed_at: None,
        ended_at: None,
        running: true,
        error: None,
        keys_compared: 5,
        keys_repaired: 2,
        bytes: 77,
    };
    let lag_ms = node.worker.lock().unwrap().lag_ms;
    Json(AntiEntropyDocument {
        node: node.id,
        ring: None,
        paused: false,
        peers: vec![peer],
        partitions: Vec::new(),
        lag_ms,
        keys_behind: 1,
    })
    .into_response()
}

async fn repair(
    State(node): State<Arc<Node>>,
    Path(id): Path<String>,
    Json(scope): Json<RepairRequest>,
) -> Response {
    freeze(&node).await;
    let document = RepairDocument {
        id: id.clone(),
        scope,
        state: RepairState::Queued,
        asked_at: WallMs(1),
        ended_at: None,
        keys_compared: 4,
        keys_repaired: 3,
        error: None,
    };
    node.worker.lock().unwrap().repairs.insert(id, document.clone());
    (StatusCode::ACCEPTED, Json(document)).into_response()
}

async fn repair_status(State(node): State<Arc<Node>>, Path(id): Path<String>) -> Response {
    freeze(&node).await;
    match node.worker.lock().unwrap().repairs.get(&id) {
        Some(repair) => Json(repair.clone()).into_response(),
        None => Problem::new(ErrorCode::NotFound, "no such repair").into_response(),
    }
}
