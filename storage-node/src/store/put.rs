//! A client put at its coordinator: read, decide, write, in the writer's transaction, so that
//! nothing else changes the key in between.

use std::sync::Arc;

use dynamo_core::actor::Custody;
use dynamo_core::clock::digest::RecordDigest;
use dynamo_core::clock::record::Record;
use dynamo_core::codec::record::encode_record;
use dynamo_core::key::ObjectKey;
use dynamo_core::limits::SIBLINGS_WARN;
use dynamo_core::params::Durability;
use dynamo_core::put_memory::{AppliedPut, fingerprint};
use dynamo_core::replica::{Minted, PutCommand, PutRefusal, coordinate_put_in};
use dynamo_core::time::Mono;

use super::engine::Tables;
use super::error::{EngineError, StoreError};
use super::writer::WriteJob;
use super::{RECORDS, Shared};

/// Attempts at one put in one transaction: the second one under a new epoch cannot show a loss.
const ATTEMPTS: usize = 2;

/// A put to apply.
#[derive(Debug, Clone)]
pub struct PutRequest {
    /// The object.
    pub object: ObjectKey,
    /// What to do with it.
    pub command: PutCommand,
    /// When to acknowledge.
    pub durability: Durability,
    /// When nobody waits for it any more.
    pub deadline: Option<Mono>,
}

/// Why a put was not applied here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PutError {
    /// The protocol refuses it; nothing was changed.
    #[error(transparent)]
    Refused(#[from] PutRefusal),
    /// The store could not.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What a put reports while it happens: `Minted` at most once, then `Done` exactly once.
#[derive(Debug)]
pub enum PutProgress {
    /// The dot is minted and the delta may travel to the other replicas. Not durable yet: a crash
    /// from here on ends the epoch, so the dot is never reused.
    Minted(Box<Minted>),
    /// Acknowledged as durably as asked, or failed.
    Done(Result<(), PutError>),
}

/// Hears the progress of one put. Called on the writer thread: it must not block.
pub type PutListener = Box<dyn FnMut(PutProgress) + Send>;

/// A put on its way through the writer.
pub(crate) struct PutJob {
    shared: Arc<Shared>,
    request: PutRequest,
    listener: PutListener,
    refused: Option<PutError>,
    /// Whether the put memory has to forget it if the commit fails.
    remembered: bool,
}

impl PutJob {
    pub(crate) fn new(shared: Arc<Shared>, request: PutRequest, listener: PutListener) -> Self {
        Self { shared, request, listener, refused: None, remembered: false }
    }

    fn decide(&mut self, local: &Record) -> Result<Minted, PutError> {
        let command = &self.request.command;
        let memory = self.shared.put_memory();
        let puts = memory.of(self.request.object.position());
        let mut last = PutError::Store(StoreError::Unavailable);
        for _ in 0..ATTEMPTS {
            let now = self.shared.clock.wall();
            let minted = self
                .shared
                .epochs
                .mint(|actor| coordinate_put_in(local, command, actor, Custody::Held, puts, now))
                .map_err(|_| StoreError::Unavailable)?;
            match minted {
                Err(PutRefusal::Amnesia { seen }) => {
                    self.shared.epochs.end(seen, "a context shows a lost write of this node");
                    last = PutRefusal::Amnesia { seen }.into();
                }
                Err(refusal) => return Err(refusal.into()),
                Ok(minted) => return Ok(minted),
            }
        }
        Err(last)
    }

    fn remember(&mut self, minted: &Minted) {
        let content = fingerprint(&self.request.command.content);
        let applied = AppliedPut { dot: minted.dot, content };
        let (put, key) = (self.request.command.put_id, self.request.object.position());
        self.shared.put_memory().insert(put, key, applied, self.shared.clock.mono());
        self.remembered = true;
    }

    fn note_siblings(&self, before: &Record, after: &Record) {
        if after.sibling_count() >= SIBLINGS_WARN && before.sibling_count() < SIBLINGS_WARN {
            self.shared.metrics.siblings_warned.inc();
            tracing::warn!(
                position = ?self.request.object.position(),
                bucket = %self.request.object.bucket(),
                siblings = after.sibling_count(),
                "a key has many siblings; its writers should read and put with the context"
            );
        }
    }
}

impl WriteJob for PutJob {
    fn bytes(&self) -> usize {
        use dynamo_core::clock::record::Content;
        match &self.request.command.content {
            Content::Value(value) => value.bytes.len(),
            Content::Tombstone => 0,
        }
    }

    fn is_durable(&self) -> bool {
        self.request.durability == Durability::Fsync
    }

    fn adds_values(&self) -> bool {
        matches!(self.request.command.content, dynamo_core::clock::record::Content::Value(_))
    }

    fn deadline(&self) -> Option<Mono> {
        self.request.deadline
    }

    fn apply(&mut self, tables: &mut dyn Tables) -> Result<(), EngineError> {
        let key = self.request.object.storage_key();
        let stored = tables.get(RECORDS, &key)?;
        let stored = match stored.map(|bytes| self.shared.decode(&key, bytes)).transpose() {
            Ok(stored) => stored,
            Err(error) => {
                self.refused = Some(error.into());
                return Ok(());
            }
        };
        let before = stored.as_ref().map(RecordDigest::of);
        let local = stored.unwrap_or_default();
        match self.decide(&local) {
            Err(error) => self.refused = Some(error),
            Ok(minted) => {
                if !minted.replayed {
                    tables.put(RECORDS, &key, &encode_record(&key, &minted.record))?;
                    let after = Some(RecordDigest::of(&minted.record));
                    let bucket = self.request.object.bucket().as_str();
                    self.shared.tree.change(&key, bucket, before, after);
                    self.note_siblings(&local, &minted.record);
                    self.remember(&minted);
                }
                (self.listener)(PutProgress::Minted(Box::new(minted)));
            }
        }
        Ok(())
    }

    fn finish(mut self: Box<Self>, committed: Result<(), StoreError>) {
        if committed.is_err() && self.remembered {
            let (put, key) = (self.request.command.put_id, self.request.object.position());
            self.shared.put_memory().remove(put, key);
        }
        let result = match self.refused.take() {
            Some(refused) => Err(refused),
            None => committed.map_err(PutError::Store),
        };
        (self.listener)(PutProgress::Done(result));
    }
}
