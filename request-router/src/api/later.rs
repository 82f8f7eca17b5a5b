//! Routes that are documented and not part of this version: 501 `not_implemented`, which says what
//! is missing instead of pretending that the path does not exist.

use axum::extract::{Request, State};
use axum::response::Response;

use super::call::{Call, not_implemented};
use crate::state::App;

/// Many operations in one request
///
/// Not part of this version.
#[utoipa::path(post, path = "/v1/batch", tag = "objects",
    responses((status = 501, description = "Not part of this version")))]
pub async fn batch(State(app): State<App>, request: Request) -> Response {
    let (call, _) = Call::begin(&app, request);
    let refusal = "batches are not part of this version; send single requests";
    let result = call.no_parameters().and(Err::<Response, _>(not_implemented(refusal)));
    call.conclude(result)
}
