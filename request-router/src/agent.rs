//! Calls to the membership agent of this host, which owns everything about membership and
//! buckets: the router only checks what clients send it, and passes on what it answers.

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, ETAG, HeaderName, IF_MATCH, LOCATION};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use service_kit::http::error::{ErrorCode, Outcome, Problem};
use service_kit::http::request_id::{RequestId, X_REQUEST_ID};
use service_kit::peer::PeerRequest;

use crate::dispatch::Refused;
use crate::limits::AGENT_TIMEOUT;
use crate::state::Router;

/// Headers of the agent's answers that are for clients.
const KEPT: [HeaderName; 3] = [CONTENT_TYPE, ETAG, LOCATION];

/// One request to the agent.
#[derive(Debug)]
pub struct AgentRequest<'a> {
    /// The method.
    pub method: Method,
    /// The path, the same as the client's.
    pub path: &'a str,
    /// The checked body; empty for none.
    pub body: Bytes,
    /// The client's `If-Match`.
    pub if_match: Option<HeaderValue>,
    /// The id of the client's request.
    pub id: Option<&'a RequestId>,
}

impl Router {
    /// Asks the agent and passes on its answer.
    ///
    /// # Errors
    /// Its refusal; 503 where it does not answer.
    pub async fn ask_agent(&self, ask: AgentRequest<'_>) -> Result<Response, Refused> {
        let mut headers = HeaderMap::new();
        if !ask.body.is_empty() {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        if let Some(plan) = ask.if_match {
            headers.insert(IF_MATCH, plan);
        }
        if let Some(id) = ask.id {
            headers.insert(X_REQUEST_ID, id.to_header());
        }
        let reads = ask.method == Method::GET;
        let request = PeerRequest {
            address: &self.config.membership,
            method: ask.method,
            path: ask.path,
            headers,
            body: ask.body,
            timeout: AGENT_TIMEOUT,
            idempotent: reads,
        };
        let response = self.peers.call(request).await.map_err(|error| {
            tracing::warn!(%error, "the membership agent of this host did not answer");
            let outcome = if reads { Outcome::NotApplied } else { error.outcome() };
            let detail = "the membership agent of this host does not answer";
            Problem::new(ErrorCode::NotReady, detail).outcome(outcome)
        })?;
        if !response.status.is_success() && response.status != StatusCode::NOT_MODIFIED {
            let problem =
                Problem::from_response(response.status, &response.headers, &response.body);
            return Err(Refused { problem, headers: response.headers, by_peer: true });
        }
        let mut answer = Response::new(Body::from(response.body));
        *answer.status_mut() = response.status;
        for name in KEPT {
            if let Some(value) = response.headers.get(&name) {
                answer.headers_mut().insert(name, value.clone());
            }
        }
        Ok(answer)
    }
}
