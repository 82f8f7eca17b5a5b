//! A set of partitions as bits, small enough to be gossiped: 256 characters for 1,024 partitions.
//!
//! Text form `v1:Q:HEX`, Q in decimal; of every hexadecimal digit the lowest bit is the lowest
//! partition, digits in partition order, trailing zeros left out. One text per set: sets are
//! compared and hashed by it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::id::PartitionId;
use crate::ring::token::Partitions;

const WORD_BITS: usize = 64;
const DIGITS_PER_WORD: usize = WORD_BITS / 4;

/// A set of partitions of a ring.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct PartitionSet {
    partitions: Partitions,
    /// Bit `p % 64` of word `p / 64`; bits beyond the last partition are zero.
    words: Vec<u64>,
}

/// Text that is not a partition set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ParsePartitionSetError {
    /// Not the version that is understood.
    #[error("a partition set starts with 'v1:'")]
    Version,
    /// Not a valid number of partitions.
    #[error("a partition set names a power of two of partitions")]
    Partitions,
    /// Digits that are not lower-case hexadecimal, beyond the last partition, or trailing zeros.
    #[error("a partition set lists its partitions as lower-case hexadecimal digits")]
    Digits,
}

impl PartitionSet {
    /// The set without members.
    #[must_use]
    pub fn empty(partitions: Partitions) -> Self {
        Self { partitions, words: vec![0; partitions.len().div_ceil(WORD_BITS)] }
    }

    /// The set of all partitions: what the first node of a new cluster holds.
    #[must_use]
    pub fn full(partitions: Partitions) -> Self {
        let mut set = Self::empty(partitions);
        for partition in partitions.iter() {
            set.insert(partition);
        }
        set
    }

    /// The ring size that the set is about.
    #[must_use]
    pub fn partitions(&self) -> Partitions {
        self.partitions
    }

    /// Whether the partition is in the set; false for one beyond the ring.
    #[must_use]
    pub fn contains(&self, partition: PartitionId) -> bool {
        let index = partition.0 as usize;
        self.words.get(index / WORD_BITS).is_some_and(|word| word & (1 << (index % WORD_BITS)) != 0)
    }

    /// Adds a partition; true where it was not in the set. One beyond the ring is ignored.
    pub fn insert(&mut self, partition: PartitionId) -> bool {
        let index = partition.0 as usize;
        let inside = self.partitions.contains(partition);
        match self.words.get_mut(index / WORD_BITS).filter(|_| inside) {
            None => false,
            Some(word) => {
                let before = *word;
                *word |= 1 << (index % WORD_BITS);
                *word != before
            }
        }
    }

    /// Removes a partition; true where it was in the set.
    pub fn remove(&mut self, partition: PartitionId) -> bool {
        let index = partition.0 as usize;
        self.words.get_mut(index / WORD_BITS).is_some_and(|word| {
            let before = *word;
            *word &= !(1 << (index % WORD_BITS));
            *word != before
        })
    }

    /// How many partitions are in the set.
    #[must_use]
    pub fn len(&self) -> usize {
        self.words.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Whether the set has no members.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.words.iter().all(|word| *word == 0)
    }

    /// The members in ring order.
    pub fn iter(&self) -> impl Iterator<Item = PartitionId> + '_ {
        self.partitions.iter().filter(|partition| self.contains(*partition))
    }
}

impl fmt::Display for PartitionSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "v1:{}:", self.partitions.get())?;
        let used = self.words.iter().rposition(|word| *word != 0).map_or(0, |last| last + 1);
        for (index, word) in self.words.iter().take(used).enumerate() {
            let zeros = if index + 1 == used { word.leading_zeros() as usize / 4 } else { 0 };
            for digit in 0..DIGITS_PER_WORD - zeros {
                write!(f, "{:x}", (word >> (digit * 4)) & 0xf)?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for PartitionSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for PartitionSet {
    type Err = ParsePartitionSetError;

    fn from_str(text: &str) -> Result<Self, ParsePartitionSetError> {
        let rest = text.strip_prefix("v1:").ok_or(ParsePartitionSetError::Version)?;
        let (count, digits) = rest.split_once(':').ok_or(ParsePartitionSetError::Partitions)?;
        let partitions = count
            .parse::<u32>()
            .ok()
            .filter(|number| number.to_string() == count)
            .and_then(|number| Partitions::new(number).ok())
            .ok_or(ParsePartitionSetError::Partitions)?;
        let mut set = Self::empty(partitions);
        if digits.len() > partitions.len().div_ceil(4) || digits.ends_with('0') {
            return Err(ParsePartitionSetError::Digits);
        }
        for (index, digit) in digits.bytes().enumerate() {
            let value = match digit {
                b'0'..=b'9' => digit - b'0',
                b'a'..=b'f' => digit - b'a' + 10,
                _ => return Err(ParsePartitionSetError::Digits),
            };
            // Rings below four partitions leave bits of the only digit unused.
            if index * 4 + 8 - value.leading_zeros() as usize > partitions.len() {
                return Err(ParsePartitionSetError::Digits);
            }
            if let Some(word) = set.words.get_mut(index / DIGITS_PER_WORD) {
                *word |= u64::from(value) << (index % DIGITS_PER_WORD * 4);
            }
        }
        Ok(set)
    }
}

impl Serialize for PartitionSet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for PartitionSet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_size_round_trips_as_text() {
        for count in [1_u32, 2, 4, 64, 128, 1024, 65_536] {
            let partitions = Partitions::new(count).unwrap();
            let mut sparse = PartitionSet::empty(partitions);
            for index in (0..count).step_by(7) {
                assert!(sparse.insert(PartitionId(index)));
            }
            for set in [PartitionSet::empty(partitions), PartitionSet::full(partitions), sparse] {
                let text = set.to_string();
                assert_eq!(text.parse(), Ok(set.clone()), "{text}");
                let json = serde_json::to_string(&set).unwrap();
                assert_eq!(serde_json::from_str::<PartitionSet>(&json).unwrap(), set);
                assert_eq!(set.iter().count(), set.len());
            }
        }
    }

    #[test]
    fn there_is_one_text_per_set() {
        let partitions = Partitions::new(8).unwrap();
        let mut set = PartitionSet::empty(partitions);
        assert_eq!(set.to_string(), "v1:8:");
        set.insert(PartitionId(1));
        assert_eq!(set.to_string(), "v1:8:2");
        set.insert(PartitionId(7));
        assert_eq!(set.to_string(), "v1:8:28");
        assert!(!set.insert(PartitionId(8)), "beyond the ring");
        assert!(set.remove(PartitionId(7)) && !set.remove(PartitionId(7)));
    }

    #[test]
    fn other_texts_are_refused() {
        use ParsePartitionSetError::{Digits, Partitions, Version};
        let cases = [
            ("", Version),
            ("v2:8:1", Version),
            ("v1:8", Partitions),
            ("v1:9:1", Partitions),
            ("v1:08:1", Partitions),
            ("v1:131072:1", Partitions),
            ("v1:8:10", Digits),
            ("v1:8:0", Digits),
            ("v1:8:001", Digits),
            ("v1:2:4", Digits),
            ("v1:8:A", Digits),
            ("v1:8:é", Digits),
        ];
        for (text, error) in cases {
            assert_eq!(text.parse::<PartitionSet>(), Err(error), "{text}");
        }
    }
}
