//! Which storage nodes answer: the pure failure view behind a lock, fed by this process's own calls
//! alone, and the probes by which a node is trusted again. An outage is one line in the log when it
//! begins and one when it ends.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dynamo_core::failure_view::{FailureKind, FailureView, PeerChange};
use dynamo_core::id::NodeId;
use dynamo_core::time::Mono;
use service_kit::rng::OsEntropy;
use tokio::sync::Notify;

/// Who answers.
#[derive(Debug, Default)]
pub struct Reach {
    view: Mutex<FailureView>,
    recovered: Mutex<BTreeSet<NodeId>>,
    wake: Arc<Notify>,
}

impl Reach {
    /// Everybody is trusted. `wake` hears when a node has come back.
    #[must_use]
    pub fn new(wake: Arc<Notify>) -> Self {
        Self { wake, ..Self::default() }
    }

    /// Whether calls go to `node`.
    #[must_use]
    pub fn reachable(&self, node: NodeId) -> bool {
        self.view().reachable(node)
    }

    /// A node answered.
    pub fn on_success(&self, node: NodeId, now: Mono, latency: Duration) {
        let change = self.view().on_success(node, now, latency);
        self.note(change);
    }

    /// A node failed.
    pub fn on_failure(&self, node: NodeId, now: Mono, kind: FailureKind) {
        let change = self.view().on_failure(node, now, kind, &mut OsEntropy);
        self.note(change);
    }

    /// A probe ended.
    pub fn on_probe(&self, node: NodeId, now: Mono, ok: bool) {
        let change = self.view().on_probe(node, now, ok, &mut OsEntropy);
        self.note(change);
    }

    /// The nodes to probe now.
    pub fn due_probes(&self, now: Mono) -> Vec<NodeId> {
        self.view().due_probes(now, &mut OsEntropy)
    }

    /// Forgets nodes that are not part of the ring any more.
    pub fn retain(&self, keep: impl Fn(NodeId) -> bool) {
        self.view().retain(keep);
    }

    /// The nodes that came back since the last call.
    pub fn take_recovered(&self) -> BTreeSet<NodeId> {
        std::mem::take(&mut *self.recovered.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn note(&self, change: Option<PeerChange>) {
        let Some(PeerChange { node, up }) = change else { return };
        if up {
            tracing::info!(%node, "a storage node is reachable again");
            self.recovered.lock().unwrap_or_else(PoisonError::into_inner).insert(node);
            self.wake.notify_waiters();
        } else {
            tracing::warn!(%node, "a storage node is not reachable");
        }
    }

    fn view(&self) -> MutexGuard<'_, FailureView> {
        // No foreign code runs under the lock, so a poisoned one still guards a whole value.
        self.view.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
