//! Removing records that every owner has and nobody needs, and shortening long clocks (hazards C3
//! and C5). The worker has the evidence ([`dynamo_core::reap`]); here it is only checked that the
//! record is still the one that the evidence is about, and that nothing live would go.

use std::collections::BTreeSet;
use std::sync::Arc;

use dynamo_core::clock::digest::RecordDigest;
use dynamo_core::clock::record::Record;
use dynamo_core::clock::truncate::truncate;
use dynamo_core::codec::record::encode_record;
use dynamo_core::id::ActorId;
use dynamo_core::key::ObjectKey;
use dynamo_core::wire::reap::{ReapAction, ReapItem, ReapResult};
use tokio::sync::oneshot;

use super::engine::Tables;
use super::error::{EngineError, StoreError};
use super::writer::WriteJob;
use super::{RECORDS, Shared, Store};

/// Removes records that are still what they were, whatever they are.
struct ClearJob {
    shared: Arc<Shared>,
    records: Vec<(ObjectKey, RecordDigest)>,
    removed: u64,
    reply: oneshot::Sender<Result<u64, StoreError>>,
}

impl WriteJob for ClearJob {
    fn bytes(&self) -> usize {
        self.records.iter().map(|(object, _)| object.key().len()).sum()
    }

    fn is_durable(&self) -> bool {
        false
    }

    fn apply(&mut self, tables: &mut dyn Tables) -> Result<(), EngineError> {
        for (object, digest) in &self.records {
            let key = object.storage_key();
            let stored = tables.get(RECORDS, &key)?;
            let record = stored.and_then(|stored| self.shared.decode(&key, stored).ok());
            if record.as_ref().map(RecordDigest::of) == Some(*digest) {
                self.removed += u64::from(self.shared.remove(object, tables)?);
            }
        }
        Ok(())
    }

    fn finish(self: Box<Self>, committed: Result<(), StoreError>) {
        if self.reply.send(committed.map(|()| self.removed)).is_err() {
            tracing::trace!("nobody waits for these records to be cleared away any more");
        }
    }
}

/// Reaps.
struct ReapJob {
    shared: Arc<Shared>,
    items: Vec<ReapItem>,
    results: Vec<ReapResult>,
    reply: oneshot::Sender<Result<Vec<ReapResult>, StoreError>>,
}

impl ReapJob {
    fn one(
        shared: &Shared,
        item: &ReapItem,
        tables: &mut dyn Tables,
    ) -> Result<ReapResult, EngineError> {
        let key = item.object.storage_key();
        let Some(stored) = tables.get(RECORDS, &key)? else { return Ok(ReapResult::Absent) };
        let Ok(record) = shared.decode(&key, stored) else { return Ok(ReapResult::Changed) };
        if RecordDigest::of(&record) != item.digest {
            return Ok(ReapResult::Changed);
        }
        match &item.action {
            ReapAction::Remove if !record.is_deleted(shared.clock.wall()) => {
                Ok(ReapResult::Changed)
            }
            ReapAction::Remove => {
                shared.remove(&item.object, tables)?;
                shared.metrics.partitions.reaped.inc();
                Ok(ReapResult::Done)
            }
            ReapAction::Truncate(actors) => {
                if !may_truncate(&record, actors, shared.epochs.actor()) {
                    return Ok(ReapResult::Changed);
                }
                let mut shorter = record;
                truncate(&mut shorter, actors);
                tables.put(RECORDS, &key, &encode_record(&key, &shorter))?;
                let after = Some(RecordDigest::of(&shorter));
                let bucket = item.object.bucket().as_str();
                shared.tree.change(&key, bucket, Some(item.digest), after);
                shared.metrics.partitions.truncated.inc();
                Ok(ReapResult::Done)
            }
        }
    }
}

/// Whether no sibling, no loose dot and no writer of today would lose its actor.
fn may_truncate(record: &Record, actors: &[ActorId], me: ActorId) -> bool {
    let live = record.siblings().map(|sibling| sibling.dot.actor);
    let loose = record.clock().loose().map(|run| run.actor);
    let needed: BTreeSet<ActorId> = live.chain(loose).chain([me]).collect();
    actors.iter().all(|actor| !needed.contains(actor))
}

impl WriteJob for ReapJob {
    fn bytes(&self) -> usize {
        self.items.iter().map(|item| item.object.key().len()).sum()
    }

    fn is_durable(&self) -> bool {
        true
    }

    fn apply(&mut self, tables: &mut dyn Tables) -> Result<(), EngineError> {
        for item in &self.items {
            let result = Self::one(&self.shared, item, tables)?;
            if result == ReapResult::Changed {
                self.shared.metrics.partitions.reap_changed.inc();
            }
            self.results.push(result);
        }
        Ok(())
    }

    fn finish(self: Box<Self>, committed: Result<(), StoreError>) {
        let Self { reply, results, .. } = *self;
        if reply.send(committed.map(|()| results)).is_err() {
            tracing::trace!("nobody waits for these records to be reaped any more");
        }
    }
}

impl Store {
    /// Does what is ordered, each where the record is still the one named; durably.
    ///
    /// # Errors
    /// [`StoreError`]; nothing was done then, unless the commit failed.
    pub async fn reap(&self, items: Vec<ReapItem>) -> Result<Vec<ReapResult>, StoreError> {
        let (reply, result) = oneshot::channel();
        let (shared, results) = (Arc::clone(&self.shared), Vec::with_capacity(items.len()));
        self.writer.submit(Box::new(ReapJob { shared, items, results, reply }));
        result.await.unwrap_or(Err(StoreError::Closed))
    }

    /// Removes records of which other nodes have a durable copy and that do not belong here, each
    /// where it still has the digest named. How many that were.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn clear_away(
        &self,
        records: Vec<(ObjectKey, RecordDigest)>,
    ) -> Result<u64, StoreError> {
        let (reply, result) = oneshot::channel();
        let (shared, removed) = (Arc::clone(&self.shared), 0);
        self.writer.submit(Box::new(ClearJob { shared, records, removed, reply }));
        result.await.unwrap_or(Err(StoreError::Closed))
    }

    /// Digest of whatever is stored under `object`; 0, which no record has, where it is unreadable.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub fn presence(&self, object: &ObjectKey) -> Result<Option<RecordDigest>, StoreError> {
        match self.read(object) {
            Ok(record) => Ok(record.as_ref().map(RecordDigest::of)),
            Err(StoreError::Corrupt) => Ok(Some(RecordDigest(0))),
            Err(error) => Err(error),
        }
    }
}
