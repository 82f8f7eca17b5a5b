//! Facts about the store itself, kept in the file that they are about: which store it is, in which
//! form it is written, and which partitions it holds completely.
//!
//! `node.json` names the same store. If only one of the two was exchanged (a file restored, set
//! aside or removed), the names differ, and the node must not claim to hold what the other held.
//!
//! | key | value |
//! |---|---|
//! | `format` | decimal number of the form of this file, [`STORE_FORMAT`] |
//! | `store` | id of the store |
//! | `seal` | the same with a checksum, see [`super::seal`] |
//! | `inventory` | what the store has of each partition, [`Inventory::encode`] |
//! | `inventory_crc` | CRC32C of `inventory`, four bytes |
//! | `held` | text form of a set of partitions held, in files of earlier builds |
//!
//! Form 2 has a [`tree`](super::tree); a file of form 1 is taken over, and gets one.

use std::str::FromStr;

use dynamo_core::id::{Incarnation, StoreId};
use dynamo_core::ring::PartitionSet;
use dynamo_core::transfer::Inventory;

use super::META;
use super::engine::{Commit, Engine, Tables};
use super::error::EngineError;
use super::seal::{Seal, write_seal};

/// The version of the form that this build writes.
pub const STORE_FORMAT: u8 = 2;

const FORMAT_KEY: &[u8] = b"format";
const STORE_KEY: &[u8] = b"store";
const HELD_KEY: &[u8] = b"held";
const INVENTORY_KEY: &[u8] = b"inventory";
const INVENTORY_CRC_KEY: &[u8] = b"inventory_crc";

/// The name of the store in this file; `None` for an empty file.
///
/// # Errors
/// [`EngineError::Format`] for a file written by a newer build, [`EngineError::Damaged`] for one
/// that was never written by any.
pub fn stored_id(engine: &dyn Engine) -> Result<Option<StoreId>, EngineError> {
    let Some(format) = engine.get(META, FORMAT_KEY)? else { return Ok(None) };
    let format: u8 = parse(&format, "store format")?;
    if format > STORE_FORMAT {
        return Err(EngineError::Format(format));
    }
    engine.get(META, STORE_KEY)?.map(|id| parse(&id, "store id")).transpose()
}

/// Writes the name of the store into an empty file, durably, with the seal of this `life`.
///
/// # Errors
/// [`EngineError`].
pub fn stamp(engine: &dyn Engine, store: StoreId, life: Incarnation) -> Result<(), EngineError> {
    engine.transact(Commit::Durable, &mut |tables| {
        write_format(tables)?;
        tables.put(META, STORE_KEY, store.to_string().as_bytes())?;
        write_seal(tables, Seal::new(store, life, false))
    })
}

/// Notes that the file is in the form that this build writes.
pub(super) fn write_format(tables: &mut dyn Tables) -> Result<(), EngineError> {
    tables.put(META, FORMAT_KEY, STORE_FORMAT.to_string().as_bytes())
}

/// Writes what the store has of each partition.
pub(super) fn write_inventory(tables: &mut dyn Tables, form: &[u8]) -> Result<(), EngineError> {
    tables.put(META, INVENTORY_KEY, form)?;
    tables.put(META, INVENTORY_CRC_KEY, &crc32c::crc32c(form).to_be_bytes())?;
    // The form of earlier builds, which this one replaces.
    tables.remove(META, HELD_KEY)
}

/// What the store has of each partition; `None` where that was never written, so that the store
/// has never held anything.
///
/// # Errors
/// [`EngineError`].
pub fn stored_inventory(engine: &dyn Engine) -> Result<Option<Inventory>, EngineError> {
    if let Some(stored) = engine.get(META, INVENTORY_KEY)? {
        // Earlier builds wrote no checksum.
        let crc = engine.get(META, INVENTORY_CRC_KEY)?;
        if crc.is_some_and(|crc| crc.as_ref() != crc32c::crc32c(&stored).to_be_bytes()) {
            let what = "the inventory does not have its checksum";
            return Err(EngineError::Damaged(what.to_owned()));
        }
        return match Inventory::decode(&stored) {
            Ok(inventory) => Ok(Some(inventory)),
            Err(error) => Err(EngineError::Damaged(error.to_string())),
        };
    }
    let held = engine.get(META, HELD_KEY)?;
    let held = held.map(|held| parse::<PartitionSet>(&held, "set of partitions")).transpose()?;
    Ok(held.map(|held| Inventory::holding(&held)))
}

fn parse<T: FromStr>(bytes: &[u8], what: &str) -> Result<T, EngineError> {
    std::str::from_utf8(bytes)
        .ok()
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| EngineError::Damaged(format!("{what} is unreadable")))
}

#[cfg(test)]
mod tests {
    use dynamo_core::id::PartitionId;
    use dynamo_core::ring::Partitions;

    use super::super::memory::MemoryEngine;
    use super::*;

    #[test]
    fn the_forms_are_the_golden_ones() {
        let engine = MemoryEngine::new(2);
        assert_eq!(stored_id(&engine), Ok(None));
        stamp(&engine, StoreId(7), Incarnation(1)).unwrap();
        assert_eq!(stored_id(&engine), Ok(Some(StoreId(7))));
        assert_eq!(engine.get(META, b"format").unwrap().unwrap().as_ref(), b"2");
        assert_eq!(
            engine.get(META, b"store").unwrap().unwrap().as_ref(),
            b"00000000000000000000000000000007"
        );
        assert_eq!(stored_inventory(&engine), Ok(None));
        let mut held = PartitionSet::empty(Partitions::new(64).unwrap());
        held.insert(PartitionId(3));
        let text = held.to_string();
        engine.transact(Commit::Durable, &mut |t| t.put(META, HELD_KEY, text.as_bytes())).unwrap();
        let inventory = stored_inventory(&engine).unwrap().unwrap();
        assert_eq!(inventory.advertised(), held, "the form of earlier builds");
        let form = inventory.encode();
        engine.transact(Commit::Durable, &mut |t| t.put(META, INVENTORY_KEY, &form)).unwrap();
        assert_eq!(stored_inventory(&engine).as_ref(), Ok(&Some(inventory.clone())));
        engine.transact(Commit::Durable, &mut |t| write_inventory(t, &form)).unwrap();
        assert_eq!(stored_inventory(&engine), Ok(Some(inventory)));
        engine.transact(Commit::Durable, &mut |t| t.put(META, INVENTORY_KEY, b"x")).unwrap();
        assert!(stored_inventory(&engine).is_err());
    }

    #[test]
    fn newer_and_unreadable_forms_are_refused() {
        let cases: [(&[u8], EngineError); 2] = [
            (b"3", EngineError::Format(3)),
            (b"x", EngineError::Damaged("store format is unreadable".to_owned())),
        ];
        for (format, expected) in cases {
            let engine = MemoryEngine::new(2);
            engine.transact(Commit::Durable, &mut |t| t.put(META, FORMAT_KEY, format)).unwrap();
            assert_eq!(stored_id(&engine), Err(expected));
        }
    }
}
