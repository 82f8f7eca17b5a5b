//! Records and deltas from other replicas: merged into what is stored, many in one job.

use std::sync::Arc;

use dynamo_core::actor::Custody;
use dynamo_core::clock::digest::RecordDigest;
use dynamo_core::clock::record::{Content, Record};
use dynamo_core::codec::record::encode_record;
use dynamo_core::key::ObjectKey;
use dynamo_core::params::{Durability, Reconciliation};
use dynamo_core::replica::merge_in;
use dynamo_core::time::Mono;
use tokio::sync::oneshot;

use super::engine::Tables;
use super::error::{EngineError, StoreError};
use super::writer::WriteJob;
use super::{RECORDS, Shared};

/// One record to merge.
#[derive(Debug, Clone)]
pub struct MergeRequest {
    /// The object.
    pub object: ObjectKey,
    /// What another replica knows of it.
    pub record: Record,
    /// Who reconciles in its bucket.
    pub reconciliation: Reconciliation,
    /// Whether the node holds the object's partition: what it lacks of it then is lost.
    pub custody: Custody,
}

impl MergeRequest {
    /// Whether the record holds values, for which a full disk has no room.
    #[must_use]
    pub fn adds_values(&self) -> bool {
        has_values(&self.record)
    }
}

/// Whether anything in the record is more than a tombstone.
pub(super) fn has_values(record: &Record) -> bool {
    record.siblings().any(|sibling| matches!(sibling.content, Content::Value(_)))
}

/// Hears the result of a merge job: all of its records, or none of them.
pub type MergeReply = oneshot::Sender<Result<(), StoreError>>;

/// Merges on their way through the writer.
pub(crate) struct MergeJob {
    shared: Arc<Shared>,
    merges: Vec<MergeRequest>,
    durability: Durability,
    deadline: Option<Mono>,
    reply: MergeReply,
}

impl MergeJob {
    pub(crate) fn new(
        shared: Arc<Shared>,
        merges: Vec<MergeRequest>,
        durability: Durability,
        deadline: Option<Mono>,
        reply: MergeReply,
    ) -> Self {
        Self { shared, merges, durability, deadline, reply }
    }

    fn apply_one(
        shared: &Shared,
        request: &MergeRequest,
        tables: &mut dyn Tables,
    ) -> Result<(), EngineError> {
        let key = request.object.storage_key();
        let stored = tables.get(RECORDS, &key)?;
        // An unreadable record is lost, its epoch has just ended, and what the other replica knows
        // is the best there is. So this is also how a bad record is healed. What it had added to
        // the tree is not known; the scrub, which has just been asked to look, takes it out.
        let stored = stored.and_then(|bytes| shared.decode(&key, bytes).ok());
        let before = stored.as_ref().map(RecordDigest::of);
        let local = stored.unwrap_or_default();
        let position = request.object.position();
        let mut memory = shared.put_memory();
        let merged = merge_in(
            &local,
            &request.record,
            shared.epochs.actor(),
            request.custody,
            request.reconciliation,
            memory.of(position),
            shared.clock.wall(),
        );
        memory.learn(position, &request.record, &[], shared.clock.mono());
        drop(memory);
        if let Some(seen) = merged.lost_epoch {
            shared.epochs.end(seen, "another replica shows a write of this node that it lost");
        }
        if merged.changed {
            tables.put(RECORDS, &key, &encode_record(&key, &merged.record))?;
            let after = Some(RecordDigest::of(&merged.record));
            shared.tree.change(&key, request.object.bucket().as_str(), before, after);
            shared.corrupt.heal(&key);
            shared.metrics.corrupt_keys.set(shared.corrupt.len() as i64);
        }
        Ok(())
    }
}

impl WriteJob for MergeJob {
    fn bytes(&self) -> usize {
        self.merges.iter().map(|merge| merge.record.payload_bytes()).sum()
    }

    fn is_durable(&self) -> bool {
        self.durability == Durability::Fsync
    }

    fn adds_values(&self) -> bool {
        self.merges.iter().any(MergeRequest::adds_values)
    }

    fn deadline(&self) -> Option<Mono> {
        self.deadline
    }

    fn apply(&mut self, tables: &mut dyn Tables) -> Result<(), EngineError> {
        self.merges.iter().try_for_each(|request| Self::apply_one(&self.shared, request, tables))
    }

    fn finish(self: Box<Self>, committed: Result<(), StoreError>) {
        // Whoever asked may have given up meanwhile; the merge stands all the same.
        if self.reply.send(committed).is_err() {
            tracing::trace!("nobody waits for this merge any more");
        }
    }
}
