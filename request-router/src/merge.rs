//! Merging records into all their replicas, for a restore: grouped by node, in batches, all nodes at
//! once, each batch as background work.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use dynamo_core::admission::Kind;
use dynamo_core::clock::record::Record;
use dynamo_core::id::NodeId;
use dynamo_core::key::ObjectKey;
use dynamo_core::limits::{EXCHANGE_BATCH_BYTES, REPLICA_BATCH_MAX};
use dynamo_core::params::Durability;
use dynamo_core::ring::ReplicaSets;
use dynamo_core::survey::spread::Spread;
use dynamo_core::wire::frame::{FRAME_CONTENT_TYPE, FrameError};
use dynamo_core::wire::headers::BACKGROUND;
use dynamo_core::wire::operations::{MergedAt, MergedDocument};
use dynamo_core::wire::replica::{
    REPLICA_BATCH_PATH, ReplicaOp, ReplicaResult, decode_response, encode_request,
};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde::Serialize;
use service_kit::http::error::{ErrorCode, Outcome, Problem};
use service_kit::peer::PeerRequest;
use tokio::task::JoinSet;

use crate::limits::BULK_TIMEOUT;
use crate::ring_view::RingView;
use crate::state::App;

/// What became of the records of one node.
struct Taken {
    node: NodeId,
    /// Places of the records that it merged.
    merged: BTreeSet<usize>,
    failed: u64,
    error: Option<String>,
}

/// Merges every record where it belongs now, and says how far each has spread.
pub async fn merge_everywhere(
    app: &App,
    ring: &Arc<RingView>,
    records: Vec<(ObjectKey, Record)>,
) -> MergedDocument {
    let sets: Vec<ReplicaSets> = records
        .iter()
        .map(|(object, _)| {
            ring.view.replica_sets(object.position(), ring.view.bucket(object.bucket()).n)
        })
        .collect();
    let mut of_node: BTreeMap<NodeId, Vec<usize>> = BTreeMap::new();
    for (place, sets) in sets.iter().enumerate() {
        for node in sets.write_targets() {
            of_node.entry(node).or_default().push(place);
        }
    }
    let records = Arc::new(records);
    let mut calls = JoinSet::new();
    for (node, places) in of_node {
        let (app, ring, records) = (app.clone(), Arc::clone(ring), Arc::clone(&records));
        calls.spawn(async move { merge_at(&app, &ring, node, &records, places).await });
    }
    let mut taken = calls.join_all().await;
    taken.sort_by_key(|taken| taken.node);
    let mut document =
        MergedDocument { records: records.len() as u64, ..MergedDocument::default() };
    for (place, sets) in sets.iter().enumerate() {
        let took = |node| taken.iter().any(|t| t.node == node && t.merged.contains(&place));
        match Spread::of(sets, took) {
            Spread::Everywhere => document.everywhere += 1,
            Spread::Quorum => document.quorum += 1,
            Spread::Short => document.short += 1,
        }
    }
    document.nodes = taken
        .into_iter()
        .map(|taken| MergedAt {
            node: taken.node,
            name: ring.view.node(taken.node).map(|info| info.name.clone()),
            merged: taken.merged.len() as u64,
            failed: taken.failed,
            error: taken.error,
        })
        .collect();
    document
}

/// Merges the records at these places at one node, batch after batch. After a batch without an
/// answer the rest is not tried: the caller repeats the page anyway.
async fn merge_at(
    app: &App,
    ring: &RingView,
    node: NodeId,
    records: &[(ObjectKey, Record)],
    places: Vec<usize>,
) -> Taken {
    let mut taken = Taken { node, merged: BTreeSet::new(), failed: 0, error: None };
    let mut rest = places.as_slice();
    while !rest.is_empty() {
        let (body, length) = match encode_batch(records, rest) {
            Ok(encoded) => encoded,
            Err(error) => {
                tracing::error!(%node, %error, "a record could not be encoded");
                taken.failed += rest.len() as u64;
                taken.error.get_or_insert_with(|| ErrorCode::Internal.as_str().to_owned());
                break;
            }
        };
        let (batch, later) = rest.split_at(length);
        match merge_batch(app, ring, node, body, length).await {
            Ok(results) => {
                for (place, result) in batch.iter().zip(results) {
                    match result {
                        ReplicaResult::Merged => {
                            taken.merged.insert(*place);
                        }
                        ReplicaResult::Refused { code } => {
                            taken.failed += 1;
                            taken.error.get_or_insert(code);
                        }
                        ReplicaResult::Record { .. }
                        | ReplicaResult::Same
                        | ReplicaResult::Absent { .. } => taken.failed += 1,
                    }
                }
            }
            Err(problem) => {
                taken.failed += rest.len() as u64;
                taken.error.get_or_insert_with(|| problem.code().as_str().to_owned());
                break;
            }
        }
        rest = later;
    }
    taken
}

/// How many of these records go into the next batch: at least one.
fn batch_len(records: &[(ObjectKey, Record)], places: &[usize]) -> usize {
    let mut bytes = 0;
    let fits = places.iter().take(REPLICA_BATCH_MAX).take_while(|place| {
        bytes += records
            .get(**place)
            .map_or(0, |(object, record)| object.key().len() + record.payload_bytes());
        bytes <= EXCHANGE_BATCH_BYTES
    });
    fits.count().max(1)
}

