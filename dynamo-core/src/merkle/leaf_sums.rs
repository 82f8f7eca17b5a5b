//! The sums of all leaves of one class. A leaf's sum is the wrapping sum of its entries
//! ([`crate::merkle::entry_digest`]); an empty leaf has 0.
//!
//! Leaves are kept in blocks of 128, which are also what is written to disk. A block exists only
//! while one of its leaves is not 0: an empty store costs nothing, and equal sums are equal values.

use std::collections::BTreeMap;

use xxhash_rust::xxh3::xxh3_128;

use crate::merkle::digest::TreeDigest;
use crate::merkle::prefix::{Leaf, Prefix};

/// Leaves of one block: 2 KiB of sums, one small write per commit and block that it touches.
pub const BLOCK_LEAVES: usize = 128;

/// Blocks of one class.
pub const BLOCKS: u16 = 512;

/// Bits of a leaf's number within its block.
const BLOCK_BITS: u8 = 7;

/// Bits of the smallest subtrees above the leaves.
const LEAVES_BELOW_BITS: u8 = 12;

/// Most children of a subtree.
const FAN_OUT: usize = 16;

/// The sums of one block, in leaf order.
pub type Block = [u128; BLOCK_LEAVES];

/// A block number beyond the last block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("there are {BLOCKS} blocks of leaves, and no block {0}")]
pub struct BlockIndexError(pub u16);

/// Number of a block: 0 to 511.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockIndex(u16);

impl BlockIndex {
    /// Accepts a valid number.
    ///
    /// # Errors
    /// Where there is no such block.
    pub const fn new(index: u16) -> Result<Self, BlockIndexError> {
        if index < BLOCKS { Ok(Self(index)) } else { Err(BlockIndexError(index)) }
    }

    /// The block of a leaf.
    #[must_use]
    pub const fn of(leaf: Leaf) -> Self {
        Self(leaf.0 >> BLOCK_BITS)
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u16 {
        self.0
    }
}

/// The sums of all leaves of one class.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LeafSums {
    /// Invariant: no block is all 0.
    blocks: BTreeMap<BlockIndex, Box<Block>>,
}

impl LeafSums {
    /// All leaves empty.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The sum of one leaf.
    #[must_use]
    pub fn leaf(&self, leaf: Leaf) -> u128 {
        let block = self.blocks.get(&BlockIndex::of(leaf));
        block.and_then(|block| block.get(offset(leaf))).copied().unwrap_or(0)
    }

    /// Adds `delta` to one leaf.
    pub fn apply(&mut self, leaf: Leaf, delta: u128) {
        if delta == 0 {
            return;
        }
        let index = BlockIndex::of(leaf);
        let block = self.blocks.entry(index).or_insert_with(|| Box::new([0; BLOCK_LEAVES]));
        let Some(sum) = block.get_mut(offset(leaf)) else { return };
        *sum = sum.wrapping_add(delta);
        if *sum == 0 && is_zero(block) {
            self.blocks.remove(&index);
        }
    }

    /// Digest of a subtree: over the digests of its children in order, big-endian; the sum itself
    /// for a leaf; 0 where all leaves are 0.
    #[must_use]
    pub fn digest(&self, prefix: Prefix) -> TreeDigest {
        if let Some(leaf) = prefix.leaf() {
            return TreeDigest(self.leaf(leaf));
        }
        let (first, last) = (*prefix.leaves().start(), *prefix.leaves().end());
        let blocks = BlockIndex::of(Leaf(first))..=BlockIndex::of(Leaf(last));
        if self.blocks.range(blocks).next().is_none() {
            return TreeDigest::EMPTY;
        }
        if prefix.bits() >= LEAVES_BELOW_BITS {
            // All children are leaves of one block.
            let block = self.block(BlockIndex::of(Leaf(first)));
            let sums = block.and_then(|block| block.get(offset(Leaf(first))..=offset(Leaf(last))));
            return digest_of(sums.unwrap_or_default().iter().copied());
        }
        digest_of(prefix.children().map(|child| self.digest(child).0))
    }

    /// The blocks that are not all 0, in order.
    pub fn blocks(&self) -> impl Iterator<Item = (BlockIndex, &Block)> {
        self.blocks.iter().map(|(index, block)| (*index, block.as_ref()))
    }

    /// One block; `None` where all its leaves are 0.
    #[must_use]
    pub fn block(&self, index: BlockIndex) -> Option<&Block> {
        self.blocks.get(&index).map(Box::as_ref)
    }

    /// Replaces one block.
    pub fn set_block(&mut self, index: BlockIndex, block: &Block) {
        if is_zero(block) {
            self.blocks.remove(&index);
        } else {
            self.blocks.insert(index, Box::new(*block));
        }
    }

    /// Sets all leaves of a subtree to 0.
    pub fn clear(&mut self, prefix: Prefix) {
        let leaves = prefix.leaves();
        let (first, last) = (Leaf(*leaves.start()), Leaf(*leaves.end()));
        let (first_block, last_block) = (BlockIndex::of(first), BlockIndex::of(last));
        if first_block == last_block {
            let Some(block) = self.blocks.get_mut(&first_block) else { return };
            if let Some(sums) = block.get_mut(offset(first)..=offset(last)) {
                sums.fill(0);
            }
            if is_zero(block) {
                self.blocks.remove(&first_block);
            }
        } else {
            // A subtree of more than one block consists of whole blocks.
            self.blocks.retain(|index, _| *index < first_block || *index > last_block);
        }
    }

    /// Whether all leaves are 0.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }
}

/// Digest of a subtree from those of its children; 0 where all of them are.
fn digest_of(children: impl Iterator<Item = u128>) -> TreeDigest {
    let mut form = [[0; size_of::<u128>()]; FAN_OUT];
    let (mut count, mut is_empty) = (0, true);
    for (place, digest) in form.iter_mut().zip(children) {
        *place = digest.to_be_bytes();
        is_empty &= digest == 0;
        count += 1;
    }
    let form = form.as_flattened().get(..count * size_of::<u128>());
    form.filter(|_| !is_empty).map_or(TreeDigest::EMPTY, |form| TreeDigest(xxh3_128(form)))
}

/// Place of a leaf in its block.
fn offset(leaf: Leaf) -> usize {
    usize::from(leaf.0) % BLOCK_LEAVES
}

fn is_zero(block: &Block) -> bool {
    block.iter().all(|sum| *sum == 0)
}
