//! What the store has of each partition, noted durably, and the deletion of what is left over.
//! When to do which is decided by [`dynamo_core::transfer`].

use std::ops::Bound;
use std::sync::Arc;

use dynamo_core::clock::digest::RecordDigest;
use dynamo_core::id::{KeyHash, PartitionId};
use dynamo_core::key::ObjectKey;
use dynamo_core::merkle::Prefix;
use dynamo_core::reap::must_end_epoch;
use dynamo_core::ring::Partitions;
use dynamo_core::transfer::Inventory;
use tokio::sync::oneshot;

use super::engine::{KeyRange, Tables};
use super::error::{EngineError, StoreError};
use super::meta::write_inventory;
use super::writer::WriteJob;
use super::{RECORDS, Shared, Store};
use crate::limits::{SCAN_BYTES_MAX, SCAN_ROWS_MAX};

/// Writes the inventory, unless it is that of a store that is gone.
struct InventoryJob {
    shared: Arc<Shared>,
    life: u64,
    form: Vec<u8>,
    refused: bool,
    reply: oneshot::Sender<Result<(), StoreError>>,
}

impl WriteJob for InventoryJob {
    fn bytes(&self) -> usize {
        self.form.len()
    }

    fn is_durable(&self) -> bool {
        true
    }

    fn apply(&mut self, tables: &mut dyn Tables) -> Result<(), EngineError> {
        self.refused = !self.shared.is_in_life(self.life);
        if self.refused {
            return Ok(());
        }
        write_inventory(tables, &self.form)
    }

    fn finish(self: Box<Self>, committed: Result<(), StoreError>) {
        let refused = self.refused.then_some(StoreError::Unavailable);
        if self.reply.send(committed.and(refused.map_or(Ok(()), Err))).is_err() {
            tracing::trace!("nobody waits for the inventory to be written any more");
        }
    }
}

/// The keys of a partition's records.
pub(super) fn records_of(partitions: Partitions, partition: PartitionId) -> KeyRange {
    let (first, last) = partitions.range(partition);
    let to = match last.0.checked_add(1) {
        Some(end) => Bound::Excluded(end.to_be_bytes().to_vec()),
        None => Bound::Unbounded,
    };
    (Bound::Included(first.0.to_be_bytes().to_vec()), to)
}

/// Which records of a partition are to be deleted.
#[derive(Debug, Clone)]
pub struct DropPage {
    /// The partition.
    pub partition: PartitionId,
    /// The ring's size.
    pub partitions: Partitions,
    /// Only records of buckets with fewer copies than this; `None` for all.
    pub below: Option<u8>,
    /// The records.
    pub objects: Vec<ObjectKey>,
    /// The life of the store that the inventory is of, see [`Store::life`].
    pub life: u64,
    /// Where these are the last: the inventory in which nothing of the partition is left over.
    pub last: Option<Inventory>,
}

/// What became of a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Dropped {
    /// Records deleted.
    pub records: u64,
    /// Whether nothing is left over, and that is noted.
    pub done: bool,
}

/// Deletes a page of a partition.
struct DropJob {
    shared: Arc<Shared>,
    page: DropPage,
    reply: oneshot::Sender<Result<Dropped, StoreError>>,
    dropped: Dropped,
}

impl DropJob {
    /// Notes that nothing is left, where that is so.
    fn end(&mut self, inventory: &Inventory, tables: &mut dyn Tables) -> Result<(), EngineError> {
        let DropPage { partition, partitions, below, .. } = self.page;
        if below.is_none() {
            let range = records_of(partitions, partition);
            let rows = tables.page(RECORDS, range, SCAN_ROWS_MAX, SCAN_BYTES_MAX)?;
            for (key, _) in rows {
                if ObjectKey::from_storage_key(&key).is_ok() {
                    // It came after the page was put together.
                    return Ok(());
                }
                tables.remove(RECORDS, &key)?;
                self.shared.forget(&key);
            }
        }
        let prefix = Prefix::of_partition(partitions, partition);
        let cleared = self.shared.tree.clear(prefix, below);
        if cleared > 0 {
            // Records that are gone anyway now, and that vanished before.
            tracing::warn!(partition = partition.0, leaves = cleared, "the tree knew of more");
            self.shared.epochs.end(0, "records differ from the tree");
        }
        write_inventory(tables, &inventory.encode())?;
        self.dropped.done = true;
        Ok(())
    }
}

