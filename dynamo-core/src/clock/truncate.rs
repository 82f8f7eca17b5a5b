//! Clock truncation (paper section 4.4), made safe.
//!
//! The paper drops the oldest (node, counter) pair once there are ten. Done blindly that makes
//! descendants look concurrent and lets counters restart (hazard C3). Here an entry goes only if
//! no sibling's dot belongs to its actor, its actor is not the current one of a primary, it is
//! past a minimum age, and the caller has just seen all primaries equal. Order is by (time, actor),
//! so replicas that truncate the same record drop the same entries.

use std::collections::BTreeSet;

use crate::clock::record::Record;
use crate::id::ActorId;
use crate::limits::{CLOCK_ACTORS_THRESHOLD, CLOCK_TRUNCATE_AGE_MS};
use crate::time::WallMs;

/// The actors that may be dropped from `record`'s clock at `now`, oldest first, down to the
/// threshold. The caller has seen that all primaries hold an equal record; `current` are the
/// primaries' actors of today.
#[must_use]
pub fn truncatable(record: &Record, current: &BTreeSet<ActorId>, now: WallMs) -> Vec<ActorId> {
    let excess = record.clock().vector().count().saturating_sub(CLOCK_ACTORS_THRESHOLD);
    if excess == 0 {
        return Vec::new();
    }
    let live: BTreeSet<ActorId> = record.siblings().map(|sibling| sibling.dot.actor).collect();
    let loose: BTreeSet<ActorId> = record.clock().loose().map(|run| run.actor).collect();
    let mut candidates: Vec<(WallMs, ActorId)> = record
        .clock()
        .vector()
        .filter(|(actor, entry)| {
            !live.contains(actor)
                && !loose.contains(actor)
                && !current.contains(actor)
                && entry.at.0.saturating_add(CLOCK_TRUNCATE_AGE_MS) < now.0
        })
        .map(|(actor, entry)| (entry.at, actor))
        .collect();
    candidates.sort_unstable();
    candidates.into_iter().take(excess).map(|(_, actor)| actor).collect()
}

/// Drops `actors` from the record's clock. Only with what [`truncatable`] returned for this very
/// record.
pub fn truncate(record: &mut Record, actors: &[ActorId]) {
    for actor in actors {
        record.clock_mut().forget(*actor);
    }
}
