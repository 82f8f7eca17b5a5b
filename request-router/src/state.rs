//! What all requests of one router share. Nothing here outlives the process: the router owns no
//! data, and any of them serves any request.

use std::sync::Arc;
use std::time::Duration;

use service_kit::audit::AuditLog;
use service_kit::auth::api_keys::ApiKeys;
use service_kit::http::body::ByteBudget;
use service_kit::http::error::{ErrorCode, Problem};
use service_kit::peer::PeerClient;
use service_kit::ring_watch::RingWatch;
use service_kit::shutdown::Shutdown;
use service_kit::time::Clock;

use crate::balance::Balance;
use crate::config::RouterConfig;
use crate::fan_out::HintsRound;
use crate::metrics::RouterMetrics;
use crate::ring_view::RingView;
use crate::stats::RecentRequests;

/// The router as its handlers see it.
#[derive(Debug, Clone)]
pub struct App(pub Arc<Router>);

impl std::ops::Deref for App {
    type Target = Router;

    fn deref(&self) -> &Router {
        &self.0
    }
}

/// The shared state of a router.
pub struct Router {
    /// The settings.
    pub config: Arc<RouterConfig>,
    /// The keys of clients; `None` where nobody is asked for one.
    pub keys: Option<ApiKeys>,
    /// Where changes of the cluster are entered.
    pub audit: AuditLog,
    /// The clock.
    pub clock: Clock,
    /// Calls to storage nodes and to the membership agent.
    pub peers: PeerClient,
    /// The newest ring.
    pub watch: RingWatch<RingView>,
    /// What is known of the storage nodes.
    pub balance: Balance,
    /// Bytes of request bodies that may be in memory.
    pub budget: ByteBudget,
    /// The metrics.
    pub metrics: RouterMetrics,
    /// What clients experienced lately.
    pub requests: RecentRequests,
    /// The last look at all storage nodes.
    pub hints: HintsRound,
    /// Ends long polls when the process stops.
    pub shutdown: Shutdown,
}

impl std::fmt::Debug for Router {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Router").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Router {
    /// The newest ring.
    ///
    /// # Errors
    /// 503 `not_ready` where none was ever seen.
    pub fn ring(&self) -> Result<Arc<RingView>, Problem> {
        self.watch.current().ok_or_else(|| {
            let detail = "this router has not learned the ring yet";
            Problem::new(ErrorCode::NotReady, detail).retry_after_s(1)
        })
    }

    /// Asks for the newest ring, and waits up to `wait` for one other than `known`.
    pub async fn newer_ring(&self, known: &Arc<RingView>, wait: Duration) -> Option<Arc<RingView>> {
        let mut changes = self.watch.subscribe();
        self.watch.refresh_now();
        let other = changes.wait_for(|ring| {
            ring.as_ref().is_some_and(|ring| ring.view.version() != known.view.version())
        });
        let ring = tokio::time::timeout(wait, other).await.ok()?.ok()?;
        ring.clone()
    }
}
