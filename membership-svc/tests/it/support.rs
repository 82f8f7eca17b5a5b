//! A few agents, and a client that speaks to them.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use dynamo_core::cluster_view::{ClusterView, RingSnapshot};
use dynamo_core::id::{Incarnation, NodeId, StoreId};
use dynamo_core::wire::membership::{
    CLUSTER_PATH, COMMIT_PATH, ClusterDocument, CommitDocument, LOCAL_STORAGE_PATH, LocalStorage,
    NODE_PATH, NodeView, PLAN_PATH, PlanDocument, STAGE_PATH,
};
use dynamo_core::wire::ring::RING_PATH;
use http::header::{CONTENT_TYPE, ETAG, IF_MATCH, IF_NONE_MATCH};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use membership_svc::config::JoinConfig;
use membership_svc::{Config, run};
use prometheus::Registry;
use service_kit::http::error::{ErrorCode, Problem};
use service_kit::launch::ServiceContext;
use service_kit::peer::{
    PeerClient, PeerConfig, PeerIdentity, PeerMetrics, PeerRequest, PeerResponse, ProcessRole,
};
use service_kit::shutdown::Shutdown;
use service_kit::time::Clock;
use tokio::task::JoinHandle;

/// Time after which a condition that must come true has not.
const PATIENCE: Duration = Duration::from_secs(20);

/// A running agent.
pub(crate) struct TestAgent {
    pub(crate) address: String,
    pub(crate) registry: Registry,
    shutdown: Shutdown,
    task: JoinHandle<()>,
}

/// Starts an agent on `directory`.
pub(crate) async fn start(directory: &Path, name: &str, seeds: &[String]) -> TestAgent {
    start_joining(directory, name, seeds, JoinConfig::default()).await
}

/// Starts an agent on `directory` that joins as `join` says.
pub(crate) async fn start_joining(
    directory: &Path,
    name: &str,
    seeds: &[String],
    join: JoinConfig,
) -> TestAgent {
    let mut config = Config {
        listen: "127.0.0.1:0".into(),
        metrics_listen: "127.0.0.1:0".into(),
        data_dir: directory.to_owned(),
        name: name.to_owned(),
        zone: format!("zone-{name}"),
        seeds: seeds.to_vec(),
        gossip_interval_ms: 20,
        join,
        ..Config::default()
    };
    config.founding.partitions = 64;
    let shutdown = Shutdown::new();
    let context = ServiceContext::new("membership-svc", config, shutdown.clone()).unwrap();
    let registry = context.registry.clone();
    let listeners = context.bind().unwrap();
    let address: SocketAddr = listeners.api_addr();
    let task = tokio::spawn(async move { run(context, listeners).await.unwrap() });
    TestAgent { address: address.to_string(), registry, shutdown, task }
}

impl TestAgent {
    /// Stops in an orderly way.
    pub(crate) async fn stop(self) {
        self.shutdown.request();
        self.task.await.unwrap();
    }

    /// The value of a metric without labels.
    pub(crate) fn metric(&self, name: &str) -> f64 {
        let families = self.registry.gather();
        let family = families.iter().find(|family| family.name() == name).unwrap();
        let metric = &family.get_metric()[0];
        metric.get_gauge().get_value() + metric.get_counter().get_value()
    }
}

/// Speaks to agents, as curl does: without any identity of a peer that could be refused.
#[derive(Clone)]
pub(crate) struct Client {
    client: PeerClient,
}

impl Client {
    pub(crate) fn new() -> Self {
        let identity =
            PeerIdentity::new(NodeId(u128::MAX), Incarnation(1), ProcessRole::Router, None);
        let metrics = PeerMetrics::register(&Registry::new()).unwrap();
        let client = PeerClient::new(PeerConfig::default(), identity, Clock::system(), metrics);
        Self { client }
    }

    pub(crate) async fn call(
        &self,
        agent: &TestAgent,
        method: Method,
        path: &str,
        headers: HeaderMap,
        body: &str,
    ) -> PeerResponse {
        self.call_address(&agent.address, method, path, headers, body).await
    }

    async fn call_address(
        &self,
        address: &str,
        method: Method,
        path: &str,
        headers: HeaderMap,
        body: &str,
    ) -> PeerResponse {
        let request = PeerRequest {
            address,
            method,
            path,
            headers,
            body: Bytes::copy_from_slice(body.as_bytes()),
            timeout: Duration::from_secs(30),
            idempotent: false,
        };
        self.client.call(request).await.unwrap()
    }

    pub(crate) async fn get(&self, agent: &TestAgent, path: &str) -> PeerResponse {
        self.call(agent, Method::GET, path, HeaderMap::new(), "").await
    }

    pub(crate) async fn post(&self, agent: &TestAgent, path: &str, body: &str) -> PeerResponse {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        self.call(agent, Method::POST, path, headers, body).await
    }

    pub(crate) async fn node(&self, agent: &TestAgent) -> NodeView {
        let response = self.get(agent, NODE_PATH).await;
        serde_json::from_slice(&response.body).unwrap()
    }

    pub(crate) async fn cluster(&self, agent: &TestAgent) -> ClusterDocument {
        let response = self.get(agent, CLUSTER_PATH).await;
        serde_json::from_slice(&response.body).unwrap()
    }

