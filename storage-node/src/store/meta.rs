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
//! | `held` | text form of the set of partitions held |

use std::str::FromStr;

use dynamo_core::id::StoreId;
use dynamo_core::ring::PartitionSet;
use tokio::sync::oneshot;

use super::engine::{Commit, Engine, Tables};
use super::error::{EngineError, StoreError};
use super::writer::WriteJob;
use super::{META, Store};

/// The version of the form that this build writes.
pub const STORE_FORMAT: u8 = 1;

const FORMAT_KEY: &[u8] = b"format";
const STORE_KEY: &[u8] = b"store";
const HELD_KEY: &[u8] = b"held";

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

/// Writes the name of the store into an empty file, durably.
///
/// # Errors
/// [`EngineError`].
pub fn stamp(engine: &dyn Engine, store: StoreId) -> Result<(), EngineError> {
    engine.transact(Commit::Durable, &mut |tables| {
        tables.put(META, FORMAT_KEY, STORE_FORMAT.to_string().as_bytes())?;
        tables.put(META, STORE_KEY, store.to_string().as_bytes())
    })
}

/// The partitions held completely; `None` where that was never written, so that the store has
/// never held anything.
///
/// # Errors
/// [`EngineError`].
pub fn stored_held(engine: &dyn Engine) -> Result<Option<PartitionSet>, EngineError> {
    engine.get(META, HELD_KEY)?.map(|held| parse(&held, "set of partitions")).transpose()
}

fn parse<T: FromStr>(bytes: &[u8], what: &str) -> Result<T, EngineError> {
    std::str::from_utf8(bytes)
        .ok()
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| EngineError::Damaged(format!("{what} is unreadable")))
}

/// Writes the set of partitions held.
struct HeldJob {
    held: PartitionSet,
    reply: oneshot::Sender<Result<(), StoreError>>,
}

impl WriteJob for HeldJob {
    fn bytes(&self) -> usize {
        0
    }

    fn is_durable(&self) -> bool {
        true
    }

    fn apply(&mut self, tables: &mut dyn Tables) -> Result<(), EngineError> {
        tables.put(META, HELD_KEY, self.held.to_string().as_bytes())
    }

    fn finish(self: Box<Self>, committed: Result<(), StoreError>) {
        if self.reply.send(committed).is_err() {
            tracing::trace!("nobody waits for the held partitions to be written any more");
        }
    }
}

impl Store {
    /// Notes durably which partitions are held completely.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn set_held(&self, held: PartitionSet) -> Result<(), StoreError> {
        let (reply, result) = oneshot::channel();
        self.writer.submit(Box::new(HeldJob { held, reply }));
        result.await.unwrap_or(Err(StoreError::Closed))
    }
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
        stamp(&engine, StoreId(7)).unwrap();
        assert_eq!(stored_id(&engine), Ok(Some(StoreId(7))));
        assert_eq!(engine.get(META, b"format").unwrap().unwrap().as_ref(), b"1");
        assert_eq!(
            engine.get(META, b"store").unwrap().unwrap().as_ref(),
            b"00000000000000000000000000000007"
        );
        assert_eq!(stored_held(&engine), Ok(None));
        let mut held = PartitionSet::empty(Partitions::new(64).unwrap());
        held.insert(PartitionId(3));
        let text = held.to_string();
        engine.transact(Commit::Durable, &mut |t| t.put(META, HELD_KEY, text.as_bytes())).unwrap();
        assert_eq!(stored_held(&engine), Ok(Some(held)));
    }

    #[test]
    fn newer_and_unreadable_forms_are_refused() {
        let cases: [(&[u8], EngineError); 2] = [
            (b"2", EngineError::Format(2)),
            (b"x", EngineError::Damaged("store format is unreadable".to_owned())),
        ];
        for (format, expected) in cases {
            let engine = MemoryEngine::new(2);
            engine.transact(Commit::Durable, &mut |t| t.put(META, FORMAT_KEY, format)).unwrap();
            assert_eq!(stored_id(&engine), Err(expected));
        }
    }
}
