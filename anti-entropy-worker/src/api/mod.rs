//! Status and control of the worker, for operators, the router and the console. [`routes`] has the table
//! of all routes.
//!
//! | module | routes |
//! |---|---|
//! | [`status`] | `GET /v1/ping`, `GET /v1/anti-entropy`, `POST …/pause`, `POST …/resume` |
//! | [`repair`] | `POST /v1/anti-entropy/repair`, `PUT`, `GET …/repair/{id}` |
//! | [`transfers`] | `GET /v1/transfers`, `POST /v1/transfers/accept-loss` |
//!
//! `/v1/admin/log-level` is that of every process ([`service_kit::http::log_level`]).

pub mod repair;
pub mod routes;
pub mod status;
pub mod transfers;

use std::sync::Arc;

use axum::Router;
use axum::middleware::from_fn_with_state;
use prometheus::Registry;
use service_kit::http::admission::AdmissionPool;
use service_kit::http::fallback::with_fallbacks;
use service_kit::http::routes::of_pool;
use service_kit::metrics::{HttpMetrics, MetricsError};
use service_kit::peer::gate::{PeerGate, require_peer};

use self::routes::Pool;
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
    let operators = of_pool(routes::table(), Pool::Admin).route_layer(admin.layer());
    let routes = operators.merge(of_pool(routes::table(), Pool::Never)).with_state(worker);
    // Operators use curl: a request without an identity passes, one with an identity is checked.
    let gate = gate.allowing_plain();
    Ok(with_fallbacks(routes).layer(from_fn_with_state(gate, require_peer)).layer(http.layer()))
}
