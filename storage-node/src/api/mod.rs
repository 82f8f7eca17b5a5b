//! The peer API: decode, call, encode. One file per resource; [`routes`] has the table of them all and
//! of what each needs, [`caller`] who asks.
//!
//! | module | routes |
//! |---|---|
//! | [`coordinate`] | `POST /v1/coordinate/get`, `POST /v1/coordinate/put` |
//! | [`replica`] | `POST /v1/replica/batch` |
//! | [`replica_json`] | `GET`, `PUT /v1/replica/kv/{bucket}/{key}`, for operators |
//! | [`hints`] | `GET /v1/hints`, `POST /v1/hints/sync-point`, `GET /v1/hints/sync-point/{id}` |
//! | [`tree`] | `POST /v1/tree/digests`, `POST /v1/tree/keys` |
//! | [`partitions`] | `GET /v1/partitions`, pages, hold, release and drop below it |
//! | [`reap`] | `POST /v1/reap/check`, `POST /v1/reap` |
//! | [`status`] | `GET /v1/ping`, `GET /v1/store`, `GET /v1/load`, `GET /v1/peers` |

pub mod caller;
pub mod coordinate;
pub mod hints;
pub mod partitions;
pub mod reap;
pub mod replica;
pub mod replica_json;
pub mod routes;
pub mod status;
pub mod tree;

use std::sync::Arc;

use axum::Router;
use axum::middleware::from_fn_with_state;
use dynamo_core::limits::PEER_MESSAGE_BYTES_MAX;
use dynamo_core::ring::RingVersion;
use dynamo_core::wire::headers::RING_VERSION;
use http::HeaderMap;
use prometheus::Registry;
use service_kit::auth::api_keys::ApiKeys;
use service_kit::http::admission::AdmissionPool;
use service_kit::http::body::{BodyLimits, BodyReader, ByteBudget};
use service_kit::http::error::{ErrorCode, Problem};
use service_kit::http::fallback::with_fallbacks;
use service_kit::http::routes::of_pool;
use service_kit::metrics::{HttpMetrics, MetricsError};
use service_kit::peer::gate::{PeerContext, PeerGate};

use self::caller::{Door, require_caller};
use self::routes::Pool;
use crate::config::LimitSettings;
use crate::limits::{ADMIN_REQUESTS_MAX, BACKGROUND_REQUESTS_MAX};
use crate::node::Node;

/// What the handlers share.
#[derive(Debug, Clone)]
pub struct Api {
    /// The node.
    pub node: Arc<Node>,
    /// Reads bodies within their bounds.
    pub bodies: BodyReader,
}

/// The routes of the peer API.
///
/// # Errors
/// When metrics cannot be registered, a mistake in the program.
pub fn router(
    node: Arc<Node>,
    gate: PeerGate,
    keys: Option<ApiKeys>,
    limits: &LimitSettings,
    registry: &Registry,
) -> Result<Router, MetricsError> {
    let bodies = BodyReader::new(BodyLimits::up_to(PEER_MESSAGE_BYTES_MAX), ByteBudget::default());
    let http = HttpMetrics::register(registry, "api", node.clock.clone())?;
    let pools = [
        (Pool::Coordinate, "coordinate", limits.coordinated),
        (Pool::Replica, "replica", limits.replica_messages),
        (Pool::Admin, "admin", ADMIN_REQUESTS_MAX),
        (Pool::Background, "background", BACKGROUND_REQUESTS_MAX),
    ];
    let mut router = of_pool(routes::table(), Pool::Never);
    for (pool, name, limit) in pools {
        let admission = AdmissionPool::register(name, limit, registry)?;
        router = router.merge(of_pool(routes::table(), pool).route_layer(admission.layer()));
    }
    // Clients that know the ring talk to their coordinator directly, and operators use curl: a
    // request without an identity passes, one with an identity is checked.
    let door = Door::new(gate.allowing_plain(), keys, &routes::table());
    let router = with_fallbacks(router.with_state(Api { node, bodies }));
    Ok(router.layer(from_fn_with_state(door, require_caller)).layer(http.layer()))
}

/// The ring that a message was made with, where it says so readably.
fn senders_ring(headers: &HeaderMap) -> Option<RingVersion> {
    headers.get(RING_VERSION)?.to_str().ok()?.parse().ok()
}

/// Runs what reads much on a thread that may block.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Problem> {
    tokio::task::spawn_blocking(work).await.map_err(|error| {
        tracing::error!(%error, "a request ended abnormally");
        Problem::new(ErrorCode::Internal, "the request ended abnormally")
    })
}

/// Records are given to, and removed on the word of, nodes of the cluster only.
fn only_nodes(peer: &PeerContext) -> Result<(), Problem> {
    if peer.sender.is_some() {
        return Ok(());
    }
    Err(Problem::new(ErrorCode::Forbidden, "only nodes of the cluster may do this"))
}
