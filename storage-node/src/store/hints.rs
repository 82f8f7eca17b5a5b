//! Replicas kept for other nodes, in a file of their own (paper section 4.6): writing them never
//! waits for the main file, and dropping all of them is deleting one file.
//!
//! Invariants: a hint is removed only when what was delivered is what is stored; at its cap the
//! file drops new hints, counted, and the write goes on without; one hint per object and target.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use dynamo_core::clock::record::Record;
use dynamo_core::id::NodeId;
use dynamo_core::key::ObjectKey;
use dynamo_core::limits::HINT_BATCH_MAX;
use dynamo_core::params::{Durability, Reconciliation};
use dynamo_core::time::{Mono, WallMs};
use service_kit::time::Clock;
use tokio::sync::oneshot;

use super::engine::{Engine, TableId};
use super::error::{EngineError, StoreError};
use super::hint_accounts::{Accounts, HintsSuccessor};
use super::hint_form::{
    Hint, HintEntry, decode_entry, decode_hint, from_index_key, parse_hint_key,
};
use super::hint_jobs::{KeepJob, RemoveJob};
use super::merge::has_values;
use super::writer::{Alone, Home, StoreState, Writer, WriterParts};
use super::{EngineKind, open_engine};
use crate::limits::{HINT_CACHE_BYTES, SCAN_BYTES_MAX, SCAN_ROWS_MAX};
use crate::metrics::{FileMetrics, HintMetrics};

/// Hints by object and target, see [`super::hint_form`].
pub(crate) const HINTS: TableId = TableId(0);
/// Their index by target.
pub(crate) const BY_TARGET: TableId = TableId(1);

const TABLES: &[&str] = &["hints", "by_target"];

/// Name of the hint file in the data directory.
pub const HINTS_FILE: &str = "hints.redb";

/// An open hint file, counted.
#[derive(Debug)]
pub struct HintFile {
    engine: Arc<dyn Engine>,
    by_target: BTreeMap<NodeId, HintTotal>,
    /// Later than that of any hint in the file.
    generation: u64,
}

/// Opens the hint file of a data directory.
///
/// # Errors
/// [`EngineError`].
pub fn open_hints(kind: EngineKind, data_dir: &Path) -> Result<HintFile, EngineError> {
    HintFile::read(open_engine(kind, data_dir.join(HINTS_FILE), HINT_CACHE_BYTES, TABLES)?)
}

impl HintFile {
    /// Counts what the file holds.
    ///
    /// # Errors
    /// [`EngineError`]; a row of the index that makes no sense is damage.
    pub fn read(engine: Arc<dyn Engine>) -> Result<Self, EngineError> {
        let mut file = Self { engine, by_target: BTreeMap::new(), generation: 1 };
        let mut from = Bound::Unbounded;
        loop {
            let range = (from, Bound::Unbounded);
            let rows = file.engine.page(BY_TARGET, range, SCAN_ROWS_MAX, SCAN_BYTES_MAX)?;
            let Some((last, _)) = rows.last() else { return Ok(file) };
            from = Bound::Excluded(last.to_vec());
            for (key, stored) in &rows {
                let damaged = |error| EngineError::Damaged(format!("hint index: {error}"));
                let (target, _) = from_index_key(key).map_err(damaged)?;
                let entry = decode_entry(stored).map_err(damaged)?;
                let total = file.by_target.entry(target).or_default();
                total.hints += 1;
                total.bytes += entry.bytes;
                file.generation = file.generation.max(entry.generation + 1);
            }
        }
    }
}

/// What the hint file may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HintCaps {
    /// Hints.
    pub hints: u64,
    /// Bytes of hints.
    pub bytes: u64,
}

/// What the hints of one target, or of all, amount to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HintTotal {
    /// Hints.
    pub hints: u64,
    /// Bytes of hints.
    pub bytes: u64,
}

/// What is to be kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeepWhat {
    /// A replica that belongs to the target.
    Record(Record),
    /// The obligation to deliver our own record.
    Reference,
}

