//! From a record to what a client sees of it: live versions, entity tags, and the context to send
//! with the next put. Pure; signing the context is an argument.
//!
//! Invariant: a context covers nothing that its receiver was not shown. The answer to a put shows
//! the client's own write alone, so its context covers what the client had seen before and that
//! write, unless the resulting versions are returned too.

use bytes::Bytes;

use crate::clock::context::CausalContext;
use crate::clock::digest::Etag;
use crate::clock::dvv::Dvv;
use crate::clock::hlc::Hlc;
use crate::clock::record::{Content, Record, Sibling};
use crate::id::NodeId;
use crate::replica::Minted;
use crate::time::WallMs;
use crate::wire::coordinate::{SiblingView, VersionsView};

/// The entity tag of the versions that a reader at `now` is shown; `None` where there are none.
#[must_use]
pub fn version_set_etag(record: &Record, now: WallMs) -> Option<Etag> {
    let visible = record.visible(now);
    (!visible.is_empty()).then(|| Etag::of(visible.iter().map(|sibling| sibling.dot)))
}

/// The context of a reader who is shown all of `record`; `None` where nothing was ever written.
#[must_use]
pub fn read_context(record: &Record, fastest: Option<NodeId>) -> Option<CausalContext> {
    (!record.is_empty()).then(|| CausalContext {
        clock: record.clock().clone(),
        stamp: record.latest_stamp(),
        fastest,
    })
}

/// The context of a client that has put with `before` and is told of nothing but its own write.
#[must_use]
pub fn write_context(
    before: Option<&CausalContext>,
    minted: &Minted,
    coordinator: NodeId,
) -> CausalContext {
    let (shown, seen) = match before {
        Some(context) => (context.clock.clone(), context.stamp),
        None => (Dvv::new(), Hlc::default()),
    };
    let own = minted.record.sibling(&minted.dot).or_else(|| minted.delta.sibling(&minted.dot));
    // A replayed put that is superseded is no later than what superseded it.
    let stamp = own.map_or_else(|| minted.record.latest_stamp(), |sibling| sibling.stamp).max(seen);
    // What the put followed is what was shown, and twins of it. A replayed put has the whole record
    // for its delta, which was not shown.
    let mut clock = if minted.replayed { shown } else { minted.delta.clock().clone() };
    clock.insert(minted.dot, stamp.wall());
    CausalContext { clock, stamp, fastest: Some(coordinator) }
}

/// What the reader of `record` is shown at `now`, and the values for the frame's body, in the
/// order of the siblings; no values where `values` is false (HEAD). `token` signs the context.
///
/// # Errors
/// Those of `token`.
pub fn read_view<E>(
    record: &Record,
    now: WallMs,
    values: bool,
    fastest: Option<NodeId>,
    token: impl FnOnce(&CausalContext) -> Result<String, E>,
) -> Result<(VersionsView, Vec<Bytes>), E> {
    let context = read_context(record, fastest).map(|context| token(&context)).transpose()?;
    Ok(view(record, now, Shown { context, siblings: true, values }))
}

/// What the client of a put is told. Without `return_body` that is the context, the tag and number
/// of the versions at the coordinator, and no more. `token` signs the context.
///
/// # Errors
/// Those of `token`.
pub fn put_view<E>(
    minted: &Minted,
    before: Option<&CausalContext>,
    now: WallMs,
    return_body: bool,
    coordinator: NodeId,
    token: impl FnOnce(&CausalContext) -> Result<String, E>,
) -> Result<(VersionsView, Vec<Bytes>), E> {
    if return_body {
        return read_view(&minted.record, now, true, Some(coordinator), token);
    }
    let context = Some(token(&write_context(before, minted, coordinator))?);
    Ok(view(&minted.record, now, Shown { context, siblings: false, values: false }))
}

struct Shown {
    context: Option<String>,
    siblings: bool,
    values: bool,
}

fn view(record: &Record, now: WallMs, shown: Shown) -> (VersionsView, Vec<Bytes>) {
    let visible = record.visible(now);
    let mut siblings = Vec::new();
    let mut values = Vec::new();
    for sibling in visible.iter().filter(|_| shown.siblings) {
        let Some((view, bytes)) = sibling_view(sibling) else { continue };
        siblings.push(view);
        if shown.values {
            values.push(bytes);
        }
    }
    let versions = VersionsView {
        context: shown.context,
        etag: version_set_etag(record, now).map(|etag| etag.to_string()),
        deleted: record.is_deleted(now),
        values: shown.values,
        siblings,
        sibling_count: visible.len(),
    };
    (versions, values)
}

/// A sibling as clients see it, and its bytes; `None` for a tombstone, which nobody is shown.
fn sibling_view(sibling: &Sibling) -> Option<(SiblingView, Bytes)> {
    let Content::Value(value) = &sibling.content else { return None };
    let view = SiblingView {
        etag: Etag::of([sibling.dot]).to_string(),
        last_modified: sibling.stamp.wall(),
        len: value.bytes.len(),
        content_type: value.content_type.clone(),
        meta: value.meta.clone(),
        expires_at: value.expires_at,
    };
    Some((view, value.bytes.clone()))
}

#[cfg(test)]
mod tests;
