//! Storage nodes on threads of their own, so that one can be killed like a process.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use dynamo_core::id::NodeId;
use dynamo_core::key::ObjectKey;
use dynamo_core::ring::ReplicaSets;
use prometheus::Registry;
use service_kit::config::Secret;
use service_kit::launch::{RunError, ServiceContext};
use service_kit::readiness::Readiness;
use service_kit::shutdown::Shutdown;
use storage_node::config::StorageConfig;
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::agent::Agents;

/// Longest wait for something that must happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// One running node.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    pub(crate) registry: Registry,
    pub(crate) readiness: Readiness,
    shutdown: Shutdown,
    ended: JoinHandle<Result<(), RunError>>,
    runtime: Runtime,
}

/// Nodes 1 to `count` with their agents and directories.
pub(crate) struct Cluster {
    pub(crate) agents: Agents,
    pub(crate) nodes: Vec<Option<Running>>,
    agent_addresses: Vec<SocketAddr>,
    root: TempDir,
    edit: fn(&mut StorageConfig),
}

impl Cluster {
    /// A cluster that has been founded and holds everything.
    pub(crate) async fn start(count: usize) -> Self {
        Self::start_with(count, |_| {}).await
    }

    /// The same, with other settings.
    pub(crate) async fn start_with(count: usize, edit: fn(&mut StorageConfig)) -> Self {
        let agents = Agents::new(count);
        let root = tempfile::tempdir().unwrap();
        let agent = |id| {
            let mut config = local(root.path().join(format!("a{id}")));
            edit(&mut config);
            agents.start(node(id), config)
        };
        let agent_addresses = (1..=count).map(agent).collect();
        let nodes = (0..count).map(|_| None).collect();
        let mut cluster = Self { agents, nodes, agent_addresses, root, edit };
        for id in 1..=count {
            cluster.start_node(id).await.unwrap();
        }
        cluster.settle().await;
        cluster
    }

    /// Waits until every running node is ready and every node of the ring holds its partitions.
    pub(crate) async fn settle(&self) {
        until("every node holds its partitions", || self.agents.all_hold()).await;
        for running in self.nodes.iter().flatten() {
            tokio::time::timeout(PATIENCE, running.readiness.ready()).await.unwrap();
        }
        // Ready says that a ring is known; requests need the one with everybody's holdings.
        let pause = Duration::from_millis(100);
        tokio::time::sleep(pause).await;
    }

    /// Waits until node `id` is ready.
    pub(crate) async fn ready(&self, id: usize) {
        let readiness = &self.nodes[id - 1].as_ref().expect("runs").readiness;
        tokio::time::timeout(PATIENCE, readiness.ready()).await.unwrap();
    }

    pub(crate) fn data_dir(&self, id: usize) -> PathBuf {
        self.root.path().join(format!("n{id}"))
    }

    /// Starts node `id`; an error where it refuses to.
    pub(crate) async fn start_node(&mut self, id: usize) -> Result<(), String> {
        let mut config = StorageConfig {
            membership: self.agent_addresses[id - 1].to_string(),
            cluster_secret: Secret::new(*b"the secret of this test"),
            ..local(self.data_dir(id))
        };
        config.store.cache_bytes = 4 * 1024 * 1024;
        (self.edit)(&mut config);
        let shutdown = Shutdown::new();
        let context = ServiceContext::new("storage-node", config, shutdown.clone()).unwrap();
        let (registry, readiness) = (context.registry.clone(), context.readiness.clone());
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let (bound, address) = oneshot::channel();
        let ended = runtime.spawn(storage_node::service::run(context, move |listeners| {
            bound.send(listeners.api_addr()).unwrap();
        }));
        let Ok(address) = address.await else {
            let error = ended.await.unwrap().unwrap_err().to_string();
            runtime.shutdown_background();
            return Err(error);
        };
        self.agents.set_address(node(id), address);
        let running = Running { address, registry, readiness, shutdown, ended, runtime };
        self.nodes[id - 1] = Some(running);
        Ok(())
    }

    /// Starts node `id` with an agent that does not answer.
    pub(crate) async fn start_node_without_agent(&mut self, id: usize) {
        // A port that was free a moment ago and refuses connections.
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let agent = std::mem::replace(&mut self.agent_addresses[id - 1], free);
        self.start_node(id).await.unwrap();
        self.agent_addresses[id - 1] = agent;
        self.ready(id).await;
    }

    /// Stops node `id` in order.
    pub(crate) async fn stop(&mut self, id: usize) -> Result<(), RunError> {
        let running = self.nodes[id - 1].take().expect("runs");
        running.shutdown.request();
        let ended = tokio::time::timeout(PATIENCE, running.ended).await.unwrap().unwrap();
        running.runtime.shutdown_background();
        ended
    }

    /// Waits until node `id` has ended by itself.
    pub(crate) async fn ended(&mut self, id: usize) -> Result<(), RunError> {
        let running = self.nodes[id - 1].take().expect("runs");
        let ended = tokio::time::timeout(PATIENCE, running.ended).await.unwrap().unwrap();
        running.runtime.shutdown_background();
        ended
    }

    /// Ends node `id` without telling it: its tasks stop where they are.
    pub(crate) async fn kill(&mut self, id: usize) {
        let running = self.nodes[id - 1].take().expect("runs");
        let ending = move || running.runtime.shutdown_timeout(Duration::from_secs(10));
        tokio::task::spawn_blocking(ending).await.unwrap();
    }

    pub(crate) fn address(&self, id: usize) -> SocketAddr {
        self.nodes[id - 1].as_ref().expect("runs").address
    }

    /// The value of a metric of node `id`, summed over its labels.
    pub(crate) fn metric(&self, id: usize, name: &str) -> f64 {
        let registry = &self.nodes[id - 1].as_ref().expect("runs").registry;
        let families = registry.gather();
        let family = families.iter().find(|family| family.name() == name);
        let metrics = family.map(|family| family.get_metric()).unwrap_or_default();
        metrics.iter().map(|m| m.get_counter().get_value() + m.get_gauge().get_value()).sum()
    }

    /// The replicas of a key in bucket `b`.
    pub(crate) fn replicas(&self, key: &str) -> ReplicaSets {
        let view = self.agents.view();
        let object = ObjectKey::parse("b", key).unwrap();
        view.replica_sets(object.position(), 3)
    }

    /// A key whose first primary is node `id`.
    pub(crate) fn key_of(&self, id: usize) -> String {
        (0..)
            .map(|number| format!("key-{number}"))
            .find(|key| self.replicas(key).owners[0] == node(id))
            .unwrap()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // A runtime must not be dropped inside another.
        for running in self.nodes.drain(..).flatten() {
            running.runtime.shutdown_background();
        }
    }
}

/// Settings of a process with free ports.
fn local(data_dir: PathBuf) -> StorageConfig {
    StorageConfig {
        listen: "127.0.0.1:0".to_owned(),
        metrics_listen: "127.0.0.1:0".to_owned(),
        data_dir,
        ..StorageConfig::default()
    }
}

pub(crate) fn node(id: usize) -> NodeId {
    NodeId(id as u128)
}

/// The number of a node.
pub(crate) fn number(node: NodeId) -> usize {
    usize::try_from(node.0).unwrap()
}

/// Waits for a condition.
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !holds() {
        assert!(tokio::time::Instant::now() < deadline, "in vain: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
