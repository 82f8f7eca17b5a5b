//! A storage node of the tests: real messages, real records, no replication; and ways to behave
//! as nodes in trouble do.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use dynamo_core::actor::Actor;
use dynamo_core::clock::context::ContextError;
use dynamo_core::clock::record::{Content, Record, Value};
use dynamo_core::conditions::check_condition;
use dynamo_core::id::NodeId;
use dynamo_core::key::ObjectKey;
use dynamo_core::limits::{LOAD_WINDOWS_S, PEER_SIGHT_WINDOW_S};
use dynamo_core::params::{Durability, Reconciliation};
use dynamo_core::replica::{PutCommand, PutRefusal, coordinate_put};
use dynamo_core::time::WallMs;
use dynamo_core::versions::{put_view, read_view};
use dynamo_core::wire::coordinate::{
    ContentDto, Evidence, GetAnswer, GetMessage, PutAnswer, PutMessage, ReplicaView,
};
use dynamo_core::wire::frame::{decode_frame, encode_frame};
use dynamo_core::wire::load::{LOAD_PATH, LoadDocument, LoadWindow};
use dynamo_core::wire::peers::{PEERS_PATH, PeerSight, PeersDocument};
use http::{HeaderMap, HeaderName, HeaderValue};
use service_kit::http::error::{ErrorCode, Outcome, Problem, ReplicaResult};
use service_kit::time::Clock;

use super::worker::WorkerState;
use super::{Shared, store, worker};

/// How a node behaves.
#[derive(Debug, Clone)]
pub(crate) enum Mode {
    /// It does its work.
    Work,
    /// It takes connections and requests and never answers, as a stopped process does.
    Frozen,
    /// It refuses.
    Refuse(ErrorCode, Outcome),
    /// It is no replica under the ring of this version.
    NotOwner(String),
    /// It answers what is no frame.
    Garbage,
    /// It does its work and loses the answer.
    LoseAnswer,
}

pub(crate) struct Node {
    pub(crate) id: NodeId,
    pub(crate) address: SocketAddr,
    mode: Mutex<Mode>,
    actor: Mutex<Actor>,
    shared: Arc<Shared>,
    seen: AtomicUsize,
    pings: AtomicUsize,
    heads: Mutex<Vec<HeaderMap>>,
    /// Operations that it says it had.
    load: AtomicU64,
    /// What it says of its peers.
    sights: Mutex<Vec<PeerSight>>,
    /// What it keeps as a replica, for the requests of a backup or verification.
    pub(super) replicas: Mutex<HashMap<ObjectKey, Record>>,
    /// What its worker says and was told.
    pub(super) worker: Mutex<WorkerState>,
}

