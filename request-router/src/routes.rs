//! The table of all routes of the client port: the axum router is built from it, and a test holds
//! the API description against it.

use axum::Router;
use axum::routing::{MethodRouter, any, delete, get, head, post, put};

use crate::api::{
    anti_entropy, buckets, bulk, cluster, health, hints, kv, later, load, ring, transfers,
};
use crate::state::App;
use crate::{console, openapi};

/// Where objects are read, written and deleted.
pub const OBJECT_ROUTE: &str = "/v1/kv/{bucket}/{*key}";

/// Where objects without a key are written.
pub const BUCKET_ROUTE: &str = "/v1/kv/{bucket}";

/// Which pool of requests in flight a route belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pool {
    /// Requests for objects.
    Objects,
    /// Requests of operators.
    Admin,
    /// Long polls.
    Polls,
}

/// One route.
#[derive(Debug)]
pub struct Route {
    /// The pattern, as axum knows it.
    pub pattern: &'static str,
    /// The methods it has.
    pub methods: &'static [&'static str],
    /// The pool it belongs to.
    pub pool: Pool,
    /// Its handlers.
    handlers: MethodRouter<App>,
}

/// All routes.
#[must_use]
pub fn table() -> Vec<Route> {
    use Pool::{Admin, Objects, Polls};
    let object = get(kv::get).merge(head(kv::head)).merge(put(kv::put)).merge(delete(kv::delete));
    let route = |pattern, methods, pool, handlers| Route { pattern, methods, pool, handlers };
    vec![
        route(OBJECT_ROUTE, &["GET", "HEAD", "PUT", "DELETE"], Objects, object),
        // Documented as nothing: a path that names no object.
        route("/v1/kv/{bucket}/", &[], Objects, any(kv::empty_key)),
        route(BUCKET_ROUTE, &["GET", "POST"], Objects, get(kv::list).post(kv::post)),
        route("/v1/batch", &["POST"], Objects, post(later::batch)),
        route("/v1/buckets", &["GET"], Admin, get(buckets::list)),
        route(
            "/v1/buckets/{bucket}",
            &["GET", "PUT", "DELETE"],
            Admin,
            get(buckets::get).put(buckets::put).delete(buckets::delete),
        ),
        route("/v1/cluster", &["GET"], Admin, get(cluster::cluster)),
        route("/v1/cluster/health", &["GET"], Admin, get(health::health)),
        route("/v1/cluster/load", &["GET"], Admin, get(load::load)),
        route("/v1/cluster/safe-to-stop", &["GET"], Admin, get(health::safe_to_stop)),
        route(
            "/v1/cluster/stage",
            &["POST", "DELETE"],
            Admin,
            post(cluster::stage).delete(cluster::unstage),
        ),
        route("/v1/cluster/plan", &["GET"], Admin, get(cluster::plan)),
        route("/v1/cluster/commit", &["POST"], Admin, post(cluster::commit)),
        route("/v1/ring", &["GET"], Polls, get(ring::ring)),
        route("/v1/ring/preference", &["GET"], Admin, get(ring::preference)),
        route("/v1/hints", &["GET"], Admin, get(hints::hints)),
        route("/v1/hints/sync-point", &["POST"], Admin, post(hints::set_sync_point)),
        route("/v1/hints/sync-point/{id}", &["GET"], Admin, get(hints::sync_point)),
        route("/v1/transfers", &["GET"], Admin, get(transfers::transfers)),
        route("/v1/transfers/accept-loss", &["POST"], Admin, post(transfers::accept_loss)),
        route("/v1/anti-entropy", &["GET"], Admin, get(anti_entropy::anti_entropy)),
        route("/v1/anti-entropy/repair", &["POST"], Admin, post(anti_entropy::repair)),
        route("/v1/anti-entropy/repair/{id}", &["GET"], Admin, get(anti_entropy::repair_status)),
        route("/v1/admin/partitions/{partition}/records", &["POST"], Admin, post(bulk::records)),
        route("/v1/admin/partitions/{partition}/keys", &["POST"], Admin, post(bulk::keys)),
        route("/v1/admin/partitions/{partition}/digest", &["POST"], Admin, post(bulk::digest)),
        route("/v1/admin/merge", &["POST"], Admin, post(bulk::merge)),
        route("/v1/stats", &["GET"], Admin, get(load::stats)),
        route("/openapi.json", &["GET"], Admin, get(openapi::document)),
        // Documented as nothing: pages for people are no part of the API.
        route("/console", &[], Admin, get(console::door)),
        route("/console/", &[], Admin, get(console::index)),
        route("/console/{file}", &[], Admin, get(console::by_name)),
    ]
}

/// The routes of one pool as an axum router.
pub fn router(pool: Pool) -> Router<App> {
    table()
        .into_iter()
        .filter(|route| route.pool == pool)
        .fold(Router::new(), |router, route| router.route(route.pattern, route.handlers))
}
