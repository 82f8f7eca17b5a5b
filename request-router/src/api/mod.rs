//! The routes of the client port. Handlers parse, forward and answer; what they are told to answer
//! is decided by the coordinator, the membership agent, or `dynamo-core`.
//!
//! | module | routes |
//! |---|---|
//! | [`kv`] | `/v1/kv/…`: objects |
//! | [`buckets`], [`cluster`] | `/v1/buckets…`, `/v1/cluster…`: passed to the membership agent |
//! | [`ring`], [`health`], [`hints`] | `/v1/ring…`, health, `/v1/hints…` |
//! | [`later`] | routes that are documented and not served by this version: 501 |

pub mod buckets;
pub mod cluster;
pub mod health;
pub mod hints;
pub mod kv;
pub mod later;
pub mod ring;

use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::HeaderMap;
use service_kit::http::error::Problem;
use service_kit::http::json::JsonAnswer;
use service_kit::http::request_id::RequestId;

use crate::answer::refusal;
use crate::dispatch::Refused;
use crate::request::query::Query;
use crate::state::App;

/// Turns a handler's result into its answer.
fn finish(
    app: &App,
    id: Option<&RequestId>,
    result: Result<impl IntoResponse, Refused>,
) -> Response {
    match result {
        Ok(answer) => answer.into_response(),
        Err(refused) => refusal::respond(refused, id, app.config.expose_replicas),
    }
}

/// Refuses any query string: the route has no parameters.
fn no_parameters(raw: Option<&str>) -> Result<(), Problem> {
    Query::parse(raw, &[]).map(drop)
}

/// The strictly parsed JSON body of an administrative request, and its bytes.
async fn json_body<T: serde::de::DeserializeOwned>(
    app: &App,
    headers: &HeaderMap,
    body: axum::body::Body,
) -> Result<(T, Bytes), Problem> {
    use service_kit::http::body::{BodyLimits, BodyReader};
    use service_kit::http::json::{parse_strict, require_json};
    require_json(headers)?;
    let limits = BodyLimits::up_to(crate::limits::ADMIN_BODY_BYTES_MAX);
    let held = BodyReader::new(limits, app.budget.clone()).read(headers, body).await?;
    let parsed = parse_strict(held.bytes())?;
    let (bytes, _reservation) = held.into_parts();
    Ok((parsed, bytes))
}

/// An answer in JSON that may not be kept by caches.
fn fresh_json(value: impl serde::Serialize) -> Response {
    let mut response = JsonAnswer(value).into_response();
    let no_store = http::HeaderValue::from_static("no-store");
    response.headers_mut().insert(http::header::CACHE_CONTROL, no_store);
    response
}
