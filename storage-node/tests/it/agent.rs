//! A membership agent per node, all of one cluster: identity, ring with long poll, store reports.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use dynamo_core::cluster_view::{Addresses, ClusterView, MemberStatus, NodeInfo, RingSnapshot};
use dynamo_core::id::{ClusterId, Incarnation, NodeId, StoreId};
use dynamo_core::params::BucketProps;
use dynamo_core::ring::{Partitions, RingVersion};
use dynamo_core::wire::membership::{LOCAL_STORAGE_PATH, LocalStorage, NODE_PATH, NodeView};
use dynamo_core::wire::ring::{RING_FORMAT, RING_PATH};
use http::header::{ETAG, IF_NONE_MATCH};
use http::{HeaderMap, StatusCode};
use service_kit::http::server::ServerLimits;
use service_kit::launch::ServiceContext;
use service_kit::shutdown::Shutdown;
use storage_node::config::StorageConfig;
use tokio::sync::watch;

pub(crate) const CLUSTER: ClusterId = ClusterId(0xc1);
pub(crate) const PARTITIONS: u32 = 16;

/// What all agents of a cluster know. The ring is dealt out in turn to the first `members` nodes.
#[derive(Debug)]
struct Known {
    members: usize,
    number: u64,
    nodes: BTreeMap<NodeId, NodeInfo>,
    buckets: BTreeMap<String, BucketProps>,
    cluster: ClusterId,
}

/// The agents of one cluster.
#[derive(Debug, Clone)]
pub(crate) struct Agents {
    known: Arc<Mutex<Known>>,
    changes: Arc<watch::Sender<u64>>,
}

impl Agents {
    /// Agents of `nodes` nodes, 1 and up, all of which found the cluster.
    pub(crate) fn new(nodes: usize) -> Self {
        let info = |id: u128| NodeInfo {
            id: NodeId(id),
            name: format!("n{id}"),
            zone: None,
            weight: 1,
            addresses: Addresses::default(),
            status: MemberStatus::Member,
            incarnation: Incarnation(0),
            holds: None,
            store_id: None,
            founding_store: None,
            epoch: 0,
        };
        let nodes_known = (1..=nodes as u128).map(|id| (NodeId(id), info(id))).collect();
        let known = Known {
            members: nodes,
            number: 1,
            nodes: nodes_known,
            buckets: BTreeMap::new(),
            cluster: CLUSTER,
        };
        Self { known: Arc::new(Mutex::new(known)), changes: Arc::new(watch::channel(0).0) }
    }

    /// Starts the agent of `node`, which speaks TLS where `config` says so, and returns its address.
    pub(crate) fn start(&self, node: NodeId, config: StorageConfig) -> SocketAddr {
        let routes = Router::new()
            .route(NODE_PATH, get(identity))
            .route(RING_PATH, get(ring))
            .route(LOCAL_STORAGE_PATH, post(report))
            .with_state((self.clone(), node));
        let context = ServiceContext::new("agent", config, Shutdown::new()).unwrap();
        let listeners = context.bind().unwrap();
        let address = listeners.api_addr();
        tokio::spawn(async move {
            context.serve_pair(listeners, routes, ServerLimits::peer()).await.unwrap();
        });
        address
    }

    /// Changes what is known and tells everyone.
    fn change(&self, edit: impl FnOnce(&mut Known)) {
        edit(&mut self.known.lock().unwrap());
        self.changes.send_modify(|number| *number += 1);
    }

    /// `node` listens at `address`.
    pub(crate) fn set_address(&self, node: NodeId, address: SocketAddr) {
        self.change(|known| {
            let info = known.nodes.get_mut(&node).unwrap();
            info.addresses.storage = Some(address.to_string());
        });
    }

    /// `bucket` has properties of its own.
    pub(crate) fn set_bucket(&self, bucket: &str, props: BucketProps) {
        self.change(|known| {
            known.buckets.insert(bucket.to_owned(), props);
        });
    }

    /// `node` is removed from the ring for good.
    pub(crate) fn remove(&self, node: NodeId) {
        self.change(|known| {
            known.nodes.get_mut(&node).unwrap().status = MemberStatus::Removed;
            known.number += 1;
        });
    }

