//! Calls for operators: progress of movements and comparisons, repairs, and reading and writing
//! everything for backups and verification.
//!
//! The bulk calls are long and heavy, so each is sent once: a second copy sent to another router
//! because the first is slow would only make it slower. Who calls them repeats what failed; all of
//! them may be repeated.

use std::time::Duration;

use dynamo_core::id::PartitionId;
use dynamo_core::wire::frame::FRAME_CONTENT_TYPE;
use dynamo_core::wire::log_level::{ClusterLogLevels, LOG_LEVEL_PATH, LogLevelChange};
use dynamo_core::wire::operations::{
    ClusterAntiEntropy, ClusterRepair, ClusterTransfers, ListRequest, LossAccepted, MERGE_PATH,
    MergedDocument, RecordsRequest, RootDocument, RootRequest, SafeToStop, partition_digest_path,
    partition_keys_path, records_path,
};
use dynamo_core::wire::partition::{Page, decode_page, encode_page};
use dynamo_core::wire::peers::ClusterPeers;
use dynamo_core::wire::tree::KeysAnswer;
use dynamo_core::wire::worker::{
    ACCEPT_LOSS_PATH, ANTI_ENTROPY_PATH, AcceptLossRequest, REPAIR_PATH, RepairRequest,
    TRANSFERS_PATH,
};
use percent_encoding::{NON_ALPHANUMERIC, percent_encode};
use reqwest::Method;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::cluster::{Cluster, json_body, parse};
use crate::error::{Error, Outcome};
use crate::transport::exchange::{Answer, Kind, Request};

/// Time for one bulk call: its share of background work may have to be waited for.
const BULK_TIMEOUT: Duration = Duration::from_secs(30);

impl Cluster {
    /// Partitions on the move at all nodes.
    ///
    /// # Errors
    /// Those of any call.
    pub async fn transfers(&self) -> Result<ClusterTransfers, Error> {
        self.read(TRANSFERS_PATH).await
    }

    /// How the comparisons of replicas stand at all nodes.
    ///
    /// # Errors
    /// Those of any call.
    pub async fn anti_entropy(&self) -> Result<ClusterAntiEntropy, Error> {
        self.read(ANTI_ENTROPY_PATH).await
    }

    /// How the nodes see each other: which of them is slow.
    ///
    /// # Errors
    /// Those of any call.
    pub async fn peers(&self) -> Result<ClusterPeers, Error> {
        self.read("/v1/cluster/peers").await
    }

    /// What the logs of all processes tell, but those of other routers than the one that answers.
    ///
    /// # Errors
    /// Those of any call.
    pub async fn log_levels(&self) -> Result<ClusterLogLevels, Error> {
        self.read(LOG_LEVEL_PATH).await
    }

    /// Changes it, until each process ends.
    ///
    /// # Errors
    /// Those of any call; 422 for what is no level.
    pub async fn set_log_level(&self, change: &LogLevelChange) -> Result<ClusterLogLevels, Error> {
        let mut request = Request::new(Method::PUT, LOG_LEVEL_PATH, Kind::NamedWrite);
        json_body(&mut request, change)?;
        self.send(request).await
    }

    /// Has all replicas compared, and made equal, at once: of one partition, of one bucket, or of
    /// everything.
    ///
    /// # Errors
    /// Those of any call; 422 for a scope that makes no sense.
    pub async fn start_repair(&self, scope: &RepairRequest) -> Result<ClusterRepair, Error> {
        let mut request = Request::new(Method::POST, REPAIR_PATH, Kind::Write);
        json_body(&mut request, scope)?;
        self.send(request).await
    }

    /// How far a repair is.
    ///
    /// # Errors
    /// Those of any call; 404 for one that no node knows.
    pub async fn repair(&self, id: &str) -> Result<ClusterRepair, Error> {
        let id = percent_encode(id.as_bytes(), NON_ALPHANUMERIC);
        self.read(&format!("{REPAIR_PATH}/{id}")).await
    }

    /// Accepts that what nobody holds is lost: its owners start over without it.
    ///
    /// # Errors
    /// Those of any call; 409 where a partition is not known to be without holder.
    pub async fn accept_loss(&self, partitions: &[PartitionId]) -> Result<LossAccepted, Error> {
        let mut request = Request::new(Method::POST, ACCEPT_LOSS_PATH, Kind::Write);
        json_body(&mut request, &AcceptLossRequest { partitions: partitions.to_vec() })?;
        parse(&self.bulk_call(request).await?, Kind::Write)
    }

    /// Whether any partition would lose its quorum if `node` stopped now, and why.
    ///
    /// # Errors
    /// Those of any call; 404 for an unknown node.
    pub async fn safe_to_stop(&self, node: &str) -> Result<SafeToStop, Error> {
        let node = percent_encode(node.as_bytes(), NON_ALPHANUMERIC);
        self.read(&format!("/v1/cluster/safe-to-stop?node={node}")).await
    }

    /// A page of all records of a partition, with all versions, as its holders have them together.
    ///
    /// # Errors
    /// Those of any call; `quorum_unavailable` where too few holders answer.
    pub async fn records(
        &self,
        partition: PartitionId,
        page: &RecordsRequest,
    ) -> Result<Page, Error> {
        let answer = self.bulk(records_path(partition), page).await?;
        decode_page(answer.body).map_err(|error| Error::BadAnswer {
            reason: format!("not a page of records: {error}"),
            outcome: Outcome::NotApplied,
        })
    }

    /// Merges a page of records into all their replicas.
    ///
    /// # Errors
    /// Those of any call. A page that was merged in part only is an answer.
    pub async fn merge(&self, page: &Page) -> Result<MergedDocument, Error> {
        let encoded = encode_page(page).map_err(|error| Error::Parameter {
            name: "page".to_owned(),
            reason: error.to_string(),
        })?;
        let mut request = Request::new(Method::POST, MERGE_PATH, Kind::Write);
        request.header("content-type", FRAME_CONTENT_TYPE)?;
        request.body = encoded;
        parse(&self.bulk_call(request).await?, Kind::Write)
    }

    /// The keys that one node has of a partition, page by page.
    ///
    /// # Errors
    /// Those of any call.
    pub async fn keys_at(
        &self,
        partition: PartitionId,
        list: &ListRequest,
    ) -> Result<KeysAnswer, Error> {
        self.bulk_json(partition_keys_path(partition), list).await
    }

    /// The digest of all that one node has of a partition.
    ///
    /// # Errors
    /// Those of any call.
    pub async fn digest_at(
        &self,
        partition: PartitionId,
        root: &RootRequest,
    ) -> Result<RootDocument, Error> {
        self.bulk_json(partition_digest_path(partition), root).await
    }

    async fn bulk_json<T: DeserializeOwned>(
        &self,
        path: String,
        body: &impl Serialize,
    ) -> Result<T, Error> {
        parse(&self.bulk(path, body).await?, Kind::Read)
    }

    /// Reads much. Sent as a write, because those are not sent twice while the first is on its way.
    async fn bulk(&self, path: String, body: &impl Serialize) -> Result<Answer, Error> {
        let mut request = Request::new(Method::POST, path, Kind::Write);
        json_body(&mut request, body)?;
        let answer = self.bulk_call(request).await?;
        if answer.status.is_success() {
            Ok(answer)
        } else {
            Err(Error::refused(&answer, Kind::Read))
        }
    }

    async fn bulk_call(&self, request: Request) -> Result<Answer, Error> {
        self.client().routed(&request, BULK_TIMEOUT).await
    }
}
