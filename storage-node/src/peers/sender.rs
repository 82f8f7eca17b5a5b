//! Replica operations on their way to the peers. While a message to one peer is on its way, further
//! operations for it gather and travel together in the next: a group commit for the network. Only
//! where many have gathered do further messages go before the first is answered, at most
//! [`PEER_REQUESTS_MAX`]. Reads and writes travel apart, so that no read waits for a sync.
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
use service_kit::telemetry::trace;
use service_kit::time::Clock;
use tracing::Span;

use super::health::PeerHealth;
use crate::limits::{
    PEER_BATCH_BYTES_MAX, PEER_GATHER_BYTES, PEER_GATHER_OPS, PEER_QUEUE_MAX, PEER_REQUESTS_MAX,
};
use crate::metrics::PeerMetricsSet;

/// Hears the end of one operation. Must not block.
pub type Reply = Box<dyn FnOnce(Result<ReplicaResult, ReplicaFailure>) + Send>;

/// The header that names the ring which a message was made with.
const X_ATOLL_RING: HeaderName = HeaderName::from_static(RING_VERSION);

struct Pending {
    op: ReplicaOp,
    deadline: Mono,
    reply: Reply,
    /// The operation in its request's trace, where that is recorded.
    span: Option<Span>,
}

impl Pending {
    /// The end of the operation, for its trace and for whoever waits.
    fn end(self, result: Result<ReplicaResult, ReplicaFailure>) {
        if let (Some(span), Err(_)) = (&self.span, &result) {
            trace::fail(span);
        }
        (self.reply)(result);
    }
}

#[derive(Default)]
struct Lane {
    pending: VecDeque<Pending>,
    /// Bytes of the pending operations.
    bytes: usize,
    /// Messages of this lane on their way.
    in_flight: usize,
}

impl Lane {
    /// Whether what has gathered is worth a message now, beside `others` that are on their way.
    fn is_due(&self, others: usize) -> bool {
        let much = self.pending.len() >= PEER_GATHER_OPS || self.bytes >= PEER_GATHER_BYTES;
        others == 0 || (much && others < PEER_REQUESTS_MAX)
    }

