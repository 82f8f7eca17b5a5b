//! `/v1/admin/…`: everything that is stored, page by page, for backups, restores and verification.
//! Every call to a storage node is marked as background work and waits for its share there, so that
//! a backup of a busy cluster takes longer and slows nobody down.
//!
//! Not here: how pages are joined, where a record has to go, and when it has spread far enough
//! ([`dynamo_core::survey`]).

use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::response::Response;
use bytes::Bytes;
use dynamo_core::admission::Kind;
use dynamo_core::id::{NodeId, PartitionId};
use dynamo_core::key::ObjectKey;
use dynamo_core::limits::{TRANSFER_PAGE_BYTES_MAX, TREE_LEAVES_MAX};
use dynamo_core::merkle::{Leaf, Prefix};
use dynamo_core::survey::page::{halve, join_pages};
use dynamo_core::wire::frame::{FRAME_CONTENT_TYPE, FrameError};
use dynamo_core::wire::headers::ACKS;
use dynamo_core::wire::operations::{
    ListRequest, MergedDocument, RecordsRequest, RootDocument, RootRequest,
};
use dynamo_core::wire::partition::{Page, PageRequest, decode_page, encode_page, page_path};
use dynamo_core::wire::tree::{
    DigestsAnswer, DigestsRequest, KeysAnswer, KeysRequest, ObjectDto, TREE_DIGESTS_PATH,
    TREE_KEYS_PATH,
};
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderName, HeaderValue, StatusCode};
use service_kit::http::error::{ErrorCode, Outcome, Problem};
use std::sync::Arc;
use tokio::task::JoinSet;

use super::call::Call;
use super::{fresh_json, no_partition, resolve};
use crate::limits::MERGE_BODY_BYTES_MAX;
use crate::merge::merge_everywhere;
use crate::ring_view::RingView;
use crate::state::App;

/// All records of a partition
///
/// A page with all versions and clocks, as the holders of the partition have them together: what
/// any of them lacks, the others add.
#[utoipa::path(post, path = "/v1/admin/partitions/{partition}/records", tag = "admin",
    params(("partition" = u32, Path, description = "the partition")),
    request_body(content = Object, description = "{} or {\"after\":{\"bucket\":\"b\",\"key\":\"k\"}}"),
    responses((status = 200, description = "A frame; X-Atoll-Acks: holders that answered/asked",
                  content_type = "application/vnd.atoll.frame"),
              (status = 422, description = "No such partition"),
              (status = 503, description = "Too few holders answer")))]
pub async fn records(
    State(app): State<App>,
    Path(partition): Path<String>,
    request: Request,
) -> Response {
    let (call, body) = Call::begin(&app, request);
    let result = page(&call, &partition, body).await;
    call.conclude(result)
}

async fn page(call: &Call<'_>, partition: &str, body: Body) -> Result<Response, Problem> {
    call.no_parameters()?;
    let (ring, partition) = (call.app.ring()?, partition_of(call, partition)?);
    let (request, _) = call.json::<RecordsRequest>(body).await?;
    let holders: Vec<NodeId> = ring.view.holdings().holders_of(partition).collect();
    let asked = holders.len();
    let quorum = if request.partial { 1 } else { usize::from(ring.view.defaults().n / 2 + 1) };
    // Held until the answer is made: so much may be in memory.
    let _room = call.app.budget.reserve(asked.saturating_mul(TRANSFER_PAGE_BYTES_MAX))?;
    let (pages, problem) = pages(call.app, &ring, partition, holders, &request).await;
    let got = pages.len();
    let joined = if got < quorum { None } else { join_pages(pages) };
    let joined = joined.ok_or_else(|| too_few(got, quorum, problem))?;
    let frame = encoded(joined)?;
    let mut response = Response::new(Body::from(frame));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(FRAME_CONTENT_TYPE));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Ok(acks) = HeaderValue::try_from(format!("{got}/{asked}")) {
        headers.insert(HeaderName::from_static(ACKS), acks);
    }
    Ok(response)
}

/// The page as a frame; of one with too much metadata the part that has room.
fn encoded(mut page: Page) -> Result<Bytes, Problem> {
    loop {
        let error = match encode_page(&page) {
            Ok(frame) => return Ok(frame),
            Err(error) => error,
        };
        page = match halve(page) {
            Some(half) if matches!(error, FrameError::HeaderTooLong) => half,
            _ => {
                tracing::error!(%error, "a page could not be encoded");
                return Err(Problem::new(ErrorCode::Internal, "the page could not be encoded"));
            }
        };
    }
}

