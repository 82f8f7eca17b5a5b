//! Gets coordinated in the client (paper section 6.4): the state machine of `dynamo_core::quorum`,
//! driven over the replicas themselves. The client has no replica of its own, and cannot sign
//! contexts: each replica sends the token of its record, and joined they are the context.
//!
//! Answering is not finishing: a driver runs on behind its answer to find stale replicas. It repairs
//! none itself, as only nodes may bring records: one of the stale is asked to coordinate a read.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use dynamo_core::clock::digest::RecordDigest;
use dynamo_core::failure_view::FailureView;
use dynamo_core::id::NodeId;
use dynamo_core::limits::{CONTEXT_TOKENS_MAX, READ_REPAIR_WAIT_MS};
use dynamo_core::params::{BucketProps, Quorum};
use dynamo_core::quorum::{
    GetEffect, GetEvent, GetFailure, GetFailureKind, GetOp, GetOutcome, GetPlan, ReplicaFailure,
    ReplicaReply,
};
use dynamo_core::time::Mono;
use dynamo_core::versions::read_view;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use super::Direct;
use super::coordinated::versions_of;
use super::replica_call::Replicas;
use super::view::RingView;
use crate::context::Context;
use crate::error::{Error, Outcome, Problem, ReplicaResult};
use crate::kv::evidence::Evidence;
use crate::kv::get::GetResult;
use crate::kv::operation::GetOperation;
use crate::kv::routed::unquoted;
use crate::limits::ATTEMPTS_MAX;
use crate::transport::exchange::wall_now;

/// What all gets of a client share.
#[derive(Debug)]
pub(super) struct ReadDriver {
    me: NodeId,
    started: Instant,
    peers: Arc<Mutex<FailureView>>,
}

/// How a get ended: what the replicas have, with the tokens of those that were heard in time.
type Ended = Result<(GetOutcome, Vec<String>), GetFailure>;

impl ReadDriver {
    /// A driver with the identity `me`, which no node has.
    pub(super) fn new(me: NodeId) -> Self {
        Self { me, started: Instant::now(), peers: Arc::new(Mutex::new(FailureView::new())) }
    }

    /// Coordinates one get. A quorum that is missed may be missed because the ring has changed, so
    /// the get is tried again with a fresh one, within the retry budget.
    pub(super) async fn get(
        &self,
        direct: &Direct,
        operation: &GetOperation,
    ) -> Result<GetResult, Error> {
        let deadline = Instant::now() + operation.timeout;
        direct.nodes.note_call();
        for attempt in 0.. {
            let failure = match self.attempt(direct, operation, deadline).await? {
                Ok((outcome, tokens)) => return result(&outcome, &tokens),
                Err(failure) => failure,
            };
            direct.view.is_stale();
            let pause = direct.nodes.dice.pause(attempt);
            let hopeless = denial(&failure).is_some()
                || failure.kind == GetFailureKind::Deadline
                || attempt + 1 >= ATTEMPTS_MAX
                || Instant::now() + pause >= deadline
                || !direct.nodes.may_retry();
            if hopeless {
                return Err(refusal(&failure));
            }
            tokio::time::sleep(pause).await;
        }
        unreachable!("the attempts are bounded above")
    }

