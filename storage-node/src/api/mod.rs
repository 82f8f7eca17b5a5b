//! The peer API: decode, call, encode. One file per resource.
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
//! | [`status`] | `GET /v1/ping`, `GET /v1/store`, `GET /v1/load` |

pub mod coordinate;
pub mod hints;
pub mod partitions;
pub mod reap;
pub mod replica;
pub mod replica_json;
pub mod status;
pub mod tree;

use std::sync::Arc;

use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post};
use dynamo_core::limits::PEER_MESSAGE_BYTES_MAX;
use dynamo_core::ring::RingVersion;
use dynamo_core::wire::coordinate::{COORDINATE_GET_PATH, COORDINATE_PUT_PATH};
use dynamo_core::wire::headers::RING_VERSION;
use dynamo_core::wire::load::LOAD_PATH;
use dynamo_core::wire::partition::{
    PARTITION_PAGE_PATH, PARTITIONS_DROP_PATH, PARTITIONS_HOLD_PATH, PARTITIONS_PATH,
    PARTITIONS_RELEASE_PATH,
};
use dynamo_core::wire::reap::{REAP_CHECK_PATH, REAP_PATH};
use dynamo_core::wire::replica::REPLICA_BATCH_PATH;
use dynamo_core::wire::tree::{TREE_DIGESTS_PATH, TREE_KEYS_PATH};
use http::HeaderMap;
use prometheus::Registry;
use service_kit::http::admission::AdmissionPool;
use service_kit::http::body::{BodyLimits, BodyReader, ByteBudget};
use service_kit::http::error::{ErrorCode, Problem};
use service_kit::http::fallback::with_fallbacks;
use service_kit::metrics::{HttpMetrics, MetricsError};
use service_kit::peer::gate::{PeerContext, PeerGate, require_peer};

use crate::config::LimitSettings;
use crate::limits::{ADMIN_REQUESTS_MAX, BACKGROUND_REQUESTS_MAX};
use crate::node::Node;
use crate::peers::probe::PING_PATH;

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
    limits: &LimitSettings,
    registry: &Registry,
) -> Result<Router, MetricsError> {
    let bodies = BodyReader::new(BodyLimits::up_to(PEER_MESSAGE_BYTES_MAX), ByteBudget::default());
    let http = HttpMetrics::register(registry, "api", node.clock.clone())?;
    let pool = |name, limit| AdmissionPool::register(name, limit, registry);
    let (client, replicas) =
        (pool("coordinate", limits.coordinated)?, pool("replica", limits.replica_messages)?);
    let admin = pool("admin", ADMIN_REQUESTS_MAX)?;
    // Clients that know the ring talk to their coordinator directly, and operators use curl: a
    // request without an identity passes, one with an identity is checked.
    let gate = gate.allowing_plain();
    let coordinate = Router::new()
        .route(COORDINATE_GET_PATH, post(coordinate::get))
        .route(COORDINATE_PUT_PATH, post(coordinate::put))
        .route_layer(client.layer());
    let replica =
        Router::new().route(REPLICA_BATCH_PATH, post(replica::batch)).route_layer(replicas.layer());
    let operators = Router::new()
        .route("/v1/replica/kv/{bucket}/{*key}", get(replica_json::read).put(replica_json::write))
        .route("/v1/hints", get(hints::totals))
        .route("/v1/hints/sync-point", post(hints::set_sync_point))
        .route("/v1/hints/sync-point/{id}", get(hints::sync_point))
        .route("/v1/store", get(status::store))
        .route(LOAD_PATH, get(status::load))
        .route_layer(admin.layer());
    let beside = pool("background", BACKGROUND_REQUESTS_MAX)?;
    let background = Router::new()
        .route(TREE_DIGESTS_PATH, post(tree::digests))
        .route(TREE_KEYS_PATH, post(tree::keys))
        .route(PARTITIONS_PATH, get(partitions::list))
        .route(PARTITION_PAGE_PATH, post(partitions::page))
        .route(PARTITIONS_HOLD_PATH, post(partitions::hold))
        .route(PARTITIONS_RELEASE_PATH, post(partitions::release))
        .route(PARTITIONS_DROP_PATH, post(partitions::drop_page))
        .route(REAP_CHECK_PATH, post(reap::check))
        .route(REAP_PATH, post(reap::reap))
        .route_layer(beside.layer());
    // Probes are never shed: a node that is busy is not a node that is gone.
    let routes = coordinate
        .merge(replica)
        .merge(operators)
        .merge(background)
        .route(PING_PATH, get(status::ping))
        .with_state(Api { node, bodies });
    Ok(with_fallbacks(routes).layer(from_fn_with_state(gate, require_peer)).layer(http.layer()))
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
