//! The calls that storage nodes answer to a worker, with their messages. Encoding, sending and
//! checking what comes back; who is asked what, and why, is decided elsewhere.

use bytes::Bytes;
use dynamo_core::admission::Kind;
use dynamo_core::clock::record::Record;
use dynamo_core::id::{NodeId, PartitionId};
use dynamo_core::key::ObjectKey;
use dynamo_core::merkle::exchange::{MergeAnswer, ReadAnswer, RecordRead};
use dynamo_core::merkle::{KeyEntry, Leaf, Prefix};
use dynamo_core::params::Durability;
use dynamo_core::ring::RingVersion;
use dynamo_core::wire::frame::FRAME_CONTENT_TYPE;
use dynamo_core::wire::partition::{
    DropAnswer, DropRequest, PARTITIONS_DROP_PATH, PARTITIONS_HOLD_PATH, PARTITIONS_PATH,
    PARTITIONS_RELEASE_PATH, Page, PageRequest, PartitionsDocument, PartitionsRequest, decode_page,
    page_path,
};
use dynamo_core::wire::reap::{
    REAP_CHECK_PATH, REAP_PATH, ReapAnswer, ReapCheckAnswer, ReapCheckRequest, ReapItem,
    ReapRequest, ReapResult,
};
use dynamo_core::wire::replica::{
    REPLICA_BATCH_PATH, ReplicaOp, ReplicaResult, decode_response, encode_request,
};
use dynamo_core::wire::tree::{
    DigestsAnswer, DigestsRequest, KeysAnswer, KeysRequest, TREE_DIGESTS_PATH, TREE_KEYS_PATH,
};
use http::Method;
use serde::Serialize;
use serde::de::DeserializeOwned;
use service_kit::http::error::ErrorCode;

use super::call::{Ask, CallError, Caller};

const JSON: &str = "application/json";

/// Calls storage nodes for one kind of work. Clones share everything.
#[derive(Debug, Clone)]
pub struct Stores {
    caller: Caller,
    work: Kind,
}

impl Stores {
    /// Calls for `work`.
    #[must_use]
    pub fn new(caller: Caller, work: Kind) -> Self {
        Self { caller, work }
    }

    /// What the calls go through.
    #[must_use]
    pub fn caller(&self) -> &Caller {
        &self.caller
    }

