//! Client requests, from routers and from clients that know the ring. A router has asked for the scopes
//! of its client already; of a client that comes itself they are asked for here.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use dynamo_core::wire::coordinate::{ContentDto, GetMessage, PutMessage};
use dynamo_core::wire::frame::{FRAME_CONTENT_TYPE, FrameError, decode_frame, encode_frame};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue};
use serde::Serialize;
use service_kit::auth::scope::Scope;
use service_kit::http::error::{ErrorCode, Outcome, Problem};

use super::caller::Caller;
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
    caller: Caller,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let held = api.bodies.read(&headers, body).await?;
    let (message, parts) = decode_frame::<GetMessage>(held.bytes().clone()).map_err(bad_frame)?;
    parts.finish().map_err(bad_frame)?;
    may_get(&caller, &message)?;
    let key = message.key.clone();
    let ring = senders_ring(&headers);
    let request = Request::new(&api.node, &message.bucket, key, caller.peer().deadline, ring)?;
    let (answer, values) = coordinate_get::get(&api.node, &Arc::new(request), &message)
        .await
        .map_err(|problem| caller.shown(problem))?;
    frame(&answer, &values)
}

/// `POST /v1/coordinate/put`.
///
/// # Errors
/// The problem to answer with.
pub async fn put(
    State(api): State<Api>,
    caller: Caller,
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
    may_put(&caller, &message)?;
    let key = message.key.clone();
    let ring = senders_ring(&headers);
    let request = Request::new(&api.node, &message.bucket, key, caller.peer().deadline, ring)?;
    if api.node.gives_up(&request.view, &request.object) {
        // Its data here is being deleted: a new write must not get between.
        return Err(not_owner(&request));
    }
    if repeated::may_be_applied(&headers, api.node.clock.wall()) {
        repeated::catch_up(&api.node, &request, message.put_id).await;
    }
    let (answer, values) = coordinate_write::put(&api.node, &Arc::new(request), message, value)
        .await
        .map_err(|problem| caller.shown(problem))?;
    frame(&answer, &values)
}

/// What a router asks for on behalf of its clients.
fn may_get(caller: &Caller, message: &GetMessage) -> Result<(), Problem> {
    caller.permit(Scope::Read, &message.bucket)?;
    if message.explain { caller.permit_admin() } else { Ok(()) }
}

/// As [`may_get`]: what tells something of what is stored needs `read` too.
fn may_put(caller: &Caller, message: &PutMessage) -> Result<(), Problem> {
    let scope = match message.content {
        ContentDto::Value { .. } => Scope::Write,
        ContentDto::Tombstone => Scope::Delete,
    };
    caller.permit(scope, &message.bucket)?;
    if message.return_body || message.condition.is_some() {
        caller.permit(Scope::Read, &message.bucket)?;
    }
    Ok(())
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
