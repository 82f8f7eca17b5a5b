//! The Merkle tree of the store (paper section 4.7): leaf sums that change in the same commit as
//! the records they sum (I-16), so that a restart needs no walk over the data.
//!
//! | module | what |
//! |---|---|
//! | [`classes`] | which bucket's keys belong to which class |
//! | [`form`] | the rows on disk |
//! | [`disk`] | reading the rows, folding the log into the blocks |
//! | [`companion`] | what the writer adds to every transaction |
//! | [`jobs`] | changes of the tree that are no changes of records |
//!
//! In memory are all sums. On disk are blocks of sums and, behind them, a log with one small row
//! per commit; a block would be two kilobytes per write. The log is folded into the blocks when it
//! has grown to [`crate::limits::TREE_LOG_ENTRIES_MAX`] entries and when the store is closed.
//!
//! Sums are additive. Let D be what a leaf's sum lacks in comparison with its records: a write
//! changes both sides by the same amount, so D stays what it is while writes go on. Whoever
//! measures D in one snapshot may add it later (see [`super::scrub`]). A tree that is lost is
//! therefore set to 0 and filled by the scrub: until then it is "building" and no evidence.
//!
//! Invariants: the sums in memory change only after the commit; after a failed commit they are
//! read from the file anew; the writer thread alone changes anything.

pub(crate) mod classes;
pub(crate) mod companion;
pub(crate) mod disk;
pub(crate) mod form;
pub(crate) mod jobs;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use dynamo_core::clock::digest::RecordDigest;
use dynamo_core::id::KeyHash;
use dynamo_core::merkle::{BlockIndex, Leaf, Prefix, Tree, TreeDigest, entry_delta};
use dynamo_core::time::WallMs;
use dynamo_core::wire::tree::TreeState;
use tokio::sync::Notify;

use self::classes::Classes;
use self::disk::{Loaded, load};
use self::form::Head;
use super::engine::Engine;
use crate::metrics::TreeMetrics;

/// The log of changes on disk that are not in the blocks yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Log {
    /// Number of the next row.
    pub(crate) next: u64,
    /// Changes in all rows.
    pub(crate) entries: usize,
}

/// What the last commit left.
#[derive(Debug)]
struct Committed {
    tree: Tree,
    head: Head,
    log: Log,
    /// Blocks that differ from what is on disk.
    dirty: BTreeSet<(u8, BlockIndex)>,
    /// A commit failed: what is on disk is not known until the file was opened anew.
    stale: bool,
}

/// What the transaction under way changes.
#[derive(Debug, Default)]
struct Pending {
    /// How the buckets are sorted from now on.
    classes: Arc<Classes>,
    deltas: BTreeMap<(u8, Leaf), u128>,
    /// The tree begins anew, with nothing but `deltas`.
    reset: bool,
    /// The head from now on.
    head: Option<Head>,
    /// Sums were set to 0 without regard to the records.
    cleared: bool,
    /// The log is to be folded whatever its length.
    fold: bool,
    /// The log as the seal has left it.
    log: Log,
    /// Whether the seal has folded the log.
    folded: bool,
}

/// Why a leaf is to be compared with its records soon.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Suspicion {
    /// The records that a peer was told of do not add up to its sum.
    Sum,
    /// A record in it is or was unreadable: what it had added to the sum is not known.
    Unreadable,
}

/// Progress and result of the comparison of tree and records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TreeStats {
    /// Whether the tree is evidence.
    pub state: TreeState,
    /// Changes in the log.
    pub log_entries: usize,
    /// Leaves that the present pass has compared, of 65,536.
    pub scrubbed_leaves: u32,
    /// When the present pass began.
    pub pass_started: WallMs,
    /// When the last full pass ended.
    pub last_full: Option<WallMs>,
    /// Leaves waiting to be compared out of turn.
    pub suspects: usize,
}

/// The tree of one store, shared by its readers and its writer.
#[derive(Debug)]
pub(crate) struct TreeKeeper {
    committed: RwLock<Committed>,
    pending: Mutex<Pending>,
    suspects: Mutex<BTreeMap<Leaf, Suspicion>>,
    /// Whether there is to be a tree at all; see [`TreeKeeper::disable`].
    enabled: AtomicBool,
    /// Grows whenever sums are set to 0, before and after the commit.
    clears: AtomicU64,
    /// Rings when there is something to scrub out of turn.
    pub(crate) wake: Notify,
    pub(crate) metrics: TreeMetrics,
}

