//! Failures of coordinated requests as problem documents, each with what is known of the outcome.

use dynamo_core::clock::context::ContextError;
use dynamo_core::quorum::{
    GetFailure, GetFailureKind, LocalFailure, Outcome as OpOutcome, PutFailure, PutFailureKind,
    ReplicaReport,
};
use dynamo_core::replica::PutRefusal;
use dynamo_core::versions::version_set_etag;
use dynamo_core::wire::headers::{CONTEXT, RING_VERSION, SIBLINGS};
use http::header::ETAG;
use http::{HeaderName, HeaderValue, StatusCode};
use service_kit::http::error::{ErrorCode, Outcome, Problem, ReplicaResult};

use super::request::Request;
use crate::metrics::RequestEnd;
use crate::node::Node;

impl RequestEnd {
    /// How a refused request ended.
    #[must_use]
    pub fn of(problem: &Problem) -> Self {
        if problem.code() == ErrorCode::DeadlineExceeded {
            Self::Deadline
        } else if problem.status().is_client_error() {
            Self::Refused
        } else if problem.status() == StatusCode::SERVICE_UNAVAILABLE {
            Self::Unavailable
        } else {
            Self::Failed
        }
    }
}

/// The refusal of a get.
#[must_use]
pub fn get_problem(failure: &GetFailure) -> Problem {
    let (code, detail) = match failure.kind {
        GetFailureKind::QuorumUnavailable => {
            (ErrorCode::QuorumUnavailable, "too few replicas of the object can be reached")
        }
        GetFailureKind::AbsenceUnconfirmed => {
            (ErrorCode::AbsenceUnconfirmed, "too few primaries could confirm that nothing is there")
        }
        GetFailureKind::Deadline => {
            (ErrorCode::DeadlineExceeded, "too few replicas answered in time")
        }
    };
    // A get changes nothing, whatever became of it.
    Problem::new(code, detail)
        .outcome(Outcome::NotApplied)
        .counts(failure.required.into(), failure.got.into())
        .replicas(results(&failure.replicas))
}

/// The refusal of a put.
#[must_use]
pub fn put_problem(node: &Node, request: &Request, failure: &PutFailure) -> Problem {
    let problem = match &failure.kind {
        PutFailureKind::NotOwner => return not_owner(request),
        PutFailureKind::QuorumUnavailable => {
            Problem::new(ErrorCode::QuorumUnavailable, "too few replicas took the write")
        }
        PutFailureKind::Deadline => {
            Problem::new(ErrorCode::DeadlineExceeded, "too few replicas took the write in time")
        }
        PutFailureKind::Local(LocalFailure::Refused(refusal)) => {
            return put_refused(node, request, refusal);
        }
        PutFailureKind::Local(LocalFailure::Store { code }) => {
            let code = ErrorCode::parse(code).unwrap_or(ErrorCode::StoreUnavailable);
            Problem::new(code, "the coordinator's own store did not take the write")
        }
    };
    let outcome = match failure.outcome {
        OpOutcome::NotApplied => Outcome::NotApplied,
        OpOutcome::Unknown => Outcome::Unknown,
    };
    problem
        .outcome(outcome)
        .counts(failure.required.into(), failure.got.into())
        .replicas(results(&failure.replicas))
}

/// This node is not one of those that act for the key now.
pub(crate) fn not_owner(request: &Request) -> Problem {
    let ring = request.view.version().to_string();
    let detail = format!("not in the list of this key under ring {ring}");
    let problem = Problem::new(ErrorCode::NotOwner, detail);
    with_header(problem, RING_VERSION, &ring)
}

fn put_refused(node: &Node, request: &Request, refusal: &PutRefusal) -> Problem {
    match refusal {
        PutRefusal::TooManySiblings { record } => {
            let now = node.clock.wall();
            let mut problem = Problem::new(ErrorCode::TooManySiblings, refusal.to_string());
            // The context that resolves them, so that the writer can go on at once.
            let context = dynamo_core::versions::read_context(record, Some(node.me));
            if let Some(Ok(token)) = context.map(|c| node.token(&request.object, &c)) {
                problem = with_header(problem, CONTEXT, &token);
            }
            problem = with_header(problem, SIBLINGS, &record.visible(now).len().to_string());
            match version_set_etag(record, now) {
                Some(etag) => with_header(problem, ETAG.as_str(), &format!("\"{etag}\"")),
                None => problem,
            }
        }
        PutRefusal::IdempotencyMismatch => {
            Problem::new(ErrorCode::IdempotencyMismatch, refusal.to_string())
        }
        PutRefusal::ClockSkew => Problem::new(ErrorCode::ClockSkew, refusal.to_string()),
        // The store ends the epoch and tries again, so this is a mistake in the program.
        PutRefusal::Amnesia { .. } => Problem::new(ErrorCode::Internal, refusal.to_string()),
    }
}

/// The refusal of a context.
#[must_use]
pub fn context_problem(error: ContextError) -> Problem {
    let code = match error {
        ContextError::Version(_) => ErrorCode::ContextVersion,
        ContextError::Invalid | ContextError::TooLong => ErrorCode::BadContext,
    };
    Problem::new(code, error.to_string())
}

/// An answer whose context does not fit into a token. The clock has then outgrown what truncation
/// allows; the operator must hear of it.
#[must_use]
pub fn context_too_long(error: &ContextError) -> Problem {
    tracing::error!(%error, "the clock of an object is too long for a context");
    Problem::new(ErrorCode::Internal, "the object's clock is too long for a context")
        .outcome(Outcome::Unknown)
}

/// A problem with one more header; without it where the value cannot be one.
pub(super) fn with_header(problem: Problem, name: &'static str, value: &str) -> Problem {
    match HeaderValue::from_str(value) {
        Ok(value) => problem.header(HeaderName::from_static(name), value),
        Err(_) => problem,
    }
}

fn results(reports: &[ReplicaReport]) -> Vec<ReplicaResult> {
    reports
        .iter()
        .map(|r| ReplicaResult { node: r.node.to_string(), result: r.result_text() })
        .collect()
}
