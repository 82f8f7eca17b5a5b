//! The ring snapshot, with long poll.

use std::time::Duration;

use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse, Response};
use dynamo_core::limits::RING_WAIT_MS_MAX;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use http::{HeaderMap, HeaderValue, StatusCode};
use service_kit::http::error::{ErrorCode, Problem, escape_echo};

use super::ApiState;
use crate::agent::Published;

/// `GET /v1/ring`: the snapshot, or 304 where `If-None-Match` names it. With `wait_ms` the answer
/// waits for one that it does not name.
///
/// # Errors
/// 400 for a bad query, 503 `not_ready` before the founding.
pub async fn snapshot(
    State(state): State<ApiState>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let wait = wait_of(query.as_deref())?;
    let known = headers.get(IF_NONE_MATCH).and_then(|tag| tag.to_str().ok());
    let mut published = state.agent.subscribe();
    let is_news = |published: &Option<Published>| {
        published.as_ref().is_some_and(|published| Some(published.etag.as_str()) != known)
    };
    let changed = async {
        // The sender lives as long as the agent, so waiting does not fail while it is served.
        published.wait_for(is_news).await.ok().and_then(|published| published.clone())
    };
    let news = tokio::select! {
        biased;
        news = changed => news,
        () = tokio::time::sleep(wait) => None,
        () = state.stopping.requested() => None,
    };
    let present = published.borrow().clone();
    match (news, present) {
        (Some(news), _) => Ok(answer(news)),
        (None, Some(present)) => Ok(not_modified(&present)),
        (None, None) => Err(Problem::new(
            ErrorCode::NotReady,
            "the cluster has not been founded: stage and commit its first members",
        )),
    }
}

fn answer(published: Published) -> Response {
    let mut response = Body::from(published.body).into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    tag(headers, &published.etag);
    response
}

fn not_modified(published: &Published) -> Response {
    let mut response = StatusCode::NOT_MODIFIED.into_response();
    tag(response.headers_mut(), &published.etag);
    response
}

fn tag(headers: &mut HeaderMap, etag: &str) {
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    if let Ok(value) = HeaderValue::from_str(etag) {
        headers.insert(ETAG, value);
    }
}

/// `wait_ms`, in plain digits, at most once.
fn wait_of(query: Option<&str>) -> Result<Duration, Problem> {
    let mut wait = None;
    for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        if name != "wait_ms" {
            let shown = escape_echo(name.as_bytes());
            let detail = format!("'{shown}' is not known here, wait_ms is");
            return Err(Problem::new(ErrorCode::UnknownParameter, detail));
        }
        if wait.is_some() {
            return Err(Problem::new(ErrorCode::DuplicateParameter, "wait_ms is given twice"));
        }
        let digits = (1..=6).contains(&value.len()) && value.bytes().all(|b| b.is_ascii_digit());
        let ms = value.parse::<u64>().ok().filter(|ms| digits && *ms <= RING_WAIT_MS_MAX);
        let bad = || {
            let detail = format!("wait_ms must be 0..{RING_WAIT_MS_MAX} in plain digits");
            Problem::new(ErrorCode::BadParameter, detail)
        };
        wait = Some(ms.ok_or_else(bad)?);
    }
    Ok(Duration::from_millis(wait.unwrap_or(0)))
}
