//! The three processes of a host that others talk to, in this process, with all that protects them.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anti_entropy_worker::config::WorkerConfig;
use dynamo_core::entropy::SplitMix;
use dynamo_core::time::WallMs;
use membership_svc::config::{FoundingConfig, JoinConfig};
use prometheus::Registry;
use service_kit::auth::api_key::{KeyDigest, mint};
use service_kit::auth::config::{AuthConfig, AuthMode};
use service_kit::auth::key_file::{KeyEntry, KeyFile, KeyVersion, Timestamp};
use service_kit::auth::scope::Scope;
use service_kit::config::Secret;
use service_kit::datadir::write_atomic;
use service_kit::launch::{Listeners, RunError, ServiceContext};
use service_kit::peer::auth::{PeerAuthConfig, PeerAuthMode};
use service_kit::readiness::Readiness;
use service_kit::shutdown::Shutdown;
use service_kit::tls::authority::{Authority, Issued};
use service_kit::tls::config::TlsConfig;
use storage_node::config::StorageConfig;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::Proof;

/// Longest wait for something that must happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) const DAY: time::Duration = time::Duration::DAY;

/// The name that certificates of hosts carry.
pub(crate) const CLUSTER_NAME: &str = "atoll";

/// Which process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Process {
    Storage,
    Membership,
    Worker,
}

impl Process {
    pub(crate) const ALL: [Self; 3] = [Self::Storage, Self::Membership, Self::Worker];
}

/// A directory with everything that proves something: keys of hosts, the CA and a certificate of hosts,
/// an API key with every scope.
pub(crate) struct Files {
    root: PathBuf,
    pub(crate) ca: Authority,
    pub(crate) api_key: String,
}

impl Files {
    pub(crate) fn new(root: &Path) -> Self {
        let ca = Authority::new("ours", DAY).unwrap();
        let api_key = mint(&"root".parse().unwrap(), &mut SplitMix::new(1));
        let files = Self { root: root.to_owned(), ca, api_key };
        let host = files.ca.issue(&[CLUSTER_NAME], DAY).unwrap();
        files.write("ca.crt", &files.ca.pem());
        files.write_host(&host);
        files.write("peer-keys", "0123456789abcdef0123456789abcdef");
        files.write("other-keys", "fedcba9876543210fedcba9876543210");
        let version = KeyVersion {
            version: 1,
            sha256: KeyDigest::of(&files.api_key),
            created_at: Timestamp(WallMs(0)),
            expires_at: None,
            revoked_at: None,
        };
        let entry = KeyEntry {
            id: "root".parse().unwrap(),
            scopes: Scope::ALL.to_vec(),
            buckets: vec!["*".parse().unwrap()],
            requests_per_s: None,
            requests_at_once: None,
            versions: vec![version],
        };
        let keys = KeyFile { format: 1, keys: vec![entry] }.to_json().unwrap();
        write_atomic(&files.path("keys.json"), &keys).unwrap();
        files
    }

    fn write_host(&self, host: &Issued) {
        self.write("tls.crt", &host.cert_pem);
        self.write("tls.key", &host.key_pem);
    }

    fn write(&self, name: &str, text: &str) {
        write_atomic(&self.path(name), text.as_bytes()).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// Settings that sign with the keys in `file`.
    pub(crate) fn signing_with(&self, file: &str) -> PeerAuthConfig {
        PeerAuthConfig { mode: Some(PeerAuthMode::Hmac), keys_file: Some(self.path(file)) }
    }

    fn peer_auth(&self, proof: Proof) -> PeerAuthConfig {
        if proof.signatures {
            return self.signing_with("peer-keys");
        }
        PeerAuthConfig { mode: Some(PeerAuthMode::None), keys_file: None }
    }

    fn tls(&self, proof: Proof) -> TlsConfig {
        if !proof.certificates {
            return TlsConfig::default();
        }
        TlsConfig {
            cert_file: Some(self.path("tls.crt")),
            key_file: Some(self.path("tls.key")),
            ca_file: Some(self.path("ca.crt")),
            cluster_name: CLUSTER_NAME.to_owned(),
        }
    }
}

/// A process that runs.
struct Running {
    address: SocketAddr,
    registry: Registry,
    readiness: Readiness,
    ended: JoinHandle<Result<(), RunError>>,
}

/// A host that is a cluster of its own.
pub(crate) struct Host {
    shutdown: Shutdown,
    storage: Running,
    membership: Running,
    worker: Running,
}

impl Host {
    /// A host that has founded its cluster, and whose processes are all ready.
    pub(crate) async fn start(files: &Files, proof: Proof) -> Self {
        let shutdown = Shutdown::new();
        let membership = start_membership(files, proof, &shutdown);
        let storage = start_storage(files, proof, membership.address, &shutdown).await;
        let addresses = (membership.address, storage.address);
        let worker = start_worker(files, proof, addresses, &shutdown).await;
        let host = Self { shutdown, storage, membership, worker };
        for running in [&host.membership, &host.storage, &host.worker] {
            let ready = tokio::time::timeout(PATIENCE, running.readiness.ready()).await;
            ready.unwrap_or_else(|_| panic!("{:?}", running.readiness));
        }
        host
    }

