//! Settings of the agent. Everything has a default that works on one machine; a cluster sets
//! `seeds`, `name`, `zone` and `advertise`.

use std::path::PathBuf;

use dynamo_core::limits::{
    CHANGES_MAX, GOSSIP_INTERVAL_MS, PARTITIONS_DEFAULT, REPLICAS_DEFAULT, REPLICAS_MAX,
    WEIGHT_DEFAULT,
};
use dynamo_core::membership::member::{Addresses, check_name, check_weight, check_zone};
use dynamo_core::membership::plan::FoundingParams;
use dynamo_core::params::BucketProps;
use dynamo_core::ring::Partitions;
use serde::{Deserialize, Serialize};
use service_kit::config::{Invalid, Validate, checks};
use service_kit::launch::{BaseSettings, RuntimeConfig, ServiceConfig};
use service_kit::peer::auth::PeerAuthConfig;
use service_kit::telemetry::TelemetryConfig;
use service_kit::tls::config::{Callers, TlsConfig};

/// Seeds that may be listed; more help nobody, as any one is enough.
const SEEDS_MAX: usize = 64;

/// Shortest gossip interval: below it the rate alarm of a seed would never rest.
const GOSSIP_INTERVAL_MS_MIN: u64 = 10;

/// Longest gossip interval: above it changes take minutes to arrive.
const GOSSIP_INTERVAL_MS_MAX: u64 = 60_000;

/// Where the processes of this host can be reached by others, `host:port` each. Empty for not
/// here; an empty `membership` stands for the address that this process listens on.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AdvertiseConfig {
    /// Client API.
    pub router: String,
    /// Storage node.
    pub storage: String,
    /// This process.
    pub membership: String,
    /// Anti-entropy worker.
    pub worker: String,
}

/// What a cluster is founded with. Has an effect only where the founding is committed, and must be
/// the same on all founders for a plan made at one to be committed at another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FoundingConfig {
    /// Number of partitions for the life of the cluster: a power of two.
    pub partitions: u32,
    /// How many consecutive positions shall be on distinct nodes and zones; the default N.
    pub spacing: u8,
}

impl Default for FoundingConfig {
    fn default() -> Self {
        Self { partitions: PARTITIONS_DEFAULT, spacing: REPLICAS_DEFAULT }
    }
}

impl FoundingConfig {
    /// As the plan takes it. Buckets keep as many replicas by default as the ring is laid out for.
    ///
    /// # Errors
    /// Where no ring has these parameters.
    pub fn params(&self) -> Result<FoundingParams, Invalid> {
        let partitions = Partitions::new(self.partitions)
            .map_err(|error| Invalid::new("founding.partitions", error.to_string()))?;
        checks::within("founding.spacing", self.spacing, 1..=REPLICAS_MAX)?;
        let defaults = BucketProps { n: self.spacing, ..BucketProps::default() };
        Ok(FoundingParams { partitions, spacing: self.spacing, defaults })
    }
}

/// Joining without an administrator: where starting a new node is the decision that it shall join.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct JoinConfig {
    /// Whether this node, unless it is or was a member, joins by itself.
    pub auto: bool,
    /// Names of the nodes that found a cluster where there is none, the same on all of them; the
    /// first does it when it knows all. Empty for joining an existing cluster only.
    pub founders: Vec<String>,
}

