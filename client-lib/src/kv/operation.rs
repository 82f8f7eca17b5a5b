//! Calls on objects as plain values: what the builders build and the modes carry out.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use dynamo_core::id::PutId;
use dynamo_core::key::ObjectKey;
use dynamo_core::params::{Durability, Quorum, WriteQuorum};
use dynamo_core::wire::coordinate::Condition;

use crate::context::Context;

/// A get.
#[derive(Debug, Clone)]
pub(crate) struct GetOperation {
    pub(crate) object: ObjectKey,
    pub(crate) r: Option<Quorum>,
    pub(crate) pr: Option<Quorum>,
    pub(crate) notfound_ok: Option<bool>,
    pub(crate) timeout: Duration,
}

/// What a put writes.
#[derive(Debug, Clone)]
pub(crate) enum PutContent {
    Value {
        bytes: Bytes,
        content_type: Option<String>,
        meta: BTreeMap<String, String>,
        ttl: Option<Duration>,
    },
    Delete,
}

/// A put or delete.
#[derive(Debug, Clone)]
pub(crate) struct PutOperation {
    pub(crate) object: ObjectKey,
    pub(crate) put_id: PutId,
    pub(crate) content: PutContent,
    pub(crate) context: Option<Context>,
    pub(crate) w: Option<WriteQuorum>,
    pub(crate) pw: Option<Quorum>,
    pub(crate) durability: Option<Durability>,
    pub(crate) condition: Option<Condition>,
    pub(crate) timeout: Duration,
}
