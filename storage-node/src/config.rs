//! The settings of a storage node. Everything tunable is here with its default; the bounds of the
//! protocol are not tunable.

use std::path::PathBuf;

use dynamo_core::limits::{
    HINT_AGE_MS_MAX, HINT_BYTES_MAX, HINTS_MAX, PEER_MESSAGE_BYTES_MAX, VALUE_BYTES_MAX,
};
use serde::{Deserialize, Serialize};
use service_kit::config::{Invalid, Secret, Validate};
use service_kit::launch::{BaseSettings, RuntimeConfig, ServiceConfig};
use service_kit::telemetry::TelemetryConfig;

use crate::limits::{
    COORDINATED_MAX_DEFAULT, REPLICA_MESSAGES_MAX_DEFAULT, STORE_CACHE_BYTES_DEFAULT,
};
use crate::store::EngineKind;

/// Largest settable number of requests at once.
const IN_FLIGHT_MAX: usize = 1_000_000;

/// Smallest page cache that redb works with.
const CACHE_BYTES_MIN: usize = 1024 * 1024;

/// The settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StorageConfig {
    /// `address:port` of the peer API.
    pub listen: String,
    /// `address:port` of metrics and health.
    pub metrics_listen: String,
    /// Whether others than this host may connect although nothing authenticates them.
    pub insecure_allow_remote: bool,
    /// Directory of the data; nobody else may use it.
    pub data_dir: PathBuf,
    /// `host:port` of the membership agent of this host.
    pub membership: String,
    /// The secret that all nodes of the cluster share; contexts are signed with keys made of it.
    pub cluster_secret: Secret,
    /// File with the secret, readable by its owner only.
    pub cluster_secret_file: Option<PathBuf>,
    /// Earlier secret whose contexts are still accepted, during a rotation.
    pub cluster_secret_previous: Secret,
    /// The `[store]` table.
    pub store: StoreSettings,
    /// The `[hints]` table.
    pub hints: HintSettings,
    /// The `[limits]` table.
    pub limits: LimitSettings,
    /// The `[runtime]` table.
    pub runtime: RuntimeConfig,
    /// The `[telemetry]` table.
    pub telemetry: TelemetryConfig,
}

/// How records are kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StoreSettings {
    /// `redb`, or `memory` for data that may be lost with the process.
    pub engine: EngineKind,
    /// Bytes of the page cache.
    pub cache_bytes: usize,
}

/// How hints are kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HintSettings {
    /// Hints held at most.
    pub max: u64,
    /// Bytes of hints held at most.
    pub max_bytes: u64,
    /// Seconds after which an undelivered hint is dropped.
    pub max_age_s: u64,
}

/// How much is done at once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LimitSettings {
    /// Client requests coordinated at once.
    pub coordinated: usize,
    /// Messages of other coordinators worked on at once.
    pub replica_messages: usize,
    /// Bytes of one value; routers check the same before they read the body.
    pub value_bytes: usize,
}

impl Default for StorageConfig {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:7710".to_owned(),
            metrics_listen: "127.0.0.1:7711".to_owned(),
            insecure_allow_remote: false,
            data_dir: PathBuf::from("atoll-data/storage"),
            membership: "127.0.0.1:7720".to_owned(),
            cluster_secret: Secret::default(),
            cluster_secret_file: None,
            cluster_secret_previous: Secret::default(),
            store: StoreSettings::default(),
            hints: HintSettings::default(),
            limits: LimitSettings::default(),
            runtime: RuntimeConfig::default(),
            telemetry: TelemetryConfig::default(),
        }
    }
}

impl Default for StoreSettings {
    fn default() -> Self {
        Self { engine: EngineKind::default(), cache_bytes: STORE_CACHE_BYTES_DEFAULT }
    }
}

impl Default for HintSettings {
    fn default() -> Self {
        Self { max: HINTS_MAX, max_bytes: HINT_BYTES_MAX, max_age_s: HINT_AGE_MS_MAX / 1000 }
    }
}

