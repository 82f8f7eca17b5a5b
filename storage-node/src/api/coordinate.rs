//! Client requests, from routers and from clients that know the ring.

use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use dynamo_core::wire::coordinate::{ContentDto, GetMessage, PutMessage};
use dynamo_core::wire::frame::{FRAME_CONTENT_TYPE, FrameError, decode_frame, encode_frame};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue};
use serde::Serialize;
use service_kit::http::error::{ErrorCode, Outcome, Problem};
use service_kit::peer::gate::PeerContext;

use super::{Api, senders_ring};
use crate::coordinator::refusal::not_owner;
use crate::coordinator::repeated;
use crate::coordinator::request::Request;
use crate::coordinator::{get as coordinate_get, write as coordinate_write};

/// `POST /v1/coordinate/get`.
///
/// # Errors
/// The problem to answer with.
pub async fn get(
    State(api): State<Api>,
    Extension(peer): Extension<PeerContext>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let held = api.bodies.read(&headers, body).await?;
    let (message, parts) = decode_frame::<GetMessage>(held.bytes().clone()).map_err(bad_frame)?;
    parts.finish().map_err(bad_frame)?;
    let key = message.key.clone();
    let ring = senders_ring(&headers);
    let request = Request::new(&api.node, &message.bucket, key, peer.deadline, ring)?;
    let (answer, values) = coordinate_get::get(&api.node, &Arc::new(request), &message).await?;
    frame(&answer, &values)
}

/// `POST /v1/coordinate/put`.
///
/// # Errors
/// The problem to answer with.
pub async fn put(
    State(api): State<Api>,
    Extension(peer): Extension<PeerContext>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let held = api.bodies.read(&headers, body).await?;
    let (message, mut parts) =
        decode_frame::<PutMessage>(held.bytes().clone()).map_err(bad_frame)?;
    let value = match message.content {
        ContentDto::Value { len, .. } => parts.take(len).map_err(bad_frame)?,
        ContentDto::Tombstone => Bytes::new(),
    };
    parts.finish().map_err(bad_frame)?;
    let key = message.key.clone();
    let ring = senders_ring(&headers);
    let request = Request::new(&api.node, &message.bucket, key, peer.deadline, ring)?;
    if api.node.gives_up(&request.view, &request.object) {
        // Its data here is being deleted: a new write must not get between.
        return Err(not_owner(&request));
    }
    if repeated::may_be_applied(&headers, api.node.clock.wall()) {
        repeated::catch_up(&api.node, &request, message.put_id).await;
    }
    let (answer, values) =
        coordinate_write::put(&api.node, &Arc::new(request), message, value).await?;
    frame(&answer, &values)
}

/// The refusal of a message that is no frame.
#[expect(clippy::needless_pass_by_value, reason = "used as the function of map_err")]
pub(super) fn bad_frame(error: FrameError) -> Problem {
    Problem::new(ErrorCode::BadFrame, error.to_string())
}

/// An answer as a frame.
fn frame(header: &impl Serialize, values: &[Bytes]) -> Result<Response, Problem> {
    encode_frame(header, values).map(frame_response).map_err(|error| {
        tracing::error!(%error, "an answer could not be encoded");
        Problem::new(ErrorCode::Internal, "the answer could not be encoded")
            .outcome(Outcome::Unknown)
    })
}

/// A frame as an answer.
pub(super) fn frame_response(frame: Bytes) -> Response {
    ([(CONTENT_TYPE, HeaderValue::from_static(FRAME_CONTENT_TYPE))], frame).into_response()
}
