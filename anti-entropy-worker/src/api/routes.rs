//! The table of all routes of the worker: the axum router is built from it, and a test holds the matrix
//! of permissions against it.

use std::sync::Arc;

use dynamo_core::wire::log_level::LOG_LEVEL_PATH;
use dynamo_core::wire::worker::{
    ACCEPT_LOSS_PATH, ANTI_ENTROPY_PATH, PAUSE_PATH, REPAIR_PATH, RESUME_PATH, TRANSFERS_PATH,
};
use service_kit::http::routes::Host;
use service_kit::http::{log_level, routes};

use super::{repair, status, transfers};
use crate::worker::Worker;

/// Which pool of requests in flight a route belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pool {
    /// Requests of operators.
    Admin,
    /// None: probes are never shed.
    Never,
}

/// One route.
pub type Route = routes::Route<Arc<Worker>, Host, Pool>;

/// All routes.
#[must_use]
pub fn table() -> Vec<Route> {
    use Pool::{Admin, Never};
    let route = Route::new;
    vec![
        route(ANTI_ENTROPY_PATH, Admin).get(Host, status::anti_entropy),
        route(PAUSE_PATH, Admin).post(Host, status::pause),
        route(RESUME_PATH, Admin).post(Host, status::resume),
        route(LOG_LEVEL_PATH, Admin).get(Host, log_level::read).put(Host, log_level::change),
        route(REPAIR_PATH, Admin).post(Host, repair::ask),
        route("/v1/anti-entropy/repair/{id}", Admin)
            .get(Host, repair::get)
            .put(Host, repair::ask_as),
        route(TRANSFERS_PATH, Admin).get(Host, transfers::all),
        route(ACCEPT_LOSS_PATH, Admin).post(Host, transfers::accept_loss),
        route("/v1/ping", Never).get(Host, status::ping),
    ]
}
