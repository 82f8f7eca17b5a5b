//! Settings of the router.

use std::path::PathBuf;

use dynamo_core::limits::VALUE_BYTES_MAX;
use serde::{Deserialize, Serialize};
use service_kit::auth::config::AuthConfig;
use service_kit::config::{Invalid, Validate, checks};
use service_kit::launch::{BaseSettings, RuntimeConfig, ServiceConfig};
use service_kit::limits::BODY_BUDGET_BYTES;
use service_kit::peer::auth::PeerAuthConfig;
use service_kit::telemetry::TelemetryConfig;
use service_kit::tls::config::{Callers, TlsConfig};

use crate::limits::{ADMIN_REQUESTS_IN_FLIGHT_MAX, LONG_POLLS_MAX, REQUESTS_IN_FLIGHT_MAX};

/// Largest settable number of requests at once.
const IN_FLIGHT_MAX: usize = 1_000_000;

/// The settings; each one is also a flag `--set name=value` and a variable `ATOLL_NAME`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RouterConfig {
    /// `address:port` of the client API.
    pub listen: String,
    /// `address:port` of metrics and health.
    pub metrics_listen: String,
    /// `host:port` of the membership agent of this host.
    pub membership: String,
    /// Directory for the last ring seen; without one a restart needs the membership agent.
    pub data_dir: Option<PathBuf>,
    /// Whether refusals show what each replica answered. For development: clients learn node ids.
    pub expose_replicas: bool,
    /// File that every change of the cluster is entered in, before and after it is made.
    pub audit_file: Option<PathBuf>,
    /// Bounds.
    pub limits: LimitsConfig,
    /// How clients are known.
    pub auth: AuthConfig,
    /// How peers are known.
    pub peer_auth: PeerAuthConfig,
    /// What is encrypted.
    pub tls: TlsConfig,
    /// Threads, drain, ports file.
    pub runtime: RuntimeConfig,
    /// Logs and traces.
    pub telemetry: TelemetryConfig,
}

/// The `[limits]` table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LimitsConfig {
    /// Bytes of one value.
    pub value_bytes: usize,
    /// Object requests in flight.
    pub requests: usize,
    /// Administrative requests in flight.
    pub admin_requests: usize,
    /// Long polls of the ring in flight.
    pub long_polls: usize,
    /// Bytes of request bodies in memory.
    pub body_bytes: usize,
}

impl Default for RouterConfig {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:7700".to_owned(),
            metrics_listen: "127.0.0.1:7701".to_owned(),
            membership: "127.0.0.1:7720".to_owned(),
            data_dir: None,
            expose_replicas: false,
            audit_file: None,
            limits: LimitsConfig::default(),
            auth: AuthConfig::default(),
            peer_auth: PeerAuthConfig::default(),
            tls: TlsConfig::default(),
            runtime: RuntimeConfig::default(),
            telemetry: TelemetryConfig::default(),
        }
    }
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            value_bytes: VALUE_BYTES_MAX,
            requests: REQUESTS_IN_FLIGHT_MAX,
            admin_requests: ADMIN_REQUESTS_IN_FLIGHT_MAX,
            long_polls: LONG_POLLS_MAX,
            body_bytes: BODY_BUDGET_BYTES,
        }
    }
}

impl Validate for RouterConfig {
    fn validate(&self) -> Result<(), Invalid> {
        checks::host_port("membership", &self.membership)?;
        self.auth.validate()?;
        let limits = &self.limits;
        // Storage nodes take no more.
        checks::within("limits.value_bytes", limits.value_bytes, 1..=VALUE_BYTES_MAX)?;
        checks::within("limits.requests", limits.requests, 1..=IN_FLIGHT_MAX)?;
        checks::within("limits.admin_requests", limits.admin_requests, 1..=IN_FLIGHT_MAX)?;
        checks::within("limits.long_polls", limits.long_polls, 1..=IN_FLIGHT_MAX)?;
        if limits.body_bytes < limits.value_bytes {
            let reason = "must be at least limits.value_bytes, or no such value could be put";
            return Err(Invalid::new("limits.body_bytes", reason));
        }
        Ok(())
    }
}

impl ServiceConfig for RouterConfig {
    fn base(&self) -> BaseSettings<'_> {
        BaseSettings {
            listen: &self.listen,
            metrics_listen: &self.metrics_listen,
            protection: self.auth.protection(),
            callers: Callers::Clients,
        }
    }

    fn peer_auth(&self) -> &PeerAuthConfig {
        &self.peer_auth
    }

    fn tls(&self) -> &TlsConfig {
        &self.tls
    }

    fn runtime(&self) -> &RuntimeConfig {
        &self.runtime
    }

    fn telemetry(&self) -> &TelemetryConfig {
        &self.telemetry
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_settings_are_named() {
        type Edit = fn(&mut RouterConfig);
        let cases: [(&str, Edit); 5] = [
            ("membership", |c| c.membership = String::new()),
            ("limits.value_bytes", |c| c.limits.value_bytes = VALUE_BYTES_MAX + 1),
            ("limits.requests", |c| c.limits.requests = 0),
            ("limits.long_polls", |c| c.limits.long_polls = 0),
            ("limits.body_bytes", |c| c.limits.body_bytes = 1),
        ];
        assert_eq!(RouterConfig::default().validate(), Ok(()));
        for (key, edit) in cases {
            let mut config = RouterConfig::default();
            edit(&mut config);
            assert_eq!(config.validate().unwrap_err().key, key);
        }
    }
}
