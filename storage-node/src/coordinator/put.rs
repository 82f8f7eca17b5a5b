//! Performs the effects of one put.

use std::sync::Arc;

use dynamo_core::clock::record::Record;
use dynamo_core::id::NodeId;
use dynamo_core::params::Durability;
use dynamo_core::quorum::{
    LocalFailure, PutEffect, PutEvent, PutFailure, PutOp, PutOutcome, PutPlan, ReplicaFailure,
    WriteGoal,
};
use dynamo_core::replica::{Minted, PutCommand};
use dynamo_core::time::Mono;
use dynamo_core::wire::replica::{ReplicaOp, ReplicaResult};
use service_kit::http::error::ErrorCode;

use super::driver::{Operation, Run, drive};
use super::get::failure_of;
use super::request::Request;
use crate::freshness::Answers;
use crate::limits::KEEP_HINT_TIME;
use crate::node::{Node, store_code};
use crate::store::put::{PutError, PutProgress, PutRequest};

/// What a put insists on.
#[derive(Debug, Clone, Copy)]
pub struct PutNeeds {
    /// Acknowledgements.
    pub w: WriteGoal,
    /// Acknowledgements of primaries.
    pub pw: u8,
    /// What they must have survived.
    pub durability: Durability,
}

/// What happens to a put.
enum Event {
    /// The local store minted the dot.
    Minted(Box<Minted>),
    /// Anything else, as the machine takes it.
    Op(PutEvent),
}

/// Writes the object to its replicas. Slower replicas, hints and stand-ins follow in the
/// background.
///
/// # Errors
/// The failure of the state machine.
pub async fn write(
    node: &Arc<Node>,
    request: &Arc<Request>,
    needs: PutNeeds,
    command: PutCommand,
) -> Result<(PutOutcome, Arc<Minted>), PutFailure> {
    let plan = PutPlan {
        me: node.me,
        n: request.props.n,
        w: needs.w,
        pw: needs.pw,
        durability: needs.durability,
        stand_in: request.is_same_ring(),
        replicas: &request.replicas,
        deadline: request.deadline,
    };
    let now = node.clock.mono();
    let (op, effects) = node
        .health
        .with(|h| PutOp::start(&plan, |peer| h.reachable(peer), |peer| h.patience(peer), now))?;
    let put = Put {
        request: Arc::clone(request),
        needs,
        command: Some(command),
        op,
        minted: None,
        answered_at: None,
        stored_by: Answers::of(request.props.n),
    };
    drive(node, put, effects).await
}

/// One put on its way.
struct Put {
    request: Arc<Request>,
    needs: PutNeeds,
    /// Taken by the local write.
    command: Option<PutCommand>,
    op: PutOp,
    minted: Option<Arc<Minted>>,
    answered_at: Option<Mono>,
    /// Owners that have the put, for the replication lag and the freshness of reads.
    stored_by: Answers,
}

impl Operation for Put {
    type Event = Event;
    type Effect = PutEffect;
    type Outcome = (PutOutcome, Arc<Minted>);
    type Failure = PutFailure;

    const TIMER: Event = Event::Op(PutEvent::Timer);

    fn on_event(&mut self, event: Event, node: &Node) -> Vec<PutEffect> {
        let event = match event {
            Event::Op(event) => event,
            Event::Minted(minted) => {
                if minted.replayed {
                    node.metrics.coordinator.replayed.inc();
                }
                self.minted = Some(Arc::from(minted));
                PutEvent::Minted
            }
        };
        self.note_stored(&event, node);
        self.op.on_event(event, node.clock.mono())
    }

    async fn perform(&mut self, effect: PutEffect, run: &mut Run<Self>) {
        match effect {
            PutEffect::WriteLocal => self.write_local(run),
            PutEffect::Send { node, hint_for, durability } => {
                self.send(node, hint_for, durability, run);
            }
            PutEffect::KeepHint { for_node } => self.keep_hint(for_node, run.node()).await,
            PutEffect::Answer(outcome) => {
                // Nothing is acknowledged before the dot is minted.
                let minted = self.minted.clone().expect("an acknowledged put has a dot");
                self.answered_at = Some(run.node().clock.mono());
                self.note_lag(run.node());
                run.end(Ok((outcome, minted)));
            }
            PutEffect::Fail(failure) => run.end(Err(failure)),
            PutEffect::Overdue { node } => run.overdue(node),
            PutEffect::SetTimer(at) => run.set_timer(at),
            PutEffect::Done => {
                self.note_delays(run.node());
                run.finish();
            }
        }
    }
}

