//! The two ways the hint file changes, on its writer thread.

use std::sync::Arc;

use dynamo_core::clock::record::Record;
use dynamo_core::id::NodeId;
use dynamo_core::key::ObjectKey;
use dynamo_core::params::Durability;
use dynamo_core::replica::reconciled;
use dynamo_core::time::Mono;
use tokio::sync::oneshot;

use super::engine::Tables;
use super::error::{EngineError, StoreError};
use super::hint_accounts::Accounts;
use super::hint_form::{
    Hint, HintEntry, decode_entry, decode_hint, encode_entry, encode_hint, hint_key, index_key,
};
use super::hints::{BY_TARGET, HINTS, HintTotal, KeepRequest, KeepWhat};
use super::writer::WriteJob;

/// Change of the accounts that a job has made in its transaction: target, bytes before and after.
type Change = (NodeId, u64, u64);

/// Keeps hints.
pub(crate) struct KeepJob {
    accounts: Arc<Accounts>,
    hints: Vec<KeepRequest>,
    durability: Durability,
    deadline: Option<Mono>,
    reply: oneshot::Sender<Vec<Result<(), StoreError>>>,
    results: Vec<Result<(), StoreError>>,
    changes: Vec<Change>,
}

impl KeepJob {
    pub(crate) fn new(
        accounts: Arc<Accounts>,
        hints: Vec<KeepRequest>,
        durability: Durability,
        deadline: Option<Mono>,
        reply: oneshot::Sender<Vec<Result<(), StoreError>>>,
    ) -> Self {
        let (results, changes) = (Vec::new(), Vec::new());
        Self { accounts, hints, durability, deadline, reply, results, changes }
    }

    /// Keeps one hint; `None` where the file is full.
    fn keep(
        accounts: &Accounts,
        staged: HintTotal,
        request: &KeepRequest,
        tables: &mut dyn Tables,
    ) -> Result<Option<Change>, EngineError> {
        let key = hint_key(&request.object, request.target);
        let index = index_key(&key);
        // An unreadable hint is replaced: what it held is on the replicas that acknowledged it.
        let known = tables.get(HINTS, &key)?.and_then(|stored| decode_hint(&key, stored).ok());
        let entry = tables.get(BY_TARGET, &index)?.and_then(|stored| decode_entry(&stored).ok());
        let known_bytes = entry.map_or(0, |entry| entry.bytes);
        let hint = joined(known, request, accounts);
        let value = encode_hint(&key, &hint);
        let bytes = (2 * key.len() + value.len()) as u64;
        let total = accounts.total();
        let full = total.hints + staged.hints >= accounts.caps.hints && known_bytes == 0
            || total.bytes + staged.bytes + bytes > accounts.caps.bytes + known_bytes;
        if full {
            return Ok(None);
        }
        let (kept_at, generation) = (hint.kept_at, hint.generation);
        let born = entry.map_or(generation, |entry| entry.born);
        let entry = HintEntry { kept_at, born, generation, bytes };
        tables.put(HINTS, &key, &value)?;
        tables.put(BY_TARGET, &index, &encode_entry(&entry))?;
        Ok(Some((request.target, known_bytes, bytes)))
    }
}

/// A hint with one more thing to deliver.
fn joined(known: Option<Hint>, request: &KeepRequest, accounts: &Accounts) -> Hint {
    let mut hint = known.unwrap_or_else(|| Hint {
        record: None,
        reference: false,
        kept_at: accounts.clock.wall(),
        generation: 0,
    });
    hint.generation = accounts.next_generation();
    match &request.what {
        KeepWhat::Reference => hint.reference = true,
        KeepWhat::Record(record) => {
            let known = hint.record.take().unwrap_or_default();
            hint.record = Some(reconciled(known.sync(record), request.reconciliation));
        }
    }
    hint
}

