//! Node to node: operations on one node's own replica, many of them in one message. While one
//! message to a peer is on its way, the operations for the same peer gather for the next, as a
//! group commit gathers writes.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::clock::digest::RecordDigest;
use crate::clock::dot::Dot;
use crate::clock::record::Record;
use crate::id::{ActorId, NodeId, PutId};
use crate::key::ObjectKey;
use crate::limits::{REPLICA_BATCH_MAX, TOLD_PUTS_MAX};
use crate::params::Durability;
use crate::put_memory::AppliedPut;
use crate::wire::frame::{FrameError, decode_frame, encode_frame};
use crate::wire::record::{RecordDto, record_from_wire, record_to_wire};

/// `POST` of a frame of operations ([`encode_request`]), answered by a frame of results.
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
        /// Puts that the record has superseded and the sender remembers, at most
        /// [`TOLD_PUTS_MAX`].
        puts: Vec<(PutId, AppliedPut)>,
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
        /// A put of which the asker wants to know whether the replica remembers it; the whole
        /// record is told then.
        put: Option<PutId>,
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
        /// What the replica remembers of the put that was asked for.
        applied: Option<AppliedPut>,
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

/// Both operations in one struct: an enum whose tag is among its fields would be read twice, the
/// first time into a tree of values.
#[derive(Serialize, Deserialize)]
struct OpDto {
    op: OpName,
    bucket: String,
    key: usize,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    record: Option<RecordDto>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hint_for: Option<NodeId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    durability: Option<Durability>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    unless: Option<RecordDigest>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    token: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    put: Option<PutId>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    puts: Vec<(PutId, AppliedDto)>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum OpName {
    Merge,
    Read,
}

#[derive(Serialize, Deserialize)]
struct RequestDto {
    ops: Vec<OpDto>,
}

/// All results in one struct, as [`OpDto`].
#[derive(Serialize, Deserialize)]
struct ResultDto {
    result: ResultName,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    record: Option<RecordDto>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    token: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    applied: Option<AppliedDto>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    holds: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    code: Option<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum ResultName {
    Merged,
    Record,
    Same,
    Absent,
    Refused,
}

impl ResultDto {
    fn of(result: ResultName) -> Self {
        Self { result, record: None, token: None, applied: None, holds: None, code: None }
    }
}

/// A remembered put: node, epoch and counter of its dot, and the fingerprint of its content as 32
/// hexadecimal digits.
#[derive(Serialize, Deserialize)]
struct AppliedDto(NodeId, u64, u64, RecordDigest);

impl From<AppliedPut> for AppliedDto {
    fn from(put: AppliedPut) -> Self {
        let Dot { actor, counter } = put.dot;
        Self(actor.node, actor.epoch, counter, RecordDigest(put.content))
    }
}

impl TryFrom<AppliedDto> for AppliedPut {
    type Error = FrameError;

    fn try_from(AppliedDto(node, epoch, counter, content): AppliedDto) -> Result<Self, FrameError> {
        if counter == 0 {
            return Err(FrameError::Body);
        }
        let dot = Dot { actor: ActorId { node, epoch }, counter };
        Ok(Self { dot, content: content.0 })
    }
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
        let object = object(&op.bucket, parts.take(op.key)?)?;
        decoded.push(match op.op {
            OpName::Merge => ReplicaOp::Merge {
                object,
                record: record_from_wire(op.record.ok_or(FrameError::Body)?, &mut parts)?,
                hint_for: op.hint_for,
                durability: op.durability.unwrap_or_default(),
                puts: puts_from_wire(op.puts)?,
            },
            OpName::Read => {
                ReplicaOp::Read { object, unless: op.unless, token: op.token, put: op.put }
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
            ReplicaResult::Merged => ResultDto::of(ResultName::Merged),
            ReplicaResult::Record { record, token, applied } => {
                let (record, values) = record_to_wire(record);
                parts.extend(values);
                let (record, token) = (Some(record), token.clone());
                let applied = applied.map(AppliedDto::from);
                ResultDto { record, token, applied, ..ResultDto::of(ResultName::Record) }
            }
            ReplicaResult::Same => ResultDto::of(ResultName::Same),
            ReplicaResult::Absent { holds } => {
                ResultDto { holds: Some(*holds), ..ResultDto::of(ResultName::Absent) }
            }
            ReplicaResult::Refused { code } => {
                ResultDto { code: Some(code.clone()), ..ResultDto::of(ResultName::Refused) }
            }
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
        decoded.push(match result.result {
            ResultName::Merged => ReplicaResult::Merged,
            ResultName::Record => {
                let record = result.record.ok_or(FrameError::Body)?;
                let record = record_from_wire(record, &mut parts)?;
                let applied = result.applied.map(AppliedPut::try_from).transpose()?;
                ReplicaResult::Record { record, token: result.token, applied }
            }
            ResultName::Same => ReplicaResult::Same,
            ResultName::Absent => {
                ReplicaResult::Absent { holds: result.holds.ok_or(FrameError::Body)? }
            }
            ResultName::Refused => {
                ReplicaResult::Refused { code: result.code.ok_or(FrameError::Body)? }
            }
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
        ReplicaOp::Merge { object, record, hint_for, durability, puts } => {
            let (bucket, key) = name(object);
            let (record, values) = record_to_wire(record);
            parts.extend(values);
            OpDto {
                op: OpName::Merge,
                bucket,
                key,
                record: Some(record),
                hint_for: *hint_for,
                durability: Some(*durability),
                unless: None,
                token: false,
                put: None,
                puts: puts
                    .iter()
                    .map(|(put, applied)| (*put, AppliedDto::from(*applied)))
                    .collect(),
            }
        }
        ReplicaOp::Read { object, unless, token, put } => {
            let (bucket, key) = name(object);
            OpDto {
                op: OpName::Read,
                bucket,
                key,
                record: None,
                hint_for: None,
                durability: None,
                unless: *unless,
                token: *token,
                put: *put,
                puts: Vec::new(),
            }
        }
    }
}

fn puts_from_wire(told: Vec<(PutId, AppliedDto)>) -> Result<Vec<(PutId, AppliedPut)>, FrameError> {
    if told.len() > TOLD_PUTS_MAX {
        return Err(FrameError::Body);
    }
    told.into_iter().map(|(put, applied)| Ok((put, applied.try_into()?))).collect()
}

fn object(bucket: &str, key: Bytes) -> Result<ObjectKey, FrameError> {
    let bucket = bucket.parse().map_err(|_| FrameError::Body)?;
    ObjectKey::new(bucket, key).map_err(|_| FrameError::Body)
}
