//! Partitions on the move (paper section 4.9): performs what [`dynamo_core::transfer`] decides for
//! this node, and notes durably how far each partition has come.
//!
//! | module | noun |
//! |---|---|
//! | [`steps`] | one effect, performed |
//! | [`tasks`] | what is being performed |
//! | [`stall`] | partitions that do not get on |

pub mod stall;
pub mod steps;
mod tasks;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwapOption;
use dynamo_core::cluster_view::ClusterView;
use dynamo_core::id::PartitionId;
use dynamo_core::time::Mono;
use dynamo_core::transfer::{AcceptLossError, MoveEffect, MoveEvent, Mover, Progress};
use dynamo_core::wire::worker::{TransferState, TransfersDocument};
use service_kit::rng::OsEntropy;
use service_kit::shutdown::Shutdown;
use tokio::sync::Notify;

use self::stall::Stall;
use self::steps::Steps;
use self::tasks::{Found, Task, Tasks};
use crate::exchange::run::Runner;
use crate::limits::{MOVE_TICK, OWN_INTERVAL_IDLE, STALL_WARN_AFTER};
use crate::metrics::{ExchangeMetrics, TransferMetrics};
use crate::progress::{ProgressError, ProgressFile};

/// All movement of this node.
#[derive(Debug)]
pub struct Movement {
    steps: Arc<Steps>,
    view: Arc<ArcSwapOption<ClusterView>>,
    metrics: TransferMetrics,
    state: Mutex<State>,
    /// Something changed that is no answer to a step.
    news: Notify,
}

#[derive(Debug)]
struct State {
    mover: Mover,
    stall: Stall,
    /// Records and bytes that the metrics have counted.
    counted: (u64, u64),
    /// Whether partitions were on their way here at the last look.
    was_moving: bool,
}

impl Movement {
    /// The movement that `progress` says was under way.
    ///
    /// # Errors
    /// Where the progress cannot be read.
    pub fn new(
        runner: Runner,
        view: Arc<ArcSwapOption<ClusterView>>,
        progress: Arc<ProgressFile>,
        metrics: TransferMetrics,
        exchanges: ExchangeMetrics,
    ) -> Result<Self, ProgressError> {
        let mut notes = Vec::new();
        for (partition, note) in progress.checkpoints()? {
            match Progress::decode(&note) {
                Ok(note) => notes.push((partition, note)),
                Err(error) => {
                    tracing::warn!(partition = partition.0, %error, "a transfer begins anew");
                }
            }
        }
        let me = runner.stores.caller().me();
        let state = State {
            mover: Mover::new(me, notes),
            stall: Stall::default(),
            counted: (0, 0),
            was_moving: false,
        };
        let steps = Arc::new(Steps {
            runner,
            progress,
            metrics: metrics.clone(),
            exchanges,
            compared: Mutex::default(),
        });
        Ok(Self { steps, view, metrics, state: Mutex::new(state), news: Notify::new() })
    }

    /// What operators see.
    #[must_use]
    pub fn document(&self) -> TransfersDocument {
        let runner = &self.steps.runner;
        self.state().mover.document(runner.pause.is_paused(), runner.clock.mono())
    }

    /// An operator accepts that what nobody holds is lost.
    ///
    /// # Errors
    /// [`AcceptLossError`]; nothing changes then.
    pub fn accept_loss(&self, partitions: &[PartitionId]) -> Result<(), AcceptLossError> {
        self.state().mover.accept_loss(partitions)?;
        self.news.notify_one();
        Ok(())
    }

    /// Moves what is to be moved, until the stop. `wake` hears of rings and of nodes that came
    /// back.
    pub async fn run(self: Arc<Self>, wake: Arc<Notify>, shutdown: Shutdown) {
        let mut tasks = Tasks::default();
        let mut seen: Option<Arc<ClusterView>> = None;
        loop {
            if self.follow_ring(&mut seen) {
                tasks.own_due = Mono::default();
            }
            if seen.is_some() {
                self.ask_own(&mut tasks);
            }
            for effect in self.poll() {
                self.perform(effect, &mut tasks);
            }
            tokio::select! {
                () = shutdown.requested() => return,
                Some(found) = tasks.next() => self.take(found, &mut tasks),
                () = wake.notified() => {}
                () = self.news.notified() => {}
                () = tokio::time::sleep(MOVE_TICK) => {}
            }
        }
    }

    /// Takes over a new view; true where there is one.
    fn follow_ring(&self, seen: &mut Option<Arc<ClusterView>>) -> bool {
        let Some(view) = self.view.load_full() else { return false };
        if seen.as_ref().is_some_and(|known| Arc::ptr_eq(known, &view)) {
            return false;
        }
        self.state().mover.on_view(Arc::clone(&view));
        *seen = Some(view);
        true
    }