    fn of(&self, process: Process) -> &Running {
        match process {
            Process::Storage => &self.storage,
            Process::Membership => &self.membership,
            Process::Worker => &self.worker,
        }
    }

    pub(crate) fn address(&self, process: Process) -> SocketAddr {
        self.of(process).address
    }

    /// Handshakes at the API of a process that failed for this reason.
    pub(crate) fn handshakes_failed(&self, process: Process, reason: &str) -> u64 {
        let text = service_kit::metrics::encode(&self.of(process).registry).unwrap();
        let name = "atoll_tls_handshakes_failed_total{listener=\"api\",reason";
        let line = format!("{name}=\"{reason}\"}} ");
        let found = text.lines().find_map(|text| text.strip_prefix(&line));
        found.unwrap_or_else(|| panic!("no {line}")).parse().unwrap()
    }

    pub(crate) async fn stop(self) {
        self.shutdown.request();
        for running in [self.worker, self.storage, self.membership] {
            tokio::time::timeout(PATIENCE, running.ended).await.unwrap().unwrap().unwrap();
        }
    }
}

/// A listener of this machine, at a free port.
fn free() -> String {
    "127.0.0.1:0".to_owned()
}

fn start_membership(files: &Files, proof: Proof, shutdown: &Shutdown) -> Running {
    let config = membership_svc::Config {
        listen: free(),
        metrics_listen: free(),
        data_dir: files.path("membership"),
        name: "one".to_owned(),
        gossip_interval_ms: 100,
        founding: FoundingConfig { partitions: 8, spacing: 1 },
        join: JoinConfig { auto: true, founders: vec!["one".to_owned()] },
        peer_auth: files.peer_auth(proof),
        tls: files.tls(proof),
        ..membership_svc::Config::default()
    };
    let context = ServiceContext::new("membership-svc", config, shutdown.clone()).unwrap();
    let (registry, readiness) = (context.registry.clone(), context.readiness.clone());
    let listeners = context.bind().unwrap();
    let address = listeners.api_addr();
    let ended = tokio::spawn(membership_svc::run(context, listeners));
    Running { address, registry, readiness, ended }
}

async fn start_storage(
    files: &Files,
    proof: Proof,
    agent: SocketAddr,
    shutdown: &Shutdown,
) -> Running {
    let mut config = StorageConfig {
        listen: free(),
        metrics_listen: free(),
        data_dir: files.path("storage"),
        membership: agent.to_string(),
        cluster_secret: Secret::new(*b"the secret of this test"),
        auth: AuthConfig { mode: Some(AuthMode::Keys), keys_file: Some(files.path("keys.json")) },
        peer_auth: files.peer_auth(proof),
        tls: files.tls(proof),
        ..StorageConfig::default()
    };
    config.store.cache_bytes = 4 * 1024 * 1024;
    let context = ServiceContext::new("storage-node", config, shutdown.clone()).unwrap();
    let (registry, readiness) = (context.registry.clone(), context.readiness.clone());
    let (on_bound, bound) = telling();
    let ended = tokio::spawn(storage_node::service::run(context, on_bound));
    Running { address: bound.await.unwrap(), registry, readiness, ended }
}

async fn start_worker(
    files: &Files,
    proof: Proof,
    (agent, storage): (SocketAddr, SocketAddr),
    shutdown: &Shutdown,
) -> Running {
    let config = WorkerConfig {
        listen: free(),
        metrics_listen: free(),
        data_dir: files.path("worker"),
        membership: agent.to_string(),
        storage: storage.to_string(),
        peer_auth: files.peer_auth(proof),
        tls: files.tls(proof),
        ..WorkerConfig::default()
    };
    let context = ServiceContext::new("anti-entropy-worker", config, shutdown.clone()).unwrap();
    let (registry, readiness) = (context.registry.clone(), context.readiness.clone());
    let (on_bound, bound) = telling();
    let ended = tokio::spawn(anti_entropy_worker::service::run(context, on_bound));
    Running { address: bound.await.unwrap(), registry, readiness, ended }
}

/// Hears where a service listens.
fn telling() -> (impl FnOnce(&Listeners) + Send, oneshot::Receiver<SocketAddr>) {
    let (tell, told) = oneshot::channel();
    (move |listeners: &Listeners| tell.send(listeners.api_addr()).unwrap(), told)
}
