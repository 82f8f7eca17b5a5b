//! Which process of which host listens where, and keeps what where.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::dev::args::{PORTS_PER_HOST, Service};
use crate::dev::cluster_file::ClusterFile;
use crate::dev::security;

/// The address that everything listens on.
const LOOPBACK: &str = "127.0.0.1";

/// Milliseconds that a process may take to finish its requests when it is stopped: a developer
/// waits for it.
const DRAIN_TIMEOUT_MS: u64 = 2_000;

/// Seconds between two comparisons of a pair of hosts: a developer who breaks something wants to
/// see it mended.
const EXCHANGE_INTERVAL_S: u64 = 5;

/// One process of one host: where it listens, and where its files are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Place {
    /// Number of the host, from 1.
    pub host: u16,
    /// Which process.
    pub service: Service,
    /// `address:port` of its API.
    pub listen: String,
    /// `address:port` of its metrics and health.
    pub metrics: String,
    /// Its data directory.
    pub data_dir: PathBuf,
    /// Its settings.
    pub config: PathBuf,
    /// Its log.
    pub log: PathBuf,
    /// The cluster's directory.
    #[serde(skip)]
    root: PathBuf,
}

impl Place {
    /// The place of `service` on host `host`.
    #[must_use]
    pub fn of(root: &Path, cluster: &ClusterFile, host: u16, service: Service) -> Self {
        let dir = host_dir(root, host);
        let name = service.name();
        let data_name = match service {
            Service::StorageNode => "storage",
            Service::AntiEntropyWorker => "worker",
            Service::Membership | Service::Router => name,
        };
        Self {
            host,
            service,
            listen: address(cluster, host, service, 0),
            metrics: address(cluster, host, service, 1),
            data_dir: dir.join(data_name),
            config: dir.join(format!("{name}.toml")),
            log: dir.join(format!("{name}.log")),
            root: root.to_owned(),
        }
    }

    /// All places of a host, in the order in which they are started.
    #[must_use]
    pub fn of_host(root: &Path, cluster: &ClusterFile, host: u16) -> Vec<Self> {
        Service::ALL.map(|service| Self::of(root, cluster, host, service)).to_vec()
    }

    /// Its settings as TOML.
    #[must_use]
    pub fn settings(&self, cluster: &ClusterFile) -> String {
        let mut text = String::new();
        let agent = address(cluster, self.host, Service::Membership, 0);
        let mut line = |name: &str, value: String| {
            writeln!(text, "{name} = {value}").expect("writing to a string does not fail");
        };
        line("listen", quoted(&self.listen));
        line("metrics_listen", quoted(&self.metrics));
        line("data_dir", quoted(&self.data_dir.to_string_lossy()));
        match self.service {
            Service::Router => {
                line("membership", quoted(&agent));
                line("expose_replicas", "true".to_owned());
                if cluster.secure {
                    let file = host_dir(&self.root, self.host).join("audit.log");
                    line("audit_file", quoted(&file.to_string_lossy()));
                }
            }
            Service::StorageNode => {
                line("membership", quoted(&agent));
                line("cluster_secret", quoted(&cluster.secret));
            }
            Service::AntiEntropyWorker => {
                line("membership", quoted(&agent));
                line("storage", quoted(&address(cluster, self.host, Service::StorageNode, 0)));
                line("exchange_interval_s", EXCHANGE_INTERVAL_S.to_string());
            }
            Service::Membership => {
                line("name", quoted(&node_name(self.host)));
                let seeds: Vec<String> = (1..=cluster.hosts)
                    .filter(|host| *host != self.host)
                    .map(|host| quoted(&address(cluster, host, Service::Membership, 0)))
                    .collect();
                line("seeds", format!("[{}]", seeds.join(", ")));
                line("gossip_interval_ms", "250".to_owned());
                line(
                    "\n[advertise]\nrouter",
                    quoted(&address(cluster, self.host, Service::Router, 0)),
                );
                line("storage", quoted(&address(cluster, self.host, Service::StorageNode, 0)));
                line("membership", quoted(&agent));
                line("worker", quoted(&address(cluster, self.host, Service::AntiEntropyWorker, 0)));
                line("\n[founding]\npartitions", cluster.partitions.to_string());
                line("spacing", cluster.spacing.to_string());
            }
        }
        line("\n[runtime]\ndrain_timeout_ms", DRAIN_TIMEOUT_MS.to_string());
        if cluster.secure {
            let path = |path: PathBuf| quoted(&path.to_string_lossy());
            line("\n[peer_auth]\nmode", quoted("hmac"));
            line("keys_file", path(security::peer_keys_file(&self.root)));
            line("\n[tls]\ncert_file", path(security::cert_file(&self.root)));
            line("key_file", path(security::key_file(&self.root)));
            line("ca_file", path(security::ca_file(&self.root)));
            if matches!(self.service, Service::Router | Service::StorageNode) {
                line("\n[auth]\nmode", quoted("keys"));
                line("keys_file", path(security::keys_file(&self.root)));
            }
        }
        text
    }
}