    /// The digests of subtrees.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn digests(
        &self,
        node: NodeId,
        class: u8,
        prefixes: &[Prefix],
    ) -> Result<DigestsAnswer, CallError> {
        let request = DigestsRequest::new(class, prefixes);
        let answer: DigestsAnswer = self.post(node, TREE_DIGESTS_PATH, &request).await?;
        answer.check(prefixes.len()).map_err(CallError::bad)?;
        Ok(answer)
    }

    /// A page of the keys of leaves, and where the next one starts.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn keys(
        &self,
        node: NodeId,
        class: u8,
        leaves: &[Leaf],
        after: Option<&ObjectKey>,
    ) -> Result<(Vec<KeyEntry>, Option<ObjectKey>), CallError> {
        let request = KeysRequest::new(class, leaves, after);
        let answer: KeysAnswer = self.post(node, TREE_KEYS_PATH, &request).await?;
        answer.parse().map_err(CallError::bad)
    }

    /// Records of a replica.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn read(
        &self,
        node: NodeId,
        reads: Vec<RecordRead>,
    ) -> Result<Vec<ReadAnswer>, CallError> {
        let op = |read: RecordRead| ReplicaOp::Read {
            object: read.object,
            unless: read.unless,
            token: false,
            put: None,
        };
        let results = self.batch(node, reads.into_iter().map(op).collect()).await?;
        if results.iter().any(is_too_large) {
            return Err(CallError::TooLarge);
        }
        let answer = |result| match result {
            ReplicaResult::Record { record, .. } => ReadAnswer::Record(record),
            ReplicaResult::Same => ReadAnswer::Same,
            ReplicaResult::Absent { .. } => ReadAnswer::Absent,
            ReplicaResult::Merged | ReplicaResult::Refused { .. } => ReadAnswer::Refused,
        };
        Ok(results.into_iter().map(answer).collect())
    }

    /// Merges records into a replica, durably.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn merge(
        &self,
        node: NodeId,
        records: Vec<(ObjectKey, Record)>,
    ) -> Result<Vec<MergeAnswer>, CallError> {
        let op = |(object, record)| ReplicaOp::Merge {
            object,
            record,
            hint_for: None,
            durability: Durability::Fsync,
            puts: Vec::new(),
        };
        let results = self.batch(node, records.into_iter().map(op).collect()).await?;
        let answer = |result| match result {
            ReplicaResult::Merged => MergeAnswer::Merged,
            _ => MergeAnswer::Refused,
        };
        Ok(results.into_iter().map(answer).collect())
    }

    async fn batch(
        &self,
        node: NodeId,
        ops: Vec<ReplicaOp>,
    ) -> Result<Vec<ReplicaResult>, CallError> {
        let body = encode_request(&ops)?;
        let answer = self.frame(node, REPLICA_BATCH_PATH.to_owned(), body).await?;
        decode_response(answer, ops.len()).map_err(CallError::bad)
    }

    /// What a store has of its partitions.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn partitions(&self, node: NodeId) -> Result<PartitionsDocument, CallError> {
        let ask = Ask {
            work: self.work,
            method: Method::GET,
            path: PARTITIONS_PATH.to_owned(),
            content_type: JSON,
            body: Bytes::new(),
        };
        let answer: PartitionsDocument = parsed(&self.caller.call(node, &ask).await?)?;
        answer.check().map_err(CallError::bad)?;
        Ok(answer)
    }

    /// A page of what `for_node` is to have of a partition.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn page(
        &self,
        node: NodeId,
        partition: PartitionId,
        for_node: NodeId,
        after: Option<&ObjectKey>,
    ) -> Result<Page, CallError> {
        let body = json(&PageRequest::new(Some(for_node), after))?;
        let ask = Ask {
            work: self.work,
            method: Method::POST,
            path: page_path(partition),
            content_type: JSON,
            body,
        };
        decode_page(self.caller.call(node, &ask).await?).map_err(CallError::bad)
    }

    /// Tells a store that partitions are complete.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn hold(
        &self,
        node: NodeId,
        ring: RingVersion,
        partitions: Vec<PartitionId>,
    ) -> Result<(), CallError> {
        self.step(node, PARTITIONS_HOLD_PATH, ring, partitions).await
    }

    /// Tells a store to give partitions up.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn release(
        &self,
        node: NodeId,
        ring: RingVersion,
        partitions: Vec<PartitionId>,
    ) -> Result<(), CallError> {
        self.step(node, PARTITIONS_RELEASE_PATH, ring, partitions).await
    }

    async fn step(
        &self,
        node: NodeId,
        path: &str,
        ring: RingVersion,
        mut partitions: Vec<PartitionId>,
    ) -> Result<(), CallError> {
        partitions.sort_unstable();
        partitions.dedup();
        let body = json(&PartitionsRequest { ring, partitions })?;
        self.send(node, path, body).await.map(drop)
    }

    /// Deletes a page of what is left over of a partition.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn drop_page(
        &self,
        node: NodeId,
        ring: RingVersion,
        partition: PartitionId,
    ) -> Result<DropAnswer, CallError> {
        self.post(node, PARTITIONS_DROP_PATH, &DropRequest { ring, partition }).await
    }

    /// What a node has of each object, anywhere on its disks.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn reap_check(
        &self,
        node: NodeId,
        objects: &[ObjectKey],
    ) -> Result<ReapCheckAnswer, CallError> {
        let request = ReapCheckRequest::new(objects);
        let answer: ReapCheckAnswer = self.post(node, REAP_CHECK_PATH, &request).await?;
        answer.check(objects.len()).map_err(CallError::bad)?;
        Ok(answer)
    }

    /// Removes or truncates records that are still the ones named.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn reap(
        &self,
        node: NodeId,
        ring: RingVersion,
        items: &[ReapItem],
    ) -> Result<Vec<ReapResult>, CallError> {
        let request = ReapRequest::new(ring, items);
        let answer: ReapAnswer = self.post(node, REAP_PATH, &request).await?;
        answer.check(items.len()).map_err(CallError::bad)?;
        Ok(answer.results)
    }

    async fn post<T: DeserializeOwned>(
        &self,
        node: NodeId,
        path: &str,
        request: &impl Serialize,
    ) -> Result<T, CallError> {
        parsed(&self.send(node, path, json(request)?).await?)
    }

    async fn send(&self, node: NodeId, path: &str, body: Bytes) -> Result<Bytes, CallError> {
        let ask = Ask {
            work: self.work,
            method: Method::POST,
            path: path.to_owned(),
            content_type: JSON,
            body,
        };
        self.caller.call(node, &ask).await
    }

    async fn frame(&self, node: NodeId, path: String, body: Bytes) -> Result<Bytes, CallError> {
        let ask = Ask {
            work: self.work,
            method: Method::POST,
            path,
            content_type: FRAME_CONTENT_TYPE,
            body,
        };
        self.caller.call(node, &ask).await
    }
}

fn json(request: &impl Serialize) -> Result<Bytes, CallError> {
    serde_json::to_vec(request).map(Bytes::from).map_err(CallError::bad)
}

fn parsed<T: DeserializeOwned>(answer: &[u8]) -> Result<T, CallError> {
    serde_json::from_slice(answer).map_err(CallError::bad)
}

/// Whether a record found no room in the answer: fewer are to be asked for at once.
fn is_too_large(result: &ReplicaResult) -> bool {
    let ReplicaResult::Refused { code } = result else { return false };
    code == ErrorCode::PayloadTooLarge.as_str()
}
