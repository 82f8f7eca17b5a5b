//! Who asks: what is shown in the handshake, how messages are signed, whom they name as their sender, and
//! whether they carry an API key.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use dynamo_core::id::{Incarnation, NodeId};
use dynamo_core::membership::state::Stamp;
use dynamo_core::membership::view::Delta;
use dynamo_core::wire::gossip::{GOSSIP_PATH, GossipBody, GossipMessage, Want};
use http::HeaderMap;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use hyper_util::rt::TokioIo;
use prometheus::Registry;
use service_kit::auth::reloaded::ReloadMetrics;
use service_kit::peer::auth::PeerAuth;
use service_kit::peer::{
    Connector, NotSentReason, PeerClient, PeerConfig, PeerError, PeerIdentity, PeerMetrics,
    PeerRequest, PeerResponse, PeerStream, ProcessRole,
};
use service_kit::time::Clock;
use service_kit::tls::authority::{Authority, Issued};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::version::TLS13;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::Proof;
use crate::host::{CLUSTER_NAME, DAY, Files, PATIENCE};

/// What is shown in the handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shown {
    /// There is none.
    InClear,
    /// No certificate.
    Nothing,
    /// The certificate of any host.
    Host,
    /// The certificate of the node that its messages name.
    NamedHost,
    /// The certificate of another node than its messages name.
    OtherHost,
    /// What another CA says is a host.
    OfAnotherCa,
    /// A certificate of the cluster's CA for something that is no host.
    NoHost,
    /// The certificate of a host, of yesterday.
    Expired,
}

impl Shown {
    fn certificate(self, files: &Files) -> Option<Issued> {
        let named = |node: NodeId| format!("node-{node}.{CLUSTER_NAME}");
        let issue = |names: &[&str]| files.ca.issue(names, DAY).unwrap();
        match self {
            Self::InClear | Self::Nothing => None,
            Self::Host => Some(issue(&[CLUSTER_NAME])),
            Self::NamedHost => Some(issue(&[CLUSTER_NAME, &named(NODES[0])])),
            Self::OtherHost => Some(issue(&[CLUSTER_NAME, &named(NODES[1])])),
            Self::OfAnotherCa => {
                Some(Authority::new("another", DAY).unwrap().issue(&[CLUSTER_NAME], DAY).unwrap())
            }
            Self::NoHost => Some(issue(&["client.example.org"])),
            Self::Expired => Some(files.ca.issue(&[CLUSTER_NAME], -DAY).unwrap()),
        }
    }

    /// How it connects: with a certificate or without, believing the cluster's CA.
    fn connector(self, files: &Files) -> Showing {
        if self == Self::InClear {
            return Showing(None);
        }
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(files.ca.pem().as_bytes()).unwrap()).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[&TLS13])
            .unwrap()
            .with_root_certificates(roots);
        let config = match self.certificate(files) {
            None => builder.with_no_client_auth(),
            Some(shown) => {
                let cert = CertificateDer::from_pem_slice(shown.cert_pem.as_bytes()).unwrap();
                let key = PrivateKeyDer::from_pem_slice(shown.key_pem.as_bytes()).unwrap();
                builder.with_client_auth_cert(vec![cert], key).unwrap()
            }
        };
        Showing(Some(Arc::new(config)))
    }
}

/// How messages are signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Signed {
    Not,
    /// With the key of the hosts.
    Well,
    WithAnotherKey,
}

impl Signed {
    fn auth(self, files: &Files) -> PeerAuth {
        let keys = match self {
            Self::Not => return PeerAuth::off(),
            Self::Well => files.signing_with("peer-keys"),
            Self::WithAnotherKey => files.signing_with("other-keys"),
        };
        let registry = Registry::new();
        let reloads = ReloadMetrics::register(&registry).unwrap();
        PeerAuth::load(&keys, Clock::system(), &registry, reloads).unwrap()
    }
}

/// A node that is none of the host, and another one.
const NODES: [NodeId; 2] = [NodeId(7), NodeId(8)];

/// Whom messages name as their sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stated {
    /// The storage node of the first of [`NODES`].
    OtherHost,
    /// The worker of the very host that is asked.
    OwnWorker,
    /// A router that gives the id of that host's node for its own.
    Router,
}

/// Somebody, in all that can be known of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Who {
    shown: Shown,
    signed: Signed,
    stated: Stated,
    has_api_key: bool,
}

impl Who {
    /// Somebody who says to be another host.
    pub(crate) fn new(shown: Shown, signed: Signed) -> Self {
        Self { shown, signed, stated: Stated::OtherHost, has_api_key: false }
    }

    /// A host with all that hosts have.
    pub(crate) fn any_host(proof: Proof) -> Self {
        let shown = if proof.certificates { Shown::Host } else { Shown::InClear };
        Self::new(shown, if proof.signatures { Signed::Well } else { Signed::Not })
    }

