//! A small ring for tests: one agent, some storage nodes, one router, all on free ports.

mod agent;
mod node;
mod store;
mod worker;

use std::collections::HashMap;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};

use dynamo_core::clock::context::ContextKeys;
use dynamo_core::clock::record::Record;
use dynamo_core::cluster_view::{Addresses, MemberStatus, NodeInfo, RingSnapshot};
use dynamo_core::id::{ClusterId, Incarnation, NodeId};
use dynamo_core::key::ObjectKey;
use dynamo_core::params::BucketProps;
use dynamo_core::ring::{PartitionSet, Partitions, RingVersion};
use dynamo_core::wire::ring::RING_FORMAT;
use request_router::RequestRouter;
use request_router::config::RouterConfig;
use service_kit::launch::{Service, ServiceContext};
use service_kit::shutdown::Shutdown;
use tokio::runtime::Runtime;

pub(crate) use crate::bad_input::http::{Reply, request};
pub(crate) use agent::Agent;
pub(crate) use node::{Mode, Node};

/// What all storage nodes of a test keep together: replication is not the router's business.
pub(crate) struct Shared {
    pub(crate) records: Mutex<HashMap<ObjectKey, Record>>,
    pub(crate) keys: ContextKeys,
    pub(crate) sync_points: Mutex<Vec<String>>,
    /// Coordinated puts that changed something.
    pub(crate) applied: AtomicU64,
}

/// A running ring.
pub(crate) struct Cluster {
    pub(crate) router: SocketAddr,
    pub(crate) health: SocketAddr,
    pub(crate) nodes: Vec<Arc<Node>>,
    pub(crate) agent: Arc<Agent>,
    pub(crate) shared: Arc<Shared>,
    shutdown: Shutdown,
    runtime: Option<Runtime>,
    _data: tempfile::TempDir,
}

/// An address on which nobody listens.
pub(crate) fn dead_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// The snapshot of a ring of these storage nodes.
pub(crate) fn snapshot(number: u64, nodes: &[(NodeId, SocketAddr)]) -> RingSnapshot {
    let partitions = Partitions::new(8).unwrap();
    let mut nodes = nodes.to_vec();
    nodes.sort_unstable();
    let count = u32::try_from(nodes.len()).unwrap();
    RingSnapshot {
        format: RING_FORMAT,
        cluster: ClusterId(7),
        version: RingVersion { number, hash: number },
        partitions,
        spacing: 3,
        owners: (0..8u32).map(|partition| partition.checked_rem(count)).collect(),
        nodes: nodes.iter().map(|(id, address)| info(*id, *address, partitions)).collect(),
        defaults: BucketProps::default(),
        buckets: [("pairs".to_owned(), BucketProps { n: 2, ..BucketProps::default() })].into(),
    }
}

fn info(id: NodeId, address: SocketAddr, partitions: Partitions) -> NodeInfo {
    NodeInfo {
        id,
        name: format!("host-{}", id.0),
        zone: None,
        weight: 100,
        addresses: Addresses {
            storage: Some(address.to_string()),
            worker: Some(address.to_string()),
            ..Addresses::default()
        },
        status: MemberStatus::Member,
        incarnation: Incarnation(1),
        holds: Some(PartitionSet::full(partitions)),
        store_id: None,
        founding_store: None,
        epoch: 1,
    }
}

impl Cluster {
    /// A ring of `count` storage nodes behind one router.
    pub(crate) fn start(count: u128) -> Self {
        Self::start_with(count, |_| {})
    }

    pub(crate) fn start_with(count: u128, edit: impl FnOnce(&mut RouterConfig)) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let shared = Arc::new(Shared {
            records: Mutex::default(),
            keys: ContextKeys::derive([&b"test secret"[..]]).unwrap(),
            sync_points: Mutex::default(),
            applied: AtomicU64::new(0),
        });
        let nodes: Vec<Arc<Node>> = (1..=count)
            .map(|id| runtime.block_on(Node::start(NodeId(id), Arc::clone(&shared))))
            .collect();
        let members: Vec<_> = nodes.iter().map(|node| (node.id, node.address)).collect();
        let agent = runtime.block_on(Agent::start(&snapshot(1, &members)));
        let data = tempfile::tempdir().unwrap();
        let ports = data.path().join("ports.json");
        let mut config = RouterConfig {
            listen: "127.0.0.1:0".to_owned(),
            metrics_listen: "127.0.0.1:0".to_owned(),
            membership: agent.address.to_string(),
            data_dir: Some(data.path().join("router")),
            ..RouterConfig::default()
        };
        config.runtime.ports_file = Some(ports.clone());
        config.runtime.drain_timeout_ms = 200;
        edit(&mut config);
        let shutdown = Shutdown::new();
        let context = ServiceContext::new(RequestRouter::NAME, config, shutdown.clone()).unwrap();
        let readiness = context.readiness.clone();
        runtime.spawn(async move { RequestRouter::run(context).await.unwrap() });
        runtime.block_on(readiness.ready());
        let ports: serde_json::Value =
            serde_json::from_slice(&std::fs::read(ports).unwrap()).unwrap();
        let address = |name: &str| ports[name].as_str().unwrap().parse().unwrap();
        Self {
            router: address("listen"),
            health: address("metrics_listen"),
            nodes,
            agent,
            shared,
            shutdown,
            runtime: Some(runtime),
            _data: data,
        }
    }

    pub(crate) fn get(&self, path: &str) -> Reply {
        request(self.router, "GET", path, &[], b"")
    }

    pub(crate) fn put(&self, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
        request(self.router, "PUT", path, headers, body)
    }

    pub(crate) fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> Reply {
        request(self.router, method, path, headers, b"")
    }

    /// One of the router's metrics as text.
    pub(crate) fn metric(&self, name: &str) -> f64 {
        let text =
            String::from_utf8(request(self.health, "GET", "/metrics", &[], b"").body).unwrap();
        let line = text.lines().find(|line| line.split(' ').next() == Some(name));
        line.map_or(0.0, |line| line.rsplit(' ').next().unwrap().parse().unwrap())
    }

    /// A digest of everything that is stored.
    pub(crate) fn stored(&self) -> String {
        let records = self.shared.records.lock().unwrap();
        let mut lines: Vec<String> =
            records.iter().map(|(key, record)| format!("{key:?} {record:?}")).collect();
        lines.sort();
        lines.join("\n")
    }

    /// Requests that any storage node has seen.
    pub(crate) fn coordinated(&self) -> usize {
        self.nodes.iter().map(|node| node.seen()).sum()
    }

    pub(crate) fn set_all(&self, mode: &Mode) {
        for node in &self.nodes {
            node.set(mode.clone());
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.shutdown.request();
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
