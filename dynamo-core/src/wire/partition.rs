//! Partitions as units: what a store has of each of them, reading one page by page, and the steps
//! by which a node takes one over or gives one up. Asked by the background worker of the node
//! itself or of one that copies from it; the order of the steps is in [`crate::transfer`].
//!
//! A node at place i of a preference list keeps the keys of buckets with more than i copies. So
//! what it holds of a partition has a depth: the least N of the buckets whose keys it has
//! completely ("held from"); 1 is everything.

use std::collections::BTreeSet;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::clock::record::Record;
use crate::id::{NodeId, PartitionId, StoreId};
use crate::key::{NameError, ObjectKey};
use crate::limits::{PARTITIONS_MAX, REPLICAS_MAX, TRANSFER_PAGE_RECORDS_MAX};
use crate::ring::RingVersion;
use crate::wire::frame::{FrameError, decode_frame, encode_frame};
use crate::wire::record::{RecordDto, record_from_wire, record_to_wire};
use crate::wire::tree::{ObjectDto, TreeState};

/// `GET`, answered by a [`PartitionsDocument`].
pub const PARTITIONS_PATH: &str = "/v1/partitions";

/// `POST` of a [`PageRequest`], answered by a frame ([`encode_page`]); [`page_path`] fills it in.
pub const PARTITION_PAGE_PATH: &str = "/v1/partitions/{partition}/page";

/// `POST` of a [`PartitionsRequest`]: the worker says that these are complete. The store notes it
/// durably and advertises them at once. 409 where the node does not want one of them under its
/// ring, or its ring is not that of the request.
pub const PARTITIONS_HOLD_PATH: &str = "/v1/partitions/hold";

/// `POST` of a [`PartitionsRequest`]: what the node does not need of these is no longer held, and
/// is noted durably as left over; the data stays. 409 as for hold, or where all of it is needed.
pub const PARTITIONS_RELEASE_PATH: &str = "/v1/partitions/release";

/// `POST` of a [`DropRequest`], answered by a [`DropAnswer`]: deletes a page of what is left over
/// of a partition and neither needed nor held. 409 where nothing is left over, or the ring differs.
pub const PARTITIONS_DROP_PATH: &str = "/v1/partitions/drop";

/// The path of a partition's pages.
#[must_use]
pub fn page_path(partition: PartitionId) -> String {
    format!("{PARTITIONS_PATH}/{}/page", partition.0)
}

/// A message about partitions that breaks a limit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PartitionMessageError {
    /// Too many elements of one list.
    #[error("too many {0}")]
    TooMany(&'static str),
    /// Partitions out of order, or one of them twice.
    #[error("partitions are listed once each, in order")]
    Order,
    /// A partition that no ring has.
    #[error("there is no partition {0}")]
    Partition(u32),
    /// A depth that no bucket has.
    #[error("a partition is held from 1 to {REPLICAS_MAX}, not {0}")]
    Depth(u8),
    /// Not a name of an object.
    #[error(transparent)]
    Name(#[from] NameError),
}

/// What a store has of one partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionInfo {
    /// The partition.
    pub partition: PartitionId,
    /// Whether the node is to have it under its ring, for at least one bucket.
    pub wanted: bool,
    /// The least N of the buckets whose keys it holds completely; absent where it holds nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_from: Option<u8>,
    /// Whether records may be there that are neither needed nor held.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub leftover: bool,
    /// Number of records, where it is known without a scan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub records: Option<u64>,
}

/// What a store has. Partitions of which it neither wants nor has anything are left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionsDocument {
    /// The ring that the node works with.
    pub ring: RingVersion,
    /// Its store.
    pub store: StoreId,
    /// Its present actor epoch: an actor that no clock may lose ([`crate::clock::truncate`]).
    pub epoch: u64,
    /// Whether its Merkle tree is complete.
    pub tree: TreeState,
    /// The partitions, ascending.
    pub partitions: Vec<PartitionInfo>,
}

impl PartitionsDocument {
    /// Checks order and bounds.
    ///
    /// # Errors
    /// [`PartitionMessageError`].
    pub fn check(&self) -> Result<(), PartitionMessageError> {
        check_order(self.partitions.iter().map(|info| info.partition))?;
        let depths = self.partitions.iter().filter_map(|info| info.held_from);
        for depth in depths {
            if !(1..=REPLICAS_MAX).contains(&depth) {
                return Err(PartitionMessageError::Depth(depth));
            }
        }
        Ok(())
    }

    /// What the store has of `partition`; `None` for nothing. Only of a checked document.
    #[must_use]
    pub fn get(&self, partition: PartitionId) -> Option<&PartitionInfo> {
        let index = self.partitions.binary_search_by_key(&partition, |info| info.partition).ok()?;
        self.partitions.get(index)
    }
}

/// Partitions of one step, under the ring that the worker works with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionsRequest {
    /// That ring.
    pub ring: RingVersion,
    /// The partitions, ascending.
    pub partitions: Vec<PartitionId>,
}

