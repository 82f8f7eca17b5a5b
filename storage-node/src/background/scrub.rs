//! The scrub in time: a full pass per interval, step by step; a tree that is being built, and
//! leaves about which there are doubts, at once.

use std::sync::Arc;
use std::time::Duration;

use dynamo_core::admission::Kind;
use dynamo_core::merkle::Leaf;
use service_kit::shutdown::Shutdown;
use tokio::time::Instant;

use crate::limits::{SCRUB_RETRY, SCRUB_STEP_LEAVES, SLICE_WAIT_MAX};
use crate::node::Node;
use crate::store::scrub::{ScrubReport, ScrubStep};
use crate::store::writer::StoreState;

/// Leaves of a full pass.
const LEAVES: u32 = Leaf(u16::MAX).0 as u32 + 1;

/// Scrubs until the stop, one full pass per `interval`.
pub async fn run(node: Arc<Node>, interval: Duration, shutdown: Shutdown) {
    let pause = interval / (LEAVES / u32::from(SCRUB_STEP_LEAVES));
    let mut due = Instant::now() + pause;
    while !shutdown.is_requested() {
        let step = node.store.next_scrub().filter(|_| node.store.state() == StoreState::Healthy);
        let Some(step) = step else {
            tokio::select! {
                () = shutdown.requested() => {}
                () = node.store.scrub_wanted() => {}
                () = tokio::time::sleep(SCRUB_RETRY) => {}
            }
            continue;
        };
        if matches!(step, ScrubStep::Regular(_)) && Instant::now() < due {
            tokio::select! {
                () = shutdown.requested() => {}
                () = node.store.scrub_wanted() => {}
                () = tokio::time::sleep_until(due) => {}
            }
            continue;
        }
        match one(&node, step).await {
            // Steps that came late are not made up for in a row.
            Some(_) if matches!(step, ScrubStep::Regular(_)) => {
                due = (due + pause).max(Instant::now());
            }
            Some(_) => {}
            None => {
                node.metrics.store.tree.scrub_failures.inc();
                shutdown.unless_requested(tokio::time::sleep(SCRUB_RETRY)).await;
            }
        }
    }
}

/// One step, with a slice. `None` where it failed, or no slice was free: it is to be tried again.
async fn one(node: &Arc<Node>, step: ScrubStep) -> Option<ScrubReport> {
    let slice = node.slices.take(Kind::Scrub, SLICE_WAIT_MAX).await.ok()?;
    let scrubbing = Arc::clone(node);
    let done = tokio::task::spawn_blocking(move || {
        let _slice = slice;
        scrubbing.store.scrub(step)
    });
    match done.await {
        Ok(Ok(report)) => Some(report),
        Ok(Err(error)) => {
            tracing::warn!(%error, ?step, "a step of the scrub failed");
            None
        }
        Err(error) => {
            tracing::error!(%error, ?step, "a step of the scrub ended abnormally");
            None
        }
    }
}
