//! Disk form of a record.
//!
//! ```text
//! version u8 = 1 │ CRC32C u32 big-endian │ payload
//! payload: node table │ clock with times │ sibling count │ siblings
//! sibling: actor │ counter │ put id u128 │ stamp │ kind u8 (0 tombstone, 1 value) │ value?
//! value:   content type │ metadata count │ (name, text)* │ expires_at + 1, or 0 │ bytes
//! ```
//! The checksum covers the key under which the record is stored as well as the payload: a record
//! that turns up under another key is corrupt too. The storage engine does not verify its pages on
//! read, so this checksum is verified on every read, merge and transfer (I-17).
//!
//! Whatever was encoded decodes again: limits are checked before a record is accepted, never when
//! it is read back, or a limit that shrinks between two builds would turn good data into corrupt.

use bytes::Bytes;

use crate::clock::dot::Dot;
use crate::clock::hlc::Hlc;
use crate::clock::record::{Content, Record, Sibling, Value};
use crate::codec::bytes::{DecodeError, Reader, Writer};
use crate::codec::clock::{NodeTable, actors, read_clock, write_clock};
use crate::id::PutId;
use crate::time::WallMs;

/// The version of the form that this build writes.
pub const RECORD_FORMAT: u8 = 1;

/// Encodes `record` as stored under `key` (the whole key of the storage table).
#[must_use]
pub fn encode_record(key: &[u8], record: &Record) -> Bytes {
    let mut payload = Writer::with_capacity(128 + record.payload_bytes());
    let dots = record.siblings().map(|sibling| sibling.dot.actor);
    let table = NodeTable::of(actors(record.clock()).chain(dots));
    table.write(&mut payload);
    write_clock(record.clock(), &table, true, &mut payload);
    payload.len(record.sibling_count());
    for sibling in record.siblings() {
        write_sibling(sibling, &table, &mut payload);
    }
    let mut out = Writer::with_capacity(payload.as_slice().len() + 5);
    out.u8(RECORD_FORMAT);
    out.raw(&checksum(key, payload.as_slice()).to_be_bytes());
    out.raw(payload.as_slice());
    out.finish()
}

/// Decodes the record stored under `key` after verifying its checksum.
///
/// # Errors
/// [`DecodeError`]; any of them means that the stored bytes must not be used.
pub fn decode_record(key: &[u8], stored: Bytes) -> Result<Record, DecodeError> {
    let mut head = Reader::new(stored);
    match head.u8()? {
        RECORD_FORMAT => {}
        other => return Err(DecodeError::Version(other)),
    }
    let crc = head.u32()?;
    let payload = head.rest();
    if checksum(key, &payload) != crc {
        return Err(DecodeError::Checksum);
    }
    let mut input = Reader::new(payload);
    let table = NodeTable::read(&mut input)?;
    let clock = read_clock(&table, true, &mut input)?;
    let count = input.items("sibling count")?;
    let mut siblings = Vec::new();
    for _ in 0..count {
        let sibling = read_sibling(&table, &mut input)?;
        if !clock.covers(&sibling.dot) {
            return Err(DecodeError::Invalid("sibling outside its clock"));
        }
        siblings.push(sibling);
    }
    input.finish()?;
    let record = Record::new(clock, siblings);
    if record.sibling_count() == count { Ok(record) } else { Err(DecodeError::Invalid("dot")) }
}

fn checksum(key: &[u8], payload: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(key), payload)
}

fn write_sibling(sibling: &Sibling, table: &NodeTable, out: &mut Writer) {
    table.write_actor(sibling.dot.actor, out);
    out.varint(sibling.dot.counter);
    out.u128(sibling.put_id.0);
    out.varint(sibling.stamp.0);
    match &sibling.content {
        Content::Tombstone => out.u8(0),
        Content::Value(value) => {
            out.u8(1);
            out.bytes(value.content_type.as_deref().unwrap_or_default().as_bytes());
            out.len(value.meta.len());
            for (name, text) in &value.meta {
                out.bytes(name.as_bytes());
                out.bytes(text.as_bytes());
            }
            out.varint(value.expires_at.map_or(0, |at| at.0.saturating_add(1)));
            out.bytes(&value.bytes);
        }
    }
}

fn read_sibling(table: &NodeTable, input: &mut Reader) -> Result<Sibling, DecodeError> {
    let actor = table.read_actor(input)?;
    let counter = input.varint()?;
    let put_id = PutId(input.u128()?);
    let stamp = Hlc(input.varint()?);
    let content = match input.u8()? {
        0 => Content::Tombstone,
        1 => Content::Value(read_value(input)?),
        _ => return Err(DecodeError::Invalid("sibling kind")),
    };
    Ok(Sibling { dot: Dot { actor, counter }, put_id, stamp, content })
}

fn read_value(input: &mut Reader) -> Result<Value, DecodeError> {
    let content_type = input.text(usize::MAX, "content type")?;
    let count = input.items("metadata count")?;
    let mut meta = Vec::new();
    for _ in 0..count {
        let name = input.text(usize::MAX, "metadata name")?;
        let text = input.text(usize::MAX, "metadata text")?;
        meta.push((name, text));
    }
    let expires_at = input.varint()?.checked_sub(1).map(WallMs);
    let bytes = input.bytes(usize::MAX, "value length")?;
    let content_type = (!content_type.is_empty()).then_some(content_type);
    Ok(Value { bytes, content_type, meta, expires_at })
}