    /// From now on the agents belong to another cluster.
    pub(crate) fn set_cluster(&self, cluster: ClusterId) {
        self.change(|known| known.cluster = cluster);
    }

    /// The ring, once every founder has reported its store.
    pub(crate) fn snapshot(&self) -> Option<RingSnapshot> {
        let known = self.known.lock().unwrap();
        let founders = known.nodes.values().take(known.members);
        if founders.clone().any(|node| node.founding_store.is_none()) {
            return None;
        }
        let nodes: Vec<NodeInfo> = known.nodes.values().cloned().collect();
        let members: Vec<u32> = (0..)
            .zip(&nodes)
            .filter(|(_, node)| node.status == MemberStatus::Member)
            .map(|(index, _)| index)
            .collect();
        let owners = members.iter().cycle().take(PARTITIONS as usize).map(|i| Some(*i)).collect();
        Some(RingSnapshot {
            format: RING_FORMAT,
            cluster: known.cluster,
            version: RingVersion { number: known.number, hash: 7 },
            partitions: Partitions::new(PARTITIONS).unwrap(),
            spacing: 3,
            nodes,
            owners,
            defaults: BucketProps::default(),
            buckets: known.buckets.clone(),
        })
    }

    /// The view that nodes work with.
    pub(crate) fn view(&self) -> ClusterView {
        ClusterView::from_snapshot(self.snapshot().expect("founded")).unwrap()
    }

    /// The store that `node` reported last.
    pub(crate) fn store_of(&self, node: NodeId) -> Option<StoreId> {
        self.known.lock().unwrap().nodes.get(&node).unwrap().store_id
    }

    /// Whether every member advertises partitions.
    pub(crate) fn all_hold(&self) -> bool {
        let known = self.known.lock().unwrap();
        known.nodes.values().take(known.members).all(|node| node.holds.is_some())
    }
}

type Shared = State<(Agents, NodeId)>;

async fn identity(State((agents, node)): Shared) -> Json<NodeView> {
    let version = RingVersion { number: agents.known.lock().unwrap().number, hash: 7 };
    Json(NodeView {
        node,
        name: format!("n{}", node.0),
        incarnation: Incarnation(1),
        cluster: None,
        status: MemberStatus::Member,
        fenced: false,
        version,
    })
}

async fn report(State((agents, node)): Shared, Json(local): Json<LocalStorage>) -> StatusCode {
    assert_eq!(local.node, node);
    let before = agents.known.lock().unwrap().nodes.get(&node).unwrap().clone();
    if before.incarnation > local.incarnation {
        return StatusCode::CONFLICT;
    }
    let mut after = before.clone();
    after.incarnation = local.incarnation;
    after.holds = local.holds;
    after.store_id = Some(local.store_id);
    after.founding_store.get_or_insert(local.store_id);
    after.epoch = local.epoch;
    if after != before {
        agents.change(|known| drop(known.nodes.insert(node, after)));
    }
    StatusCode::OK
}

async fn ring(
    State((agents, _)): Shared,
    Query(query): Query<BTreeMap<String, String>>,
    headers: HeaderMap,
) -> Response {
    let wait_ms: u64 = query.get("wait_ms").map_or(0, |text| text.parse().unwrap());
    let known_tag = headers.get(IF_NONE_MATCH).map(|tag| tag.to_str().unwrap().to_owned());
    let mut changes = agents.changes.subscribe();
    let until = tokio::time::Instant::now() + Duration::from_millis(wait_ms);
    loop {
        changes.borrow_and_update();
        let snapshot = agents.snapshot();
        if let Some(snapshot) = &snapshot {
            let body = serde_json::to_vec(snapshot).unwrap();
            let tag = snapshot.etag(&body);
            if known_tag.as_ref() != Some(&tag) {
                return ([(ETAG, tag)], body).into_response();
            }
        }
        if tokio::time::timeout_at(until, changes.changed()).await.is_err() {
            let nothing = if snapshot.is_some() { 304 } else { 503 };
            return StatusCode::from_u16(nothing).unwrap().into_response();
        }
    }
}
