//! Refusals on the client port. A coordinator speaks to the router as one process of the cluster
//! to another; what a client may know of it is decided here: no replica results unless the router
//! is set to show them, no trouble between our own processes, and this request's id.

use axum::response::{IntoResponse, Response};
use dynamo_core::wire::headers::{CONTEXT, DELETED, SIBLINGS};
use http::header::{ETAG, HeaderName};
use service_kit::http::error::{ErrorCode, Problem};
use service_kit::http::request_id::RequestId;

use crate::dispatch::Refused;

/// Headers of a refusal that are for the client; everything else of a coordinator's answer is
/// between our own processes.
const KEPT: [HeaderName; 12] = [
    HeaderName::from_static(CONTEXT),
    HeaderName::from_static(SIBLINGS),
    HeaderName::from_static(DELETED),
    HeaderName::from_static("x-atoll-acks"),
    HeaderName::from_static("x-atoll-primaries"),
    HeaderName::from_static("x-atoll-hinted"),
    HeaderName::from_static("x-atoll-coordinator"),
    HeaderName::from_static("x-atoll-durability"),
    HeaderName::from_static("server-timing"),
    HeaderName::from_static("x-content-type-options"),
    HeaderName::from_static("last-modified"),
    ETAG,
];

/// Codes with which one of our processes refuses another: nothing that a client did or can mend.
const BETWEEN_PROCESSES: [ErrorCode; 11] = [
    ErrorCode::WrongCluster,
    ErrorCode::StaleIncarnation,
    ErrorCode::ProtocolVersion,
    ErrorCode::BadFrame,
    ErrorCode::BadHeader,
    ErrorCode::BadHost,
    ErrorCode::BadFraming,
    ErrorCode::Unauthorized,
    ErrorCode::Forbidden,
    ErrorCode::MethodNotAllowed,
    ErrorCode::VersionNotSupported,
];

/// The answer that refuses.
#[must_use]
pub fn respond(refused: Refused, id: Option<&RequestId>, expose_replicas: bool) -> Response {
    let mut problem = if refused.by_peer { for_client(refused.problem) } else { refused.problem };
    if !expose_replicas {
        problem = problem.replicas(Vec::new());
    }
    if let Some(id) = id {
        problem = problem.request_id(id.as_str());
    }
    for name in KEPT {
        if let Some(value) = refused.headers.get(&name) {
            problem = problem.header(name, value.clone());
        }
    }
    problem.into_response()
}

/// What a client is told where our own processes disagree or fail.
fn for_client(problem: Problem) -> Problem {
    let outcome = problem.known_outcome();
    if problem.code() == ErrorCode::NotOwner {
        let detail = "the ring is changing, and no replica of the key took the request";
        return Problem::new(ErrorCode::QuorumUnavailable, detail).outcome(outcome);
    }
    if BETWEEN_PROCESSES.contains(&problem.code()) || problem.code() == ErrorCode::Internal {
        let (code, detail) = (problem.code().as_str(), problem.detail());
        tracing::warn!(code, detail, "a process of this cluster refused the router or failed");
        let detail = "the cluster failed to handle the request; its logs have the request id";
        return Problem::new(ErrorCode::Internal, detail).outcome(outcome);
    }
    problem
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue};
    use http_body_util::BodyExt;
    use service_kit::http::error::{Outcome, ReplicaResult};

    use super::*;

    async fn answer(refused: Refused, expose: bool) -> (Response<()>, String) {
        let (parts, body) = respond(refused, None, expose).into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        (Response::from_parts(parts, ()), String::from_utf8(body.to_vec()).unwrap())
    }

    fn of_peer(code: ErrorCode) -> Refused {
        let replicas = vec![ReplicaResult { node: "ab".repeat(16), result: "timeout".into() }];
        let mut headers = HeaderMap::new();
        headers.insert(CONTEXT, HeaderValue::from_static("ctx"));
        headers.insert("x-atoll-ring", HeaderValue::from_static("1-0"));
        headers.insert("connection", HeaderValue::from_static("keep-alive"));
        let problem = Problem::new(code, "10.0.0.7:7710 said so")
            .counts(2, 1)
            .outcome(Outcome::Unknown)
            .replicas(replicas);
        Refused { problem, headers, by_peer: true }
    }

    #[tokio::test]
    async fn replicas_are_for_development() {
        let (_, text) = answer(of_peer(ErrorCode::QuorumUnavailable), false).await;
        assert!(!text.contains("abab") && text.contains("\"required\":2"), "{text}");
        let (_, text) = answer(of_peer(ErrorCode::QuorumUnavailable), true).await;
        assert!(text.contains("abab"), "{text}");
    }

    #[tokio::test]
    async fn only_headers_for_clients_pass() {
        let (head, _) = answer(of_peer(ErrorCode::TooManySiblings), false).await;
        assert_eq!(head.headers().get(CONTEXT).unwrap(), "ctx");
        assert!(!head.headers().contains_key("x-atoll-ring"));
        assert!(!head.headers().contains_key("connection"));
    }

    #[tokio::test]
    async fn trouble_between_processes_is_not_the_clients() {
        for code in BETWEEN_PROCESSES.into_iter().chain([ErrorCode::Internal]) {
            let (head, text) = answer(of_peer(code), false).await;
            assert_eq!(head.status(), 500, "{text}");
            assert!(text.contains("\"internal\"") && !text.contains("10.0.0.7"), "{text}");
        }
        let (head, text) = answer(of_peer(ErrorCode::NotOwner), false).await;
        assert_eq!(head.status(), 503, "{text}");
        assert!(text.contains("\"outcome\":\"not_applied\""), "{text}");
    }
}
