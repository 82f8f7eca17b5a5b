//! One call to a storage node. Background work must never win against requests: every call says
//! what it is for, the node lets it wait for its admission, and one that is refused as `overloaded`
//! waits longer and longer before it is tried again.
//!
//! Invariant: what is called here may be called twice: everything the worker asks for is a read, a
//! merge, or an order that is the same when repeated.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use dynamo_core::admission::Kind;
use dynamo_core::cluster_view::ClusterView;
use dynamo_core::failure_view::FailureKind;
use dynamo_core::id::NodeId;
use dynamo_core::wire::frame::FrameError;
use dynamo_core::wire::headers::{BACKGROUND, RING_VERSION};
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use service_kit::http::error::{ErrorCode, Problem};
use service_kit::peer::{NotSentReason, PeerClient, PeerError, PeerRequest, PeerResponse};
use service_kit::rng::{OsEntropy, jittered};
use service_kit::shutdown::Shutdown;
use service_kit::time::Clock;
use tokio::task::JoinSet;

use super::reach::Reach;
use crate::limits::{
    CALL_TIMEOUT, OVERLOADED_PAUSE_MAX, OVERLOADED_PAUSE_MIN, OVERLOADED_TRIES_MAX, PROBE_TICK,
    PROBE_TIMEOUT,
};
use crate::metrics::CallMetrics;

/// The header that says what background work a call is for.
const X_ATOLL_BACKGROUND: HeaderName = HeaderName::from_static(BACKGROUND);

/// The header that names the ring which a call was made with.
const X_ATOLL_RING: HeaderName = HeaderName::from_static(RING_VERSION);

/// Whether a storage node is there.
const PING_PATH: &str = "/v1/ping";

/// Why a call has no usable answer.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The ring does not say where the node is, or there is no ring.
    #[error("its address is not known")]
    NoAddress,
    /// No answer.
    #[error(transparent)]
    Call(#[from] PeerError),
    /// The node refused.
    #[error("{0}")]
    Refused(Problem),
    /// The request is larger than a message may be.
    #[error("larger than a message")]
    TooLarge,
    /// The answer does not fit the question.
    #[error("a bad answer: {0}")]
    BadAnswer(String),
}

impl CallError {
    /// An answer that does not fit, with what is wrong about it.
    pub fn bad(error: impl fmt::Display) -> Self {
        Self::BadAnswer(error.to_string())
    }

    /// The code of the node's refusal, where it refused.
    #[must_use]
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Refused(problem) => Some(problem.code()),
            Self::NoAddress | Self::Call(_) | Self::TooLarge | Self::BadAnswer(_) => None,
        }
    }

    /// Whether request or answer is larger than a message may be.
    #[must_use]
    pub fn is_too_large(&self) -> bool {
        matches!(self, Self::TooLarge | Self::Call(PeerError::TooLarge { .. }))
            || self.code() == Some(ErrorCode::PayloadTooLarge)
    }

    /// Whether the node could not be talked to at all.
    #[must_use]
    pub fn is_unreachable(&self) -> bool {
        matches!(self, Self::NoAddress | Self::Call(_))
    }
}

impl From<FrameError> for CallError {
    /// What cannot be put into a message is too large for one.
    fn from(_: FrameError) -> Self {
        Self::TooLarge
    }
}

/// What a call asks for.
#[derive(Debug, Clone)]
pub struct Ask {
    /// What it is for.
    pub work: Kind,
    /// The method.
    pub method: Method,
    /// Path and query.
    pub path: String,
    /// Media type of the body.
    pub content_type: &'static str,
    /// The body.
    pub body: Bytes,
}

/// Calls storage nodes. Clones share everything.
#[derive(Clone)]
pub struct Caller {
    me: NodeId,
    local: Arc<str>,
    client: PeerClient,
    clock: Clock,
    view: Arc<ArcSwapOption<ClusterView>>,
    reach: Arc<Reach>,
    metrics: CallMetrics,
}

impl fmt::Debug for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Caller").field("me", &self.me).finish_non_exhaustive()
    }
}

impl Caller {
    /// Calls as `me`, whose own storage node is at `local`; the others are where `view` says.
    #[must_use]
    pub fn new(
        (me, local): (NodeId, &str),
        client: PeerClient,
        clock: Clock,
        view: Arc<ArcSwapOption<ClusterView>>,
        reach: Arc<Reach>,
        metrics: CallMetrics,
    ) -> Self {
        Self { me, local: local.into(), client, clock, view, reach, metrics }
    }

    /// The node of this worker.
    #[must_use]
    pub fn me(&self) -> NodeId {
        self.me
    }