/// The pages of all holders that give one, and the refusal of one that does not.
async fn pages(
    app: &App,
    ring: &Arc<RingView>,
    partition: PartitionId,
    holders: Vec<NodeId>,
    request: &RecordsRequest,
) -> (Vec<Page>, Option<Problem>) {
    let mut calls = JoinSet::new();
    for node in holders {
        let (app, ring) = (app.clone(), Arc::clone(ring));
        let request = PageRequest::from(request);
        calls.spawn(async move {
            let path = page_path(partition);
            let body = app.ask_bulk_json(&ring, node, Kind::Backup, &path, &request).await?;
            decode_page(body).map_err(|error| {
                tracing::warn!(%node, %error, "a page of records cannot be read");
                Problem::new(ErrorCode::Internal, "a storage node gave an unreadable page")
            })
        });
    }
    let (mut pages, mut problem) = (Vec::new(), None);
    for answer in calls.join_all().await {
        match answer {
            Ok(page) => pages.push(page),
            Err(refused) => problem = Some(refused),
        }
    }
    (pages, problem)
}

/// Too few holders answered. Where one of them only has no time now, that is the answer: it says
/// when to come back.
fn too_few(got: usize, quorum: usize, problem: Option<Problem>) -> Problem {
    if let Some(problem) = problem.filter(|problem| problem.code() == ErrorCode::Overloaded) {
        return problem;
    }
    let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    Problem::new(ErrorCode::QuorumUnavailable, "too few nodes that hold the partition answer")
        .counts(count(quorum), count(got))
        .outcome(Outcome::NotApplied)
}

/// Merge records into all their replicas
///
/// A page as …/records gives it, of whatever partition and cluster: every record is merged where
/// its key belongs now. Merging a page twice changes nothing.
#[utoipa::path(post, path = "/v1/admin/merge", tag = "admin",
    request_body(content = Vec<u8>, content_type = "application/vnd.atoll.frame"),
    responses((status = 200, description = "How far each record has spread", body = Object),
              (status = 400, description = "Not a page"),
              (status = 413, description = "The page is too large")))]
pub async fn merge(State(app): State<App>, request: Request) -> Response {
    let (call, body) = Call::begin(&app, request);
    let result = put_back(&call, body).await.map(fresh_json);
    call.conclude(result)
}

async fn put_back(call: &Call<'_>, body: Body) -> Result<MergedDocument, Problem> {
    call.no_parameters()?;
    let ring = call.app.ring()?;
    if ring.view.ring().is_empty() {
        return Err(Problem::new(ErrorCode::NotReady, "the ring has no members yet"));
    }
    let held = call.body(body, MERGE_BODY_BYTES_MAX).await?;
    let page = decode_page(held.bytes().clone()).map_err(|error| {
        let detail = format!("the body is not a page of records: {error}");
        Problem::new(ErrorCode::BadFrame, detail)
    })?;
    let merged = merge_everywhere(call.app, &ring, page.records).await;
    Ok(merged)
}

/// Keys of a partition at one node
///
/// Computed from the records themselves, whose checksums are verified on the way.
#[utoipa::path(post, path = "/v1/admin/partitions/{partition}/keys", tag = "admin",
    params(("partition" = u32, Path, description = "the partition")),
    request_body(content = Object,
        description = "{\"node\":\"host-1\",\"n\":3,\"first\":0,\"last\":255}"),
    responses((status = 200, description = "A page of keys with digests", body = Object),
              (status = 404, description = "No such node"),
              (status = 422, description = "Leaves that are not of the partition"),
              (status = 503, description = "The node does not answer or has no time now")))]
pub async fn keys(
    State(app): State<App>,
    Path(partition): Path<String>,
    request: Request,
) -> Response {
    let (call, body) = Call::begin(&app, request);
    let result = list(&call, &partition, body).await.map(fresh_json);
    call.conclude(result)
}

