//! Router (or client library) to coordinator: one client request, parsed and validated, as a
//! frame. The coordinator answers with a frame, or with the problem document of the failure.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::id::{NodeId, PutId};
use crate::params::{Durability, Quorum, WriteQuorum};
use crate::time::WallMs;
use crate::wire::key_text;

/// `POST` of a [`GetMessage`] frame (no body bytes), answered by a [`GetAnswer`] frame.
pub const COORDINATE_GET_PATH: &str = "/v1/coordinate/get";

/// `POST` of a [`PutMessage`] frame, answered by a [`PutAnswer`] frame.
pub const COORDINATE_PUT_PATH: &str = "/v1/coordinate/put";

/// A get or head.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GetMessage {
    /// The object's bucket.
    pub bucket: String,
    /// The object's key.
    #[serde(with = "key_text")]
    pub key: Bytes,
    /// Replies to wait for; the bucket's where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub r: Option<Quorum>,
    /// Replies of primaries to insist on; the bucket's where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pr: Option<Quorum>,
    /// Whether unconfirmed absence may be answered as absence; the bucket's where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notfound_ok: Option<bool>,
    /// Whether the values are wanted (false for HEAD).
    pub values: bool,
    /// Whether to tell what each replica has.
    #[serde(default)]
    pub explain: bool,
}

/// What a put writes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum ContentDto {
    /// A value; its bytes are the frame's body.
    Value {
        /// Bytes of the value.
        len: usize,
        /// Content type to store.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        content_type: Option<String>,
        /// User metadata, sorted by name.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        meta: Vec<(String, String)>,
        /// Absolute expiry.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        expires_at: Option<WallMs>,
    },
    /// A delete.
    Tombstone,
}

/// `If-Match` or `If-None-Match`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Condition {
    /// `If-Match: *`: something must be there.
    Exists,
    /// `If-None-Match: *`: nothing may be there.
    Absent,
    /// `If-Match`: the version set must be one of these entity tags.
    Matches(Vec<String>),
    /// `If-None-Match`: the version set must be none of these entity tags.
    MatchesNone(Vec<String>),
}

/// A put or delete.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PutMessage {
    /// The object's bucket.
    pub bucket: String,
    /// The object's key.
    #[serde(with = "key_text")]
    pub key: Bytes,
    /// Names the put across retries.
    pub put_id: PutId,
    /// The context header as the client sent it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<String>,
    /// What to write.
    pub content: ContentDto,
    /// Acknowledgements to wait for; the bucket's where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub w: Option<WriteQuorum>,
    /// Acknowledgements of primaries to insist on; the bucket's where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pw: Option<Quorum>,
    /// What acknowledgements must have survived; the bucket's where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub durability: Option<Durability>,
    /// Whether the answer carries the resulting siblings.
    #[serde(default)]
    pub return_body: bool,
    /// What must hold of the present version set, as far as the coordinator's read quorum knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub condition: Option<Condition>,
}

/// One sibling as clients see it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SiblingView {
    /// Entity tag of this version alone.
    pub etag: String,
    /// When its coordinator accepted it.
    pub last_modified: WallMs,
    /// Bytes of the value: in the frame's body, in order, where values are carried.
    pub len: usize,
    /// Stored content type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// User metadata.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub meta: Vec<(String, String)>,
    /// Absolute expiry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<WallMs>,
}

/// The versions of one key as clients see them. No siblings: deleted, or absent.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct VersionsView {
    /// The context to send with the next put; absent where nothing was ever written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<String>,
    /// Entity tag of the version set; absent where there is no sibling.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
    /// Whether the key was deleted or has expired.
    #[serde(default)]
    pub deleted: bool,
    /// Whether the values are in the frame's body.
    #[serde(default)]
    pub values: bool,
    /// The live siblings, in dot order.
    #[serde(default)]
    pub siblings: Vec<SiblingView>,
    /// Number of live siblings, also where they are not listed.
    pub sibling_count: usize,
}

/// What happened, for the answer's headers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// Replies or acknowledgements that counted when the answer was given.
    pub acks: u8,
    /// Replies or acknowledgements that were needed.
    pub asked: u8,
    /// Primaries among them.
    pub primaries: u8,
    /// Replicas of the object (N).
    pub n: u8,
    /// Replicas handed to fallbacks as hints, so far.
    pub hinted: u8,
    /// The node that coordinated.
    pub coordinator: NodeId,
    /// What the acknowledgements have survived.
    pub durability: Durability,
}

/// What one replica answered, for `explain`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReplicaView {
    /// The replica's node.
    pub node: NodeId,
    /// `primary`, or the node it stands in for.
    pub fallback_for: Option<NodeId>,
    /// `record`, `absent`, or what kept it from answering.
    pub result: String,
    /// Whether it holds the partition completely.
    pub holds: bool,
    /// Digest of its record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// Its siblings: `dot` text of each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub siblings: Vec<String>,
}

/// The answer to a get.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GetAnswer {
    /// The versions.
    pub versions: VersionsView,
    /// What happened.
    pub evidence: Evidence,
    /// What each asked replica has, where `explain` was asked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub replicas: Vec<ReplicaView>,
}

/// The answer to a put.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PutAnswer {
    /// The context, and with `return_body` the resulting versions. The context covers what the
    /// client has seen and its own write, never a sibling it has not read (unless returned here).
    pub versions: VersionsView,
    /// What happened.
    pub evidence: Evidence,
    /// Whether this put id had been applied before.
    pub replayed: bool,
}
