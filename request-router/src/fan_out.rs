//! Questions that only all nodes together can answer, for operators: bounded in parallel
//! calls, in time and in how often they are really asked. A node that does not answer is part of
//! the answer.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dynamo_core::cluster_view::{Addresses, NodeInfo};
use dynamo_core::id::NodeId;
use dynamo_core::time::Mono;
use dynamo_core::wire::operations::NodeReport;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Method};
use serde::de::DeserializeOwned;
use service_kit::http::error::{ErrorCode, Problem};
use service_kit::peer::PeerRequest;
use tokio::sync::{Mutex, Semaphore};
use tokio::task::JoinSet;

use crate::limits::{FAN_OUT_PARALLEL_MAX, FAN_OUT_TIMEOUT, WORKER_TIMEOUT};
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

/// Which process of each host is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Process {
    /// The storage node.
    Storage,
    /// The anti-entropy worker.
    Worker,
    /// The membership agent.
    Membership,
}

impl Process {
    fn address(self, addresses: &Addresses) -> Option<&str> {
        match self {
            Self::Storage => addresses.storage.as_deref(),
            Self::Worker => addresses.worker.as_deref(),
            Self::Membership => addresses.membership.as_deref(),
        }
    }
}

/// One question to a process of every host.
#[derive(Debug, Clone)]
pub struct Question {
    /// Who is asked.
    pub process: Process,
    /// The method.
    pub method: Method,
    /// The path.
    pub path: String,
    /// The body, JSON or empty.
    pub body: Bytes,
    /// Time for each answer.
    pub timeout: Duration,
}

impl Question {
    /// A question without a body to the storage nodes.
    pub fn storage(method: Method, path: impl Into<String>) -> Self {
        let (process, timeout) = (Process::Storage, FAN_OUT_TIMEOUT);
        Self { process, method, path: path.into(), body: Bytes::new(), timeout }
    }

    /// A question without a body to the workers.
    pub fn workers(method: Method, path: impl Into<String>) -> Self {
        let (process, timeout) = (Process::Worker, WORKER_TIMEOUT);
        Self { process, method, path: path.into(), body: Bytes::new(), timeout }
    }

    /// The same with a body, which is JSON.
    #[must_use]
    pub fn with_body(self, body: Bytes) -> Self {
        Self { body, ..self }
    }
}

/// The answers with their documents read. What is not the expected document is a refusal.
#[must_use]
pub fn reports<T: DeserializeOwned>(answers: Vec<NodeAnswer>) -> Vec<NodeReport<T>> {
    answers
        .into_iter()
        .map(|NodeAnswer { node, name, said }| {
            let reachable = !matches!(said, Said::Nothing);
            let (refused, report) = match said {
                Said::Json(json) => match serde_json::from_value(json) {
                    Ok(report) => (None, Some(report)),
                    Err(error) => {
                        tracing::warn!(%node, %error, "an answer is not the expected document");
                        (Some(ErrorCode::ProtocolVersion.as_str().to_owned()), None)
                    }
                },
                Said::Refused(problem) => (Some(problem.code().as_str().to_owned()), None),
                Said::Nothing => (None, None),
            };
            NodeReport { node, name, reachable, refused, report }
        })
        .collect()
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
        let question = Question::storage(Method::GET, "/v1/hints");
        let answers = Arc::new(self.ask_all(ring, question).await);
        *last = Some((began_at, Arc::clone(&answers)));
        answers
    }

    /// Asks a process of every node that may hold data; the answers come in the order of the
    /// nodes.
    pub async fn ask_all(&self, ring: &Arc<RingView>, question: Question) -> Vec<NodeAnswer> {
        let nodes = ring.view.nodes().filter(|node| node.status.may_hold());
        self.ask_each(nodes.map(|node| (node, question.clone()))).await
    }

    /// Asks each of these nodes its question; the answers come in the order of the questions.
    pub async fn ask_each<'a>(
        &self,
        questions: impl Iterator<Item = (&'a NodeInfo, Question)>,
    ) -> Vec<NodeAnswer> {
        let slots = Arc::new(Semaphore::new(FAN_OUT_PARALLEL_MAX));
        let mut calls = JoinSet::new();
        let mut nodes = Vec::new();
        for (info, question) in questions {
            nodes.push((info.id, info.name.clone()));
            let Some(address) = question.process.address(&info.addresses).map(str::to_owned) else {
                continue;
            };
            let (app, slots, node) = (self.clone(), Arc::clone(&slots), info.id);
            calls.spawn(async move {
                // Nobody closes the semaphore.
                let _slot = slots.acquire().await;
                (node, app.ask(&address, &question).await)
            });
        }
        let mut said: HashMap<NodeId, Said> = calls.join_all().await.into_iter().collect();
        let answer = |(node, name)| NodeAnswer {
            node,
            name,
            said: said.remove(&node).unwrap_or(Said::Nothing),
        };
        nodes.into_iter().map(answer).collect()
    }

    async fn ask(&self, address: &str, question: &Question) -> Said {
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
            timeout: question.timeout,
            idempotent: true,
        };
        let response = match self.peers.call(request).await {
            Ok(response) => response,
            Err(error) => {
                tracing::debug!(address, %error, "a node did not answer");
                return Said::Nothing;
            }
        };
        match response.into_success() {
            Err(problem) => Said::Refused(problem),
            Ok(response) => match serde_json::from_slice(&response.body) {
                Ok(json) => Said::Json(json),
                Err(error) => {
                    tracing::warn!(address, %error, "a node's answer is not JSON");
                    Said::Nothing
                }
            },
        }
    }
}
