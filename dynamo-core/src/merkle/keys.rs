//! The keys of a leaf, as one side lists them to the other.

use std::cmp::Ordering;

use crate::clock::digest::RecordDigest;
use crate::key::ObjectKey;
use crate::time::WallMs;

/// One key and what its record looks like from afar.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyEntry {
    /// The object.
    pub object: ObjectKey,
    /// Digest of its record.
    pub digest: RecordDigest,
    /// Where nothing in the record is live: the latest time at which something in it was written
    /// or expired.
    pub dead_since: Option<WallMs>,
}

/// The order in which keys are listed: that of [`ObjectKey::storage_key`], in which every store
/// scans. It differs from the order of [`ObjectKey`] only between buckets at one position.
#[must_use]
pub fn scan_order(a: &ObjectKey, b: &ObjectKey) -> Ordering {
    let place = |object: &ObjectKey| (object.position(), object.bucket().as_str().len());
    place(a).cmp(&place(b)).then_with(|| a.cmp(b))
}
