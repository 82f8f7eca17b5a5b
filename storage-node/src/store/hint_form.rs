//! Disk forms of hints.
//!
//! ```text
//! table hints      storage key of the object │ target u128
//!                  → version u8 = 1 │ CRC32C u32 │ kept_at │ generation │ reference u8
//!                    │ record? in the disk form of records, under this very key
//! table by_target  target u128 │ storage key of the object
//!                  → kept_at u64 │ born u64 │ generation u64 │ bytes u64
//! ```
//! The hints of one object lie together, so that a replica read finds them; the index finds the
//! hints of one target in key order and carries what accounting needs without the records.

use bytes::Bytes;
use dynamo_core::clock::record::Record;
use dynamo_core::codec::bytes::{DecodeError, Reader, Writer};
use dynamo_core::codec::record::{decode_record, encode_record};
use dynamo_core::id::NodeId;
use dynamo_core::key::ObjectKey;
use dynamo_core::time::WallMs;

/// The version of the form that this build writes.
pub const HINT_FORMAT: u8 = 1;

/// Bytes of the target at the end of a hint's key and at the start of the index's.
const TARGET_BYTES: usize = 16;

/// What is kept for another node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hint {
    /// A replica that belongs to the target.
    pub record: Option<Record>,
    /// Whether our own record of the object is to be delivered too: we coordinated a write while
    /// nobody could stand in for the target.
    pub reference: bool,
    /// When the first of it was kept.
    pub kept_at: WallMs,
    /// Changes with every change of the hint.
    pub generation: u64,
}

/// What the index knows of a hint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HintEntry {
    /// When the first of it was kept.
    pub kept_at: WallMs,
    /// The generation in which the first of it was kept.
    pub born: u64,
    /// Changes with every change of the hint.
    pub generation: u64,
    /// Bytes of both rows.
    pub bytes: u64,
}

/// The key of a hint.
#[must_use]
pub fn hint_key(object: &ObjectKey, target: NodeId) -> Vec<u8> {
    let mut key = object.storage_key();
    key.extend_from_slice(&target.0.to_be_bytes());
    key
}

/// Reads what [`hint_key`] wrote.
///
/// # Errors
/// [`DecodeError`].
pub fn parse_hint_key(key: &[u8]) -> Result<(ObjectKey, NodeId), DecodeError> {
    let (object, target) = key.split_last_chunk::<TARGET_BYTES>().ok_or(DecodeError::Truncated)?;
    Ok((ObjectKey::from_storage_key(object)?, NodeId(u128::from_be_bytes(*target))))
}

/// The key of a hint in the index.
#[must_use]
pub fn index_key(hint_key: &[u8]) -> Vec<u8> {
    match hint_key.split_last_chunk::<TARGET_BYTES>() {
        Some((object, target)) => [target.as_slice(), object].concat(),
        None => hint_key.to_vec(),
    }
}

/// The key of a hint, from that of its index row.
///
/// # Errors
/// [`DecodeError::Truncated`].
pub fn from_index_key(index_key: &[u8]) -> Result<(NodeId, Vec<u8>), DecodeError> {
    let (target, object) =
        index_key.split_first_chunk::<TARGET_BYTES>().ok_or(DecodeError::Truncated)?;
    Ok((NodeId(u128::from_be_bytes(*target)), [object, target.as_slice()].concat()))
}

/// Encodes a hint stored under `key`.
#[must_use]
pub fn encode_hint(key: &[u8], hint: &Hint) -> Bytes {
    let record = hint.record.as_ref().map(|record| encode_record(key, record));
    let mut payload = Writer::with_capacity(32 + record.as_ref().map_or(0, Bytes::len));
    payload.varint(hint.kept_at.0);
    payload.varint(hint.generation);
    payload.u8(u8::from(hint.reference));
    if let Some(record) = record {
        payload.raw(&record);
    }
    let mut out = Writer::with_capacity(payload.as_slice().len() + 5);
    out.u8(HINT_FORMAT);
    out.raw(&checksum(key, payload.as_slice()).to_be_bytes());
    out.raw(payload.as_slice());
    out.finish()
}

/// Decodes the hint stored under `key` after verifying its checksum.
///
/// # Errors
/// [`DecodeError`].
pub fn decode_hint(key: &[u8], stored: Bytes) -> Result<Hint, DecodeError> {
    let mut head = Reader::new(stored);
    match head.u8()? {
        HINT_FORMAT => {}
        other => return Err(DecodeError::Version(other)),
    }
    let crc = head.u32()?;
    let payload = head.rest();
    if checksum(key, &payload) != crc {
        return Err(DecodeError::Checksum);
    }
    let mut input = Reader::new(payload);
    let kept_at = WallMs(input.varint()?);
    let generation = input.varint()?;
    let reference = match input.u8()? {
        0 => false,
        1 => true,
        _ => return Err(DecodeError::Invalid("hint kind")),
    };
    let rest = input.rest();
    let record = if rest.is_empty() { None } else { Some(decode_record(key, rest)?) };
    if record.is_none() && !reference {
        return Err(DecodeError::Invalid("hint of nothing"));
    }
    Ok(Hint { record, reference, kept_at, generation })
}

/// Encodes an index row.
#[must_use]
pub fn encode_entry(entry: &HintEntry) -> [u8; 32] {
    let mut out = [0u8; 32];
    let numbers = [entry.kept_at.0, entry.born, entry.generation, entry.bytes];
    for (to, number) in out.chunks_exact_mut(8).zip(numbers) {
        to.copy_from_slice(&number.to_be_bytes());
    }
    out
}

/// Decodes an index row.
///
/// # Errors
/// [`DecodeError::Truncated`], [`DecodeError::Trailing`].
pub fn decode_entry(stored: &[u8]) -> Result<HintEntry, DecodeError> {
    let (kept_at, rest) = stored.split_first_chunk::<8>().ok_or(DecodeError::Truncated)?;
    let (born, rest) = rest.split_first_chunk::<8>().ok_or(DecodeError::Truncated)?;
    let (generation, rest) = rest.split_first_chunk::<8>().ok_or(DecodeError::Truncated)?;
    let (bytes, rest) = rest.split_first_chunk::<8>().ok_or(DecodeError::Truncated)?;
    if !rest.is_empty() {
        return Err(DecodeError::Trailing);
    }
    Ok(HintEntry {
        kept_at: WallMs(u64::from_be_bytes(*kept_at)),
        born: u64::from_be_bytes(*born),
        generation: u64::from_be_bytes(*generation),
        bytes: u64::from_be_bytes(*bytes),
    })
}

fn checksum(key: &[u8], payload: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(key), payload)
}
