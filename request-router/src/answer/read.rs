//! Answers of GET and HEAD.

use axum::body::Body;
use axum::response::Response;
use dynamo_core::wire::coordinate::Condition;
use http::header::{CONTENT_LENGTH, ETAG};
use http::{HeaderMap, StatusCode};
use service_kit::http::error::{ErrorCode, Problem};

use super::siblings::with_status;
use super::{Found, headers, siblings, value};
use crate::dispatch::Refused;
use crate::request::accept::{Accept, JSON, MULTIPART, not_acceptable};
use crate::request::conditions::{ReadVerdict, on_read};
use crate::request::params::GetParams;

/// What a read asks for, as far as the answer's form goes.
#[derive(Debug, Clone, Copy)]
pub struct Wish<'a> {
    /// The parameters.
    pub params: &'a GetParams,
    /// The representations that are taken.
    pub accept: &'a Accept,
    /// The precondition.
    pub condition: Option<&'a Condition>,
}

/// The answer to a read.
///
/// # Errors
/// The refusal, with the headers of what was found: 404, 406, 412.
pub fn respond(found: &Found, wish: Wish<'_>) -> Result<Response, Refused> {
    if found.versions.siblings.is_empty() {
        if on_read(wish.condition, None) == ReadVerdict::Failed {
            return Err(precondition_failed(found));
        }
        return Err(refuse(found, ErrorCode::NotFound, absent(found)));
    }
    match on_read(wish.condition, found.versions.etag.as_deref()) {
        ReadVerdict::Proceed => {}
        ReadVerdict::NotModified => return Ok(not_modified(found)),
        ReadVerdict::Failed => return Err(precondition_failed(found)),
    }
    let chosen = match (&wish.params.sibling, wish.params.resolve_lww) {
        (Some(etag), _) => match found.tagged(etag) {
            Some(index) => Some(index),
            None => {
                let detail = "the key has no sibling with this entity tag (any more)";
                return Err(refuse(found, ErrorCode::NotFound, detail));
            }
        },
        (None, true) => found.latest(),
        (None, false) => (found.versions.siblings.len() == 1).then_some(0),
    };
    match chosen.and_then(|index| found.siblings().nth(index)) {
        Some((view, bytes)) => {
            if !wish.accept.takes(value::content_type(view)) {
                let problem = not_acceptable(value::content_type(view));
                return Err(refused(found, problem));
            }
            Ok(value::respond(headers::common(found), view, bytes))
        }
        None => {
            let form = wish
                .accept
                .sibling_form()
                .ok_or_else(|| refused(found, not_acceptable(&format!("{JSON} or {MULTIPART}"))))?;
            siblings::respond(found, form).map_err(Refused::from)
        }
    }
}

fn not_modified(found: &Found) -> Response {
    let mut head = headers::common(found);
    headers::body(&mut head);
    with_status(StatusCode::NOT_MODIFIED, head, Body::empty())
}

fn absent(found: &Found) -> &'static str {
    if found.versions.deleted { "the key was deleted" } else { "the key does not exist" }
}

fn precondition_failed(found: &Found) -> Refused {
    let detail = "If-Match does not name the present version set";
    refuse(found, ErrorCode::PreconditionFailed, detail)
}

fn refuse(found: &Found, code: ErrorCode, detail: &str) -> Refused {
    refused(found, Problem::new(code, detail))
}

/// A refusal that still says what was found: a 404 carries the context of a deleted key.
fn refused(found: &Found, problem: Problem) -> Refused {
    let mut headers: HeaderMap = headers::common(found);
    headers.remove(CONTENT_LENGTH);
    if problem.code() == ErrorCode::NotFound && found.versions.siblings.is_empty() {
        headers.remove(ETAG);
    }
    Refused { problem, headers, by_peer: false }
}
