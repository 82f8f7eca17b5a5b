//! Objects on the router's HTTP API: how a call becomes a request, and an answer a result.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use dynamo_core::key::ObjectKey;
use dynamo_core::wire::coordinate::Condition;
use dynamo_core::wire::headers;
use reqwest::header::{CONTENT_TYPE, ETAG, LAST_MODIFIED};
use reqwest::{Method, StatusCode};
use serde::Deserialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::context::Context;
use crate::error::{Error, Outcome, echo};
use crate::kv::evidence::Evidence;
use crate::kv::get::GetResult;
use crate::kv::operation::{GetOperation, PutContent, PutOperation};
use crate::kv::put::PutResult;
use crate::kv::version::{Siblings, Version};
use crate::transport::exchange::{Answer, DeadlineHeader, Kind, Request};

/// The request of a get.
///
/// # Errors
/// [`Error::Parameter`] for a key that no URL can carry.
pub(crate) fn get_request(operation: &GetOperation) -> Result<Request, Error> {
    let mut query = Query::default();
    query.add("r", operation.r);
    query.add("pr", operation.pr);
    query.add("notfound_ok", operation.notfound_ok);
    let path = query.behind(object_path(&operation.object)?);
    let mut request = Request::new(Method::GET, path, Kind::Read);
    request.deadline = DeadlineHeader::Client;
    Ok(request)
}

/// The request of a put or delete.
///
/// # Errors
/// [`Error::Parameter`] for a key, content type or metadata that HTTP cannot carry.
pub(crate) fn put_request(operation: &PutOperation) -> Result<Request, Error> {
    let mut query = Query::default();
    query.add("w", operation.w);
    query.add("pw", operation.pw);
    query.add("durability", operation.durability);
    let method = match &operation.content {
        PutContent::Value { ttl, .. } => {
            query.add("ttl_s", ttl.map(whole_seconds));
            Method::PUT
        }
        PutContent::Delete => Method::DELETE,
    };
    let path = query.behind(object_path(&operation.object)?);
    let mut request = Request::new(method, path, Kind::NamedWrite);
    request.deadline = DeadlineHeader::Client;
    request.header(headers::IDEMPOTENCY_KEY, &operation.put_id.to_string())?;
    if let Some(context) = &operation.context {
        request.header(headers::CONTEXT, context.as_str())?;
    }
    if let PutContent::Value { bytes, content_type, meta, .. } = &operation.content {
        request.body = bytes.clone();
        if let Some(name) = content_type {
            request.header("content-type", name)?;
        }
        for (name, value) in meta {
            add_meta(&mut request, name, value)?;
        }
    }
    if let Some(condition) = &operation.condition {
        let (name, value) = match condition {
            Condition::Exists => ("if-match", "*".to_owned()),
            Condition::Absent => ("if-none-match", "*".to_owned()),
            Condition::Matches(tags) => ("if-match", quoted(tags)),
            Condition::MatchesNone(tags) => ("if-none-match", quoted(tags)),
        };
        request.header(name, &value)?;
    }
    Ok(request)
}

/// The result behind the answer to a get.
///
/// # Errors
/// [`Error::Refused`] and [`Error::BadAnswer`].
pub(crate) fn get_result(answer: &Answer) -> Result<GetResult, Error> {
    let evidence = Evidence::of_headers(answer);
    let context = answer.text(headers::CONTEXT).map(Context::from_token);
    let etag = answer.text(ETAG.as_str()).map(unquoted);
    match answer.status {
        StatusCode::OK => {
            let versions = Siblings::new(vec![single_version(answer)]);
            Ok(GetResult { versions, context, deleted: false, etag, evidence })
        }
        StatusCode::MULTIPLE_CHOICES => {
            let (body_context, versions) = siblings(&answer.body)?;
            let context = context.or(body_context);
            Ok(GetResult { versions, context, deleted: false, etag, evidence })
        }
        StatusCode::NOT_FOUND if is_absence(answer) => {
            let deleted = answer.text(headers::DELETED) == Some("true");
            Ok(GetResult { versions: Siblings::default(), context, deleted, etag, evidence })
        }
        _ => Err(Error::refused(answer, Kind::Read)),
    }
}

/// The result behind the answer to a put or delete.
///
/// # Errors
/// [`Error::Refused`].
pub(crate) fn put_result(answer: &Answer) -> Result<PutResult, Error> {
    if !answer.status.is_success() {
        return Err(Error::refused(answer, Kind::NamedWrite));
    }
    Ok(PutResult {
        context: answer.text(headers::CONTEXT).map(Context::from_token),
        etag: answer.text(ETAG.as_str()).map(unquoted),
        siblings: answer.text(headers::SIBLINGS).and_then(|text| text.parse().ok()),
        put_id: None,
        evidence: Evidence::of_headers(answer),
    })
}

/// A 404 about the object, not about the route (a wrong base URL, say): the former has our
/// problem document or evidence.
fn is_absence(answer: &Answer) -> bool {
    #[derive(Deserialize)]
    struct Code {
        code: String,
    }
    answer.headers.contains_key(headers::ACKS)
        || answer.headers.contains_key(headers::DELETED)
        || serde_json::from_slice::<Code>(&answer.body).is_ok_and(|doc| doc.code == "not_found")
}

