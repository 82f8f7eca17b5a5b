//! One refusal: a code of the table with what is particular to the occurrence, as
//! `application/problem+json` (RFC 9457) on the wire, and read back from a peer's answer.
//!
//! Invariants: an answer has at most `ERROR_BYTES_MAX` bytes; a 4xx is always `not_applied`; input
//! of the caller is only repeated through [`escape_echo`].

use std::fmt;
use std::sync::Arc;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use dynamo_core::limits::{ECHO_BYTES_MAX, ERROR_BYTES_MAX};
use http::header::{
    ALLOW, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER,
    WWW_AUTHENTICATE,
};
use http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};

use super::error::{ErrorCode, Outcome};
use crate::limits::ERROR_DETAIL_BYTES_MAX;

/// The media type of every error answer.
pub(crate) const PROBLEM_JSON: HeaderValue = HeaderValue::from_static("application/problem+json");

/// Prefix of the `type` of a problem; the code follows, which is also its anchor in
/// `docs/errors.md`. A name and not an address (RFC 9457, section 3.1.1): it is never fetched, and it
/// does not change with the place where the documentation is published.
const TYPE_PREFIX: &str = "https://atoll.example/errors#";

/// Seconds after which a shed caller may try again, where nothing better is known.
const RETRY_AFTER_S_DEFAULT: u32 = 1;

/// What one replica answered, in a refusal for want of a quorum.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicaResult {
    /// Node id of the replica.
    pub node: String,
    /// A word for what happened: `ok`, `timeout`, or an error code.
    pub result: String,
}

/// A refusal on its way to the caller. Building one is cheap; it is boxed so that
/// `Result<T, Problem>` stays small.
#[derive(Clone, PartialEq)]
pub struct Problem(Box<Fields>);

#[derive(Debug, Clone, PartialEq)]
struct Fields {
    code: ErrorCode,
    status: StatusCode,
    detail: String,
    outcome: Outcome,
    retryable: bool,
    required: Option<u32>,
    got: Option<u32>,
    versions: Option<(u32, u32)>,
    replicas: Vec<ReplicaResult>,
    request_id: Option<String>,
    headers: HeaderMap,
}

/// The JSON of a problem. Also read from peers, hence everything optional but what we always send.
#[derive(Debug, Serialize, Deserialize)]
struct Wire<'a> {
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(default)]
    title: std::borrow::Cow<'a, str>,
    status: u16,
    code: std::borrow::Cow<'a, str>,
    #[serde(default)]
    detail: String,
    outcome: Outcome,
    #[serde(default)]
    retryable: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    required: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    got: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    min: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max: Option<u32>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    replicas: Vec<ReplicaResult>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    request_id: Option<String>,
}

