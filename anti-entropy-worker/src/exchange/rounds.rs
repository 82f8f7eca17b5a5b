//! The comparisons of this node with its partners, in their turns: who is due, who is reachable,
//! and what is noted of how they ended.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use dynamo_core::cluster_view::ClusterView;
use dynamo_core::id::NodeId;
use dynamo_core::limits::PARTITIONS_BEHIND_SHOWN_MAX;
use dynamo_core::merkle::exchange::{
    ClassPart, ExchangeCounts, ExchangeEnd, ExchangeFailure, ExchangeMode, ExchangePlan,
    ExchangeResult,
};
use dynamo_core::merkle::partners;
use dynamo_core::time::WallMs;
use service_kit::rng::OsEntropy;
use service_kit::shutdown::Shutdown;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::task::{Id, JoinSet};

use super::agreement::Agreement;
use super::run::Runner;
use super::schedule::Schedule;
use crate::limits::SCHEDULE_TICK;
use crate::metrics::{Behind, ExchangeMetrics};

/// What all comparisons of this node share.
#[derive(Debug)]
pub struct Rounds {
    /// Performs comparisons.
    pub runner: Runner,
    /// The ring.
    pub view: Arc<ArcSwapOption<ClusterView>>,
    /// What is known of the partners.
    pub agreement: Mutex<Agreement>,
    /// What operators see.
    pub metrics: ExchangeMetrics,
    /// Rouses the schedule: a new ring, or a node that came back.
    pub wake: Arc<Notify>,
    /// Hears of every round in which everything was found equal.
    pub agreed: Arc<Notify>,
    /// The partitions that the metrics name as behind.
    behind_shown: Mutex<BTreeSet<Behind>>,
    pairs: Pairs,
}

/// Which partners are being compared: one comparison of a pair at a time, and not too many at all.
#[derive(Debug)]
struct Pairs {
    slots: Arc<Semaphore>,
    busy: Mutex<BTreeSet<NodeId>>,
    freed: Notify,
}

/// The right to compare with one partner.
#[derive(Debug)]
pub struct PairTurn {
    rounds: Arc<Rounds>,
    node: NodeId,
    slot: Option<OwnedSemaphorePermit>,
}

impl Drop for PairTurn {
    fn drop(&mut self) {
        // Before whoever waits for it is told.
        drop(self.slot.take());
        let pairs = &self.rounds.pairs;
        pairs.busy.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.node);
        pairs.freed.notify_waiters();
        self.rounds.metrics.running.dec();
    }
}

impl Rounds {
    /// At most `exchanges` comparisons at once.
    #[must_use]
    pub fn new(
        runner: Runner,
        view: Arc<ArcSwapOption<ClusterView>>,
        metrics: ExchangeMetrics,
        wake: Arc<Notify>,
        exchanges: usize,
    ) -> Self {
        let pairs = Pairs {
            slots: Arc::new(Semaphore::new(exchanges)),
            busy: Mutex::default(),
            freed: Notify::new(),
        };
        let agreed = Arc::new(Notify::new());
        let (agreement, behind_shown) = (Mutex::default(), Mutex::default());
        Self { runner, view, agreement, metrics, wake, agreed, behind_shown, pairs }
    }

    /// What is known of the partners.
    pub fn agreement(&self) -> MutexGuard<'_, Agreement> {
        // No foreign code runs under the lock, so a poisoned one still guards a whole value.
        self.agreement.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The right to compare with `node` now; `None` where it is taken.
    #[must_use]
    pub fn try_turn(self: &Arc<Self>, node: NodeId) -> Option<PairTurn> {
        let slot = Arc::clone(&self.pairs.slots).try_acquire_owned().ok()?;
        let taken = self.pairs.busy.lock().unwrap_or_else(PoisonError::into_inner).insert(node);
        if !taken {
            return None;
        }
        self.metrics.running.inc();
        Some(PairTurn { rounds: Arc::clone(self), node, slot: Some(slot) })
    }