/// The next batch as a message, and how many records it has: fewer where their metadata is long.
fn encode_batch(
    records: &[(ObjectKey, Record)],
    places: &[usize],
) -> Result<(Bytes, usize), FrameError> {
    let mut length = batch_len(records, places);
    loop {
        let batch = places.iter().take(length).filter_map(|place| records.get(*place));
        let ops: Vec<ReplicaOp> = batch
            .map(|(object, record)| ReplicaOp::Merge {
                object: object.clone(),
                record: record.clone(),
                hint_for: None,
                durability: Durability::Fsync,
                puts: Vec::new(),
            })
            .collect();
        match encode_request(&ops) {
            Ok(body) => return Ok((body, length)),
            Err(FrameError::HeaderTooLong) if length > 1 => length /= 2,
            Err(error) => return Err(error),
        }
    }
}

async fn merge_batch(
    app: &App,
    ring: &RingView,
    node: NodeId,
    body: Bytes,
    expected: usize,
) -> Result<Vec<ReplicaResult>, Problem> {
    let (path, form) = (REPLICA_BATCH_PATH, FRAME_CONTENT_TYPE);
    let answer = app.ask_bulk(ring, node, Kind::Backup, path, (form, body)).await?;
    decode_response(answer, expected).map_err(|error| {
        tracing::warn!(%node, %error, "the answer to a batch of records cannot be read");
        Problem::new(ErrorCode::BadFrame, "a storage node gave an unreadable answer")
    })
}

impl App {
    /// One request of background work to one storage node, with a JSON body.
    ///
    /// # Errors
    /// As [`App::ask_bulk`].
    pub async fn ask_bulk_json(
        &self,
        ring: &RingView,
        node: NodeId,
        kind: Kind,
        path: &str,
        body: &impl Serialize,
    ) -> Result<Bytes, Problem> {
        let body = serde_json::to_vec(body).map_err(|error| {
            tracing::error!(%error, "a question could not be encoded");
            Problem::new(ErrorCode::Internal, "the question could not be encoded")
        })?;
        self.ask_bulk(ring, node, kind, path, ("application/json", Bytes::from(body))).await
    }

    /// One request of background work to one storage node.
    ///
    /// # Errors
    /// Its refusal; 503 `not_ready` where it does not answer. Repeating it is safe.
    pub async fn ask_bulk(
        &self,
        ring: &RingView,
        node: NodeId,
        kind: Kind,
        path: &str,
        (form, body): (&'static str, Bytes),
    ) -> Result<Bytes, Problem> {
        let silent = || {
            let detail = "a storage node that is needed does not answer";
            Problem::new(ErrorCode::NotReady, detail).outcome(Outcome::Unknown).retry_after_s(1)
        };
        let address = ring.view.node(node).and_then(|info| info.addresses.storage.as_deref());
        let address = address.ok_or_else(silent)?;
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(form));
        let kind = HeaderValue::from_static(kind.as_str());
        headers.insert(HeaderName::from_static(BACKGROUND), kind);
        let request = PeerRequest {
            address,
            method: Method::POST,
            path,
            headers,
            body,
            timeout: BULK_TIMEOUT,
            idempotent: true,
        };
        let response = self.peers.call(request).await.map_err(|error| {
            tracing::warn!(%node, %error, "a storage node did not answer a bulk request");
            silent()
        })?;
        Ok(response.into_success()?.body)
    }
}

#[cfg(test)]
mod tests {
    use dynamo_core::clock::dot::Dot;
    use dynamo_core::clock::dvv::Dvv;
    use dynamo_core::clock::hlc::Hlc;
    use dynamo_core::clock::record::{Content, Sibling, Value};
    use dynamo_core::id::{ActorId, PutId};

    use super::*;

    fn records(count: usize, bytes: usize, meta: usize) -> Vec<(ObjectKey, Record)> {
        let value = Value {
            bytes: Bytes::from(vec![0; bytes]),
            content_type: Some("t".repeat(meta)),
            meta: Vec::new(),
            expires_at: None,
        };
        let dot = Dot { actor: ActorId { node: NodeId(1), epoch: 1 }, counter: 1 };
        let content = Content::Value(value);
        let sibling = Sibling { dot, put_id: PutId(1), stamp: Hlc::default(), content };
        let record = Record::new(Dvv::new(), [sibling]);
        let object = |index| ObjectKey::parse("b", &format!("{index}")).unwrap();
        (0..count).map(|index| (object(index), record.clone())).collect()
    }

    #[test]
    fn a_batch_has_room_for_one_record_and_for_no_more_than_a_message() {
        let cases = [
            (1, 10, 10, 1),
            (REPLICA_BATCH_MAX + 5, 10, 10, REPLICA_BATCH_MAX),
            (9, EXCHANGE_BATCH_BYTES / 4, 10, 3),
            (9, EXCHANGE_BATCH_BYTES + 1, 10, 1),
            (9, 10, dynamo_core::limits::FRAME_HEADER_BYTES_MAX / 5, 4),
        ];
        for (count, bytes, meta, expected) in cases {
            let records = records(count, bytes, meta);
            let places: Vec<usize> = (0..count).collect();
            let (_, length) = encode_batch(&records, &places).unwrap();
            assert_eq!(length, expected, "{count} of {bytes} bytes, {meta} of metadata");
        }
        let monster = records(1, 1, dynamo_core::limits::FRAME_HEADER_BYTES_MAX);
        assert!(encode_batch(&monster, &[0]).is_err());
    }
}
