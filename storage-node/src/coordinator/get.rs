//! Performs the effects of one get.

use std::sync::Arc;

use bytes::Bytes;
use dynamo_core::clock::digest::RecordDigest;
use dynamo_core::clock::record::Record;
use dynamo_core::id::NodeId;
use dynamo_core::params::Durability;
use dynamo_core::quorum::{
    GetEffect, GetEvent, GetFailure, GetOp, GetOutcome, GetPlan, ReplicaFailure, ReplicaReply,
};
use dynamo_core::ring::Role;
use dynamo_core::time::Mono;
use dynamo_core::versions::read_view;
use dynamo_core::wire::coordinate::{Evidence, GetAnswer, GetMessage, ReplicaView};
use dynamo_core::wire::replica::{ReplicaOp, ReplicaResult};
use service_kit::http::error::{ErrorCode, Problem};

use super::driver::{Operation, Run, drive};
use super::refusal::{context_too_long, get_problem};
use super::request::Request;
use crate::freshness::Answers;
use crate::limits::BACKGROUND_WRITE_TIMEOUT;
use crate::metrics::RequestEnd;
use crate::node::{Node, store_code};

/// What a get insists on.
#[derive(Debug, Clone, Copy)]
pub struct GetNeeds {
    /// Replies.
    pub r: u8,
    /// Replies of primaries.
    pub pr: u8,
    /// Whether unconfirmed absence will do.
    pub notfound_ok: bool,
    /// Whether every asked replica is waited for.
    pub explain: bool,
}

/// Answers a client's get.
///
/// # Errors
/// The problem to answer with.
pub async fn get(
    node: &Arc<Node>,
    request: &Arc<Request>,
    message: &GetMessage,
) -> Result<(GetAnswer, Vec<Bytes>), Problem> {
    let result = answer(node, request, message).await;
    let end = result.as_ref().map_or_else(RequestEnd::of, |_| RequestEnd::Ok);
    let seconds = node.clock.mono().since(request.started).as_secs_f64();
    node.metrics.coordinator.get.of(end).observe(seconds);
    result
}

async fn answer(
    node: &Arc<Node>,
    request: &Arc<Request>,
    message: &GetMessage,
) -> Result<(GetAnswer, Vec<Bytes>), Problem> {
    let needs = GetNeeds {
        r: request.r(message.r)?,
        pr: request.strict("pr", message.pr, request.props.pr)?,
        notfound_ok: message.notfound_ok.unwrap_or(request.props.notfound_ok),
        explain: message.explain,
    };
    let outcome = gather(node, request, needs).await.map_err(|failure| get_problem(&failure))?;
    let metrics = &node.metrics.coordinator;
    metrics.acks.observe(f64::from(outcome.acks));
    let stands_in = |role: &Role| matches!(role, Role::Fallback { .. });
    if outcome.primaries < outcome.acks || outcome.replicas.iter().any(|r| stands_in(&r.role)) {
        metrics.fallbacks_used.inc();
    }
    let now = node.clock.wall();
    let token = |context: &_| node.token(&request.object, context);
    let (versions, values) =
        read_view(&outcome.record, now, message.values, outcome.fastest, token)
            .map_err(|error| context_too_long(&error))?;
    metrics.versions_per_read.observe(versions.sibling_count as f64);
    let evidence = Evidence {
        acks: outcome.acks,
        asked: outcome.asked,
        primaries: outcome.primaries,
        n: outcome.n,
        hinted: 0,
        coordinator: node.me,
        durability: request.props.durability,
    };
    let replicas = outcome.replicas.iter().map(ReplicaView::from).collect();
    Ok((GetAnswer { versions, evidence, replicas }, values))
}

/// Reads the object from its replicas. Late replies and repairs follow in the background.
///
/// # Errors
/// The failure of the state machine.
pub async fn gather(
    node: &Arc<Node>,
    request: &Arc<Request>,
    needs: GetNeeds,
) -> Result<GetOutcome, GetFailure> {
    let plan = GetPlan {
        me: node.me,
        n: request.props.n,
        r: needs.r,
        pr: needs.pr,
        notfound_ok: needs.notfound_ok,
        reconciliation: request.props.reconciliation,
        explain: needs.explain,
        replicas: &request.replicas,
        deadline: request.deadline,
    };
    let now = node.clock.mono();
    let (op, effects) = node
        .health
        .with(|h| GetOp::start(&plan, |peer| h.reachable(peer), |peer| h.patience(peer), now))?;
    let replied = Answers::of(request.props.n);
    let get = Get { request: Arc::clone(request), op, begun: now, replied };
    let mut outcome = drive(node, get, effects).await?;
    let rule = request.props.reconciliation;
    outcome.record = node.store.settled(&request.object, outcome.record, rule);
    Ok(outcome)
}