impl Node {
    pub(crate) async fn start(id: NodeId, shared: Arc<Shared>) -> Arc<Self> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let node = Arc::new(Self {
            id,
            address: listener.local_addr().unwrap(),
            mode: Mutex::new(Mode::Work),
            actor: Mutex::new(Actor::restarted(id, 0)),
            shared,
            seen: AtomicUsize::new(0),
            pings: AtomicUsize::new(0),
            heads: Mutex::default(),
            load: AtomicU64::new(0),
            sights: Mutex::default(),
            replicas: Mutex::default(),
            worker: Mutex::default(),
        });
        let routes = Router::new()
            .route("/v1/coordinate/get", post(coordinate_get))
            .route("/v1/coordinate/put", post(coordinate))
            .route("/v1/ping", get(ping))
            .route("/v1/hints", get(hints))
            .route(LOAD_PATH, get(load))
            .route(PEERS_PATH, get(peers))
            .route("/v1/hints/sync-point", post(set_sync_point))
            .route("/v1/hints/sync-point/{id}", get(sync_point))
            .merge(store::routes())
            .merge(worker::routes())
            .layer(axum::extract::DefaultBodyLimit::disable())
            .with_state(Arc::clone(&node));
        tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
        node
    }

    pub(crate) fn set(&self, mode: Mode) {
        *self.mode.lock().unwrap() = mode;
    }

    pub(super) fn mode(&self) -> Mode {
        self.mode.lock().unwrap().clone()
    }

    /// Requests to coordinate that arrived here.
    pub(crate) fn seen(&self) -> usize {
        self.seen.load(Ordering::Relaxed)
    }

    pub(crate) fn pings(&self) -> usize {
        self.pings.load(Ordering::Relaxed)
    }

    /// Has it say that it had so many operations in each window.
    pub(crate) fn load(&self, operations: u64) {
        self.load.store(operations, Ordering::Relaxed);
    }

    /// Has it say this of its peers.
    pub(crate) fn sees(&self, sights: Vec<PeerSight>) {
        *self.sights.lock().unwrap() = sights;
    }

    /// The headers of the last request to coordinate.
    pub(crate) fn last_head(&self) -> Option<HeaderMap> {
        self.heads.lock().unwrap().last().cloned()
    }

    fn evidence(&self) -> Evidence {
        Evidence {
            acks: 2,
            asked: 2,
            primaries: 2,
            n: 3,
            hinted: 0,
            coordinator: self.id,
            durability: Durability::Fsync,
        }
    }

    /// What its mode makes of a request before any work; `None` to go on.
    pub(super) async fn misbehave(&self, headers: &HeaderMap) -> Option<Response> {
        self.seen.fetch_add(1, Ordering::Relaxed);
        self.heads.lock().unwrap().push(headers.clone());
        let mode = self.mode.lock().unwrap().clone();
        match mode {
            Mode::Work | Mode::LoseAnswer => None,
            Mode::Frozen => {
                tokio::time::sleep(Duration::from_secs(3600)).await;
                None
            }
            Mode::Refuse(code, outcome) => {
                let replicas =
                    vec![ReplicaResult { node: self.id.to_string(), result: "timeout".into() }];
                let problem = Problem::new(code, format!("said by {}", self.address));
                let problem = problem.outcome(outcome).counts(2, 1).replicas(replicas);
                Some(problem.request_id("of-the-peer").into_response())
            }
            Mode::NotOwner(version) => {
                let name = HeaderName::from_static("x-atoll-ring");
                let problem = Problem::new(ErrorCode::NotOwner, "not a replica");
                let value = HeaderValue::try_from(version).unwrap();
                Some(problem.header(name, value).into_response())
            }
            Mode::Garbage => Some("this is no frame".into_response()),
        }
    }
}

fn answer(frame: Bytes) -> Response {
    ([("connection", "keep-alive"), ("x-secret-hop", "1")], frame).into_response()
}

async fn ping(State(node): State<Arc<Node>>) -> Response {
    node.pings.fetch_add(1, Ordering::Relaxed);
    if matches!(*node.mode.lock().unwrap(), Mode::Frozen) {
        std::future::pending::<()>().await;
    }
    "{}".into_response()
}

async fn load(State(node): State<Arc<Node>>) -> axum::Json<LoadDocument> {
    if matches!(*node.mode.lock().unwrap(), Mode::Frozen) {
        std::future::pending::<()>().await;
    }
    let replica = node.load.load(Ordering::Relaxed);
    let window = |window_s| LoadWindow { window_s, seconds: window_s, coordinated: 0, replica };
    axum::Json(LoadDocument { node: node.id, windows: LOAD_WINDOWS_S.map(window).to_vec() })
}

async fn peers(State(node): State<Arc<Node>>) -> axum::Json<PeersDocument> {
    if matches!(*node.mode.lock().unwrap(), Mode::Frozen) {
        std::future::pending::<()>().await;
    }
    let peers = node.sights.lock().unwrap().clone();
    let store = "healthy".to_owned();
    axum::Json(PeersDocument { node: node.id, window_s: PEER_SIGHT_WINDOW_S, store, peers })
}

async fn hints(State(node): State<Arc<Node>>) -> Response {
    if matches!(*node.mode.lock().unwrap(), Mode::Frozen) {
        std::future::pending::<()>().await;
    }
    r#"{"hints":3,"bytes":300,"targets":[]}"#.into_response()
}