impl PartitionsRequest {
    /// Checks order and bounds.
    ///
    /// # Errors
    /// [`PartitionMessageError`].
    pub fn check(&self) -> Result<(), PartitionMessageError> {
        check_order(self.partitions.iter().copied())
    }
}

/// The partition of which a page is to be deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DropRequest {
    /// The ring that the worker works with.
    pub ring: RingVersion,
    /// The partition.
    pub partition: PartitionId,
}

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DropAnswer {
    /// Whether nothing is left over any more, and that is noted.
    pub done: bool,
    /// Records deleted by this request.
    pub dropped: u64,
}

/// Asks for one page of a partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PageRequest {
    /// Only objects of which this node is to have a replica; absent for all objects (a backup).
    #[serde(rename = "for", default, skip_serializing_if = "Option::is_none")]
    pub for_node: Option<NodeId>,
    /// Where the page before ended; absent for the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<ObjectDto>,
}

impl PageRequest {
    /// The message for the page after `after`.
    #[must_use]
    pub fn new(for_node: Option<NodeId>, after: Option<&ObjectKey>) -> Self {
        Self { for_node, after: after.map(ObjectDto::from) }
    }

    /// The name after which the page starts.
    ///
    /// # Errors
    /// [`PartitionMessageError::Name`].
    pub fn after(&self) -> Result<Option<ObjectKey>, PartitionMessageError> {
        Ok(self.after.as_ref().map(ObjectKey::try_from).transpose()?)
    }
}

/// One page of a partition, in scan order ([`crate::merkle::scan_order`]).
#[derive(Debug, Clone, PartialEq)]
pub struct Page {
    /// The ring that the source works with.
    pub ring: RingVersion,
    /// Its store.
    pub store: StoreId,
    /// The objects with their records.
    pub records: Vec<(ObjectKey, Record)>,
    /// Records that could not be read; they were left out.
    pub unreadable: u64,
    /// Everything up to here has been given and there may be more; `None` at the end.
    pub next: Option<ObjectKey>,
}

#[derive(Serialize, Deserialize)]
struct PageDto {
    ring: RingVersion,
    store: StoreId,
    records: Vec<PageRecordDto>,
    #[serde(default)]
    unreadable: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    next: Option<ObjectDto>,
}

#[derive(Serialize, Deserialize)]
struct PageRecordDto {
    bucket: String,
    key: usize,
    record: RecordDto,
}

/// Encodes a page as one frame.
///
/// # Errors
/// [`FrameError::HeaderTooLong`] where the metadata is too long for one frame.
pub fn encode_page(page: &Page) -> Result<Bytes, FrameError> {
    let mut parts = Vec::new();
    let mut records = Vec::with_capacity(page.records.len());
    for (object, record) in &page.records {
        parts.push(object.key().clone());
        let (record, values) = record_to_wire(record);
        parts.extend(values);
        let (bucket, key) = (object.bucket().to_string(), object.key().len());
        records.push(PageRecordDto { bucket, key, record });
    }
    let dto = PageDto {
        ring: page.ring,
        store: page.store,
        records,
        unreadable: page.unreadable,
        next: page.next.as_ref().map(ObjectDto::from),
    };
    encode_frame(&dto, &parts)
}

/// Decodes a page.
///
/// # Errors
/// [`FrameError`]; more than [`TRANSFER_PAGE_RECORDS_MAX`] records or a bad name are
/// [`FrameError::Body`].
pub fn decode_page(message: Bytes) -> Result<Page, FrameError> {
    let (dto, mut parts) = decode_frame::<PageDto>(message)?;
    if dto.records.len() > TRANSFER_PAGE_RECORDS_MAX {
        return Err(FrameError::Body);
    }
    let mut records = Vec::with_capacity(dto.records.len());
    for item in dto.records {
        let bucket = item.bucket.parse().map_err(|_| FrameError::Body)?;
        let key = parts.take(item.key)?;
        let object = ObjectKey::new(bucket, key).map_err(|_| FrameError::Body)?;
        records.push((object, record_from_wire(item.record, &mut parts)?));
    }
    parts.finish()?;
    let next = dto.next.as_ref().map(ObjectKey::try_from).transpose();
    Ok(Page {
        ring: dto.ring,
        store: dto.store,
        records,
        unreadable: dto.unreadable,
        next: next.map_err(|_| FrameError::Body)?,
    })
}

fn check_order(partitions: impl Iterator<Item = PartitionId>) -> Result<(), PartitionMessageError> {
    let mut met = BTreeSet::new();
    for partition in partitions {
        if partition.0 >= PARTITIONS_MAX {
            return Err(PartitionMessageError::Partition(partition.0));
        }
        if met.last().is_some_and(|last| *last >= partition) {
            return Err(PartitionMessageError::Order);
        }
        met.insert(partition);
    }
    Ok(())
}