    /// The next batch, and the operations that nobody waits for any more. An empty batch ends the
    /// sender; that is noted under the same lock, so that no operation is left without one: a
    /// sender that leaves some has another beside it.
    fn take(&mut self, now: Mono) -> (Vec<Pending>, Vec<Pending>) {
        let (mut batch, mut expired) = (Vec::new(), Vec::new());
        let mut bytes = 0usize;
        let due = self.is_due(self.in_flight.saturating_sub(1));
        while let Some(next) = self.pending.front().filter(|_| due) {
            if next.deadline > now {
                bytes = bytes.saturating_add(payload_bytes(&next.op));
                let full = batch.len() >= REPLICA_BATCH_MAX || bytes > PEER_BATCH_BYTES_MAX;
                if full && !batch.is_empty() {
                    break;
                }
            }
            let Some(next) = self.pending.pop_front() else { break };
            self.bytes = self.bytes.saturating_sub(payload_bytes(&next.op));
            if next.deadline > now { &mut batch } else { &mut expired }.push(next);
        }
        if batch.is_empty() {
            self.in_flight = self.in_flight.saturating_sub(1);
        }
        (batch, expired)
    }
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

impl LaneKind {
    /// An operation of this kind, in traces.
    fn as_str(self) -> &'static str {
        match self {
            Self::Reads => "replica read",
            Self::Writes => "replica merge",
        }
    }
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
        let span = trace::message_span(kind.as_str(), node);
        lane.bytes = lane.bytes.saturating_add(payload_bytes(&op));
        lane.pending.push_back(Pending { op, deadline, reply, span });
        if !lane.is_due(lane.in_flight) {
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
            // Whatever else is ready to run goes first: its operations join this message.
            tokio::task::yield_now().await;
            let (batch, expired) = peer.lane(kind).take(self.clock.mono());
            for pending in expired {
                pending.end(Err(ReplicaFailure::Timeout));
            }
            if batch.is_empty() {
                return;
            }
            self.deliver(node, batch).await;
        }
    }

    async fn deliver(&self, node: NodeId, batch: Vec<Pending>) {
        self.metrics.batch_ops.observe(batch.len() as f64);
        let sent = self.clock.mono();
        let deadline = batch.iter().map(|pending| pending.deadline).max().unwrap_or(sent);
        let body = encode_request(batch.iter().map(|pending| &pending.op));
        // A message has one place in one trace: that of its first operation which is recorded.
        let span = batch.iter().find_map(|pending| pending.span.clone());
        match self.exchange(node, body, batch.len(), deadline, span).await {
            Ok(results) => {
                let latency = self.clock.mono().since(sent);
                self.health.on_success(node, self.clock.mono(), latency);
                let alone = batch.len() == 1;
                for (pending, result) in batch.into_iter().zip(results) {
                    if !alone && is_too_large(&result) {
                        // The answers to the others left no room for this one.
                        Box::pin(self.deliver(node, vec![pending])).await;
                    } else {
                        pending.end(Ok(result));
                    }
                }
            }
            Err(failure) => {
                for pending in batch {
                    pending.end(Err(failure.clone()));
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
        span: Option<Span>,
    ) -> Result<Vec<ReplicaResult>, ReplicaFailure> {
        let refused = |code: ErrorCode| ReplicaFailure::Refused(code.as_str().to_owned());
        let body = body.map_err(|error| {
            tracing::error!(%error, %node, "a replica message could not be encoded");
            refused(ErrorCode::BadFrame)
        })?;
        let started = self.clock.mono();
        let timeout = self.clock.remaining(deadline);
        let answer = self.post(node, body, timeout, span).await;
        let waited = self.clock.mono().since(started);
        let answer = answer.map_err(|error| self.judge(node, &error, waited))?;
        decode_response(answer, ops).map_err(|error| {
            tracing::warn!(%error, %node, "a peer answered something else than asked");
            refused(ErrorCode::BadFrame)
        })
    }

    async fn post(
        &self,
        node: NodeId,
        body: Bytes,
        timeout: Duration,
        span: Option<Span>,
    ) -> Result<Bytes, SendError> {
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
        if let Some(span) = &span {
            trace::position(span, &mut headers);
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

fn is_too_large(result: &ReplicaResult) -> bool {
    let ReplicaResult::Refused { code } = result else { return false };
    code == ErrorCode::PayloadTooLarge.as_str()
}

fn payload_bytes(op: &ReplicaOp) -> usize {
    match op {
        ReplicaOp::Merge { object, record, .. } => object.key().len() + record.payload_bytes(),
        ReplicaOp::Read { object, .. } => object.key().len(),
    }
}

#[cfg(test)]
mod tests {
    use dynamo_core::key::ObjectKey;

    use super::*;

    fn read(lane: &mut Lane, deadline: Mono) {
        let object = ObjectKey::parse("b", "k").unwrap();
        let op = ReplicaOp::Read { object, unless: None, token: false, put: None };
        lane.bytes += payload_bytes(&op);
        lane.pending.push_back(Pending { op, deadline, reply: Box::new(|_| {}), span: None });
    }

    #[test]
    fn a_further_message_goes_only_for_much() {
        let cases = [
            (1, 0, 0, true),
            (1, 0, 1, false),
            (PEER_GATHER_OPS - 1, 0, 1, false),
            (PEER_GATHER_OPS, 0, 1, true),
            (1, PEER_GATHER_BYTES, 1, true),
            (PEER_GATHER_OPS, PEER_GATHER_BYTES, PEER_REQUESTS_MAX, false),
        ];
        for (ops, more_bytes, others, due) in cases {
            let mut lane = Lane::default();
            (0..ops).for_each(|_| read(&mut lane, Mono(9)));
            lane.bytes += more_bytes;
            assert_eq!(lane.is_due(others), due, "{ops} operations beside {others} messages");
        }
    }

    #[test]
    fn no_operation_is_left_without_a_sender() {
        let mut lane = Lane { in_flight: 2, ..Lane::default() };
        (0..3).for_each(|_| read(&mut lane, Mono(9)));
        // Too few for two senders: the first to come back leaves them to the other.
        assert!(lane.take(Mono(0)).0.is_empty());
        assert_eq!((lane.pending.len(), lane.in_flight), (3, 1));
        let (batch, expired) = lane.take(Mono(0));
        assert_eq!((batch.len(), expired.len(), lane.bytes), (3, 0, 0));
        // What came too late is no message, and the last sender ends.
        read(&mut lane, Mono(1));
        let (batch, expired) = lane.take(Mono(2));
        assert_eq!((batch.len(), expired.len()), (0, 1));
        assert_eq!((lane.bytes, lane.in_flight), (0, 0));
    }
}
