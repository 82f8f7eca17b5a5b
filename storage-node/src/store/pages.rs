//! Reading a partition page by page, for another node or a backup. Every record is verified on the
//! way; those that cannot be read are left out and counted.

use std::ops::Bound;

use dynamo_core::clock::record::Record;
use dynamo_core::cluster_view::ClusterView;
use dynamo_core::id::{NodeId, PartitionId};
use dynamo_core::key::ObjectKey;
use dynamo_core::limits::{TRANSFER_PAGE_BYTES_MAX, TRANSFER_PAGE_RECORDS_MAX};

use super::error::StoreError;
use super::partitions::records_of;
use super::{RECORDS, Store};

/// What is to be read.
#[derive(Debug)]
pub struct PageOf<'a> {
    /// The ring.
    pub view: &'a ClusterView,
    /// The partition.
    pub partition: PartitionId,
    /// Only objects of which this node is to have a replica; `None` for all.
    pub for_node: Option<NodeId>,
}

/// A page of a partition.
#[derive(Debug, Default)]
pub struct PartitionPage {
    /// In scan order.
    pub records: Vec<(ObjectKey, Record)>,
    /// Records left out because they are unreadable.
    pub unreadable: u64,
    /// Everything up to here was given and there may be more; `None` at the end.
    pub next: Option<ObjectKey>,
}

impl PartitionPage {
    /// Gives back the second half: the page ends with the first. False for a page of one record.
    pub fn halve(&mut self) -> bool {
        let kept = self.records.len() / 2;
        let Some((last, _)) = kept.checked_sub(1).and_then(|last| self.records.get(last)) else {
            return false;
        };
        self.next = Some(last.clone());
        self.records.truncate(kept);
        true
    }
}

impl Store {
    /// The page after `after`: up to a number of records and of bytes, those read and not given
    /// included, so that no request takes long.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub fn partition_page(
        &self,
        of: &PageOf<'_>,
        after: Option<&ObjectKey>,
    ) -> Result<PartitionPage, StoreError> {
        let (start, to) = records_of(of.view.partitions(), of.partition);
        let mut from = match after {
            Some(object) => Bound::Excluded(object.storage_key()),
            None => start,
        };
        let mut page = PartitionPage::default();
        loop {
            let range = (from, to.clone());
            let (rows_max, bytes_max) = (TRANSFER_PAGE_RECORDS_MAX, TRANSFER_PAGE_BYTES_MAX);
            let rows = self.engine.page(RECORDS, range, rows_max, bytes_max);
            let rows = rows.map_err(|error| self.read_failed(&error))?;
            let Some((last, _)) = rows.last() else {
                page.next = None;
                return Ok(page);
            };
            from = Bound::Excluded(last.to_vec());
            for (key, stored) in rows {
                let object = match ObjectKey::from_storage_key(&key) {
                    Ok(object) => object,
                    Err(error) => {
                        self.shared.lost(&key, &error.to_string());
                        page.unreadable += 1;
                        continue;
                    }
                };
                page.next = Some(object.clone());
                let wanted = |node| of.view.needs(node, of.partition, object.bucket());
                if !of.for_node.is_none_or(wanted) {
                    continue;
                }
                match self.shared.decode(&key, stored) {
                    Ok(record) => page.records.push((object, record)),
                    Err(_) => page.unreadable += 1,
                }
            }
            // A page says where it ended by the name of an object; one that met none goes on.
            if page.next.is_some() {
                return Ok(page);
            }
        }
    }
}
