//! What may be removed or truncated if everybody agrees.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::clock::digest::RecordDigest;
use crate::clock::record::{Content, Record};
use crate::clock::truncate::truncatable;
use crate::id::ActorId;
use crate::key::ObjectKey;
use crate::limits::CLOCK_ACTORS_THRESHOLD;
use crate::merkle::KeyEntry;
use crate::time::WallMs;
use crate::wire::reap::ReapAction;

/// Why a record is a candidate.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Reason {
    Dead,
    LongClock(Box<Record>),
}

/// One record that may be removed or truncated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    object: ObjectKey,
    digest: RecordDigest,
    reason: Reason,
}

impl Candidate {
    /// The listed key, if it is dead and has been for `grace` at `now`.
    #[must_use]
    pub fn of_entry(entry: &KeyEntry, now: WallMs, grace: Duration) -> Option<Self> {
        let since = entry.dead_since?;
        (now.since(since) > grace).then(|| Self {
            object: entry.object.clone(),
            digest: entry.digest,
            reason: Reason::Dead,
        })
    }

    /// The record, if it is dead and has been for `grace` at `now`, or has a clock with more than
    /// [`CLOCK_ACTORS_THRESHOLD`] actors.
    #[must_use]
    pub fn of_record(
        object: &ObjectKey,
        record: &Record,
        now: WallMs,
        grace: Duration,
    ) -> Option<Self> {
        let reason = match dead_since(record, now) {
            Some(since) if now.since(since) > grace => Reason::Dead,
            _ if record.clock().vector().count() > CLOCK_ACTORS_THRESHOLD => {
                Reason::LongClock(Box::new(record.clone()))
            }
            _ => return None,
        };
        Some(Self { object: object.clone(), digest: RecordDigest::of(record), reason })
    }

    /// The object.
    #[must_use]
    pub fn object(&self) -> &ObjectKey {
        &self.object
    }

    /// Digest of the record that everybody must have.
    #[must_use]
    pub fn digest(&self) -> RecordDigest {
        self.digest
    }

    /// What may be done given that everybody agrees; `None` for nothing. `current`: the actors of
    /// all nodes of today.
    #[must_use]
    pub fn action(&self, current: &BTreeSet<ActorId>, now: WallMs) -> Option<ReapAction> {
        match &self.reason {
            Reason::Dead => Some(ReapAction::Remove),
            Reason::LongClock(record) => {
                let actors = truncatable(record, current, now);
                (!actors.is_empty()).then_some(ReapAction::Truncate(actors))
            }
        }
    }
}

/// The latest time at which something in `record` was written or expired; `None` where something
/// is live at `now`, or nothing was ever written.
#[must_use]
pub fn dead_since(record: &Record, now: WallMs) -> Option<WallMs> {
    if !record.is_deleted(now) {
        return None;
    }
    let ends = record.siblings().map(|sibling| match &sibling.content {
        Content::Value(value) => value.expires_at.unwrap_or_default().max(sibling.stamp.wall()),
        Content::Tombstone => sibling.stamp.wall(),
    });
    ends.max()
}

/// Whether the node whose actor is `present` must end its epoch before it deletes `record`: it has
/// minted for the key under it, and without the record it would mint the same counter again, for a
/// version that an old context or a replica that is one step behind covers already (hazard C4).
#[must_use]
pub fn must_end_epoch(record: &Record, present: ActorId) -> bool {
    record.clock().highest(present) > 0
}
