//! The settings of a storage node. Everything tunable is here with its default; the bounds of the
//! protocol are not tunable.

use std::path::PathBuf;

use dynamo_core::admission::{SliceController, Thresholds};
use dynamo_core::limits::{
    HINT_AGE_MS_MAX, HINT_BYTES_MAX, HINTS_MAX, PEER_MESSAGE_BYTES_MAX, SLICES_MAX, SLICES_MIN,
    VALUE_BYTES_MAX,
};
use serde::{Deserialize, Serialize};
use service_kit::auth::config::{AuthConfig, AuthMode};
use service_kit::config::{Invalid, Secret, Validate, checks};
use service_kit::launch::{BaseSettings, RuntimeConfig, ServiceConfig};
use service_kit::peer::auth::PeerAuthConfig;
use service_kit::telemetry::TelemetryConfig;
use service_kit::tls::config::{Callers, TlsConfig};

use crate::limits::{
    COORDINATED_MAX_DEFAULT, REPLICA_MESSAGES_MAX_DEFAULT, SCRUB_INTERVAL_S_DEFAULT,
    STORE_CACHE_BYTES_DEFAULT,
};
use crate::store::EngineKind;

/// Largest settable number of requests at once.
const IN_FLIGHT_MAX: usize = 1_000_000;

/// Largest settable threshold of a latency, in milliseconds.
const LATENCY_MS_MAX: u64 = 60_000;

/// Longest settable time of a full pass of the scrub: a year.
const SCRUB_INTERVAL_S_MAX: u64 = 365 * 24 * 60 * 60;

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
    /// The `[background]` table.
    pub background: BackgroundSettings,
    /// How clients are known that come here themselves, where peers are authenticated.
    pub auth: AuthConfig,
    /// How peers are known.
    pub peer_auth: PeerAuthConfig,
    /// What is encrypted.
    pub tls: TlsConfig,
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
    /// Whether the Merkle tree is kept. Without it replicas are not compared and nothing is
    /// scrubbed: only for measuring what it costs.
    pub tree: bool,
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

/// How much is done beside requests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BackgroundSettings {
    /// Whether the slices follow what requests experience; otherwise there are always
    /// `slices_max`.
    pub controller: bool,
    /// Pieces of background work at once, at most.
    pub slices_max: u32,
    /// Foreground p99 in milliseconds above which there is less background work.
    pub foreground_p99_ms: u64,
    /// Commit p99 in milliseconds above which there is less background work.
    pub store_p99_ms: u64,
    /// Seconds in which all records are read and verified once.
    pub scrub_interval_s: u64,
}

impl Default for BackgroundSettings {
    fn default() -> Self {
        let Thresholds { foreground_p99_ms, store_p99_ms, .. } = Thresholds::default();
        Self {
            controller: true,
            slices_max: SLICES_MAX,
            foreground_p99_ms,
            store_p99_ms,
            scrub_interval_s: SCRUB_INTERVAL_S_DEFAULT,
        }
    }
}

impl BackgroundSettings {
    /// The controller before its first sample.
    #[must_use]
    pub fn start(&self) -> SliceController {
        let thresholds = Thresholds {
            foreground_p99_ms: self.foreground_p99_ms,
            store_p99_ms: self.store_p99_ms,
            ..Thresholds::default()
        };
        SliceController::new(thresholds, self.slices_max)
    }

    /// Slices at the start.
    #[must_use]
    pub fn slices(&self) -> u32 {
        if self.controller { self.start().slices() } else { self.slices_max }
    }
}

impl Default for StorageConfig {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:7710".to_owned(),
            metrics_listen: "127.0.0.1:7711".to_owned(),
            data_dir: PathBuf::from("atoll-data/storage"),
            membership: "127.0.0.1:7720".to_owned(),
            cluster_secret: Secret::default(),
            cluster_secret_file: None,
            cluster_secret_previous: Secret::default(),
            store: StoreSettings::default(),
            hints: HintSettings::default(),
            limits: LimitSettings::default(),
            background: BackgroundSettings::default(),
            auth: AuthConfig::default(),
            peer_auth: PeerAuthConfig::default(),
            tls: TlsConfig::default(),
            runtime: RuntimeConfig::default(),
            telemetry: TelemetryConfig::default(),
        }
    }
}

