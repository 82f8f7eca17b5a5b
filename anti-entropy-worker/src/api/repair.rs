//! Comparisons that somebody asks for.

use std::sync::Arc;

use axum::extract::{Path, State};
use dynamo_core::entropy::Entropy;
use dynamo_core::key::Bucket;
use dynamo_core::wire::worker::{RepairDocument, RepairRequest};
use http::StatusCode;
use service_kit::http::error::{ErrorCode, Problem};
use service_kit::http::json::{JsonAnswer, StrictJson};
use service_kit::rng::OsEntropy;
use uuid::Uuid;

use crate::worker::Worker;

/// `POST /v1/anti-entropy/repair`.
///
/// # Errors
/// 422 for a scope that makes no sense, 503 `not_ready` without a ring, 503 `overloaded` while too
/// many are waiting.
pub async fn ask(
    State(worker): State<Arc<Worker>>,
    StrictJson(scope): StrictJson<RepairRequest>,
) -> Result<(StatusCode, JsonAnswer<RepairDocument>), Problem> {
    take(&worker, fresh_id(&mut OsEntropy), scope)
}

/// `PUT /v1/anti-entropy/repair/{id}`: the same under the asker's id, so that one id names a repair
/// at every node. Asking again for one that is known changes nothing.
///
/// # Errors
/// As [`ask`]; 422 for an id that is no UUID.
pub async fn ask_as(
    State(worker): State<Arc<Worker>>,
    Path(id): Path<String>,
    StrictJson(scope): StrictJson<RepairRequest>,
) -> Result<(StatusCode, JsonAnswer<RepairDocument>), Problem> {
    let id: Uuid = id
        .parse()
        .map_err(|_| Problem::new(ErrorCode::Unprocessable, "the id of a repair is a UUID"))?;
    match worker.repairs.get(&id.to_string()) {
        Some(known) => Ok((StatusCode::ACCEPTED, JsonAnswer(known))),
        None => take(&worker, id, scope),
    }
}

fn take(
    worker: &Worker,
    id: Uuid,
    scope: RepairRequest,
) -> Result<(StatusCode, JsonAnswer<RepairDocument>), Problem> {
    let unprocessable = |reason: String| Problem::new(ErrorCode::Unprocessable, reason);
    scope.check().map_err(|error| unprocessable(error.to_string()))?;
    let view = worker
        .view
        .load_full()
        .ok_or_else(|| Problem::new(ErrorCode::NotReady, "no ring is known yet"))?;
    if let Some(partition) = scope.partition.filter(|p| !view.partitions().contains(*p)) {
        let count = view.partitions().get();
        let detail = format!("there is no partition {}, there are {count}", partition.0);
        return Err(unprocessable(detail));
    }
    if let Some(name) = &scope.bucket {
        name.parse::<Bucket>().map_err(|error| unprocessable(error.to_string()))?;
    }
    let repair = worker
        .repairs
        .ask(id, scope, worker.clock.wall())
        .map_err(|error| Problem::new(ErrorCode::Overloaded, error.to_string()))?;
    Ok((StatusCode::ACCEPTED, JsonAnswer(repair)))
}

/// `GET /v1/anti-entropy/repair/{id}`.
///
/// # Errors
/// 404 for one that this process does not know.
pub async fn get(
    State(worker): State<Arc<Worker>>,
    Path(id): Path<String>,
) -> Result<JsonAnswer<RepairDocument>, Problem> {
    let repair = worker.repairs.get(&id);
    repair.map(JsonAnswer).ok_or_else(|| Problem::new(ErrorCode::NotFound, "no such repair"))
}

fn fresh_id(entropy: &mut impl Entropy) -> Uuid {
    let bits = (u128::from(entropy.next_u64()) << 64) | u128::from(entropy.next_u64());
    uuid::Builder::from_random_bytes(bits.to_be_bytes()).into_uuid()
}
