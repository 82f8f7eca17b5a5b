//! What a node has as a replica, served as storage nodes do: pages, keys with digests, merges.
//! Small pages, so that tests see more than one.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use dynamo_core::clock::digest::RecordDigest;
use dynamo_core::clock::record::Record;
use dynamo_core::id::{PartitionId, StoreId};
use dynamo_core::key::ObjectKey;
use dynamo_core::merkle::{KeyEntry, Leaf, Tree, scan_order};
use dynamo_core::ring::{Partitions, RingVersion};
use dynamo_core::wire::partition::{Page, PageRequest, encode_page};
use dynamo_core::wire::replica::{ReplicaOp, ReplicaResult, decode_request, encode_response};
use dynamo_core::wire::tree::{DigestsAnswer, DigestsRequest, KeysAnswer, KeysRequest, TreeState};
use http::{HeaderMap, StatusCode};

use super::node::Node;

/// Records of one page.
const PAGE: usize = 3;

pub(super) fn routes() -> Router<Arc<Node>> {
    Router::new()
        .route("/v1/partitions/{partition}/page", post(page))
        .route("/v1/tree/keys", post(keys))
        .route("/v1/tree/digests", post(digests))
        .route("/v1/replica/batch", post(batch))
}

impl Node {
    /// Keeps a record as its replica.
    pub(crate) fn keep(&self, object: &ObjectKey, record: &Record) {
        self.replicas.lock().unwrap().insert(object.clone(), record.clone());
    }

    /// Its replica of an object.
    pub(crate) fn kept(&self, object: &ObjectKey) -> Option<Record> {
        self.replicas.lock().unwrap().get(object).cloned()
    }

    /// What `is_wanted` of what it has, in scan order, after `after`.
    fn sorted(
        &self,
        after: Option<&ObjectKey>,
        is_wanted: impl Fn(&ObjectKey) -> bool,
    ) -> Vec<(ObjectKey, Record)> {
        let replicas = self.replicas.lock().unwrap();
        let later = |object: &ObjectKey| after.is_none_or(|a| scan_order(object, a).is_gt());
        let mut found: Vec<_> = replicas
            .iter()
            .filter(|(object, _)| later(object) && is_wanted(object))
            .map(|(object, record)| (object.clone(), record.clone()))
            .collect();
        found.sort_by(|(a, _), (b, _)| scan_order(a, b));
        found
    }
}

/// The refusal of a node in trouble, or of a request that does not say what it is for.
async fn trouble(node: &Node, headers: &HeaderMap, kind: &str) -> Option<Response> {
    if headers.get("x-atoll-background").is_none_or(|value| value != kind) {
        return Some(StatusCode::IM_A_TEAPOT.into_response());
    }
    node.misbehave(headers).await
}

async fn page(
    State(node): State<Arc<Node>>,
    Path(partition): Path<u32>,
    headers: HeaderMap,
    Json(request): Json<PageRequest>,
) -> Response {
    if let Some(trouble) = trouble(&node, &headers, "backup").await {
        return trouble;
    }
    let partitions = Partitions::new(8).unwrap();
    let after = request.after().unwrap();
    let mut records = node.sorted(after.as_ref(), |object| {
        partitions.of(object.position()) == PartitionId(partition)
    });
    let more = records.len() > PAGE;
    records.truncate(PAGE);
    let next = if more { records.last().map(|(object, _)| object.clone()) } else { None };
    let (ring, store) = (RingVersion::default(), StoreId(node.id.0));
    encode_page(&Page { ring, store, records, unreadable: 1, next }).unwrap().into_response()
}

async fn keys(
    State(node): State<Arc<Node>>,
    headers: HeaderMap,
    Json(request): Json<KeysRequest>,
) -> Response {
    if let Some(trouble) = trouble(&node, &headers, "verify").await {
        return trouble;
    }
    let (leaves, after) = request.parse().unwrap();
    let found = node.sorted(after.as_ref(), |object| leaves.contains(&Leaf::of(object.position())));
    let entry = |(object, record): &(ObjectKey, Record)| KeyEntry {
        object: object.clone(),
        digest: RecordDigest::of(record),
        dead_since: None,
    };
    let entries: Vec<KeyEntry> = found.iter().take(PAGE).map(entry).collect();
    let next = if found.len() > PAGE { entries.last().map(|entry| &entry.object) } else { None };
    Json(KeysAnswer::new(&entries, next)).into_response()
}

async fn digests(
    State(node): State<Arc<Node>>,
    headers: HeaderMap,
    Json(request): Json<DigestsRequest>,
) -> Response {
    if let Some(trouble) = trouble(&node, &headers, "verify").await {
        return trouble;
    }
    let mut tree = Tree::new();
    for (object, record) in node.sorted(None, |_| true) {
        tree.change(request.n, &object, None, Some(RecordDigest::of(&record)));
    }
    let digest = |prefix| tree.digest(request.n, prefix);
    Json(DigestsAnswer {
        ring: RingVersion::default(),
        store: StoreId(node.id.0),
        state: TreeState::Built,
        digests: request.prefixes().unwrap().into_iter().map(digest).collect(),
    })
    .into_response()
}

async fn batch(State(node): State<Arc<Node>>, headers: HeaderMap, body: Bytes) -> Response {
    if let Some(trouble) = trouble(&node, &headers, "backup").await {
        return trouble;
    }
    assert!(headers.contains_key("x-atoll-sender"), "merges must say who sends them");
    let mut replicas = node.replicas.lock().unwrap();
    let mut merge = |op| match op {
        ReplicaOp::Merge { object, record, hint_for: None, .. } => {
            let merged = replicas.get(&object).map_or(record.clone(), |own| own.sync(&record));
            replicas.insert(object, merged);
            ReplicaResult::Merged
        }
        _ => ReplicaResult::Refused { code: "internal".to_owned() },
    };
    let results: Vec<_> = decode_request(body).unwrap().into_iter().map(&mut merge).collect();
    encode_response(&results).unwrap().into_response()
}
