//! The settings of a worker. Everything tunable is here with its default; the bounds of the
//! protocol are not tunable.

use std::path::PathBuf;
use std::time::Duration;

use dynamo_core::limits::{TOMBSTONE_GRACE_MS_DEFAULT, TOMBSTONE_GRACE_MS_MIN};
use dynamo_core::membership::member::check_address;
use serde::{Deserialize, Serialize};
use service_kit::config::{Invalid, Validate};
use service_kit::launch::{BaseSettings, RuntimeConfig, ServiceConfig};
use service_kit::peer::auth::PeerAuthConfig;
use service_kit::telemetry::TelemetryConfig;
use service_kit::tls::config::{Callers, TlsConfig};

use crate::limits::{
    EXCHANGE_INTERVAL_S_DEFAULT, EXCHANGE_INTERVAL_S_MAX, EXCHANGE_INTERVAL_S_MIN,
    EXCHANGES_MAX_DEFAULT, PARALLEL_MAX, TOMBSTONE_GRACE_S_MAX,
};

/// The settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WorkerConfig {
    /// `address:port` of status and control.
    pub listen: String,
    /// `address:port` of metrics and health.
    pub metrics_listen: String,
    /// Directory of the progress of transfers; nobody else may use it.
    pub data_dir: PathBuf,
    /// `host:port` of the membership agent of this host.
    pub membership: String,
    /// `host:port` of the storage node of this host.
    pub storage: String,
    /// Seconds between two comparisons of a pair of nodes.
    pub exchange_interval_s: u64,
    /// Seconds for which a tombstone, or an expired object, is kept at least.
    pub tombstone_grace_s: u64,
    /// The `[limits]` table.
    pub limits: LimitSettings,
    /// How peers are known.
    pub peer_auth: PeerAuthConfig,
    /// What is encrypted.
    pub tls: TlsConfig,
    /// The `[runtime]` table.
    pub runtime: RuntimeConfig,
    /// The `[telemetry]` table.
    pub telemetry: TelemetryConfig,
}

/// How much is done at once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LimitSettings {
    /// Comparisons driven at once.
    pub exchanges: usize,
}

impl Default for WorkerConfig {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:7730".to_owned(),
            metrics_listen: "127.0.0.1:7731".to_owned(),
            data_dir: PathBuf::from("atoll-data/worker"),
            membership: "127.0.0.1:7720".to_owned(),
            storage: "127.0.0.1:7710".to_owned(),
            exchange_interval_s: EXCHANGE_INTERVAL_S_DEFAULT,
            tombstone_grace_s: TOMBSTONE_GRACE_MS_DEFAULT / 1000,
            limits: LimitSettings::default(),
            peer_auth: PeerAuthConfig::default(),
            tls: TlsConfig::default(),
            runtime: RuntimeConfig::default(),
            telemetry: TelemetryConfig::default(),
        }
    }
}

impl Default for LimitSettings {
    fn default() -> Self {
        Self { exchanges: EXCHANGES_MAX_DEFAULT }
    }
}

impl WorkerConfig {
    /// Time for which what is dead is kept at least.
    #[must_use]
    pub fn tombstone_grace(&self) -> Duration {
        Duration::from_secs(self.tombstone_grace_s)
    }

    /// Time between two comparisons of a pair of nodes.
    #[must_use]
    pub fn exchange_interval(&self) -> Duration {
        Duration::from_secs(self.exchange_interval_s)
    }
}

impl Validate for WorkerConfig {
    fn validate(&self) -> Result<(), Invalid> {
        self.base().validate()?;
        self.runtime.validate()?;
        self.telemetry.validate()?;
        if self.data_dir.as_os_str().is_empty() {
            return Err(Invalid::new("data_dir", "must name a directory"));
        }
        for (key, address) in [("membership", &self.membership), ("storage", &self.storage)] {
            check_address(address).map_err(|error| Invalid::new(key, error.to_string()))?;
        }
        let between = |key: &str, value: u64, least: u64, most: u64| {
            if (least..=most).contains(&value) {
                return Ok(());
            }
            Err(Invalid::new(key, format!("must be {least} to {most}")))
        };
        between(
            "exchange_interval_s",
            self.exchange_interval_s,
            EXCHANGE_INTERVAL_S_MIN,
            EXCHANGE_INTERVAL_S_MAX,
        )?;
        between(
            "tombstone_grace_s",
            self.tombstone_grace_s,
            TOMBSTONE_GRACE_MS_MIN.div_ceil(1000),
            TOMBSTONE_GRACE_S_MAX,
        )?;
        between("limits.exchanges", self.limits.exchanges as u64, 1, PARALLEL_MAX as u64)
    }
}

impl ServiceConfig for WorkerConfig {
    fn base(&self) -> BaseSettings<'_> {
        BaseSettings {
            listen: &self.listen,
            metrics_listen: &self.metrics_listen,
            protection: self.peer_auth.protection(&self.tls),
            callers: Callers::Peers,
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
    fn each_wrong_setting_is_named() {
        type Edit = fn(&mut WorkerConfig);
        assert_eq!(WorkerConfig::default().validate(), Ok(()));
        let cases: [(Edit, &str); 7] = [
            (|c| c.listen = "nonsense".to_owned(), "listen"),
            (|c| c.data_dir = PathBuf::new(), "data_dir"),
            (|c| c.membership.clear(), "membership"),
            (|c| c.storage = "no-port".to_owned(), "storage"),
            (|c| c.exchange_interval_s = 0, "exchange_interval_s"),
            (|c| c.tombstone_grace_s = 1, "tombstone_grace_s"),
            (|c| c.limits.exchanges = 0, "limits.exchanges"),
        ];
        for (edit, key) in cases {
            let mut config = WorkerConfig::default();
            edit(&mut config);
            assert_eq!(config.validate().unwrap_err().key, key);
        }
    }
}
