//! The second listener of every process: `/livez`, `/readyz` and `/metrics`, and nothing else.
//! Nothing here asks another process or the store, so it answers when everything else is stuck.

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::header::CONTENT_TYPE;
use prometheus::Registry;

use super::error::{ErrorCode, Problem};
use super::fallback::with_fallbacks;
use crate::metrics;
use crate::readiness::Readiness;

#[derive(Clone)]
struct AdminState {
    registry: Registry,
    readiness: Readiness,
}

/// The routes of the metrics and health listener.
pub fn router(registry: Registry, readiness: Readiness) -> Router {
    let routes = Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(scrape));
    with_fallbacks(routes).with_state(AdminState { registry, readiness })
}

/// Alive: the process runs its event loop.
async fn livez() -> &'static str {
    "ok\n"
}

/// Ready: every condition of the process holds; else 503 with those that do not.
async fn readyz(State(state): State<AdminState>) -> Response {
    let pending = state.readiness.pending();
    if pending.is_empty() {
        return "ok\n".into_response();
    }
    let reasons: Vec<String> =
        pending.iter().map(|(name, reason)| format!("{name}: {reason}")).collect();
    Problem::new(ErrorCode::NotReady, reasons.join("; ")).into_response()
}

async fn scrape(State(state): State<AdminState>) -> Response {
    match metrics::encode(&state.registry) {
        Ok(text) => ([(CONTENT_TYPE, metrics::TEXT_FORMAT)], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "metrics could not be encoded");
            Problem::new(ErrorCode::Internal, "metrics could not be encoded").into_response()
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use http::Request;
    use http_body_util::BodyExt;
    use tower::ServiceExt;

    use super::*;

    #[tokio::test]
    async fn health_follows_the_latch() {
        let readiness = Readiness::new(&["ring"]);
        let registry = Registry::new();
        metrics::register_build_info(&registry, "test").unwrap();
        let router = router(registry, readiness.clone());
        let ask = async |path: &str| {
            let request = Request::builder().uri(path).body(Body::empty()).unwrap();
            let response = router.clone().oneshot(request).await.unwrap();
            let status = response.status().as_u16();
            let body = response.into_body().collect().await.unwrap().to_bytes();
            (status, String::from_utf8(body.to_vec()).unwrap())
        };
        assert_eq!(ask("/livez").await.0, 200);
        let (status, body) = ask("/readyz").await;
        assert_eq!(status, 503);
        assert!(body.contains("ring: pending"), "{body}");
        readiness.set("ring");
        assert_eq!(ask("/readyz").await.0, 200);
        let (status, body) = ask("/metrics").await;
        assert_eq!(status, 200);
        assert!(body.contains("atoll_build_info"), "{body}");
        assert_eq!(ask("/v1/kv/a/b").await.0, 404);
    }
}
