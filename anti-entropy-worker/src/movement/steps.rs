//! One effect of the movement, performed: who is asked what, and what follows for the mover.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use dynamo_core::clock::record::Record;
use dynamo_core::id::{NodeId, PartitionId};
use dynamo_core::key::ObjectKey;
use dynamo_core::limits::REPLICA_BATCH_MAX;
use dynamo_core::merkle::exchange::{ExchangeEnd, ExchangePlan, MergeAnswer};
use dynamo_core::ring::Partitions;
use dynamo_core::time::Mono;
use dynamo_core::transfer::{MoveEffect, MoveEvent, Progress, Ticket};
use dynamo_core::wire::partition::PartitionsDocument;

use crate::exchange::run::Runner;
use crate::metrics::{ExchangeMetrics, TransferMetrics};
use crate::progress::{ProgressError, ProgressFile};

/// What steps are performed with.
#[derive(Debug)]
pub struct Steps {
    /// Calls and comparisons.
    pub runner: Runner,
    /// What survives the process.
    pub progress: Arc<ProgressFile>,
    /// What operators see.
    pub metrics: TransferMetrics,
    /// Comparisons on the way count as such.
    pub exchanges: ExchangeMetrics,
    /// When the comparison of a partition last got on.
    pub compared: Mutex<BTreeMap<PartitionId, Mono>>,
}

impl Steps {
    /// What the own store has; `None` where it does not answer.
    pub async fn own(&self) -> Option<PartitionsDocument> {
        self.offer(self.runner.stores.caller().me()).await
    }

    /// When comparisons last got on, by partition.
    #[must_use]
    pub fn touched(&self) -> BTreeMap<PartitionId, Mono> {
        self.compared.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Performs an effect; `None` where nothing follows.
    pub async fn perform(&self, effect: MoveEffect, partitions: Partitions) -> Option<MoveEvent> {
        let stores = &self.runner.stores;
        let me = stores.caller().me();
        let (ticket, done) = match effect {
            MoveEffect::AskOffer { node } => {
                return Some(MoveEvent::Offer { node, document: self.offer(node).await });
            }
            MoveEffect::Forget { partition } => {
                if let Err(error) = self.note(partition, None).await {
                    // The next start finds the note and has no use for it.
                    tracing::warn!(partition = partition.0, %error, "a note was not deleted");
                }
                return None;
            }
            MoveEffect::Fetch { ticket, source, after } => {
                let page = stores.page(source, ticket.partition, me, after.as_ref()).await;
                (ticket, page.map(|page| MoveEvent::Page { ticket, page }).map_err(text))
            }
            MoveEffect::Merge { ticket, records } => {
                (ticket, self.merge(records).await.map(|()| MoveEvent::Merged { ticket }))
            }
            MoveEffect::Checkpoint { ticket, progress } => {
                let noted = self.note(ticket.partition, Some(&progress)).await;
                (ticket, noted.map(|()| MoveEvent::Saved { ticket }).map_err(text))
            }
            MoveEffect::Compare { ticket, peer, classes, mode } => {
                let plan = ExchangePlan::new(
                    partitions,
                    classes.into_iter().map(|class| (class, ticket.partition)),
                    mode,
                );
                (ticket, self.compare(ticket, peer, plan).await)
            }
            MoveEffect::Hold { ticket, ring } => {
                let held = stores.hold(me, ring, vec![ticket.partition]).await;
                let event = held.map(|()| MoveEvent::Done { ticket }).map_err(text);
                self.metrics.held.inc_by(u64::from(event.is_ok()));
                (ticket, event)
            }
            MoveEffect::Release { ticket, ring } => {
                let released = stores.release(me, ring, vec![ticket.partition]).await;
                let event = released.map(|()| MoveEvent::Done { ticket }).map_err(text);
                self.metrics.released.inc_by(u64::from(event.is_ok()));
                (ticket, event)
            }
            MoveEffect::Drop { ticket, ring } => {
                let answer = stores.drop_page(me, ring, ticket.partition).await;
                let event = answer.map(|answer| MoveEvent::Dropped {
                    ticket,
                    done: answer.done,
                    dropped: answer.dropped,
                });
                (ticket, event.map_err(text))
            }
        };
        Some(done.unwrap_or_else(|reason| MoveEvent::Failed { ticket, reason }))
    }

    async fn offer(&self, node: NodeId) -> Option<PartitionsDocument> {
        let answer = self.runner.stores.partitions(node).await;
        answer
            .inspect_err(|error| tracing::debug!(%node, %error, "a node did not say what it has"))
            .ok()
    }

    /// Merges a page into the own store, in as many messages as it takes.
    async fn merge(&self, records: Vec<(ObjectKey, Record)>) -> Result<(), String> {
        let stores = &self.runner.stores;
        let mut records = records.into_iter().peekable();
        while records.peek().is_some() {
            let batch: Vec<_> = records.by_ref().take(REPLICA_BATCH_MAX).collect();
            let answers = stores.merge(stores.caller().me(), batch).await.map_err(text)?;
            if answers.contains(&MergeAnswer::Refused) {
                return Err("the own store refused a record".to_owned());
            }
        }
        Ok(())
    }

    async fn compare(
        &self,
        ticket: Ticket,
        peer: NodeId,
        plan: ExchangePlan,
    ) -> Result<MoveEvent, String> {
        let (clock, partition) = (&self.runner.clock, ticket.partition);
        let touch = |_| {
            let mut compared = self.compared.lock().unwrap_or_else(PoisonError::into_inner);
            compared.insert(partition, clock.mono());
        };
        let result = self.runner.run(peer, plan, touch).await;
        self.compared.lock().unwrap_or_else(PoisonError::into_inner).remove(&partition);
        self.exchanges.moved(&result.counts);
        match result.end {
            ExchangeEnd::Agreed => Ok(MoveEvent::Compared { ticket, agreed: result.witness }),
            ExchangeEnd::DifferencesLeft => Ok(MoveEvent::Compared { ticket, agreed: None }),
            ExchangeEnd::Failed { side, failure } => Err(format!("{side:?}: {failure}")),
        }
    }

    /// Notes how far a partition is, or that there is nothing to note any more.
    async fn note(
        &self,
        partition: PartitionId,
        progress: Option<&Progress>,
    ) -> Result<(), ProgressError> {
        let (file, note) = (Arc::clone(&self.progress), progress.map(Progress::encode));
        let noting = tokio::task::spawn_blocking(move || match note {
            Some(note) => file.save(partition, &note),
            None => file.forget(partition),
        });
        noting.await.unwrap_or(Err(ProgressError::Damaged("structure")))
    }
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}
