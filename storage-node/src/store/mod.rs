//! The records of this node on disk (paper section 5, "local persistence engine").
//!
//! | module | what |
//! |---|---|
//! | [`engine`] | what an engine must do; `redb_engine` and `memory` do it |
//! | `queue`, [`writer`] | one writer per file, group commit, behaviour after failures |
//! | [`put`], [`merge`] | the two ways a record changes |
//! | [`applied`] | what is remembered of the puts of the last minutes |
//! | `state`, `successor` | what a file takes; what follows one that is damaged |
//! | [`seal`], `aside` | which store a file is, and since when; damaged files |
//! | [`space`] | a disk that is full |
//! | `suspect` | files over which the engine panicked |
//! | `corrupt` | records that failed their checksum |
//! | [`tree`] | the Merkle tree over the records, and its upkeep |
//! | [`scrub`] | comparing tree and records |
//! | [`keys`] | the keys of leaves, for another replica to compare |
//! | [`pages`] | partitions read page by page |
//! | [`partitions`] | partitions held, released and dropped |
//! | [`reap`] | records that every owner has and nobody needs |
//! | [`meta`] | which store this is, and which partitions it holds |
//! | [`hints`], [`hint_form`] | replicas kept for others, in a file of their own |
//!
//! Invariants: a record changes only inside the writer's transaction; it is verified on every
//! read; what was acknowledged durably is on disk; after any failed commit the actor epoch ends
//! before anyone hears of it. No other module names redb.

pub mod applied;
pub mod engine;
pub mod error;
pub mod hint_form;
pub mod hints;
pub mod keys;
pub mod merge;
pub mod meta;
pub mod pages;
pub mod partitions;
pub mod put;
pub mod reap;
pub mod scrub;
pub mod tree;
pub mod writer;

pub(crate) mod aside;
mod corrupt;
mod hint_accounts;
mod hint_jobs;
mod memory;
mod queue;
mod redb_engine;
pub mod seal;
pub mod space;
mod state;
mod successor;
mod suspect;
#[cfg(test)]
pub(crate) mod tests;

use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use dynamo_core::clock::record::Record;
use dynamo_core::cluster_view::ClusterView;
use dynamo_core::codec::record::decode_record;
use dynamo_core::id::KeyHash;
use dynamo_core::key::ObjectKey;
use dynamo_core::merkle::{Prefix, TreeDigest};
use dynamo_core::params::Durability;
use dynamo_core::put_memory::PutMemory;
use dynamo_core::time::Mono;
use dynamo_core::wire::tree::TreeState;
use service_kit::time::Clock;
use tokio::sync::{oneshot, watch};

use self::corrupt::CorruptKeys;
use self::engine::{Engine, TableId};
use self::memory::MemoryEngine;
use self::merge::{MergeJob, MergeRequest};
use self::put::{PutJob, PutListener, PutRequest};
use self::redb_engine::{FileBytes, OpenFile, RedbEngine};
use self::seal::{Seal, SealJob};
use self::successor::RecordsSuccessor;
use self::suspect::Mark;
use self::tree::classes::Classes;
use self::tree::companion::TreeCompanion;
use self::tree::jobs::{TreeChange, TreeJob};
use self::tree::{Opened, Suspicion, TreeKeeper, TreeStats, leaf_of};
use self::writer::{Home, StoreState, Writer, WriterParts};
use crate::epoch::EpochKeeper;
use crate::limits::{SCAN_BYTES_MAX, SCAN_ROWS_MAX};
use crate::metrics::{FileMetrics, StoreMetrics};

pub use self::error::{EngineError, StoreError};

/// Records by [`ObjectKey::storage_key`].
pub(crate) const RECORDS: TableId = TableId(0);
/// Facts about the store itself, see [`meta`].
pub(crate) const META: TableId = TableId(1);

/// The Merkle tree, see [`tree`].
pub(crate) const TREE: TableId = TableId(2);

const TABLES: &[&str] = &["records", "meta", "tree"];

/// Name of the main file in the data directory.
pub const RECORDS_FILE: &str = "records.redb";

/// Where records are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EngineKind {
    /// In a redb file.
    #[default]
    Redb,
    /// In memory, lost with the process.
    Memory,
}

