//! The rows of the tree on disk.
//!
//! | key | value |
//! |---|---|
//! | `b` class u8, block u16 | the sums of 128 leaves: bits of those that are not 0 as u128, then each of them |
//! | `d` number u64 | changes of one commit: (class u8, leaf u16, change u128), ascending |
//! | `h` | the head: state, generation, classes, progress of the scrub |
//!
//! Integers are big-endian. Every value is `version u8 = 1 │ CRC32C u32 │ payload`; the checksum
//! covers the key as well. A block whose sums are all 0 has no row.

use std::sync::Arc;

use bytes::Bytes;
use dynamo_core::codec::bytes::{DecodeError, Reader, Writer};
use dynamo_core::limits::REPLICAS_MAX;
use dynamo_core::merkle::{BLOCK_LEAVES, Block, BlockIndex, Leaf};
use dynamo_core::time::WallMs;

use super::classes::Classes;
use crate::limits::TREE_ROW_ENTRIES_MAX;

/// The version of the form that this build writes.
pub(crate) const TREE_FORMAT: u8 = 1;

/// First byte of the keys of blocks.
pub(crate) const BLOCK_KIND: u8 = b'b';

/// First byte of the keys of the log.
pub(crate) const DELTA_KIND: u8 = b'd';

/// The key of the head.
pub(crate) const HEAD_KEY: &[u8] = b"h";

/// Number of leaves: where a pass of the scrub ends.
pub(crate) const LEAVES: u32 = 1 << dynamo_core::limits::TREE_LEAF_BITS;

/// One change of a leaf.
pub(crate) type Entry = ((u8, Leaf), u128);

/// A pass of the scrub over all leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Pass {
    /// The next leaf to compare; [`LEAVES`] at the end.
    pub(crate) next: u32,
    /// When it began.
    pub(crate) started: WallMs,
}

/// What is true of the whole tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Head {
    /// Whether every record is summed.
    pub(crate) built: bool,
    /// How often the tree began anew. What was measured in one generation is void in the next.
    pub(crate) generation: u64,
    /// How the buckets are sorted.
    pub(crate) classes: Arc<Classes>,
    /// The pass under way.
    pub(crate) pass: Pass,
    /// When the last full pass ended.
    pub(crate) last_full: Option<WallMs>,
}

impl Head {
    /// The head of a tree that begins anew.
    pub(crate) fn building(generation: u64, classes: impl Into<Arc<Classes>>) -> Self {
        let (classes, pass) = (classes.into(), Pass::default());
        Self { built: false, generation, classes, pass, last_full: None }
    }
}

/// The key of a block.
pub(crate) fn block_key(class: u8, index: BlockIndex) -> [u8; 4] {
    let [high, low] = index.get().to_be_bytes();
    [BLOCK_KIND, class, high, low]
}

/// Reads what [`block_key`] wrote.
pub(crate) fn from_block_key(key: &[u8]) -> Result<(u8, BlockIndex), DecodeError> {
    let [BLOCK_KIND, class, high, low] = key else { return Err(DecodeError::Invalid("key")) };
    let index = BlockIndex::new(u16::from_be_bytes([*high, *low]));
    let index = index.map_err(|_| DecodeError::Invalid("block"))?;
    Ok((valid_class(*class)?, index))
}

/// The key of a row of the log.
pub(crate) fn delta_key(number: u64) -> Vec<u8> {
    [&[DELTA_KIND][..], &number.to_be_bytes()].concat()
}

/// Reads what [`delta_key`] wrote.
pub(crate) fn from_delta_key(key: &[u8]) -> Result<u64, DecodeError> {
    match key {
        [DELTA_KIND, number @ ..] => number
            .try_into()
            .map(u64::from_be_bytes)
            .map_err(|_| DecodeError::Invalid("number of a row")),
        _ => Err(DecodeError::Invalid("key")),
    }
}

/// The value of a block.
pub(crate) fn encode_block(key: &[u8], block: &Block) -> Bytes {
    let mut bits = 0u128;
    let mut sums = Writer::with_capacity(BLOCK_LEAVES * size_of::<u128>());
    for (place, sum) in block.iter().enumerate().filter(|(_, sum)| **sum != 0) {
        bits |= 1 << place;
        sums.u128(*sum);
    }
    seal(key, &[&bits.to_be_bytes(), sums.as_slice()])
}

