//! `If-Match` and `If-None-Match`: what must hold of the present version set for a put to be
//! applied. The coordinator checks it against what its read quorum knows, so with concurrent puts
//! elsewhere it is a courtesy, not a lock; the documentation says so.
//!
//! A condition is about the first attempt of a put. A retry of one that was applied passes, whatever is
//! there by now: it changed the very state that it asked about, and a 412 would tell its client that
//! the write did not happen.
//!
//! Not here: parsing the headers, and reading the record.

use crate::clock::digest::Etag;
use crate::clock::record::Record;
use crate::id::PutId;
use crate::put_memory::AppliedPut;
use crate::time::WallMs;
use crate::versions::version_set_etag;
use crate::wire::coordinate::Condition;

/// The condition of a put does not hold (412 `precondition_failed`). Nothing was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the versions are not those that the condition names")]
pub struct ConditionFailed {
    /// The tag of the versions that are there; `None` where nothing is.
    pub present: Option<Etag>,
}

/// Checks `condition` against `record` as a reader at `now` sees it: what is deleted or expired is
/// not there. `applied` is what the coordinator remembers of the put; of one that was superseded
/// nothing else tells that it was applied.
///
/// # Errors
/// [`ConditionFailed`].
pub fn check_condition(
    condition: &Condition,
    record: &Record,
    put_id: PutId,
    applied: Option<AppliedPut>,
    now: WallMs,
) -> Result<(), ConditionFailed> {
    // What is remembered of a record that was lost since says nothing of the one that is there.
    let is_superseded = applied.is_some_and(|applied| record.clock().covers(&applied.dot));
    if is_superseded || record.siblings().any(|sibling| sibling.put_id == put_id) {
        return Ok(());
    }
    let present = version_set_etag(record, now);
    let is_named = |tags: &[String]| {
        present.is_some_and(|present| tags.iter().any(|tag| tag.parse() == Ok(present)))
    };
    let holds = match condition {
        Condition::Exists => present.is_some(),
        Condition::Absent => present.is_none(),
        Condition::Matches(tags) => is_named(tags),
        Condition::MatchesNone(tags) => !is_named(tags),
    };
    if holds { Ok(()) } else { Err(ConditionFailed { present }) }
}

#[cfg(test)]
mod tests;
