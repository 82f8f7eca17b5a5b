//! The seal of the main file: one row that says which store the file is, in which form, and whether
//! it was closed in order in which life of the node. Its checksum covers all of it, so what it says
//! is either what was written, or the file is damaged.
//!
//! A damaged file may open all the same, as it was one commit or many earlier. The last commit of a
//! life is the seal with `closed`, the first one of the next life is the seal with `open`; so the
//! seal of a file that went back in time does not fit to `node.json`, which is a file of its own:
//!
//! | seal | `node.json` | meaning |
//! |---|---|---|
//! | life n, closed | life n, clean | closed in order |
//! | life n, either | life n, not clean | the process ended somehow; the epoch ends |
//! | life n+1, open | life n, either | the next start ended before it wrote `node.json` |
//! | life n, open | life n, clean | the last commits are gone: lost |
//! | an earlier life | life n, either | an old copy, or commits of a whole life are gone: lost |
//!
//! Files of earlier builds have no seal; they get one with the first start.

use std::ops::Bound;

use dynamo_core::id::{Incarnation, StoreId};
use tokio::sync::oneshot;

use super::engine::{Commit, Engine, Tables};
use super::error::{EngineError, StoreError};
use super::meta::{self, STORE_FORMAT};
use super::writer::WriteJob;
use super::{META, RECORDS};
use crate::node_file::NodeFile;

const SEAL_KEY: &[u8] = b"seal";

/// What the seal says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seal {
    format: u8,
    /// The store.
    pub store: StoreId,
    /// The life of the node in which it was written.
    pub life: Incarnation,
    /// Whether nothing was written after it in that life.
    pub closed: bool,
}

impl Seal {
    /// A seal of the form that this build writes.
    #[must_use]
    pub fn new(store: StoreId, life: Incarnation, closed: bool) -> Self {
        Self { format: STORE_FORMAT, store, life, closed }
    }

    fn encode(self) -> String {
        let end = if self.closed { "closed" } else { "open" };
        let text = format!("{} {} {} {end}", self.format, self.store, self.life.0);
        format!("{text} {:08x}", crc32c::crc32c(text.as_bytes()))
    }

    fn decode(stored: &[u8]) -> Option<Self> {
        let (text, crc) = std::str::from_utf8(stored).ok()?.rsplit_once(' ')?;
        if u32::from_str_radix(crc, 16).ok()? != crc32c::crc32c(text.as_bytes()) {
            return None;
        }
        let mut words = text.split(' ');
        let format = words.next()?.parse().ok()?;
        let store = words.next()?.parse().ok()?;
        let life = Incarnation(words.next()?.parse().ok()?);
        Some(Self { format, store, life, closed: words.next()? == "closed" })
    }

    /// Whether the store was closed in order, as `node` says. An error where the file is not the
    /// one that was closed.
    ///
    /// # Errors
    /// What was lost.
    pub fn fits(self, node: &NodeFile) -> Result<bool, String> {
        let (sealed, known) = (self.life.0, node.incarnation.0);
        if sealed < known {
            return Err(format!("the file is of life {sealed} of the node, which is in {known}"));
        }
        if sealed == known && node.clean && !self.closed {
            return Err(format!("the last commits of life {known} are gone"));
        }
        Ok(node.clean)
    }
}

/// Which store a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// The store.
    pub store: StoreId,
    /// Its seal; none in a file of an earlier build.
    pub seal: Option<Seal>,
}

/// Which store the file is; `None` for an empty file.
///
/// # Errors
/// [`EngineError::Format`] where a newer build has written it; [`EngineError::Damaged`] where its
/// rows contradict each other.
pub fn identify(engine: &dyn Engine) -> Result<Option<Identity>, EngineError> {
    let damaged = |what: &str| Err(EngineError::Damaged(what.to_owned()));
    let stored = engine.get(META, SEAL_KEY)?;
    let seal = stored.as_ref().and_then(|stored| Seal::decode(stored));
    if stored.is_some() && seal.is_none() {
        return damaged("the seal is broken");
    }
    match meta::stored_id(engine) {
        // A newer build has sealed what it wrote.
        Err(EngineError::Format(format)) if seal.is_none_or(|seal| seal.format != format) => {
            damaged("the form is not the one that was sealed")
        }
        Err(error) => Err(error),
        Ok(Some(store)) if seal.is_some_and(|seal| seal.store != store) => {
            damaged("the store is not the one that was sealed")
        }
        Ok(Some(store)) => Ok(Some(Identity { store, seal })),
        Ok(None) => {
            let everything = || (Bound::Unbounded, Bound::Unbounded);
            let facts = engine.page(META, everything(), 1, 1)?;
            let records = engine.page(RECORDS, everything(), 1, 1)?;
            if facts.is_empty() && records.is_empty() {
                return Ok(None);
            }
            damaged("the name of the store is gone")
        }
    }
}

