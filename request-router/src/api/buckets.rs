//! `/v1/buckets…`: properties of buckets, kept by the membership.

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use bytes::Bytes;
use dynamo_core::params::BucketProps;
use http::Method;
use service_kit::http::error::{ErrorCode, Problem};

use super::call::Call;
use crate::agent::AgentRequest;
use crate::dispatch::Refused;
use crate::request::path;
use crate::state::App;

/// Buckets with properties of their own
#[utoipa::path(get, path = "/v1/buckets", tag = "buckets",
    responses((status = 200, description = "The defaults, and the buckets that differ", body = Object)))]
pub async fn list(State(app): State<App>, request: Request) -> Response {
    let (call, body) = Call::begin(&app, request);
    let result = ask(&call, body, false).await;
    call.conclude(result)
}

/// Properties of a bucket
#[utoipa::path(get, path = "/v1/buckets/{bucket}", tag = "buckets",
    params(("bucket" = String, Path, description = "1 to 64 of a-z 0-9 . _ -")),
    responses((status = 200, description = "Its own properties, or the defaults", body = Object)))]
pub async fn get(State(app): State<App>, request: Request) -> Response {
    let (call, body) = Call::begin(&app, request);
    let result = ask(&call, body, true).await;
    call.conclude(result)
}

/// Set the properties of a bucket
#[utoipa::path(put, path = "/v1/buckets/{bucket}", tag = "buckets",
    params(("bucket" = String, Path, description = "1 to 64 of a-z 0-9 . _ -")),
    request_body(content = Object, description = "{\"n\":3,\"r\":\"quorum\",\"w\":\"quorum\"}"),
    responses((status = 200, description = "The properties", body = Object),
              (status = 422, description = "They do not fit together")))]
pub async fn put(State(app): State<App>, request: Request) -> Response {
    let (call, body) = Call::begin(&app, request);
    let result = ask(&call, body, true).await;
    call.conclude(result)
}

/// Give a bucket the default properties again
#[utoipa::path(delete, path = "/v1/buckets/{bucket}", tag = "buckets",
    params(("bucket" = String, Path, description = "1 to 64 of a-z 0-9 . _ -")),
    responses((status = 204, description = "It has the defaults")))]
pub async fn delete(State(app): State<App>, request: Request) -> Response {
    let (call, body) = Call::begin(&app, request);
    let result = ask(&call, body, true).await;
    call.conclude(result)
}

async fn ask(call: &Call<'_>, body: Body, names_bucket: bool) -> Result<Response, Refused> {
    call.no_parameters()?;
    let path = if names_bucket {
        let bucket = path::bucket(call.path(), path::BUCKETS_PREFIX)?;
        format!("{}{bucket}", path::BUCKETS_PREFIX)
    } else {
        call.path().to_owned()
    };
    let method = call.method().clone();
    let body = if method == Method::PUT {
        let (props, bytes) = call.json::<BucketProps>(body).await?;
        props.validated().map_err(|(name, error)| {
            Problem::new(ErrorCode::Unprocessable, format!("property '{name}': {error}"))
        })?;
        bytes
    } else {
        Bytes::new()
    };
    let ask = AgentRequest { method, path: &path, body, if_match: None, id: call.id() };
    call.app.ask_agent(ask).await
}