impl TreeKeeper {
    /// Reads the tree of an open file. One that is missing or unreadable begins anew with the next
    /// commit; the second value says so, and the third whether rows were there and unreadable.
    pub(crate) fn open(engine: &dyn Engine, metrics: TreeMetrics) -> (Self, Opened) {
        let (loaded, opened) = read(engine);
        let next = loaded.is_none().then(|| Head::building(1, Classes::default()));
        let committed = Committed::from(loaded);
        let keeper = Self {
            pending: Mutex::new(Pending::after(&committed, next)),
            committed: RwLock::new(committed),
            suspects: Mutex::default(),
            enabled: AtomicBool::new(true),
            clears: AtomicU64::new(0),
            wake: Notify::new(),
            metrics,
        };
        keeper.show();
        (keeper, opened)
    }

    /// Reads everything anew, after the file was opened anew.
    fn reload(&self, engine: &dyn Engine) -> Opened {
        let before = self.head();
        let (loaded, opened) = read(engine);
        let next = loaded
            .is_none()
            .then(|| Head::building(before.generation.saturating_add(1), before.classes));
        let committed = Committed::from(loaded);
        *self.pending() = Pending::after(&committed, next);
        *self.committed_mut() = committed;
        self.show();
        self.wake.notify_one();
        opened
    }

    /// The record under `key` becomes another one in the transaction under way; `None` stands for
    /// no record. Writer thread only.
    pub(crate) fn change(
        &self,
        key: &[u8],
        bucket: &str,
        old: Option<RecordDigest>,
        new: Option<RecordDigest>,
    ) {
        if !self.is_enabled() {
            return;
        }
        let delta = entry_delta(key, old, new);
        if delta == 0 {
            return;
        }
        let mut pending = self.pending();
        let class = pending.classes.of(bucket);
        pending.add(class, leaf_of(key), delta);
    }

    /// Digests of subtrees of one class; none while they are no evidence.
    pub(crate) fn digests(&self, class: u8, prefixes: &[Prefix]) -> (TreeState, Vec<TreeDigest>) {
        let committed = self.committed();
        if committed.state() == TreeState::Building {
            return (TreeState::Building, Vec::new());
        }
        let digest = |prefix: &Prefix| committed.tree.digest(class, *prefix);
        (TreeState::Built, prefixes.iter().map(digest).collect())
    }

    /// The sum of one leaf as of the last commit.
    pub(crate) fn leaf(&self, class: u8, leaf: Leaf) -> u128 {
        self.committed().tree.leaf(class, leaf)
    }

    /// The classes as of the last commit.
    pub(crate) fn committed_classes(&self) -> Arc<Classes> {
        Arc::clone(&self.committed().head.classes)
    }

    /// The head as of the last commit.
    pub(crate) fn head(&self) -> Head {
        self.committed().head.clone()
    }

    /// Whether the tree is evidence.
    pub(crate) fn state(&self) -> TreeState {
        self.committed().state()
    }

    /// Gives up the tree: it is "building" and nobody builds it, until a start without this. Before
    /// the first write of this process.
    pub(crate) fn disable(&self) {
        self.enabled.store(false, Ordering::Release);
    }

    /// Whether there is a tree.
    pub(crate) fn is_enabled(&self) -> bool {
        self.enabled.load(Ordering::Acquire)
    }

    /// A number that changes when sums are set to 0: what was measured before it changed, or while
    /// it did, is void.
    pub(crate) fn clears(&self) -> u64 {
        self.clears.load(Ordering::Acquire)
    }

    fn count_clear(&self) {
        self.clears.fetch_add(1, Ordering::AcqRel);
    }

    /// Whether the tree begins anew with the next commit.
    pub(crate) fn reset_is_due(&self) -> bool {
        self.pending().reset
    }

    /// For operators.
    pub(crate) fn stats(&self) -> TreeStats {
        let suspects = self.suspects().len();
        let committed = self.committed();
        TreeStats {
            state: committed.state(),
            log_entries: committed.log.entries,
            scrubbed_leaves: committed.head.pass.next,
            pass_started: committed.head.pass.started,
            last_full: committed.head.last_full,
            suspects,
        }
    }

    /// Asks for the leaf of `key` to be compared with its records soon.
    pub(crate) fn suspect(&self, leaf: Leaf, why: Suspicion) {
        let mut suspects = self.suspects();
        let known = suspects.entry(leaf).or_insert(why);
        *known = (*known).max(why);
        drop(suspects);
        self.wake.notify_one();
    }

