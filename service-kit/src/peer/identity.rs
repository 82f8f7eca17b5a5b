//! Who speaks: the headers that every message between processes carries, and what proves them.

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use dynamo_core::id::{ClusterId, Incarnation, NodeId};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::auth::PeerAuth;

/// Cluster of the sender; a receiver of another cluster refuses.
pub const X_ATOLL_CLUSTER: HeaderName = HeaderName::from_static("x-atoll-cluster");
/// Node of the sender.
pub const X_ATOLL_SENDER: HeaderName = HeaderName::from_static("x-atoll-sender");
/// Which of the node's processes speaks: each has incarnations of its own.
pub const X_ATOLL_ROLE: HeaderName = HeaderName::from_static("x-atoll-role");
/// Life of the sending process; of two with one node and role, the higher is listened to.
pub const X_ATOLL_INCARNATION: HeaderName = HeaderName::from_static("x-atoll-incarnation");
/// Version of the protocol that the message is written in.
pub const X_ATOLL_PROTOCOL: HeaderName = HeaderName::from_static("x-atoll-protocol");
/// Milliseconds that the receiver has for its answer.
pub const X_ATOLL_DEADLINE_MS: HeaderName = HeaderName::from_static("x-atoll-deadline-ms");

/// Lowest protocol version that is understood: version N talks to N−1.
pub const PROTOCOL_MIN: u32 = 1;
/// Highest protocol version that is understood, and the one that is spoken.
pub const PROTOCOL_MAX: u32 = 1;

/// The processes of a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ProcessRole {
    /// request-router.
    Router,
    /// storage-node.
    Storage,
    /// membership-svc.
    Membership,
    /// anti-entropy-worker.
    Worker,
}

impl ProcessRole {
    const ALL: [Self; 4] = [Self::Router, Self::Storage, Self::Membership, Self::Worker];

    /// Its text in headers.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Router => "router",
            Self::Storage => "storage",
            Self::Membership => "membership",
            Self::Worker => "worker",
        }
    }

    /// The role with this text.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == text)
    }
}

/// The identity of this process towards its peers. Clones share the cluster, which may be learned
/// only after start (a new node learns it from its membership agent).
#[derive(Clone)]
pub struct PeerIdentity {
    node: NodeId,
    incarnation: Incarnation,
    role: ProcessRole,
    current: Arc<ArcSwap<Current>>,
    auth: PeerAuth,
}

/// The cluster and the headers that state it all, ready to be cloned into each message.
struct Current {
    cluster: Option<ClusterId>,
    headers: HeaderMap,
}

impl PeerIdentity {
    /// The identity of a process of `node` in its life `incarnation`.
    #[must_use]
    pub fn new(
        node: NodeId,
        incarnation: Incarnation,
        role: ProcessRole,
        cluster: Option<ClusterId>,
    ) -> Self {
        let headers = template(node, incarnation, role, cluster);
        let current = Arc::new(ArcSwap::from_pointee(Current { cluster, headers }));
        Self { node, incarnation, role, current, auth: PeerAuth::off() }
    }

    /// The same identity, whose messages are signed, and which believes only signed ones.
    #[must_use]
    pub fn proven_by(self, auth: PeerAuth) -> Self {
        Self { auth, ..self }
    }

    /// How messages are signed and checked.
    pub(super) fn auth(&self) -> &PeerAuth {
        &self.auth
    }

    /// Joins a cluster; from now on every message names it.
    pub fn set_cluster(&self, cluster: ClusterId) {
        let headers = template(self.node, self.incarnation, self.role, Some(cluster));
        self.current.store(Arc::new(Current { cluster: Some(cluster), headers }));
    }

    /// The cluster, where it is known.
    #[must_use]
    pub fn cluster(&self) -> Option<ClusterId> {
        self.current.load().cluster
    }

    /// The node this process belongs to.
    #[must_use]
    pub fn node(&self) -> NodeId {
        self.node
    }

    /// The life of this process.
    #[must_use]
    pub fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    /// Adds the identity to a message.
    pub(crate) fn stamp(&self, headers: &mut HeaderMap) {
        for (name, value) in &self.current.load().headers {
            headers.insert(name.clone(), value.clone());
        }
    }
}

impl fmt::Debug for PeerIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerIdentity")
            .field("node", &self.node)
            .field("incarnation", &self.incarnation.0)
            .field("role", &self.role)
            .field("cluster", &self.cluster())
            .finish()
    }
}

fn template(
    node: NodeId,
    incarnation: Incarnation,
    role: ProcessRole,
    cluster: Option<ClusterId>,
) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(8);
    headers.insert(X_ATOLL_SENDER, text(&node));
    headers.insert(X_ATOLL_ROLE, HeaderValue::from_static(role.as_str()));
    headers.insert(X_ATOLL_INCARNATION, HeaderValue::from(incarnation.0));
    headers.insert(X_ATOLL_PROTOCOL, HeaderValue::from(PROTOCOL_MAX));
    if let Some(cluster) = cluster {
        headers.insert(X_ATOLL_CLUSTER, text(&cluster));
    }
    headers
}

fn text(id: &impl fmt::Display) -> HeaderValue {
    HeaderValue::from_str(&id.to_string()).expect("hexadecimal digits are a valid header value")
}
