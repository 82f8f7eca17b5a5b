//! The keys of leaves with the digests of their records, for another replica to compare (paper
//! section 4.7). Computed from the records themselves, each verified on the way: a record that
//! cannot be read is not listed, so that the other side sends its own.

use std::ops::Bound;

use dynamo_core::clock::digest::RecordDigest;
use dynamo_core::key::ObjectKey;
use dynamo_core::limits::TREE_KEYS_MAX;
use dynamo_core::merkle::{KeyEntry, Leaf, entry_digest};
use dynamo_core::reap::candidate::dead_since;

use super::error::StoreError;
use super::scrub::records_of;
use super::tree::Suspicion;
use super::{RECORDS, Store};
use crate::limits::SCAN_BYTES_MAX;

/// A page of the keys of some leaves.
#[derive(Debug, Default)]
pub struct KeyPage {
    /// In scan order.
    pub keys: Vec<KeyEntry>,
    /// Everything up to here was looked at and there may be more; `None` at the end.
    pub next: Option<ObjectKey>,
}

/// What is looked at in one page.
struct Room {
    rows: usize,
    bytes: usize,
}

impl Room {
    fn full() -> Self {
        Self { rows: TREE_KEYS_MAX, bytes: SCAN_BYTES_MAX }
    }
}

impl Store {
    /// A page of the keys of buckets with N = `class` in `leaves`, which ascend, behind `after`.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub fn tree_keys(
        &self,
        class: u8,
        leaves: &[Leaf],
        after: Option<&ObjectKey>,
    ) -> Result<KeyPage, StoreError> {
        let mut page = KeyPage::default();
        let mut room = Room::full();
        let first = after.map_or(Leaf(0), |object| Leaf::of(object.position()));
        for leaf in leaves.iter().filter(|leaf| **leaf >= first) {
            let cursor = after.filter(|object| Leaf::of(object.position()) == *leaf);
            if self.keys_of(class, *leaf, cursor, &mut room, &mut page)? {
                return Ok(page);
            }
        }
        page.next = None;
        Ok(page)
    }

    /// Adds the keys of one leaf; true where the page is full.
    fn keys_of(
        &self,
        class: u8,
        leaf: Leaf,
        after: Option<&ObjectKey>,
        room: &mut Room,
        page: &mut KeyPage,
    ) -> Result<bool, StoreError> {
        let classes = self.shared.tree.committed_classes();
        let (start, to) = records_of(leaf, leaf);
        let mut from = after.map_or(start, |object| Bound::Excluded(object.storage_key()));
        let before = self.shared.tree.leaf(class, leaf);
        let (now, mut sum) = (self.shared.clock.wall(), 0u128);
        loop {
            if room.rows == 0 || room.bytes == 0 {
                if page.next.is_some() {
                    return Ok(true);
                }
                // A page says where it ended by the name of an object, and this one met none.
                *room = Room::full();
            }
            let range = (from, to.clone());
            let rows = self.engine.page(RECORDS, range, room.rows, room.bytes);
            let rows = rows.map_err(|error| self.read_failed(&error))?;
            let Some((last, _)) = rows.last() else { break };
            from = Bound::Excluded(last.to_vec());
            for (key, stored) in rows {
                room.rows = room.rows.saturating_sub(1);
                room.bytes = room.bytes.saturating_sub(key.len() + stored.len());
                let object = match ObjectKey::from_storage_key(&key) {
                    Ok(object) => object,
                    Err(error) => {
                        self.shared.lost(&key, &error.to_string());
                        continue;
                    }
                };
                let Ok(record) = self.shared.decode(&key, stored) else { continue };
                page.next = Some(object.clone());
                if classes.of(object.bucket().as_str()) != class {
                    continue;
                }
                let digest = RecordDigest::of(&record);
                sum = sum.wrapping_add(entry_digest(&key, digest));
                page.keys.push(KeyEntry { object, digest, dead_since: dead_since(&record, now) });
            }
        }
        // A peer asks for a leaf because its digest differs. If the records do not add up to it,
        // the sum may be what is wrong.
        let still = self.shared.tree.leaf(class, leaf);
        if after.is_none() && before == still && sum != still {
            self.shared.tree.suspect(leaf, Suspicion::Sum);
        }
        Ok(false)
    }
}