impl WriteJob for DropJob {
    fn bytes(&self) -> usize {
        self.page.objects.iter().map(|object| object.key().len()).sum()
    }

    fn is_durable(&self) -> bool {
        self.page.last.is_some()
    }

    fn apply(&mut self, tables: &mut dyn Tables) -> Result<(), EngineError> {
        for object in &self.page.objects {
            self.dropped.records += u64::from(self.shared.remove(object, tables)?);
        }
        match self.page.last.take() {
            None => Ok(()),
            // What is left over of a store that is gone is gone too.
            Some(_) if !self.shared.is_in_life(self.page.life) => Ok(()),
            Some(inventory) => self.end(&inventory, tables),
        }
    }

    fn finish(self: Box<Self>, committed: Result<(), StoreError>) {
        if self.reply.send(committed.map(|()| self.dropped)).is_err() {
            tracing::trace!("nobody waits for this partition to be dropped any more");
        }
    }
}

impl Shared {
    /// Removes the record of `object` in the transaction under way, with all that is known of it.
    /// True where there was one.
    pub(super) fn remove(
        &self,
        object: &ObjectKey,
        tables: &mut dyn Tables,
    ) -> Result<bool, EngineError> {
        let key = object.storage_key();
        let Some(stored) = tables.get(RECORDS, &key)? else { return Ok(false) };
        // What an unreadable record had added to the sum is not known: its leaf is scrubbed. And
        // its epoch has ended.
        let record = self.decode(&key, stored).ok();
        if record.as_ref().is_some_and(|record| must_end_epoch(record, self.epochs.actor())) {
            self.epochs.end(0, "a record that this node has written to is removed");
        }
        let before = record.as_ref().map(RecordDigest::of);
        tables.remove(RECORDS, &key)?;
        self.tree.change(&key, object.bucket().as_str(), before, None);
        self.forget(&key);
        Ok(true)
    }

    /// Forgets what is remembered of a record that is gone.
    fn forget(&self, key: &[u8]) {
        self.corrupt.heal(key);
        self.metrics.corrupt_keys.set(self.corrupt.len() as i64);
        if let Some(position) = key.first_chunk() {
            let position = KeyHash(u128::from_be_bytes(*position));
            self.put_memory().forget(position);
        }
    }
}

impl Store {
    /// Notes durably what the store has of each partition, as of `life` of the store.
    ///
    /// # Errors
    /// [`StoreError`]; also where the store began empty meanwhile.
    pub async fn set_inventory(&self, inventory: &Inventory, life: u64) -> Result<(), StoreError> {
        let (reply, result) = oneshot::channel();
        let (shared, form) = (Arc::clone(&self.shared), inventory.encode());
        self.writer.submit(Box::new(InventoryJob { shared, life, form, refused: false, reply }));
        result.await.unwrap_or(Err(StoreError::Closed))
    }

    /// Deletes a page of a partition, records and sums in one commit.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn drop_page(&self, page: DropPage) -> Result<Dropped, StoreError> {
        let (reply, result) = oneshot::channel();
        let (shared, dropped) = (Arc::clone(&self.shared), Dropped::default());
        self.writer.submit(Box::new(DropJob { shared, page, reply, dropped }));
        result.await.unwrap_or(Err(StoreError::Closed))
    }

    /// The records of a partition that may be deleted, of one page from `cursor`, and where
    /// the next page begins.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub fn droppable(
        &self,
        partitions: Partitions,
        partition: PartitionId,
        below: Option<u8>,
        cursor: Option<Vec<u8>>,
    ) -> Result<(Vec<ObjectKey>, Option<Vec<u8>>), StoreError> {
        let (first, last) = partitions.range(partition);
        let page = self.scan(first, last, cursor)?;
        let classes = self.shared.tree.committed_classes();
        let drops = |object: &ObjectKey| {
            below.is_none_or(|below| classes.of(object.bucket().as_str()) < below)
        };
        let objects = page.records.into_iter().map(|(object, _)| object);
        Ok((objects.filter(drops).collect(), page.next))
    }
}