    /// Who answers.
    #[must_use]
    pub fn reach(&self) -> &Reach {
        &self.reach
    }

    /// Calls `node`, and again while it is overloaded.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn call(&self, node: NodeId, ask: &Ask) -> Result<Bytes, CallError> {
        let mut pause = OVERLOADED_PAUSE_MIN;
        let mut tries = 1;
        loop {
            let refused = match self.once(node, ask).await {
                Err(CallError::Refused(problem)) => problem,
                other => return other,
            };
            if refused.code() != ErrorCode::Overloaded || tries >= OVERLOADED_TRIES_MAX {
                return Err(CallError::Refused(refused));
            }
            tries += 1;
            self.metrics.overloaded.inc();
            let asked = retry_after(&refused).unwrap_or(Duration::ZERO).min(OVERLOADED_PAUSE_MAX);
            tokio::time::sleep(jittered(pause.max(asked), 50, &mut OsEntropy)).await;
            pause = (pause * 2).min(OVERLOADED_PAUSE_MAX);
        }
    }

    async fn once(&self, node: NodeId, ask: &Ask) -> Result<Bytes, CallError> {
        let view = self.view.load_full().ok_or(CallError::NoAddress)?;
        let address = self.address(&view, node).ok_or(CallError::NoAddress)?;
        let mut headers = HeaderMap::with_capacity(16);
        let work = HeaderValue::from_static(ask.work.as_str());
        headers.insert(X_ATOLL_BACKGROUND, work);
        if !ask.body.is_empty() {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(ask.content_type));
        }
        if let Ok(ring) = HeaderValue::try_from(view.version().to_string()) {
            headers.insert(X_ATOLL_RING, ring);
        }
        let request = PeerRequest {
            address: &address,
            method: ask.method.clone(),
            path: &ask.path,
            headers,
            body: ask.body.clone(),
            timeout: CALL_TIMEOUT,
            idempotent: true,
        };
        let started = self.clock.mono();
        let answered = self.client.call(request).await;
        let now = self.clock.mono();
        let waited = now.since(started);
        let answer = answered.map_err(|error| {
            if let Some(kind) = evidence(&error, waited) {
                self.reach.on_failure(node, now, kind);
            }
            CallError::Call(error)
        })?;
        // A refusal is an answer, too: somebody is there.
        self.reach.on_success(node, now, waited);
        if node != self.me {
            self.metrics.count(ask.work, ask.body.len(), answer.body.len());
        }
        answer.into_success().map(|answer: PeerResponse| answer.body).map_err(CallError::Refused)
    }

    fn address(&self, view: &ClusterView, node: NodeId) -> Option<String> {
        if node == self.me {
            return Some(self.local.to_string());
        }
        view.node(node)?.addresses.storage.clone()
    }

    /// Probes whoever is due, until the stop.
    pub async fn probe(self, shutdown: Shutdown) {
        let mut probes = JoinSet::new();
        while shutdown.unless_requested(tokio::time::sleep(PROBE_TICK)).await.is_some() {
            // At most one probe per node is due at a time, so the set is as small as the ring.
            for node in self.reach.due_probes(self.clock.mono()) {
                let caller = self.clone();
                probes.spawn(async move {
                    let ok = caller.ping(node).await;
                    caller.reach.on_probe(node, caller.clock.mono(), ok);
                });
            }
            while probes.try_join_next().is_some() {}
        }
    }

    async fn ping(&self, node: NodeId) -> bool {
        let view = self.view.load_full();
        let Some(address) = view.and_then(|view| self.address(&view, node)) else { return false };
        let request = PeerRequest {
            address: &address,
            method: Method::GET,
            path: PING_PATH,
            headers: HeaderMap::new(),
            body: Bytes::new(),
            timeout: PROBE_TIMEOUT,
            idempotent: true,
        };
        self.client.call(request).await.is_ok_and(|answer| answer.status.is_success())
    }
}

/// What a failed call says about the node.
fn evidence(error: &PeerError, waited: Duration) -> Option<FailureKind> {
    match error {
        PeerError::NotSent(NotSentReason::Connect(_)) => Some(FailureKind::Refused),
        PeerError::NotSent(NotSentReason::ConnectTimeout) | PeerError::Deadline => {
            Some(FailureKind::Timeout { waited })
        }
        PeerError::Unknown(_) => Some(FailureKind::ConnectionLost),
        PeerError::NotSent(_) | PeerError::TooLarge { .. } | PeerError::BadResponse(_) => None,
    }
}

fn retry_after(problem: &Problem) -> Option<Duration> {
    let seconds = problem.headers().get(RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds))
}
