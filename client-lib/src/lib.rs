//! The Rust client of Atoll, an always-writeable key-value store after Amazon's Dynamo.
//!
//! ```no_run
//! use atoll_client::{Client, Error};
//!
//! # async fn example() -> Result<(), Error> {
//! let client = Client::builder().endpoints(["http://127.0.0.1:7700"]).build()?;
//! let carts = client.bucket("carts");
//!
//! let read = carts.get("alice").await?;
//! println!("{} versions", read.versions.len());
//! carts.put("alice", "{\"book\":1}").content_type("application/json").context(read.context).await?;
//! # Ok(()) }
//! ```
//!
//! What to know:
//! - A get may return several concurrent versions ([`Siblings`]). Put one value with the context
//!   of that get, and it supersedes them all. [`Bucket::update`] is that loop, and [`merge`] has
//!   merge functions that keep their laws.
//! - Every put has an id, so the client may repeat it, at another host too: it is applied once.
//!   Retries stay within a budget, and a host that does not answer is avoided until it does.
//! - Every failure says whether the write may have happened: [`Error::outcome`].
//! - [`Mode`] chooses how much of the ring the client knows itself.
//!
//! Architecture invariants: decisions about placement, quorums and versions are those of
//! `dynamo-core`, shared with the servers; nothing here depends on a service.

mod client;
mod cluster;
mod context;
mod direct;
mod error;
mod kv;
pub mod limits;
pub mod merge;
mod operations;
mod transport;

pub use client::{Client, ClientBuilder, Mode};
pub use cluster::{Cluster, Health, Preference, PreferenceEntry};
pub use context::Context;
pub use dynamo_core::id::PutId;
pub use dynamo_core::key::NameError;
pub use dynamo_core::params::{BucketProps, Durability, Quorum, Reconciliation, WriteQuorum};
pub use dynamo_core::wire::log_level::{
    ClusterLogLevels, LogLevelChange, LogLevelDocument, ProcessLogLevel, ProcessName,
};
pub use dynamo_core::wire::membership::{
    BucketDocument, BucketsDocument, ClusterDocument, CommitDocument, MemberView, MoveView,
    NoteView, PlanDocument, PlanNode, SpreadView, StageRequest as Stage, StagedDocument,
};
pub use dynamo_core::wire::operations::{
    ClusterAntiEntropy, ClusterRepair, ClusterTransfers, ListRequest, LossAccepted, MergedAt,
    MergedDocument, NodeReport, PartitionBehind, RecordsRequest, ReplicaApart, RootDocument,
    RootRequest, SafeToStop, StopReasonView,
};
pub use dynamo_core::wire::peers::{ClusterPeers, NodeSight};
pub use dynamo_core::wire::ring::{NodeInfo, RingSnapshot};
pub use dynamo_core::wire::worker::{RepairRequest, RepairState, TransferState, TransferView};
pub use error::{Error, Outcome, Problem, ReplicaResult};
pub use kv::bucket::Bucket;
pub use kv::evidence::Evidence;
pub use kv::get::{Get, GetResult};
pub use kv::put::{Put, PutResult};
pub use kv::update::Update;
pub use kv::version::{Siblings, Version};