/// One hint to keep.
#[derive(Debug, Clone)]
pub struct KeepRequest {
    /// The object.
    pub object: ObjectKey,
    /// Whose replica it is.
    pub target: NodeId,
    /// The replica.
    pub what: KeepWhat,
    /// Who reconciles in the object's bucket.
    pub reconciliation: Reconciliation,
}

impl KeepRequest {
    /// Whether the hint holds values, for which a full disk has no room.
    #[must_use]
    pub fn adds_values(&self) -> bool {
        match &self.what {
            KeepWhat::Record(record) => has_values(record),
            KeepWhat::Reference => false,
        }
    }
}

/// A hint as it was read for delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredHint {
    /// The object.
    pub object: ObjectKey,
    /// The hint.
    pub hint: Hint,
    /// Bytes that it takes.
    pub bytes: u64,
}

/// A page of the hints of one target.
#[derive(Debug, Default)]
pub struct HintPage {
    /// Hints in key order.
    pub hints: Vec<StoredHint>,
    /// Where the next page begins; `None` at the end.
    pub next: Option<Vec<u8>>,
}

/// The hints of a node.
#[derive(Debug)]
pub struct HintStore {
    engine: Arc<dyn Engine>,
    writer: Writer,
    accounts: Arc<Accounts>,
}

impl HintStore {
    /// Starts the writer of an open hint file.
    ///
    /// # Errors
    /// When the operating system gives no thread.
    pub fn start(
        file: HintFile,
        home: Home,
        caps: HintCaps,
        clock: Clock,
        metrics: HintMetrics,
        file_metrics: FileMetrics,
    ) -> std::io::Result<Self> {
        let HintFile { engine, by_target, generation } = file;
        let accounts = Accounts::new(clock.clone(), caps, generation, by_target, metrics);
        let accounts = Arc::new(accounts);
        let writer = Writer::start(WriterParts {
            name: "store-hints",
            engine: Arc::clone(&engine),
            home,
            clock,
            metrics: file_metrics,
            on_failure: Box::new(|| {}),
            companion: Box::new(Alone),
            successor: Box::new(HintsSuccessor(Arc::clone(&accounts))),
        })?;
        Ok(Self { engine, writer, accounts })
    }

    /// Keeps hints, in one transaction. A hint beyond the cap is [`StoreError::HintsFull`].
    pub async fn keep(
        &self,
        hints: Vec<KeepRequest>,
        durability: Durability,
        deadline: Option<Mono>,
    ) -> Vec<Result<(), StoreError>> {
        let count = hints.len();
        let (reply, results) = oneshot::channel();
        let accounts = Arc::clone(&self.accounts);
        self.writer.submit(Box::new(KeepJob::new(accounts, hints, durability, deadline, reply)));
        results.await.unwrap_or_else(|_| vec![Err(StoreError::Closed); count])
    }

    /// Keeps the obligation to deliver our own record to `target` later, durably: the copy of a
    /// coordinator that is no primary finds its way home by this hint alone.
    ///
    /// # Errors
    /// [`StoreError`]; the obligation is then left to read repair and anti-entropy.
    pub async fn keep_reference(
        &self,
        object: ObjectKey,
        target: NodeId,
        deadline: Mono,
    ) -> Result<(), StoreError> {
        let (reply, result) = oneshot::channel();
        let accounts = Arc::clone(&self.accounts);
        let (what, reconciliation) = (KeepWhat::Reference, Reconciliation::Siblings);
        let hints = vec![KeepRequest { object, target, what, reconciliation }];
        let job = KeepJob::new(accounts, hints, Durability::Fsync, Some(deadline), reply);
        self.writer.submit(Box::new(job));
        let kept = result.await.unwrap_or_default();
        kept.into_iter().next().unwrap_or(Err(StoreError::Closed))
    }

