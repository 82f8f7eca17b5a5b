//! The table of all routes of the client port and of what each needs: the axum router and its guard
//! are built from it, and tests hold the API description and the matrix of permissions against it.

use axum::Router;
use axum::handler::Handler;
use axum::routing::{MethodFilter, MethodRouter, any};
use dynamo_core::wire::log_level::LOG_LEVEL_PATH;
use service_kit::auth::scope::Scope;

use crate::api::{
    anti_entropy, buckets, bulk, cluster, health, hints, kv, later, load, log_level, ring,
    transfers,
};
use crate::guard::Need;
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
    /// The methods it has, and what each needs.
    pub methods: Vec<(&'static str, Need)>,
    /// The pool it belongs to.
    pub pool: Pool,
    /// Whether it is a page for people, which tells nothing and needs no key. Pages are no part of
    /// the API, so their methods are not listed.
    pub page: bool,
    /// Its handlers.
    handlers: MethodRouter<App>,
}

/// A handler can only be given together with what it needs, so that none is served unguarded.
macro_rules! methods {
    ($($name:ident $text:literal $filter:ident;)*) => {
        impl Route {
            $(
                fn $name<H, T>(self, need: Need, handler: H) -> Self
                where
                    H: Handler<T, App>,
                    T: 'static,
                {
                    self.with($text, need, MethodFilter::$filter, handler)
                }
            )*
        }
    };
}

methods! {
    get "GET" GET;
    head "HEAD" HEAD;
    put "PUT" PUT;
    post "POST" POST;
    delete "DELETE" DELETE;
}

impl Route {
    fn new(pattern: &'static str, pool: Pool) -> Self {
        Self { pattern, methods: Vec::new(), pool, page: false, handlers: MethodRouter::new() }
    }

    fn page<H, T>(self, handler: H) -> Self
    where
        H: Handler<T, App>,
        T: 'static,
    {
        Self { page: true, handlers: self.handlers.get(handler), ..self }
    }

    fn with<H, T>(
        mut self,
        method: &'static str,
        need: Need,
        filter: MethodFilter,
        handler: H,
    ) -> Self
    where
        H: Handler<T, App>,
        T: 'static,
    {
        self.methods.push((method, need));
        self.handlers = self.handlers.on(filter, handler);
        self
    }
}

/// All routes.
#[must_use]
pub fn table() -> Vec<Route> {
    use Need::{Admin as Operator, InBucket, Known};
    use Pool::{Admin, Objects, Polls};
    let route = Route::new;
    vec![
        route(OBJECT_ROUTE, Objects)
            .get(InBucket(Scope::Read), kv::get)
            .head(InBucket(Scope::Read), kv::head)
            .put(InBucket(Scope::Write), kv::put)
            .delete(InBucket(Scope::Delete), kv::delete),
        // Documented as nothing: a path that names no object.
        Route { handlers: any(kv::empty_key), ..route("/v1/kv/{bucket}/", Objects) },
        route(BUCKET_ROUTE, Objects)
            .get(InBucket(Scope::List), kv::list)
            .post(InBucket(Scope::Write), kv::post),
        // Its items will ask for what each of them does.
        route("/v1/batch", Objects).post(Known, later::batch),
        route("/v1/buckets", Admin).get(Operator, buckets::list),
        route("/v1/buckets/{bucket}", Admin)
            .get(Operator, buckets::get)
            .put(Operator, buckets::put)
            .delete(Operator, buckets::delete),
        route("/v1/cluster", Admin).get(Known, cluster::cluster),
        route("/v1/cluster/health", Admin).get(Known, health::health),
        route("/v1/cluster/load", Admin).get(Known, load::load),
        route("/v1/cluster/peers", Admin).get(Known, load::peers),
        route("/v1/cluster/safe-to-stop", Admin).get(Known, health::safe_to_stop),
        route("/v1/cluster/stage", Admin)
            .post(Operator, cluster::stage)
            .delete(Operator, cluster::unstage),
        route("/v1/cluster/plan", Admin).get(Operator, cluster::plan),
        route("/v1/cluster/commit", Admin).post(Operator, cluster::commit),
        route("/v1/ring", Polls).get(Known, ring::ring),
        route("/v1/ring/preference", Admin).get(Known, ring::preference),
        route("/v1/hints", Admin).get(Operator, hints::hints),
        route("/v1/hints/sync-point", Admin).post(Operator, hints::set_sync_point),
        route("/v1/hints/sync-point/{id}", Admin).get(Operator, hints::sync_point),
        route("/v1/transfers", Admin).get(Operator, transfers::transfers),
        route("/v1/transfers/accept-loss", Admin).post(Operator, transfers::accept_loss),
        route("/v1/anti-entropy", Admin).get(Operator, anti_entropy::anti_entropy),
        route("/v1/anti-entropy/repair", Admin).post(Operator, anti_entropy::repair),
        route("/v1/anti-entropy/repair/{id}", Admin).get(Operator, anti_entropy::repair_status),
        route("/v1/admin/partitions/{partition}/records", Admin).post(Operator, bulk::records),
        route("/v1/admin/partitions/{partition}/keys", Admin).post(Operator, bulk::keys),
        route("/v1/admin/partitions/{partition}/digest", Admin).post(Operator, bulk::digest),
        route("/v1/admin/merge", Admin).post(Operator, bulk::merge),
        route(LOG_LEVEL_PATH, Admin)
            .get(Operator, log_level::read)
            .put(Operator, log_level::change),
        route("/v1/stats", Admin).get(Known, load::stats),
        route("/openapi.json", Admin).get(Known, openapi::document),
        route("/console", Admin).page(console::door),
        route("/console/", Admin).page(console::index),
        route("/console/{file}", Admin).page(console::by_name),
    ]
}

/// The routes of one pool as an axum router.
pub fn router(pool: Pool) -> Router<App> {
    table()
        .into_iter()
        .filter(|route| route.pool == pool)
        .fold(Router::new(), |router, route| router.route(route.pattern, route.handlers))
}
