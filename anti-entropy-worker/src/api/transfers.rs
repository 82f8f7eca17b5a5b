//! Partitions on the move.

use std::sync::Arc;

use axum::extract::State;
use dynamo_core::wire::worker::{AcceptLossRequest, TransfersDocument};
use service_kit::http::error::{ErrorCode, Problem};
use service_kit::http::json::{JsonAnswer, StrictJson};

use crate::worker::Worker;

/// `GET /v1/transfers`.
pub async fn all(State(worker): State<Arc<Worker>>) -> JsonAnswer<TransfersDocument> {
    JsonAnswer(worker.movement.document())
}

/// `POST /v1/transfers/accept-loss`.
///
/// # Errors
/// 422 for a list that makes no sense, 409 where a partition is not known to be without holder.
pub async fn accept_loss(
    State(worker): State<Arc<Worker>>,
    StrictJson(request): StrictJson<AcceptLossRequest>,
) -> Result<JsonAnswer<TransfersDocument>, Problem> {
    let refuse = |code, error: &dyn std::fmt::Display| Problem::new(code, error.to_string());
    request.check().map_err(|error| refuse(ErrorCode::Unprocessable, &error))?;
    worker
        .movement
        .accept_loss(&request.partitions)
        .map_err(|error| refuse(ErrorCode::Conflict, &error))?;
    let partitions = request.partitions.len();
    tracing::warn!(target: "audit", partitions, "the loss of partitions was accepted");
    Ok(JsonAnswer(worker.movement.document()))
}
