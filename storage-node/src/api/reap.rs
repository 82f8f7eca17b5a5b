//! Removing what nobody needs any more: what this node has of some objects, and the orders that
//! follow from all nodes' answers.

use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use dynamo_core::wire::reap::{
    ReapAnswer, ReapCheckAnswer, ReapCheckRequest, ReapItem, ReapMessageError, ReapPresence,
    ReapRequest, ReapResult,
};
use http::HeaderMap;
use service_kit::http::error::{ErrorCode, Outcome, Problem};
use service_kit::http::json::{JsonAnswer, parse_strict, require_json};
use service_kit::peer::gate::PeerContext;

use super::{Api, blocking, only_nodes};
use crate::node::{Node, store_problem};
use crate::store::StoreError;

/// `POST /v1/reap/check`.
///
/// # Errors
/// The problem to answer with.
pub async fn check(
    State(api): State<Api>,
    Extension(peer): Extension<PeerContext>,
    headers: HeaderMap,
    body: Body,
) -> Result<JsonAnswer<ReapCheckAnswer>, Problem> {
    require_json(&headers)?;
    let held = api.bodies.read(&headers, body).await?;
    let request: ReapCheckRequest = parse_strict(held.bytes())?;
    let objects = request.objects().map_err(bad_message)?;
    let node = Arc::clone(&api.node);
    let ring = node.ring()?.version();
    let slice = node.slices.admit(&headers, peer.deadline).await?;
    let presence = blocking(move || {
        let _slice = slice;
        let of = |object| {
            let digest = node.store.presence(object)?;
            Ok(ReapPresence { digest, hint: node.hints.owes(object)? })
        };
        objects.iter().map(of).collect::<Result<Vec<_>, StoreError>>()
    })
    .await?
    .map_err(store_problem)?;
    let (store, epoch) = (api.node.epochs.file().store_id, api.node.epochs.actor().epoch);
    Ok(JsonAnswer(ReapCheckAnswer { ring, store, epoch, presence }))
}

/// `POST /v1/reap`.
///
/// # Errors
/// The problem to answer with; 409 under another ring.
pub async fn reap(
    State(api): State<Api>,
    Extension(peer): Extension<PeerContext>,
    headers: HeaderMap,
    body: Body,
) -> Result<JsonAnswer<ReapAnswer>, Problem> {
    require_json(&headers)?;
    only_nodes(&peer)?;
    let held = api.bodies.read(&headers, body).await?;
    let request: ReapRequest = parse_strict(held.bytes())?;
    api.node.same_ring(request.ring)?;
    let items = request.items().map_err(bad_message)?;
    let slice = api.node.slices.admit(&headers, peer.deadline).await?;
    let (allowed, mut results) = without_hints(&api.node, items).await?;
    let places: Vec<usize> = allowed.iter().map(|(place, _)| *place).collect();
    let items = allowed.into_iter().map(|(_, item)| item).collect();
    let done = api.node.store.reap(items).await.map_err(store_problem)?;
    drop(slice);
    for (place, result) in places.into_iter().zip(done) {
        if let Some(slot) = results.get_mut(place) {
            *slot = result;
        }
    }
    Ok(JsonAnswer(ReapAnswer { results }))
}

/// The items to which no hint of this node refers, with their places; and a result for each of all,
/// "changed" as long as nothing else is known.
async fn without_hints(
    node: &Arc<Node>,
    items: Vec<ReapItem>,
) -> Result<(Vec<(usize, ReapItem)>, Vec<ReapResult>), Problem> {
    let results = vec![ReapResult::Changed; items.len()];
    let node = Arc::clone(node);
    let allowed = blocking(move || {
        let mut allowed = Vec::with_capacity(items.len());
        for (place, item) in items.into_iter().enumerate() {
            if !node.hints.owes(&item.object)? {
                allowed.push((place, item));
            }
        }
        Ok::<_, StoreError>(allowed)
    });
    let allowed = allowed.await?.map_err(store_problem)?;
    Ok((allowed, results))
}

#[expect(clippy::needless_pass_by_value, reason = "used as the function of map_err")]
fn bad_message(error: ReapMessageError) -> Problem {
    Problem::new(ErrorCode::BadRequest, error.to_string()).outcome(Outcome::NotApplied)
}