    /// The right to compare with `node`, once it is free.
    pub async fn turn(self: &Arc<Self>, node: NodeId) -> PairTurn {
        loop {
            let freed = self.pairs.freed.notified();
            tokio::pin!(freed);
            freed.as_mut().enable();
            if let Some(turn) = self.try_turn(node) {
                return turn;
            }
            freed.await;
        }
    }

    /// Compares with partners in their turns, until the stop. `interval` is that of a pair.
    pub async fn run(self: Arc<Self>, interval: Duration, shutdown: Shutdown) {
        let mut schedule = Schedule::new(interval.saturating_mul(2));
        let mut running = JoinSet::new();
        let mut whose: HashMap<Id, NodeId> = HashMap::new();
        let mut seen: Option<Arc<ClusterView>> = None;
        loop {
            self.follow_ring(&mut schedule, &mut seen);
            self.hurry_recovered(&mut schedule);
            while let Some((node, turn)) = self.next(&mut schedule) {
                schedule.begin(node);
                let rounds = Arc::clone(&self);
                let task = running.spawn(async move { rounds.round(turn).await });
                whose.insert(task.id(), node);
            }
            let ended = tokio::select! {
                () = shutdown.requested() => return,
                Some(ended) = running.join_next_with_id() => ended,
                () = self.wake.notified() => continue,
                () = tokio::time::sleep(SCHEDULE_TICK) => continue,
            };
            let (id, soon) = match ended {
                Ok((id, soon)) => (id, soon),
                Err(error) => {
                    tracing::error!(%error, "a comparison ended abnormally");
                    (error.id(), false)
                }
            };
            if let Some(node) = whose.remove(&id) {
                schedule.end(node, soon, self.runner.clock.mono(), &mut OsEntropy);
            }
        }
    }

    /// Takes over a new ring, or new holdings under the same.
    fn follow_ring(&self, schedule: &mut Schedule, seen: &mut Option<Arc<ClusterView>>) {
        let Some(view) = self.view.load_full() else { return };
        let known = seen.as_ref();
        if known.is_some_and(|known| Arc::ptr_eq(known, &view)) {
            return;
        }
        let now = self.runner.clock.mono();
        let partners = partners(&view, self.runner.stores.caller().me());
        let nodes: BTreeSet<NodeId> = partners.keys().copied().collect();
        schedule.set_partners(&nodes, now, &mut OsEntropy);
        if known.is_some_and(|known| known.version() != view.version()) {
            schedule.hurry_all(now);
        }
        self.forget_ages(&nodes);
        self.metrics.partners.set(i64::try_from(nodes.len()).unwrap_or(i64::MAX));
        self.agreement().set_partners(&partners);
        *seen = Some(view);
    }

    /// No series is left of a node that is no partner any more.
    fn forget_ages(&self, partners: &BTreeSet<NodeId>) {
        let agreement = self.agreement();
        for (node, _) in agreement.partners().filter(|(node, _)| !partners.contains(node)) {
            // It is not there where it was never shown.
            drop(self.metrics.agreed_age.remove_label_values(&[&node.to_string()]));
        }
    }

    fn hurry_recovered(&self, schedule: &mut Schedule) {
        let caller = self.runner.stores.caller();
        let now = self.runner.clock.mono();
        for node in caller.reach().take_recovered() {
            if node == caller.me() {
                schedule.hurry_all(now);
            } else {
                schedule.hurry(node, now);
            }
        }
    }

    /// The next partner to compare with, where there is room for one.
    fn next(self: &Arc<Self>, schedule: &mut Schedule) -> Option<(NodeId, PairTurn)> {
        let caller = self.runner.stores.caller();
        let (clock, reach) = (&self.runner.clock, caller.reach());
        if self.runner.pause.is_paused() {
            return None;
        }
        while let Some(node) = schedule.due(clock.mono()) {
            if reach.reachable(caller.me()) && reach.reachable(node) {
                return self.try_turn(node).map(|turn| (node, turn));
            }
            self.metrics.skipped.inc();
            self.agreement().skip(node, "not reachable", clock.wall());
            schedule.end(node, false, clock.mono(), &mut OsEntropy);
        }
        None
    }

