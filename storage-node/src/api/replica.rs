//! Operations of other coordinators on this node's replica, and reads of clients that coordinate
//! themselves. Those bring no records: a record carries dots and a causal past, which only nodes mint;
//! whoever could send any would overwrite whatever it likes.

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use dynamo_core::wire::headers::BACKGROUND;
use dynamo_core::wire::replica::{ReplicaOp, decode_request, encode_response};
use http::HeaderMap;
use service_kit::auth::scope::Scope;
use service_kit::http::error::{ErrorCode, Outcome, Problem};

use super::caller::Caller;
use super::coordinate::{bad_frame, frame_response};
use super::{Api, only_nodes, senders_ring};
use crate::replica::Terms;

/// `POST /v1/replica/batch`.
///
/// # Errors
/// The problem to answer with.
pub async fn batch(
    State(api): State<Api>,
    caller: Caller,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let held = api.bodies.read(&headers, body).await?;
    let ops = decode_request(held.bytes().clone()).map_err(bad_frame)?;
    let peer = caller.peer();
    for op in &ops {
        match op {
            ReplicaOp::Merge { .. } => only_nodes(peer)?,
            ReplicaOp::Read { object, .. } => {
                caller.permit(Scope::Read, object.bucket().as_str())?;
            }
        }
    }
    if caller.is_client() && headers.contains_key(BACKGROUND) {
        return Err(Problem::new(ErrorCode::Forbidden, "background work is for nodes"));
    }
    let slice = api.node.slices.admit(&headers, peer.deadline).await?;
    let terms = Terms {
        senders_ring: senders_ring(&headers),
        deadline: peer.deadline,
        stored_only: slice.is_some(),
    };
    let results = api.node.apply(ops, terms).await;
    let frame = encode_response(&results).map_err(|error| {
        tracing::error!(%error, "an answer could not be encoded");
        Problem::new(ErrorCode::Internal, "the answer could not be encoded")
            .outcome(Outcome::Unknown)
    })?;
    Ok(frame_response(frame))
}