/// Directory of a host.
#[must_use]
pub fn host_dir(root: &Path, host: u16) -> PathBuf {
    root.join(format!("host-{host}"))
}

/// Name of a host's node.
#[must_use]
pub fn node_name(host: u16) -> String {
    format!("host-{host}")
}

/// `address:port` of a process: of its API (`listener` 0) or of its metrics (1).
fn address(cluster: &ClusterFile, host: u16, service: Service, listener: u16) -> String {
    let offset = match service {
        Service::Router => 0,
        Service::StorageNode => 10,
        Service::Membership => 20,
        Service::AntiEntropyWorker => 30,
    };
    let port = cluster.base_port + PORTS_PER_HOST * (host - 1) + offset + listener;
    format!("{LOOPBACK}:{port}")
}

/// A TOML basic string.
fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => out.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster() -> ClusterFile {
        ClusterFile {
            kind: String::new(),
            format: 1,
            secret: "ab".repeat(32),
            secure: false,
            hosts: 3,
            founders: 3,
            base_port: 7700,
            partitions: 64,
            spacing: 3,
        }
    }

    #[test]
    fn every_process_has_ports_of_its_own() {
        let root = Path::new("/d");
        let cases = [
            (1, Service::Router, "127.0.0.1:7700", "127.0.0.1:7701", "/d/host-1/router"),
            (1, Service::StorageNode, "127.0.0.1:7710", "127.0.0.1:7711", "/d/host-1/storage"),
            (2, Service::Membership, "127.0.0.1:7820", "127.0.0.1:7821", "/d/host-2/membership"),
            (3, Service::Router, "127.0.0.1:7900", "127.0.0.1:7901", "/d/host-3/router"),
            (2, Service::AntiEntropyWorker, "127.0.0.1:7830", "127.0.0.1:7831", "/d/host-2/worker"),
        ];
        for (host, service, listen, metrics, data_dir) in cases {
            let place = Place::of(root, &cluster(), host, service);
            assert_eq!((place.listen.as_str(), place.metrics.as_str()), (listen, metrics));
            assert_eq!(place.data_dir, Path::new(data_dir));
        }
        let mut all: Vec<String> = (1..=3)
            .flat_map(|host| Place::of_host(root, &cluster(), host))
            .flat_map(|place| [place.listen, place.metrics])
            .collect();
        let count = all.len();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), count);
    }

    #[test]
    fn every_process_knows_its_host_and_its_peers() {
        let root = Path::new("/d");
        let text = |service| Place::of(root, &cluster(), 2, service).settings(&cluster());
        let agent = text(Service::Membership);
        assert!(agent.contains("seeds = [\"127.0.0.1:7720\", \"127.0.0.1:7920\"]"), "{agent}");
        assert!(agent.contains("[advertise]\nrouter = \"127.0.0.1:7800\""), "{agent}");
        for service in [Service::Router, Service::StorageNode, Service::AntiEntropyWorker] {
            assert!(text(service).contains("membership = \"127.0.0.1:7820\""));
        }
        assert!(agent.contains("worker = \"127.0.0.1:7830\""), "{agent}");
        assert!(text(Service::AntiEntropyWorker).contains("storage = \"127.0.0.1:7810\""));
        assert!(text(Service::StorageNode).contains(&cluster().secret));
        assert!(!text(Service::Router).contains(&cluster().secret));
    }

    #[test]
    fn odd_directories_survive_the_settings_file() {
        assert_eq!(quoted("a \"b\\c\n"), "\"a \\\"b\\\\c\\u000A\"");
    }
}
