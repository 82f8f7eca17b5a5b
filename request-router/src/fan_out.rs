//! Questions that only all storage nodes together can answer, for operators: bounded in parallel
//! calls, in time and in how often they are really asked. A node that does not answer is part of
//! the answer.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dynamo_core::id::NodeId;
use dynamo_core::time::Mono;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Method};
use service_kit::http::error::Problem;
use service_kit::peer::PeerRequest;
use tokio::sync::{Mutex, Semaphore};
use tokio::task::JoinSet;

use crate::limits::{FAN_OUT_PARALLEL_MAX, FAN_OUT_TIMEOUT};
use crate::ring_view::RingView;
use crate::state::App;

/// What one node said.
#[derive(Debug, Clone)]
pub struct NodeAnswer {
    /// The node.
    pub node: NodeId,
    /// Its name.
    pub name: String,
    /// Its answer.
    pub said: Said,
}

/// How a call of a fan-out ended.
#[derive(Debug, Clone)]
pub enum Said {
    /// The JSON it answered.
    Json(serde_json::Value),
    /// It refused.
    Refused(Problem),
    /// It did not answer.
    Nothing,
}

impl NodeAnswer {
    /// Whether the node's storage process answered at all.
    #[must_use]
    pub fn is_reachable(&self) -> bool {
        !matches!(self.said, Said::Nothing)
    }

    /// The number in the field `name` of its answer.
    #[must_use]
    pub fn number(&self, name: &str) -> Option<u64> {
        match &self.said {
            Said::Json(json) => json.get(name)?.as_u64(),
            _ => None,
        }
    }
}

/// The answers of all nodes to one question, as of a moment.
pub type Answers = Arc<Vec<NodeAnswer>>;

/// The last round of questions about hints, and when it began, for all who wait for one.
#[derive(Debug, Default)]
pub struct HintsRound {
    last: Mutex<Option<(Mono, Answers)>>,
}

/// One question to every storage node.
#[derive(Debug, Clone)]
pub struct Question {
    /// The method.
    pub method: Method,
    /// The path.
    pub path: String,
    /// The body, JSON or empty.
    pub body: Bytes,
}

impl App {
    /// Asks every node that may hold data for its hints: at the same time the test of who can be
    /// reached. Simultaneous askers share one round, so a crowd costs no more than one; a round
    /// that began before this call is not reused, so nobody is told what was.
    pub async fn ask_for_hints(&self, ring: &Arc<RingView>) -> Answers {
        let asked_at = self.clock.mono();
        let mut last = self.hints.last.lock().await;
        if let Some((began_at, answers)) = &*last
            && *began_at > asked_at
        {
            return Arc::clone(answers);
        }
        let began_at = self.clock.mono();
        let question =
            Question { method: Method::GET, path: "/v1/hints".to_owned(), body: Bytes::new() };
        let answers = Arc::new(self.ask_all(ring, question).await);
        *last = Some((began_at, Arc::clone(&answers)));
        answers
    }

    /// Asks every storage node that may hold data; the answers come in the order of the nodes.
    pub async fn ask_all(&self, ring: &Arc<RingView>, question: Question) -> Vec<NodeAnswer> {
        let slots = Arc::new(Semaphore::new(FAN_OUT_PARALLEL_MAX));
        let mut calls = JoinSet::new();
        let nodes: Vec<_> = ring.view.nodes().filter(|node| node.status.may_hold()).collect();
        for info in &nodes {
            let Some(address) = info.addresses.storage.clone() else { continue };
            let (app, question, slots) = (self.clone(), question.clone(), Arc::clone(&slots));
            let node = info.id;
            calls.spawn(async move {
                // Nobody closes the semaphore.
                let _slot = slots.acquire().await;
                (node, app.ask(&address, &question, FAN_OUT_TIMEOUT).await)
            });
        }
        let mut said: std::collections::HashMap<NodeId, Said> =
            calls.join_all().await.into_iter().collect();
        nodes
            .into_iter()
            .map(|info| NodeAnswer {
                node: info.id,
                name: info.name.clone(),
                said: said.remove(&info.id).unwrap_or(Said::Nothing),
            })
            .collect()
    }

    async fn ask(&self, address: &str, question: &Question, timeout: Duration) -> Said {
        let mut headers = HeaderMap::new();
        if !question.body.is_empty() {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        let request = PeerRequest {
            address,
            method: question.method.clone(),
            path: &question.path,
            headers,
            body: question.body.clone(),
            timeout,
            idempotent: true,
        };
        let response = match self.peers.call(request).await {
            Ok(response) => response,
            Err(error) => {
                tracing::debug!(address, %error, "a storage node did not answer");
                return Said::Nothing;
            }
        };
        match response.into_success() {
            Err(problem) => Said::Refused(problem),
            Ok(response) => match serde_json::from_slice(&response.body) {
                Ok(json) => Said::Json(json),
                Err(error) => {
                    tracing::warn!(address, %error, "a storage node's answer is not JSON");
                    Said::Nothing
                }
            },
        }
    }
}