/// Opens one file of a data directory.
///
/// # Errors
/// [`EngineError`].
pub(crate) fn open_engine(
    kind: EngineKind,
    path: PathBuf,
    cache_bytes: usize,
    tables: &'static [&'static str],
) -> Result<Arc<dyn Engine>, EngineError> {
    Ok(match kind {
        EngineKind::Memory => Arc::new(MemoryEngine::new(tables.len())),
        EngineKind::Redb => {
            let (file, mark) = (path.clone(), Mark::of(&path));
            let open: OpenFile = Box::new(move |builder| builder.create(&file));
            // A file whose size is not known counts as large, which is safe for any size.
            let bytes: FileBytes =
                Box::new(move || std::fs::metadata(&path).map_or(u64::MAX, |file| file.len()));
            Arc::new(RedbEngine::open(open, bytes, cache_bytes, tables, Some(mark))?)
        }
    })
}

/// Opens the main file of a data directory.
///
/// # Errors
/// [`EngineError`].
pub fn open_records(
    kind: EngineKind,
    data_dir: &Path,
    cache_bytes: usize,
) -> Result<Arc<dyn Engine>, EngineError> {
    open_engine(kind, data_dir.join(RECORDS_FILE), cache_bytes, TABLES)
}

/// What jobs on the writer thread work with.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) clock: Clock,
    pub(crate) epochs: Arc<EpochKeeper>,
    pub(crate) corrupt: CorruptKeys,
    pub(crate) puts: Mutex<PutMemory>,
    pub(crate) tree: TreeKeeper,
    pub(crate) metrics: StoreMetrics,
    /// Number of the file, see [`Store::life`].
    pub(crate) life: Arc<AtomicU64>,
    /// Whether a read has met a damaged page.
    pub(crate) damaged: AtomicBool,
    /// Whether the scrub has missed a record and found no trace of it.
    pub(crate) vanished: AtomicBool,
}

impl Shared {
    /// Whether the store is still the one of `life`. On the writer thread that stays so until the
    /// job has ended.
    fn is_in_life(&self, life: u64) -> bool {
        self.life.load(Ordering::Acquire) == life
    }

    fn show_corrupt(&self) {
        let keys = i64::try_from(self.corrupt.len()).unwrap_or(i64::MAX);
        self.metrics.corrupt_keys.set(keys);
    }

    /// Verifies and decodes a stored record. A bad one is counted and logged, and ends the epoch,
    /// once.
    fn decode(&self, key: &[u8], stored: Bytes) -> Result<Record, StoreError> {
        decode_record(key, stored).map_err(|error| {
            self.lost(key, &error.to_string());
            StoreError::Corrupt
        })
    }

    /// Notes that the record under `key` cannot be read.
    fn lost(&self, key: &[u8], why: &str) {
        if !self.corrupt.note(key) {
            return;
        }
        self.tree.suspect(leaf_of(key), Suspicion::Unreadable);
        self.metrics.corrupt_records.inc();
        self.show_corrupt();
        let position = key.first_chunk().map_or(KeyHash(0), |p| KeyHash(u128::from_be_bytes(*p)));
        tracing::error!(?position, why, "a stored record is unreadable");
        self.epochs.end(0, "a record is unreadable");
    }
}

/// A page of a scan.
#[derive(Debug)]
pub struct ScanPage {
    /// Objects in position order, each with its record, or `None` where it is unreadable.
    pub records: Vec<(ObjectKey, Option<Record>)>,
    /// Where the next page begins; `None` at the end of the range.
    pub next: Option<Vec<u8>>,
}

/// Sizes and states of the store, for operators.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreStats {
    /// Whether it takes writes.
    pub state: StoreState,
    /// Records, tombstones included; `None` while they cannot be read.
    pub records: Option<u64>,
    /// Jobs waiting for the writer.
    pub queue: usize,
    /// Records known to be unreadable.
    pub corrupt_keys: usize,
}

/// The main store of a node.
#[derive(Debug)]
pub struct Store {
    engine: Arc<dyn Engine>,
    writer: Writer,
    shared: Arc<Shared>,
}