    /// Who says to be the worker of the host that is asked.
    pub(crate) fn as_own_worker(self) -> Self {
        Self { stated: Stated::OwnWorker, ..self }
    }

    /// Who says to be a router, and gives the id of the node that is asked.
    pub(crate) fn as_router(self) -> Self {
        Self { stated: Stated::Router, ..self }
    }

    /// With a valid key that has every scope.
    pub(crate) fn with_api_key(self) -> Self {
        Self { has_api_key: true, ..self }
    }

    pub(crate) fn is_own_worker(self) -> bool {
        self.stated == Stated::OwnWorker
    }
}

/// Connects as [`Shown`] says.
struct Showing(Option<Arc<ClientConfig>>);

impl Connector for Showing {
    type Stream = TokioIo<PeerStream>;

    async fn connect(&self, address: &str) -> io::Result<Self::Stream> {
        let stream = TcpStream::connect(address).await?;
        let Some(config) = self.0.clone() else {
            return Ok(TokioIo::new(PeerStream::Clear(stream)));
        };
        let name = ServerName::try_from(CLUSTER_NAME).unwrap();
        let stream = TlsConnector::from(config).connect(name, stream).await?;
        Ok(TokioIo::new(PeerStream::Tls(Box::new(stream))))
    }
}

/// Somebody, ready to ask.
pub(crate) struct Principal {
    client: PeerClient<Showing>,
    api_key: Option<String>,
    /// Whom gossip names within.
    gossips_as: NodeId,
}

impl Principal {
    /// `who`, towards the host whose node is `own`.
    pub(crate) fn new(files: &Files, who: Who, own: NodeId) -> Self {
        let (node, role) = match who.stated {
            Stated::OtherHost => (NODES[0], ProcessRole::Storage),
            Stated::OwnWorker => (own, ProcessRole::Worker),
            Stated::Router => (own, ProcessRole::Router),
        };
        // In a later life than the true worker of the host, or it would not be heard for that.
        let identity = PeerIdentity::new(node, Incarnation(u64::MAX), role, None)
            .proven_by(who.signed.auth(files));
        let metrics = PeerMetrics::register(&Registry::new()).unwrap();
        let connector = who.shown.connector(files);
        let (config, clock) = (PeerConfig::default(), Clock::system());
        let client = PeerClient::with_connector(config, identity, clock, metrics, connector);
        let api_key = who.has_api_key.then(|| files.api_key.clone());
        let gossips_as = if who.stated == Stated::OwnWorker { own } else { NODES[0] };
        Self { client, api_key, gossips_as }
    }

    /// The status of the answer; `None` where nothing is heard, and the connection closed.
    pub(crate) async fn ask(&self, to: SocketAddr, method: &str, pattern: &str) -> Option<u16> {
        match self.call(to, method, pattern).await {
            Ok(answer) => Some(answer.status.as_u16()),
            Err(PeerError::Unknown(_) | PeerError::NotSent(NotSentReason::Connect(_))) => None,
            Err(error) => panic!("{method} {pattern}: {error}"),
        }
    }

    /// The node of the host whose worker is asked.
    pub(crate) async fn node_at(&self, worker: SocketAddr) -> NodeId {
        let answer = self.call(worker, "GET", "/v1/ping").await.unwrap();
        let ping: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
        ping["node"].as_str().unwrap().parse().unwrap()
    }

    async fn call(
        &self,
        to: SocketAddr,
        method: &str,
        pattern: &str,
    ) -> Result<PeerResponse, PeerError> {
        let mut headers = HeaderMap::new();
        if let Some(key) = &self.api_key {
            headers.insert(AUTHORIZATION, format!("Bearer {key}").parse().unwrap());
        }
        let body = if pattern == GOSSIP_PATH {
            headers.insert(CONTENT_TYPE, "application/json".parse().unwrap());
            self.gossip().encode().into()
        } else {
            Bytes::new()
        };
        let places = [("{bucket}", "b"), ("{*key}", "k"), ("{partition}", "0"), ("{id}", "1")];
        let path = places
            .iter()
            .fold(pattern.to_owned(), |path, (place, value)| path.replace(place, value));
        let request = PeerRequest {
            address: &to.to_string(),
            method: method.parse().unwrap(),
            path: &path,
            headers,
            body,
            timeout: PATIENCE,
            idempotent: false,
        };
        self.client.call(request).await
    }

    /// A message that names its sender within, of no cluster yet.
    fn gossip(&self) -> GossipMessage {
        let stamp = Stamp { incarnation: Incarnation(1), life: 1, version: 1 };
        let body = GossipBody::Push { delta: Delta::default(), want: Want::default() };
        GossipMessage::seal(None, self.gossips_as, stamp, body)
    }
}