    async fn attempt(
        &self,
        direct: &Direct,
        operation: &GetOperation,
        deadline: Instant,
    ) -> Result<Ended, Error> {
        let view = direct.view.current().await?;
        let props = view.bucket(operation.object.bucket());
        let quorum = |name: &str, quorum: Quorum| {
            quorum.resolve(props.n).map_err(|error| Error::Parameter {
                name: name.to_owned(),
                reason: error.to_string(),
            })
        };
        let r = quorum("r", operation.r.unwrap_or(props.r))?;
        let pr = operation.pr.map_or(Ok(props.pr), |pr| quorum("pr", pr))?;
        let sets = view.replica_sets(operation.object.position(), props.n);
        let remaining = deadline.saturating_duration_since(Instant::now());
        let BucketProps { n, reconciliation, notfound_ok, .. } = props;
        let plan = GetPlan {
            me: self.me,
            n,
            r,
            pr,
            notfound_ok: operation.notfound_ok.unwrap_or(notfound_ok),
            reconciliation,
            explain: false,
            replicas: &sets,
            deadline: self.mono().plus(remaining),
        };
        let endpoints = &direct.nodes.endpoints;
        let reachable = |node| {
            let base = RingView::storage_base(&direct.nodes.http, &view, node);
            base.is_some_and(|base| endpoints.load(&base).reachable)
        };
        let started = {
            let peers = lock(&self.peers);
            GetOp::start(&plan, reachable, |node| peers.patience(node), self.mono())
        };
        let (op, effects) = match started {
            Ok(started) => started,
            Err(failure) => return Ok(Err(failure)),
        };
        let (answer, answered) = oneshot::channel();
        let drive = Drive {
            op,
            replicas: Replicas {
                nodes: Arc::clone(&direct.nodes),
                sender: direct.sender,
                view: Arc::clone(&view),
                object: operation.object.clone(),
            },
            peers: Arc::clone(&self.peers),
            origin: self.started,
            until: deadline + Duration::from_millis(READ_REPAIR_WAIT_MS),
            answer: Some(answer),
            tokens: Vec::new(),
            reads: JoinSet::new(),
            timer: None,
            repaired: false,
        };
        // Not joined: what it still does after the answer is on its own time.
        tokio::spawn(drive.run(effects));
        answered.await.map_err(|_| Error::Unreachable {
            endpoint: "the replicas".to_owned(),
            reason: "the read ended without an answer".to_owned(),
            attempts: 1,
            outcome: Outcome::NotApplied,
        })
    }

    fn mono(&self) -> Mono {
        mono(self.started)
    }
}

fn mono(origin: Instant) -> Mono {
    Mono::default().plus(origin.elapsed())
}

fn lock(peers: &Mutex<FailureView>) -> std::sync::MutexGuard<'_, FailureView> {
    peers.lock().unwrap_or_else(PoisonError::into_inner)
}

type Read = (NodeId, Duration, Result<(ReplicaReply, Option<String>), ReplicaFailure>);

/// One get on its way.
struct Drive {
    op: GetOp,
    replicas: Replicas,
    peers: Arc<Mutex<FailureView>>,
    origin: Instant,
    /// When everything ends, repairs included.
    until: Instant,
    answer: Option<oneshot::Sender<Ended>>,
    /// Tokens of the distinct records heard so far, in the order of their arrival.
    tokens: Vec<(RecordDigest, String)>,
    reads: JoinSet<Read>,
    timer: Option<Mono>,
    /// Whether a stale replica was told to repair itself and the others.
    repaired: bool,
}

impl Drive {
    async fn run(mut self, effects: Vec<GetEffect>) {
        if self.perform(effects) {
            return;
        }
        loop {
            let timer = self.timer.map(|at| self.origin + at.since(Mono::default()));
            let event = tokio::select! {
                Some(read) = self.reads.join_next(), if !self.reads.is_empty() => {
                    // A read that panicked is silent; the timer takes care of it.
                    let Ok(read) = read else { continue };
                    self.heard(read)
                }
                () = sleep_until(timer.unwrap_or(self.until)), if timer.is_some() => {
                    self.timer = None;
                    GetEvent::Timer
                }
                () = sleep_until(self.until) => return,
            };
            let effects = self.op.on_event(event, mono(self.origin));
            if self.perform(effects) {
                return;
            }
        }
    }

    /// Turns what came back into an event.
    fn heard(&mut self, (from, took, result): Read) -> GetEvent {
        match result {
            Err(failure) => GetEvent::Failed { from, failure },
            Ok((reply, token)) => {
                // Reachability is the endpoints' matter; here only the speed is learned.
                lock(&self.peers).on_success(from, mono(self.origin), took);
                if let (ReplicaReply::Record(record), Some(token)) = (&reply, token) {
                    let digest = RecordDigest::of(record);
                    if self.tokens.iter().all(|(known, _)| *known != digest) {
                        self.tokens.push((digest, token));
                    }
                }
                GetEvent::Reply { from, reply }
            }
        }
    }

