//! Removing tombstones, expired objects and old clock entries from all nodes at once: performs
//! [`dynamo_core::reap`] for the partitions of which this node is the first owner, one after the
//! other, when its comparisons have found their owners equal.
//!
//! A partition is looked through now and then: for what is dead by the keys of its leaves, for long
//! clocks by its records, which is more work and done rarely. A look that is cut off begins anew.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use dynamo_core::clock::record::Record;
use dynamo_core::cluster_view::ClusterView;
use dynamo_core::id::PartitionId;
use dynamo_core::key::ObjectKey;
use dynamo_core::limits::{REAP_KEYS_MAX, TREE_LEAVES_MAX};
use dynamo_core::merkle::{Leaf, Prefix, led};
use dynamo_core::reap::{Candidate, NotNow, ReapEffect, ReapEvent, ReapRound};
use dynamo_core::time::Mono;
use service_kit::rng::{OsEntropy, jittered};
use service_kit::shutdown::Shutdown;
use tokio::task::JoinSet;

use crate::exchange::rounds::Rounds;
use crate::exchange::run::Runner;
use crate::limits::{
    CLOCKS_INTERVAL, DEAD_INTERVAL_MAX, REAP_RETRY, REAP_TICK, VISIT_JITTER_PERCENT,
};
use crate::metrics::ReapMetrics;
use crate::peers::call::CallError;