    fn poll(&self) -> Vec<MoveEffect> {
        let runner = &self.steps.runner;
        if runner.pause.is_paused() {
            return Vec::new();
        }
        let reach = runner.stores.caller().reach();
        self.state().mover.poll(runner.clock.mono(), |node| reach.reachable(node))
    }

    /// Asks the own store what it has, where that is due.
    fn ask_own(&self, tasks: &mut Tasks) {
        let now = self.steps.runner.clock.mono();
        if tasks.asking_own || now < tasks.own_due {
            return;
        }
        tasks.asking_own = true;
        let pause = if self.state().was_moving { MOVE_TICK } else { OWN_INTERVAL_IDLE };
        tasks.own_due = now.plus(pause);
        let (steps, changes) = (Arc::clone(&self.steps), tasks.changes);
        let asking = async move { Found::Own(steps.own().await, changes) };
        tasks.spawn(Task::Own, asking);
    }

    fn perform(&self, effect: MoveEffect, tasks: &mut Tasks) {
        if matches!(effect, MoveEffect::Hold { .. } | MoveEffect::Release { .. }) {
            tasks.changes += 1;
        }
        // Effects come of a view, so there is one.
        let Some(view) = self.view.load_full() else { return };
        let (steps, task) = (Arc::clone(&self.steps), Task::of(&effect));
        let performing = async move {
            let event = steps.perform(effect, view.partitions()).await;
            event.map_or(Found::Nothing, Found::Event)
        };
        tasks.spawn(task, performing);
    }

    fn take(&self, found: Found, tasks: &mut Tasks) {
        match found {
            Found::Nothing => {}
            Found::Own(document, changes) => {
                tasks.asking_own = false;
                // What was asked before a change may not show it, and would undo it here.
                match document.filter(|_| changes == tasks.changes) {
                    Some(document) => self.state().mover.on_own(document),
                    None => {
                        let soon = self.steps.runner.clock.deadline(MOVE_TICK);
                        tasks.own_due = tasks.own_due.min(soon);
                    }
                }
            }
            Found::Event(event) => {
                let now = self.steps.runner.clock.mono();
                if matches!(event, MoveEvent::Done { .. }) {
                    tasks.changes += 1;
                }
                self.count(&event);
                let effects = {
                    let mut state = self.state();
                    if let Some(partition) = stall::progressed(&event) {
                        state.stall.touch(partition, now);
                    }
                    state.mover.on_event(event, now, &mut OsEntropy)
                };
                for effect in effects {
                    self.perform(effect, tasks);
                }
            }
        }
    }

    fn count(&self, event: &MoveEvent) {
        match event {
            MoveEvent::Failed { ticket, reason } => {
                self.metrics.failures.inc();
                let partition = ticket.partition.0;
                tracing::debug!(partition, reason, "a step of a transfer failed");
            }
            MoveEvent::Dropped { dropped, .. } => self.metrics.dropped.inc_by(*dropped),
            MoveEvent::Page { page, .. } => self.metrics.unreadable.inc_by(page.unreadable),
            _ => {}
        }
    }

    /// Shows how much is on the move, and says so where something does not get on.
    pub fn show(&self) {
        let document = self.document();
        self.metrics.show(&document.totals);
        let now = self.steps.runner.clock.mono();
        let mut state = self.state();
        let (records, bytes) =
            std::mem::replace(&mut state.counted, (document.records, document.bytes));
        self.metrics.records.inc_by(document.records.saturating_sub(records));
        self.metrics.bytes.inc_by(document.bytes.saturating_sub(bytes));
        let stalled = state.stall.look(&document, &self.steps.touched(), now);
        self.metrics.stalled.set(stalled.map_or(0.0, |(_, time)| time.as_secs_f64()));
        if let Some((view, time)) = stalled.filter(|(_, time)| *time >= STALL_WARN_AFTER)
            && state.stall.warn_once()
        {
            tracing::warn!(
                partition = view.partition.0,
                state = view.state.as_str(),
                seconds = time.as_secs(),
                error = view.error.as_deref().unwrap_or_default(),
                "a transfer does not get on"
            );
        }
        let count = |state: TransferState| document.totals.get(&state).copied().unwrap_or(0);
        let moving = document.partitions.len();
        if (moving > 0) != std::mem::replace(&mut state.was_moving, moving > 0) {
            tracing::info!(
                partitions = moving,
                held = count(TransferState::Held),
                no_holder = count(TransferState::NoHolder),
                records = document.records,
                "{}",
                if moving > 0 { "partitions begin to move" } else { "all partitions are in place" }
            );
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No foreign code runs under the lock, so a poisoned one still guards a whole value.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
