//! Calls sent straight to a coordinator: one that owns a replica, where one answers.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use dynamo_core::clock::context::peek_fastest;
use dynamo_core::cluster_view::ClusterView;
use dynamo_core::key::ObjectKey;
use dynamo_core::routing::{NodeLoad, Purpose, coordinator_order};
use dynamo_core::time::WallMs;
use dynamo_core::wire::coordinate::{
    COORDINATE_GET_PATH, COORDINATE_PUT_PATH, ContentDto, GetAnswer, GetMessage, PutAnswer,
    PutMessage, SiblingView, VersionsView,
};
use dynamo_core::wire::frame::{FrameError, Parts, decode_frame, encode_frame};
use dynamo_core::wire::headers;

use super::Direct;
use super::view::RingView;
use crate::context::Context;
use crate::error::{Error, Outcome};
use crate::kv::evidence::Evidence;
use crate::kv::get::GetResult;
use crate::kv::operation::{GetOperation, PutContent, PutOperation};
use crate::kv::put::PutResult;
use crate::kv::routed::unquoted;
use crate::kv::version::{Siblings, Version};
use crate::transport::call::Route;
use crate::transport::exchange::{Kind, wall_now};

/// Nodes that may coordinate a call, in the order in which they are tried.
struct Coordinators<'a> {
    direct: &'a Direct,
    bases: Vec<Arc<str>>,
}

impl<'a> Coordinators<'a> {
    fn of(
        direct: &'a Direct,
        view: &ClusterView,
        object: &ObjectKey,
        purpose: Purpose,
        context: Option<&Context>,
    ) -> Self {
        let n = view.bucket(object.bucket()).n;
        let sets = view.replica_sets(object.position(), n);
        let nodes = &direct.nodes;
        let base = |node| RingView::storage_base(&nodes.http, view, node);
        let load = |node| match base(node) {
            Some(base) => nodes.endpoints.load(&base),
            None => NodeLoad { reachable: false, slow: false, in_flight: 0, latency_us: 0 },
        };
        let preferred = context.and_then(|context| peek_fastest(context.as_str()));
        let order =
            nodes.dice.with(|dice| coordinator_order(&sets, purpose, preferred, load, dice));
        Self { direct, bases: order.nodes.into_iter().filter_map(base).collect() }
    }
}

impl Route for Coordinators<'_> {
    fn next(&self, tried: &[Arc<str>]) -> Option<Arc<str>> {
        if !tried.is_empty() {
            // Whatever kept the last one from answering may be a change that we have not seen.
            self.direct.view.is_stale();
        }
        self.bases.iter().find(|base| !tried.contains(base)).cloned()
    }

    fn misdirected(&self) {
        self.direct.view.is_stale();
    }
}

/// A get through a coordinator.
pub(super) async fn get(direct: &Direct, operation: &GetOperation) -> Result<GetResult, Error> {
    let view = direct.view.current().await?;
    let message = GetMessage {
        bucket: operation.object.bucket().as_str().to_owned(),
        key: operation.object.key().clone(),
        r: operation.r,
        pr: operation.pr,
        notfound_ok: operation.notfound_ok,
        values: true,
        explain: false,
    };
    let mut request = direct.sender.request(COORDINATE_GET_PATH, &view, Kind::Read)?;
    request.body = encode_frame(&message, []).map_err(|error| unencodable(&error))?;
    let route = Coordinators::of(direct, &view, &operation.object, Purpose::Read, None);
    let answer = direct.nodes.call(&request, &route, operation.timeout).await?;
    if !answer.status.is_success() {
        return Err(Error::refused(&answer, Kind::Read));
    }
    let bad = |error: FrameError| bad_frame(&error, Outcome::NotApplied);
    let (header, parts) = decode_frame::<GetAnswer>(answer.body.clone()).map_err(bad)?;
    let evidence = Evidence::of_frame(&header.evidence, answer.text(headers::REQUEST_ID));
    let deleted = header.versions.deleted;
    let context = header.versions.context.as_deref().map(Context::from_token);
    let etag = header.versions.etag.as_deref().map(unquoted);
    let versions = versions(header.versions, parts).map_err(bad)?;
    Ok(GetResult { versions, context, deleted, etag, evidence })
}

