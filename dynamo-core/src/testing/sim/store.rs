//! The simulated store of one node: tables in memory, a disk that follows when it is flushed, and
//! what a crash leaves of them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::clock::digest::RecordDigest;
use crate::clock::record::Record;
use crate::id::NodeId;
use crate::merkle::Tree;
use crate::testing::sim::founding::{CLASS, object};

/// An object, by its number in the run.
pub(super) type Key = usize;

/// A replica kept for another node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Hint {
    /// The record itself.
    Copy(Record),
    /// The record of the main store under the same key.
    Reference,
}

#[derive(Debug, Clone, Default)]
struct Tables {
    records: BTreeMap<Key, Record>,
    /// Kept along with the records, in the same change.
    tree: Tree,
    hints: BTreeMap<(NodeId, Key), Hint>,
}

#[derive(Debug, Clone)]
enum Change {
    Record(Key, Option<Record>),
    /// A removal that the tree does not hear of (a bug, see
    /// [`super::mutant::Mutant::TreeForgetsRemoval`]).
    Unheard(Key),
    Hint(NodeId, Key, Option<Hint>),
}

impl Tables {
    fn set(&mut self, key: Key, record: Option<Record>) {
        let new = record.as_ref().map(RecordDigest::of);
        let old = match record {
            Some(record) => self.records.insert(key, record),
            None => self.records.remove(&key),
        };
        self.tree.change(CLASS, object(key), old.as_ref().map(RecordDigest::of), new);
    }

    fn apply(&mut self, change: Change) {
        match change {
            Change::Record(key, record) => self.set(key, record),
            Change::Unheard(key) => {
                self.records.remove(&key);
            }
            Change::Hint(target, key, Some(hint)) => {
                self.hints.insert((target, key), hint);
            }
            Change::Hint(target, key, None) => {
                self.hints.remove(&(target, key));
            }
        }
    }
}

/// Number of a write; a write is durable when its ticket, and so every earlier one, was flushed.
pub(super) type Ticket = u64;

#[derive(Debug, Default)]
pub(super) struct Store {
    memory: Tables,
    disk: Tables,
    /// Written and not flushed, in order.
    pending: VecDeque<(Ticket, Change)>,
    last: Ticket,
    /// Records that have become unreadable; nobody knows until one is read.
    rotten: BTreeSet<Key>,
    /// Records found unreadable and not restored since: their absence means nothing.
    missing: BTreeSet<Key>,
}

impl Store {
    /// The record under `key`, or `Err` where it is found unreadable, once; it is gone then.
    pub(super) fn load(&mut self, key: Key) -> Result<Record, ()> {
        if self.rotten.remove(&key) {
            self.memory.set(key, None);
            self.disk.set(key, None);
            self.missing.insert(key);
            return Err(());
        }
        Ok(self.peek(key))
    }

    /// The record under `key` as it is, without looking for damage.
    pub(super) fn peek(&self, key: Key) -> Record {
        self.memory.records.get(&key).cloned().unwrap_or_default()
    }

    /// What the disk has under `key`.
    pub(super) fn on_disk(&self, key: Key) -> Record {
        self.disk.records.get(&key).cloned().unwrap_or_default()
    }

    /// Whether something is damaged and nobody knows yet.
    pub(super) fn is_damaged(&self) -> bool {
        !self.rotten.is_empty()
    }

    pub(super) fn is_missing(&self, key: Key) -> bool {
        self.missing.contains(&key)
    }

    pub(super) fn put(&mut self, key: Key, record: Record) -> Ticket {
        self.missing.remove(&key);
        self.write(Change::Record(key, Some(record)))
    }

    /// Removes a record.
    pub(super) fn remove(&mut self, key: Key, is_heard: bool) -> Ticket {
        self.rotten.remove(&key);
        self.missing.remove(&key);
        self.write(if is_heard { Change::Record(key, None) } else { Change::Unheard(key) })
    }

    /// The tree of what is in memory.
    pub(super) fn tree(&self) -> &Tree {
        &self.memory.tree
    }