/// All settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// `address:port` of the API for peers and administrators.
    pub listen: String,
    /// `address:port` of metrics and health.
    pub metrics_listen: String,
    /// Directory of this agent's file; nobody else may use it.
    pub data_dir: PathBuf,
    /// Name of this node, unique in the cluster; empty for one made of its id.
    pub name: String,
    /// Failure domain of this node; empty for unknown.
    pub zone: String,
    /// Capacity of this node in relation to the others.
    pub weight: u32,
    /// Addresses of seeds, `host:port` of their membership agents.
    pub seeds: Vec<String>,
    /// DNS name and port whose addresses are seeds too (a headless service); empty for none.
    pub seed_dns: String,
    /// Milliseconds between two gossip rounds.
    pub gossip_interval_ms: u64,
    /// Where the processes of this host can be reached.
    pub advertise: AdvertiseConfig,
    /// What a cluster is founded with.
    pub founding: FoundingConfig,
    /// Joining without an administrator.
    pub join: JoinConfig,
    /// How peers are known.
    pub peer_auth: PeerAuthConfig,
    /// What is encrypted.
    pub tls: TlsConfig,
    /// The `[runtime]` table.
    pub runtime: RuntimeConfig,
    /// The `[telemetry]` table.
    pub telemetry: TelemetryConfig,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:7720".into(),
            metrics_listen: "127.0.0.1:7721".into(),
            data_dir: PathBuf::from("./data/membership"),
            name: String::new(),
            zone: String::new(),
            weight: WEIGHT_DEFAULT,
            seeds: Vec::new(),
            seed_dns: String::new(),
            gossip_interval_ms: GOSSIP_INTERVAL_MS,
            advertise: AdvertiseConfig::default(),
            founding: FoundingConfig::default(),
            join: JoinConfig::default(),
            peer_auth: PeerAuthConfig::default(),
            tls: TlsConfig::default(),
            runtime: RuntimeConfig::default(),
            telemetry: TelemetryConfig::default(),
        }
    }
}

impl Config {
    /// What this node advertises, with `membership` standing in where none is set.
    #[must_use]
    pub fn addresses(&self, membership: &str) -> Addresses {
        let given = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        Addresses {
            router: given(&self.advertise.router),
            storage: given(&self.advertise.storage),
            membership: given(&self.advertise.membership).or_else(|| given(membership)),
            worker: given(&self.advertise.worker),
        }
    }

    /// The zone, where one is set.
    #[must_use]
    pub fn zone(&self) -> Option<String> {
        Some(self.zone.clone()).filter(|zone| !zone.is_empty())
    }
}

impl Validate for Config {
    fn validate(&self) -> Result<(), Invalid> {
        let invalid =
            |key: &str, error: &dyn std::fmt::Display| Invalid::new(key, error.to_string());
        checks::directory("data_dir", &self.data_dir)?;
        if !self.name.is_empty() {
            check_name(&self.name).map_err(|e| invalid("name", &e))?;
        }
        check_zone(self.zone().as_deref()).map_err(|e| invalid("zone", &e))?;
        check_weight(self.weight).map_err(|e| invalid("weight", &e))?;
        if self.seeds.len() > SEEDS_MAX {
            return Err(Invalid::new("seeds", format!("at most {SEEDS_MAX} addresses")));
        }
        for seed in &self.seeds {
            checks::host_port("seeds", seed)?;
        }
        if !self.seed_dns.is_empty() {
            checks::host_port("seed_dns", &self.seed_dns)?;
        }
        if self.join.founders.len() > CHANGES_MAX - 1 {
            let reason = format!("at most {}", CHANGES_MAX - 1);
            return Err(Invalid::new("join.founders", reason));
        }
        for founder in &self.join.founders {
            check_name(founder).map_err(|e| invalid("join.founders", &e))?;
        }
        self.addresses("").check().map_err(|e| invalid("advertise", &e))?;
        let interval = GOSSIP_INTERVAL_MS_MIN..=GOSSIP_INTERVAL_MS_MAX;
        checks::within("gossip_interval_ms", self.gossip_interval_ms, interval)?;
        self.founding.params().map(drop)
    }
}

impl ServiceConfig for Config {
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
    fn bad_settings_name_their_key() {
        let check = |key: &str, change: &dyn Fn(&mut Config)| {
            let mut config = Config::default();
            assert!(config.validate().is_ok());
            change(&mut config);
            let refused = config.validate().unwrap_err().to_string();
            assert!(refused.contains(key), "{key}: {refused}");
        };
        check("name", &|c| c.name = "a b".into());
        check("zone", &|c| c.zone = "ä".into());
        check("weight", &|c| c.weight = 1_000_000);
        check("seeds", &|c| c.seeds = vec!["nowhere".into()]);
        check("seed_dns", &|c| c.seed_dns = "name-without-port".into());
        check("advertise", &|c| c.advertise.storage = "x".into());
        check("gossip_interval_ms", &|c| c.gossip_interval_ms = 0);
        check("founding.partitions", &|c| c.founding.partitions = 960);
        check("founding.spacing", &|c| c.founding.spacing = 0);
        check("join.founders", &|c| c.join.founders = vec!["a b".into()]);
        check("data_dir", &|c| c.data_dir = PathBuf::new());
    }
}
