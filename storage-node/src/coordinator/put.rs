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
use tokio::sync::mpsc;

use super::get::failure_of;
use super::request::Request;
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
    // At most two events of the own store and one per replica that was sent to.
    let (sender, events) = mpsc::unbounded_channel();
    let mut driver = Driver {
        node: Arc::clone(node),
        request: Arc::clone(request),
        needs,
        command: Some(command),
        op,
        sender,
        events,
        timer: None,
        minted: None,
        ended: None,
        answered_at: None,
        stored_by: Vec::with_capacity(usize::from(request.props.n)),
        done: false,
    };
    driver.perform(effects).await;
    while driver.ended.is_none() && !driver.done {
        driver.step().await;
    }
    let ended = driver.ended.take();
    let minted = driver.minted.clone();
    if !driver.done {
        node.background.spawn(driver.finish());
    }
    // The machine answers or fails before it is done, and nothing is acknowledged before the dot
    // is minted.
    let outcome = ended.expect("an operation ends with an answer or a failure")?;
    Ok((outcome, minted.expect("an acknowledged put has a dot")))
}

/// One put on its way.
struct Driver {
    node: Arc<Node>,
    request: Arc<Request>,
    needs: PutNeeds,
    /// Taken by the local write.
    command: Option<PutCommand>,
    op: PutOp,
    sender: mpsc::UnboundedSender<Event>,
    events: mpsc::UnboundedReceiver<Event>,
    timer: Option<Mono>,
    minted: Option<Arc<Minted>>,
    ended: Option<Result<PutOutcome, PutFailure>>,
    answered_at: Option<Mono>,
    /// Owners that have the put, for the replication lag.
    stored_by: Vec<NodeId>,
    done: bool,
}

impl Driver {
    async fn finish(mut self) {
        while !self.done {
            self.step().await;
        }
    }

    /// Waits for one event and performs what follows from it.
    async fn step(&mut self) {
        let wait = self.timer.map(|at| self.node.clock.remaining(at));
        let event = match wait {
            None => self.events.recv().await,
            Some(wait) => tokio::select! {
                biased;
                event = self.events.recv() => event,
                () = tokio::time::sleep(wait) => {
                    self.timer = None;
                    Some(Event::Op(PutEvent::Timer))
                }
            },
        };
        // The sender lives in `self`, so the channel never ends.
        let event = match event {
            None => return,
            Some(Event::Op(event)) => event,
            Some(Event::Minted(minted)) => {
                if minted.replayed {
                    self.node.metrics.coordinator.replayed.inc();
                }
                self.minted = Some(Arc::from(minted));
                PutEvent::Minted
            }
        };
        self.note_stored(&event);
        let effects = self.op.on_event(event, self.node.clock.mono());
        self.perform(effects).await;
    }

    async fn perform(&mut self, effects: Vec<PutEffect>) {
        for effect in effects {
            match effect {
                PutEffect::WriteLocal => self.write_local(),
                PutEffect::Send { node, hint_for, durability } => {
                    self.send(node, hint_for, durability);
                }
                PutEffect::KeepHint { for_node } => self.keep_hint(for_node).await,
                PutEffect::Answer(outcome) => self.end(Ok(outcome)),
                PutEffect::Fail(failure) => self.end(Err(failure)),
                PutEffect::Overdue { node } => {
                    self.node.health.on_overdue(node, self.node.clock.mono());
                }
                PutEffect::SetTimer(at) => self.timer = Some(at),
                PutEffect::Done => self.done = true,
            }
        }
    }

    fn end(&mut self, result: Result<PutOutcome, PutFailure>) {
        if result.is_ok() {
            self.answered_at = Some(self.node.clock.mono());
            self.note_lag();
        }
        self.ended = Some(result);
    }

    fn write_local(&mut self) {
        let Some(command) = self.command.take() else { return };
        let sender = self.sender.clone();
        let request = PutRequest {
            object: self.request.object.clone(),
            command,
            durability: self.needs.durability,
            deadline: Some(self.request.deadline),
        };
        let listener = Box::new(move |progress| {
            let event = match progress {
                PutProgress::Minted(minted) => Event::Minted(minted),
                PutProgress::Done(Ok(())) => Event::Op(PutEvent::LocalDone),
                PutProgress::Done(Err(error)) => {
                    Event::Op(PutEvent::LocalFailed(local_failure(error)))
                }
            };
            // Fails where the operation is done already and nobody listens.
            sender.send(event).ok();
        });
        self.node.store.put(request, listener);
    }

    /// Keeps a hint by reference and waits until it is durable, as an answer may rest on it.
    async fn keep_hint(&self, for_node: NodeId) {
        let (node, object) = (&self.node, self.request.object.clone());
        let by = node.clock.mono().plus(KEEP_HINT_TIME);
        match node.hints.keep_reference(object, for_node, by).await {
            Ok(()) => node.handoff.noted(for_node, node.clock.mono()),
            Err(error) => {
                tracing::warn!(%error, target = %for_node, "a hint by reference was not kept");
            }
        }
    }

    fn send(&self, to: NodeId, hint_for: Option<NodeId>, durability: Durability) {
        // The machine sends only what is minted.
        let Some(minted) = &self.minted else { return };
        if hint_for.is_some() {
            self.node.metrics.coordinator.hints_sent.inc();
        }
        let record: Record = minted.delta.clone();
        let object = self.request.object.clone();
        let op = ReplicaOp::Merge { object, record, hint_for, durability };
        let sender = self.sender.clone();
        let reply = Box::new(move |result| {
            sender.send(Event::Op(event_of(to, result))).ok();
        });
        self.node.peers.send(to, op, self.request.deadline, reply);
    }

    /// Notes which owners have the put. That is for a metric alone; what counts as a quorum is
    /// decided by the machine.
    fn note_stored(&mut self, event: &PutEvent) {
        let by = match event {
            PutEvent::LocalDone => self.node.me,
            PutEvent::Acked { from } => *from,
            _ => return,
        };
        if self.request.replicas.owners.contains(&by) && !self.stored_by.contains(&by) {
            self.stored_by.push(by);
            self.note_lag();
        }
    }

    fn note_lag(&self) {
        let Some(answered) = self.answered_at else { return };
        if self.stored_by.len() == self.request.replicas.owners.len() {
            let lag = self.node.clock.mono().since(answered).as_secs_f64();
            self.node.metrics.coordinator.replication_lag_seconds.observe(lag);
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
