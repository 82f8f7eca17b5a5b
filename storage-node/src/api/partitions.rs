//! Partitions as units: what the node has of each, reading one, taking one over, giving one up
//! (paper section 4.9).

use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::Response;
use bytes::Bytes;
use dynamo_core::cluster_view::ClusterView;
use dynamo_core::id::PartitionId;
use dynamo_core::wire::frame::FrameError;
use dynamo_core::wire::partition::{
    DropAnswer, DropRequest, Page, PageRequest, PartitionMessageError, PartitionsDocument,
    PartitionsRequest, encode_page,
};
use http::HeaderMap;
use service_kit::http::error::{ErrorCode, Problem};
use service_kit::http::json::{JsonAnswer, parse_strict, require_json};
use service_kit::peer::ProcessRole;
use service_kit::peer::gate::{PeerContext, PeerSender};

use super::coordinate::frame_response;
use super::{Api, blocking, only_nodes};
use crate::node::{Node, store_problem};
use crate::store::pages::{PageOf, PartitionPage};

/// `GET /v1/partitions`.
///
/// # Errors
/// The problem to answer with.
pub async fn list(State(api): State<Api>) -> Result<JsonAnswer<PartitionsDocument>, Problem> {
    document(&api.node).map(JsonAnswer)
}

/// `POST /v1/partitions/{partition}/page`.
///
/// # Errors
/// The problem to answer with.
pub async fn page(
    State(api): State<Api>,
    Extension(peer): Extension<PeerContext>,
    Path(partition): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    require_json(&headers)?;
    only_nodes(&peer)?;
    let held = api.bodies.read(&headers, body).await?;
    let request: PageRequest = parse_strict(held.bytes())?;
    let after = request.after().map_err(bad_message)?;
    let node = Arc::clone(&api.node);
    let view = node.ring()?;
    let partition = partition.parse().map(PartitionId).ok();
    let partition = partition
        .filter(|partition| view.partitions().contains(*partition))
        .ok_or_else(|| Problem::new(ErrorCode::NotFound, "there is no such partition"))?;
    let slice = node.slices.admit(&headers, peer.deadline).await?;
    let frame = blocking(move || {
        let _slice = slice;
        let of = PageOf { view: &view, partition, for_node: request.for_node };
        let read = node.store.partition_page(&of, after.as_ref()).map_err(store_problem)?;
        let (unreadable, (frame, records)) = (read.unreadable, encoded(&node, &view, read)?);
        let metrics = &node.metrics.store.partitions;
        metrics.page_records.inc_by(records);
        metrics.page_unreadable.inc_by(unreadable);
        metrics.page_bytes.inc_by(frame.len() as u64);
        Ok::<_, Problem>(frame)
    })
    .await??;
    Ok(frame_response(frame))
}

/// A page as a frame, with its number of records: of as many as have room for their metadata.
fn encoded(
    node: &Node,
    view: &ClusterView,
    mut read: PartitionPage,
) -> Result<(Bytes, u64), Problem> {
    let (ring, store) = (view.version(), node.epochs.file().store_id);
    loop {
        let (records, next) = (read.records.clone(), read.next.clone());
        let page = Page { ring, store, records, unreadable: read.unreadable, next };
        match encode_page(&page) {
            Ok(frame) => return Ok((frame, page.records.len() as u64)),
            Err(FrameError::HeaderTooLong) if read.halve() => {}
            Err(error) => {
                tracing::error!(%error, "a page could not be encoded");
                return Err(Problem::new(ErrorCode::Internal, "the page could not be encoded"));
            }
        }
    }
}

/// `POST /v1/partitions/hold`.
///
/// # Errors
/// The problem to answer with.
pub async fn hold(
    State(api): State<Api>,
    Extension(peer): Extension<PeerContext>,
    headers: HeaderMap,
    body: Body,
) -> Result<JsonAnswer<PartitionsDocument>, Problem> {
    let request = partitions_request(&api, &peer, &headers, body).await?;
    api.node.hold(request.ring, &request.partitions).await?;
    document(&api.node).map(JsonAnswer)
}

/// `POST /v1/partitions/release`.
///
/// # Errors
/// The problem to answer with.
pub async fn release(
    State(api): State<Api>,
    Extension(peer): Extension<PeerContext>,
    headers: HeaderMap,
    body: Body,
) -> Result<JsonAnswer<PartitionsDocument>, Problem> {
    let request = partitions_request(&api, &peer, &headers, body).await?;
    api.node.release(request.ring, &request.partitions).await?;
    document(&api.node).map(JsonAnswer)
}

/// `POST /v1/partitions/drop`.
///
/// # Errors
/// The problem to answer with.
pub async fn drop_page(
    State(api): State<Api>,
    Extension(peer): Extension<PeerContext>,
    headers: HeaderMap,
    body: Body,
) -> Result<JsonAnswer<DropAnswer>, Problem> {
    require_json(&headers)?;
    own_worker(&api.node, &peer)?;
    let held = api.bodies.read(&headers, body).await?;
    let request: DropRequest = parse_strict(held.bytes())?;
    let _slice = api.node.slices.admit(&headers, peer.deadline).await?;
    api.node.drop_page(request.ring, request.partition).await.map(JsonAnswer)
}

async fn partitions_request(
    api: &Api,
    peer: &PeerContext,
    headers: &HeaderMap,
    body: Body,
) -> Result<PartitionsRequest, Problem> {
    require_json(headers)?;
    own_worker(&api.node, peer)?;
    let held = api.bodies.read(headers, body).await?;
    let request: PartitionsRequest = parse_strict(held.bytes())?;
    request.check().map_err(bad_message)?;
    Ok(request)
}

/// What a node holds is decided on its own host. A router does not count, whatever node it names: it is
/// none, and no certificate is held against its word.
fn own_worker(node: &Node, peer: &PeerContext) -> Result<(), Problem> {
    let is_own = |sender: &PeerSender| sender.node == node.me && sender.role == ProcessRole::Worker;
    if peer.sender.as_ref().is_some_and(is_own) {
        return Ok(());
    }
    Err(Problem::new(ErrorCode::Forbidden, "only the worker of this node may do this"))
}

fn document(node: &Node) -> Result<PartitionsDocument, Problem> {
    let (view, partitions) = node.partition_infos()?;
    Ok(PartitionsDocument {
        ring: view.version(),
        store: node.epochs.file().store_id,
        epoch: node.epochs.actor().epoch,
        tree: node.store.tree_stats().state,
        partitions,
    })
}

#[expect(clippy::needless_pass_by_value, reason = "used as the function of map_err")]
fn bad_message(error: PartitionMessageError) -> Problem {
    Problem::new(ErrorCode::BadRequest, error.to_string())
}
