//! Hinted handoff (paper section 4.6): replicas kept for others are delivered when their owner is
//! back, in this node's own view. When to deliver is decided by [`HintSchedule`]; what is sent and
//! what may then be removed is here.
//!
//! | module | what |
//! |---|---|
//! | [`deliver`] | one batch to one target |
//! | `running` | the deliveries on their way, and how each ends |
//! | [`sync_point`] | waiting until the hints of a moment are gone |
//!
//! Invariant: a hint is removed only after the target acknowledged it durably, and only in the
//! generation that was sent; any change of a hint gives it a new generation.

pub mod deliver;
pub mod sync_point;

mod running;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dynamo_core::cluster_view::{ClusterView, MemberStatus};
use dynamo_core::handoff::hint::{BatchEnd, HintSchedule, HintWork};
use dynamo_core::id::NodeId;
use dynamo_core::time::{Mono, WallMs};
use service_kit::rng::OsEntropy;
use service_kit::shutdown::Shutdown;
use tokio::sync::Notify;

use self::running::Running;
use self::sync_point::SyncPoints;
use crate::limits::{HINT_DELIVERIES_MAX, HINT_EXPIRY_INTERVAL, HINT_TICK};
use crate::node::Node;

/// When hints are delivered, and who waits for it.
#[derive(Debug, Default)]
pub struct Handoff {
    schedule: Mutex<HintSchedule>,
    wake: Notify,
    /// Sync points that operators set.
    pub sync_points: SyncPoints,
}

impl Handoff {
    /// A hint for `target` is stored.
    pub fn noted(&self, target: NodeId, now: Mono) {
        self.lock().noted(target, now);
    }

    /// Takes up the targets that have hints and are not in the schedule: those found at the start,
    /// and those whose hint was stored for a sender that had given up before it could be noted.
    fn note_stored(&self, stored: impl Iterator<Item = NodeId>, now: Mono) {
        let mut schedule = self.lock();
        for target in stored {
            if !schedule.is_owed(target) {
                schedule.noted(target, now);
            }
        }
    }

    /// A delivery to `target` ended.
    fn finished(&self, target: NodeId, now: Mono, end: BatchEnd) {
        self.lock().finished(target, now, end, &mut OsEntropy);
    }

    /// Asks for a look at what is due, at once.
    pub fn wake(&self) {
        self.wake.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, HintSchedule> {
        self.schedule.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether hints for `node` are still to be delivered to it: it is, or was until it left, part of
/// the ring.
fn is_target(view: &ClusterView, node: NodeId) -> bool {
    view.node(node).is_some_and(|info| info.status != MemberStatus::Removed)
}

/// Delivers what is due until the stop.
pub async fn run(node: Arc<Node>, shutdown: Shutdown) {
    let mut deliveries = Running::default();
    while !shutdown.is_requested() {
        tokio::select! {
            () = shutdown.requested() => break,
            () = node.handoff.wake.notified() => {}
            () = node.health.recovery() => {}
            Some((target, end)) = deliveries.next() => {
                node.handoff.finished(target, node.clock.mono(), end);
            }
            () = tokio::time::sleep(HINT_TICK) => {}
        }
        let now = node.clock.mono();
        node.handoff.note_stored(node.hints.totals().into_keys(), now);
        for target in node.health.take_recovered() {
            node.handoff.lock().on_recovered(target, now);
        }
        let Some(view) = node.view.load_full() else { continue };
        let room = HINT_DELIVERIES_MAX.saturating_sub(deliveries.len());
        let work = node.health.with(|health| {
            let reachable = |peer| health.reachable(peer);
            node.handoff.lock().due(now, room, reachable, |peer| is_target(&view, peer))
        });
        for work in work {
            let (HintWork::Deliver(target) | HintWork::Retarget(target)) = work;
            let (node, view) = (Arc::clone(&node), Arc::clone(&view));
            deliveries.start(target, async move { deliver::batch(&node, &view, work).await });
        }
    }
    // What is on its way ends by itself; a hint that is not removed is delivered once more.
    deliveries.shutdown().await;
}

/// Drops hints that are too old, now and then, until the stop.
pub async fn run_expiry(node: Arc<Node>, max_age: Duration, shutdown: Shutdown) {
    while shutdown.unless_requested(tokio::time::sleep(HINT_EXPIRY_INTERVAL)).await.is_some() {
        let age_ms = u64::try_from(max_age.as_millis()).unwrap_or(u64::MAX);
        let before = WallMs(node.clock.wall().0.saturating_sub(age_ms));
        let mut from = None;
        loop {
            match node.hints.expire(before, from).await {
                Ok((None, _)) => break,
                Ok((next, dropped)) => {
                    if dropped > 0 {
                        tracing::warn!(dropped, "hints were too old and are left to anti-entropy");
                    }
                    from = next;
                }
                Err(error) => {
                    tracing::warn!(%error, "old hints could not be dropped");
                    break;
                }
            }
        }
    }
}
