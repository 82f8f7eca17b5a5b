//! The headers that every answer about an object carries: what it is, and what happened.

use std::fmt::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use dynamo_core::time::WallMs;
use dynamo_core::wire::coordinate::{Evidence, SiblingView, VersionsView};
use dynamo_core::wire::headers::{
    ACKS, CONTEXT, COORDINATOR, DELETED, DURABILITY, HINTED, META_PREFIX, PRIMARIES, SIBLINGS,
};
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, ETAG, HeaderName, LAST_MODIFIED, VARY,
    X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderMap, HeaderValue};

use super::{Found, Trip};

/// Room for all headers of an answer, so that the map grows once.
const HEADERS_TYPICAL: usize = 24;

const X_ATOLL_CONTEXT: HeaderName = HeaderName::from_static(CONTEXT);
const X_ATOLL_SIBLINGS: HeaderName = HeaderName::from_static(SIBLINGS);
const X_ATOLL_ACKS: HeaderName = HeaderName::from_static(ACKS);
const X_ATOLL_PRIMARIES: HeaderName = HeaderName::from_static(PRIMARIES);
const X_ATOLL_HINTED: HeaderName = HeaderName::from_static(HINTED);
const X_ATOLL_COORDINATOR: HeaderName = HeaderName::from_static(COORDINATOR);
const X_ATOLL_DURABILITY: HeaderName = HeaderName::from_static(DURABILITY);
const X_ATOLL_DELETED: HeaderName = HeaderName::from_static(DELETED);
const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");

/// The headers about the version set, the evidence and the times.
#[must_use]
pub fn common(found: &Found) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(HEADERS_TYPICAL);
    versions(&mut headers, &found.versions);
    evidence(&mut headers, &found.evidence);
    timing(&mut headers, found.trip);
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers
}

/// What an answer with a body adds: it may be another one for another client, may not be reused
/// without asking, and must not run as a page of this origin.
pub fn body(headers: &mut HeaderMap) {
    headers.insert(VARY, HeaderValue::from_static("accept"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static("sandbox"));
}

/// The metadata of one sibling.
pub fn meta(headers: &mut HeaderMap, sibling: &SiblingView) {
    for (name, value) in &sibling.meta {
        let name = HeaderName::try_from(format!("{META_PREFIX}{name}"));
        let value = HeaderValue::from_str(value);
        // Checked when it was stored; a peer of another version may have had other rules.
        if let (Ok(name), Ok(value)) = (name, value) {
            headers.insert(name, value);
        }
    }
}

/// A quoted entity tag.
#[must_use]
pub fn quoted(etag: &str) -> Option<HeaderValue> {
    HeaderValue::try_from(format!("\"{etag}\"")).ok()
}

/// A time as HTTP writes it; `None` beyond the year 9999, which it cannot write.
#[must_use]
pub fn http_date(at: WallMs) -> Option<String> {
    const YEAR_10000_MS: u64 = 253_402_300_800_000;
    let time: Option<SystemTime> =
        (at.0 < YEAR_10000_MS).then(|| UNIX_EPOCH + Duration::from_millis(at.0));
    time.map(httpdate::fmt_http_date)
}

fn versions(headers: &mut HeaderMap, versions: &VersionsView) {
    if let Some(context) = versions.context.as_deref().and_then(|c| HeaderValue::from_str(c).ok()) {
        headers.insert(X_ATOLL_CONTEXT, context);
    }
    if let Some(etag) = versions.etag.as_deref().and_then(quoted) {
        headers.insert(ETAG, etag);
    }
    let newest = versions.siblings.iter().map(|sibling| sibling.last_modified).max();
    if let Some(date) = newest.and_then(http_date).and_then(|d| HeaderValue::try_from(d).ok()) {
        headers.insert(LAST_MODIFIED, date);
    }
    if versions.deleted {
        headers.insert(X_ATOLL_DELETED, HeaderValue::from_static("true"));
    }
    headers.insert(X_ATOLL_SIBLINGS, HeaderValue::from(versions.sibling_count));
}

fn evidence(headers: &mut HeaderMap, evidence: &Evidence) {
    headers.insert(X_ATOLL_ACKS, ratio(evidence.acks, evidence.asked));
    headers.insert(X_ATOLL_PRIMARIES, ratio(evidence.primaries, evidence.n));
    headers.insert(X_ATOLL_HINTED, HeaderValue::from(u16::from(evidence.hinted)));
    if let Ok(node) = HeaderValue::try_from(evidence.coordinator.to_string()) {
        headers.insert(X_ATOLL_COORDINATOR, node);
    }
    let durability = match evidence.durability {
        dynamo_core::params::Durability::Fsync => "fsync",
        dynamo_core::params::Durability::Buffered => "buffered",
    };
    headers.insert(X_ATOLL_DURABILITY, HeaderValue::from_static(durability));
}

fn timing(headers: &mut HeaderMap, trip: Trip) {
    let mut text = String::with_capacity(48);
    let ms = |duration: Duration| duration.as_secs_f64() * 1000.0;
    let written = write!(
        text,
        "coordinator;dur={:.3}, total;dur={:.3}",
        ms(trip.coordination),
        ms(trip.total)
    );
    if let (Ok(()), Ok(value)) = (written, HeaderValue::try_from(text)) {
        headers.insert(SERVER_TIMING, value);
    }
}

/// `got/asked`.
fn ratio(got: u8, asked: u8) -> HeaderValue {
    // Digits and a slash are always a valid header value.
    HeaderValue::try_from(format!("{got}/{asked}")).unwrap_or(HeaderValue::from_static("0/0"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_that_http_cannot_write_are_left_out() {
        assert_eq!(http_date(WallMs(0)).as_deref(), Some("Thu, 01 Jan 1970 00:00:00 GMT"));
        assert_eq!(
            http_date(WallMs(1_785_542_400_999)).as_deref(),
            Some("Sat, 01 Aug 2026 00:00:00 GMT")
        );
        assert_eq!(http_date(WallMs(u64::MAX)), None);
        assert_eq!(http_date(WallMs(253_402_300_800_000)), None);
        assert!(http_date(WallMs(253_402_300_799_999)).is_some());
    }
}