    /// I-16: the tree is what a scan of the records makes.
    pub(super) fn is_tree_true(&self) -> bool {
        let is_true = |tables: &Tables| {
            let mut tree = Tree::new();
            for (key, record) in &tables.records {
                tree.change(CLASS, object(*key), None, Some(RecordDigest::of(record)));
            }
            tree == tables.tree
        };
        is_true(&self.memory) && is_true(&self.disk)
    }

    /// The keys of all records, by number.
    pub(super) fn keys(&self) -> impl Iterator<Item = Key> + '_ {
        self.memory.records.keys().copied()
    }

    pub(super) fn put_hint(&mut self, target: NodeId, key: Key, hint: Hint) -> Ticket {
        self.write(Change::Hint(target, key, Some(hint)))
    }

    pub(super) fn drop_hint(&mut self, target: NodeId, key: Key) -> Ticket {
        self.write(Change::Hint(target, key, None))
    }

    fn write(&mut self, change: Change) -> Ticket {
        self.last += 1;
        self.memory.apply(change.clone());
        self.pending.push_back((self.last, change));
        self.last
    }

    /// The ticket of the last write, flushed or not: what "as durable as asked" waits for where
    /// there is nothing new to write.
    pub(super) fn last_ticket(&self) -> Ticket {
        self.last
    }

    pub(super) fn hint(&self, target: NodeId, key: Key) -> Option<&Hint> {
        self.memory.hints.get(&(target, key))
    }

    /// The record that a hint stands for.
    pub(super) fn hinted(&self, target: NodeId, key: Key) -> Option<Record> {
        match self.hint(target, key)? {
            Hint::Copy(record) => Some(record.clone()),
            Hint::Reference => Some(self.peek(key)),
        }
    }

    pub(super) fn hints(&self) -> impl Iterator<Item = (NodeId, Key)> + '_ {
        self.memory.hints.keys().copied()
    }

    /// Copies of `key` kept for others.
    pub(super) fn copies(&self, key: Key) -> impl Iterator<Item = &Record> + '_ {
        self.memory.hints.iter().filter_map(move |((_, other), hint)| match hint {
            Hint::Copy(record) if *other == key => Some(record),
            _ => None,
        })
    }

    /// Flushes everything up to `ticket`; returns the records that reached the disk.
    pub(super) fn flush(&mut self, ticket: Ticket) -> Vec<(Key, Record)> {
        let count = self.pending.iter().take_while(|(number, _)| *number <= ticket).count();
        self.flush_first(count)
    }

    /// Flushes everything.
    pub(super) fn flush_all(&mut self) -> Vec<(Key, Record)> {
        self.flush_first(self.pending.len())
    }

    fn flush_first(&mut self, count: usize) -> Vec<(Key, Record)> {
        let mut stored = Vec::new();
        for (_, change) in self.pending.drain(..count) {
            match &change {
                Change::Record(key, Some(record))
                | Change::Hint(_, key, Some(Hint::Copy(record))) => {
                    stored.push((*key, record.clone()));
                }
                Change::Record(_, None) | Change::Unheard(_) | Change::Hint(..) => {}
            }
            self.disk.apply(change);
        }
        stored
    }

    pub(super) fn unflushed(&self) -> usize {
        self.pending.len()
    }

    /// A crash: the first `kept` unflushed writes happened to reach the disk, the rest is gone.
    pub(super) fn crash(&mut self, kept: usize) -> Vec<(Key, Record)> {
        let stored = self.flush_first(kept.min(self.pending.len()));
        self.pending.clear();
        self.memory = self.disk.clone();
        stored
    }

    /// Forgets all records (a bug, see [`super::mutant::Mutant::LeaverDropsAll`]).
    pub(super) fn drop_records(&mut self) {
        for tables in [&mut self.memory, &mut self.disk] {
            tables.records.clear();
            tables.tree = Tree::new();
        }
    }

    pub(super) fn rot(&mut self, key: Key) {
        if self.disk.records.contains_key(&key) {
            self.rotten.insert(key);
        }
    }

    /// A new, empty disk.
    pub(super) fn wipe(&mut self) {
        *self = Self { last: self.last, ..Self::default() };
    }
}
