//! What this router knows of each storage node from its own traffic: requests in flight, latency,
//! and whether it answers at all. One lock, held for a few table look-ups per request.
//!
//! Not here: what follows from it for a request ([`dynamo_core::routing`]).

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dynamo_core::failure_view::{FailureKind, FailureView};
use dynamo_core::id::NodeId;
use dynamo_core::limits::PATIENCE_MS_MAX;
use dynamo_core::ring::ReplicaSets;
use dynamo_core::routing::{CoordinatorOrder, NodeLoad, Purpose, aged_latency, coordinator_order};
use dynamo_core::time::Mono;
use service_kit::rng::OsEntropy;

use crate::hedge_budget::HedgeBudget;

/// The judgement of this process on all storage nodes.
#[derive(Debug)]
pub struct Balance {
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    failures: FailureView,
    traffic: HashMap<NodeId, Traffic>,
    hedges: HedgeBudget,
    /// Nodes that were late and are to be asked whether they are still there.
    doubted: BTreeSet<NodeId>,
}

/// What a node has of ours.
#[derive(Debug, Default, Clone, Copy)]
struct Traffic {
    in_flight: u32,
    /// When it last answered.
    answered: Mono,
}

/// One request that a node has not answered yet. Dropping it counts it as gone.
#[derive(Debug)]
pub struct InFlight<'a> {
    balance: &'a Balance,
    node: NodeId,
}

impl Balance {
    /// Knows nothing yet: every node looks fine.
    #[must_use]
    pub fn new(now: Mono) -> Self {
        let inner = Inner {
            failures: FailureView::new(),
            traffic: HashMap::new(),
            hedges: HedgeBudget::new(now),
            doubted: BTreeSet::new(),
        };
        Self { inner: Mutex::new(inner) }
    }

    /// The coordinators of one request in the order in which they are tried.
    pub fn order(
        &self,
        sets: &ReplicaSets,
        purpose: Purpose,
        preferred: Option<NodeId>,
        now: Mono,
    ) -> CoordinatorOrder {
        let mut inner = self.lock();
        inner.hedges.earn();
        let load = |node| inner.load(node, now);
        coordinator_order(sets, purpose, preferred, load, &mut OsEntropy)
    }

    /// Whether `node` answers, as far as is known.
    #[must_use]
    pub fn is_reachable(&self, node: NodeId) -> bool {
        self.lock().failures.reachable(node)
    }

    /// How long `node` is given to answer before another coordinator is asked as well. A write is
    /// given all the time there is for that: its slowest part is a disk, and a second coordinator
    /// mints a second version of it.
    #[must_use]
    pub fn patience(&self, node: NodeId, purpose: Purpose) -> Duration {
        let usual = self.lock().failures.patience(node);
        match purpose {
            Purpose::Write if !usual.is_zero() => Duration::from_millis(PATIENCE_MS_MAX),
            _ => usual,
        }
    }

    /// Takes one hedge, or one repetition of what a live node refused, out of the budget; false
    /// where none is left.
    pub fn may_repeat(&self, now: Mono) -> bool {
        self.lock().hedges.spend(now)
    }

    /// Counts a request on its way to `node`.
    pub fn sending(&self, node: NodeId) -> InFlight<'_> {
        self.lock().traffic.entry(node).or_default().in_flight += 1;
        InFlight { balance: self, node }
    }

    /// `node` answered.
    pub fn answered(&self, node: NodeId, now: Mono, latency: Duration) {
        let mut inner = self.lock();
        inner.traffic.entry(node).or_default().answered = now;
        let change = inner.failures.on_success(node, now, latency);
        drop(inner);
        report(change);
    }

    /// `node` did not answer.
    pub fn failed(&self, node: NodeId, now: Mono, kind: FailureKind) {
        let change = self.lock().failures.on_failure(node, now, kind, &mut OsEntropy);
        report(change);
    }

    /// `node` has had its time, and another coordinator is asked as well. Whether it is frozen or
    /// busy cannot be told from one request, so it will be asked by a ping.
    pub fn overdue(&self, node: NodeId, now: Mono) {
        let mut inner = self.lock();
        inner.failures.on_overdue(node, now);
        inner.doubted.insert(node);
    }

    /// The nodes that were late since the last call and are not known to be down yet.
    pub fn doubted(&self) -> Vec<NodeId> {
        let mut inner = self.lock();
        let doubted = std::mem::take(&mut inner.doubted);
        doubted.into_iter().filter(|node| inner.failures.reachable(*node)).collect()
    }

    /// A doubted node was pinged; `waited` is how long where it did not answer. It is asked again
    /// until it answers or counts as down.
    pub fn pinged(&self, node: NodeId, now: Mono, failure: Option<FailureKind>) {
        let Some(kind) = failure else { return };
        self.failed(node, now, kind);
        self.lock().doubted.insert(node);
    }

    /// The nodes that are to be probed now.
    pub fn due_probes(&self, now: Mono) -> Vec<NodeId> {
        self.lock().failures.due_probes(now, &mut OsEntropy)
    }

    /// How a probe ended.
    pub fn probed(&self, node: NodeId, now: Mono, ok: bool) {
        let change = self.lock().failures.on_probe(node, now, ok, &mut OsEntropy);
        report(change);
    }

    /// Forgets nodes that the ring no longer knows.
    pub fn retain(&self, known: impl Fn(NodeId) -> bool) {
        let mut inner = self.lock();
        inner.failures.retain(&known);
        inner.traffic.retain(|node, traffic| traffic.in_flight > 0 || known(*node));
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn load(&self, node: NodeId, now: Mono) -> NodeLoad {
        let traffic = self.traffic.get(&node).copied().unwrap_or_default();
        let latency = self.failures.latency(node).unwrap_or_default();
        NodeLoad {
            reachable: self.failures.reachable(node),
            slow: !self.failures.routable(node),
            in_flight: traffic.in_flight,
            latency_us: aged_latency(latency, now.since(traffic.answered)),
        }
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        let mut inner = self.balance.lock();
        if let Some(traffic) = inner.traffic.get_mut(&self.node) {
            traffic.in_flight = traffic.in_flight.saturating_sub(1);
        }
    }
}

/// One line for each change of mind about a node.
fn report(change: Option<dynamo_core::failure_view::PeerChange>) {
    match change {
        Some(change) if change.up => tracing::info!(node = %change.node, "storage node is back"),
        Some(change) => tracing::warn!(node = %change.node, "storage node does not answer"),
        None => {}
    }
}
