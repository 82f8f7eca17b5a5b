//! Runs one operation: takes what happens to it, asks its state machine, performs what follows, and
//! goes on in the background once the client has its answer.
//!
//! Not here: what an event or an effect means. That is the operation's own, see [`Operation`].

use std::sync::Arc;

use dynamo_core::id::NodeId;
use dynamo_core::time::Mono;
use tokio::sync::mpsc;

use crate::node::Node;

/// A state machine together with those who perform its effects.
pub(super) trait Operation: Sized + Send + 'static {
    /// What happens to it.
    type Event: Send + 'static;
    /// What it wants done.
    type Effect: Send;
    /// How it ends well.
    type Outcome: Send;
    /// How it fails.
    type Failure: Send;

    /// The event of a timer that fired.
    const TIMER: Self::Event;

    /// Asks the machine what follows from `event`.
    fn on_event(&mut self, event: Self::Event, node: &Node) -> Vec<Self::Effect>;

    /// Performs one effect; what comes of it later is told through a listener of `run`.
    fn perform(
        &mut self,
        effect: Self::Effect,
        run: &mut Run<Self>,
    ) -> impl Future<Output = ()> + Send;
}

/// Where an operation stands, as far as that is the same for every kind.
pub(super) struct Run<O: Operation> {
    node: Arc<Node>,
    sender: mpsc::UnboundedSender<O::Event>,
    timer: Option<Mono>,
    ended: Option<Result<O::Outcome, O::Failure>>,
    done: bool,
}

impl<O: Operation> Run<O> {
    /// The node that runs it.
    pub(super) fn node(&self) -> &Arc<Node> {
        &self.node
    }

    /// An event that happened at once, handled after what is being performed.
    pub(super) fn raise(&self, event: O::Event) {
        // The receiver lives as long as the operation runs.
        self.sender.send(event).ok();
    }

    /// Makes an event of what somebody else reports.
    pub(super) fn listener<T>(
        &self,
        event: impl Fn(T) -> O::Event + Send + 'static,
    ) -> impl Fn(T) + Send + 'static {
        let sender = self.sender.clone();
        move |report| {
            // Fails where the operation is done already and nobody listens.
            sender.send(event(report)).ok();
        }
    }

    /// The client has its answer.
    pub(super) fn end(&mut self, result: Result<O::Outcome, O::Failure>) {
        self.ended = Some(result);
    }

    /// Fires the timer at `at` instead of at the time set before.
    pub(super) fn set_timer(&mut self, at: Mono) {
        self.timer = Some(at);
    }

    /// A replica takes longer than it was given.
    pub(super) fn overdue(&self, node: NodeId) {
        self.node.health.on_overdue(node, self.node.clock.mono());
    }

    /// Nothing that may still happen matters.
    pub(super) fn finish(&mut self) {
        self.done = true;
    }
}

/// Runs an operation that has just been started with `effects` until it ends; what is left of it
/// then goes on in the background.
pub(super) async fn drive<O: Operation>(
    node: &Arc<Node>,
    operation: O,
    effects: Vec<O::Effect>,
) -> Result<O::Outcome, O::Failure> {
    // Bounded by the operation: a few events of the own store and one per replica that was asked.
    let (sender, events) = mpsc::unbounded_channel();
    let run = Run { node: Arc::clone(node), sender, timer: None, ended: None, done: false };
    let mut driver = Driver { operation, run, events };
    driver.perform(effects).await;
    while driver.run.ended.is_none() && !driver.run.done {
        driver.step().await;
    }
    let ended = driver.run.ended.take();
    if !driver.run.done {
        node.background.spawn(driver.finish());
    }
    ended.expect("a machine answers or fails before it is done")
}

struct Driver<O: Operation> {
    operation: O,
    run: Run<O>,
    events: mpsc::UnboundedReceiver<O::Event>,
}

impl<O: Operation> Driver<O> {
    async fn finish(mut self) {
        while !self.run.done {
            self.step().await;
        }
    }

    /// Waits for one event and performs what follows from it.
    async fn step(&mut self) {
        let wait = self.run.timer.map(|at| self.run.node.clock.remaining(at));
        let event = match wait {
            None => self.events.recv().await,
            Some(wait) => tokio::select! {
                biased;
                event = self.events.recv() => event,
                () = tokio::time::sleep(wait) => {
                    self.run.timer = None;
                    Some(O::TIMER)
                }
            },
        };
        // The sender lives in `self`, so the channel never ends.
        let Some(event) = event else { return };
        let effects = self.operation.on_event(event, &self.run.node);
        self.perform(effects).await;
    }

    async fn perform(&mut self, effects: Vec<O::Effect>) {
        for effect in effects {
            self.operation.perform(effect, &mut self.run).await;
        }
    }
}
