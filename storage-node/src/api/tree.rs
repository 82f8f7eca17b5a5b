//! Comparing replicas: digests of subtrees, and the keys of leaves (paper section 4.7).

use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use dynamo_core::wire::tree::{
    DigestsAnswer, DigestsRequest, KeysAnswer, KeysRequest, TreeMessageError,
};
use http::HeaderMap;
use service_kit::http::error::{ErrorCode, Problem};
use service_kit::http::json::{JsonAnswer, parse_strict, require_json};
use service_kit::peer::gate::PeerContext;

use super::{Api, blocking};
use crate::node::store_problem;

/// `POST /v1/tree/digests`.
///
/// # Errors
/// The problem to answer with.
pub async fn digests(
    State(api): State<Api>,
    Extension(peer): Extension<PeerContext>,
    headers: HeaderMap,
    body: Body,
) -> Result<JsonAnswer<DigestsAnswer>, Problem> {
    require_json(&headers)?;
    let held = api.bodies.read(&headers, body).await?;
    let request: DigestsRequest = parse_strict(held.bytes())?;
    let prefixes = request.prefixes().map_err(bad_message)?;
    let node = Arc::clone(&api.node);
    let ring = node.ring()?.version();
    let slice = node.slices.admit(&headers, peer.deadline).await?;
    let (state, digests) = blocking(move || {
        let _slice = slice;
        node.store.tree_digests(request.n, &prefixes)
    })
    .await?;
    let store = api.node.epochs.file().store_id;
    Ok(JsonAnswer(DigestsAnswer { ring, store, state, digests }))
}

/// `POST /v1/tree/keys`.
///
/// # Errors
/// The problem to answer with.
pub async fn keys(
    State(api): State<Api>,
    Extension(peer): Extension<PeerContext>,
    headers: HeaderMap,
    body: Body,
) -> Result<JsonAnswer<KeysAnswer>, Problem> {
    require_json(&headers)?;
    let held = api.bodies.read(&headers, body).await?;
    let request: KeysRequest = parse_strict(held.bytes())?;
    let (leaves, after) = request.parse().map_err(bad_message)?;
    let node = Arc::clone(&api.node);
    let slice = node.slices.admit(&headers, peer.deadline).await?;
    let page = blocking(move || {
        let _slice = slice;
        node.store.tree_keys(request.n, &leaves, after.as_ref())
    })
    .await?
    .map_err(store_problem)?;
    Ok(JsonAnswer(KeysAnswer::new(&page.keys, page.next.as_ref())))
}

#[expect(clippy::needless_pass_by_value, reason = "used as the function of map_err")]
fn bad_message(error: TreeMessageError) -> Problem {
    Problem::new(ErrorCode::BadRequest, error.to_string())
}
