//! The ring as this client last saw it. Polled from a random node, not pushed: the servers keep no
//! state for their clients, and their number costs the servers nothing but the poll itself
//! (paper section 6.4). A sign of staleness brings the next look forward.

use std::sync::{Arc, PoisonError, RwLock, Weak};
use std::time::{Duration, Instant};

use dynamo_core::cluster_view::ClusterView;
use dynamo_core::id::NodeId;
use dynamo_core::wire::ring::{RING_PATH, RingSnapshot};
use reqwest::header::ETAG;
use reqwest::{Method, StatusCode};
use tokio::sync::{Mutex, Notify};

use crate::client::AnyRouter;
use crate::error::{Error, echo};
use crate::limits::{RING_POLL, RING_REFRESH_PAUSE, TIMEOUT_DEFAULT};
use crate::transport::call::Caller;
use crate::transport::endpoints::Endpoints;
use crate::transport::exchange::{Http, Kind, Request};

/// A ring that was seen.
#[derive(Debug, Clone)]
struct Seen {
    view: Arc<ClusterView>,
    etag: Option<String>,
}

/// The last look, successful or not.
#[derive(Debug)]
struct Look {
    at: Instant,
    failure: Option<String>,
}

/// The latest ring, shared by all calls of a client.
#[derive(Debug)]
pub(super) struct RingView {
    routers: Arc<Caller>,
    /// The storage nodes, kept in step with the ring.
    nodes: Arc<Endpoints>,
    seen: RwLock<Option<Seen>>,
    /// Held while looking, so that there is one look at a time.
    looking: Mutex<Option<Look>>,
    wake: Arc<Notify>,
}

impl RingView {
    pub(super) fn new(routers: Arc<Caller>, nodes: Arc<Endpoints>) -> Self {
        Self {
            routers,
            nodes,
            seen: RwLock::new(None),
            looking: Mutex::new(None),
            wake: Arc::new(Notify::new()),
        }
    }

    pub(super) fn wake(&self) -> Arc<Notify> {
        Arc::clone(&self.wake)
    }

    /// The ring, looked up now if it has never been seen.
    ///
    /// # Errors
    /// [`Error::NoRing`] where no router tells it.
    pub(super) async fn current(&self) -> Result<Arc<ClusterView>, Error> {
        if let Some(seen) = self.seen() {
            return Ok(seen.view);
        }
        self.look().await.map_err(Error::NoRing)?;
        self.seen()
            .map(|seen| seen.view)
            .ok_or_else(|| Error::NoRing("no router has answered yet".to_owned()))
    }

    /// Notes a sign that the ring is out of date: a refusal by a node that we took for a replica,
    /// a member that does not answer, an unknown node. The next look happens at once.
    pub(super) fn is_stale(&self) {
        self.wake.notify_one();
    }

    /// The base URL of a node's storage process.
    pub(super) fn storage_base(http: &Http, view: &ClusterView, node: NodeId) -> Option<Arc<str>> {
        view.node(node)?.addresses.storage.as_deref().map(|address| http.base_of(address))
    }

    fn seen(&self) -> Option<Seen> {
        self.seen.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Looks at the ring of a random router. Concurrent looks are one, and a look right after
    /// another does nothing and ends as that one did.
    ///
    /// # Errors
    /// Why the ring is not known any better than before.
    async fn look(&self) -> Result<(), String> {
        let mut last = self.looking.lock().await;
        if let Some(look) = last.as_ref().filter(|look| look.at.elapsed() < RING_REFRESH_PAUSE) {
            return look.failure.clone().map_or(Ok(()), Err);
        }
        let failure = self.fetch().await.err().map(|error| error.to_string());
        *last = Some(Look { at: Instant::now(), failure: failure.clone() });
        failure.map_or(Ok(()), Err)
    }

    async fn fetch(&self) -> Result<(), Error> {
        let before = self.seen();
        let mut request = Request::new(Method::GET, RING_PATH, Kind::Read);
        if let Some(etag) = before.as_ref().and_then(|seen| seen.etag.as_deref()) {
            request.header("if-none-match", etag)?;
        }
        let router = AnyRouter(&self.routers);
        let answer = self.routers.call(&request, &router, TIMEOUT_DEFAULT).await?;
        match answer.status {
            StatusCode::NOT_MODIFIED => return Ok(()),
            StatusCode::OK => {}
            _ => return Err(Error::refused(&answer, Kind::Read)),
        }
        let unreadable = |reason: String| Error::NoRing(format!("unreadable ring: {reason}"));
        let snapshot: RingSnapshot = serde_json::from_slice(&answer.body)
            .map_err(|error| unreadable(format!("{error} in {}", echo(&answer.body))))?;
        let view =
            ClusterView::from_snapshot(snapshot).map_err(|error| unreadable(error.to_string()))?;
        if let Some(old) = &before {
            if old.view.cluster() != view.cluster() {
                return Err(Error::NoRing(
                    "a router belongs to another cluster than before".to_owned(),
                ));
            }
            // A router that lags behind must not take us back.
            if view.version().number < old.view.version().number {
                return Ok(());
            }
        }
        let etag = answer.text(ETAG.as_str()).map(str::to_owned);
        self.keep(Seen { view: Arc::new(view), etag });
        Ok(())
    }

    fn keep(&self, seen: Seen) {
        let version = seen.view.version();
        let view = &seen.view;
        let base = |node| Self::storage_base(&self.routers.http, view, node);
        self.nodes.replace(view.nodes().filter_map(|node| base(node.id)));
        *self.seen.write().unwrap_or_else(PoisonError::into_inner) = Some(seen);
        tracing::debug!(%version, "ring seen");
    }
}

/// Looks at the ring every [`RING_POLL`], and at once when woken, until the client is gone.
pub(super) async fn poll(view: Weak<RingView>, wake: Arc<Notify>) {
    let mut pause = Duration::ZERO;
    loop {
        let woken = tokio::select! {
            () = tokio::time::sleep(pause) => false,
            () = wake.notified() => true,
        };
        if woken {
            tokio::time::sleep(RING_REFRESH_PAUSE).await;
        }
        let Some(strong) = view.upgrade() else { return };
        if let Err(error) = strong.look().await {
            tracing::warn!(%error, "the ring could not be refreshed; the last one stays in use");
        }
        pause = RING_POLL;
    }
}