async fn list(call: &Call<'_>, partition: &str, body: Body) -> Result<KeysAnswer, Problem> {
    call.no_parameters()?;
    let (ring, partition) = (call.app.ring()?, partition_of(call, partition)?);
    let (request, _) = call.json::<ListRequest>(body).await?;
    let node = resolve(&ring.view, &request.node)?;
    let unprocessable = |why: &str| Problem::new(ErrorCode::Unprocessable, why);
    let own = Prefix::of_partition(ring.view.partitions(), partition).leaves();
    let inside = own.contains(&request.first) && own.contains(&request.last);
    if !inside || request.first > request.last {
        return Err(unprocessable("first to last are leaves of the partition, in order"));
    }
    let leaves: Vec<Leaf> = (request.first..=request.last).map(Leaf).collect();
    if leaves.len() > TREE_LEAVES_MAX {
        return Err(unprocessable("too many leaves for one page"));
    }
    let after = request.after.as_ref().map(object).transpose()?;
    let question = KeysRequest::new(request.n, &leaves, after.as_ref());
    question.parse().map_err(|error| unprocessable(&error.to_string()))?;
    let asked =
        call.app.ask_bulk_json(&ring, node, Kind::Verify, TREE_KEYS_PATH, &question).await?;
    let answer: KeysAnswer = read_json(node, &asked)?;
    answer.clone().parse().map_err(|error| unreadable(node, &error))?;
    Ok(answer)
}

/// The digest of a partition at one node
///
/// The root of its Merkle tree, by which replicas are compared quickly.
#[utoipa::path(post, path = "/v1/admin/partitions/{partition}/digest", tag = "admin",
    params(("partition" = u32, Path, description = "the partition")),
    request_body(content = Object, description = "{\"node\":\"host-1\",\"n\":3}"),
    responses((status = 200, description = "The digest, or that the tree is being built", body = Object),
              (status = 404, description = "No such node"),
              (status = 503, description = "The node does not answer or has no time now")))]
pub async fn digest(
    State(app): State<App>,
    Path(partition): Path<String>,
    request: Request,
) -> Response {
    let (call, body) = Call::begin(&app, request);
    let result = root(&call, &partition, body).await.map(fresh_json);
    call.conclude(result)
}

async fn root(call: &Call<'_>, partition: &str, body: Body) -> Result<RootDocument, Problem> {
    call.no_parameters()?;
    let (ring, partition) = (call.app.ring()?, partition_of(call, partition)?);
    let (request, _) = call.json::<RootRequest>(body).await?;
    let node = resolve(&ring.view, &request.node)?;
    let question =
        DigestsRequest::new(request.n, &[Prefix::of_partition(ring.view.partitions(), partition)]);
    question
        .prefixes()
        .map_err(|error| Problem::new(ErrorCode::Unprocessable, error.to_string()))?;
    let asked =
        call.app.ask_bulk_json(&ring, node, Kind::Verify, TREE_DIGESTS_PATH, &question).await?;
    let answer: DigestsAnswer = read_json(node, &asked)?;
    answer.check(1).map_err(|error| unreadable(node, &error))?;
    let digest = answer.digests.first().copied();
    Ok(RootDocument { node, state: answer.state, digest })
}

/// The partition that a path names.
fn partition_of(call: &Call<'_>, text: &str) -> Result<PartitionId, Problem> {
    let ring = call.app.ring()?;
    let partitions = ring.view.partitions();
    let number = crate::request::query::digits(text).and_then(|number| u32::try_from(number).ok());
    let partition = number.map(PartitionId).filter(|partition| partitions.contains(*partition));
    partition.ok_or_else(|| no_partition(text, partitions))
}

fn object(dto: &ObjectDto) -> Result<ObjectKey, Problem> {
    ObjectKey::try_from(dto)
        .map_err(|error| Problem::new(ErrorCode::Unprocessable, error.to_string()))
}

fn read_json<T: serde::de::DeserializeOwned>(node: NodeId, body: &Bytes) -> Result<T, Problem> {
    serde_json::from_slice(body).map_err(|error| unreadable(node, &error))
}

fn unreadable(node: NodeId, error: &dyn std::error::Error) -> Problem {
    tracing::warn!(%node, %error, "an answer is not the expected document");
    let status = StatusCode::INTERNAL_SERVER_ERROR;
    Problem::new(ErrorCode::for_status(status), "a storage node gave an unreadable answer")
}
