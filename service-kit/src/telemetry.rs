//! Logs to standard error as text or JSON, and traces over OTLP where an endpoint is configured.
//!
//! Without an endpoint the trace layer is absent: it costs 1.6 µs per request even when nothing is
//! sampled. The exporter uses a blocking client on a thread of its own, as the batch processor
//! requires, and therefore is built and shut down outside the runtime.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};

use http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry::propagation::TextMapPropagator;
use opentelemetry::trace::{TraceContextExt, TracerProvider as _};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};
use serde::{Deserialize, Serialize};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

use crate::config::{Invalid, Validate};
use crate::limits::{TELEMETRY_FLUSH_TIMEOUT, TELEMETRY_SEND_TIMEOUT};
use crate::tls::plain_client;

/// The variable that overrules the configured log level.
pub const LOG_VARIABLE: &str = "ATOLL_LOG";

/// The header that carries the trace of a request (W3C Trace Context).
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// Shape of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// The `[telemetry]` table of every service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TelemetryConfig {
    /// Level (`error`, `warn`, `info`, `debug`, `trace`) or a filter such as
    /// `info,service_kit=debug`.
    pub level: String,
    /// Shape of a log line.
    pub format: LogFormat,
    /// Where spans go, `http://host:4318`; empty for no traces. `OTEL_EXPORTER_OTLP_ENDPOINT` is
    /// used where it is empty.
    pub otlp_endpoint: String,
    /// Share of traces that start here and are recorded; a caller's decision is followed.
    pub sample_ratio: f64,
}

impl Default for TelemetryConfig {
    fn default() -> Self {
        Self {
            level: "info".into(),
            format: LogFormat::Text,
            otlp_endpoint: String::new(),
            sample_ratio: 0.01,
        }
    }
}

impl Validate for TelemetryConfig {
    fn validate(&self) -> Result<(), Invalid> {
        if let Err(error) = EnvFilter::try_new(&self.level) {
            return Err(Invalid::new("telemetry.level", error.to_string()));
        }
        if !(0.0..=1.0).contains(&self.sample_ratio) {
            return Err(Invalid::new("telemetry.sample_ratio", "must be between 0 and 1"));
        }
        if !self.otlp_endpoint.is_empty() && !self.otlp_endpoint.starts_with("http://") {
            let reason = "must begin with http:// (a local collector adds TLS)";
            return Err(Invalid::new("telemetry.otlp_endpoint", reason));
        }
        Ok(())
    }
}

/// Logs or traces could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The filter of the level or of `ATOLL_LOG` is invalid.
    #[error("log filter: {0}")]
    Filter(String),
    /// The exporter cannot be built for the endpoint.
    #[error("trace exporter: {0}")]
    Exporter(String),
}

/// Flushes what is left when the process ends. Drop it outside the runtime.
#[derive(Debug, Default)]
pub struct TelemetryGuard {
    provider: Option<SdkTracerProvider>,
}

impl Drop for TelemetryGuard {
    fn drop(&mut self) {
        let Some(provider) = self.provider.take() else { return };
        if let Err(error) = provider.shutdown_with_timeout(TELEMETRY_FLUSH_TIMEOUT) {
            tracing::warn!(%error, "the last traces were not delivered");
        }
    }
}

/// Sets up the logs and traces of the process. The first call decides; later ones (tests, several
/// services in one process) change nothing. Must be called outside the runtime.
///
/// # Errors
/// When the filter or the endpoint is invalid.
pub fn init(
    config: &TelemetryConfig,
    service: &'static str,
) -> Result<TelemetryGuard, TelemetryError> {
    let level = match std::env::var(LOG_VARIABLE) {
        Ok(level) if !level.is_empty() => level,
        _ => config.level.clone(),
    };
    let filter =
        EnvFilter::try_new(&level).map_err(|e| TelemetryError::Filter(format!("{level}: {e}")))?;
    // The formatters of tracing-subscriber escape control characters in values (since 0.3.20).
    let format = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let lines = match config.format {
        LogFormat::Text => format.with_ansi(false).boxed(),
        LogFormat::Json => format.json().flatten_event(true).boxed(),
    };
    let provider = match endpoint(config) {
        Some(endpoint) => {
            EXPORTING.store(true, Ordering::Relaxed);
            Some(tracer_provider(&endpoint, config.sample_ratio, service)?)
        }
        None => None,
    };
    let spans = provider
        .as_ref()
        .map(|provider| tracing_opentelemetry::layer().with_tracer(provider.tracer("atoll")));
    let ready = tracing_subscriber::registry().with(filter).with(spans).with(lines).try_init();
    if ready.is_err() {
        tracing::debug!("logs are set up already");
    }
    Ok(TelemetryGuard { provider })
}

