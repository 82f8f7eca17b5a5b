//! Where a request stands in its trace (W3C Trace Context): a span for each request of a process, and
//! one for each message on its behalf.
//!
//! Spans say what was done by the pattern of the route, never by the path: a path has the key of an
//! object. What goes on after a request was answered is not traced.

use std::collections::HashMap;
use std::fmt::Display;
use std::sync::atomic::{AtomicBool, Ordering};

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use opentelemetry::propagation::TextMapPropagator;
use opentelemetry::trace::TraceContextExt;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tracing::Span;
use tracing::field::Empty;
use tracing_opentelemetry::OpenTelemetrySpanExt;

/// The header that carries the trace of a request (W3C Trace Context).
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// True while spans are exported. Without it no request pays for one.
pub(super) static EXPORTING: AtomicBool = AtomicBool::new(false);

/// A span for the request with these headers, `None` where nothing is exported or the sampler
/// says no. The span continues the caller's trace, and the request's `traceparent` becomes the
/// span's, so that whoever [`propagate`]s it sends its own position on.
pub(crate) fn request_span(method: &Method, headers: &mut HeaderMap) -> Option<Span> {
    if !EXPORTING.load(Ordering::Relaxed) {
        return None;
    }
    let span = tracing::info_span!(
        "request",
        otel.kind = "server",
        otel.status_code = Empty,
        http.request.method = %method,
        http.route = Empty,
        http.response.status_code = Empty,
        request_id = Empty,
    );
    let caller = traceparent(headers).and_then(|value| value.to_str().ok());
    let carrier: HashMap<String, String> = caller
        .map(|value| (TRACEPARENT.as_str().to_owned(), value.to_owned()))
        .into_iter()
        .collect();
    let propagator = TraceContextPropagator::new();
    if let Err(error) = span.set_parent(propagator.extract(&carrier)) {
        tracing::debug!(%error, "the caller's trace is not continued");
    }
    position(&span, headers);
    span.context().span().span_context().is_sampled().then_some(span)
}

/// Names the span of the request that is being handled, once its route is known.
pub(crate) fn name_request(method: &str, route: &str) {
    if EXPORTING.load(Ordering::Relaxed) {
        let span = Span::current();
        span.record("http.route", route);
        // The field otel.name is only heard before a span has begun.
        span.context().span().update_name(format!("{method} {route}"));
    }
}

/// Notes how a request ended.
pub(crate) fn end_request(span: &Span, status: StatusCode, request_id: &str) {
    span.record("http.response.status_code", status.as_u16());
    span.record("request_id", request_id);
    if status.is_server_error() {
        span.record("otel.status_code", "ERROR");
    }
}

/// A span for what is sent to another process on behalf of the request that is being handled; `None`
/// where that is not recorded. It lasts until it is dropped, also where that is after the answer.
#[must_use]
pub fn message_span(name: &'static str, to: impl Display) -> Option<Span> {
    if !EXPORTING.load(Ordering::Relaxed) {
        return None;
    }
    let request = Span::current();
    if request.is_none() {
        return None;
    }
    // A child of the request in the trace alone: otherwise the request would last as long as it.
    let span = tracing::info_span!(
        parent: None,
        "message",
        otel.kind = "client",
        otel.name = name,
        otel.status_code = Empty,
        peer = %to,
    );
    if let Err(error) = span.set_parent(request.context()) {
        tracing::debug!(%error, "a message is not part of its request's trace");
    }
    Some(span)
}

/// Notes that a message was in vain.
pub fn fail(span: &Span) {
    span.record("otel.status_code", "ERROR");
}

/// Writes the position of a span into a message, for its receiver to go on from.
pub fn position(span: &Span, headers: &mut HeaderMap) {
    let mut stated = HashMap::new();
    TraceContextPropagator::new().inject_context(&span.context(), &mut stated);
    if let Some(Ok(value)) = stated.get(TRACEPARENT.as_str()).map(|v| HeaderValue::from_str(v)) {
        headers.insert(TRACEPARENT, value);
    }
}