    /// One comparison of everything in common; true where another should follow soon.
    async fn round(&self, turn: PairTurn) -> bool {
        let node = turn.node;
        let scope: BTreeSet<ClassPart> = match self.agreement().partner(node) {
            Some(standing) => standing.parts.keys().copied().collect(),
            None => return false,
        };
        let result = self.compare(&self.runner, node, &scope, |_| {}).await;
        let Some(result) = result else { return false };
        result.end == ExchangeEnd::DifferencesLeft && has_repaired(&result.counts)
    }

    /// Compares `scope` with `node`, and notes how it ended. `None` without a ring.
    pub async fn compare(
        &self,
        runner: &Runner,
        node: NodeId,
        scope: &BTreeSet<ClassPart>,
        on_step: impl FnMut(ExchangeCounts) + Send,
    ) -> Option<ExchangeResult> {
        let partitions = self.view.load_full()?.partitions();
        let plan = ExchangePlan::new(partitions, scope.iter().copied(), ExchangeMode::Both);
        let (since, started) = (runner.clock.wall(), runner.clock.mono());
        self.agreement().begin(node);
        let result = runner.run(node, plan, on_step).await;
        let now = runner.clock.wall();
        self.agreement().end(node, scope, &result, (since, now));
        let took = runner.clock.mono().since(started);
        self.metrics.ended(&result, took.as_secs_f64());
        report(node, &result);
        self.agreed.notify_waiters();
        Some(result)
    }

    /// Shows how old what is known is.
    pub fn show_ages(&self) {
        let now = self.runner.clock.wall();
        let agreement = self.agreement();
        let age = |at: Option<WallMs>| at.map_or(-1.0, |at| now.since(at).as_secs_f64());
        let mut behind = 0u64;
        for (node, standing) in agreement.partners() {
            let age = age(standing.agreed_at);
            self.metrics.agreed_age.with_label_values(&[&node.to_string()]).set(age);
            behind = behind.saturating_add(standing.keys_behind);
        }
        self.metrics.lag.set(age(agreement.full_round(now)));
        self.metrics.keys_behind.set(i64::try_from(behind).unwrap_or(i64::MAX));
        let apart = agreement.apart();
        self.metrics.partitions_behind.set(i64::try_from(apart.len()).unwrap_or(i64::MAX));
        let view = self.view.load_full();
        let name = |node| Some(view.as_deref()?.node(node)?.name.clone());
        let worst = agreement.furthest_behind(PARTITIONS_BEHIND_SHOWN_MAX);
        let named = worst.into_iter().filter_map(|((partition, node), agreed)| {
            Some(((partition, name(node)?), age(agreed)))
        });
        let mut shown = self.behind_shown.lock().unwrap_or_else(PoisonError::into_inner);
        self.metrics.show_behind(&mut shown, named.collect());
        self.metrics.paused.set(i64::from(self.runner.pause.is_paused()));
    }
}

/// Whether a comparison has mended anything.
pub(super) fn has_repaired(counts: &ExchangeCounts) -> bool {
    counts.pulled > 0 || counts.pushed > 0
}

/// One line where something was mended or is wrong; an outage has had its line.
fn report(node: NodeId, result: &ExchangeResult) {
    let counts = &result.counts;
    if has_repaired(counts) {
        tracing::info!(
            %node,
            pulled = counts.pulled,
            pushed = counts.pushed,
            bytes = counts.bytes_moved(),
            parts_left = result.left.len(),
            "replicas differed and were repaired"
        );
    }
    match &result.end {
        ExchangeEnd::Failed { side, failure: failure @ ExchangeFailure::Malformed(_) } => {
            tracing::warn!(%node, ?side, %failure, "a comparison failed");
        }
        ExchangeEnd::Failed { side, failure } => {
            tracing::debug!(%node, ?side, %failure, "a comparison failed");
        }
        ExchangeEnd::DifferencesLeft if counts.refused > 0 => {
            let refused = counts.refused;
            tracing::warn!(%node, refused, "some keys differ and could not be repaired");
        }
        ExchangeEnd::Agreed | ExchangeEnd::DifferencesLeft => {}
    }
}