/// Reads what [`encode_block`] wrote.
pub(crate) fn decode_block(key: &[u8], stored: Bytes) -> Result<Block, DecodeError> {
    let mut input = open(key, stored)?;
    let bits = input.u128()?;
    let mut block = [0; BLOCK_LEAVES];
    for (place, slot) in block.iter_mut().enumerate() {
        if bits & (1 << place) == 0 {
            continue;
        }
        *slot = input.u128()?;
        if *slot == 0 {
            return Err(DecodeError::Invalid("sum"));
        }
    }
    input.finish()?;
    if bits == 0 { Err(DecodeError::Invalid("block")) } else { Ok(block) }
}

/// The value of a row of the log: at most [`TREE_ROW_ENTRIES_MAX`] changes, ascending.
pub(crate) fn encode_deltas(key: &[u8], entries: &[Entry]) -> Bytes {
    let mut payload = Writer::with_capacity(entries.len() * 19);
    for ((class, leaf), delta) in entries {
        payload.u8(*class);
        payload.raw(&leaf.0.to_be_bytes());
        payload.u128(*delta);
    }
    seal(key, &[payload.as_slice()])
}

/// Reads what [`encode_deltas`] wrote.
pub(crate) fn decode_deltas(key: &[u8], stored: Bytes) -> Result<Vec<Entry>, DecodeError> {
    let mut input = open(key, stored)?.rest();
    let mut entries: Vec<Entry> = Vec::with_capacity((input.len() / 19).min(TREE_ROW_ENTRIES_MAX));
    while !input.is_empty() {
        let mut reader = Reader::new(input);
        let class = valid_class(reader.u8()?)?;
        let leaf = reader.raw(2)?.as_ref().try_into().map(u16::from_be_bytes);
        let leaf = Leaf(leaf.map_err(|_| DecodeError::Truncated)?);
        let entry = ((class, leaf), reader.u128()?);
        let ascending = entries.last().is_none_or(|(last, _)| *last < entry.0);
        if !ascending || entries.len() == TREE_ROW_ENTRIES_MAX {
            return Err(DecodeError::Invalid("order of changes"));
        }
        entries.push(entry);
        input = reader.rest();
    }
    Ok(entries)
}

/// The value of the head.
pub(crate) fn encode_head(head: &Head) -> Bytes {
    let mut payload = Writer::with_capacity(64);
    payload.u8(u8::from(head.built));
    payload.varint(head.generation);
    head.classes.write(&mut payload);
    payload.varint(u64::from(head.pass.next));
    payload.varint(head.pass.started.0);
    payload.varint(head.last_full.map_or(0, |at| at.0.saturating_add(1)));
    seal(HEAD_KEY, &[payload.as_slice()])
}

/// Reads what [`encode_head`] wrote.
pub(crate) fn decode_head(stored: Bytes) -> Result<Head, DecodeError> {
    let mut input = open(HEAD_KEY, stored)?;
    let built = match input.u8()? {
        0 => false,
        1 => true,
        _ => return Err(DecodeError::Invalid("state")),
    };
    let generation = input.varint()?;
    let classes = Arc::new(Classes::read(&mut input)?);
    let next = u32::try_from(input.varint()?).ok().filter(|next| *next <= LEAVES);
    let next = next.ok_or(DecodeError::Invalid("progress"))?;
    let pass = Pass { next, started: WallMs(input.varint()?) };
    let last_full = input.varint()?.checked_sub(1).map(WallMs);
    input.finish()?;
    Ok(Head { built, generation, classes, pass, last_full })
}

fn valid_class(class: u8) -> Result<u8, DecodeError> {
    if (1..=REPLICAS_MAX).contains(&class) { Ok(class) } else { Err(DecodeError::Invalid("class")) }
}

fn seal(key: &[u8], payload: &[&[u8]]) -> Bytes {
    let mut crc = crc32c::crc32c(key);
    let mut out = Writer::with_capacity(5 + payload.iter().map(|part| part.len()).sum::<usize>());
    for part in payload {
        crc = crc32c::crc32c_append(crc, part);
    }
    out.u8(TREE_FORMAT);
    out.raw(&crc.to_be_bytes());
    payload.iter().for_each(|part| out.raw(part));
    out.finish()
}