impl Default for StoreSettings {
    fn default() -> Self {
        Self { engine: EngineKind::default(), cache_bytes: STORE_CACHE_BYTES_DEFAULT, tree: true }
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
        if self.base().is_open() {
            Secret::check_strength(current.expose())
                .map_err(|reason| Invalid::new("cluster_secret", reason))?;
        }
        let previous = self.cluster_secret_previous.clone();
        Ok(std::iter::once(current).chain((!previous.is_empty()).then_some(previous)).collect())
    }
}

impl Validate for StorageConfig {
    fn validate(&self) -> Result<(), Invalid> {
        checks::directory("data_dir", &self.data_dir)?;
        checks::host_port("membership", &self.membership)?;
        self.auth.validate()?;
        let protection = self.peer_auth.protection(&self.tls);
        if self.auth.mode == Some(AuthMode::Keys) && protection.on != Some(true) {
            let reason = "needs peers that are authenticated (peer_auth.mode): others would be let \
                          in without a key";
            return Err(Invalid::new("auth.mode", reason));
        }
        if self.store.cache_bytes < CACHE_BYTES_MIN {
            let reason = format!("must be at least {CACHE_BYTES_MIN}");
            return Err(Invalid::new("store.cache_bytes", reason));
        }
        // A message holds the value and its metadata, and a record several values.
        let value_max = PEER_MESSAGE_BYTES_MAX / 2;
        let limits = &self.limits;
        checks::within("limits.value_bytes", limits.value_bytes, 1..=value_max)?;
        checks::within("limits.coordinated", limits.coordinated, 1..=IN_FLIGHT_MAX)?;
        checks::within("limits.replica_messages", limits.replica_messages, 1..=IN_FLIGHT_MAX)?;
        let background = &self.background;
        checks::within("background.slices_max", background.slices_max, SLICES_MIN..=SLICES_MAX)?;
        let latency = 1..=LATENCY_MS_MAX;
        let (p99, store) = (background.foreground_p99_ms, background.store_p99_ms);
        checks::within("background.foreground_p99_ms", p99, latency.clone())?;
        checks::within("background.store_p99_ms", store, latency)?;
        let interval = background.scrub_interval_s;
        checks::within("background.scrub_interval_s", interval, 1..=SCRUB_INTERVAL_S_MAX)
    }
}

impl ServiceConfig for StorageConfig {
    fn base(&self) -> BaseSettings<'_> {
        BaseSettings {
            listen: &self.listen,
            metrics_listen: &self.metrics_listen,
            protection: self.peer_auth.protection(&self.tls),
            callers: match self.auth.mode {
                Some(AuthMode::Keys) => Callers::PeersAndClients,
                Some(AuthMode::None) | None => Callers::Peers,
            },
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
        let cases: [(Edit, &str); 7] = [
            (
                |c| {
                    c.auth.mode = Some(AuthMode::Keys);
                    c.auth.keys_file = Some(PathBuf::from("keys.json"));
                },
                "auth.mode",
            ),
            (|c| c.limits.value_bytes = usize::MAX, "limits.value_bytes"),
            (|c| c.data_dir = PathBuf::new(), "data_dir"),
            (|c| c.membership.clear(), "membership"),
            (|c| c.membership = "no-port".to_owned(), "membership"),
            (|c| c.store.cache_bytes = 5, "store.cache_bytes"),
            (|c| c.limits.coordinated = 0, "limits.coordinated"),
        ];
        for (edit, key) in cases {
            let mut config = StorageConfig::default();
            edit(&mut config);
            assert_eq!(config.validate().unwrap_err().key, key);
        }
    }
}
