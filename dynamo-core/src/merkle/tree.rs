//! The tree of one store: the leaf sums of every class. Digests of subtrees are computed when they
//! are asked for: all roots of a full tree take less than a millisecond, and keeping them up to
//! date would cost every write four hashes more.

use std::collections::BTreeMap;

use crate::clock::digest::RecordDigest;
use crate::key::ObjectKey;
use crate::merkle::digest::{TreeDigest, entry_delta};
use crate::merkle::leaf_sums::{Block, BlockIndex, LeafSums};
use crate::merkle::prefix::{Leaf, Prefix};

/// The leaf sums of every class. A class is the N of the buckets whose keys it sums.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tree {
    /// Invariant: no class is empty, so that equal sums are equal values.
    classes: BTreeMap<u8, LeafSums>,
}

impl Tree {
    /// The tree of an empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The record of `object` changed, in class `class`; `None` stands for no record.
    pub fn change(
        &mut self,
        class: u8,
        object: &ObjectKey,
        old: Option<RecordDigest>,
        new: Option<RecordDigest>,
    ) {
        let delta = entry_delta(&object.storage_key(), old, new);
        self.apply(class, Leaf::of(object.position()), delta);
    }

    /// Adds `delta` to one leaf.
    pub fn apply(&mut self, class: u8, leaf: Leaf, delta: u128) {
        self.with_class(class, |sums| sums.apply(leaf, delta));
    }

    /// The sum of one leaf.
    #[must_use]
    pub fn leaf(&self, class: u8, leaf: Leaf) -> u128 {
        self.classes.get(&class).map_or(0, |sums| sums.leaf(leaf))
    }

    /// Digest of a subtree.
    #[must_use]
    pub fn digest(&self, class: u8, prefix: Prefix) -> TreeDigest {
        self.classes.get(&class).map_or(TreeDigest::EMPTY, |sums| sums.digest(prefix))
    }

    /// The classes that are not empty.
    pub fn classes(&self) -> impl Iterator<Item = u8> {
        self.classes.keys().copied()
    }

    /// The blocks that are not all 0, by class and number: what a store writes to disk.
    pub fn blocks(&self) -> impl Iterator<Item = (u8, BlockIndex, &Block)> {
        self.classes
            .iter()
            .flat_map(|(class, sums)| sums.blocks().map(|(index, block)| (*class, index, block)))
    }

    /// One block; `None` where all its leaves are 0 and nothing needs to be on disk.
    #[must_use]
    pub fn block(&self, class: u8, index: BlockIndex) -> Option<&Block> {
        self.classes.get(&class).and_then(|sums| sums.block(index))
    }

    /// Replaces one block, as read from disk.
    pub fn set_block(&mut self, class: u8, index: BlockIndex, block: &Block) {
        self.with_class(class, |sums| sums.set_block(index, block));
    }

    /// Sets all leaves of a subtree to 0 in every class.
    pub fn clear(&mut self, prefix: Prefix) {
        self.classes.retain(|_, sums| {
            sums.clear(prefix);
            !sums.is_empty()
        });
    }

    /// Whether all leaves of all classes are 0.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.classes.is_empty()
    }

    fn with_class(&mut self, class: u8, change: impl FnOnce(&mut LeafSums)) {
        let sums = self.classes.entry(class).or_default();
        change(sums);
        if sums.is_empty() {
            self.classes.remove(&class);
        }
    }
}