/// The trace of a request where it is well-formed, to be sent on as it is.
#[must_use]
pub fn traceparent(headers: &HeaderMap) -> Option<&HeaderValue> {
    headers.get(TRACEPARENT).filter(|value| is_traceparent(value.as_bytes()))
}

/// Copies a well-formed trace from one message to the next.
pub fn propagate(from: &HeaderMap, to: &mut HeaderMap) {
    if let Some(value) = traceparent(from) {
        to.insert(TRACEPARENT, value.clone());
    }
}

/// True where the caller records this trace.
#[must_use]
pub fn is_sampled(headers: &HeaderMap) -> bool {
    let flags = traceparent(headers).and_then(|value| value.as_bytes().get(53..55));
    flags
        .and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok())
        .is_some_and(|flags| flags & 1 == 1)
}

/// `00-<32 hex>-<16 hex>-<2 hex>` with neither id all zeros.
fn is_traceparent(value: &[u8]) -> bool {
    let parts: Vec<&[u8]> = value.split(|b| *b == b'-').collect();
    let [version, trace, span, flags] = parts.as_slice() else { return false };
    let hex = |part: &[u8], len: usize| {
        part.len() == len && part.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    };
    let set = |part: &[u8]| part.iter().any(|b| *b != b'0');
    *version == b"00" && hex(trace, 32) && set(trace) && hex(span, 16) && set(span) && hex(flags, 2)
}

#[cfg(test)]
mod tests {
    use opentelemetry::trace::TracerProvider as _;
    use opentelemetry_sdk::trace::{InMemorySpanExporter, Sampler, SdkTracerProvider};
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    #[test]
    fn traces_are_passed_on_only_when_well_formed() {
        let trace = "0af7651916cd43dd8448eb211c80319c";
        let cases = [
            (format!("00-{trace}-b7ad6b7169203331-01"), true, true),
            (format!("00-{trace}-b7ad6b7169203331-00"), true, false),
            (format!("ff-{trace}-b7ad6b7169203331-01"), false, false),
            (format!("00-{}-b7ad6b7169203331-01", "0".repeat(32)), false, false),
            (format!("00-{trace}-b7ad6b7169203331"), false, false),
            ("junk".to_owned(), false, false),
        ];
        for (value, good, sampled) in cases {
            let mut from = HeaderMap::new();
            from.insert(TRACEPARENT, HeaderValue::from_str(&value).unwrap());
            let mut to = HeaderMap::new();
            propagate(&from, &mut to);
            assert_eq!(to.contains_key(TRACEPARENT), good, "{value}");
            assert_eq!(is_sampled(&from), sampled, "{value}");
        }
    }

    #[test]
    fn a_span_continues_the_trace_of_its_caller() {
        let exporter = InMemorySpanExporter::default();
        let provider = SdkTracerProvider::builder()
            .with_simple_exporter(exporter.clone())
            .with_sampler(Sampler::ParentBased(Box::new(Sampler::AlwaysOff)))
            .build();
        let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
        let mut headers = HeaderMap::new();
        let method = http::Method::GET;
        assert!(request_span(&method, &mut headers).is_none(), "nothing is exported");
        EXPORTING.store(true, Ordering::Relaxed);
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            assert!(request_span(&method, &mut headers).is_none(), "the sampler says no");
            let trace = "0af7651916cd43dd8448eb211c80319c";
            let caller = format!("00-{trace}-b7ad6b7169203331-01");
            headers.insert(TRACEPARENT, HeaderValue::from_str(&caller).unwrap());
            let span = request_span(&method, &mut headers).expect("the caller records");
            let sent = headers[TRACEPARENT].to_str().unwrap();
            assert!(sent.starts_with(&format!("00-{trace}-")) && sent != caller, "{sent}");
            drop(span);
        });
        EXPORTING.store(false, Ordering::Relaxed);
        let spans = exporter.get_finished_spans().unwrap();
        assert_eq!(spans.len(), 1);
        assert_eq!(spans[0].parent_span_id.to_string(), "b7ad6b7169203331");
    }
}