    /// Reports a store for the agent's node, as its storage node does.
    pub(crate) async fn report(&self, agent: &TestAgent) {
        let node = self.node(agent).await.node;
        let report = LocalStorage {
            node,
            store_id: StoreId(node.0 ^ 1),
            epoch: 1,
            incarnation: Incarnation(1),
            holds: None,
            leftover: false,
            bytes: None,
        };
        let body = serde_json::to_string(&report).unwrap();
        let response = self.post(agent, LOCAL_STORAGE_PATH, &body).await;
        assert_eq!(response.status, StatusCode::OK);
    }

    pub(crate) async fn stage(&self, agent: &TestAgent, body: &str) {
        let response = self.post(agent, STAGE_PATH, body).await;
        assert_eq!(response.status, StatusCode::OK, "{body}: {:?}", response.body);
    }

    pub(crate) async fn plan(&self, agent: &TestAgent) -> PlanDocument {
        let response = self.get(agent, PLAN_PATH).await.into_success().unwrap();
        serde_json::from_slice(&response.body).unwrap()
    }

    pub(crate) async fn commit(
        &self,
        agent: &TestAgent,
        plan: &str,
    ) -> Result<CommitDocument, Problem> {
        let mut headers = HeaderMap::new();
        headers.insert(IF_MATCH, HeaderValue::from_str(&format!("\"{plan}\"")).unwrap());
        let response = self.call(agent, Method::POST, COMMIT_PATH, headers, "").await;
        let response = response.into_success()?;
        Ok(serde_json::from_slice(&response.body).unwrap())
    }

    /// The ring with its tag, `None` before the founding.
    pub(crate) async fn ring(&self, agent: &TestAgent) -> Option<(String, ClusterView)> {
        let response = self.get(agent, RING_PATH).await;
        if response.status == StatusCode::SERVICE_UNAVAILABLE {
            assert_eq!(response.into_success().unwrap_err().code(), ErrorCode::NotReady);
            return None;
        }
        Some(ring_of(&response))
    }

    pub(crate) async fn poll(&self, agent: &TestAgent, etag: &str, wait_ms: u64) -> PeerResponse {
        self.poll_address(&agent.address, etag, wait_ms).await
    }

    pub(crate) async fn poll_address(
        &self,
        address: &str,
        etag: &str,
        wait_ms: u64,
    ) -> PeerResponse {
        let mut headers = HeaderMap::new();
        headers.insert(IF_NONE_MATCH, HeaderValue::from_str(etag).unwrap());
        let path = format!("{RING_PATH}?wait_ms={wait_ms}");
        self.call_address(address, Method::GET, &path, headers, "").await
    }

    /// The name of the present plan, `None` where nothing is staged.
    pub(crate) async fn plan_tag(&self, agent: &TestAgent) -> Option<String> {
        let response = self.get(agent, PLAN_PATH).await.into_success().ok()?;
        let plan: PlanDocument = serde_json::from_slice(&response.body).unwrap();
        Some(plan.plan)
    }

    /// Waits until every agent lists `count` nodes.
    pub(crate) async fn all_know(&self, agents: &[&TestAgent], count: usize) {
        for agent in agents {
            until(async || self.cluster(agent).await.members.len() >= count).await;
        }
    }

    /// Waits until every agent has a ring with `members` members.
    pub(crate) async fn all_have(&self, agents: &[&TestAgent], members: usize) {
        for agent in agents {
            until(async || {
                let ring = self.ring(agent).await;
                ring.is_some_and(|(_, view)| view.members().count() == members)
            })
            .await;
        }
    }
}

pub(crate) fn ring_of(response: &PeerResponse) -> (String, ClusterView) {
    assert_eq!(response.status, StatusCode::OK);
    let etag = response.headers[ETAG].to_str().unwrap().to_owned();
    let snapshot: RingSnapshot = serde_json::from_slice(&response.body).unwrap();
    (etag, ClusterView::from_snapshot(snapshot).unwrap())
}

/// Waits for a condition.
pub(crate) async fn until(mut condition: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.expect("the condition comes true in time");
}

/// Three agents with one seed, founded as one cluster.
pub(crate) async fn three(directory: &Path, client: &Client) -> Vec<TestAgent> {
    let mut agents = vec![start(&directory.join("1"), "a1", &[]).await];
    let seed = agents[0].address.clone();
    for name in ["a2", "a3"] {
        let path = directory.join(name);
        agents.push(start(&path, name, std::slice::from_ref(&seed)).await);
    }
    let all: Vec<&TestAgent> = agents.iter().collect();
    client.all_know(&all, 3).await;
    assert!(client.ring(&agents[0]).await.is_none(), "nothing is founded by itself");
    for (agent, name) in agents.iter().zip(["a1", "a2", "a3"]) {
        client.report(agent).await;
        client.stage(&agents[1], &format!(r#"{{"join":{{"node":"{name}"}}}}"#)).await;
    }
    until(async || client.plan(&agents[1]).await.refusals.is_empty()).await;
    let plan = client.plan(&agents[1]).await;
    assert!(plan.founding);
    client.commit(&agents[1], &plan.plan).await.unwrap();
    client.all_have(&all, 3).await;
    agents
}
