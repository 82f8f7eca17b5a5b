//! The deliveries on their way. Each ends exactly once, also where its task panics: a target whose
//! delivery never ended would never be delivered to again.

use std::collections::HashMap;

use dynamo_core::handoff::hint::BatchEnd;
use dynamo_core::id::NodeId;
use tokio::task::{Id, JoinSet};

/// Deliveries on their way, one task each.
#[derive(Debug, Default)]
pub(super) struct Running {
    tasks: JoinSet<BatchEnd>,
    targets: HashMap<Id, NodeId>,
}

impl Running {
    /// Number of deliveries on their way.
    pub(super) fn len(&self) -> usize {
        self.targets.len()
    }

    /// Starts a delivery to `target`.
    pub(super) fn start(
        &mut self,
        target: NodeId,
        delivery: impl Future<Output = BatchEnd> + Send + 'static,
    ) {
        let task = self.tasks.spawn(delivery);
        self.targets.insert(task.id(), target);
    }

    /// Waits for the next delivery that ends; one that panicked has failed. `None` while nothing is
    /// on its way. Nothing is lost where the wait is given up.
    pub(super) async fn next(&mut self) -> Option<(NodeId, BatchEnd)> {
        loop {
            let (id, end) = match self.tasks.join_next_with_id().await? {
                Ok(ended) => ended,
                Err(error) => {
                    tracing::error!(%error, "a delivery of hints ended abnormally");
                    (error.id(), BatchEnd::Failed)
                }
            };
            if let Some(target) = self.targets.remove(&id) {
                return Some((target, end));
            }
        }
    }

    /// Gives up what is on its way.
    pub(super) async fn shutdown(&mut self) {
        self.tasks.shutdown().await;
        self.targets.clear();
    }
}
