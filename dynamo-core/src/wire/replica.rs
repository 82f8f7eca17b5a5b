//! Node to node: operations on one node's own replica, many of them in one message. While one
//! message to a peer is on its way, the operations for the same peer gather for the next, as a
//! group commit gathers writes.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::clock::digest::RecordDigest;
use crate::clock::record::Record;
use crate::id::NodeId;
use crate::key::ObjectKey;
use crate::limits::REPLICA_BATCH_MAX;
use crate::params::Durability;
use crate::wire::frame::{FrameError, decode_frame, encode_frame};
use crate::wire::record::{RecordDto, record_from_wire, record_to_wire};

/// `POST` of a [`ReplicaRequest`] frame, answered by a [`ReplicaResponse`] frame.
pub const REPLICA_BATCH_PATH: &str = "/v1/replica/batch";

/// One operation on a replica.
#[derive(Debug, Clone, PartialEq)]
pub enum ReplicaOp {
    /// Merge a record or delta into the replica of `object`, or keep it as a hint.
    Merge {
        /// The object.
        object: ObjectKey,
        /// What to merge.
        record: Record,
        /// Set where the receiver stands in for this node: the record goes to the hint store.
        hint_for: Option<NodeId>,
        /// When to acknowledge.
        durability: Durability,
    },
    /// Read the replica of `object`; hints held for others count.
    Read {
        /// The object.
        object: ObjectKey,
        /// A record the asker has: if the replica's is equal, "same" is answer enough.
        unless: Option<RecordDigest>,
        /// Whether a context token of the record is wanted with it: for a client library that
        /// coordinates reads itself and cannot sign contexts (paper section 6.4).
        token: bool,
    },
}

/// What became of one operation.
#[derive(Debug, Clone, PartialEq)]
pub enum ReplicaResult {
    /// Merged (or found to be known already), as durably as asked.
    Merged,
    /// The replica's record.
    Record {
        /// The record.
        record: Record,
        /// Its context token, where asked for.
        token: Option<String>,
    },
    /// The replica's record equals the one named in the request.
    Same,
    /// Nothing is stored under the key.
    Absent {
        /// Whether the node holds the key's partition completely, so that this confirms absence.
        holds: bool,
    },
    /// Not done, and nothing changed.
    Refused {
        /// The error code of the answer to a single operation of this kind.
        code: String,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
enum OpDto {
    Merge {
        bucket: String,
        key: usize,
        record: RecordDto,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        hint_for: Option<NodeId>,
        #[serde(default)]
        durability: Durability,
    },
    Read {
        bucket: String,
        key: usize,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        unless: Option<RecordDigest>,
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        token: bool,
    },
}

#[derive(Serialize, Deserialize)]
struct RequestDto {
    ops: Vec<OpDto>,
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "result", rename_all = "snake_case")]
enum ResultDto {
    Merged,
    Record {
        record: RecordDto,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        token: Option<String>,
    },
    Same,
    Absent {
        holds: bool,
    },
    Refused {
        code: String,
    },
}

#[derive(Serialize, Deserialize)]
struct ResponseDto {
    results: Vec<ResultDto>,
}

/// Encodes up to [`REPLICA_BATCH_MAX`] operations as one frame.
///
/// # Errors
/// [`FrameError::HeaderTooLong`] where their metadata is too long for one frame.
pub fn encode_request<'a>(
    ops: impl IntoIterator<Item = &'a ReplicaOp>,
) -> Result<Bytes, FrameError> {
    let mut parts = Vec::new();
    let ops = ops.into_iter().map(|op| op_to_wire(op, &mut parts)).collect();
    encode_frame(&RequestDto { ops }, &parts)
}

/// Decodes a frame of operations.
///
/// # Errors
/// [`FrameError`]; too many operations are [`FrameError::Body`].
pub fn decode_request(message: Bytes) -> Result<Vec<ReplicaOp>, FrameError> {
    let (RequestDto { ops }, mut parts) = decode_frame(message)?;
    if ops.len() > REPLICA_BATCH_MAX {
        return Err(FrameError::Body);
    }
    let mut decoded = Vec::with_capacity(ops.len());
    for op in ops {
        decoded.push(match op {
            OpDto::Merge { bucket, key, record, hint_for, durability } => {
                let object = object(&bucket, parts.take(key)?)?;
                let record = record_from_wire(record, &mut parts)?;
                ReplicaOp::Merge { object, record, hint_for, durability }
            }
            OpDto::Read { bucket, key, unless, token } => {
                ReplicaOp::Read { object: object(&bucket, parts.take(key)?)?, unless, token }
            }
        });
    }
    parts.finish()?;
    Ok(decoded)
}

/// Encodes the results, one per operation, in their order.
///
/// # Errors
/// [`FrameError::HeaderTooLong`] where their metadata is too long for one frame.
pub fn encode_response<'a>(
    results: impl IntoIterator<Item = &'a ReplicaResult>,
) -> Result<Bytes, FrameError> {
    let mut parts = Vec::new();
    let results = results
        .into_iter()
        .map(|result| match result {
            ReplicaResult::Merged => ResultDto::Merged,
            ReplicaResult::Record { record, token } => {
                let (record, values) = record_to_wire(record);
                parts.extend(values);
                ResultDto::Record { record, token: token.clone() }
            }
            ReplicaResult::Same => ResultDto::Same,
            ReplicaResult::Absent { holds } => ResultDto::Absent { holds: *holds },
            ReplicaResult::Refused { code } => ResultDto::Refused { code: code.clone() },
        })
        .collect();
    encode_frame(&ResponseDto { results }, &parts)
}

/// Decodes a frame of results.
///
/// # Errors
/// [`FrameError`]; where the count is not `expected`, [`FrameError::Body`].
pub fn decode_response(message: Bytes, expected: usize) -> Result<Vec<ReplicaResult>, FrameError> {
    let (ResponseDto { results }, mut parts) = decode_frame(message)?;
    if results.len() != expected {
        return Err(FrameError::Body);
    }
    let mut decoded = Vec::with_capacity(results.len());
    for result in results {
        decoded.push(match result {
            ResultDto::Merged => ReplicaResult::Merged,
            ResultDto::Record { record, token } => {
                ReplicaResult::Record { record: record_from_wire(record, &mut parts)?, token }
            }
            ResultDto::Same => ReplicaResult::Same,
            ResultDto::Absent { holds } => ReplicaResult::Absent { holds },
            ResultDto::Refused { code } => ReplicaResult::Refused { code },
        });
    }
    parts.finish()?;
    Ok(decoded)
}

fn op_to_wire(op: &ReplicaOp, parts: &mut Vec<Bytes>) -> OpDto {
    let mut name = |object: &ObjectKey| {
        parts.push(object.key().clone());
        (object.bucket().as_str().to_owned(), object.key().len())
    };
    match op {
        ReplicaOp::Merge { object, record, hint_for, durability } => {
            let (bucket, key) = name(object);
            let (record, values) = record_to_wire(record);
            parts.extend(values);
            let (hint_for, durability) = (*hint_for, *durability);
            OpDto::Merge { bucket, key, record, hint_for, durability }
        }
        ReplicaOp::Read { object, unless, token } => {
            let (bucket, key) = name(object);
            OpDto::Read { bucket, key, unless: *unless, token: *token }
        }
    }
}

fn object(bucket: &str, key: Bytes) -> Result<ObjectKey, FrameError> {
    let bucket = bucket.parse().map_err(|_| FrameError::Body)?;
    ObjectKey::new(bucket, key).map_err(|_| FrameError::Body)
}
