//! Reading the tree's rows, and folding the log into the blocks.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use dynamo_core::codec::bytes::DecodeError;
use dynamo_core::limits::REPLICAS_MAX;
use dynamo_core::merkle::{BLOCK_LEAVES, BlockIndex, Leaf, Tree};

use super::super::TREE;
use super::super::engine::{Engine, KeyRange, Snapshot, Tables};
use super::super::error::EngineError;
use super::Log;
use super::form::{
    BLOCK_KIND, DELTA_KIND, Entry, HEAD_KEY, Head, block_key, decode_block, decode_deltas,
    decode_head, delta_key, encode_block, from_block_key, from_delta_key,
};
use crate::limits::{SCAN_BYTES_MAX, SCAN_ROWS_MAX};

/// Why the tree cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TreeReadError {
    /// A row is not what was written.
    #[error("a row of the tree is unreadable: {0}")]
    Row(#[from] DecodeError),
    /// There are rows and no head.
    #[error("the tree has no head")]
    NoHead,
    /// The file refused.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

/// A tree as read from its rows.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) tree: Tree,
    pub(crate) head: Head,
    pub(crate) log: Log,
    /// Blocks that the log changes.
    pub(crate) dirty: BTreeSet<(u8, BlockIndex)>,
}

/// Reads the whole tree; `None` where none was ever written.
pub(crate) fn load(engine: &dyn Engine) -> Result<Option<Loaded>, TreeReadError> {
    let mut result = Ok(None);
    engine.snapshot(&mut |snapshot| {
        result = load_from(snapshot);
        Ok(())
    })?;
    result
}

fn load_from(snapshot: &dyn Snapshot) -> Result<Option<Loaded>, TreeReadError> {
    let Some(head) = read_head(snapshot)? else {
        let any = snapshot.page(TREE, (Bound::Unbounded, Bound::Unbounded), 1, 1)?;
        return if any.is_empty() { Ok(None) } else { Err(TreeReadError::NoHead) };
    };
    let (mut tree, mut log, mut dirty) = (Tree::new(), Log::default(), BTreeSet::new());
    each_row(snapshot, kind(BLOCK_KIND), |key, value| {
        let (class, index) = from_block_key(key)?;
        tree.set_block(class, index, &decode_block(key, value)?);
        Ok(())
    })?;
    each_row(snapshot, kind(DELTA_KIND), |key, value| {
        log.next = from_delta_key(key)?.saturating_add(1);
        let entries = decode_deltas(key, value)?;
        log.entries += entries.len();
        for ((class, leaf), delta) in entries {
            tree.apply(class, leaf, delta);
            dirty.insert((class, BlockIndex::of(leaf)));
        }
        Ok(())
    })?;
    Ok(Some(Loaded { tree, head, log, dirty }))
}

/// The head; `None` where none was ever written.
pub(crate) fn read_head(snapshot: &dyn Snapshot) -> Result<Option<Head>, TreeReadError> {
    Ok(snapshot.get(TREE, HEAD_KEY)?.map(decode_head).transpose()?)
}

/// The sums of the leaves from `first` to `last`, those that are not 0.
pub(crate) fn read_sums(
    snapshot: &dyn Snapshot,
    first: Leaf,
    last: Leaf,
) -> Result<BTreeMap<(u8, Leaf), u128>, TreeReadError> {
    let mut tree = Tree::new();
    let mut classes = BTreeSet::new();
    for class in 1..=REPLICAS_MAX {
        let ends = [first, last].map(|leaf| block_key(class, BlockIndex::of(leaf)).to_vec());
        let [from, to] = ends.map(Bound::Included);
        each_row(snapshot, (from, to), |key, value| {
            let (class, index) = from_block_key(key)?;
            tree.set_block(class, index, &decode_block(key, value)?);
            classes.insert(class);
            Ok(())
        })?;
    }
    each_row(snapshot, kind(DELTA_KIND), |key, value| {
        let in_range = |entry: &Entry| (first..=last).contains(&entry.0.1);
        for ((class, leaf), delta) in decode_deltas(key, value)?.into_iter().filter(in_range) {
            tree.apply(class, leaf, delta);
            classes.insert(class);
        }
        Ok(())
    })?;
    let leaves = (first.0..=last.0).map(Leaf);
    let all = leaves.flat_map(|leaf| classes.iter().map(move |class| (*class, leaf)));
    let sums = all.map(|(class, leaf)| ((class, leaf), tree.leaf(class, leaf)));
    Ok(sums.filter(|(_, sum)| *sum != 0).collect())
}

/// Writes the blocks that the log or `deltas` change, and empties the log. `base` are the sums
/// without `deltas`.
pub(crate) fn fold(
    tables: &mut dyn Tables,
    base: &Tree,
    dirty: &BTreeSet<(u8, BlockIndex)>,
    deltas: &BTreeMap<(u8, Leaf), u128>,
) -> Result<(), EngineError> {
    let changed = deltas.keys().map(|(class, leaf)| (*class, BlockIndex::of(*leaf)));
    let blocks: BTreeSet<(u8, BlockIndex)> = dirty.iter().copied().chain(changed).collect();
    for (class, index) in blocks {
        let mut block = base.block(class, index).copied().unwrap_or([0; BLOCK_LEAVES]);
        let first = index.get() * BLOCK_LEAVES as u16;
        let leaves = Leaf(first)..=Leaf(first + (BLOCK_LEAVES as u16 - 1));
        for ((_, leaf), delta) in deltas.range((class, *leaves.start())..=(class, *leaves.end())) {
            if let Some(sum) = block.get_mut(usize::from(leaf.0 - first)) {
                *sum = sum.wrapping_add(*delta);
            }
        }
        let key = block_key(class, index);
        if block.iter().all(|sum| *sum == 0) {
            tables.remove(TREE, &key)?;
        } else {
            tables.put(TREE, &key, &encode_block(&key, &block))?;
        }
    }
    tables.remove_range(TREE, kind(DELTA_KIND))
}

/// Removes every row but the head.
pub(crate) fn clear(tables: &mut dyn Tables) -> Result<(), EngineError> {
    tables.remove_range(TREE, kind(BLOCK_KIND))?;
    tables.remove_range(TREE, kind(DELTA_KIND))
}

/// The keys that begin with `first`.
fn kind(first: u8) -> KeyRange {
    (Bound::Included(vec![first]), Bound::Excluded(vec![first + 1]))
}

/// Calls `row` with every row of `range`, in order.
fn each_row(
    snapshot: &dyn Snapshot,
    range: KeyRange,
    mut row: impl FnMut(&[u8], bytes::Bytes) -> Result<(), DecodeError>,
) -> Result<(), TreeReadError> {
    let (mut from, to) = range;
    loop {
        let rows = snapshot.page(TREE, (from, to.clone()), SCAN_ROWS_MAX, SCAN_BYTES_MAX)?;
        let Some((last, _)) = rows.last() else { return Ok(()) };
        from = Bound::Excluded(last.to_vec());
        for (key, value) in rows {
            row(&key, value)?;
        }
    }
}

/// The rows of the log that hold `entries`.
pub(crate) fn log_rows(
    next: u64,
    entries: &[Entry],
) -> impl Iterator<Item = (Vec<u8>, &[Entry])> + '_ {
    let numbered = (next..).zip(entries.chunks(crate::limits::TREE_ROW_ENTRIES_MAX));
    numbered.map(|(number, entries)| (delta_key(number), entries))
}
