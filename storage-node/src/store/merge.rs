//! Records and deltas from other replicas: merged into what is stored, many in one job.

use std::sync::Arc;

use dynamo_core::clock::record::Record;
use dynamo_core::codec::record::encode_record;
use dynamo_core::key::ObjectKey;
use dynamo_core::params::{Durability, Reconciliation};
use dynamo_core::replica::merge;
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
        // is the best there is. So this is also how a bad record is healed.
        let local = match stored.map(|bytes| shared.decode(&key, bytes)).transpose() {
            Ok(local) => local.unwrap_or_default(),
            Err(_) => Record::default(),
        };
        let merged = merge(&local, &request.record, shared.me, request.reconciliation);
        if let Some(seen) = merged.lost_epoch {
            shared.epochs.end(seen, "another replica shows a write of this node that it lost");
        }
        if merged.changed {
            tables.put(RECORDS, &key, &encode_record(&key, &merged.record))?;
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
