//! The membership agent of the tests: publishes a ring with long polls, and remembers what it is
//! asked otherwise.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use dynamo_core::cluster_view::RingSnapshot;
use http::header::{ETAG, IF_MATCH, IF_NONE_MATCH};
use http::{HeaderMap, Method, StatusCode, Uri};
use service_kit::http::error::{ErrorCode, Problem};
use tokio::sync::watch;

/// What the agent was asked, besides the ring.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) if_match: Option<String>,
    pub(crate) body: String,
}

pub(crate) struct Agent {
    pub(crate) address: SocketAddr,
    ring: watch::Sender<(String, String)>,
    asked: Mutex<Vec<Asked>>,
    refuse: Mutex<Option<ErrorCode>>,
}

impl Agent {
    pub(crate) async fn start(first: &RingSnapshot) -> Arc<Self> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let agent = Arc::new(Self {
            address: listener.local_addr().unwrap(),
            ring: watch::Sender::new(encode(first)),
            asked: Mutex::default(),
            refuse: Mutex::default(),
        });
        let routes = Router::new()
            .route("/v1/ring", get(ring))
            .fallback(other)
            .with_state(Arc::clone(&agent));
        tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
        agent
    }

    pub(crate) fn publish(&self, snapshot: &RingSnapshot) {
        self.ring.send_replace(encode(snapshot));
    }

    /// From now on refuses everything but polls of the ring.
    pub(crate) fn refuse(&self, code: ErrorCode) {
        *self.refuse.lock().unwrap() = Some(code);
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}

fn encode(snapshot: &RingSnapshot) -> (String, String) {
    let json = serde_json::to_string(snapshot).unwrap();
    let etag = snapshot.etag(json.as_bytes());
    (json, etag)
}

#[derive(serde::Deserialize)]
struct Wait {
    wait_ms: u64,
}

async fn ring(
    State(agent): State<Arc<Agent>>,
    Query(wait): Query<Wait>,
    headers: HeaderMap,
) -> Response {
    let known = headers.get(IF_NONE_MATCH).cloned();
    let is_new = |etag: &String| known.as_ref().is_none_or(|k| k.as_bytes() != etag.as_bytes());
    let mut changes = agent.ring.subscribe();
    let change = changes.wait_for(|(_, etag)| is_new(etag));
    match tokio::time::timeout(Duration::from_millis(wait.wait_ms), change).await {
        Ok(Ok(current)) => {
            let (json, etag) = current.clone();
            ([(ETAG, etag)], json).into_response()
        }
        _ => StatusCode::NOT_MODIFIED.into_response(),
    }
}

async fn other(
    State(agent): State<Arc<Agent>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    agent.asked.lock().unwrap().push(Asked {
        method: method.to_string(),
        path: uri.to_string(),
        if_match: headers.get(IF_MATCH).map(|value| value.to_str().unwrap().to_owned()),
        body: String::from_utf8(body.to_vec()).unwrap(),
    });
    if let Some(code) = *agent.refuse.lock().unwrap() {
        return Problem::new(code, "the agent says no").into_response();
    }
    let mut answer = Response::new(Body::from("{\"ok\":true}"));
    answer.headers_mut().insert("content-type", "application/json".parse().unwrap());
    answer.headers_mut().insert("etag", "\"plan-1\"".parse().unwrap());
    answer.headers_mut().insert("x-internal", "secret".parse().unwrap());
    answer
}