impl Store {
    /// Starts the writer of an open main file.
    ///
    /// # Errors
    /// When the operating system gives no thread.
    pub fn start(
        engine: Arc<dyn Engine>,
        home: Home,
        clock: Clock,
        epochs: Arc<EpochKeeper>,
        metrics: StoreMetrics,
        file_metrics: FileMetrics,
    ) -> std::io::Result<Self> {
        let (tree, opened) = TreeKeeper::open(engine.as_ref(), metrics.tree.clone());
        if opened == Opened::Unreadable {
            epochs.end(0, "the tree of the store is unreadable");
        }
        let shared = Arc::new(Shared {
            clock: clock.clone(),
            epochs: Arc::clone(&epochs),
            corrupt: CorruptKeys::default(),
            puts: Mutex::default(),
            tree,
            metrics,
            life: Arc::default(),
            damaged: AtomicBool::new(false),
            vanished: AtomicBool::new(false),
        });
        let on_failure = Box::new(move || epochs.end(0, "a commit failed"));
        let writer = Writer::start(WriterParts {
            name: "store-records",
            engine: Arc::clone(&engine),
            home,
            clock,
            metrics: file_metrics,
            on_failure,
            companion: Box::new(TreeCompanion(Arc::clone(&shared))),
            successor: Box::new(RecordsSuccessor::new(Arc::clone(&shared))),
        })?;
        let store = Self { engine, writer, shared };
        if store.shared.tree.reset_is_due() {
            store.reset_tree();
        }
        Ok(store)
    }

    /// Goes without the Merkle tree, and so without scrub and comparison with other replicas: only
    /// for measuring what the tree costs. The next start without this builds it anew. Before the
    /// first write.
    pub fn disable_tree(&self) {
        self.shared.tree.disable();
        self.reset_tree();
    }

    /// Lets the tree begin anew; nobody waits for it.
    fn reset_tree(&self) {
        let (reply, _) = oneshot::channel();
        let shared = Arc::clone(&self.shared);
        self.writer.submit(Box::new(TreeJob::new(shared, TreeChange::Reset, reply)));
    }

    /// Sorts the buckets as `view` does. Where that changes, the tree begins anew.
    ///
    /// # Errors
    /// [`StoreError`]; the tree then stays as it is, and the next ring tries again.
    pub async fn sort_buckets(&self, view: &ClusterView) -> Result<(), StoreError> {
        let classes = Arc::new(Classes::of_view(view));
        if self.shared.tree.committed_classes() == classes {
            return Ok(());
        }
        let began = self.change_tree(TreeChange::Reclass(classes)).await?;
        if began {
            tracing::warn!("the number of copies of a bucket changed; the tree is built anew");
        }
        Ok(())
    }

    async fn change_tree(&self, change: TreeChange) -> Result<bool, StoreError> {
        let (reply, result) = oneshot::channel();
        let shared = Arc::clone(&self.shared);
        self.writer.submit(Box::new(TreeJob::new(shared, change, reply)));
        result.await.unwrap_or(Err(StoreError::Closed))
    }

    /// Digests of subtrees over the keys of buckets with N = `class`; none while the tree is no
    /// evidence.
    #[must_use]
    pub fn tree_digests(&self, class: u8, prefixes: &[Prefix]) -> (TreeState, Vec<TreeDigest>) {
        self.shared.tree.digests(class, prefixes)
    }

    /// State and progress of the tree.
    #[must_use]
    pub fn tree_stats(&self) -> TreeStats {
        self.shared.tree.stats()
    }

    /// Applies a client put as its coordinator. `listener` hears of it, also of a refusal.
    pub fn put(&self, request: PutRequest, listener: PutListener) {
        let shared = Arc::clone(&self.shared);
        self.writer.submit(Box::new(PutJob::new(shared, request, listener)));
    }

