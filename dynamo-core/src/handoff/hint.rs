//! Delivery of hints, target by target.
//!
//! A target is due when there are hints for it, it is reachable in this process's own view, and
//! its backoff is over; one delivery to a target runs at a time. A target that left the ring never
//! comes back (a removed node stays removed), so its hints go to the present owners of each key
//! instead.
//!
//! A hint is deleted only after the target acknowledged the record durably, and only if the
//! stored hint is still the one that was sent: a newer put may have been merged into it meanwhile
//! (hazard C8). Delivering twice is harmless, as merging is idempotent (I-12).
//!
//! Not here: storing hints, and reading them in order.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::clock::digest::RecordDigest;
use crate::entropy::Entropy;
use crate::id::NodeId;
use crate::limits::{
    HINT_AGE_MS_MAX, HINT_BACKOFF_MS_MAX, HINT_BACKOFF_MS_MIN, HINT_BATCH_BYTES_MAX,
    HINT_BATCH_MAX, HINT_BYTES_MAX, HINTS_MAX,
};
use crate::time::{Mono, WallMs};

/// What is to be done about a target's hints now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HintWork {
    /// Send it a batch.
    Deliver(NodeId),
    /// It left the ring: hand a batch of its hints to the present owners of each key.
    Retarget(NodeId),
}

/// How a delivery ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BatchEnd {
    /// All hints of the target are gone.
    Drained,
    /// The batch was delivered; there are more.
    More,
    /// It failed in part or in whole.
    Failed,
}

#[derive(Debug)]
struct Target {
    due: Mono,
    backoff: Duration,
    /// Whether a delivery is on its way, and whether a hint was stored since it began.
    running: bool,
    noted_since: bool,
}

/// When to deliver to whom. Bounded by the number of targets that have hints.
#[derive(Debug, Default)]
pub struct HintSchedule {
    targets: BTreeMap<NodeId, Target>,
}

impl HintSchedule {
    /// Nothing to deliver.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A hint for `target` was stored, or found in the file at the start.
    pub fn noted(&mut self, target: NodeId, now: Mono) {
        let backoff = Duration::from_millis(HINT_BACKOFF_MS_MIN);
        let entry = self.targets.entry(target).or_insert(Target {
            due: now.plus(backoff),
            backoff,
            running: false,
            noted_since: false,
        });
        entry.noted_since = true;
    }

    /// `target` became reachable: what it is owed is due now.
    pub fn on_recovered(&mut self, target: NodeId, now: Mono) {
        if let Some(entry) = self.targets.get_mut(&target) {
            entry.due = now;
            entry.backoff = Duration::from_millis(HINT_BACKOFF_MS_MIN);
        }
    }

    /// What is due, longest due first, at most `room` pieces; each counts as running until
    /// [`HintSchedule::finished`].
    pub fn due(
        &mut self,
        now: Mono,
        room: usize,
        reachable: impl Fn(NodeId) -> bool,
        is_member: impl Fn(NodeId) -> bool,
    ) -> Vec<HintWork> {
        let mut due: Vec<(Mono, NodeId)> = self
            .targets
            .iter()
            .filter(|(node, target)| {
                let wanted = !is_member(**node) || reachable(**node);
                wanted && !target.running && target.due <= now
            })
            .map(|(node, target)| (target.due, *node))
            .collect();
        due.sort_unstable();
        due.truncate(room);
        for (_, node) in &due {
            if let Some(target) = self.targets.get_mut(node) {
                target.running = true;
                target.noted_since = false;
            }
        }
        let work = |(_, node)| {
            if is_member(node) { HintWork::Deliver(node) } else { HintWork::Retarget(node) }
        };
        due.into_iter().map(work).collect()
    }

    /// The delivery to `target` ended.
    pub fn finished(
        &mut self,
        target: NodeId,
        now: Mono,
        end: BatchEnd,
        entropy: &mut impl Entropy,
    ) {
        let Some(entry) = self.targets.get_mut(&target) else { return };
        entry.running = false;
        match end {
            // What was stored while the last batch ran may have come after the scan.
            BatchEnd::Drained if !entry.noted_since => {
                self.targets.remove(&target);
            }
            BatchEnd::Drained | BatchEnd::More => {
                entry.due = now;
                entry.backoff = Duration::from_millis(HINT_BACKOFF_MS_MIN);
            }
            BatchEnd::Failed => {
                // Between a half and the whole, so that the holders do not come back in step.
                let half = entry.backoff / 2;
                let micros = u64::try_from(half.as_micros()).unwrap_or(u64::MAX);
                let jitter = Duration::from_micros(entropy.below(micros.saturating_add(1)));
                entry.due = now.plus(half + jitter);
                let most = Duration::from_millis(HINT_BACKOFF_MS_MAX);
                entry.backoff = entry.backoff.saturating_mul(2).min(most);
            }
        }
    }

    /// When a delivery is due next, as far as backoff goes; `None` while nothing waits. Where
    /// targets are unreachable that time may have passed: wait for [`HintSchedule::on_recovered`].
    #[must_use]
    pub fn next_due(&self, reachable: impl Fn(NodeId) -> bool) -> Option<Mono> {
        let idle = self.targets.iter().filter(|(node, t)| !t.running && reachable(**node));
        idle.map(|(_, target)| target.due).min()
    }

    /// Whether there are hints for `target`.
    #[must_use]
    pub fn is_owed(&self, target: NodeId) -> bool {
        self.targets.contains_key(&target)
    }

    /// The targets that have hints.
    pub fn targets(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.targets.keys().copied()
    }
}

/// What still fits into one delivery.
#[derive(Debug, Clone, Copy)]
pub struct HintBatchBudget {
    hints: usize,
    bytes: usize,
}

impl Default for HintBatchBudget {
    fn default() -> Self {
        Self { hints: HINT_BATCH_MAX, bytes: HINT_BATCH_BYTES_MAX }
    }
}

impl HintBatchBudget {
    /// An empty batch.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes a record of `bytes` into the batch if it fits. The first always does, or a record
    /// larger than the budget would never be delivered.
    pub fn admit(&mut self, bytes: usize) -> bool {
        let is_first = self.hints == HINT_BATCH_MAX;
        let fits = self.hints > 0 && (is_first || bytes <= self.bytes);
        if fits {
            self.hints -= 1;
            self.bytes = self.bytes.saturating_sub(bytes);
        }
        fits
    }
}

/// Whether a hint may be deleted after its record `sent` was acknowledged durably, given what the
/// hint file holds now.
#[must_use]
pub fn may_delete(sent: RecordDigest, stored: Option<RecordDigest>) -> bool {
    stored == Some(sent)
}

/// What the hint file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HintUsage {
    /// Number of hints.
    pub hints: u64,
    /// Bytes of their records.
    pub bytes: u64,
}

impl HintUsage {
    /// Whether another hint of `bytes` fits. If not it is dropped and counted: the write goes on,
    /// and anti-entropy brings the replica (I-13).
    #[must_use]
    pub fn admits(self, bytes: u64) -> bool {
        self.hints < HINTS_MAX && self.bytes.saturating_add(bytes) <= HINT_BYTES_MAX
    }
}

/// Whether a hint stored at `stored_at` is too old to be delivered. A clock that stepped back does
/// not age anything.
#[must_use]
pub fn is_expired(stored_at: WallMs, now: WallMs) -> bool {
    now.since(stored_at) > Duration::from_millis(HINT_AGE_MS_MAX)
}

#[cfg(test)]
mod tests;