impl Problem {
    /// A refusal with the table's status, outcome and retryability. `detail` is one sentence for
    /// people; it is cut at `ERROR_DETAIL_BYTES_MAX`.
    #[must_use]
    pub fn new(code: ErrorCode, detail: impl Into<String>) -> Self {
        let mut detail = detail.into();
        truncate(&mut detail, ERROR_DETAIL_BYTES_MAX);
        let mut problem = Self(Box::new(Fields {
            code,
            status: code.status(),
            detail,
            outcome: code.default_outcome(),
            retryable: code.retryable(),
            required: None,
            got: None,
            versions: None,
            replicas: Vec::new(),
            request_id: None,
            headers: HeaderMap::new(),
        }));
        match code {
            ErrorCode::Overloaded | ErrorCode::TooManyRequests => {
                problem = problem.retry_after_s(RETRY_AFTER_S_DEFAULT);
            }
            ErrorCode::Unauthorized => {
                problem = problem
                    .header(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"atoll\""));
            }
            _ => {}
        }
        problem
    }

    /// States whether a refused write may have happened. A 4xx stays `not_applied`.
    #[must_use]
    pub fn outcome(mut self, outcome: Outcome) -> Self {
        if !self.0.status.is_client_error() {
            self.0.outcome = outcome;
        }
        self
    }

    /// Overrules the table on whether a retry may help.
    #[must_use]
    pub fn retryable(mut self, retryable: bool) -> Self {
        self.0.retryable = retryable;
        self
    }

    /// How many replicas were asked for, and how many answered.
    #[must_use]
    pub fn counts(mut self, required: u32, got: u32) -> Self {
        self.0.required = Some(required);
        self.0.got = Some(got);
        self
    }

    /// The protocol versions that are spoken, for `protocol_version`.
    #[must_use]
    pub fn versions(mut self, min: u32, max: u32) -> Self {
        self.0.versions = Some((min, max));
        self
    }

    /// What each replica answered. Shown to operators only; the caller decides who is one.
    #[must_use]
    pub fn replicas(mut self, replicas: Vec<ReplicaResult>) -> Self {
        self.0.replicas = replicas;
        self
    }

    /// The id of the refused request. The server fills it in where it is missing.
    #[must_use]
    pub fn request_id(mut self, id: impl Into<String>) -> Self {
        self.0.request_id = Some(id.into());
        self
    }

    /// The methods of the resource, for 405.
    #[must_use]
    pub fn allow(self, methods: &'static str) -> Self {
        self.header(ALLOW, HeaderValue::from_static(methods))
    }

    /// Seconds after which the caller may try again.
    #[must_use]
    pub fn retry_after_s(self, seconds: u32) -> Self {
        self.header(RETRY_AFTER, HeaderValue::from(seconds))
    }

    /// Closes the connection after the answer.
    #[must_use]
    pub fn close(self) -> Self {
        self.header(CONNECTION, HeaderValue::from_static("close"))
    }

    /// A header of the answer, for example the current context beside `too_many_siblings`.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.0.headers.insert(name, value);
        self
    }

    /// The code.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        self.0.code
    }

    /// The HTTP status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.0.status
    }

    /// The sentence for people.
    #[must_use]
    pub fn detail(&self) -> &str {
        &self.0.detail
    }

    /// Whether the refused write may have happened.
    #[must_use]
    pub fn known_outcome(&self) -> Outcome {
        self.0.outcome
    }

    /// Whether the same request may succeed later.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        self.0.retryable
    }

    /// `(required, got)` where both are stated.
    #[must_use]
    pub fn known_counts(&self) -> Option<(u32, u32)> {
        self.0.required.zip(self.0.got)
    }

    /// What each replica answered, empty where not stated.
    #[must_use]
    pub fn known_replicas(&self) -> &[ReplicaResult] {
        &self.0.replicas
    }

    /// The id of the refused request, where stated.
    #[must_use]
    pub fn known_request_id(&self) -> Option<&str> {
        self.0.request_id.as_deref()
    }

    /// Extra headers of the answer.
    #[must_use]
    pub fn headers(&self) -> &HeaderMap {
        &self.0.headers
    }

    /// Reads the refusal in a peer's answer. Total: an answer without a readable problem becomes
    /// the nearest code for its status, with `unknown` outcome unless it is a 4xx. Of the peer's
    /// headers, `Retry-After` is kept.
    #[must_use]
    pub fn from_response(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Self {
        let wire: Option<Wire<'_>> =
            if body.len() <= ERROR_BYTES_MAX { serde_json::from_slice(body).ok() } else { None };
        let mut problem = match wire {
            Some(wire) => Self::from_wire(status, wire),
            None => {
                let code = ErrorCode::for_status(status);
                let mut problem = Self::new(code, format!("a peer answered {}", status.as_u16()));
                problem.0.status = status;
                problem.outcome(Outcome::Unknown)
            }
        };
        if let Some(value) = headers.get(RETRY_AFTER) {
            problem.0.headers.insert(RETRY_AFTER, value.clone());
        }
        problem
    }

    fn from_wire(status: StatusCode, wire: Wire<'_>) -> Self {
        let code = ErrorCode::parse(&wire.code).unwrap_or_else(|| ErrorCode::for_status(status));
        let mut problem = Self::new(code, wire.detail);
        problem.0.status = status;
        problem.0.required = wire.required;
        problem.0.got = wire.got;
        problem.0.versions = wire.min.zip(wire.max);
        problem.0.replicas = wire.replicas;
        problem.0.request_id = wire.request_id;
        problem.outcome(wire.outcome).retryable(wire.retryable)
    }

    /// The JSON, at most `ERROR_BYTES_MAX` bytes: replica results go first when it is too long,
    /// then the detail is halved.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        let fields = &self.0;
        let mut wire = Wire {
            kind: format!("{TYPE_PREFIX}{}", fields.code.as_str()),
            title: fields.code.title().into(),
            status: fields.status.as_u16(),
            code: fields.code.as_str().into(),
            detail: fields.detail.clone(),
            outcome: fields.outcome,
            retryable: fields.retryable,
            required: fields.required,
            got: fields.got,
            min: fields.versions.map(|(min, _)| min),
            max: fields.versions.map(|(_, max)| max),
            replicas: fields.replicas.clone(),
            request_id: fields.request_id.clone(),
        };
        loop {
            // Only strings and numbers: encoding cannot fail, and an empty body would be honest.
            let json = serde_json::to_vec(&wire).unwrap_or_default();
            if json.len() <= ERROR_BYTES_MAX {
                return json;
            }
            if wire.replicas.pop().is_none() {
                let half = wire.detail.len() / 2;
                if half == 0 {
                    wire.request_id = None;
                }
                truncate(&mut wire.detail, half);
            }
        }
    }
}

