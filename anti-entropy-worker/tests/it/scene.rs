//! A cluster of agents and stores, with a worker at some of its nodes.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anti_entropy_worker::config::WorkerConfig;
use bytes::Bytes;
use dynamo_core::actor::Actor;
use dynamo_core::clock::record::{Content, Record, Value};
use dynamo_core::id::{Incarnation, NodeId, PutId};
use dynamo_core::key::ObjectKey;
use dynamo_core::params::Reconciliation;
use dynamo_core::replica::{PutCommand, coordinate_put};
use dynamo_core::time::WallMs;
use http::{HeaderMap, Method};
use prometheus::Registry;
use serde_json::Value as Json;
use service_kit::launch::{RunError, ServiceContext};
use service_kit::peer::{
    PeerClient, PeerConfig, PeerIdentity, PeerMetrics, PeerRequest, PeerResponse, ProcessRole,
};
use service_kit::shutdown::Shutdown;
use service_kit::time::Clock;
use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::agent::Agents;
use crate::store::Store;

/// Longest wait for something that must happen.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running worker.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    pub(crate) registry: Registry,
    shutdown: Shutdown,
    ended: JoinHandle<Result<(), RunError>>,
}

/// Agents, stores and the directories of workers.
pub(crate) struct Scene {
    pub(crate) agents: Agents,
    pub(crate) stores: Vec<Store>,
    root: TempDir,
    client: PeerClient,
}

pub(crate) fn node(id: usize) -> NodeId {
    NodeId(id as u128)
}

/// The object of a test key.
pub(crate) fn object(number: usize) -> ObjectKey {
    ObjectKey::parse("b", &format!("key-{number}")).unwrap()
}

/// A record that `writer` has written.
pub(crate) fn written(writer: usize, content: Content) -> Record {
    let command = PutCommand {
        put_id: PutId(writer as u128),
        context: None,
        content,
        reconciliation: Reconciliation::Siblings,
    };
    let mut actor = Actor::restarted(node(writer), 0);
    coordinate_put(&Record::default(), &command, &mut actor, WallMs(1_000)).unwrap().record
}

/// A value that `writer` has written.
pub(crate) fn value(writer: usize) -> Record {
    let bytes = Bytes::from(format!("value of {writer}"));
    written(writer, Content::Value(Value { bytes, ..Value::default() }))
}

impl Scene {
    /// `nodes` nodes, of which the first `members` own the ring and hold all.
    pub(crate) async fn new(nodes: usize, members: usize) -> Self {
        let agents = Agents::new(nodes as u128, members);
        let mut stores = Vec::new();
        for id in 1..=nodes {
            let store = Store::new(&agents, node(id), id <= members);
            agents.set_address(node(id), store.start().await);
            stores.push(store);
        }
        let identity = PeerIdentity::new(NodeId(99), Incarnation(0), ProcessRole::Router, None);
        let metrics = PeerMetrics::register(&Registry::new()).unwrap();
        let client = PeerClient::new(PeerConfig::default(), identity, Clock::system(), metrics);
        Self { agents, stores, root: tempfile::tempdir().unwrap(), client }
    }

    pub(crate) fn store(&self, id: usize) -> &Store {
        &self.stores[id - 1]
    }

    pub(crate) fn data_dir(&self, id: usize) -> PathBuf {
        self.root.path().join(format!("w{id}"))
    }

    /// Starts the worker of node `id`; an error where it refuses to.
    pub(crate) async fn start(&self, id: usize) -> Result<Running, RunError> {
        let agent = self.agents.start(node(id)).await;
        let snapshot = self.agents.snapshot();
        let info = snapshot.nodes.iter().find(|info| info.id == node(id)).unwrap();
        let config = WorkerConfig {
            listen: "127.0.0.1:0".to_owned(),
            metrics_listen: "127.0.0.1:0".to_owned(),
            data_dir: self.data_dir(id),
            membership: agent.to_string(),
            storage: info.addresses.storage.clone().unwrap(),
            exchange_interval_s: 1,
            tombstone_grace_s: 90,
            ..WorkerConfig::default()
        };
        let shutdown = Shutdown::new();
        let context = ServiceContext::new("anti-entropy-worker", config, shutdown.clone()).unwrap();
        let (registry, readiness) = (context.registry.clone(), context.readiness.clone());
        let (bound, address) = oneshot::channel();
        let running = anti_entropy_worker::service::run(context, move |listeners| {
            bound.send(listeners.api_addr()).unwrap();
        });
        let mut ended = tokio::spawn(running);
        let address = address.await.unwrap();
        tokio::select! {
            ended = &mut ended => return Err(ended.unwrap().unwrap_err()),
            ready = tokio::time::timeout(PATIENCE, readiness.ready()) => ready.unwrap(),
        }
        Ok(Running { address, registry, shutdown, ended })
    }

    /// Asks a worker.
    pub(crate) async fn call(
        &self,
        worker: &Running,
        method: Method,
        path: &str,
        body: &str,
    ) -> PeerResponse {
        let mut headers = HeaderMap::new();
        if !body.is_empty() {
            headers.insert("content-type", "application/json".parse().unwrap());
        }
        let address = worker.address.to_string();
        let request = PeerRequest {
            address: &address,
            method,
            path,
            headers,
            body: Bytes::copy_from_slice(body.as_bytes()),
            timeout: PATIENCE,
            idempotent: true,
        };
        self.client.call(request).await.unwrap()
    }

    pub(crate) async fn get(&self, worker: &Running, path: &str) -> Json {
        let answer = self.call(worker, Method::GET, path, "").await;
        serde_json::from_slice(&answer.body).unwrap()
    }

    /// Whether all stores have the same records.
    pub(crate) fn are_equal(&self, ids: &[usize]) -> bool {
        let records = |id: &usize| self.store(*id).content().records.clone();
        let first = records(&ids[0]);
        ids.iter().all(|id| records(id) == first)
    }
}

impl Running {
    /// Stops it in order.
    pub(crate) async fn stop(self) -> Result<(), RunError> {
        self.shutdown.request();
        self.ended().await
    }

    /// Waits until it has ended by itself.
    pub(crate) async fn ended(self) -> Result<(), RunError> {
        tokio::time::timeout(PATIENCE, self.ended).await.unwrap().unwrap()
    }

    /// The value of a metric, summed over those of its series that have `label`.
    pub(crate) fn metric(&self, name: &str, label: &str) -> f64 {
        let families = self.registry.gather();
        let family = families.iter().find(|family| family.name() == name);
        let metrics = family.map(|family| family.get_metric()).unwrap_or_default();
        let has = |metric: &&prometheus::proto::Metric| {
            label.is_empty() || metric.get_label().iter().any(|pair| pair.value() == label)
        };
        let value =
            |m: &prometheus::proto::Metric| m.get_counter().get_value() + m.get_gauge().get_value();
        metrics.iter().filter(has).map(value).sum()
    }
}

/// Waits for a condition.
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !holds() {
        assert!(tokio::time::Instant::now() < deadline, "in vain: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
