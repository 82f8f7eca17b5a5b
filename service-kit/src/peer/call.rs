//! One call to a peer as values: what is asked, what was answered, and what a failure says about
//! the outcome.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};

use crate::http::error::{Outcome, Problem};

/// One call.
#[derive(Debug, Clone)]
pub struct PeerRequest<'a> {
    /// `host:port` of the peer.
    pub address: &'a str,
    /// The method.
    pub method: Method,
    /// Path and query.
    pub path: &'a str,
    /// Headers besides those of the identity and the deadline.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Bytes,
    /// Time for the call as a whole; the peer is told a little less.
    pub timeout: Duration,
    /// Whether acting on it twice is the same as once. Only then is it sent again when a pooled
    /// connection turns out to be dead.
    pub idempotent: bool,
}

/// What a peer answered, whatever its status.
#[derive(Debug, Clone)]
pub struct PeerResponse {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Bytes,
}

impl PeerResponse {
    /// Itself where the status is 2xx, else the peer's refusal.
    ///
    /// # Errors
    /// The problem in the answer.
    pub fn into_success(self) -> Result<Self, Problem> {
        if self.status.is_success() {
            return Ok(self);
        }
        Err(Problem::from_response(self.status, &self.headers, &self.body))
    }
}

/// Why a call was never sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotSentReason {
    /// The address, path or a header is invalid.
    #[error("invalid request: {0}")]
    Invalid(String),
    /// The peer could not be resolved or refused the connection.
    #[error("connect: {0}")]
    Connect(String),
    /// No connection came about in the time for one.
    #[error("connect timeout")]
    ConnectTimeout,
    /// The deadline passed first, for example while all connections were in use.
    #[error("deadline before a connection was free")]
    Deadline,
}

/// A call without an answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PeerError {
    /// Nothing left this process: certainly not applied.
    #[error("not sent: {0}")]
    NotSent(NotSentReason),
    /// Sent at least in part, and the connection ended without a whole answer.
    #[error("sent, no answer: {0}")]
    Unknown(String),
    /// Sent, and the deadline passed before a whole answer.
    #[error("sent, no answer before the deadline")]
    Deadline,
    /// The answer is larger than the cap.
    #[error("the answer is larger than {limit} bytes")]
    TooLarge {
        /// The cap.
        limit: usize,
    },
    /// The answer is none between peers (a redirect).
    #[error("not an answer of a peer: {0}")]
    BadResponse(String),
}

impl PeerError {
    /// Whether the call may have been acted upon.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        match self {
            Self::NotSent(_) => Outcome::NotApplied,
            _ => Outcome::Unknown,
        }
    }

    /// Its word in metrics and replica results.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::NotSent(_) => "not_sent",
            Self::Unknown(_) => "no_answer",
            Self::Deadline => "timeout",
            Self::TooLarge { .. } => "too_large",
            Self::BadResponse(_) => "bad_response",
        }
    }
}
