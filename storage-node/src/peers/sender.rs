//! Replica operations on their way to the peers. While [`PEER_REQUESTS_MAX`] messages to one peer
//! are on their way, further operations for it gather and travel together in the next: a group
//! commit for the network. Reads and writes travel apart, so that no read waits for a sync.
//!
//! An operation ends in exactly one reply: what the peer said, or how it failed. Nothing is sent
//! twice here; who asked decides who is asked instead.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use dynamo_core::cluster_view::ClusterView;
use dynamo_core::failure_view::FailureKind;
use dynamo_core::id::NodeId;
use dynamo_core::limits::REPLICA_BATCH_MAX;
use dynamo_core::quorum::ReplicaFailure;
use dynamo_core::time::Mono;
use dynamo_core::wire::frame::{FRAME_CONTENT_TYPE, FrameError};
use dynamo_core::wire::headers::RING_VERSION;
use dynamo_core::wire::replica::{
    REPLICA_BATCH_PATH, ReplicaOp, ReplicaResult, decode_response, encode_request,
};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use service_kit::http::error::{ErrorCode, Problem};
use service_kit::peer::{NotSentReason, PeerClient, PeerError, PeerRequest};
use service_kit::time::Clock;

use super::health::PeerHealth;
use crate::limits::{PEER_BATCH_BYTES_MAX, PEER_QUEUE_MAX, PEER_REQUESTS_MAX};
use crate::metrics::PeerMetricsSet;

/// Hears the end of one operation. Must not block.
pub type Reply = Box<dyn FnOnce(Result<ReplicaResult, ReplicaFailure>) + Send>;

/// The header that names the ring which a message was made with.
const X_ATOLL_RING: HeaderName = HeaderName::from_static(RING_VERSION);

struct Pending {
    op: ReplicaOp,
    deadline: Mono,
    reply: Reply,
}

#[derive(Default)]
struct Lane {
    pending: VecDeque<Pending>,
    /// Messages of this lane on their way.
    in_flight: usize,
}

#[derive(Default)]
struct Peer {
    reads: Mutex<Lane>,
    writes: Mutex<Lane>,
}

impl Peer {
    fn lane(&self, kind: LaneKind) -> MutexGuard<'_, Lane> {
        let lane = match kind {
            LaneKind::Reads => &self.reads,
            LaneKind::Writes => &self.writes,
        };
        // No foreign code runs under the lock, so a poisoned one still guards whole values.
        lane.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug, Clone, Copy)]
enum LaneKind {
    Reads,
    Writes,
}

/// What senders work with.
struct Inner {
    client: PeerClient,
    clock: Clock,
    view: Arc<ArcSwapOption<ClusterView>>,
    health: Arc<PeerHealth>,
    metrics: PeerMetricsSet,
    peers: RwLock<HashMap<NodeId, Arc<Peer>>>,
}

/// Sends operations to peers. Clones share the queues.
#[derive(Clone)]
pub struct Peers(Arc<Inner>);

impl std::fmt::Debug for Peers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Peers")
    }
}

impl Peers {
    /// A sender that finds addresses in `view` and feeds `health`.
    #[must_use]
    pub fn new(
        client: PeerClient,
        clock: Clock,
        view: Arc<ArcSwapOption<ClusterView>>,
        health: Arc<PeerHealth>,
        metrics: PeerMetricsSet,
    ) -> Self {
        let peers = RwLock::default();
        Self(Arc::new(Inner { client, clock, view, health, metrics, peers }))
    }

    /// Queues an operation for `node`. `reply` hears of it by `deadline`, or soon after.
    pub fn send(&self, node: NodeId, op: ReplicaOp, deadline: Mono, reply: Reply) {
        let kind = match op {
            ReplicaOp::Read { .. } => LaneKind::Reads,
            ReplicaOp::Merge { .. } => LaneKind::Writes,
        };
        let peer = self.peer(node);
        let mut lane = peer.lane(kind);
        if lane.pending.len() >= PEER_QUEUE_MAX {
            drop(lane);
            self.0.metrics.queue_full.inc();
            reply(Err(ReplicaFailure::Overloaded));
            return;
        }
        lane.pending.push_back(Pending { op, deadline, reply });
        if lane.in_flight >= PEER_REQUESTS_MAX {
            return;
        }
        lane.in_flight += 1;
        drop(lane);
        let inner = Arc::clone(&self.0);
        tokio::spawn(async move { inner.run(node, peer, kind).await });
    }

    /// Forgets the queues of peers that are not part of the ring any more, where they are empty.
    pub fn retain(&self, keep: impl Fn(NodeId) -> bool) {
        let mut peers = self.0.peers.write().unwrap_or_else(PoisonError::into_inner);
        peers.retain(|node, peer| keep(*node) || Arc::strong_count(peer) > 1);
    }

    fn peer(&self, node: NodeId) -> Arc<Peer> {
        let peers = self.0.peers.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(peer) = peers.get(&node) {
            return Arc::clone(peer);
        }
        drop(peers);
        let mut peers = self.0.peers.write().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(peers.entry(node).or_default())
    }
}

impl Inner {
    /// Sends what has gathered until nothing is left.
    async fn run(self: Arc<Self>, node: NodeId, peer: Arc<Peer>, kind: LaneKind) {
        loop {
            let (batch, expired) = self.take(&mut peer.lane(kind));
            for pending in expired {
                (pending.reply)(Err(ReplicaFailure::Timeout));
            }
            if batch.is_empty() {
                return;
            }
            self.deliver(node, batch).await;
        }
    }

