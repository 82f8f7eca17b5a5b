//! What one listener counts.

use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts, Registry};

use super::error::ErrorCode;
use crate::metrics::MetricsError;

/// Counters of one listener, cached.
#[derive(Debug, Clone)]
pub struct ServerMetrics {
    pub(super) open: IntGauge,
    pub(super) accepted: IntCounter,
    pub(super) over_cap: IntCounter,
    pub(super) accept_errors: IntCounter,
    pub(super) dropped: IntCounter,
    panics: IntCounter,
    refused: IntCounterVec,
}

impl ServerMetrics {
    /// Registers the counters of the listener called `listener`.
    ///
    /// # Errors
    /// When the registry already has a listener of this name.
    pub fn register(registry: &Registry, listener: &'static str) -> Result<Self, MetricsError> {
        let opts = |name: &str, help: &str| Opts::new(name, help).const_label("listener", listener);
        let counter = |name: &str, help: &str| -> Result<IntCounter, MetricsError> {
            let counter = IntCounter::with_opts(opts(name, help))?;
            registry.register(Box::new(counter.clone()))?;
            Ok(counter)
        };
        let open =
            IntGauge::with_opts(opts("atoll_http_connections", "Connections that are open."))?;
        registry.register(Box::new(open.clone()))?;
        let refused = IntCounterVec::new(
            opts("atoll_http_refused_total", "Requests refused before any route was looked up."),
            &["code"],
        )?;
        registry.register(Box::new(refused.clone()))?;
        Ok(Self {
            open,
            accepted: counter("atoll_http_connections_accepted_total", "Connections accepted.")?,
            over_cap: counter(
                "atoll_http_connections_over_cap_total",
                "Connections refused because the listener or the address had too many.",
            )?,
            accept_errors: counter("atoll_http_accept_errors_total", "Failed accepts.")?,
            dropped: counter(
                "atoll_http_connections_dropped_total",
                "Connections dropped because a head or the taking of an answer was too slow.",
            )?,
            panics: counter("atoll_http_panics_total", "Requests whose handler panicked.")?,
            refused,
        })
    }

    pub(super) fn refused(&self, code: ErrorCode) {
        self.refused.with_label_values(&[code.as_str()]).inc();
    }

    pub(super) fn panicked(&self) {
        self.panics.inc();
    }
}
