//! The table of all routes of the peer API and of what each needs: the axum router and its door are
//! built from it, and a test holds the matrix of permissions against it.

use dynamo_core::wire::coordinate::{COORDINATE_GET_PATH, COORDINATE_PUT_PATH};
use dynamo_core::wire::load::LOAD_PATH;
use dynamo_core::wire::log_level::LOG_LEVEL_PATH;
use dynamo_core::wire::partition::{
    PARTITION_PAGE_PATH, PARTITIONS_DROP_PATH, PARTITIONS_HOLD_PATH, PARTITIONS_PATH,
    PARTITIONS_RELEASE_PATH,
};
use dynamo_core::wire::peers::PEERS_PATH;
use dynamo_core::wire::reap::{REAP_CHECK_PATH, REAP_PATH};
use dynamo_core::wire::replica::REPLICA_BATCH_PATH;
use dynamo_core::wire::tree::{TREE_DIGESTS_PATH, TREE_KEYS_PATH};

use service_kit::http::{log_level, routes};

use super::{Api, coordinate, hints, partitions, reap, replica, replica_json, status, tree};
use crate::peers::probe::PING_PATH;

/// What a method of a route needs, where anybody has to prove anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// What a host of the cluster proves itself by: its signature, its certificate, or both.
    Host,
    /// That, or any valid API key: it tells nothing of what is stored.
    Known,
    /// That, or an API key with the scopes for what the message says. The handler asks for them, as
    /// the bucket is in the message.
    Permitted,
}

/// Which pool of requests in flight a route belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pool {
    /// Client requests to coordinate.
    Coordinate,
    /// Messages of other coordinators.
    Replica,
    /// Requests of operators.
    Admin,
    /// Exchanges, transfers and reaping.
    Background,
    /// None: probes are never shed, as a node that is busy is not a node that is gone.
    Never,
}

/// One route.
pub type Route = routes::Route<Api, Need, Pool>;

/// All routes.
#[must_use]
pub fn table() -> Vec<Route> {
    use Need::{Host, Known, Permitted};
    use Pool::{Admin, Background, Coordinate, Never, Replica};
    let route = Route::new;
    vec![
        route(COORDINATE_GET_PATH, Coordinate).post(Permitted, coordinate::get),
        route(COORDINATE_PUT_PATH, Coordinate).post(Permitted, coordinate::put),
        route(REPLICA_BATCH_PATH, Replica).post(Permitted, replica::batch),
        route("/v1/replica/kv/{bucket}/{*key}", Admin)
            .get(Host, replica_json::read)
            .put(Host, replica_json::write),
        route("/v1/hints", Admin).get(Host, hints::totals),
        route("/v1/hints/sync-point", Admin).post(Host, hints::set_sync_point),
        route("/v1/hints/sync-point/{id}", Admin).get(Host, hints::sync_point),
        route("/v1/store", Admin).get(Host, status::store),
        route(LOAD_PATH, Admin).get(Host, status::load),
        route(PEERS_PATH, Admin).get(Host, status::peers),
        route(LOG_LEVEL_PATH, Admin).get(Host, log_level::read).put(Host, log_level::change),
        route(TREE_DIGESTS_PATH, Background).post(Host, tree::digests),
        route(TREE_KEYS_PATH, Background).post(Host, tree::keys),
        route(PARTITIONS_PATH, Background).get(Host, partitions::list),
        route(PARTITION_PAGE_PATH, Background).post(Host, partitions::page),
        route(PARTITIONS_HOLD_PATH, Background).post(Host, partitions::hold),
        route(PARTITIONS_RELEASE_PATH, Background).post(Host, partitions::release),
        route(PARTITIONS_DROP_PATH, Background).post(Host, partitions::drop_page),
        route(REAP_CHECK_PATH, Background).post(Host, reap::check),
        route(REAP_PATH, Background).post(Host, reap::reap),
        route(PING_PATH, Never).get(Known, status::ping),
    ]
}
