//! From a key to its place on the ring (paper section 4.2, strategy 3 of section 6.2).
//!
//! The hash space of 128 bits is cut into Q equal partitions, Q a power of two. Partition p is the
//! contiguous range `[p·2^128/Q, (p+1)·2^128/Q)`: the top bits of a position name its partition.
//! The paper writes ranges as `(A, B]` and gives a key to the first token at or after it. With
//! equal partitions the tokens sit between the partitions and no hash value decides where its own
//! token belongs, so the two conventions differ in nothing but one hash value per border: here the
//! owner of partition p plays the part of the paper's node at B, for keys in the range before B.
//!
//! Records are stored in position order, so a partition is one range of every store, and a subtree
//! of the Merkle tree over the hash space.

use md5::{Digest, Md5};
use serde::{Deserialize, Serialize};

use crate::id::{KeyHash, PartitionId};
use crate::limits::PARTITIONS_MAX;

/// Position of a key: MD5 of bucket, a zero byte and key, read as a big-endian number (paper
/// section 4.1). Bucket names hold no zero byte, so no two (bucket, key) pairs share an input.
/// MD5 spreads keys; it protects nothing.
#[must_use]
pub fn key_hash(bucket: &str, key: &[u8]) -> KeyHash {
    let mut hasher = Md5::new();
    hasher.update(bucket.as_bytes());
    hasher.update([0_u8]);
    hasher.update(key);
    KeyHash(u128::from_be_bytes(hasher.finalize().into()))
}

/// A number of partitions that no ring may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("partitions must be a power of two from 1 to {PARTITIONS_MAX}, not {0}")]
pub struct PartitionsError(pub u32);

/// How many partitions a ring has (Q): a power of two from 1 to [`PARTITIONS_MAX`], fixed for the
/// life of the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct Partitions(u32);

impl Partitions {
    /// Accepts a valid count.
    ///
    /// # Errors
    /// Where `count` is not a power of two or is beyond the bound.
    pub const fn new(count: u32) -> Result<Self, PartitionsError> {
        if count.is_power_of_two() && count <= PARTITIONS_MAX {
            Ok(Self(count))
        } else {
            Err(PartitionsError(count))
        }
    }

    /// The count.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }

    /// The count as the length of a table.
    #[must_use]
    pub const fn len(self) -> usize {
        self.0 as usize
    }

    /// Never: there is at least one partition.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        false
    }

    /// The partition of a position: its top bits.
    #[must_use]
    pub fn of(self, hash: KeyHash) -> PartitionId {
        let top = hash.0.checked_shr(self.shift()).unwrap_or(0);
        PartitionId(u32::try_from(top).unwrap_or(0))
    }

    /// First and last position of a partition, both inclusive. A partition beyond the count is
    /// taken modulo the count, as the ring is round.
    #[must_use]
    pub fn range(self, partition: PartitionId) -> (KeyHash, KeyHash) {
        let index = u128::from(partition.0 & (self.0 - 1));
        let first = index.checked_shl(self.shift()).unwrap_or(0);
        let width_less_one = u128::MAX >> self.0.trailing_zeros();
        (KeyHash(first), KeyHash(first | width_less_one))
    }

    /// Whether the partition exists.
    #[must_use]
    pub const fn contains(self, partition: PartitionId) -> bool {
        partition.0 < self.0
    }

    /// All partitions in ring order.
    pub fn iter(self) -> impl ExactSizeIterator<Item = PartitionId> + DoubleEndedIterator {
        (0..self.0).map(PartitionId)
    }

    /// Bits below the partition number; 128 for a single partition.
    const fn shift(self) -> u32 {
        128 - self.0.trailing_zeros()
    }
}

impl TryFrom<u32> for Partitions {
    type Error = PartitionsError;

    fn try_from(count: u32) -> Result<Self, PartitionsError> {
        Self::new(count)
    }
}

impl From<Partitions> for u32 {
    fn from(partitions: Partitions) -> Self {
        partitions.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_position_is_the_md5_of_bucket_zero_key() {
        // Expected values from an independent implementation of MD5.
        assert_eq!(key_hash("", b"").0, 0x93b8_85ad_fe0d_a089_cdf6_3490_4fd5_9f71);
        assert_eq!(key_hash("cart", b"alice").0, 0x4235_bd58_ef42_3632_8b6c_fafa_7f55_9d31);
        assert_ne!(key_hash("ab", b"c"), key_hash("a", b"bc"));
    }

    #[test]
    fn partitions_cover_the_space_without_gap() {
        for count in [1, 2, 64, 1024, PARTITIONS_MAX] {
            let partitions = Partitions::new(count).unwrap();
            let mut next = Some(0_u128);
            for partition in partitions.iter() {
                let (first, last) = partitions.range(partition);
                assert_eq!(Some(first.0), next);
                assert_eq!(partitions.of(first), partition);
                assert_eq!(partitions.of(last), partition);
                next = last.0.checked_add(1);
            }
            assert_eq!(next, None, "the last range ends at the largest position");
        }
    }

    #[test]
    fn other_counts_are_refused() {
        for count in [0, 3, 1000, PARTITIONS_MAX * 2, u32::MAX] {
            assert_eq!(Partitions::new(count), Err(PartitionsError(count)));
        }
        assert!(serde_json::from_str::<Partitions>("960").is_err());
        assert_eq!(serde_json::from_str::<Partitions>("64").unwrap().get(), 64);
    }
}
