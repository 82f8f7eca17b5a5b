//! Status and control of the worker, for operators, the router and the console.
//!
//! | module | routes |
//! |---|---|
//! | [`status`] | `GET /v1/ping`, `GET /v1/anti-entropy`, `POST …/pause`, `POST …/resume` |
//! | [`repair`] | `POST /v1/anti-entropy/repair`, `PUT`, `GET …/repair/{id}` |
//! | [`transfers`] | `GET /v1/transfers`, `POST /v1/transfers/accept-loss` |
//!
//! `/v1/admin/log-level` is that of every process ([`service_kit::http::log_level`]).

pub mod repair;
pub mod status;
pub mod transfers;

use std::sync::Arc;

use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post};
use dynamo_core::wire::log_level::LOG_LEVEL_PATH;
use dynamo_core::wire::worker::{
    ACCEPT_LOSS_PATH, ANTI_ENTROPY_PATH, PAUSE_PATH, REPAIR_PATH, RESUME_PATH, TRANSFERS_PATH,
};
use prometheus::Registry;
use service_kit::http::admission::AdmissionPool;
use service_kit::http::fallback::with_fallbacks;
use service_kit::http::log_level;
use service_kit::metrics::{HttpMetrics, MetricsError};
use service_kit::peer::gate::{PeerGate, require_peer};

use crate::limits::ADMIN_REQUESTS_MAX;
use crate::worker::Worker;

/// The routes.
///
/// # Errors
/// When metrics cannot be registered, a mistake in the program.
pub fn router(
    worker: Arc<Worker>,
    gate: &PeerGate,
    registry: &Registry,
) -> Result<Router, MetricsError> {
    let http = HttpMetrics::register(registry, "api", worker.clock.clone())?;
    let admin = AdmissionPool::register("admin", ADMIN_REQUESTS_MAX, registry)?;
    let operators = Router::new()
        .route(ANTI_ENTROPY_PATH, get(status::anti_entropy))
        .route(PAUSE_PATH, post(status::pause))
        .route(RESUME_PATH, post(status::resume))
        .route(LOG_LEVEL_PATH, get(log_level::read).put(log_level::change))
        .route(REPAIR_PATH, post(repair::ask))
        .route(&format!("{REPAIR_PATH}/{{id}}"), get(repair::get).put(repair::ask_as))
        .route(TRANSFERS_PATH, get(transfers::all))
        .route(ACCEPT_LOSS_PATH, post(transfers::accept_loss))
        .route_layer(admin.layer());
    let routes = operators.route("/v1/ping", get(status::ping)).with_state(worker);
    // Operators use curl: a request without an identity passes, one with an identity is checked.
    let gate = gate.allowing_plain();
    Ok(with_fallbacks(routes).layer(from_fn_with_state(gate, require_peer)).layer(http.layer()))
}