impl Put {
    fn write_local(&mut self, run: &Run<Self>) {
        let Some(command) = self.command.take() else { return };
        let request = PutRequest {
            object: self.request.object.clone(),
            command,
            durability: self.needs.durability,
            deadline: Some(self.request.deadline),
        };
        let listener = run.listener(|progress| match progress {
            PutProgress::Minted(minted) => Event::Minted(minted),
            PutProgress::Done(Ok(())) => Event::Op(PutEvent::LocalDone),
            PutProgress::Done(Err(error)) => Event::Op(PutEvent::LocalFailed(local_failure(error))),
        });
        run.node().store.put(request, Box::new(listener));
    }

    /// Keeps a hint by reference and waits until it is durable, as an answer may rest on it.
    async fn keep_hint(&self, for_node: NodeId, node: &Node) {
        let object = self.request.object.clone();
        let by = node.clock.mono().plus(KEEP_HINT_TIME);
        match node.hints.keep_reference(object, for_node, by).await {
            Ok(()) => node.handoff.noted(for_node, node.clock.mono()),
            Err(error) => {
                tracing::warn!(%error, target = %for_node, "a hint by reference was not kept");
            }
        }
    }

    fn send(&self, to: NodeId, hint_for: Option<NodeId>, durability: Durability, run: &Run<Self>) {
        // The machine sends only what is minted.
        let Some(minted) = &self.minted else { return };
        if hint_for.is_some() {
            run.node().metrics.coordinator.hints_sent.inc();
        }
        let record: Record = minted.delta.clone();
        let object = self.request.object.clone();
        let op = ReplicaOp::Merge { object, record, hint_for, durability, puts: Vec::new() };
        let reply = Box::new(run.listener(move |result| Event::Op(event_of(to, result))));
        run.node().peers.send(to, op, self.request.deadline, reply);
    }

    /// Notes which owners have the put. That is for a metric alone; what counts as a quorum is
    /// decided by the machine.
    fn note_stored(&mut self, event: &PutEvent, node: &Node) {
        let by = match event {
            PutEvent::LocalDone => node.me,
            PutEvent::Acked { from } => *from,
            _ => return,
        };
        let now = node.clock.mono();
        if self.request.replicas.owners.contains(&by) && self.stored_by.note(by, now) {
            self.note_lag(node);
        }
    }

    /// Notes when the replicas had the put. One that was applied before was there all the time.
    fn note_delays(&self, node: &Node) {
        if self.minted.as_ref().is_some_and(|minted| !minted.replayed) {
            let Request { replicas, started, .. } = &*self.request;
            node.noted.put(self.stored_by.delays(node.me, replicas, *started));
        }
    }

    fn note_lag(&self, node: &Node) {
        let Some(answered) = self.answered_at else { return };
        if self.stored_by.count() == self.request.replicas.owners.len() {
            let lag = node.clock.mono().since(answered).as_secs_f64();
            node.metrics.coordinator.replication_lag_seconds.observe(lag);
        }
    }
}

fn local_failure(error: PutError) -> LocalFailure {
    match error {
        PutError::Refused(refusal) => LocalFailure::Refused(refusal),
        PutError::Store(error) => {
            LocalFailure::Store { code: store_code(error).as_str().to_owned() }
        }
    }
}

fn event_of(from: NodeId, result: Result<ReplicaResult, ReplicaFailure>) -> PutEvent {
    match result {
        Ok(ReplicaResult::Merged) => PutEvent::Acked { from },
        Ok(ReplicaResult::Refused { code }) => PutEvent::Failed { from, failure: failure_of(code) },
        Ok(_) => {
            let code = ErrorCode::BadFrame.as_str().to_owned();
            PutEvent::Failed { from, failure: ReplicaFailure::Refused(code) }
        }
        Err(failure) => PutEvent::Failed { from, failure },
    }
}
