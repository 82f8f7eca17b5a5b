//! Sync points: an operator, or a rolling restart, asks when the hints of a moment are gone.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use uuid::Uuid;

use crate::limits::SYNC_POINTS_MAX;

/// The sync points of this process, the oldest forgotten first.
#[derive(Debug, Default)]
pub struct SyncPoints {
    points: Mutex<VecDeque<(Uuid, u64)>>,
}

impl SyncPoints {
    /// Sets a sync point at `generation`, unless one of this id is set already.
    pub fn set(&self, id: Uuid, generation: u64) {
        let mut points = self.lock();
        if points.iter().any(|(known, _)| *known == id) {
            return;
        }
        if points.len() >= SYNC_POINTS_MAX {
            points.pop_front();
        }
        points.push_back((id, generation));
    }

    /// The generation of a sync point: it is reached when no hint born before is held.
    #[must_use]
    pub fn get(&self, id: Uuid) -> Option<u64> {
        self.lock().iter().find(|(known, _)| *known == id).map(|(_, generation)| *generation)
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<(Uuid, u64)>> {
        self.points.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_is_set_once_and_the_oldest_goes() {
        let points = SyncPoints::default();
        let id = |n: usize| Uuid::from_u128(n as u128);
        points.set(id(0), 5);
        points.set(id(0), 9);
        assert_eq!(points.get(id(0)), Some(5));
        for n in 1..=SYNC_POINTS_MAX {
            points.set(id(n), 7);
        }
        assert_eq!(points.get(id(0)), None);
        assert_eq!(points.get(id(1)), Some(7));
    }
}
