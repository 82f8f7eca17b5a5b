//! Routes of the agent. Handlers decode, let [`crate::agent::Agent`] and the core decide, and
//! encode. [`routes`] has the table of them all.
//!
//! | module | routes |
//! |---|---|
//! | [`ring`] | `GET /v1/ring` |
//! | [`cluster`] | `GET /v1/cluster`, `…/plan`, `POST …/stage`, `…/commit`, `DELETE …/stage` |
//! | [`buckets`] | `/v1/buckets` |
//! | [`node`] | `GET /v1/node`, `POST /v1/local/storage` |
//! | [`gossip`] | `POST /v1/gossip` |
//!
//! `/v1/admin/log-level` is that of every process ([`service_kit::http::log_level`]).

pub mod buckets;
pub mod cluster;
pub mod gossip;
pub mod node;
pub mod ring;
pub mod routes;

use std::sync::Arc;

use axum::Router;
use axum::middleware::from_fn_with_state;
use dynamo_core::limits::PEER_MESSAGE_BYTES_MAX;
use service_kit::http::admission::AdmissionPool;
use service_kit::http::body::{BodyLimits, BodyReader, ByteBudget};
use service_kit::http::error::{ErrorCode, Problem};
use service_kit::http::fallback::with_fallbacks;
use service_kit::http::routes::of_pool;
use service_kit::launch::{RunError, ServiceContext};
use service_kit::metrics::HttpMetrics;
use service_kit::peer::gate::{PeerGate, require_peer, require_signature};

use self::routes::Pool;
use crate::agent::{Agent, ChangeError};
use crate::config::Config;

/// Ring polls that may wait at once: the processes of this host, and client libraries.
const RING_POLLS_MAX: usize = 2048;

/// Administrative requests at once; each may plan a whole ring.
const ADMIN_REQUESTS_MAX: usize = 16;

/// Gossip requests at once; a healthy node has one or two.
const GOSSIP_REQUESTS_MAX: usize = 64;

/// What handlers share.
#[derive(Debug, Clone)]
pub struct ApiState {
    agent: Arc<Agent>,
    bodies: BodyReader,
    stopping: service_kit::shutdown::Shutdown,
}

/// All routes.
///
/// # Errors
/// When metrics cannot be registered, a mistake in the program.
pub fn router(
    agent: Arc<Agent>,
    gate: &PeerGate,
    context: &ServiceContext<Config>,
) -> Result<Router, RunError> {
    let bodies = BodyReader::new(
        BodyLimits::up_to(PEER_MESSAGE_BYTES_MAX),
        ByteBudget::new(4 * PEER_MESSAGE_BYTES_MAX),
    );
    let state = ApiState { agent, bodies, stopping: context.shutdown.clone() };
    let pooled = |pool, name, limit| -> Result<Router<ApiState>, RunError> {
        let admission = AdmissionPool::register(name, limit, &context.registry)?;
        Ok(of_pool(routes::table(), pool).route_layer(admission.layer()))
    };
    // Gossip messages carry their own identity, under a checksum; their check is in the core.
    let gossip = pooled(Pool::Gossip, "gossip", GOSSIP_REQUESTS_MAX)?
        .route_layer(from_fn_with_state(gate.clone(), require_signature));
    let gated = pooled(Pool::Ring, "ring", RING_POLLS_MAX)?
        .merge(pooled(Pool::Admin, "admin", ADMIN_REQUESTS_MAX)?)
        .merge(of_pool(routes::table(), Pool::Local))
        .route_layer(from_fn_with_state(gate.allowing_plain(), require_peer));
    let http = HttpMetrics::register(&context.registry, "api", context.clock.clone())?;
    Ok(with_fallbacks(gated.merge(gossip)).layer(http.layer()).with_state(state))
}

/// How an agent's refusal is answered, for refusals that `refused` explains.
fn problem<E>(error: ChangeError<E>, refused: impl FnOnce(E) -> Problem) -> Problem {
    match error {
        ChangeError::Refused(error) => refused(error),
        ChangeError::Fenced => Problem::new(
            ErrorCode::StaleIncarnation,
            "a newer process speaks for this node; ask another node",
        ),
        ChangeError::Store(error) => {
            tracing::error!(%error, "a change could not be made durable");
            Problem::new(ErrorCode::StoreUnavailable, "the change could not be made durable")
        }
    }
}

/// No query parameters are known to most routes.
fn no_query(query: Option<&str>) -> Result<(), Problem> {
    match query.filter(|query| !query.is_empty()) {
        None => Ok(()),
        Some(query) => {
            let name = query.split(['=', '&']).next().unwrap_or_default();
            let shown = service_kit::http::error::escape_echo(name.as_bytes());
            Err(Problem::new(ErrorCode::UnknownParameter, format!("'{shown}' is not known here")))
        }
    }
}
