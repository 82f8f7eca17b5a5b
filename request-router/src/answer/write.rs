//! Answers of PUT, POST and DELETE.

use axum::body::Body;
use axum::response::Response;
use http::header::LOCATION;
use http::{HeaderValue, StatusCode};
use service_kit::http::error::Problem;

use super::siblings::with_status;
use super::{Found, headers, siblings, value};
use crate::request::accept::{Accept, SiblingForm};

/// 204 with the new context.
#[must_use]
pub fn done(found: &Found) -> Response {
    with_status(StatusCode::NO_CONTENT, headers::common(found), Body::empty())
}

/// 201 with the place of the new object.
#[must_use]
pub fn created(found: &Found, location: HeaderValue) -> Response {
    let mut head = headers::common(found);
    head.insert(LOCATION, location);
    with_status(StatusCode::CREATED, head, Body::empty())
}

/// 200 or 300 with the resulting versions. The write has happened, so the client gets them in the
/// default form even where it would rather have another.
///
/// # Errors
/// 500 where they cannot be encoded.
pub fn with_versions(found: &Found, accept: &Accept) -> Result<Response, Problem> {
    let mut all = found.siblings();
    match (all.next(), all.next()) {
        (None, _) => Ok(done(found)),
        (Some((view, bytes)), None) => Ok(value::respond(headers::common(found), view, bytes)),
        (Some(_), Some(_)) => {
            siblings::respond(found, accept.sibling_form().unwrap_or(SiblingForm::Json))
        }
    }
}