impl Default for LimitSettings {
    fn default() -> Self {
        Self {
            coordinated: COORDINATED_MAX_DEFAULT,
            replica_messages: REPLICA_MESSAGES_MAX_DEFAULT,
            value_bytes: VALUE_BYTES_MAX,
        }
    }
}

impl StorageConfig {
    /// The cluster secrets, the one to sign with first.
    ///
    /// # Errors
    /// Where none is set, or its file is not usable.
    pub fn secrets(&self) -> Result<Vec<Secret>, Invalid> {
        let file = self.cluster_secret_file.as_deref();
        let current = Secret::resolve(&self.cluster_secret, file, "cluster_secret")?;
        if current.is_empty() {
            let reason = "not set; all nodes of a cluster need the same secret of their own \
                          (or name a file with it in cluster_secret_file)";
            return Err(Invalid::new("cluster_secret", reason));
        }
        let previous = self.cluster_secret_previous.clone();
        Ok(std::iter::once(current).chain((!previous.is_empty()).then_some(previous)).collect())
    }
}

impl Validate for StorageConfig {
    fn validate(&self) -> Result<(), Invalid> {
        self.base().validate()?;
        self.runtime.validate()?;
        self.telemetry.validate()?;
        if self.data_dir.as_os_str().is_empty() {
            return Err(Invalid::new("data_dir", "must name a directory"));
        }
        if self.membership.is_empty() {
            return Err(Invalid::new("membership", "must name the membership agent of this host"));
        }
        if self.store.cache_bytes < CACHE_BYTES_MIN {
            let reason = format!("must be at least {CACHE_BYTES_MIN}");
            return Err(Invalid::new("store.cache_bytes", reason));
        }
        // A message holds the value and its metadata, and a record several values.
        let value_max = PEER_MESSAGE_BYTES_MAX / 2;
        if !(1..=value_max).contains(&self.limits.value_bytes) {
            return Err(Invalid::new("limits.value_bytes", format!("must be 1 to {value_max}")));
        }
        let limits = [
            ("limits.coordinated", self.limits.coordinated),
            ("limits.replica_messages", self.limits.replica_messages),
        ];
        for (key, value) in limits {
            if !(1..=IN_FLIGHT_MAX).contains(&value) {
                return Err(Invalid::new(key, format!("must be 1 to {IN_FLIGHT_MAX}")));
            }
        }
        Ok(())
    }
}

impl ServiceConfig for StorageConfig {
    fn base(&self) -> BaseSettings<'_> {
        BaseSettings {
            listen: &self.listen,
            metrics_listen: &self.metrics_listen,
            insecure_allow_remote: self.insecure_allow_remote,
        }
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
    fn defaults_are_valid_but_a_secret_is_needed() {
        let config = StorageConfig::default();
        assert_eq!(config.validate(), Ok(()));
        assert_eq!(config.secrets().unwrap_err().key, "cluster_secret");
        let config = StorageConfig {
            cluster_secret: Secret::new(*b"now"),
            cluster_secret_previous: Secret::new(*b"before"),
            ..config
        };
        let secrets = config.secrets().unwrap();
        assert_eq!(
            secrets.iter().map(Secret::expose).collect::<Vec<_>>(),
            [b"now" as &[u8], b"before"]
        );
    }

    #[test]
    fn each_wrong_setting_is_named() {
        type Edit = fn(&mut StorageConfig);
        let cases: [(Edit, &str); 6] = [
            (|c| c.limits.value_bytes = usize::MAX, "limits.value_bytes"),
            (|c| c.data_dir = PathBuf::new(), "data_dir"),
            (|c| c.membership.clear(), "membership"),
            (|c| c.store.cache_bytes = 5, "store.cache_bytes"),
            (|c| c.limits.coordinated = 0, "limits.coordinated"),
            (|c| c.listen = "nonsense".to_owned(), "listen"),
        ];
        for (edit, key) in cases {
            let mut config = StorageConfig::default();
            edit(&mut config);
            assert_eq!(config.validate().unwrap_err().key, key);
        }
    }
}