    /// The first leaf that is to be compared soon.
    pub(crate) fn first_suspect(&self) -> Option<Leaf> {
        self.suspects().first_key_value().map(|(leaf, _)| *leaf)
    }

    /// Takes the suspicions about these leaves, before they are read.
    pub(crate) fn take_suspects(&self, first: Leaf, last: Leaf) -> BTreeMap<Leaf, Suspicion> {
        let mut suspects = self.suspects();
        let taken: BTreeMap<_, _> = suspects.range(first..=last).map(|(l, s)| (*l, *s)).collect();
        suspects.retain(|leaf, _| !taken.contains_key(leaf));
        taken
    }

    /// Whether a record of this leaf is known to be or have been unreadable.
    pub(crate) fn is_suspect(&self, leaf: Leaf) -> bool {
        self.suspects().get(&leaf) == Some(&Suspicion::Unreadable)
    }

    /// The sums as of the last commit.
    #[cfg(test)]
    pub(crate) fn sums(&self) -> Tree {
        self.committed().tree.clone()
    }

    /// Shows the state in the metrics.
    fn show(&self) {
        let committed = self.committed();
        self.metrics.built.set(i64::from(committed.state() == TreeState::Built));
        self.metrics.log_entries.set(i64::try_from(committed.log.entries).unwrap_or(i64::MAX));
        self.metrics.pass_leaves.set(i64::from(committed.head.pass.next));
        let seconds = committed.head.last_full.map_or(0, |at| at.0 / 1000);
        self.metrics.last_full.set(i64::try_from(seconds).unwrap_or(i64::MAX));
    }

    fn pending(&self) -> MutexGuard<'_, Pending> {
        // A transaction in which something panicked is given up as a whole, with its changes.
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn committed(&self) -> RwLockReadGuard<'_, Committed> {
        self.committed.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn committed_mut(&self) -> RwLockWriteGuard<'_, Committed> {
        self.committed.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn suspects(&self) -> MutexGuard<'_, BTreeMap<Leaf, Suspicion>> {
        self.suspects.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How the rows of the tree were found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Opened {
    /// Complete.
    Whole,
    /// Never written: a new file, or one of an older build.
    Missing,
    /// Unreadable: part of the file is damaged.
    Unreadable,
}

fn read(engine: &dyn Engine) -> (Option<Loaded>, Opened) {
    match load(engine) {
        Ok(Some(loaded)) => (Some(loaded), Opened::Whole),
        Ok(None) => (None, Opened::Missing),
        Err(error) => {
            tracing::error!(%error, "the tree is unreadable and is built anew");
            (None, Opened::Unreadable)
        }
    }
}

impl From<Option<Loaded>> for Committed {
    fn from(loaded: Option<Loaded>) -> Self {
        let (dirty, stale) = (BTreeSet::new(), false);
        match loaded {
            Some(Loaded { tree, head, log, dirty }) => Self { tree, head, log, dirty, stale },
            None => {
                let head = Head::building(0, Classes::default());
                Self { tree: Tree::new(), head, log: Log::default(), dirty, stale }
            }
        }
    }
}

impl Committed {
    fn state(&self) -> TreeState {
        if self.head.built && !self.stale { TreeState::Built } else { TreeState::Building }
    }
}

impl Pending {
    /// Nothing yet, on top of what was committed; or, with a head, a tree that begins anew.
    fn after(committed: &Committed, next: Option<Head>) -> Self {
        let head = next.as_ref().unwrap_or(&committed.head);
        let (classes, log) = (Arc::clone(&head.classes), committed.log);
        Self { classes, log, reset: next.is_some(), head: next, ..Self::default() }
    }

    fn add(&mut self, class: u8, leaf: Leaf, delta: u128) {
        let sum = self.deltas.entry((class, leaf)).or_default();
        *sum = sum.wrapping_add(delta);
    }

    fn is_empty(&self) -> bool {
        self.deltas.is_empty() && !self.reset && self.head.is_none() && !self.fold
    }
}

/// The leaf of a storage key. A key too short to have a position was never written by us.
pub(crate) fn leaf_of(key: &[u8]) -> Leaf {
    key.first_chunk().map_or(Leaf(0), |top| Leaf::of(KeyHash(u128::from_be_bytes(*top))))
}
