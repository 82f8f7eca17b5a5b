//! The cluster behind the routers: members, ring, plans, health, bucket properties. These calls
//! go to a router in every mode.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use dynamo_core::key::{Bucket as BucketName, ObjectKey};
use dynamo_core::params::BucketProps;
use dynamo_core::wire::membership::{
    BUCKETS_PATH, BucketDocument, BucketsDocument, CLUSTER_PATH, COMMIT_PATH, ClusterDocument,
    CommitDocument, PLAN_PATH, PlanDocument, STAGE_PATH, StageRequest as Stage, StagedDocument,
};
use dynamo_core::wire::ring::{RING_PATH, RingSnapshot};
use percent_encoding::{NON_ALPHANUMERIC, percent_encode};
use reqwest::Method;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::client::Client;
use crate::error::{Error, Outcome};
use crate::kv::routed::object_path;
use crate::transport::exchange::{Answer, DeadlineHeader, Kind, Request};

/// How the cluster is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// `healthy`, `degraded` or `unavailable`.
    pub status: String,
    /// Members.
    pub nodes: u64,
    /// Members that the answering host reaches.
    pub nodes_reachable: u64,
    /// Partitions of the ring.
    pub partitions: u64,
    /// Partitions of which every owner is reachable and holds the partition.
    pub partitions_all_ok: u64,
    /// Partitions that have a quorum of reachable holders.
    pub partitions_quorum_ok: u64,
    /// Owners that do not hold their partition yet.
    pub pending_moves: u64,
    /// Writes that wait on fallbacks for their owners; absent where it cannot be told.
    #[serde(default)]
    pub hints: Option<u64>,
    /// Whatever else the answer has.
    #[serde(flatten)]
    pub more: BTreeMap<String, Value>,
}

/// Where one object belongs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Preference {
    /// Its partition.
    pub partition: u32,
    /// Replicas of it (N).
    pub n: u8,
    /// The nodes, in the order of the preference list.
    pub list: Vec<PreferenceEntry>,
    /// Whatever else the answer has.
    #[serde(flatten)]
    pub more: BTreeMap<String, Value>,
}

/// One node of a [`Preference`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PreferenceEntry {
    /// The node's id.
    pub node: String,
    /// Its name.
    pub name: String,
    /// `primary` or `fallback`.
    pub role: String,
    /// Whether it holds the partition completely.
    pub holder: bool,
    /// Whether the answering router reaches it.
    pub reachable: bool,
    /// Whatever else the answer has.
    #[serde(flatten)]
    pub more: BTreeMap<String, Value>,
}

/// Calls on the cluster.
#[derive(Debug, Clone)]
pub struct Cluster {
    client: Client,
}

