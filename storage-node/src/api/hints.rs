//! Hints held for others, and waiting until they are gone.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use dynamo_core::entropy::Entropy;
use dynamo_core::id::NodeId;
use http::HeaderMap;
use serde::{Deserialize, Serialize};
use service_kit::http::error::{ErrorCode, Problem};
use service_kit::http::json::{parse_strict, require_json};
use service_kit::rng::OsEntropy;
use uuid::Uuid;

use super::Api;
use crate::node::{Node, store_problem};

/// The hints of one target.
#[derive(Debug, Serialize, Deserialize)]
pub struct TargetHints {
    /// Whose replicas they are.
    pub node: NodeId,
    /// Number of hints.
    pub hints: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// All hints of this node.
#[derive(Debug, Serialize, Deserialize)]
pub struct HintsDocument {
    /// Number of hints.
    pub hints: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Per target.
    pub targets: Vec<TargetHints>,
}

/// A sync point to set.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SyncPointRequest {
    /// Its id; a fresh one where absent. Asking again with the same id changes nothing.
    pub id: Option<Uuid>,
}

/// A sync point.
#[derive(Debug, Serialize, Deserialize)]
pub struct SyncPointDocument {
    /// Its id.
    pub id: Uuid,
    /// Hints that were there when it was set and still are.
    pub hints: u64,
    /// Whether none is left.
    pub done: bool,
}

/// `GET /v1/hints`.
pub async fn totals(State(api): State<Api>) -> Json<HintsDocument> {
    let by_target = api.node.hints.totals();
    let targets: Vec<TargetHints> = by_target
        .into_iter()
        .map(|(node, total)| TargetHints { node, hints: total.hints, bytes: total.bytes })
        .collect();
    let hints = targets.iter().map(|target| target.hints).sum();
    let bytes = targets.iter().map(|target| target.bytes).sum();
    Json(HintsDocument { hints, bytes, targets })
}

/// `POST /v1/hints/sync-point`.
///
/// # Errors
/// The problem to answer with.
pub async fn set_sync_point(
    State(api): State<Api>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<SyncPointDocument>, Problem> {
    let held = api.bodies.read(&headers, body).await?;
    let request = if held.bytes().is_empty() {
        SyncPointRequest::default()
    } else {
        require_json(&headers)?;
        parse_strict(held.bytes())?
    };
    let id = request.id.unwrap_or_else(|| fresh_id(&mut OsEntropy));
    api.node.handoff.sync_points.set(id, api.node.hints.generation());
    // Whoever waits for hints to drain wants it to happen now.
    api.node.handoff.wake();
    document(&api.node, id).await.map(Json)
}

/// `GET /v1/hints/sync-point/{id}`.
///
/// # Errors
/// The problem to answer with; 404 for a sync point that this process does not know.
pub async fn sync_point(
    State(api): State<Api>,
    Path(id): Path<String>,
) -> Result<Json<SyncPointDocument>, Problem> {
    let id = Uuid::try_parse(&id)
        .map_err(|_| Problem::new(ErrorCode::NotFound, "a sync point's id is a UUID"))?;
    document(&api.node, id).await.map(Json)
}

fn fresh_id(entropy: &mut impl Entropy) -> Uuid {
    let bits = (u128::from(entropy.next_u64()) << 64) | u128::from(entropy.next_u64());
    uuid::Builder::from_random_bytes(bits.to_be_bytes()).into_uuid()
}

async fn document(node: &Arc<Node>, id: Uuid) -> Result<SyncPointDocument, Problem> {
    let generation = node
        .handoff
        .sync_points
        .get(id)
        .ok_or_else(|| Problem::new(ErrorCode::NotFound, "no such sync point"))?;
    let counting = Arc::clone(node);
    let counted = tokio::task::spawn_blocking(move || counting.hints.born_before(generation));
    let hints = counted
        .await
        .map_err(|error| Problem::new(ErrorCode::Internal, error.to_string()))?
        .map_err(store_problem)?;
    Ok(SyncPointDocument { id, hints, done: hints == 0 })
}