fn open(key: &[u8], stored: Bytes) -> Result<Reader, DecodeError> {
    let mut head = Reader::new(stored);
    match head.u8()? {
        TREE_FORMAT => {}
        other => return Err(DecodeError::Version(other)),
    }
    let crc = head.u32()?;
    let payload = head.rest();
    if crc32c::crc32c_append(crc32c::crc32c(key), &payload) != crc {
        return Err(DecodeError::Checksum);
    }
    Ok(Reader::new(payload))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sample() -> [(Vec<u8>, Bytes); 3] {
        let mut block = [0; BLOCK_LEAVES];
        (block[0], block[127]) = (1, u128::MAX);
        let key = block_key(3, BlockIndex::new(511).unwrap()).to_vec();
        let value = encode_block(&key, &block);
        let log = delta_key(258);
        let entries = [((1, Leaf(2)), 3), ((3, Leaf(0xffff)), u128::MAX)];
        let row = encode_deltas(&log, &entries);
        let head = Head {
            built: true,
            generation: 300,
            classes: Arc::new(Classes::for_test(3, &[("a", 1), ("b", 3), ("c", 5)])),
            pass: Pass { next: 65_536, started: WallMs(1_000) },
            last_full: Some(WallMs(0)),
        };
        [(key, value), (log, row), (HEAD_KEY.to_vec(), encode_head(&head))]
    }

    #[test]
    fn the_forms_are_the_golden_ones() {
        let golden = include_str!("../tests/golden/tree_v1.txt");
        let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
        let written: String =
            sample().iter().map(|(key, value)| format!("{}\n{}\n", hex(key), hex(value))).collect();
        assert_eq!(written, golden);
    }

    #[test]
    fn any_flipped_bit_is_noticed() {
        let readable = |key: &[u8], value: Bytes| match key[0] {
            BLOCK_KIND => from_block_key(key).and_then(|_| decode_block(key, value)).is_ok(),
            DELTA_KIND => from_delta_key(key).and_then(|_| decode_deltas(key, value)).is_ok(),
            _ => decode_head(value).is_ok(),
        };
        for (key, value) in sample() {
            assert!(readable(&key, value.clone()));
            for bit in 0..value.len() * 8 {
                let mut flipped = value.to_vec();
                flipped[bit / 8] ^= 1 << (bit % 8);
                assert!(!readable(&key, flipped.into()), "bit {bit} of {key:?}");
            }
            if key.len() > 1 {
                let mut other = key.clone();
                *other.last_mut().unwrap() ^= 1;
                assert!(!readable(&other, value), "a row under another key");
            }
        }
        assert!(from_block_key(b"b\x00\x00\x00").is_err() && from_block_key(b"b\x01\x02").is_err());
        assert!(from_block_key(b"b\x01\x02\x00").is_err() && from_delta_key(b"d123").is_err());
    }

    proptest! {
        #[test]
        fn rows_round_trip(
            sums in prop::collection::btree_map(0..BLOCK_LEAVES, 1u128.., 1..40),
            entries in prop::collection::btree_map((1..=REPLICAS_MAX, any::<u16>()), any::<u128>(), 0..40),
            (built, generation, next, at) in (any::<bool>(), any::<u64>(), 0..=LEAVES, any::<u32>()),
        ) {
            let mut block = [0; BLOCK_LEAVES];
            sums.iter().for_each(|(place, sum)| block[*place] = *sum);
            let key = block_key(2, BlockIndex::new(7).unwrap());
            prop_assert_eq!(decode_block(&key, encode_block(&key, &block)), Ok(block));
            let entries: Vec<Entry> =
                entries.into_iter().map(|((class, leaf), d)| ((class, Leaf(leaf)), d)).collect();
            let key = delta_key(generation);
            prop_assert_eq!(from_delta_key(&key), Ok(generation));
            prop_assert_eq!(decode_deltas(&key, encode_deltas(&key, &entries)), Ok(entries));
            let classes = Arc::new(Classes::for_test(2, &[("x", 1)]));
            let pass = Pass { next, started: WallMs(u64::from(at)) };
            let last_full = built.then_some(WallMs(u64::from(at)));
            let head = Head { built, generation, classes, pass, last_full };
            prop_assert_eq!(decode_head(encode_head(&head)), Ok(head));
        }

        #[test]
        fn no_input_panics(key in prop::collection::vec(any::<u8>(), 0..12), value in prop::collection::vec(any::<u8>(), 0..80)) {
            let value = Bytes::from(value);
            drop((from_block_key(&key), from_delta_key(&key), decode_head(value.clone())));
            drop((decode_block(&key, value.clone()), decode_deltas(&key, value)));
        }
    }
}
