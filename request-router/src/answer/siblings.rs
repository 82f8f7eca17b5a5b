//! Several versions as one JSON document, the default form of 300. A value is a JSON string where
//! it is text in UTF-8, else base64: a document never alters bytes.

use axum::body::Body;
use axum::response::Response;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use dynamo_core::time::WallMs;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, StatusCode};
use serde::Serialize;
use service_kit::http::error::{ErrorCode, Problem};
use std::collections::BTreeMap;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::{Found, headers, multipart, value};
use crate::request::accept::SiblingForm;

/// The document of a 300.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Siblings<'a> {
    /// The context that a put needs to replace all of them.
    context: Option<&'a str>,
    /// The versions.
    siblings: Vec<Sibling<'a>>,
}

/// One version.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Sibling<'a> {
    /// Entity tag of this version, for `?sibling=`.
    etag: &'a str,
    /// The content type it was stored with.
    content_type: &'a str,
    /// When it was accepted, RFC 3339.
    last_modified: String,
    /// When it expires, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<String>,
    /// User metadata.
    meta: BTreeMap<&'a str, &'a str>,
    /// The value, where it is text in UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<&'a str>,
    /// The value in base64, where it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    value_base64: Option<String>,
}

/// 300 in the form that the client takes.
///
/// # Errors
/// 500 where the document cannot be encoded.
pub fn respond(found: &Found, form: SiblingForm) -> Result<Response, Problem> {
    let mut head = headers::common(found);
    headers::body(&mut head);
    let body = match form {
        SiblingForm::Json => {
            head.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            encode(&document(found))?
        }
        SiblingForm::Multipart => {
            let boundary = multipart::boundary(&mut service_kit::rng::OsEntropy);
            head.insert(CONTENT_TYPE, multipart::content_type(&boundary));
            multipart::encode(found, &boundary)
        }
    };
    Ok(with_status(StatusCode::MULTIPLE_CHOICES, head, body))
}

fn document(found: &Found) -> Siblings<'_> {
    let siblings = found.siblings().map(|(view, bytes)| {
        let text = bytes.map(|bytes| std::str::from_utf8(bytes).map_err(|_| bytes));
        let (value, value_base64) = match text {
            None => (None, None),
            Some(Ok(text)) => (Some(text), None),
            Some(Err(bytes)) => (None, Some(STANDARD.encode(bytes))),
        };
        Sibling {
            etag: &view.etag,
            content_type: value::content_type(view),
            last_modified: rfc3339(view.last_modified),
            expires_at: view.expires_at.map(rfc3339),
            meta: view.meta.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect(),
            value,
            value_base64,
        }
    });
    Siblings { context: found.versions.context.as_deref(), siblings: siblings.collect() }
}

/// Encodes a document of an answer.
///
/// # Errors
/// 500, which only a mistake in the program can cause.
pub fn encode(document: &impl Serialize) -> Result<Body, Problem> {
    serde_json::to_vec(document).map(Body::from).map_err(|error| {
        tracing::error!(%error, "an answer could not be encoded");
        Problem::new(ErrorCode::Internal, "the answer could not be encoded")
    })
}

/// A response of these parts.
#[must_use]
pub fn with_status(status: StatusCode, head: HeaderMap, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    *response.headers_mut() = head;
    response
}

/// A time in UTC with milliseconds; the epoch's bounds where it is beyond the calendar.
#[must_use]
pub fn rfc3339(at: WallMs) -> String {
    let time = OffsetDateTime::from_unix_timestamp_nanos(i128::from(at.0) * 1_000_000);
    let text = time.ok().and_then(|time| time.format(&Rfc3339).ok());
    text.unwrap_or_else(|| "9999-12-31T23:59:59Z".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rfc3339() {
        assert_eq!(rfc3339(WallMs(1_785_542_400_123)), "2026-08-01T00:00:00.123Z");
        assert_eq!(rfc3339(WallMs(0)), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(WallMs(u64::MAX)), "9999-12-31T23:59:59Z");
    }
}
