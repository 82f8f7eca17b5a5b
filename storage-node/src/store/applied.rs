//! What this node remembers of the puts of the last minutes: its own and those that others have
//! sent it. In memory, and forgotten with the file.
//!
//! Not here: what is remembered, and what follows from it ([`dynamo_core::put_memory`]).

use std::sync::{MutexGuard, PoisonError};

use dynamo_core::clock::record::Record;
use dynamo_core::id::PutId;
use dynamo_core::key::ObjectKey;
use dynamo_core::params::Reconciliation;
use dynamo_core::put_memory::{AppliedPut, PutMemory};
use dynamo_core::replica::settled;

use super::{Shared, Store};

impl Shared {
    pub(super) fn put_memory(&self) -> MutexGuard<'_, PutMemory> {
        self.puts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store {
    /// What became of a put, where it is remembered.
    #[must_use]
    pub fn applied_put(&self, put: PutId, object: &ObjectKey) -> Option<AppliedPut> {
        self.shared.put_memory().of(object.position()).get(put)
    }

    /// Remembers of a put what another replica does.
    pub fn remember_put(&self, put: PutId, object: &ObjectKey, applied: AppliedPut) {
        let now = self.shared.clock.mono();
        self.shared.put_memory().insert(put, object.position(), applied, now);
    }

    /// Remembers the puts of a record that another replica has sent, and those it has told of.
    pub fn learn_puts(&self, object: &ObjectKey, record: &Record, told: &[(PutId, AppliedPut)]) {
        let now = self.shared.clock.mono();
        self.shared.put_memory().learn(object.position(), record, told, now);
    }

    /// What this node remembers of the puts that `record` has superseded.
    #[must_use]
    pub fn superseded_puts(&self, object: &ObjectKey, record: &Record) -> Vec<(PutId, AppliedPut)> {
        self.shared.put_memory().of(object.position()).superseded(record)
    }

    /// A record that was read from several replicas, without what this node remembers to be
    /// superseded.
    #[must_use]
    pub fn settled(
        &self,
        object: &ObjectKey,
        record: Record,
        reconciliation: Reconciliation,
    ) -> Record {
        // Nothing to settle, and no reason to wait for the lock.
        if record.sibling_count() < 2 {
            return record;
        }
        settled(record, reconciliation, self.shared.put_memory().of(object.position()))
    }
}
