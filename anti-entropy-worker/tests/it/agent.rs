//! The membership agents of a cluster as one server: identity per node, ring with long poll.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use dynamo_core::cluster_view::{Addresses, ClusterView, MemberStatus, NodeInfo, RingSnapshot};
use dynamo_core::id::{ClusterId, Incarnation, NodeId, PartitionId};
use dynamo_core::params::BucketProps;
use dynamo_core::ring::{PartitionSet, Partitions, RingVersion};
use dynamo_core::wire::membership::NodeView;
use dynamo_core::wire::ring::RING_FORMAT;
use http::header::{ETAG, IF_NONE_MATCH};
use http::{HeaderMap, StatusCode};
use tokio::sync::watch;

pub(crate) const PARTITIONS: u32 = 8;
pub(crate) const CLUSTER: ClusterId = ClusterId(0xc1);

/// What all nodes know. Partitions are dealt out in turn to the first `members` nodes.
#[derive(Debug)]
struct Known {
    cluster: ClusterId,
    members: usize,
    number: u64,
    nodes: BTreeMap<NodeId, NodeInfo>,
}

/// The agents of one cluster.
#[derive(Debug, Clone)]
pub(crate) struct Agents {
    known: Arc<Mutex<Known>>,
    changes: Arc<watch::Sender<u64>>,
}

pub(crate) fn partitions() -> Partitions {
    Partitions::new(PARTITIONS).unwrap()
}

impl Agents {
    /// Agents of `nodes` nodes, 1 and up, of which the first `members` own the ring and hold all.
    pub(crate) fn new(nodes: u128, members: usize) -> Self {
        let info = |id: u128| NodeInfo {
            id: NodeId(id),
            name: format!("n{id}"),
            zone: None,
            weight: 1,
            addresses: Addresses::default(),
            status: MemberStatus::Member,
            incarnation: Incarnation(1),
            holds: (id <= members as u128).then(|| PartitionSet::full(partitions())),
            store_id: None,
            founding_store: None,
            epoch: 1,
        };
        let nodes = (1..=nodes).map(|id| (NodeId(id), info(id))).collect();
        let known = Known { cluster: CLUSTER, members, number: 1, nodes };
        Self { known: Arc::new(Mutex::new(known)), changes: Arc::new(watch::channel(0).0) }
    }

    /// Starts the server of the agent of `node`.
    pub(crate) async fn start(&self, node: NodeId) -> SocketAddr {
        let routes =
            Router::new().route("/v1/{what}", get(answer)).with_state((self.clone(), node));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
        address
    }

    fn change(&self, edit: impl FnOnce(&mut Known)) {
        edit(&mut self.known.lock().unwrap());
        self.changes.send_modify(|number| *number += 1);
    }

    /// `node`'s storage node listens at `address`.
    pub(crate) fn set_address(&self, node: NodeId, address: SocketAddr) {
        self.change(|known| {
            let info = known.nodes.get_mut(&node).unwrap();
            info.addresses.storage = Some(address.to_string());
        });
    }

    /// The first `members` nodes own the ring from now on.
    pub(crate) fn set_members(&self, members: usize) {
        self.change(|known| {
            known.members = members;
            known.number += 1;
        });
    }

    /// From now on the agents belong to another cluster.
    pub(crate) fn set_cluster(&self, cluster: ClusterId) {
        self.change(|known| known.cluster = cluster);
    }

    /// `node` advertises, or no longer advertises, a partition; all of them where `None`.
    pub(crate) fn advertise(&self, node: NodeId, partition: Option<PartitionId>, holds: bool) {
        self.change(|known| {
            let info = known.nodes.get_mut(&node).unwrap();
            let mut set = info.holds.clone().unwrap_or_else(|| PartitionSet::empty(partitions()));
            let all = partitions().iter().filter(|p| partition.is_none_or(|one| one == *p));
            for one in all {
                if holds {
                    set.insert(one)
                } else {
                    set.remove(one)
                };
            }
            info.holds = Some(set);
        });
    }

    pub(crate) fn snapshot(&self) -> RingSnapshot {
        let known = self.known.lock().unwrap();
        let owner = |index: u32| Some(index % u32::try_from(known.members).unwrap());
        RingSnapshot {
            format: RING_FORMAT,
            cluster: known.cluster,
            version: RingVersion { number: known.number, hash: 7 },
            partitions: partitions(),
            spacing: 3,
            nodes: known.nodes.values().cloned().collect(),
            owners: (0..PARTITIONS).map(owner).collect(),
            defaults: BucketProps::default(),
            buckets: BTreeMap::new(),
        }
    }

    pub(crate) fn view(&self) -> ClusterView {
        ClusterView::from_snapshot(self.snapshot()).unwrap()
    }
}

async fn answer(
    State((agents, node)): State<(Agents, NodeId)>,
    Path(what): Path<String>,
    Query(query): Query<BTreeMap<String, String>>,
    headers: HeaderMap,
) -> Response {
    match what.as_str() {
        "node" => identity(&agents, node).into_response(),
        "ring" => ring(&agents, &query, &headers).await,
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}

fn identity(agents: &Agents, node: NodeId) -> Json<NodeView> {
    Json(NodeView {
        node,
        name: format!("n{}", node.0),
        incarnation: Incarnation(1),
        cluster: None,
        status: MemberStatus::Member,
        fenced: false,
        version: agents.snapshot().version,
    })
}

async fn ring(agents: &Agents, query: &BTreeMap<String, String>, headers: &HeaderMap) -> Response {
    let wait_ms: u64 = query.get("wait_ms").map_or(0, |text| text.parse().unwrap());
    let known_tag = headers.get(IF_NONE_MATCH).map(|tag| tag.to_str().unwrap().to_owned());
    let mut changes = agents.changes.subscribe();
    let until = tokio::time::Instant::now() + Duration::from_millis(wait_ms);
    loop {
        changes.borrow_and_update();
        let snapshot = agents.snapshot();
        let body = serde_json::to_vec(&snapshot).unwrap();
        let tag = snapshot.etag(&body);
        if known_tag.as_ref() != Some(&tag) {
            return ([(ETAG, tag)], body).into_response();
        }
        if tokio::time::timeout_at(until, changes.changed()).await.is_err() {
            return StatusCode::NOT_MODIFIED.into_response();
        }
    }
}