impl fmt::Debug for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.0.code.as_str(), self.0.detail)
    }
}

impl std::error::Error for Problem {}

/// The problem behind an answer, kept in its extensions so that the server can add the request id.
#[derive(Clone)]
pub(crate) struct Answered(pub(crate) Arc<Problem>);

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let json = self.to_json();
        let mut response = Response::new(Body::empty());
        *response.status_mut() = self.0.status;
        *response.headers_mut() = self.0.headers.clone();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, PROBLEM_JSON);
        headers.insert(CONTENT_LENGTH, HeaderValue::from(json.len()));
        *response.body_mut() = Body::from(json);
        response.extensions_mut().insert(Answered(Arc::new(self)));
        response
    }
}

/// At most `ECHO_BYTES_MAX` bytes of a caller's input with everything but printable ASCII escaped,
/// fit for logs and error answers.
#[must_use]
pub fn escape_echo(input: &[u8]) -> String {
    let mut text = String::with_capacity(ECHO_BYTES_MAX);
    for &byte in input {
        let escaped = byte.escape_ascii();
        if text.len() + escaped.len() > ECHO_BYTES_MAX {
            break;
        }
        text.extend(escaped.map(char::from));
    }
    text
}

/// Cuts `text` to at most `bytes`, at a character boundary.
fn truncate(text: &mut String, bytes: usize) {
    text.truncate(text.floor_char_boundary(bytes));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_round_trips_and_stays_small() {
        for &code in ErrorCode::ALL {
            let long = "\u{1}é".repeat(2000);
            let replicas = (0..20)
                .map(|i| ReplicaResult { node: format!("{i:032x}"), result: "timeout".into() })
                .collect();
            let problem = Problem::new(code, long)
                .outcome(Outcome::Unknown)
                .counts(2, 1)
                .replicas(replicas)
                .request_id("r".repeat(64));
            let json = problem.to_json();
            assert!(json.len() <= ERROR_BYTES_MAX, "{code:?}: {}", json.len());
            let back = Problem::from_response(code.status(), &HeaderMap::new(), &json);
            assert_eq!(back.code(), code);
            assert_eq!(back.known_counts(), Some((2, 1)));
            let expected =
                if code.status_number() < 500 { Outcome::NotApplied } else { Outcome::Unknown };
            assert_eq!(back.known_outcome(), expected, "{code:?}");
        }
    }

    #[test]
    fn an_answer_that_is_no_problem_is_still_a_refusal() {
        let cases: [(u16, &[u8], ErrorCode, Outcome); 5] = [
            (502, b"<html>bad gateway</html>", ErrorCode::Internal, Outcome::Unknown),
            (503, b"", ErrorCode::Overloaded, Outcome::Unknown),
            (404, b"{}", ErrorCode::NotFound, Outcome::NotApplied),
            (
                409,
                br#"{"status":409,"code":"from_the_future","outcome":"unknown"}"#,
                ErrorCode::Conflict,
                Outcome::NotApplied,
            ),
            (
                503,
                br#"{"status":503,"code":"quorum_unavailable","outcome":"not_applied"}"#,
                ErrorCode::QuorumUnavailable,
                Outcome::NotApplied,
            ),
        ];
        for (status, body, code, outcome) in cases {
            let status = StatusCode::from_u16(status).unwrap();
            let problem = Problem::from_response(status, &HeaderMap::new(), body);
            assert_eq!((problem.code(), problem.status()), (code, status));
            assert_eq!(problem.known_outcome(), outcome, "{status}");
        }
    }

    #[test]
    fn input_is_escaped_and_cut() {
        assert_eq!(escape_echo(b"a\r\n\x1b[31m\xff"), "a\\r\\n\\x1b[31m\\xff");
        assert!(escape_echo(&[0u8; 1000]).len() <= ECHO_BYTES_MAX);
        assert_eq!(escape_echo(&[b'a'; 1000]).len(), ECHO_BYTES_MAX);
    }

    #[test]
    fn the_promised_headers_are_there() {
        let has = |problem: Problem, name: HeaderName| {
            problem.into_response().headers().contains_key(name)
        };
        assert!(has(Problem::new(ErrorCode::Overloaded, ""), RETRY_AFTER));
        assert!(has(Problem::new(ErrorCode::TooManyRequests, ""), RETRY_AFTER));
        assert!(has(Problem::new(ErrorCode::Unauthorized, ""), WWW_AUTHENTICATE));
        assert!(has(Problem::new(ErrorCode::MethodNotAllowed, "").allow("GET"), ALLOW));
        assert!(has(Problem::new(ErrorCode::BadFraming, "").close(), CONNECTION));
    }
}