async fn set_sync_point(State(node): State<Arc<Node>>, body: Bytes) -> Response {
    let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
    let id = body["id"].as_str().unwrap().to_owned();
    node.shared.sync_points.lock().unwrap().push(id.clone());
    format!(r#"{{"id":"{id}","hints":3,"done":false}}"#).into_response()
}

async fn sync_point(State(node): State<Arc<Node>>, Path(id): Path<String>) -> Response {
    if node.shared.sync_points.lock().unwrap().contains(&id) {
        return format!(r#"{{"id":"{id}","hints":0,"done":true}}"#).into_response();
    }
    Problem::new(ErrorCode::NotFound, "no such point").into_response()
}

async fn coordinate_get(
    State(node): State<Arc<Node>>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    if let Some(answer) = node.misbehave(&headers).await {
        return answer;
    }
    let (message, parts) = decode_frame::<GetMessage>(body).unwrap();
    parts.finish().unwrap();
    let object = ObjectKey::new(message.bucket.parse().unwrap(), message.key).unwrap();
    let record = node.shared.records.lock().unwrap().get(&object).cloned().unwrap_or_default();
    let token = |context: &_| node.shared.keys.encode(&object, context);
    let now = Clock::system().wall();
    let (versions, values) = read_view(&record, now, message.values, Some(node.id), token).unwrap();
    let replicas = if message.explain {
        vec![ReplicaView {
            node: node.id,
            fallback_for: None,
            result: "record".into(),
            holds: true,
            digest: None,
            siblings: Vec::new(),
        }]
    } else {
        Vec::new()
    };
    answer(
        encode_frame(&GetAnswer { versions, evidence: node.evidence(), replicas }, &values)
            .unwrap(),
    )
}

async fn coordinate(State(node): State<Arc<Node>>, headers: HeaderMap, body: Bytes) -> Response {
    if let Some(answer) = node.misbehave(&headers).await {
        return answer;
    }
    let result = put(&node, body, Clock::system().wall());
    if matches!(*node.mode.lock().unwrap(), Mode::LoseAnswer) {
        // The connection breaks before the answer is whole.
        return ([("content-length", "10")], axum::body::Body::new(Broken)).into_response();
    }
    match result {
        Ok(frame) => answer(frame),
        Err(problem) => problem.into_response(),
    }
}

/// A body that breaks off.
struct Broken;

impl http_body::Body for Broken {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, std::io::Error>>> {
        Poll::Ready(Some(Err(std::io::ErrorKind::ConnectionReset.into())))
    }
}

fn put(node: &Node, body: Bytes, now: WallMs) -> Result<Bytes, Problem> {
    let (message, mut parts) = decode_frame::<PutMessage>(body).unwrap();
    let object = ObjectKey::new(message.bucket.parse().unwrap(), message.key).unwrap();
    let content = match message.content {
        ContentDto::Tombstone => Content::Tombstone,
        ContentDto::Value { len, content_type, meta, expires_at } => Content::Value(Value {
            bytes: parts.take(len).unwrap(),
            content_type,
            meta,
            expires_at,
        }),
    };
    parts.finish().unwrap();
    let context =
        message.context.map(|token| node.shared.keys.decode(&object, &token)).transpose().map_err(
            |error| {
                let code = match error {
                    ContextError::Version(_) => ErrorCode::ContextVersion,
                    _ => ErrorCode::BadContext,
                };
                Problem::new(code, error.to_string())
            },
        )?;
    let mut records = node.shared.records.lock().unwrap();
    let empty = Record::default();
    let local = records.get(&object).unwrap_or(&empty);
    if let Some(condition) = &message.condition {
        check_condition(condition, local, message.put_id, None, now)
            .map_err(|error| Problem::new(ErrorCode::PreconditionFailed, error.to_string()))?;
    }
    let command = PutCommand {
        put_id: message.put_id,
        context: context.clone(),
        content,
        reconciliation: Reconciliation::Siblings,
    };
    let mut actor = node.actor.lock().unwrap();
    let token = |context: &_| node.shared.keys.encode(&object, context);
    let minted =
        coordinate_put(local, &command, &mut actor, now).map_err(|refusal| match refusal {
            PutRefusal::TooManySiblings { record } => {
                let (versions, _) = read_view(&record, now, false, None, token).unwrap();
                let context = HeaderValue::try_from(versions.context.unwrap()).unwrap();
                Problem::new(ErrorCode::TooManySiblings, "too many")
                    .header(HeaderName::from_static("x-atoll-context"), context)
            }
            PutRefusal::IdempotencyMismatch => {
                Problem::new(ErrorCode::IdempotencyMismatch, "another value")
            }
            other => Problem::new(ErrorCode::Internal, other.to_string()),
        })?;
    if !minted.replayed {
        node.shared.applied.fetch_add(1, Ordering::Relaxed);
    }
    let (versions, values) =
        put_view(&minted, context.as_ref(), now, message.return_body, node.id, token).unwrap();
    records.insert(object.clone(), minted.record);
    let answer = PutAnswer { versions, evidence: node.evidence(), replayed: minted.replayed };
    Ok(encode_frame(&answer, &values).unwrap())
}
