//! Routes that are documented and not part of this version: 501 `not_implemented`, which says what
//! is missing instead of pretending that the path does not exist.

use axum::extract::{Request, State};
use axum::response::Response;
use service_kit::http::error::{ErrorCode, Outcome, Problem};
use service_kit::http::request_id::RequestId;

use super::{finish, no_parameters};
use crate::dispatch::Refused;
use crate::state::App;

/// Many operations in one request
///
/// Not part of this version.
#[utoipa::path(post, path = "/v1/batch", tag = "objects",
    responses((status = 501, description = "Not part of this version")))]
pub async fn batch(State(app): State<App>, request: Request) -> Response {
    refuse(&app, &request, "batches are not part of this version; send single requests")
}

/// Movements of partitions
///
/// Not part of this version.
#[utoipa::path(get, path = "/v1/transfers", tag = "cluster",
    responses((status = 501, description = "Not part of this version")))]
pub async fn transfers(State(app): State<App>, request: Request) -> Response {
    refuse(&app, &request, "moving partitions is not part of this version")
}

/// Progress of anti-entropy
///
/// Not part of this version.
#[utoipa::path(get, path = "/v1/anti-entropy", tag = "cluster",
    responses((status = 501, description = "Not part of this version")))]
pub async fn anti_entropy(State(app): State<App>, request: Request) -> Response {
    refuse(&app, &request, "anti-entropy is not part of this version")
}

fn refuse(app: &App, request: &Request, what: &str) -> Response {
    let id = request.extensions().get::<RequestId>();
    let refuse = || -> Result<Response, Problem> {
        no_parameters(request.uri().query())?;
        Err(Problem::new(ErrorCode::NotImplemented, what).outcome(Outcome::NotApplied))
    };
    finish(app, id, refuse().map_err(Refused::from))
}