/// Writes the seal of a file durably, before anything else in this life.
///
/// # Errors
/// [`EngineError`].
pub fn seal_open(
    engine: &dyn Engine,
    store: StoreId,
    life: Incarnation,
) -> Result<(), EngineError> {
    write_seal_of(engine, Seal::new(store, life, false))
}

pub(crate) fn write_seal_of(engine: &dyn Engine, seal: Seal) -> Result<(), EngineError> {
    engine.transact(Commit::Durable, &mut |tables| write_seal(tables, seal))
}

pub(super) fn write_seal(tables: &mut dyn Tables, seal: Seal) -> Result<(), EngineError> {
    tables.put(META, SEAL_KEY, seal.encode().as_bytes())
}

/// Writes the seal of a store that is being closed: its last commit.
pub(super) struct SealJob {
    pub(super) seal: Seal,
    pub(super) reply: oneshot::Sender<Result<(), StoreError>>,
}

impl WriteJob for SealJob {
    fn bytes(&self) -> usize {
        0
    }

    fn is_durable(&self) -> bool {
        true
    }

    fn apply(&mut self, tables: &mut dyn Tables) -> Result<(), EngineError> {
        write_seal(tables, self.seal)
    }

    fn finish(self: Box<Self>, committed: Result<(), StoreError>) {
        if self.reply.send(committed).is_err() {
            tracing::trace!("nobody waits for the seal any more");
        }
    }
}

#[cfg(test)]
mod tests {
    use dynamo_core::id::NodeId;

    use super::super::memory::MemoryEngine;
    use super::*;
    use crate::node_file::NODE_FILE_FORMAT;

    #[test]
    fn the_form_is_the_golden_one_and_every_flip_shows() {
        let seal = Seal::new(StoreId(7), Incarnation(12), true);
        let text = seal.encode();
        assert_eq!(text, "2 00000000000000000000000000000007 12 closed 9a3136f9");
        assert_eq!(Seal::decode(text.as_bytes()), Some(seal));
        for bit in 0..text.len() * 8 {
            let mut flipped = text.clone().into_bytes();
            flipped[bit / 8] ^= 1 << (bit % 8);
            // The case of a digit of the checksum says nothing.
            let read = Seal::decode(&flipped);
            assert!(read.is_none() || read == Some(seal), "bit {bit}");
        }
    }

    #[test]
    fn a_file_that_went_back_in_time_does_not_fit() {
        let cases = [
            (5, true, true, Some(true), "closed in order"),
            (5, true, false, Some(false), "the crash came before node.json was written"),
            (5, false, false, Some(false), "a crash"),
            (6, false, true, Some(true), "a start that did not get far"),
            (6, false, false, Some(false), "the same after a crash"),
            (5, false, true, None, "rolled back by a commit"),
            (4, true, true, None, "an old copy"),
            (4, false, false, None, "an old copy of a crash"),
        ];
        for (life, closed, clean, fits, what) in cases {
            let node = NodeFile {
                format: NODE_FILE_FORMAT,
                cluster_id: None,
                node_id: NodeId(1),
                store_id: StoreId(7),
                epoch: 1,
                clean,
                incarnation: Incarnation(5),
            };
            let seal = Seal::new(StoreId(7), Incarnation(life), closed);
            assert_eq!(seal.fits(&node).ok(), fits, "{what}");
        }
    }

    #[test]
    fn contradictions_are_damage_and_newer_forms_are_not() {
        let fresh = || {
            let engine = MemoryEngine::new(3);
            assert_eq!(identify(&engine), Ok(None));
            meta::stamp(&engine, StoreId(7), Incarnation(1)).unwrap();
            engine
        };
        let put = |engine: &MemoryEngine, key: &[u8], value: &[u8]| {
            engine.transact(Commit::Durable, &mut |t| t.put(META, key, value)).unwrap();
        };
        let engine = fresh();
        let seal = Seal::new(StoreId(7), Incarnation(1), false);
        assert_eq!(identify(&engine), Ok(Some(Identity { store: StoreId(7), seal: Some(seal) })));
        put(&engine, b"format", b"3");
        assert!(matches!(identify(&engine), Err(EngineError::Damaged(_))), "a flipped digit");
        put(&engine, SEAL_KEY, Seal { format: 3, ..seal }.encode().as_bytes());
        assert_eq!(identify(&engine), Err(EngineError::Format(3)), "a newer build");
        let engine = fresh();
        put(&engine, b"store", b"00000000000000000000000000000017");
        assert!(matches!(identify(&engine), Err(EngineError::Damaged(_))));
        let engine = fresh();
        engine.transact(Commit::Durable, &mut |t| t.remove(META, b"format")).unwrap();
        assert!(matches!(identify(&engine), Err(EngineError::Damaged(_))), "nameless, not empty");
    }
}
