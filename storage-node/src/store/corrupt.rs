//! Keys whose stored record failed its checksum. The replica counts as failed for such a key, never
//! as empty, until a merge from another replica has replaced the record.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::limits::CORRUPT_KEYS_MAX;

/// The known bad keys of one file.
#[derive(Debug, Default)]
pub(crate) struct CorruptKeys {
    keys: Mutex<BTreeSet<Vec<u8>>>,
    count: AtomicUsize,
}

impl CorruptKeys {
    /// Notes a bad key. True where it was not known, so that the loss counts once.
    pub(crate) fn note(&self, key: &[u8]) -> bool {
        let mut keys = self.lock();
        if keys.contains(key) {
            return false;
        }
        if keys.len() < CORRUPT_KEYS_MAX {
            keys.insert(key.to_vec());
            self.count.store(keys.len(), Ordering::Relaxed);
        }
        true
    }

    /// Notes that a key was written anew.
    pub(crate) fn heal(&self, key: &[u8]) {
        if self.count.load(Ordering::Relaxed) == 0 {
            return;
        }
        let mut keys = self.lock();
        keys.remove(key);
        self.count.store(keys.len(), Ordering::Relaxed);
    }

    /// Looks at every known bad key again; those that `is_good` now are no longer known as bad.
    pub(crate) fn review(&self, is_good: impl Fn(&[u8]) -> bool) {
        let known = self.lock().clone();
        for key in known.into_iter().filter(|key| is_good(key)) {
            self.heal(&key);
        }
    }

    /// Forgets all of them, with the file.
    pub(crate) fn clear(&self) {
        self.lock().clear();
        self.count.store(0, Ordering::Relaxed);
    }

    /// Number of known bad keys.
    pub(crate) fn len(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeSet<Vec<u8>>> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