/// One get on its way.
struct Get {
    request: Arc<Request>,
    op: GetOp,
    begun: Mono,
    /// Who has replied, for the freshness of reads.
    replied: Answers,
}

impl Operation for Get {
    type Event = GetEvent;
    type Effect = GetEffect;
    type Outcome = GetOutcome;
    type Failure = GetFailure;

    const TIMER: GetEvent = GetEvent::Timer;

    fn on_event(&mut self, event: GetEvent, node: &Node) -> Vec<GetEffect> {
        let now = node.clock.mono();
        if let GetEvent::Reply { from, .. } = &event {
            self.replied.note(*from, now);
        }
        self.op.on_event(event, now)
    }

    async fn perform(&mut self, effect: GetEffect, run: &mut Run<Self>) {
        match effect {
            GetEffect::Read { node, unless } => self.read(node, unless, run),
            GetEffect::Answer(outcome) => run.end(Ok(outcome)),
            GetEffect::Fail(failure) => run.end(Err(failure)),
            GetEffect::Repair { node, record } => self.repair(run.node(), node, record),
            GetEffect::Overdue { node } => run.overdue(node),
            GetEffect::SetTimer(at) => run.set_timer(at),
            GetEffect::Done => {
                let (node, replicas) = (run.node(), &self.request.replicas);
                node.noted.get(self.replied.delays(node.me, replicas, self.begun));
                run.finish();
            }
        }
    }
}

impl Get {
    fn read(&self, from: NodeId, unless: Option<RecordDigest>, run: &Run<Self>) {
        if from == run.node().me {
            run.raise(self.read_local(run.node()));
            return;
        }
        let object = self.request.object.clone();
        let op = ReplicaOp::Read { object, unless, token: false, put: None };
        let reply = Box::new(run.listener(move |result| event_of(from, result)));
        run.node().peers.send(from, op, self.request.deadline, reply);
    }

    fn read_local(&self, node: &Node) -> GetEvent {
        let (from, object) = (node.me, &self.request.object);
        let reply = match node.read_replica(object, self.request.props.reconciliation) {
            Ok(Some(record)) => ReplicaReply::Record(record),
            Ok(None) => {
                let holds = node.holds(&self.request.view, object);
                ReplicaReply::Absent { holds }
            }
            Err(error) => {
                let code = store_code(error).as_str().to_owned();
                return GetEvent::Failed { from, failure: ReplicaFailure::Refused(code) };
            }
        };
        GetEvent::Reply { from, reply }
    }

    /// Brings a stale replica up to date, after the answer and without waiting for it.
    fn repair(&self, node: &Arc<Node>, to: NodeId, record: Record) {
        let metrics = &node.metrics.coordinator;
        let Ok(permit) = Arc::clone(&node.repairs).try_acquire_owned() else {
            metrics.read_repairs_skipped.inc();
            return;
        };
        metrics.read_repairs.inc();
        let object = self.request.object.clone();
        let durability = Durability::Fsync;
        if to == node.me {
            let node = Arc::clone(node);
            let merge = node.merge_of(object, record);
            node.background.clone().spawn(async move {
                if let Err(error) = node.store.merge(vec![merge], durability, None).await {
                    tracing::debug!(%error, "an own replica could not be repaired");
                }
                drop(permit);
            });
            return;
        }
        let op = ReplicaOp::Merge { object, record, hint_for: None, durability, puts: Vec::new() };
        let deadline = node.clock.deadline(BACKGROUND_WRITE_TIMEOUT);
        let reply = Box::new(move |_| drop(permit));
        node.peers.send(to, op, deadline, reply);
    }
}

fn event_of(from: NodeId, result: Result<ReplicaResult, ReplicaFailure>) -> GetEvent {
    let failed = |failure| GetEvent::Failed { from, failure };
    match result {
        Ok(ReplicaResult::Record { record, .. }) => {
            GetEvent::Reply { from, reply: ReplicaReply::Record(record) }
        }
        Ok(ReplicaResult::Same) => GetEvent::Reply { from, reply: ReplicaReply::Same },
        Ok(ReplicaResult::Absent { holds }) => {
            GetEvent::Reply { from, reply: ReplicaReply::Absent { holds } }
        }
        Ok(ReplicaResult::Refused { code }) => failed(failure_of(code)),
        Ok(ReplicaResult::Merged) => {
            failed(ReplicaFailure::Refused(ErrorCode::BadFrame.as_str().to_owned()))
        }
        Err(failure) => failed(failure),
    }
}

/// The failure behind the code of a single operation.
pub(super) fn failure_of(code: String) -> ReplicaFailure {
    if code == ErrorCode::Overloaded.as_str() {
        ReplicaFailure::Overloaded
    } else if code == ErrorCode::DeadlineExceeded.as_str() {
        ReplicaFailure::Timeout
    } else {
        ReplicaFailure::Refused(code)
    }
}