impl WriteJob for KeepJob {
    fn bytes(&self) -> usize {
        let of = |request: &KeepRequest| match &request.what {
            KeepWhat::Record(record) => Record::payload_bytes(record),
            KeepWhat::Reference => 0,
        };
        self.hints.iter().map(of).sum()
    }

    fn is_durable(&self) -> bool {
        self.durability == Durability::Fsync
    }

    fn adds_values(&self) -> bool {
        self.hints.iter().any(KeepRequest::adds_values)
    }

    fn deadline(&self) -> Option<Mono> {
        self.deadline
    }

    fn apply(&mut self, tables: &mut dyn Tables) -> Result<(), EngineError> {
        let mut staged = HintTotal::default();
        for request in &self.hints {
            let change = Self::keep(&self.accounts, staged, request, tables)?;
            self.results.push(change.map(|_| ()).ok_or(StoreError::HintsFull));
            if let Some((target, before, after)) = change {
                staged.hints += u64::from(before == 0);
                staged.bytes += after.saturating_sub(before);
                self.changes.push((target, before, after));
            }
        }
        Ok(())
    }

    fn finish(self: Box<Self>, committed: Result<(), StoreError>) {
        let metrics = &self.accounts.metrics;
        let results = match committed {
            Err(error) => vec![Err(error); self.hints.len()],
            Ok(()) => {
                for (target, before, after) in self.changes {
                    self.accounts.change(target, before, after);
                }
                let kept = self.results.iter().filter(|result| result.is_ok()).count();
                metrics.stored.inc_by(kept as u64);
                metrics.dropped_full.inc_by((self.results.len() - kept) as u64);
                self.results
            }
        };
        if self.reply.send(results).is_err() {
            tracing::trace!("nobody waits for these hints to be kept any more");
        }
    }
}

/// Removes hints, each only in the generation named.
pub(crate) struct RemoveJob {
    accounts: Arc<Accounts>,
    target: NodeId,
    hints: Vec<(ObjectKey, u64)>,
    reply: oneshot::Sender<Result<u64, StoreError>>,
    changes: Vec<Change>,
    unreadable: bool,
}

impl RemoveJob {
    pub(crate) fn new(
        accounts: Arc<Accounts>,
        target: NodeId,
        hints: Vec<(ObjectKey, u64)>,
        reply: oneshot::Sender<Result<u64, StoreError>>,
    ) -> Self {
        Self { accounts, target, hints, reply, changes: Vec::new(), unreadable: false }
    }

    /// A job for hints whose record cannot be read; the index alone names their generation.
    pub(crate) fn unreadable(
        accounts: Arc<Accounts>,
        target: NodeId,
        hints: Vec<(ObjectKey, u64)>,
        reply: oneshot::Sender<Result<u64, StoreError>>,
    ) -> Self {
        Self { unreadable: true, ..Self::new(accounts, target, hints, reply) }
    }
}

impl WriteJob for RemoveJob {
    fn bytes(&self) -> usize {
        0
    }

    fn is_durable(&self) -> bool {
        false
    }

    fn apply(&mut self, tables: &mut dyn Tables) -> Result<(), EngineError> {
        for (object, generation) in &self.hints {
            let key = hint_key(object, self.target);
            let index = index_key(&key);
            let entry = tables.get(BY_TARGET, &index)?.map(|stored| decode_entry(&stored));
            let Some(Ok(entry)) = entry else { continue };
            if entry.generation != *generation {
                continue;
            }
            tables.remove(HINTS, &key)?;
            tables.remove(BY_TARGET, &index)?;
            self.changes.push((self.target, entry.bytes, 0));
        }
        Ok(())
    }

    fn finish(self: Box<Self>, committed: Result<(), StoreError>) {
        let removed = committed.map(|()| {
            for (target, before, after) in &self.changes {
                self.accounts.change(*target, *before, *after);
            }
            self.changes.len() as u64
        });
        if self.reply.send(removed).is_err() && !self.unreadable {
            tracing::trace!("nobody waits for these hints to be removed any more");
        }
    }
}
