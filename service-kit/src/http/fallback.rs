//! What a router answers where it has no route or no such method, as problems instead of axum's
//! empty bodies.

use axum::Router;
use axum::response::IntoResponse;

use super::error::{ErrorCode, Problem};

/// Gives `router` the shared answers for unknown paths and unknown methods. axum adds the `Allow`
/// header of the route to the latter. Call it last.
pub fn with_fallbacks<S: Clone + Send + Sync + 'static>(router: Router<S>) -> Router<S> {
    router.fallback(unknown_path).method_not_allowed_fallback(unknown_method)
}

async fn unknown_path() -> impl IntoResponse {
    Problem::new(ErrorCode::NotFound, "there is no such route")
}

async fn unknown_method() -> impl IntoResponse {
    Problem::new(ErrorCode::MethodNotAllowed, "the route has no such method")
}
