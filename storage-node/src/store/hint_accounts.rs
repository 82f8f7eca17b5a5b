//! How many hints are kept for whom: counted when the file is opened, and changed with every hint.
//!
//! Not here: the hints themselves ([`super::hints`]), and the jobs that change them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dynamo_core::id::NodeId;
use service_kit::time::Clock;

use super::hints::{HintCaps, HintTotal};
use super::writer::{Doubt, Successor};
use crate::metrics::HintMetrics;

/// Accounts shared with the jobs on the writer thread.
#[derive(Debug)]
pub(crate) struct Accounts {
    pub(crate) clock: Clock,
    pub(crate) caps: HintCaps,
    pub(crate) generation: AtomicU64,
    pub(crate) metrics: HintMetrics,
    by_target: Mutex<BTreeMap<NodeId, HintTotal>>,
    hints: AtomicU64,
    bytes: AtomicU64,
    /// Whether a read has met a damaged page.
    damaged: AtomicBool,
}

/// Hints that are lost with their file are left to anti-entropy.
pub(super) struct HintsSuccessor(pub(super) Arc<Accounts>);

impl Successor for HintsSuccessor {
    fn doubts(&mut self) -> Option<Doubt> {
        self.0.damaged.swap(false, Ordering::AcqRel).then_some(Doubt::Structure)
    }

    fn forget(&mut self) {
        self.0.clear();
    }
}

impl Accounts {
    /// The accounts of a file that has just been counted.
    pub(super) fn new(
        clock: Clock,
        caps: HintCaps,
        generation: u64,
        by_target: BTreeMap<NodeId, HintTotal>,
        metrics: HintMetrics,
    ) -> Self {
        let hints = by_target.values().map(|total| total.hints).sum::<u64>();
        let bytes = by_target.values().map(|total| total.bytes).sum::<u64>();
        metrics.held.set(i64::try_from(hints).unwrap_or(i64::MAX));
        metrics.held_bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
        Self {
            clock,
            caps,
            generation: AtomicU64::new(generation),
            metrics,
            by_target: Mutex::new(by_target),
            hints: AtomicU64::new(hints),
            bytes: AtomicU64::new(bytes),
            damaged: AtomicBool::new(false),
        }
    }

    /// What is kept, by target.
    pub(super) fn by_target(&self) -> BTreeMap<NodeId, HintTotal> {
        self.lock().clone()
    }

    /// Notes that a read has met a damaged page.
    pub(super) fn note_damage(&self) {
        self.damaged.store(true, Ordering::Release);
    }

    /// Forgets all hints.
    fn clear(&self) {
        let mut by_target = self.lock();
        by_target.clear();
        self.metrics.dropped_corrupt.inc_by(self.hints.swap(0, Ordering::Relaxed));
        self.bytes.store(0, Ordering::Relaxed);
        self.metrics.held.set(0);
        self.metrics.held_bytes.set(0);
    }

    pub(crate) fn total(&self) -> HintTotal {
        HintTotal {
            hints: self.hints.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
        }
    }

    /// Replaces a hint of `before` bytes (0 for none) by one of `after` (0 for none).
    pub(crate) fn change(&self, target: NodeId, before: u64, after: u64) {
        let replace = |total: &mut HintTotal| {
            total.hints = total.hints.saturating_sub(u64::from(before > 0)) + u64::from(after > 0);
            total.bytes = total.bytes.saturating_sub(before) + after;
        };
        let mut by_target = self.lock();
        let entry = by_target.entry(target).or_default();
        replace(entry);
        if entry.hints == 0 {
            by_target.remove(&target);
        }
        let mut total = self.total();
        replace(&mut total);
        self.hints.store(total.hints, Ordering::Relaxed);
        self.bytes.store(total.bytes, Ordering::Relaxed);
        self.metrics.held.set(i64::try_from(total.hints).unwrap_or(i64::MAX));
        self.metrics.held_bytes.set(i64::try_from(total.bytes).unwrap_or(i64::MAX));
    }

    pub(crate) fn next_generation(&self) -> u64 {
        self.generation.fetch_add(1, Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<NodeId, HintTotal>> {
        self.by_target.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
