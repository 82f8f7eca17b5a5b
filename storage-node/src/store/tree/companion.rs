//! What the writer adds to every transaction: one row with the changes of the sums, or the folded
//! log; and, once the transaction is committed, the same changes in memory.

use std::collections::BTreeSet;
use std::sync::Arc;

use dynamo_core::merkle::{BlockIndex, Tree};

use super::super::engine::{Engine, Tables};
use super::super::error::EngineError;
use super::super::writer::Companion;
use super::super::{Shared, TREE, meta};
use super::disk::{clear, fold, log_rows};
use super::form::{Entry, HEAD_KEY, encode_deltas, encode_head};
use super::{Committed, Log, Opened, Pending, TreeKeeper};
use crate::limits::TREE_LOG_ENTRIES_MAX;

/// The tree's part in the writer.
pub(crate) struct TreeCompanion(pub(crate) Arc<Shared>);

impl Companion for TreeCompanion {
    fn seal(&mut self, tables: &mut dyn Tables) -> Result<(), EngineError> {
        let tree = &self.0.tree;
        seal(&tree.committed(), &mut tree.pending(), tables)
    }

    fn end(&mut self, committed: bool) {
        self.0.tree.end(committed);
    }

    fn reopened(&mut self, engine: &dyn Engine) {
        if self.0.tree.reload(engine) == Opened::Unreadable {
            self.0.epochs.end(0, "the tree of the store is unreadable");
        }
    }
}

/// Writes what the transaction changes of the tree.
fn seal(
    committed: &Committed,
    pending: &mut Pending,
    tables: &mut dyn Tables,
) -> Result<(), EngineError> {
    if pending.is_empty() {
        return Ok(());
    }
    pending.deltas.retain(|_, delta| *delta != 0);
    let (nothing, clean) = (Tree::new(), BTreeSet::new());
    let (base, dirty, mut log) = if pending.reset {
        clear(tables)?;
        meta::write_format(tables)?;
        (&nothing, &clean, Log::default())
    } else {
        (&committed.tree, &committed.dirty, committed.log)
    };
    if let Some(head) = &pending.head {
        tables.put(TREE, HEAD_KEY, &encode_head(head))?;
    }
    let entries: Vec<Entry> = pending.deltas.iter().map(|(at, delta)| (*at, *delta)).collect();
    let length = log.entries + entries.len();
    pending.folded = length > TREE_LOG_ENTRIES_MAX || (pending.fold && length > 0);
    if pending.folded {
        fold(tables, base, dirty, &pending.deltas)?;
        log.entries = 0;
    } else {
        for (key, entries) in log_rows(log.next, &entries) {
            tables.put(TREE, &key, &encode_deltas(&key, entries))?;
            log.next += 1;
        }
        log.entries = length;
    }
    pending.log = log;
    Ok(())
}

impl TreeKeeper {
    /// Takes over what the transaction changed, or throws it away.
    fn end(&self, done: bool) {
        let mut pending = self.pending();
        let mut committed = self.committed_mut();
        if !done {
            committed.stale = true;
            *pending = Pending::after(&committed, None);
            drop((pending, committed));
            self.show();
            return;
        }
        if pending.is_empty() {
            return;
        }
        if pending.cleared {
            self.count_clear();
        }
        if pending.reset {
            committed.tree = Tree::new();
            committed.dirty.clear();
        }
        for ((class, leaf), delta) in std::mem::take(&mut pending.deltas) {
            committed.tree.apply(class, leaf, delta);
            committed.dirty.insert((class, BlockIndex::of(leaf)));
        }
        if pending.folded {
            committed.dirty.clear();
            self.metrics.folds.inc();
        }
        committed.log = pending.log;
        let head = pending.head.take();
        let state_changed = head.is_some();
        if let Some(head) = head {
            committed.head = head;
        }
        *pending = Pending::after(&committed, None);
        let entries = i64::try_from(committed.log.entries).unwrap_or(i64::MAX);
        drop((pending, committed));
        self.metrics.log_entries.set(entries);
        if state_changed {
            self.show();
            self.wake.notify_one();
        }
    }
}
