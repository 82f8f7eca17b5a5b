//! This node's own replica of one object as plain JSON, for people with curl. Not on the hot path:
//! values are base64 here.

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use dynamo_core::clock::digest::RecordDigest;
use dynamo_core::key::ObjectKey;
use dynamo_core::params::Durability;
use dynamo_core::wire::frame::{decode_frame, encode_frame};
use dynamo_core::wire::record::{RecordDto, record_from_wire, record_to_wire};
use http::{HeaderMap, StatusCode, Uri};
use serde::{Deserialize, Serialize};
use service_kit::http::error::{ErrorCode, Problem};
use service_kit::http::json::{parse_strict, require_json};

use super::Api;
use super::coordinate::bad_frame;
use crate::coordinator::request::name_problem;
use crate::node::{Node, store_problem};

/// What is in front of bucket and key.
const PREFIX: &str = "/v1/replica/kv/";

/// One replica.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReplicaDocument {
    /// Clock and siblings; the lengths are those of `values_base64`, in order.
    pub record: RecordDto,
    /// The values.
    pub values_base64: Vec<String>,
    /// Digest over clock and siblings; not needed on PUT.
    #[serde(default)]
    pub digest: Option<RecordDigest>,
    /// Whether this node holds the key's partition completely; not needed on PUT.
    #[serde(default)]
    pub holds: bool,
    /// `primary`, `fallback` or `none`; not needed on PUT.
    #[serde(default)]
    pub role: String,
}

/// `GET /v1/replica/kv/{bucket}/{key}`.
///
/// # Errors
/// The problem to answer with; 404 where nothing is stored here.
pub async fn read(State(api): State<Api>, uri: Uri) -> Result<Response, Problem> {
    let object = object(&uri)?;
    let node = &api.node;
    let view = node.ring()?;
    let stored =
        node.read_replica(&object, node.reconciliation(object.bucket())).map_err(store_problem)?;
    let holds = node.holds(&view, &object);
    let Some(record) = stored else {
        let detail = if holds { "nothing is stored" } else { "nothing is stored here" };
        return Err(Problem::new(ErrorCode::NotFound, detail));
    };
    let digest = Some(RecordDigest::of(&record));
    let (dto, values) = record_to_wire(&record);
    let values_base64 = values.iter().map(|value| STANDARD.encode(value)).collect();
    let role = role(node, &object)?;
    Ok(Json(ReplicaDocument { record: dto, values_base64, digest, holds, role }).into_response())
}

/// `PUT /v1/replica/kv/{bucket}/{key}`: merges the record durably.
///
/// # Errors
/// The problem to answer with.
pub async fn write(
    State(api): State<Api>,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<StatusCode, Problem> {
    require_json(&headers)?;
    let object = object(&uri)?;
    let view = api.node.ring()?;
    if !api.node.takes(&view, &object) {
        let detail = format!("not a replica of this key under ring {}", view.version());
        return Err(Problem::new(ErrorCode::NotOwner, detail));
    }
    let held = api.bodies.read(&headers, body).await?;
    let document: ReplicaDocument = parse_strict(held.bytes())?;
    let values = document
        .values_base64
        .iter()
        .map(|text| STANDARD.decode(text).map(Bytes::from))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| Problem::new(ErrorCode::BadJson, format!("values_base64: {error}")))?;
    // The frame form checks that lengths and bytes agree.
    let frame = encode_frame(&document.record, &values).map_err(bad_frame)?;
    let (dto, mut parts) = decode_frame::<RecordDto>(frame).map_err(bad_frame)?;
    let record = record_from_wire(dto, &mut parts).map_err(bad_frame)?;
    parts.finish().map_err(bad_frame)?;
    let merge = api.node.merge_of(object, record);
    api.node.store.merge(vec![merge], Durability::Fsync, None).await.map_err(store_problem)?;
    Ok(StatusCode::NO_CONTENT)
}

/// The object that a path names. The path is read as it was sent: a key may contain '/' and any
/// byte, percent-encoded.
fn object(uri: &Uri) -> Result<ObjectKey, Problem> {
    let (bucket, key) = uri
        .path()
        .strip_prefix(PREFIX)
        .and_then(|rest| rest.split_once('/'))
        .ok_or_else(|| Problem::new(ErrorCode::NotFound, "expected a bucket and a key"))?;
    ObjectKey::parse(bucket, key).map_err(name_problem)
}

fn role(node: &Node, object: &ObjectKey) -> Result<String, Problem> {
    let view = node.ring()?;
    let sets = view.replica_sets(object.position(), view.bucket(object.bucket()).n);
    let role = if sets.owners.contains(&node.me) {
        "primary"
    } else if sets.fallbacks.contains(&node.me) {
        "fallback"
    } else {
        "none"
    };
    Ok(role.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_taken_raw_and_decoded_strictly() {
        let parse = |path: &str| object(&path.parse().unwrap());
        let key = |path: &str| parse(path).unwrap().key().to_vec();
        assert_eq!(key("/v1/replica/kv/b/a/b%2Fc%00"), b"a/b/c\0");
        assert_eq!(key("/v1/replica/kv/b//x"), b"/x");
        let codes = [
            ("/v1/replica/kv/b", ErrorCode::NotFound),
            ("/v1/replica/kv/b/", ErrorCode::EmptyKey),
            ("/v1/replica/kv/b/%zz", ErrorCode::BadPercentEncoding),
            ("/v1/replica/kv/B/x", ErrorCode::BadBucket),
            ("/v1/replica/kv/_b/x", ErrorCode::ReservedBucket),
        ];
        for (path, code) in codes {
            assert_eq!(parse(path).unwrap_err().code(), code, "{path}");
        }
    }
}
