//! The attempts of one request: started one after the other, or beside each other where one is
//! late, until an answer stands or nobody is left to ask.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use dynamo_core::failure_view::FailureKind;
use dynamo_core::id::NodeId;
use dynamo_core::routing::{ChoiceReason, Purpose};
use dynamo_core::time::Mono;
use dynamo_core::wire::headers::{REPEATED, RING_VERSION, SENT};
use http::{HeaderMap, HeaderValue, Method};
use service_kit::http::error::{ErrorCode, Outcome, Problem};
use service_kit::peer::{NotSentReason, PeerError, PeerRequest, PeerResponse};

use super::{Forward, Forwarded, Refused};
use crate::limits::{ATTEMPTS_MAX, CANDIDATES_MAX, RING_REFRESH_WAIT};
use crate::ring_view::RingView;
use crate::state::Router;

/// What one attempt came to.
type AttemptEnd = Result<PeerResponse, PeerError>;

/// One attempt.
#[derive(Debug, Clone, Copy)]
struct Attempt {
    node: NodeId,
    sent: Mono,
    hedge: bool,
}

/// One attempt that has not ended.
struct Running<'r> {
    attempt: Attempt,
    call: Pin<Box<dyn Future<Output = AttemptEnd> + Send + 'r>>,
}

/// The attempts of one request.
pub(super) struct Race<'r> {
    router: &'r Router,
    forward: &'r Forward<'r>,
    ring: Arc<RingView>,
    /// Coordinators in order; those before `next` were tried.
    order: Vec<NodeId>,
    next: usize,
    pub(super) reason: ChoiceReason,
    pub(super) started: Mono,
    /// The same by the wall clock, which the coordinators compare with theirs.
    began: HeaderValue,
    running: Vec<Running<'r>>,
    /// Attempts that left this process.
    sent: usize,
    /// Set where an attempt ended without telling whether it was applied.
    unknown: bool,
    refreshed: bool,
    /// Whether a late coordinator may be hedged against.
    hedging: bool,
    /// The first refusal that another coordinator might not have given.
    refusal: Option<Refused>,
}

/// What an attempt means for the request.
enum Verdict {
    Answer(PeerResponse),
    Stop(Refused),
    Next,
}

impl<'r> Race<'r> {
    pub(super) fn new(router: &'r Router, forward: &'r Forward<'r>, ring: Arc<RingView>) -> Self {
        let started = router.clock.mono();
        let (order, reason) = order(router, forward, &ring, started);
        Self {
            router,
            forward,
            ring,
            order,
            next: 0,
            reason,
            started,
            began: HeaderValue::from(router.clock.wall().0),
            running: Vec::with_capacity(1),
            sent: 0,
            unknown: false,
            refreshed: false,
            hedging: true,
            refusal: None,
        }
    }

    pub(super) async fn run(&mut self) -> Result<Forwarded, Refused> {
        self.start(false);
        loop {
            if self.running.is_empty() {
                return Err(self.give_up());
            }
            let patience = self.patience();
            let Some((attempt, end)) = self.first_within(patience).await else {
                self.hedge();
                continue;
            };
            match self.judge(attempt, end).await {
                Verdict::Answer(response) => return Ok(self.win(attempt, response)),
                Verdict::Stop(refused) => {
                    self.drop_losers();
                    return Err(refused);
                }
                Verdict::Next => {
                    // While others are on their way, their patience decides about one more.
                    if self.running.is_empty() && self.sent < ATTEMPTS_MAX {
                        self.router.metrics.retries.inc();
                        self.start(false);
                    }
                }
            }
        }
    }

    /// How long to wait before another coordinator is asked as well; `None` where there is none
    /// that would be worth it.
    fn patience(&self) -> Option<Duration> {
        let attempt = self.running.last()?.attempt;
        if !self.hedging || !self.worth_another() {
            return None;
        }
        let patience = self.router.balance.patience(attempt.node, self.forward.purpose);
        let waited = self.router.clock.mono().since(attempt.sent);
        Some(patience.saturating_sub(waited))
    }

    /// Whether a further attempt is allowed and has somebody to go to who is known to answer.
    fn worth_another(&self) -> bool {
        let next = self.order.get(self.next);
        self.sent < ATTEMPTS_MAX && next.is_some_and(|node| self.router.balance.is_reachable(*node))
    }

    /// The first attempt that ends, or `None` after `patience`.
    async fn first_within(&mut self, patience: Option<Duration>) -> Option<(Attempt, AttemptEnd)> {
        let running = &mut self.running;
        let first = poll_fn(|cx| {
            for (index, running) in running.iter_mut().enumerate() {
                if let Poll::Ready(end) = running.call.as_mut().poll(cx) {
                    return Poll::Ready((index, end));
                }
            }
            Poll::Pending
        });
        let (index, end) = match patience {
            Some(patience) => tokio::time::timeout(patience, first).await.ok()?,
            None => first.await,
        };
        Some((self.running.remove(index).attempt, end))
    }

