//! Slices of the hash space: leaves, and the subtrees above them. A subtree is named by the top
//! bits that its positions share; a partition of Q is the subtree of its log2 Q bits.

use std::fmt;
use std::ops::RangeInclusive;

use crate::id::{KeyHash, PartitionId};
use crate::limits::TREE_LEAF_BITS;
use crate::ring::Partitions;

/// Bits by which one step down the tree narrows a subtree: a fan-out of sixteen.
const STEP_BITS: u8 = 4;

/// Bits of a position below the number of its leaf.
const BELOW_LEAF_BITS: u32 = 128 - TREE_LEAF_BITS as u32;

/// One of the 2^16 smallest slices of the hash space that are told apart by digest: the top bits
/// of a position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Leaf(pub u16);

impl Leaf {
    /// The leaf of a position.
    #[must_use]
    pub fn of(position: KeyHash) -> Self {
        Self(u16::try_from(position.0 >> BELOW_LEAF_BITS).expect("16 bits are left of 128"))
    }

    /// First and last position of the leaf, both inclusive.
    #[must_use]
    pub fn range(self) -> (KeyHash, KeyHash) {
        Prefix::from(self).range()
    }
}

/// Numbers that name no subtree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "no subtree: at most {TREE_LEAF_BITS} bits and an index below 2^bits, not {bits} and {index}"
)]
pub struct PrefixError {
    /// Number of shared bits.
    pub bits: u8,
    /// Their value.
    pub index: u32,
}

/// A subtree: all positions that share their top bits. Ordered by place in the hash space, a
/// subtree before those within it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Prefix {
    bits: u8,
    index: u32,
}

impl Prefix {
    /// The whole hash space.
    pub const ALL: Self = Self { bits: 0, index: 0 };

    /// The subtree of the positions whose top `bits` are `index`.
    ///
    /// # Errors
    /// More bits than a leaf has, or an index that does not fit into them.
    pub const fn new(bits: u8, index: u32) -> Result<Self, PrefixError> {
        if bits <= TREE_LEAF_BITS && index < 1 << bits {
            Ok(Self { bits, index })
        } else {
            Err(PrefixError { bits, index })
        }
    }

    /// The subtree of a partition. A partition beyond the count is taken modulo the count, as the
    /// ring is round.
    #[must_use]
    pub fn of_partition(partitions: Partitions, partition: PartitionId) -> Self {
        let bits = u8::try_from(partitions.get().trailing_zeros())
            .expect("a ring has at most 2^16 partitions");
        Self { bits, index: partition.0 & (partitions.get() - 1) }
    }

    /// Number of shared bits: 0 for the whole space, 16 for a leaf.
    #[must_use]
    pub const fn bits(self) -> u8 {
        self.bits
    }

    /// Value of the shared bits.
    #[must_use]
    pub const fn index(self) -> u32 {
        self.index
    }

    /// The leaf, where the subtree is a single one.
    #[must_use]
    pub fn leaf(self) -> Option<Leaf> {
        (self.bits == TREE_LEAF_BITS).then(|| self.first_leaf())
    }

    /// The first leaf of the subtree.
    #[must_use]
    pub fn first_leaf(self) -> Leaf {
        let first = self.index << (TREE_LEAF_BITS - self.bits);
        Leaf(u16::try_from(first).expect("the index has at most `bits` bits"))
    }

    /// The numbers of the leaves of the subtree.
    #[must_use]
    pub fn leaves(self) -> RangeInclusive<u16> {
        let first = self.first_leaf().0;
        first..=(first | self.leaf_mask())
    }

    /// The subtrees one step down, in order: at the next multiple of four bits. A leaf has none.
    pub fn children(self) -> impl ExactSizeIterator<Item = Self> {
        let bits = if self.bits < TREE_LEAF_BITS {
            (self.bits / STEP_BITS + 1) * STEP_BITS
        } else {
            self.bits
        };
        let width = bits - self.bits;
        let first = self.index << width;
        let count: u32 = if width == 0 { 0 } else { 1 << width };
        (first..first + count).map(move |index| Self { bits, index })
    }

    /// First and last position of the subtree, both inclusive.
    #[must_use]
    pub fn range(self) -> (KeyHash, KeyHash) {
        let first = u128::from(self.first_leaf().0) << BELOW_LEAF_BITS;
        let mask = u128::from(self.leaf_mask()) << BELOW_LEAF_BITS;
        (KeyHash(first), KeyHash(first | mask | (u128::MAX >> TREE_LEAF_BITS)))
    }

    /// Whether the leaf is in the subtree.
    #[must_use]
    pub fn contains(self, leaf: Leaf) -> bool {
        leaf.0 & !self.leaf_mask() == self.first_leaf().0
    }

    /// The bits of a leaf's number that the subtree leaves open.
    fn leaf_mask(self) -> u16 {
        u16::MAX.checked_shr(u32::from(self.bits)).unwrap_or(0)
    }
}

impl PartialOrd for Prefix {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Prefix {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.first_leaf().cmp(&other.first_leaf()).then(self.bits.cmp(&other.bits))
    }
}

impl From<Leaf> for Prefix {
    fn from(leaf: Leaf) -> Self {
        Self { bits: TREE_LEAF_BITS, index: u32::from(leaf.0) }
    }
}

impl fmt::Debug for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.bits)
    }
}
