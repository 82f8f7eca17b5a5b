//! Routes of the agent. Handlers decode, let [`crate::agent::Agent`] and the core decide, and
//! encode.
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

use std::sync::Arc;

use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post};
use dynamo_core::limits::PEER_MESSAGE_BYTES_MAX;
use dynamo_core::wire::gossip::GOSSIP_PATH;
use dynamo_core::wire::log_level::LOG_LEVEL_PATH;
use dynamo_core::wire::membership::{
    BUCKETS_PATH, CLUSTER_PATH, COMMIT_PATH, LOCAL_STORAGE_PATH, NODE_PATH, PLAN_PATH, STAGE_PATH,
};
use dynamo_core::wire::ring::RING_PATH;
use service_kit::http::admission::AdmissionPool;
use service_kit::http::body::{BodyLimits, BodyReader, ByteBudget};
use service_kit::http::error::{ErrorCode, Problem};
use service_kit::http::fallback::with_fallbacks;
use service_kit::http::log_level;
use service_kit::launch::{RunError, ServiceContext};
use service_kit::metrics::HttpMetrics;
use service_kit::peer::gate::{PeerGate, require_peer, require_signature};

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
    let pool = |name, limit| AdmissionPool::register(name, limit, &context.registry);
    let bodies = BodyReader::new(
        BodyLimits::up_to(PEER_MESSAGE_BYTES_MAX),
        ByteBudget::new(4 * PEER_MESSAGE_BYTES_MAX),
    );
    let state = ApiState { agent, bodies, stopping: context.shutdown.clone() };
    // Gossip messages carry their own identity, under a checksum; their check is in the core.
    let gossip = Router::new()
        .route(GOSSIP_PATH, post(gossip::receive))
        .route_layer(pool("gossip", GOSSIP_REQUESTS_MAX)?.layer())
        .route_layer(from_fn_with_state(gate.clone(), require_signature));
    let polls = Router::new()
        .route(RING_PATH, get(ring::snapshot))
        .route_layer(pool("ring", RING_POLLS_MAX)?.layer());
    let bucket_path = format!("{BUCKETS_PATH}/{{bucket}}");
    let admin = Router::new()
        .route(CLUSTER_PATH, get(cluster::document))
        .route(STAGE_PATH, post(cluster::stage).delete(cluster::drop_staged))
        .route(PLAN_PATH, get(cluster::plan))
        .route(COMMIT_PATH, post(cluster::commit))
        .route(LOG_LEVEL_PATH, get(log_level::read).put(log_level::change))
        .route(BUCKETS_PATH, get(buckets::list))
        .route(&bucket_path, get(buckets::get).put(buckets::put).delete(buckets::delete))
        .route_layer(pool("admin", ADMIN_REQUESTS_MAX)?.layer());
    let local = Router::new()
        .route(NODE_PATH, get(node::view))
        .route(LOCAL_STORAGE_PATH, post(node::storage));
    let gated = polls
        .merge(admin)
        .merge(local)
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
