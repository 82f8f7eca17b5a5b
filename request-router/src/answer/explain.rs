//! Why an answer is what it is: where the key lies, who coordinated, what each replica has.

use axum::response::Response;
use dynamo_core::key::ObjectKey;
use dynamo_core::ring::PreferenceList;
use dynamo_core::wire::coordinate::ReplicaView;
use http::StatusCode;
use http::header::{CONTENT_TYPE, HeaderValue};
use serde::Serialize;
use service_kit::http::error::Problem;

use super::siblings::{encode, rfc3339, with_status};
use super::{Found, headers};
use crate::dispatch::Forwarded;
use crate::ring_view::RingView;

/// The document of `?explain`.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Explanation<'a> {
    /// The bucket.
    bucket: &'a str,
    /// The key, percent-encoded.
    key: String,
    /// Its position in the hash space, 32 hexadecimal digits.
    position: String,
    /// Its partition.
    partition: u32,
    /// The ring that the router used.
    ring_version: String,
    /// The nodes of its preference list in order, by name.
    preference_list: Vec<&'a str>,
    /// How the request was routed.
    routing: Routing,
    /// What the answer rests on.
    evidence: EvidenceView,
    /// What was found.
    versions: Vec<Version<'a>>,
    /// Whether the key was deleted or has expired.
    deleted: bool,
    /// The context of the answer.
    context: Option<&'a str>,
    /// What each asked replica has.
    #[schema(value_type = Vec<Object>)]
    replicas: Vec<Replica<'a>>,
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
struct Routing {
    /// The node that coordinated.
    coordinator: String,
    /// Why the first coordinator was chosen.
    reason: &'static str,
    /// Coordinators that the request was sent to.
    attempts: usize,
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
struct EvidenceView {
    acks: u8,
    asked: u8,
    primaries: u8,
    n: u8,
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
struct Version<'a> {
    etag: &'a str,
    bytes: usize,
    content_type: Option<&'a str>,
    last_modified: String,
}

/// One replica, with the node's name beside its id.
#[derive(Debug, Serialize)]
struct Replica<'a> {
    name: Option<&'a str>,
    #[serde(flatten)]
    view: &'a ReplicaView,
}

/// 200 with the explanation, whatever was found.
///
/// # Errors
/// 500 where it cannot be encoded.
pub fn respond(
    ring: &RingView,
    object: &ObjectKey,
    found: &Found,
    replicas: &[ReplicaView],
    forwarded: &Forwarded,
) -> Result<Response, Problem> {
    let partition = ring.view.ring().partition_of(object.position());
    let list: PreferenceList<'_> = ring.view.ring().preference_list(partition);
    let name = |node| ring.view.node(node).map(|info| info.name.as_str());
    let evidence = &found.evidence;
    let explanation = Explanation {
        bucket: object.bucket().as_str(),
        key: object.key_text(),
        position: format!("{:032x}", object.position().0),
        partition: partition.0,
        ring_version: ring.view.version().to_string(),
        preference_list: list.as_slice().iter().filter_map(|node| name(*node)).collect(),
        routing: Routing {
            coordinator: evidence.coordinator.to_string(),
            reason: forwarded.reason.as_str(),
            attempts: forwarded.attempts,
        },
        evidence: EvidenceView {
            acks: evidence.acks,
            asked: evidence.asked,
            primaries: evidence.primaries,
            n: evidence.n,
        },
        versions: found.siblings().map(|(view, _)| version(view)).collect(),
        deleted: found.versions.deleted,
        context: found.versions.context.as_deref(),
        replicas: replicas.iter().map(|view| Replica { name: name(view.node), view }).collect(),
    };
    let mut head = headers::common(found);
    headers::body(&mut head);
    head.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(with_status(StatusCode::OK, head, encode(&explanation)?))
}

fn version(view: &dynamo_core::wire::coordinate::SiblingView) -> Version<'_> {
    Version {
        etag: &view.etag,
        bytes: view.len,
        content_type: view.content_type.as_deref(),
        last_modified: rfc3339(view.last_modified),
    }
}
