//! One version: its bytes as they were stored, under the content type that they were stored with.

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use dynamo_core::wire::coordinate::SiblingView;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, StatusCode};

use super::headers;
use crate::request::accept::OCTET_STREAM;

/// The content type that a sibling is served under.
#[must_use]
pub fn content_type(sibling: &SiblingView) -> &str {
    sibling.content_type.as_deref().unwrap_or(OCTET_STREAM)
}

/// 200 with the value, or with its length alone where the bytes are not at hand (HEAD).
#[must_use]
pub fn respond(mut head: HeaderMap, sibling: &SiblingView, value: Option<&Bytes>) -> Response {
    headers::body(&mut head);
    headers::meta(&mut head, sibling);
    let kind = HeaderValue::from_str(content_type(sibling))
        .unwrap_or(HeaderValue::from_static(OCTET_STREAM));
    head.insert(CONTENT_TYPE, kind);
    head.insert(CONTENT_LENGTH, HeaderValue::from(sibling.len));
    let mut response = Response::new(value.cloned().map_or_else(Body::empty, Body::from));
    *response.status_mut() = StatusCode::OK;
    *response.headers_mut() = head;
    response
}
