//! Puts a router together and runs it: ring watch, probes, listeners.

use std::sync::Arc;

use axum::Router as HttpRouter;
use axum::middleware::from_fn_with_state;
use dynamo_core::id::{Incarnation, NodeId};
use dynamo_core::wire::ring::RING_PATH;
use service_kit::audit::AuditLog;
use service_kit::auth::api_keys::ApiKeys;
use service_kit::config::Invalid;
use service_kit::datadir::create_private_dir;
use service_kit::http::admission::AdmissionPool;
use service_kit::http::body::ByteBudget;
use service_kit::http::fallback::with_fallbacks;
use service_kit::http::server::ServerLimits;
use service_kit::launch::{RunError, Service, ServiceContext};
use service_kit::metrics::HttpMetrics;
use service_kit::peer::{PeerIdentity, ProcessRole};
use service_kit::ring_watch::{RingWatch, RingWatchConfig, RingWatchDeps, RingWatchMetrics};

use crate::audit::{Changes, enter_changes};
use crate::balance::Balance;
use crate::config::RouterConfig;
use crate::fan_out::HintsRound;
use crate::guard::{Guard, require_key};
use crate::metrics::RouterMetrics;
use crate::probe;
use crate::ring_view::RingView;
use crate::routes::{self, Pool};
use crate::state::{App, Router};
use crate::stats::{self, RecentRequests};

/// The condition of readiness that this service adds.
const RING: &str = "ring";

/// File in the data directory with the last ring seen.
const RING_CACHE: &str = "ring.json";

/// The request-router as a service.
#[derive(Debug)]
pub struct RequestRouter;

impl Service for RequestRouter {
    type Config = RouterConfig;
    const NAME: &'static str = "request-router";

    async fn run(context: ServiceContext<RouterConfig>) -> Result<(), RunError> {
        context.readiness.require(RING);
        let listeners = context.bind()?;
        let http = HttpMetrics::register(&context.registry, "api", context.clock.clone())?;
        let app = assemble(&context, http.clone())?;
        let follower = tokio::spawn(follow_ring(app.clone(), context.readiness.clone()));
        let prober = tokio::spawn(probe::run(app.clone()));
        let keys = app.keys.clone().map(|keys| keys.follow(context.shutdown.clone()));
        let keys = tokio::spawn(async {
            if let Some(following) = keys {
                following.await
            }
        });
        let counter = tokio::spawn(stats::run(app.clone()));
        let api = http_router(&context, app, &http)?;
        let served = context.serve_pair(listeners, api, ServerLimits::client()).await;
        for task in [follower, prober, counter, keys] {
            if let Err(error) = task.await {
                tracing::error!(%error, "a background task ended unexpectedly");
            }
        }
        served
    }
}

/// The shared state, with the ring watch running.
fn assemble(context: &ServiceContext<RouterConfig>, http: HttpMetrics) -> Result<App, RunError> {
    let config = Arc::clone(&context.config);
    let cache_file = match &config.data_dir {
        Some(dir) => {
            create_private_dir(dir).map_err(|e| RunError::io("data_dir", e))?;
            Some(dir.join(RING_CACHE))
        }
        None => None,
    };
    // A router is no node of the ring: its id only tells its messages from those of others.
    let me = NodeId::random(&mut { context.entropy });
    let identity = PeerIdentity::new(me, Incarnation(0), ProcessRole::Router, None)
        .proven_by(context.peer_auth.clone());
    let clock = context.clock.clone();
    let peers = context.peer_client(identity);
    let mut watched = RingWatchConfig::new(vec![config.membership.clone()], RING_PATH);
    watched.cache_file = cache_file;
    let deps = RingWatchDeps {
        clock: clock.clone(),
        metrics: RingWatchMetrics::register(&context.registry)?,
        shutdown: context.shutdown.clone(),
    };
    let version = |ring: &RingView| ring.view.version().number;
    let audit = match &config.audit_file {
        Some(file) => AuditLog::open(file, clock.clone())
            .map_err(|error| RunError::Config(Invalid::new("audit_file", error.to_string())))?,
        None => AuditLog::off(),
    };
    let reloads = context.reload_metrics.clone();
    let keys =
        ApiKeys::of_config(&config.auth, clock.clone(), &context.registry, reloads, audit.clone())?;
    let watch = RingWatch::start(watched, peers.clone(), deps, RingView::parse, version);
    Ok(App(Arc::new(Router {
        budget: ByteBudget::new(config.limits.body_bytes),
        balance: Balance::new(clock.mono()),
        metrics: RouterMetrics::register(&context.registry)?,
        requests: RecentRequests::new(http),
        hints: HintsRound::default(),
        shutdown: context.shutdown.clone(),
        config,
        keys,
        audit,
        clock,
        peers,
        watch,
    })))
}

/// The routes of the client port, each in its pool, measured.
fn http_router(
    context: &ServiceContext<RouterConfig>,
    app: App,
    http: &HttpMetrics,
) -> Result<HttpRouter, RunError> {
    let limits = &app.config.limits;
    let pools = [
        (Pool::Objects, "objects", limits.requests),
        (Pool::Admin, "admin", limits.admin_requests),
        (Pool::Polls, "polls", limits.long_polls),
    ];
    let mut router = HttpRouter::new();
    for (pool, name, limit) in pools {
        let admission = AdmissionPool::register(name, limit, &context.registry)?;
        router = router.merge(routes::router(pool).route_layer(admission.layer()));
    }
    let mut router = with_fallbacks(router);
    if app.audit.is_on() {
        let changes = Changes::new(app.audit.clone());
        router = router.layer(from_fn_with_state(changes, enter_changes));
    }
    if let Some(keys) = app.keys.clone() {
        router = router.layer(from_fn_with_state(Guard::new(keys), require_key));
    }
    Ok(router.layer(http.layer()).with_state(app))
}

/// Takes over what each new ring says: the cluster that our messages name, who is known at all,
/// and that requests can be routed.
async fn follow_ring(app: App, readiness: service_kit::readiness::Readiness) {
    let mut changes = app.watch.subscribe();
    loop {
        if let Some(ring) = changes.borrow_and_update().clone() {
            let identity = app.peers.identity();
            if identity.cluster() != Some(ring.view.cluster()) {
                identity.set_cluster(ring.view.cluster());
            }
            app.balance.retain(|node| ring.view.node(node).is_some());
            readiness.set(RING);
        }
        match app.shutdown.unless_requested(changes.changed()).await {
            Some(Ok(())) => {}
            Some(Err(_)) | None => return,
        }
    }
}
