//! What this process thinks of its peers: the pure failure view behind a lock, fed by its own
//! traffic alone, and the out-of-band probes by which a peer is trusted again.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dynamo_core::failure_view::{FailureKind, FailureView, PeerChange};
use dynamo_core::id::NodeId;
use dynamo_core::time::Mono;
use dynamo_core::wire::peers::{PeerMark, PeerSight};
use service_kit::rng::OsEntropy;
use tokio::sync::Notify;

use super::times::PeerTimes;
use crate::metrics::PeerMetricsSet;

/// The failure view of this process.
#[derive(Debug)]
pub struct PeerHealth {
    view: Mutex<FailureView>,
    recovered: Mutex<BTreeSet<NodeId>>,
    wake: Notify,
    metrics: PeerMetricsSet,
    /// How long the peers took lately.
    pub times: PeerTimes,
}

impl PeerHealth {
    /// A view in which every peer is trusted.
    #[must_use]
    pub fn new(metrics: PeerMetricsSet) -> Self {
        Self {
            view: Mutex::new(FailureView::new()),
            recovered: Mutex::default(),
            wake: Notify::new(),
            times: PeerTimes::new(metrics.p99.clone()),
            metrics,
        }
    }

    /// Looks at the view, for example to start an operation.
    pub fn with<T>(&self, look: impl FnOnce(&FailureView) -> T) -> T {
        look(&self.lock())
    }

    /// A peer answered.
    pub fn on_success(&self, node: NodeId, now: Mono, latency: Duration) {
        self.times.observe(node, latency);
        let change = self.lock().on_success(node, now, latency);
        self.note(change);
    }

    /// A peer failed.
    pub fn on_failure(&self, node: NodeId, now: Mono, kind: FailureKind) {
        if let FailureKind::Timeout { waited } = kind {
            self.times.observe(node, waited);
        }
        let change = self.lock().on_failure(node, now, kind, &mut OsEntropy);
        self.note(change);
    }

    /// A peer took longer than it was given.
    pub fn on_overdue(&self, node: NodeId, now: Mono) {
        self.lock().on_overdue(node, now);
    }

    /// A probe ended.
    pub fn on_probe(&self, node: NodeId, now: Mono, ok: bool) {
        let change = self.lock().on_probe(node, now, ok, &mut OsEntropy);
        self.note(change);
    }

    /// The peers to probe now.
    pub fn due_probes(&self, now: Mono) -> Vec<NodeId> {
        self.lock().due_probes(now, &mut OsEntropy)
    }

    /// Forgets peers that are not part of the ring any more.
    pub fn retain(&self, keep: impl Fn(NodeId) -> bool) {
        self.lock().retain(&keep);
        self.times.retain(keep);
    }

    /// What this node measured of each of `peers`, and thinks of it.
    #[must_use]
    pub fn sights(&self, peers: impl Iterator<Item = NodeId>) -> Vec<PeerSight> {
        let recent = self.times.recent();
        let view = self.lock();
        let micros = |took: Duration| u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let sight = |node| {
            let took = recent.get(&node).copied().unwrap_or_default();
            PeerSight {
                node,
                state: PeerMark::of(&view, node),
                messages: took.messages,
                p50_us: took.p50.map(micros),
                p99_us: took.p99.map(micros),
            }
        };
        peers.map(sight).collect()
    }

    /// The peers that came back since the last call.
    pub fn take_recovered(&self) -> BTreeSet<NodeId> {
        std::mem::take(&mut *self.recovered.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Returns when a peer has come back.
    pub async fn recovery(&self) {
        self.wake.notified().await;
    }

    fn note(&self, change: Option<PeerChange>) {
        let Some(PeerChange { node, up }) = change else { return };
        if up {
            tracing::info!(%node, "a peer is reachable again");
            self.metrics.came_up.inc();
            self.metrics.up.inc();
            self.metrics.down.dec();
            self.recovered.lock().unwrap_or_else(PoisonError::into_inner).insert(node);
            self.wake.notify_one();
        } else {
            tracing::warn!(%node, "a peer is not reachable");
            self.metrics.went_down.inc();
            self.metrics.up.dec();
            self.metrics.down.inc();
        }
    }

    fn lock(&self) -> MutexGuard<'_, FailureView> {
        self.view.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
