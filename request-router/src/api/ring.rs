//! `/v1/ring…`: the snapshot that client libraries poll, and where one key lies.

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use bytes::Bytes;
use dynamo_core::id::NodeId;
use dynamo_core::limits::RING_WAIT_MS_MAX;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde::Serialize;
use service_kit::auth::scope::Scope;
use service_kit::http::error::Problem;
use std::sync::Arc;
use std::time::Duration;

use super::call::Call;
use super::fresh_json;
use crate::request::conditions::{ReadVerdict, on_read, parse};
use crate::request::query::Query;
use crate::request::{bad_parameter, path};
use crate::ring_view::RingView;
use crate::state::App;

/// The ring
///
/// The whole snapshot that requests are routed by. With If-None-Match and wait_ms the answer waits
/// for a change.
#[utoipa::path(get, path = "/v1/ring", tag = "cluster",
    params(
        ("wait_ms" = Option<u64>, Query, description = "longest wait for a change, 0 to 60,000"),
        ("If-None-Match" = Option<String>, Header, description = "the ETag of the known snapshot"),
    ),
    responses((status = 200, description = "The snapshot", body = Object),
              (status = 304, description = "Unchanged"),
              (status = 503, description = "No ring is known yet")))]
pub async fn ring(State(app): State<App>, request: Request) -> Response {
    let (call, _) = Call::begin(&app, request);
    let result = snapshot(&app, call.query(), call.headers()).await;
    call.conclude(result)
}

async fn snapshot(
    app: &App,
    query: Option<&str>,
    headers: &HeaderMap,
) -> Result<Response, Problem> {
    let query = Query::parse(query, &["wait_ms"])?;
    let wait = Duration::from_millis(query.number("wait_ms", 0..=RING_WAIT_MS_MAX)?.unwrap_or(0));
    let condition = parse(headers)?;
    let known = |ring: &RingView| {
        let etag = ring.etag.to_str().unwrap_or_default().trim_matches('"');
        headers.contains_key(IF_NONE_MATCH)
            && on_read(condition.as_ref(), Some(etag)) == ReadVerdict::NotModified
    };
    let mut current = app.ring()?;
    if known(&current) && !wait.is_zero() {
        let mut changes = app.watch.subscribe();
        let change = changes.wait_for(|ring| ring.as_ref().is_some_and(|ring| !known(ring)));
        let change = app.shutdown.unless_requested(tokio::time::timeout(wait, change));
        if let Some(Ok(Ok(changed))) = change.await
            && let Some(ring) = changed.as_ref()
        {
            current = Arc::clone(ring);
        }
    }
    Ok(if known(&current) { unchanged(&current) } else { whole(&current) })
}

fn whole(ring: &RingView) -> Response {
    let mut response = with_tag(ring, Body::from(ring.encoded.clone()));
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, json);
    response
}

fn unchanged(ring: &RingView) -> Response {
    let mut response = with_tag(ring, Body::empty());
    *response.status_mut() = StatusCode::NOT_MODIFIED;
    response
}

fn with_tag(ring: &RingView, body: Body) -> Response {
    let mut response = Response::new(body);
    response.headers_mut().insert(ETAG, ring.etag.clone());
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

/// Where one key lies.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Preference {
    /// The bucket.
    bucket: String,
    /// The key, percent-encoded.
    key: String,
    /// Its position in the hash space, 32 hexadecimal digits.
    position: String,
    /// Its partition.
    partition: u32,
    /// Replicas of each object of the bucket.
    n: u8,
    /// The ring that says so.
    ring_version: String,
    /// The preference list in order, then former holders that still answer reads.
    list: Vec<Place>,
}

/// One node of a preference list.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Place {
    /// The node.
    node: String,
    /// Its name.
    name: Option<String>,
    /// Its failure domain.
    zone: Option<String>,
    /// `primary`, `fallback` or `former_holder`.
    role: &'static str,
    /// Whether it advertises to hold the partition completely.
    holder: bool,
    /// Whether this router reaches it.
    reachable: bool,
}

/// Where a key lies
#[utoipa::path(get, path = "/v1/ring/preference", tag = "cluster",
    params(("bucket" = String, Query, description = "the bucket"),
           ("key" = String, Query, description = "the key, percent-encoded")),
    responses((status = 200, description = "Its preference list", body = Preference),
              (status = 400, description = "Not a bucket and a key")))]
pub async fn preference(State(app): State<App>, request: Request) -> Response {
    let (call, _) = Call::begin(&app, request);
    let result = place(&call).map(fresh_json);
    call.conclude(result)
}

fn place(call: &Call<'_>) -> Result<Preference, Problem> {
    let app = call.app;
    let query = Query::parse(call.query(), &["bucket", "key"])?;
    let missing = |name| bad_parameter(name, "is required");
    let bucket = query.text("bucket")?.ok_or_else(|| missing("bucket"))?;
    let key = query.bytes("key").ok_or_else(|| missing("key"))?;
    let object = path::named(bucket, Bytes::copy_from_slice(key))?;
    call.permit(Scope::Read, object.bucket())?;
    let ring = app.ring()?;
    let view = &ring.view;
    let n = view.bucket(object.bucket()).n;
    let partition = view.ring().partition_of(object.position());
    let sets = view.replica_sets(object.position(), n);
    let place = |node: NodeId, role: &'static str| {
        let info = view.node(node);
        Place {
            node: node.to_string(),
            name: info.map(|info| info.name.clone()),
            zone: info.and_then(|info| info.zone.clone()),
            role,
            holder: view.holdings().holds(node, partition),
            reachable: app.balance.is_reachable(node),
        }
    };
    let former = sets.holders.iter().filter(|node| !sets.owners.contains(node));
    let list = sets
        .owners
        .iter()
        .map(|node| (node, "primary"))
        .chain(sets.fallbacks.iter().map(|node| (node, "fallback")))
        .chain(former.map(|node| (node, "former_holder")))
        .map(|(node, role)| place(*node, role))
        .collect();
    Ok(Preference {
        bucket: bucket.to_owned(),
        key: object.key_text(),
        position: format!("{:032x}", object.position().0),
        partition: partition.0,
        n,
        ring_version: view.version().to_string(),
        list,
    })
}