    /// Removes hints that were delivered, each only if it is still what was read. Not durable by
    /// itself: a hint that comes back after a crash is delivered once more, which changes nothing.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn remove_delivered(
        &self,
        target: NodeId,
        hints: Vec<StoredHint>,
    ) -> Result<u64, StoreError> {
        let (reply, result) = oneshot::channel();
        let accounts = Arc::clone(&self.accounts);
        let hints = hints.iter().map(|h| (h.object.clone(), h.hint.generation)).collect();
        self.writer.submit(Box::new(RemoveJob::new(accounts, target, hints, reply)));
        result.await.unwrap_or(Err(StoreError::Closed))
    }

    /// The replicas of `object` kept for others.
    ///
    /// # Errors
    /// [`StoreError`]; a replica read must then fail, since it might miss an acknowledged write.
    pub fn for_object(&self, object: &ObjectKey) -> Result<Vec<Record>, StoreError> {
        if self.accounts.total().hints == 0 {
            return Ok(Vec::new());
        }
        let from = object.storage_key();
        let length = from.len() + size_of::<u128>();
        let to = [from.as_slice(), &[0xff; size_of::<u128>()]].concat();
        let range = (Bound::Included(from), Bound::Included(to));
        let rows = self
            .engine
            .page(HINTS, range, SCAN_ROWS_MAX, SCAN_BYTES_MAX)
            .map_err(|error| self.unreadable(&error))?;
        let mut records = Vec::new();
        // Keys of other objects that begin with this key have the same length only if they are it.
        for (key, stored) in rows.into_iter().filter(|(key, _)| key.len() == length) {
            let hint = decode_hint(&key, stored).map_err(|_| StoreError::Corrupt)?;
            records.extend(hint.record);
        }
        Ok(records)
    }

    /// Whether a hint of any kind is kept for `object`.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub fn owes(&self, object: &ObjectKey) -> Result<bool, StoreError> {
        if self.accounts.total().hints == 0 {
            return Ok(false);
        }
        let from = object.storage_key();
        let length = from.len() + size_of::<u128>();
        let to = [from.as_slice(), &[0xff; size_of::<u128>()]].concat();
        let range = (Bound::Included(from), Bound::Included(to));
        let rows = self.engine.page(HINTS, range, SCAN_ROWS_MAX, SCAN_BYTES_MAX);
        let rows = rows.map_err(|error| self.unreadable(&error))?;
        Ok(rows.iter().any(|(key, _)| key.len() == length))
    }

    /// A page of the hints of `target`, in key order; `from` is `next` of the page before.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub fn page(&self, target: NodeId, from: Option<Vec<u8>>) -> Result<HintPage, StoreError> {
        let first = target.0.to_be_bytes().to_vec();
        let end = match target.0.checked_add(1) {
            Some(next) => Bound::Excluded(next.to_be_bytes().to_vec()),
            None => Bound::Unbounded,
        };
        let range = (Bound::Included(from.unwrap_or(first)), end);
        let rows = self
            .engine
            .page(BY_TARGET, range, HINT_BATCH_MAX, SCAN_BYTES_MAX)
            .map_err(|error| self.unreadable(&error))?;
        let mut page = HintPage::default();
        for (index, entry) in rows {
            page.next = Some([index.as_ref(), &[0]].concat());
            match self.stored(&index, &entry) {
                Ok(Some(stored)) => page.hints.push(stored),
                Ok(None) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(page)
    }

    /// The hint behind an index row; `None` where it is gone, or unreadable and therefore dropped.
    fn stored(&self, index: &[u8], entry: &[u8]) -> Result<Option<StoredHint>, StoreError> {
        let corrupt = |error: &dyn std::fmt::Display| {
            tracing::error!(%error, "a hint is unreadable and is left to anti-entropy");
        };
        let parsed = from_index_key(index).and_then(|(target, key)| {
            let entry = decode_entry(entry)?;
            Ok((target, parse_hint_key(&key)?.0, key, entry))
        });
        let (target, object, key, entry) = match parsed {
            Ok(parsed) => parsed,
            Err(error) => {
                corrupt(&error);
                return Ok(None);
            }
        };
        let Some(stored) = self.engine.get(HINTS, &key).map_err(|error| self.unreadable(&error))?
        else {
            return Ok(None);
        };
        match decode_hint(&key, stored) {
            Ok(hint) => Ok(Some(StoredHint { object, hint, bytes: entry.bytes })),
            Err(error) => {
                corrupt(&error);
                self.accounts.metrics.dropped_corrupt.inc();
                self.drop_entries(target, vec![(object, entry.generation)]);
                Ok(None)
            }
        }
    }

    /// Drops hints of `target` that were kept before `before`, page by page from `from`. Returns
    /// where to go on, and how many were dropped.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn expire(
        &self,
        before: WallMs,
        from: Option<Vec<u8>>,
    ) -> Result<(Option<Vec<u8>>, u64), StoreError> {
        let from = from.map_or(Bound::Unbounded, Bound::Excluded);
        let rows = self
            .engine
            .page(BY_TARGET, (from, Bound::Unbounded), SCAN_ROWS_MAX, SCAN_BYTES_MAX)
            .map_err(|error| self.unreadable(&error))?;
        let next = rows.last().map(|(key, _)| key.to_vec());
        let mut old: BTreeMap<NodeId, Vec<(ObjectKey, u64)>> = BTreeMap::new();
        for (index, entry) in rows {
            let parsed = from_index_key(&index)
                .and_then(|(_, key)| parse_hint_key(&key))
                .and_then(|(object, target)| Ok((object, target, decode_entry(&entry)?)));
            let Ok((object, target, HintEntry { kept_at, generation, .. })) = parsed else {
                tracing::error!("an unreadable row of the hint index is skipped");
                continue;
            };
            if kept_at < before {
                old.entry(target).or_default().push((object, generation));
            }
        }
        let mut dropped = 0;
        for (target, hints) in old {
            let (reply, result) = oneshot::channel();
            let accounts = Arc::clone(&self.accounts);
            self.writer.submit(Box::new(RemoveJob::new(accounts, target, hints, reply)));
            dropped += result.await.unwrap_or(Err(StoreError::Closed))?;
        }
        self.accounts.metrics.dropped_expired.inc_by(dropped);
        Ok((next, dropped))
    }

    fn drop_entries(&self, target: NodeId, hints: Vec<(ObjectKey, u64)>) {
        let (reply, _) = oneshot::channel();
        let accounts = Arc::clone(&self.accounts);
        self.writer.submit(Box::new(RemoveJob::unreadable(accounts, target, hints, reply)));
    }

    /// What is held, per target.
    #[must_use]
    pub fn totals(&self) -> BTreeMap<NodeId, HintTotal> {
        self.accounts.by_target()
    }

    /// Hints kept from now on have this generation or a later one.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.accounts.generation.load(Ordering::Relaxed)
    }

    /// Whether the file takes writes now.
    #[must_use]
    pub fn state(&self) -> StoreState {
        self.writer.state()
    }

    /// Writes what is queued and closes the file. Blocks; not for the async runtime.
    pub fn close(&self) -> bool {
        let complete = self.writer.stop();
        self.engine.close();
        complete
    }

    /// Hints that were first kept before `generation` and are still held. Walks the index; not for
    /// the async runtime.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub fn born_before(&self, generation: u64) -> Result<u64, StoreError> {
        let mut count = 0;
        let mut from = Bound::Unbounded;
        loop {
            let rows = self
                .engine
                .page(BY_TARGET, (from, Bound::Unbounded), SCAN_ROWS_MAX, SCAN_BYTES_MAX)
                .map_err(|error| self.unreadable(&error))?;
            let Some((last, _)) = rows.last() else { return Ok(count) };
            from = Bound::Excluded(last.to_vec());
            let old = |entry: &bytes::Bytes| {
                decode_entry(entry).is_ok_and(|entry| entry.born < generation)
            };
            count += rows.iter().filter(|(_, entry)| old(entry)).count() as u64;
        }
    }

    fn unreadable(&self, error: &EngineError) -> StoreError {
        if *error != EngineError::Closed {
            tracing::warn!(%error, "the hints could not be read");
            if matches!(error, EngineError::Damaged(_)) {
                self.accounts.note_damage();
            } else {
                self.writer.check();
            }
        }
        StoreError::Unavailable
    }
}