    /// Asks the next coordinator beside the one that is late.
    fn hedge(&mut self) {
        if let Some(late) = self.running.last() {
            self.router.balance.overdue(late.attempt.node, self.router.clock.mono());
        }
        if self.router.balance.may_repeat(self.router.clock.mono()) {
            self.router.metrics.hedges.inc();
            self.start(true);
        } else {
            self.router.metrics.hedges_denied.inc();
            // Not asked again for this request.
            self.hedging = false;
        }
    }

    /// Sends the request to the next coordinator that has an address.
    fn start(&mut self, hedge: bool) {
        while let Some(&node) = self.order.get(self.next) {
            self.next += 1;
            let info = self.ring.view.node(node);
            let Some(address) = info.and_then(|info| info.addresses.storage.clone()) else {
                continue;
            };
            let now = self.router.clock.mono();
            let timeout = self.forward.deadline.since(now);
            if timeout.is_zero() {
                return;
            }
            let call = self.call(node, address, timeout);
            self.running.push(Running { attempt: Attempt { node, sent: now, hedge }, call });
            self.sent += 1;
            return;
        }
    }

    fn call(
        &self,
        node: NodeId,
        address: String,
        timeout: Duration,
    ) -> Pin<Box<dyn Future<Output = AttemptEnd> + Send + 'r>> {
        let (router, forward) = (self.router, self.forward);
        let mut headers = forward.headers.clone();
        headers.insert(RING_VERSION, self.ring.version.clone());
        if forward.purpose == Purpose::Write {
            headers.insert(SENT, self.began.clone());
        }
        if self.sent > 0 {
            headers.insert(REPEATED, HeaderValue::from_static("true"));
        }
        Box::pin(async move {
            let _counted = router.balance.sending(node);
            let request = PeerRequest {
                address: &address,
                method: Method::POST,
                path: forward.path,
                headers,
                body: forward.message.clone(),
                timeout,
                // Reads have no effect, and writes carry a put id.
                idempotent: true,
            };
            router.peers.call(request).await
        })
    }

    /// Decides what an ended attempt means, and tells the balance.
    async fn judge(&mut self, attempt: Attempt, end: AttemptEnd) -> Verdict {
        let balance = &self.router.balance;
        let now = self.router.clock.mono();
        let waited = now.since(attempt.sent);
        match end {
            Ok(response) if response.status.is_success() => {
                balance.answered(attempt.node, now, waited);
                Verdict::Answer(response)
            }
            Ok(response) => self.refused(attempt, waited, response).await,
            Err(PeerError::NotSent(reason)) => {
                // It did not reach anybody, so it was no attempt.
                self.sent -= 1;
                match reason {
                    NotSentReason::Connect(_) => {
                        balance.failed(attempt.node, now, FailureKind::Refused);
                    }
                    NotSentReason::ConnectTimeout => {
                        balance.failed(attempt.node, now, FailureKind::Timeout { waited });
                    }
                    NotSentReason::Deadline => {
                        balance.failed(attempt.node, now, FailureKind::Overloaded);
                    }
                    NotSentReason::Invalid(text) => {
                        tracing::warn!(node = %attempt.node, reason = text, "unusable address");
                    }
                }
                Verdict::Next
            }
            Err(PeerError::Unknown(_)) => {
                self.unknown = true;
                balance.failed(attempt.node, now, FailureKind::ConnectionLost);
                Verdict::Next
            }
            Err(PeerError::Deadline) => {
                self.unknown = true;
                balance.failed(attempt.node, now, FailureKind::Timeout { waited });
                Verdict::Next
            }
            Err(error @ (PeerError::TooLarge { .. } | PeerError::BadResponse(_))) => {
                self.unknown = true;
                tracing::warn!(node = %attempt.node, %error, "unusable answer of a coordinator");
                let detail = "a storage node gave an answer that cannot be passed on";
                Verdict::Stop(self.refuse(ErrorCode::Internal, detail).into())
            }
        }
    }

    async fn refused(
        &mut self,
        attempt: Attempt,
        waited: Duration,
        response: PeerResponse,
    ) -> Verdict {
        let problem = Problem::from_response(response.status, &response.headers, &response.body);
        self.unknown |= problem.known_outcome() == Outcome::Unknown;
        let (balance, now) = (&self.router.balance, self.router.clock.mono());
        match problem.code() {
            ErrorCode::Overloaded
            | ErrorCode::NotReady
            | ErrorCode::StoreUnavailable
            | ErrorCode::StoreFull => {
                balance.failed(attempt.node, now, FailureKind::Overloaded);
            }
            _ => balance.answered(attempt.node, now, waited),
        }
        if problem.code() == ErrorCode::NotOwner {
            self.router.metrics.not_owner.inc();
            self.refresh(&response.headers).await;
            return Verdict::Next;
        }
        let refused = Refused { headers: response.headers, problem, by_peer: true };
        // Under the same budget as hedges: when all nodes shed load, asking more of them is no help.
        let another = !self.running.is_empty() || (self.worth_another() && balance.may_repeat(now));
        if may_differ_elsewhere(&refused.problem) && another {
            self.refusal.get_or_insert(refused);
            return Verdict::Next;
        }
        // What was heard first says more than what a stand-in adds, unless this is a final word.
        let heard = self.refusal.take().filter(|_| may_differ_elsewhere(&refused.problem));
        Verdict::Stop(self.with_outcome(heard.unwrap_or(refused)))
    }

    /// A storage node works with another ring than ours: get the newest, once, and start over
    /// with the coordinators that were not tried yet.
    async fn refresh(&mut self, headers: &HeaderMap) {
        let theirs = headers.get(RING_VERSION);
        if self.refreshed || theirs.is_none_or(|theirs| *theirs == self.ring.version) {
            return;
        }
        self.refreshed = true;
        let Some(ring) = self.router.newer_ring(&self.ring, RING_REFRESH_WAIT).await else {
            return;
        };
        self.ring = ring;
        let (fresh, _) = order(self.router, self.forward, &self.ring, self.started);
        let tried = self.order.get(..self.next).unwrap_or(&[]).to_vec();
        self.order = tried;
        let untried: Vec<NodeId> =
            fresh.into_iter().filter(|node| !self.order.contains(node)).collect();
        self.order.extend(untried);
    }

    fn win(&mut self, attempt: Attempt, response: PeerResponse) -> Forwarded {
        if attempt.hedge {
            self.router.metrics.hedges_won.inc();
        }
        self.drop_losers();
        Forwarded {
            response,
            node: attempt.node,
            took: self.router.clock.mono().since(self.started),
            attempts: self.sent,
            reason: self.reason,
        }
    }

    /// Whoever has not answered by now gave no sign of life for as long as that took.
    fn drop_losers(&mut self) {
        let now = self.router.clock.mono();
        for Running { attempt, .. } in self.running.drain(..) {
            let waited = now.since(attempt.sent);
            self.router.balance.failed(attempt.node, now, FailureKind::Timeout { waited });
        }
    }

    /// Nobody is left to ask.
    fn give_up(&mut self) -> Refused {
        if let Some(refused) = self.refusal.take() {
            return self.with_outcome(refused);
        }
        if self.router.clock.remaining(self.forward.deadline).is_zero() {
            let detail = "no coordinator answered before the deadline";
            return self.refuse(ErrorCode::DeadlineExceeded, detail).into();
        }
        let detail = if self.unknown {
            "the nodes that were asked to coordinate did not answer"
        } else {
            "no node that may coordinate this key could be reached"
        };
        let problem = self.refuse(ErrorCode::QuorumUnavailable, detail);
        problem.counts(self.forward.required, 0).into()
    }

    fn refuse(&self, code: ErrorCode, detail: &str) -> Problem {
        Problem::new(code, detail).outcome(self.outcome())
    }

    fn outcome(&self) -> Outcome {
        let may_be_applied = self.forward.purpose == Purpose::Write && self.unknown;
        if may_be_applied { Outcome::Unknown } else { Outcome::NotApplied }
    }

    /// An earlier attempt may have been applied, whatever the last coordinator says of its own.
    fn with_outcome(&self, mut refused: Refused) -> Refused {
        if self.unknown || !self.running.is_empty() {
            let outcome = match self.forward.purpose {
                Purpose::Write => Outcome::Unknown,
                Purpose::Read => Outcome::NotApplied,
            };
            refused.problem = refused.problem.outcome(outcome);
        }
        refused
    }
}

fn order(
    router: &Router,
    forward: &Forward<'_>,
    ring: &RingView,
    now: Mono,
) -> (Vec<NodeId>, ChoiceReason) {
    let n = ring.view.bucket(forward.object.bucket()).n;
    let sets = ring.view.replica_sets(forward.object.position(), n);
    let order = router.balance.order(&sets, forward.purpose, forward.preferred, now);
    let mut nodes = order.nodes;
    nodes.truncate(CANDIDATES_MAX);
    (nodes, order.reason)
}

/// Whether a refusal says something about the coordinator rather than about the request, so that
/// another coordinator may do better.
fn may_differ_elsewhere(problem: &Problem) -> bool {
    matches!(
        problem.code(),
        ErrorCode::Overloaded
            | ErrorCode::NotReady
            | ErrorCode::StoreUnavailable
            | ErrorCode::StoreFull
            | ErrorCode::Internal
            | ErrorCode::QuorumUnavailable
            | ErrorCode::AbsenceUnconfirmed
            | ErrorCode::WrongCluster
            | ErrorCode::StaleIncarnation
            | ErrorCode::ProtocolVersion
    )
}
