//! `/v1/buckets…`: properties of buckets, kept by the membership.

use axum::extract::{Request, State};
use axum::response::Response;
use bytes::Bytes;
use dynamo_core::params::BucketProps;
use http::Method;
use service_kit::http::error::{ErrorCode, Problem};
use service_kit::http::request_id::RequestId;

use super::{finish, json_body, no_parameters};
use crate::agent::AgentRequest;
use crate::dispatch::Refused;
use crate::request::path;
use crate::state::App;

/// Buckets with properties of their own
#[utoipa::path(get, path = "/v1/buckets", tag = "buckets",
    responses((status = 200, description = "The defaults, and the buckets that differ", body = Object)))]
pub async fn list(State(app): State<App>, request: Request) -> Response {
    let id = request.extensions().get::<RequestId>().cloned();
    let result = ask(&app, request, id.as_ref(), false).await;
    finish(&app, id.as_ref(), result)
}

/// Properties of a bucket
#[utoipa::path(get, path = "/v1/buckets/{bucket}", tag = "buckets",
    params(("bucket" = String, Path, description = "1 to 64 of a-z 0-9 . _ -")),
    responses((status = 200, description = "Its own properties, or the defaults", body = Object)))]
pub async fn get(State(app): State<App>, request: Request) -> Response {
    let id = request.extensions().get::<RequestId>().cloned();
    let result = ask(&app, request, id.as_ref(), true).await;
    finish(&app, id.as_ref(), result)
}

/// Set the properties of a bucket
#[utoipa::path(put, path = "/v1/buckets/{bucket}", tag = "buckets",
    params(("bucket" = String, Path, description = "1 to 64 of a-z 0-9 . _ -")),
    request_body(content = Object, description = "{\"n\":3,\"r\":\"quorum\",\"w\":\"quorum\"}"),
    responses((status = 200, description = "The properties", body = Object),
              (status = 422, description = "They do not fit together")))]
pub async fn put(State(app): State<App>, request: Request) -> Response {
    let id = request.extensions().get::<RequestId>().cloned();
    let result = ask(&app, request, id.as_ref(), true).await;
    finish(&app, id.as_ref(), result)
}

/// Give a bucket the default properties again
#[utoipa::path(delete, path = "/v1/buckets/{bucket}", tag = "buckets",
    params(("bucket" = String, Path, description = "1 to 64 of a-z 0-9 . _ -")),
    responses((status = 204, description = "It has the defaults")))]
pub async fn delete(State(app): State<App>, request: Request) -> Response {
    let id = request.extensions().get::<RequestId>().cloned();
    let result = ask(&app, request, id.as_ref(), true).await;
    finish(&app, id.as_ref(), result)
}

async fn ask(
    app: &App,
    request: Request,
    id: Option<&RequestId>,
    names_bucket: bool,
) -> Result<Response, Refused> {
    let (parts, body) = request.into_parts();
    no_parameters(parts.uri.query())?;
    let path = if names_bucket {
        let bucket = path::bucket(parts.uri.path(), path::BUCKETS_PREFIX)?;
        format!("{}{bucket}", path::BUCKETS_PREFIX)
    } else {
        parts.uri.path().to_owned()
    };
    let body = if parts.method == Method::PUT {
        let (props, bytes) = json_body::<BucketProps>(app, &parts.headers, body).await?;
        props.validated().map_err(|(name, error)| {
            Problem::new(ErrorCode::Unprocessable, format!("property '{name}': {error}"))
        })?;
        bytes
    } else {
        Bytes::new()
    };
    app.ask_agent(AgentRequest { method: parts.method, path: &path, body, if_match: None, id })
        .await
}
