//! What the main store does about losing its file: it forgets everything that it knew of it, and
//! begins empty, under a new name and a new epoch.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use dynamo_core::codec::record::decode_record;
use dynamo_core::id::StoreId;
use dynamo_core::put_memory::PutMemory;
use service_kit::rng::OsEntropy;
use tokio::sync::oneshot;

use super::engine::Engine;
use super::error::EngineError;
use super::tree::jobs::{TreeChange, TreeJob};
use super::writer::{Doubt, Successor, WriteJob};
use super::{RECORDS, Shared, meta};
use crate::limits::UNREADABLE_RECORDS_MAX;

/// The store that follows when the file of this one is damaged.
pub(super) struct RecordsSuccessor {
    shared: Arc<Shared>,
    /// The name of the next store, until it is stamped.
    next: Option<StoreId>,
}

impl RecordsSuccessor {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, next: None }
    }

    fn are_too_many_unreadable(&self) -> bool {
        self.shared.corrupt.len() >= UNREADABLE_RECORDS_MAX
    }

    fn next(&mut self) -> StoreId {
        *self.next.get_or_insert_with(|| StoreId::random(&mut OsEntropy))
    }
}

impl Successor for RecordsSuccessor {
    fn doubts(&mut self) -> Option<Doubt> {
        if self.shared.damaged.swap(false, Ordering::AcqRel) {
            return Some(Doubt::Structure);
        }
        if self.shared.vanished.swap(false, Ordering::AcqRel) {
            return Some(Doubt::Vanished);
        }
        self.are_too_many_unreadable().then_some(Doubt::Records)
    }

    fn confirm(&mut self, engine: &dyn Engine) -> Result<(), EngineError> {
        if !self.are_too_many_unreadable() {
            return Ok(());
        }
        // What was bad in memory only is good now.
        let corrupt = &self.shared.corrupt;
        corrupt.review(|key| match engine.get(RECORDS, key) {
            Ok(Some(stored)) => decode_record(key, stored).is_ok(),
            Ok(None) => true,
            Err(_) => false,
        });
        self.shared.show_corrupt();
        if self.are_too_many_unreadable() {
            let what = format!("{} records are unreadable", corrupt.len());
            return Err(EngineError::Damaged(what));
        }
        Ok(())
    }

    fn forget(&mut self) {
        let shared = &self.shared;
        // From here on nothing that was learned of the old file is taken for true of the new one.
        shared.life.fetch_add(1, Ordering::AcqRel);
        shared.corrupt.clear();
        shared.show_corrupt();
        *shared.put_memory() = PutMemory::default();
    }

    fn name(&mut self) -> Result<(), EngineError> {
        let store = self.next();
        let written = self.shared.epochs.renew(store);
        written.map_err(|error| EngineError::Io(error.to_string()))
    }

    fn stamp(&mut self, engine: &dyn Engine) -> Result<(), EngineError> {
        let life = self.shared.epochs.file().incarnation;
        meta::stamp(engine, self.next(), life)?;
        self.next = None;
        // Reads of the old file may have met more of it until it was closed.
        self.shared.damaged.store(false, Ordering::Release);
        self.shared.vanished.store(false, Ordering::Release);
        Ok(())
    }

    fn first_jobs(&mut self) -> Vec<Box<dyn WriteJob>> {
        // Of an empty store the tree is known to be complete at once.
        let (reply, _) = oneshot::channel();
        let shared = Arc::clone(&self.shared);
        vec![Box::new(TreeJob::new(shared, TreeChange::Reset, reply))]
    }
}
