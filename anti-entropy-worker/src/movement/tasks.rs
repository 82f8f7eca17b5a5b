//! What is being performed: every effect in a task of its own, and one answer for each, also where
//! a task panics: a step without an answer would be waited for without end.

use std::collections::HashMap;

use dynamo_core::id::NodeId;
use dynamo_core::time::Mono;
use dynamo_core::transfer::{MoveEffect, MoveEvent, Ticket};
use dynamo_core::wire::partition::PartitionsDocument;
use tokio::task::{Id, JoinSet};

/// What a task has found out.
#[derive(Debug)]
pub(super) enum Found {
    /// An answer to an effect.
    Event(MoveEvent),
    /// What the own store has, and after how many of its changes it was asked.
    Own(Option<PartitionsDocument>, u64),
    /// Nothing that anybody waits for.
    Nothing,
}

/// What a task is about.
#[derive(Debug, Clone, Copy)]
pub(super) enum Task {
    /// A step of a partition.
    Step(Ticket),
    /// Asking a node what it has.
    Offer(NodeId),
    /// Asking the own store what it has.
    Own,
    /// Nothing that anybody waits for.
    Forget,
}

impl Task {
    /// The task that performs `effect`.
    pub(super) fn of(effect: &MoveEffect) -> Self {
        match effect {
            MoveEffect::AskOffer { node } => Self::Offer(*node),
            MoveEffect::Forget { .. } => Self::Forget,
            MoveEffect::Fetch { ticket, .. }
            | MoveEffect::Merge { ticket, .. }
            | MoveEffect::Checkpoint { ticket, .. }
            | MoveEffect::Compare { ticket, .. }
            | MoveEffect::Hold { ticket, .. }
            | MoveEffect::Release { ticket, .. }
            | MoveEffect::Drop { ticket, .. } => Self::Step(*ticket),
        }
    }

    /// What is said where the task could not say anything.
    fn failed(self, reason: String) -> Found {
        match self {
            Self::Step(ticket) => Found::Event(MoveEvent::Failed { ticket, reason }),
            Self::Offer(node) => Found::Event(MoveEvent::Offer { node, document: None }),
            // It counts as asked before any change, so it is asked again.
            Self::Own => Found::Own(None, 0),
            Self::Forget => Found::Nothing,
        }
    }
}

/// The tasks under way.
#[derive(Debug, Default)]
pub(super) struct Tasks {
    running: JoinSet<Found>,
    whose: HashMap<Id, Task>,
    /// When the own store is to be asked what it has.
    pub(super) own_due: Mono,
    /// Whether it is being asked.
    pub(super) asking_own: bool,
    /// Orders given to it, and carried out by it, that change what it has.
    pub(super) changes: u64,
}

impl Tasks {
    /// Starts a task.
    pub(super) fn spawn(&mut self, task: Task, work: impl Future<Output = Found> + Send + 'static) {
        let id = self.running.spawn(work).id();
        self.whose.insert(id, task);
    }

    /// What the next task to end has found out; `None` where none is under way.
    pub(super) async fn next(&mut self) -> Option<Found> {
        let (id, found) = match self.running.join_next_with_id().await? {
            Ok((id, found)) => (id, Ok(found)),
            Err(error) => (error.id(), Err(error.to_string())),
        };
        let task = self.whose.remove(&id);
        Some(found.unwrap_or_else(|reason| {
            tracing::error!(reason, ?task, "a step of a transfer ended abnormally");
            task.map_or(Found::Nothing, |task| task.failed(reason))
        }))
    }
}

#[cfg(test)]
mod tests {
    use dynamo_core::id::PartitionId;

    use super::*;

    #[tokio::test]
    async fn a_step_that_panics_has_failed() {
        let mut tasks = Tasks::default();
        assert!(tasks.next().await.is_none());
        let ticket = Ticket { partition: PartitionId(3), number: 7 };
        tasks.spawn(Task::Step(ticket), async { panic!("expected") });
        let Some(Found::Event(MoveEvent::Failed { ticket: failed, .. })) = tasks.next().await
        else {
            panic!("no answer");
        };
        assert_eq!(failed, ticket);
        tasks.spawn(Task::Step(ticket), async move { Found::Event(MoveEvent::Saved { ticket }) });
        assert!(matches!(tasks.next().await, Some(Found::Event(MoveEvent::Saved { .. }))));
    }
}