impl Cluster {
    pub(crate) fn new(client: Client) -> Self {
        Self { client }
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// The ring as one router sees it.
    ///
    /// # Errors
    /// Those of any call; `not_ready` before the cluster is founded.
    pub async fn ring(&self) -> Result<RingSnapshot, Error> {
        self.read(RING_PATH).await
    }

    /// Members with their states.
    ///
    /// # Errors
    /// Those of any call.
    pub async fn status(&self) -> Result<ClusterDocument, Error> {
        self.read(CLUSTER_PATH).await
    }

    /// How the cluster is.
    ///
    /// # Errors
    /// Those of any call.
    pub async fn health(&self) -> Result<Health, Error> {
        self.read("/v1/cluster/health").await
    }

    /// The nodes of an object: partition, preference list, roles, who holds it and who is
    /// reachable.
    ///
    /// # Errors
    /// Those of any call, and [`Error::Name`].
    pub async fn preference(
        &self,
        bucket: &str,
        key: impl AsRef<[u8]>,
    ) -> Result<Preference, Error> {
        let object = object(bucket, key.as_ref())?;
        let key = percent_encode(object.key(), NON_ALPHANUMERIC);
        self.read(&format!("/v1/ring/preference?bucket={}&key={key}", object.bucket())).await
    }

    /// What each replica of an object has.
    ///
    /// # Errors
    /// Those of any call, and [`Error::Name`].
    pub async fn explain(&self, bucket: &str, key: impl AsRef<[u8]>) -> Result<Value, Error> {
        let path = object_path(&object(bucket, key.as_ref())?)?;
        let mut request = Request::new(Method::GET, format!("{path}?explain"), Kind::Read);
        request.deadline = DeadlineHeader::Client;
        let answer = self.client.routed(&request, self.client.timeout_or(None)?).await?;
        parse(&answer, Kind::Read)
    }

    /// Stages a change, beside those staged already. Nothing moves before [`Cluster::commit`].
    ///
    /// # Errors
    /// Those of any call; 4xx where the change makes no sense.
    pub async fn stage(&self, change: &Stage) -> Result<StagedDocument, Error> {
        let mut request = Request::new(Method::POST, STAGE_PATH, Kind::Write);
        json_body(&mut request, change)?;
        self.send(request).await
    }

    /// Drops all staged changes.
    ///
    /// # Errors
    /// Those of any call.
    pub async fn unstage(&self) -> Result<(), Error> {
        let request = Request::new(Method::DELETE, STAGE_PATH, Kind::NamedWrite);
        self.send::<Value>(request).await.map(drop)
    }

    /// What committing the staged changes would do.
    ///
    /// # Errors
    /// Those of any call; `conflict` where nothing is staged.
    pub async fn plan(&self) -> Result<PlanDocument, Error> {
        self.read(PLAN_PATH).await
    }

    /// Commits the plan with this hash.
    ///
    /// # Errors
    /// Those of any call; `stale_plan` where the membership has changed since the plan was made.
    pub async fn commit(&self, plan_hash: &str) -> Result<CommitDocument, Error> {
        let mut request = Request::new(Method::POST, COMMIT_PATH, Kind::Write);
        request.header("if-match", &format!("\"{}\"", plan_hash.trim_matches('"')))?;
        self.send(request).await
    }

    /// Hints that wait for delivery.
    ///
    /// # Errors
    /// Those of any call.
    pub async fn hints(&self) -> Result<Value, Error> {
        self.read("/v1/hints").await
    }

    /// Marks this moment: the returned id names the hints that exist now.
    ///
    /// # Errors
    /// Those of any call.
    pub async fn hint_sync_point(&self) -> Result<Value, Error> {
        self.send(Request::new(Method::POST, "/v1/hints/sync-point", Kind::Write)).await
    }

    /// Whether the hints of a sync point have been delivered.
    ///
    /// # Errors
    /// Those of any call; 404 for an id that is not known (any more).
    pub async fn hint_sync_status(&self, id: &str) -> Result<Value, Error> {
        let id = percent_encode(id.as_bytes(), NON_ALPHANUMERIC);
        self.read(&format!("/v1/hints/sync-point/{id}")).await
    }

    /// The properties of a bucket: its own, or the defaults.
    ///
    /// # Errors
    /// Those of any call, and [`Error::Name`].
    pub async fn bucket_props(&self, bucket: &str) -> Result<BucketDocument, Error> {
        self.read(&bucket_path(bucket)?).await
    }

    /// Sets the properties of a bucket.
    ///
    /// # Errors
    /// Those of any call, and [`Error::Name`]; 4xx where they do not fit together or the cluster.
    pub async fn set_bucket_props(
        &self,
        bucket: &str,
        props: &BucketProps,
    ) -> Result<BucketDocument, Error> {
        let mut request = Request::new(Method::PUT, bucket_path(bucket)?, Kind::NamedWrite);
        json_body(&mut request, props)?;
        self.send(request).await
    }

    /// Gives a bucket the default properties again. Its objects stay.
    ///
    /// # Errors
    /// Those of any call, and [`Error::Name`].
    pub async fn reset_bucket_props(&self, bucket: &str) -> Result<(), Error> {
        let request = Request::new(Method::DELETE, bucket_path(bucket)?, Kind::NamedWrite);
        self.send::<Value>(request).await.map(drop)
    }

    /// Buckets that have properties of their own.
    ///
    /// # Errors
    /// Those of any call.
    pub async fn buckets(&self) -> Result<BucketsDocument, Error> {
        self.read(BUCKETS_PATH).await
    }

    pub(crate) async fn read<T: DeserializeOwned>(&self, path: &str) -> Result<T, Error> {
        self.send(Request::new(Method::GET, path, Kind::Read)).await
    }

    pub(crate) async fn send<T: DeserializeOwned>(&self, request: Request) -> Result<T, Error> {
        let timeout: Duration = self.client.timeout_or(None)?;
        let answer = self.client.routed(&request, timeout).await?;
        parse(&answer, request.kind)
    }
}

fn object(bucket: &str, key: &[u8]) -> Result<ObjectKey, Error> {
    Ok(ObjectKey::new(bucket.parse()?, Bytes::copy_from_slice(key))?)
}

fn bucket_path(bucket: &str) -> Result<String, Error> {
    Ok(format!("{BUCKETS_PATH}/{}", bucket.parse::<BucketName>()?))
}

pub(crate) fn json_body(request: &mut Request, body: &impl Serialize) -> Result<(), Error> {
    request.header("content-type", "application/json")?;
    request.body = serde_json::to_vec(body)
        .map(Bytes::from)
        .map_err(|error| Error::Parameter { name: "body".to_owned(), reason: error.to_string() })?;
    Ok(())
}

/// The JSON of an answer; `null` for an empty one.
pub(crate) fn parse<T: DeserializeOwned>(answer: &Answer, kind: Kind) -> Result<T, Error> {
    if !answer.status.is_success() {
        return Err(Error::refused(answer, kind));
    }
    let body: &[u8] = if answer.body.is_empty() { b"null" } else { &answer.body };
    serde_json::from_slice(body).map_err(|error| Error::BadAnswer {
        reason: format!("not the documented JSON: {error}"),
        // It was a success, so whatever was asked for has been done.
        outcome: if kind == Kind::Read { Outcome::NotApplied } else { Outcome::Unknown },
    })
}