    /// Performs the effects; true where the get is over.
    fn perform(&mut self, effects: Vec<GetEffect>) -> bool {
        let remaining = self.until.saturating_duration_since(Instant::now());
        for effect in effects {
            match effect {
                GetEffect::Read { node, unless } => {
                    let replicas = self.replicas.clone();
                    self.reads.spawn(async move {
                        let sent = Instant::now();
                        let result = replicas.read(node, unless, remaining).await;
                        (node, sent.elapsed(), result)
                    });
                }
                GetEffect::Answer(outcome) => {
                    let tokens = self.tokens.iter().map(|(_, token)| token.clone()).collect();
                    self.end(Ok((outcome, tokens)));
                }
                GetEffect::Fail(failure) => self.end(Err(failure)),
                GetEffect::Repair { node, .. } => self.repair(node, remaining),
                GetEffect::Overdue { node } => {
                    lock(&self.peers).on_overdue(node, mono(self.origin));
                }
                GetEffect::SetTimer(at) => self.timer = Some(at),
                GetEffect::Done => return true,
            }
        }
        false
    }

    /// Once is enough: who is asked looks at all replicas.
    fn repair(&mut self, node: NodeId, remaining: Duration) {
        if std::mem::replace(&mut self.repaired, true) {
            return;
        }
        let replicas = self.replicas.clone();
        tokio::spawn(async move {
            if let Err(failure) = replicas.repair(node, remaining).await {
                tracing::debug!(%node, ?failure, "a stale replica was not repaired");
            }
        });
    }

    fn end(&mut self, ended: Ended) {
        if let Some(answer) = self.answer.take() {
            // Whoever asked may have given up.
            drop(answer.send(ended));
        }
    }
}

/// What the client sees of an outcome.
fn result(outcome: &GetOutcome, tokens: &[String]) -> Result<GetResult, Error> {
    let bad =
        |reason: &str| Error::BadAnswer { reason: reason.to_owned(), outcome: Outcome::NotApplied };
    if tokens.len() > CONTEXT_TOKENS_MAX {
        return Err(bad("more distinct replicas than a context can name"));
    }
    let token = |_: &_| Ok::<_, Infallible>(tokens.join("."));
    let (view, values) = match read_view(&outcome.record, wall_now(), true, outcome.fastest, token)
    {
        Ok(shown) => shown,
        Err(never) => match never {},
    };
    let context = view.context.as_deref().filter(|token| !token.is_empty());
    let context = context.map(Context::from_token);
    if view.context.is_some() && context.is_none() {
        return Err(bad("versions without a context"));
    }
    let evidence = Evidence {
        acks: Some(outcome.acks),
        asked: Some(outcome.asked),
        primaries: Some(outcome.primaries),
        n: Some(outcome.n),
        ..Evidence::default()
    };
    let etag = view.etag.as_deref().map(unquoted);
    let deleted = view.deleted;
    let versions = versions_of(view, values);
    Ok(GetResult { versions, context, deleted, etag, evidence })
}

/// Status and code where replicas do not let this client in: a ring that is newer, or a second try,
/// changes nothing about that.
fn denial(failure: &GetFailure) -> Option<(u16, &'static str)> {
    failure.replicas.iter().find_map(|report| match report.result_text().as_str() {
        "unauthorized" => Some((401, "unauthorized")),
        "forbidden" => Some((403, "forbidden")),
        _ => None,
    })
}

/// The refusal that a coordinator would have answered.
fn refusal(failure: &GetFailure) -> Error {
    let denial = denial(failure);
    let (status, code) = denial.unwrap_or(match failure.kind {
        GetFailureKind::QuorumUnavailable => (503, "quorum_unavailable"),
        GetFailureKind::AbsenceUnconfirmed => (503, "absence_unconfirmed"),
        GetFailureKind::Deadline => (504, "deadline_exceeded"),
    });
    let replicas = failure.replicas.iter().map(|report| ReplicaResult {
        node: report.node.to_string(),
        result: report.result_text(),
    });
    let problem = Problem {
        status,
        code: code.to_owned(),
        title: String::new(),
        detail: "the client asked the replicas itself".to_owned(),
        outcome: Outcome::NotApplied,
        retryable: denial.is_none(),
        required: Some(u32::from(failure.required)),
        got: Some(u32::from(failure.got)),
        replicas: replicas.collect(),
        request_id: None,
        retry_after: None,
        context: None,
    };
    Error::Refused { problem: Box::new(problem), outcome: Outcome::NotApplied }
}

async fn sleep_until(at: Instant) {
    tokio::time::sleep_until(tokio::time::Instant::from_std(at)).await;
}