    /// The next batch, and the operations that nobody waits for any more. An empty batch ends the
    /// sender; that is noted under the same lock, so that no operation is left without one.
    fn take(&self, lane: &mut Lane) -> (Vec<Pending>, Vec<Pending>) {
        let now = self.clock.mono();
        let (mut batch, mut expired) = (Vec::new(), Vec::new());
        let mut bytes = 0usize;
        while let Some(next) = lane.pending.front() {
            if next.deadline > now {
                bytes = bytes.saturating_add(payload_bytes(&next.op));
                let full = batch.len() >= REPLICA_BATCH_MAX || bytes > PEER_BATCH_BYTES_MAX;
                if full && !batch.is_empty() {
                    break;
                }
            }
            let Some(next) = lane.pending.pop_front() else { break };
            if next.deadline > now { &mut batch } else { &mut expired }.push(next);
        }
        if batch.is_empty() {
            lane.in_flight = lane.in_flight.saturating_sub(1);
        }
        (batch, expired)
    }

    async fn deliver(&self, node: NodeId, batch: Vec<Pending>) {
        self.metrics.batch_ops.observe(batch.len() as f64);
        let sent = self.clock.mono();
        let deadline = batch.iter().map(|pending| pending.deadline).max().unwrap_or(sent);
        let body = encode_request(batch.iter().map(|pending| &pending.op));
        match self.exchange(node, body, batch.len(), deadline).await {
            Ok(results) => {
                let latency = self.clock.mono().since(sent);
                self.health.on_success(node, self.clock.mono(), latency);
                for (pending, result) in batch.into_iter().zip(results) {
                    (pending.reply)(Ok(result));
                }
            }
            Err(failure) => {
                for pending in batch {
                    (pending.reply)(Err(failure.clone()));
                }
            }
        }
    }

    async fn exchange(
        &self,
        node: NodeId,
        body: Result<Bytes, FrameError>,
        ops: usize,
        deadline: Mono,
    ) -> Result<Vec<ReplicaResult>, ReplicaFailure> {
        let refused = |code: ErrorCode| ReplicaFailure::Refused(code.as_str().to_owned());
        let body = body.map_err(|error| {
            tracing::error!(%error, %node, "a replica message could not be encoded");
            refused(ErrorCode::BadFrame)
        })?;
        let started = self.clock.mono();
        let timeout = self.clock.remaining(deadline);
        let answer = self.post(node, body, timeout).await;
        let waited = self.clock.mono().since(started);
        let answer = answer.map_err(|error| self.judge(node, &error, waited))?;
        decode_response(answer, ops).map_err(|error| {
            tracing::warn!(%error, %node, "a peer answered something else than asked");
            refused(ErrorCode::BadFrame)
        })
    }

    async fn post(&self, node: NodeId, body: Bytes, timeout: Duration) -> Result<Bytes, SendError> {
        let view = self.view.load_full().ok_or(SendError::NoAddress)?;
        let address = view
            .node(node)
            .and_then(|info| info.addresses.storage.clone())
            .ok_or(SendError::NoAddress)?;
        let mut headers = HeaderMap::with_capacity(16);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(FRAME_CONTENT_TYPE));
        if let Ok(ring) = HeaderValue::try_from(view.version().to_string()) {
            headers.insert(X_ATOLL_RING, ring);
        }
        let request = PeerRequest {
            address: &address,
            method: Method::POST,
            path: REPLICA_BATCH_PATH,
            headers,
            body,
            timeout,
            // Reads and merges are the same once or twice.
            idempotent: true,
        };
        let response = self.client.call(request).await.map_err(SendError::Call)?;
        Ok(response.into_success().map_err(SendError::Refused)?.body)
    }

    /// What a failed message says about the peer, and what it means for its operations.
    fn judge(&self, node: NodeId, error: &SendError, waited: Duration) -> ReplicaFailure {
        let now = self.clock.mono();
        let (kind, failure) = match error {
            SendError::NoAddress => (None, ReplicaFailure::Unreachable),
            SendError::Refused(problem) if problem.code() == ErrorCode::Overloaded => {
                (Some(FailureKind::Overloaded), ReplicaFailure::Overloaded)
            }
            SendError::Refused(problem) => {
                (None, ReplicaFailure::Refused(problem.code().as_str().to_owned()))
            }
            SendError::Call(PeerError::NotSent(NotSentReason::Connect(_))) => {
                (Some(FailureKind::Refused), ReplicaFailure::Unreachable)
            }
            SendError::Call(PeerError::NotSent(NotSentReason::ConnectTimeout)) => {
                (Some(FailureKind::Timeout { waited }), ReplicaFailure::Unreachable)
            }
            SendError::Call(PeerError::NotSent(_)) => (None, ReplicaFailure::Timeout),
            SendError::Call(PeerError::Deadline) => {
                (Some(FailureKind::Timeout { waited }), ReplicaFailure::Timeout)
            }
            SendError::Call(PeerError::Unknown(_)) => {
                (Some(FailureKind::ConnectionLost), ReplicaFailure::Unreachable)
            }
            SendError::Call(PeerError::TooLarge { .. } | PeerError::BadResponse(_)) => {
                let code = ErrorCode::BadFrame.as_str().to_owned();
                (None, ReplicaFailure::Refused(code))
            }
        };
        tracing::debug!(%node, ?error, "a replica message failed");
        if let Some(kind) = kind {
            self.health.on_failure(node, now, kind);
        }
        failure
    }
}

#[derive(Debug)]
enum SendError {
    /// The ring does not say where the node is.
    NoAddress,
    Call(PeerError),
    Refused(Problem),
}

fn payload_bytes(op: &ReplicaOp) -> usize {
    match op {
        ReplicaOp::Merge { object, record, .. } => object.key().len() + record.payload_bytes(),
        ReplicaOp::Read { object, .. } => object.key().len(),
    }
}
