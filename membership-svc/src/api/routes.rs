//! The table of all routes of the agent: the axum router is built from it, and a test holds the matrix of
//! permissions against it.

use dynamo_core::wire::gossip::GOSSIP_PATH;
use dynamo_core::wire::log_level::LOG_LEVEL_PATH;
use dynamo_core::wire::membership::{
    BUCKETS_PATH, CLUSTER_PATH, COMMIT_PATH, LOCAL_STORAGE_PATH, NODE_PATH, PLAN_PATH, STAGE_PATH,
};
use dynamo_core::wire::ring::RING_PATH;
use service_kit::http::routes::Host;
use service_kit::http::{log_level, routes};

use super::{ApiState, buckets, cluster, gossip, node, ring};

/// Which pool of requests in flight a route belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pool {
    /// Messages of other agents, which name their sender within.
    Gossip,
    /// Long polls of the ring.
    Ring,
    /// Requests of administrators.
    Admin,
    /// None: what the other processes of this host ask and report.
    Local,
}

/// One route.
pub type Route = routes::Route<ApiState, Host, Pool>;

/// All routes.
#[must_use]
pub fn table() -> Vec<Route> {
    use Pool::{Admin, Gossip, Local, Ring};
    let route = Route::new;
    vec![
        route(GOSSIP_PATH, Gossip).post(Host, gossip::receive),
        route(RING_PATH, Ring).get(Host, ring::snapshot),
        route(CLUSTER_PATH, Admin).get(Host, cluster::document),
        route(STAGE_PATH, Admin).post(Host, cluster::stage).delete(Host, cluster::drop_staged),
        route(PLAN_PATH, Admin).get(Host, cluster::plan),
        route(COMMIT_PATH, Admin).post(Host, cluster::commit),
        route(LOG_LEVEL_PATH, Admin).get(Host, log_level::read).put(Host, log_level::change),
        route(BUCKETS_PATH, Admin).get(Host, buckets::list),
        route("/v1/buckets/{bucket}", Admin)
            .get(Host, buckets::get)
            .put(Host, buckets::put)
            .delete(Host, buckets::delete),
        route(NODE_PATH, Local).get(Host, node::view),
        route(LOCAL_STORAGE_PATH, Local).post(Host, node::storage),
    ]
}
