//! What can go wrong, and what that means for a write: the one question that a client of an
//! eventually consistent store must be able to answer is "may it have happened?".

use std::fmt;
use std::time::Duration;

use dynamo_core::limits::ECHO_BYTES_MAX;
use dynamo_core::wire::headers;
use serde::{Deserialize, Serialize};

use crate::context::Context;
use crate::transport::exchange::{Answer, ExchangeError, Kind};

/// Whether a failed write may have happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Nothing was changed anywhere, and nothing will be.
    NotApplied,
    /// The write may be there in part or in whole, now or later.
    Unknown,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotApplied => "not_applied",
            Self::Unknown => "unknown",
        })
    }
}

/// What one replica answered, in a refusal for want of a quorum.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicaResult {
    /// Node id of the replica.
    pub node: String,
    /// `ok`, `timeout`, or an error code.
    pub result: String,
}

/// A refusal by the server: its `application/problem+json` document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// The HTTP status.
    pub status: u16,
    /// The machine-readable code, for example `quorum_unavailable`.
    pub code: String,
    /// A few words, the same for every occurrence of the code.
    #[serde(default)]
    pub title: String,
    /// One sentence about this occurrence.
    #[serde(default)]
    pub detail: String,
    /// Whether the refused write may have happened, as far as this answer knows.
    pub outcome: Outcome,
    /// Whether the same request may succeed later.
    #[serde(default)]
    pub retryable: bool,
    /// Answers that were needed, where a quorum was missed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub required: Option<u32>,
    /// Answers that there were.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub got: Option<u32>,
    /// What each replica answered, where the server tells.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub replicas: Vec<ReplicaResult>,
    /// The id under which the server's log has the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// When to try again, where the server tells.
    #[serde(skip)]
    pub retry_after: Option<Duration>,
    /// The present context of the key, where the refusal carries one (`too_many_siblings`,
    /// `precondition_failed`).
    #[serde(skip)]
    pub context: Option<Context>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.code, self.status)?;
        if let (Some(required), Some(got)) = (self.required, self.got) {
            write!(f, ", {got} of {required}")?;
        }
        if !self.detail.is_empty() {
            write!(f, ": {}", self.detail)?;
        }
        Ok(())
    }
}

impl Problem {
    /// Reads the refusal in an answer. Total: an answer without a readable document (of a proxy
    /// in between, say) becomes a problem with the code `http_<status>`, whose outcome is unknown
    /// unless it is a 4xx.
    pub(crate) fn of(answer: &Answer) -> Self {
        let status = answer.status.as_u16();
        let mut problem = serde_json::from_slice::<Self>(&answer.body)
            .unwrap_or_else(|_| Self::without_document(status));
        problem.status = status;
        if answer.status.is_client_error() {
            problem.outcome = Outcome::NotApplied;
        }
        problem.retry_after = answer
            .text(reqwest::header::RETRY_AFTER.as_str())
            .and_then(|seconds| seconds.parse().ok())
            .map(Duration::from_secs);
        problem.context = answer.text(headers::CONTEXT).map(Context::from_token);
        if problem.request_id.is_none() {
            problem.request_id = answer.text(headers::REQUEST_ID).map(str::to_owned);
        }
        problem
    }

