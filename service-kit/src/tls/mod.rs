//! TLS on the API listener and between processes of the cluster: rustls with *ring*, version 1.3 and
//! nothing older, certificates from files that may be replaced while the process runs.
//!
//! | module | what it gives |
//! |---|---|
//! | [`config`] | the `[tls]` table, and which of its files go together |
//! | [`material`] | the files, checked, as what handshakes need |
//! | [`certificate`] | how long a certificate is good, and which nodes it names |
//! | [`authority`] | a CA for clusters on one machine |
//! | [`handshake`] | the handshake of an accepted connection: bounded, counted, logged |
//!
//! A client verifies the host of the address that it was given. Processes of the cluster verify the
//! cluster's name instead, in both directions: their addresses are loopback, numbers and names of
//! pods, and any host of the cluster may be behind them. A certificate may besides name nodes, as
//! `node-<id>.<cluster name>`: then it speaks for these alone ([`PeerCertificate`]), which
//! [`crate::peer::gate`] holds, and for gossip, whose messages name their sender inside, its receiver.
//!
//! Invariants: the last good files stay in use until better ones are there; whoever presents no
//! certificate of the cluster's CA and name is not heard on a port of peers, and is a client and no
//! host on one of peers and clients; whoever presents another is heard on neither.
//!
//! Not here: the metrics and health listener, which is always plain, and revocation: certificates
//! are short-lived, and the list of CAs can be replaced.

pub mod authority;
pub mod config;

mod certificate;
mod handshake;
mod material;

pub(crate) use handshake::{HandshakeMetrics, Handshakes};

use std::path::Path;
use std::sync::Arc;

use dynamo_core::id::NodeId;
use prometheus::{IntGauge, Registry};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use crate::auth::reloaded::{ReloadMetrics, Reloaded};
use crate::config::Invalid;
use crate::http::error::{ErrorCode, Problem};
use crate::launch::RunError;
use crate::shutdown::Shutdown;
use crate::time::Clock;

use certificate::Certificate;
use config::{Callers, TlsConfig};
use material::Material;

/// The word for the files in metrics and logs.
const FILE: &str = "tls";

/// What the certificate of a connection says of who is at its other end: an extension of each
/// request of a host, where certificates are asked for. Only a handshake makes one.
#[derive(Debug, Clone)]
pub struct PeerCertificate {
    /// The only nodes that it speaks for; empty for any.
    nodes: Arc<[NodeId]>,
}

impl PeerCertificate {
    /// Refuses a message of `node` for which it does not speak.
    ///
    /// # Errors
    /// 401.
    pub fn check(&self, node: NodeId) -> Result<(), Problem> {
        if self.nodes.is_empty() || self.nodes.contains(&node) {
            return Ok(());
        }
        tracing::warn!(%node, "a message of a node for which its certificate does not speak");
        Err(Problem::new(ErrorCode::Unauthorized, "the certificate does not speak for this node"))
    }
}

/// The certificate of this process and those that it believes; or nothing, where everything travels
/// in clear. Clones share the files.
#[derive(Clone, Default)]
pub struct Tls(Option<Arc<Shared>>);

struct Shared {
    material: Arc<Reloaded<Material>>,
    cluster_name: ServerName<'static>,
    expires: IntGauge,
}

impl Tls {
    /// Everything travels in clear.
    #[must_use]
    pub fn off() -> Self {
        Self(None)
    }

    /// What `config` says.
    ///
    /// # Errors
    /// Where a file cannot be read, makes no sense, is open to others or out of date.
    pub fn load(
        config: &TlsConfig,
        callers: Callers,
        clock: &Clock,
        registry: &Registry,
        reloads: ReloadMetrics,
    ) -> Result<Self, RunError> {
        let Some(files) = config.files(callers)? else { return Ok(Self::off()) };
        // Once for an error that names its setting; what follows is read again at any change.
        Material::read(&files, callers, clock)?;
        let (paths, cluster_name) = (files.paths(), files.cluster_name.clone());
        let clock = clock.clone();
        let read =
            move || Material::read(&files, callers, &clock).map_err(|invalid| invalid.to_string());
        let material = Reloaded::load_all(FILE, paths, read, reloads)
            .map_err(|reason| Invalid::new("tls", reason))?;
        let expires = IntGauge::new(
            "atoll_tls_certificate_expires_timestamp_seconds",
            "When the certificate in use, or one between it and its CA, expires.",
        )?;
        registry.register(Box::new(expires.clone()))?;
        expires.set(material.current().expires_s);
        Ok(Self(Some(Arc::new(Shared { material: Arc::new(material), cluster_name, expires }))))
    }

    /// Whether the listener speaks TLS.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Whether processes of the cluster know each other by certificates.
    #[must_use]
    pub fn is_mutual(&self) -> bool {
        self.client().is_some()
    }

    /// Follows the files until the process stops. Connections that there are go on as they are.
    pub async fn follow(self, shutdown: Shutdown) {
        if let Some(shared) = self.0 {
            let material = Arc::clone(&shared.material);
            let show = move || shared.expires.set(shared.material.current().expires_s);
            material.follow(shutdown, show).await;
        }
    }

    /// For the next accepted connection.
    fn server(&self) -> Option<Arc<ServerConfig>> {
        self.0.as_ref().map(|shared| Arc::clone(&shared.material.current().server))
    }

    /// For the next connection to a peer: how to speak, and the name to ask for. `None` where peers
    /// speak in clear.
    pub(crate) fn client(&self) -> Option<(Arc<ClientConfig>, ServerName<'static>)> {
        let shared = self.0.as_ref()?;
        let client = shared.material.current().client.clone()?;
        Some((client, shared.cluster_name.clone()))
    }

    /// What the certificates of a connection say; `None` where there are none.
    fn peer(&self, chain: Option<&[CertificateDer<'_>]>) -> Option<PeerCertificate> {
        let shared = self.0.as_ref()?;
        // It was verified: what cannot be parsed now names no node that anybody knows.
        let found = Certificate::parse(chain?.first()?).ok();
        let nodes = found.map_or_else(Vec::new, |found| found.nodes(&shared.cluster_name));
        Some(PeerCertificate { nodes: nodes.into() })
    }
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.is_on() { "Tls(on)" } else { "Tls(off)" })
    }
}

/// How an HTTP client of another library is to speak TLS: as ours, believing only the CAs of
/// `ca_file`, and nobody where there is none.
///
/// # Errors
/// One line that names the file.
pub fn plain_client(ca_file: Option<&Path>) -> Result<ClientConfig, String> {
    let roots = match ca_file {
        Some(path) => material::roots(path)?,
        None => Arc::new(RootCertStore::empty()),
    };
    Ok(material::finished(material::client_config(roots).with_no_client_auth()))
}
