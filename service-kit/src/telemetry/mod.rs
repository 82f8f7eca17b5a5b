//! Logs to standard error as text or JSON, and traces over OTLP where an endpoint is configured.
//!
//! | module | what it gives |
//! |---|---|
//! | [`level`] | what the logs tell, which may be changed while the process runs |
//! | [`trace`] | where a request stands in its trace |
//!
//! The level is for the logs alone: a process that logs little is traced as any other. Without an
//! endpoint the trace layer is absent: it costs 1.6 µs per request even when nothing is sampled. The
//! exporter uses a blocking client on a thread of its own, as the batch processor requires, and
//! therefore is built and shut down outside the runtime.

pub mod level;
pub mod trace;

use std::sync::atomic::Ordering;

use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};
use serde::{Deserialize, Serialize};
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

use crate::config::{Invalid, Validate};
use crate::limits::{TELEMETRY_FLUSH_TIMEOUT, TELEMETRY_SEND_TIMEOUT};
use crate::tls::plain_client;
use level::LogLevel;
use trace::EXPORTING;

/// The variable that overrules the configured log level.
pub const LOG_VARIABLE: &str = "ATOLL_LOG";

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
        if let Err(error) = self.level.parse::<LogLevel>() {
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
    let filter = level::changeable(filter, &level);
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
    let spans = provider.as_ref().map(|provider| {
        let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("atoll"));
        layer.with_filter(filter_fn(|metadata| metadata.is_span()))
    });
    let lines = lines.with_filter(filter);
    let ready = tracing_subscriber::registry().with(lines).with(spans).try_init();
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_checked() {
        let check = |edit: &dyn Fn(&mut TelemetryConfig)| {
            let mut config = TelemetryConfig::default();
            edit(&mut config);
            config.validate().map_err(|e| e.key)
        };
        assert_eq!(check(&|_| ()), Ok(()));
        assert_eq!(check(&|c| c.level = "info,x=debug".into()), Ok(()));
        for bad in ["=,=", "", "debgu"] {
            assert_eq!(check(&|c| c.level = bad.into()), Err("telemetry.level".into()), "{bad}");
        }
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