fn single_version(answer: &Answer) -> Version {
    let meta = answer
        .headers
        .iter()
        .filter_map(|(name, value)| {
            let name = name.as_str().strip_prefix(headers::META_PREFIX)?;
            Some((name.to_owned(), value.to_str().ok()?.to_owned()))
        })
        .collect();
    Version {
        value: answer.body.clone(),
        content_type: answer.text(CONTENT_TYPE.as_str()).map(str::to_owned),
        meta,
        last_modified: answer
            .text(LAST_MODIFIED.as_str())
            .and_then(|text| httpdate::parse_http_date(text).ok()),
        etag: answer.text(ETAG.as_str()).map(unquoted),
    }
}

#[derive(Deserialize)]
struct SiblingsDto {
    #[serde(default)]
    context: Option<Context>,
    siblings: Vec<SiblingDto>,
}

#[derive(Deserialize)]
struct SiblingDto {
    #[serde(default)]
    etag: Option<String>,
    #[serde(default)]
    content_type: Option<String>,
    #[serde(default)]
    last_modified: Option<String>,
    #[serde(default)]
    meta: BTreeMap<String, String>,
    #[serde(default)]
    value: Option<String>,
    #[serde(default)]
    value_base64: Option<String>,
}

fn siblings(body: &[u8]) -> Result<(Option<Context>, Siblings), Error> {
    let bad = |reason: String| Error::BadAnswer { reason, outcome: Outcome::NotApplied };
    let dto: SiblingsDto = serde_json::from_slice(body)
        .map_err(|error| bad(format!("the siblings are not the documented JSON: {error}")))?;
    let mut versions = Vec::with_capacity(dto.siblings.len());
    for sibling in dto.siblings {
        let value = match (sibling.value, sibling.value_base64) {
            (Some(text), None) => Bytes::from(text),
            (None, Some(text)) => STANDARD
                .decode(&text)
                .map(Bytes::from)
                .map_err(|_| bad(format!("a sibling is not base64: {}", echo(text.as_bytes()))))?,
            _ => return Err(bad("a sibling without exactly one form of its value".to_owned())),
        };
        let last_modified = sibling
            .last_modified
            .and_then(|text| OffsetDateTime::parse(&text, &Rfc3339).ok())
            .map(SystemTime::from);
        versions.push(Version {
            value,
            content_type: sibling.content_type,
            meta: sibling.meta,
            last_modified,
            etag: sibling.etag.as_deref().map(unquoted),
        });
    }
    Ok((dto.context, Siblings::new(versions)))
}

/// Path of an object. URLs know no segment "." or "..": where a key has one among others, its
/// slashes are escaped, so that the key is one segment; where it is nothing else, no URL names it.
pub(crate) fn object_path(object: &ObjectKey) -> Result<String, Error> {
    let mut key = object.key_text();
    if matches!(key.as_str(), "." | "..") {
        return Err(Error::Parameter {
            name: "key".to_owned(),
            reason: "URLs cannot carry the keys \".\" and \"..\"; the direct modes can".to_owned(),
        });
    }
    if key.split('/').any(|segment| matches!(segment, "." | "..")) {
        key = key.replace('/', "%2F");
    }
    Ok(format!("/v1/kv/{}/{key}", object.bucket()))
}

fn add_meta(request: &mut Request, name: &str, value: &str) -> Result<(), Error> {
    let header: reqwest::header::HeaderName =
        format!("{}{name}", headers::META_PREFIX).parse().map_err(|_| Error::Parameter {
            name: format!("metadata name {}", echo(name.as_bytes())),
            reason: "must be a header name: letters, digits and '-'".to_owned(),
        })?;
    let value = reqwest::header::HeaderValue::from_str(value).map_err(|_| Error::Parameter {
        name: format!("metadata value of {}", echo(name.as_bytes())),
        reason: "must be printable ASCII".to_owned(),
    })?;
    request.headers.insert(header, value);
    Ok(())
}

fn whole_seconds(ttl: Duration) -> u64 {
    ttl.as_secs() + u64::from(ttl.subsec_nanos() > 0)
}

fn quoted(tags: &[String]) -> String {
    tags.iter().map(|tag| format!("\"{tag}\"")).collect::<Vec<_>>().join(", ")
}

/// An entity tag without its quotes; a weak one without its mark.
pub(crate) fn unquoted(tag: &str) -> String {
    tag.trim_start_matches("W/").trim_matches('"').to_owned()
}

/// A query string in the making.
#[derive(Default)]
struct Query(String);

impl Query {
    fn add(&mut self, name: &str, value: Option<impl std::fmt::Display>) {
        if let Some(value) = value {
            self.0.push(if self.0.is_empty() { '?' } else { '&' });
            self.0.push_str(name);
            self.0.push('=');
            self.0.push_str(&value.to_string());
        }
    }

    fn behind(self, path: String) -> String {
        path + &self.0
    }
}
