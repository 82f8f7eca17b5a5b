//! Operations of other coordinators on this node's replica.

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use dynamo_core::wire::replica::{ReplicaOp, decode_request, encode_response};
use http::HeaderMap;
use service_kit::http::error::{ErrorCode, Outcome, Problem};
use service_kit::peer::gate::PeerContext;

use super::coordinate::{bad_frame, frame_response};
use super::{Api, senders_ring};
use crate::replica::Terms;

/// `POST /v1/replica/batch`.
///
/// # Errors
/// The problem to answer with.
pub async fn batch(
    State(api): State<Api>,
    Extension(peer): Extension<PeerContext>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let held = api.bodies.read(&headers, body).await?;
    let ops = decode_request(held.bytes().clone()).map_err(bad_frame)?;
    let writes = ops.iter().any(|op| matches!(op, ReplicaOp::Merge { .. }));
    if writes && peer.sender.is_none() {
        // Records carry dots, and only nodes of the cluster mint those.
        return Err(Problem::new(ErrorCode::Forbidden, "only nodes may send replicas"));
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