fn endpoint(config: &TelemetryConfig) -> Option<String> {
    let standard = || std::env::var("OTEL_EXPORTER_OTLP_ENDPOINT").ok();
    let base = Some(config.otlp_endpoint.clone()).filter(|e| !e.is_empty()).or_else(standard)?;
    let base = base.trim_end_matches('/');
    (!base.is_empty()).then(|| format!("{base}/v1/traces"))
}

/// Made by us, so that the library does not look for a provider of cryptography and for the CAs of
/// the machine: the collector is spoken to in clear. On a thread of its own, as it blocks.
fn exporter_client() -> Result<reqwest::blocking::Client, TelemetryError> {
    let build = || {
        let tls = plain_client(None)?;
        let builder = reqwest::blocking::Client::builder().tls_backend_preconfigured(tls);
        let built = builder.timeout(TELEMETRY_SEND_TIMEOUT).build();
        built.map_err(|error| error.to_string())
    };
    let built = std::thread::spawn(build).join();
    let built = built.unwrap_or_else(|_| Err("the client was not built".to_owned()));
    built.map_err(TelemetryError::Exporter)
}

fn tracer_provider(
    endpoint: &str,
    ratio: f64,
    service: &'static str,
) -> Result<SdkTracerProvider, TelemetryError> {
    let exporter = SpanExporter::builder()
        .with_http()
        .with_http_client(exporter_client()?)
        .with_protocol(Protocol::HttpBinary)
        .with_endpoint(endpoint)
        .build()
        .map_err(|error| TelemetryError::Exporter(error.to_string()))?;
    let sampler = Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(ratio)));
    Ok(SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .with_sampler(sampler)
        .with_resource(Resource::builder().with_service_name(service).build())
        .build())
}

/// True while spans are exported. Without it no request pays for one.
static EXPORTING: AtomicBool = AtomicBool::new(false);

/// A span for the request with these headers, `None` where nothing is exported or the sampler
/// says no. The span continues the caller's trace, and the request's `traceparent` becomes the
/// span's, so that whoever [`propagate`]s it sends its own position on.
pub(crate) fn request_span(method: &http::Method, headers: &mut HeaderMap) -> Option<Span> {
    if !EXPORTING.load(Ordering::Relaxed) {
        return None;
    }
    let span = tracing::info_span!("request", otel.kind = "server", method = %method);
    let caller = traceparent(headers).and_then(|value| value.to_str().ok());
    let carrier: HashMap<String, String> = caller
        .map(|value| (TRACEPARENT.as_str().to_owned(), value.to_owned()))
        .into_iter()
        .collect();
    let propagator = TraceContextPropagator::new();
    if let Err(error) = span.set_parent(propagator.extract(&carrier)) {
        tracing::debug!(%error, "the caller's trace is not continued");
    }
    let context = span.context();
    let mut stated = HashMap::new();
    propagator.inject_context(&context, &mut stated);
    if let Some(Ok(value)) = stated.get(TRACEPARENT.as_str()).map(|v| HeaderValue::from_str(v)) {
        headers.insert(TRACEPARENT, value);
    }
    context.span().span_context().is_sampled().then_some(span)
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
    use opentelemetry_sdk::trace::InMemorySpanExporter;

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

    #[test]
    fn settings_are_checked() {
        let check = |edit: &dyn Fn(&mut TelemetryConfig)| {
            let mut config = TelemetryConfig::default();
            edit(&mut config);
            config.validate().map_err(|e| e.key)
        };
        assert_eq!(check(&|_| ()), Ok(()));
        assert_eq!(check(&|c| c.level = "info,x=debug".into()), Ok(()));
        assert_eq!(check(&|c| c.level = "=,=".into()), Err("telemetry.level".into()));
        assert_eq!(check(&|c| c.sample_ratio = 1.5), Err("telemetry.sample_ratio".into()));
        assert_eq!(
            check(&|c| c.otlp_endpoint = "ftp://x".into()),
            Err("telemetry.otlp_endpoint".into())
        );
    }

    #[test]
    fn an_exporter_can_be_built_and_ends_without_a_collector() {
        let provider = tracer_provider("http://127.0.0.1:1/v1/traces", 1.0, "test").unwrap();
        drop(TelemetryGuard { provider: Some(provider) });
    }
}