    /// Merges what other replicas sent, in one transaction; all of it or, on an error, nothing.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn merge(
        &self,
        merges: Vec<MergeRequest>,
        durability: Durability,
        deadline: Option<Mono>,
    ) -> Result<(), StoreError> {
        let (reply, result) = oneshot::channel();
        let shared = Arc::clone(&self.shared);
        self.writer.submit(Box::new(MergeJob::new(shared, merges, durability, deadline, reply)));
        result.await.unwrap_or(Err(StoreError::Closed))
    }

    /// The record of `object`, verified. Sees everything acknowledged, buffered writes included.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] where the record is unreadable: the replica has then failed for this
    /// key, which is not the same as being empty. [`StoreError::Unavailable`].
    pub fn read(&self, object: &ObjectKey) -> Result<Option<Record>, StoreError> {
        let key = object.storage_key();
        match self.engine.get(RECORDS, &key) {
            Ok(None) => Ok(None),
            Ok(Some(stored)) => self.shared.decode(&key, stored).map(Some),
            Err(EngineError::Damaged(why)) => {
                self.shared.lost(&key, &why);
                self.shared.damaged.store(true, Ordering::Release);
                Err(StoreError::Corrupt)
            }
            Err(error) => Err(self.read_failed(&error)),
        }
    }

    fn read_failed(&self, error: &EngineError) -> StoreError {
        self.shared.metrics.read_failures.inc();
        // While the file is being reopened every read fails; that is known and logged already.
        if *error != EngineError::Closed {
            tracing::warn!(%error, "the records could not be read");
            if matches!(error, EngineError::Damaged(_)) {
                self.shared.damaged.store(true, Ordering::Release);
            } else {
                self.writer.check();
            }
        }
        StoreError::Unavailable
    }

    /// A page of the records with positions from `first` to `last`, both included. `cursor` is
    /// `next` of the page before.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub fn scan(
        &self,
        first: KeyHash,
        last: KeyHash,
        cursor: Option<Vec<u8>>,
    ) -> Result<ScanPage, StoreError> {
        let from = cursor.unwrap_or_else(|| first.0.to_be_bytes().to_vec());
        let to = match last.0.checked_add(1) {
            Some(end) => Bound::Excluded(end.to_be_bytes().to_vec()),
            None => Bound::Unbounded,
        };
        let range = (Bound::Included(from), to);
        let rows = self.engine.page(RECORDS, range, SCAN_ROWS_MAX, SCAN_BYTES_MAX);
        let rows = rows.map_err(|error| self.read_failed(&error))?;
        // The smallest key after the last one of this page.
        let next = rows.last().map(|(key, _)| [key.as_ref(), &[0]].concat());
        let mut records = Vec::with_capacity(rows.len());
        for (key, stored) in rows {
            match ObjectKey::from_storage_key(&key) {
                Ok(object) => records.push((object, self.shared.decode(&key, stored).ok())),
                Err(error) => self.shared.lost(&key, &error.to_string()),
            }
        }
        Ok(ScanPage { records, next })
    }

    /// Sizes and states, which can be told in any of them.
    #[must_use]
    pub fn stats(&self) -> StoreStats {
        StoreStats {
            state: self.state(),
            records: self.engine.rows(RECORDS).map_err(|error| self.read_failed(&error)).ok(),
            queue: self.writer.queue_len(),
            corrupt_keys: self.shared.corrupt.len(),
        }
    }

    /// Whether it takes writes now.
    #[must_use]
    pub fn state(&self) -> StoreState {
        self.writer.state()
    }

    /// Changes of the state.
    #[must_use]
    pub fn watch_state(&self) -> watch::Receiver<StoreState> {
        self.writer.watch()
    }

    /// Number of times that the store has lost its file and begun empty, since the process began.
    /// It changes before the empty file can be read: what was learned of the store in one life is
    /// not true in the next.
    #[must_use]
    pub fn life(&self) -> u64 {
        self.shared.life.load(Ordering::Acquire)
    }

    /// The same number, for those who cannot hold the store.
    #[must_use]
    pub fn lives(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.shared.life)
    }

    /// Writes what is queued, seals and closes the file. True where everything acknowledged is on
    /// disk. Blocks; not for the async runtime.
    pub fn close(&self) -> bool {
        // A short log makes the next start quick.
        self.writer.submit(Box::new(TreeJob::fold(Arc::clone(&self.shared))));
        let file = self.shared.epochs.file();
        let seal = Seal::new(file.store_id, file.incarnation, true);
        let (reply, mut sealed) = oneshot::channel();
        self.writer.submit(Box::new(SealJob { seal, reply }));
        let complete = self.writer.stop();
        self.engine.close();
        complete && matches!(sealed.try_recv(), Ok(Ok(())))
    }
}