/// Why a look through a partition was given up.
#[derive(Debug, thiserror::Error)]
enum Interrupted {
    /// The own store did not answer.
    #[error("own store: {0}")]
    Store(#[from] CallError),
    /// It is not the time for it.
    #[error(transparent)]
    NotNow(#[from] NotNow),
    /// A step ended abnormally.
    #[error("a step ended abnormally: {0}")]
    Panicked(#[from] tokio::task::JoinError),
}

/// When a partition is looked through next.
#[derive(Debug, Clone, Copy)]
struct Visit {
    dead: Mono,
    clocks: Mono,
}

/// Removes what nobody needs.
#[derive(Debug)]
pub struct Reaper {
    runner: Runner,
    rounds: Arc<Rounds>,
    grace: Duration,
    /// How long ago the owners may have been found equal.
    fresh: Duration,
    metrics: ReapMetrics,
    visits: BTreeMap<PartitionId, Visit>,
}

impl Reaper {
    /// Removes what has been dead for `grace`, where owners were found equal no longer than `fresh`
    /// ago.
    #[must_use]
    pub fn new(
        runner: Runner,
        rounds: Arc<Rounds>,
        (grace, fresh): (Duration, Duration),
        metrics: ReapMetrics,
    ) -> Self {
        Self { runner, rounds, grace, fresh, metrics, visits: BTreeMap::new() }
    }

    /// Works until the stop.
    pub async fn run(mut self, shutdown: Shutdown) {
        loop {
            let news = async {
                tokio::select! {
                    () = self.rounds.agreed.notified() => {}
                    () = tokio::time::sleep(REAP_TICK) => {}
                }
            };
            if shutdown.unless_requested(news).await.is_none() {
                return;
            }
            while let Some((view, partition)) = self.next() {
                match shutdown.unless_requested(self.visit(&view, partition)).await {
                    Some(()) => {}
                    None => return,
                }
            }
        }
    }

    /// The next partition to look through, where there is one.
    fn next(&mut self) -> Option<(Arc<ClusterView>, PartitionId)> {
        if self.runner.pause.is_paused() {
            return None;
        }
        let view = self.rounds.view.load_full()?;
        let me = self.runner.stores.caller().me();
        let now = self.runner.clock.mono();
        let is_led = |partition: &PartitionId| view.wanting(*partition).first() == Some(&me);
        self.visits.retain(|partition, _| is_led(partition));
        let dead_interval = self.dead_interval();
        for partition in view.partitions().iter().filter(is_led) {
            self.visits.entry(partition).or_insert_with(|| Visit {
                dead: now.plus(jittered(dead_interval, 100, &mut OsEntropy)),
                clocks: now.plus(jittered(CLOCKS_INTERVAL, 100, &mut OsEntropy)),
            });
        }
        let due = |visit: &Visit| visit.dead.min(visit.clocks) <= now;
        let due: Vec<PartitionId> =
            self.visits.iter().filter(|(_, visit)| due(visit)).map(|(p, _)| *p).collect();
        // Everybody who may hold anything is asked: without one of them nothing can be done.
        let reach = self.runner.stores.caller().reach();
        let holders = view.nodes().filter(|node| node.status.may_hold());
        if due.is_empty() || !holders.into_iter().all(|node| reach.reachable(node.id)) {
            return None;
        }
        let partition = due.into_iter().find(|partition| self.is_agreed(&view, *partition))?;
        Some((view, partition))
    }

    /// Whether the owners of the partition were found equal lately.
    fn is_agreed(&self, view: &ClusterView, partition: PartitionId) -> bool {
        let me = self.runner.stores.caller().me();
        let now = self.runner.clock.wall();
        let fresh = u64::try_from(self.fresh.as_millis()).unwrap_or(u64::MAX);
        let since = dynamo_core::time::WallMs(now.0.saturating_sub(fresh));
        let agreement = self.rounds.agreement();
        view.classes().iter().all(|class| {
            let part = (*class, partition);
            led(view, me, part).is_some_and(|others| agreement.agreed_since(part, &others, since))
        })
    }

    /// Often enough that nothing stays much longer than it has to.
    fn dead_interval(&self) -> Duration {
        (self.grace / 4).min(DEAD_INTERVAL_MAX)
    }

    async fn visit(&mut self, view: &Arc<ClusterView>, partition: PartitionId) {
        let now = self.runner.clock.mono();
        let clocks = self.visits.get(&partition).is_some_and(|visit| visit.clocks <= now);
        let looked = if clocks {
            self.look_at_records(view, partition).await
        } else {
            self.look_at_keys(view, partition).await
        };
        let now = self.runner.clock.mono();
        let Some(visit) = self.visits.get(&partition).copied() else { return };
        let next = |interval| now.plus(jittered(interval, VISIT_JITTER_PERCENT, &mut OsEntropy));
        let visit = match looked {
            // Its records tell what is dead, too.
            Ok(()) => Visit {
                dead: next(self.dead_interval()),
                clocks: if clocks { next(CLOCKS_INTERVAL) } else { visit.clocks },
            },
            Err(error) => {
                tracing::debug!(partition = partition.0, %error, "nothing is removed for now");
                let retry = next(REAP_RETRY);
                Visit { dead: visit.dead.max(retry), clocks: visit.clocks.max(retry) }
            }
        };
        self.visits.insert(partition, visit);
    }

    /// Looks for what is dead, by the keys of the leaves.
    async fn look_at_keys(
        &self,
        view: &Arc<ClusterView>,
        partition: PartitionId,
    ) -> Result<(), Interrupted> {
        let stores = &self.runner.stores;
        let me = stores.caller().me();
        let prefix = Prefix::of_partition(view.partitions(), partition);
        let leaves: Vec<Leaf> = prefix.leaves().map(Leaf).collect();
        let mut found = Vec::new();
        for class in view.classes() {
            for leaves in leaves.chunks(TREE_LEAVES_MAX) {
                let mut after = None;
                loop {
                    self.runner.pause.passes().await;
                    let (keys, next) = stores.keys(me, *class, leaves, after.as_ref()).await?;
                    let now = self.runner.clock.wall();
                    let dead = keys.iter();
                    found.extend(dead.filter_map(|e| Candidate::of_entry(e, now, self.grace)));
                    self.reap_full(view, partition, &mut found).await?;
                    if next.is_none() {
                        break;
                    }
                    after = next;
                }
            }
        }
        self.reap(view, partition, found).await
    }

    /// Looks for what is dead and for long clocks, by the records.
    async fn look_at_records(
        &self,
        view: &Arc<ClusterView>,
        partition: PartitionId,
    ) -> Result<(), Interrupted> {
        let stores = &self.runner.stores;
        let me = stores.caller().me();
        let mut found = Vec::new();
        let mut after = None;
        loop {
            self.runner.pause.passes().await;
            let page = stores.page(me, partition, me, after.as_ref()).await?;
            let now = self.runner.clock.wall();
            let candidate = |(object, record): &(ObjectKey, Record)| {
                Candidate::of_record(object, record, now, self.grace)
            };
            found.extend(page.records.iter().filter_map(candidate));
            self.reap_full(view, partition, &mut found).await?;
            if page.next.is_none() {
                break;
            }
            after = page.next;
        }
        self.reap(view, partition, found).await
    }

    /// Performs rounds for as many candidates as fill one each.
    async fn reap_full(
        &self,
        view: &Arc<ClusterView>,
        partition: PartitionId,
        found: &mut Vec<Candidate>,
    ) -> Result<(), Interrupted> {
        while found.len() >= REAP_KEYS_MAX {
            let rest = found.split_off(REAP_KEYS_MAX);
            let full = std::mem::replace(found, rest);
            self.reap(view, partition, full).await?;
        }
        Ok(())
    }

    /// One round, performed.
    async fn reap(
        &self,
        view: &Arc<ClusterView>,
        partition: PartitionId,
        candidates: Vec<Candidate>,
    ) -> Result<(), Interrupted> {
        if candidates.is_empty() {
            return Ok(());
        }
        let me = self.runner.stores.caller().me();
        let count = candidates.len() as u64;
        self.metrics.examined.inc_by(count);
        let now = self.runner.clock.wall();
        let started = ReapRound::start(me, Arc::clone(view), partition, candidates, now);
        let (mut round, mut effects) = started?;
        let mut performing = JoinSet::new();
        loop {
            for effect in effects {
                if let ReapEffect::Over(result) = effect {
                    return self.conclude(partition, count, result);
                }
                let stores = self.runner.stores.clone();
                performing.spawn(async move {
                    match effect {
                        ReapEffect::Check { node, objects } => {
                            let answer = stores.reap_check(node, &objects).await;
                            Some(ReapEvent::Checked { node, answer: answer.ok() })
                        }
                        ReapEffect::Reap { node, ring, items } => {
                            let results = stores.reap(node, ring, &items).await;
                            Some(ReapEvent::Reaped { node, results: results.ok() })
                        }
                        ReapEffect::Over(_) => None,
                    }
                });
            }
            effects = match performing.join_next().await {
                Some(event) => event?.map_or_else(Vec::new, |event| round.on_event(event)),
                None => return Err(NotNow::NothingAllowed.into()),
            };
        }
    }

    fn conclude(
        &self,
        partition: PartitionId,
        count: u64,
        result: Result<dynamo_core::reap::ReapCounts, NotNow>,
    ) -> Result<(), Interrupted> {
        match result {
            Ok(counts) => {
                self.metrics.removed.inc_by(counts.removed as u64);
                self.metrics.truncated.inc_by(counts.truncated as u64);
                let left = counts.candidates.saturating_sub(counts.allowed);
                self.metrics.postponed.inc_by(left as u64);
                tracing::debug!(
                    partition = partition.0,
                    removed = counts.removed,
                    truncated = counts.truncated,
                    "what nobody needs was removed"
                );
                Ok(())
            }
            Err(reason) => {
                self.metrics.postponed.inc_by(count);
                match reason {
                    NotNow::NothingAllowed => Ok(()),
                    reason => Err(reason.into()),
                }
            }
        }
    }
}