/// A put or delete through a coordinator.
pub(super) async fn put(direct: &Direct, operation: &PutOperation) -> Result<PutResult, Error> {
    let view = direct.view.current().await?;
    let (content, body) = content(&operation.content);
    let message = PutMessage {
        bucket: operation.object.bucket().as_str().to_owned(),
        key: operation.object.key().clone(),
        put_id: operation.put_id,
        context: operation.context.as_ref().map(ToString::to_string),
        content,
        w: operation.w,
        pw: operation.pw,
        durability: operation.durability,
        return_body: false,
        condition: operation.condition.clone(),
    };
    let mut request = direct.sender.request(COORDINATE_PUT_PATH, &view, Kind::NamedWrite)?;
    request.body = encode_frame(&message, &body).map_err(|error| unencodable(&error))?;
    let context = operation.context.as_ref();
    let route = Coordinators::of(direct, &view, &operation.object, Purpose::Write, context);
    let answer = direct.nodes.call(&request, &route, operation.timeout).await?;
    if !answer.status.is_success() {
        return Err(Error::refused(&answer, Kind::NamedWrite));
    }
    let (header, _) = decode_frame::<PutAnswer>(answer.body.clone())
        .map_err(|error| bad_frame(&error, Outcome::Unknown))?;
    Ok(PutResult {
        context: header.versions.context.as_deref().map(Context::from_token),
        etag: header.versions.etag.as_deref().map(unquoted),
        siblings: Some(header.versions.sibling_count),
        put_id: None,
        evidence: Evidence::of_frame(&header.evidence, answer.text(headers::REQUEST_ID)),
    })
}

fn content(content: &PutContent) -> (ContentDto, Option<Bytes>) {
    match content {
        PutContent::Value { bytes, content_type, meta, ttl } => {
            let expires_at = ttl.map(|ttl| {
                wall_now()
                    .plus(Duration::from_secs(ttl.as_secs() + u64::from(ttl.subsec_nanos() > 0)))
            });
            let meta = meta.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
            let dto = ContentDto::Value {
                len: bytes.len(),
                content_type: content_type.clone(),
                meta,
                expires_at,
            };
            (dto, Some(bytes.clone()))
        }
        PutContent::Delete => (ContentDto::Tombstone, None),
    }
}

/// The versions of an answer with their bytes.
fn versions(view: VersionsView, mut parts: Parts) -> Result<Siblings, FrameError> {
    let values = view
        .siblings
        .iter()
        .map(|sibling| parts.take(sibling.len))
        .collect::<Result<Vec<Bytes>, FrameError>>()?;
    parts.finish()?;
    Ok(versions_of(view, values))
}

/// The versions of `view`, whose bytes are `values`, in order.
pub(super) fn versions_of(view: VersionsView, values: Vec<Bytes>) -> Siblings {
    let version = |(sibling, value): (SiblingView, Bytes)| Version {
        value,
        content_type: sibling.content_type,
        meta: sibling.meta.into_iter().collect(),
        last_modified: Some(system_time(sibling.last_modified)),
        etag: Some(unquoted(&sibling.etag)),
    };
    Siblings::new(view.siblings.into_iter().zip(values).map(version).collect())
}

fn system_time(at: WallMs) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(at.0)
}

fn unencodable(error: &FrameError) -> Error {
    Error::Parameter { name: "request".to_owned(), reason: error.to_string() }
}

fn bad_frame(error: &FrameError, outcome: Outcome) -> Error {
    Error::BadAnswer { reason: format!("not the documented frame: {error}"), outcome }
}