    fn without_document(status: u16) -> Self {
        Self {
            status,
            code: format!("http_{status}"),
            title: String::new(),
            detail: "the answer carries no problem document; is this an Atoll endpoint?".to_owned(),
            outcome: Outcome::Unknown,
            retryable: matches!(status, 429 | 502..=504),
            required: None,
            got: None,
            replicas: Vec::new(),
            request_id: None,
            retry_after: None,
            context: None,
        }
    }
}

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The client cannot be built as asked.
    #[error("invalid client configuration: {0}")]
    Config(String),
    /// The bucket or key is not a valid name; nothing was sent.
    #[error("invalid name: {0}")]
    Name(#[from] dynamo_core::key::NameError),
    /// A parameter is not valid; nothing was sent.
    #[error("invalid {name}: {reason}")]
    Parameter {
        /// Which one.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The server refused.
    #[error("{problem}")]
    Refused {
        /// Its reason.
        problem: Box<Problem>,
        /// Whether the write may have happened, earlier attempts of the same call included.
        outcome: Outcome,
    },
    /// No endpoint answered.
    #[error("no endpoint answered after {attempts} attempts; the last one, {endpoint}: {reason}")]
    Unreachable {
        /// The endpoint that was tried last.
        endpoint: String,
        /// What kept it from answering.
        reason: String,
        /// How many attempts were made.
        attempts: usize,
        /// Whether the write may have happened.
        outcome: Outcome,
    },
    /// The call's own timeout passed without an answer.
    #[error("no answer within {} ms", timeout.as_millis())]
    Timeout {
        /// The timeout.
        timeout: Duration,
        /// Whether the write may have happened.
        outcome: Outcome,
    },
    /// An answer that this client does not understand.
    #[error("unexpected answer: {reason}")]
    BadAnswer {
        /// What is wrong with it.
        reason: String,
        /// Whether the write may have happened.
        outcome: Outcome,
    },
    /// There is more than one version where one was asked for.
    #[error("{count} concurrent versions; read them all and put the merged one")]
    Siblings {
        /// How many.
        count: usize,
        /// The context that supersedes them all.
        context: Option<Context>,
    },
    /// The merge function of an update refused the versions it was shown.
    #[error("the versions cannot be merged: {0}")]
    Merge(String),
    /// An update met concurrent writers in every one of its rounds.
    #[error("gave up after {rounds} rounds against concurrent writers: {last}")]
    Contention {
        /// How many rounds were made.
        rounds: usize,
        /// What the last one failed with.
        last: Box<Self>,
    },
    /// A direct mode has not been able to learn the ring from any endpoint.
    #[error("the ring is not known yet: {0}")]
    NoRing(String),
}

impl Error {
    /// Whether the failed write may have happened. `NotApplied` for reads.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        match self {
            Self::Refused { outcome, .. }
            | Self::Unreachable { outcome, .. }
            | Self::Timeout { outcome, .. }
            | Self::BadAnswer { outcome, .. } => *outcome,
            Self::Contention { last, .. } => last.outcome(),
            Self::Config(_)
            | Self::Name(_)
            | Self::Parameter { .. }
            | Self::Siblings { .. }
            | Self::Merge(_)
            | Self::NoRing(_) => Outcome::NotApplied,
        }
    }

    /// Whether the same call may succeed later without change. A put whose outcome is unknown is
    /// safe to repeat with the same idempotency key.
    #[must_use]
    pub fn retryable(&self) -> bool {
        match self {
            Self::Refused { problem, .. } => problem.retryable,
            Self::Unreachable { .. }
            | Self::Timeout { .. }
            | Self::Contention { .. }
            | Self::NoRing(_) => true,
            _ => false,
        }
    }

    /// The server's refusal, where it is one.
    #[must_use]
    pub fn problem(&self) -> Option<&Problem> {
        match self {
            Self::Refused { problem, .. } => Some(problem),
            Self::Contention { last, .. } => last.problem(),
            _ => None,
        }
    }

    /// The server's error code, where it is a refusal.
    #[must_use]
    pub fn code(&self) -> Option<&str> {
        self.problem().map(|problem| problem.code.as_str())
    }

    /// The refusal of `answer` to a request of `kind`.
    pub(crate) fn refused(answer: &Answer, kind: Kind) -> Self {
        let problem = Problem::of(answer);
        let outcome = if kind == Kind::Read { Outcome::NotApplied } else { problem.outcome };
        Self::Refused { problem: Box::new(problem), outcome }
    }

    /// The failure to get an answer from `endpoint` to a request of `kind`.
    pub(crate) fn unanswered(endpoint: &str, error: &ExchangeError, kind: Kind) -> Self {
        let applied = match error {
            ExchangeError::Connect(_) | ExchangeError::Url(_) => false,
            ExchangeError::Broken(_) | ExchangeError::TooLarge => kind != Kind::Read,
        };
        Self::Unreachable {
            endpoint: endpoint.to_owned(),
            reason: summary(error),
            attempts: 1,
            outcome: if applied { Outcome::Unknown } else { Outcome::NotApplied },
        }
    }

    /// Notes that an earlier attempt of the same call may have been applied.
    pub(crate) fn or_unknown(mut self, maybe_applied: bool) -> Self {
        if maybe_applied
            && let Self::Refused { outcome, .. }
            | Self::Unreachable { outcome, .. }
            | Self::Timeout { outcome, .. }
            | Self::BadAnswer { outcome, .. } = &mut self
        {
            *outcome = Outcome::Unknown;
        }
        self
    }

    /// Notes how many attempts the call took.
    pub(crate) fn after(mut self, made: usize) -> Self {
        if let Self::Unreachable { attempts, .. } = &mut self {
            *attempts = made;
        }
        self
    }
}

/// The text of an error and of its root cause; what lies between only repeats the address.
fn summary(error: &dyn std::error::Error) -> String {
    let mut root = error;
    while let Some(cause) = root.source() {
        root = cause;
    }
    let (text, cause) = (error.to_string(), root.to_string());
    if text == cause { text } else { format!("{text}: {cause}") }
}

/// At most 64 escaped bytes of what a server sent, fit for a message to people.
pub(crate) fn echo(bytes: &[u8]) -> String {
    let mut text = String::new();
    for byte in bytes {
        let escaped = byte.escape_ascii();
        if text.len() + escaped.len() > ECHO_BYTES_MAX {
            break;
        }
        text.extend(escaped.map(char::from));
    }
    text
}
