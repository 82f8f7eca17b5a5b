//! Whether this process is there, and how its store is.

use axum::Json;
use axum::extract::State;
use dynamo_core::id::{ClusterId, Incarnation, NodeId, StoreId};
use dynamo_core::limits::{PEER_SIGHT_WINDOW_S, TREE_LEAF_BITS};
use dynamo_core::ring::RingVersion;
use dynamo_core::time::WallMs;
use dynamo_core::wire::load::LoadDocument;
use dynamo_core::wire::peers::PeersDocument;
use dynamo_core::wire::tree::TreeState;
use serde::{Deserialize, Serialize};

use super::Api;
use crate::node::Node;

/// Who answers.
#[derive(Debug, Serialize, Deserialize)]
pub struct PingDocument {
    /// The node.
    pub node: NodeId,
    /// Its cluster, once known.
    pub cluster: Option<ClusterId>,
    /// The life of this process.
    pub incarnation: Incarnation,
    /// The ring in use.
    pub ring: Option<RingVersion>,
    /// `healthy`, `full`, `read_only`, `reopening` or `quarantined`.
    pub store: String,
}

/// The store of a node.
#[derive(Debug, Serialize, Deserialize)]
pub struct StoreDocument {
    /// The store.
    pub store_id: StoreId,
    /// `healthy`, `full`, `read_only`, `reopening` or `quarantined`.
    pub state: String,
    /// The state of the hint file.
    pub hints_state: String,
    /// The actor epoch.
    pub epoch: u64,
    /// Records, tombstones included; absent while they cannot be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub records: Option<u64>,
    /// Writes waiting for the disk.
    pub queue: usize,
    /// Keys whose record is unreadable.
    pub corrupt_keys: usize,
    /// Partitions held completely.
    pub partitions_held: usize,
    /// The Merkle tree and the scrub.
    pub tree: TreeDocument,
}

/// The Merkle tree of a store, and how far the scrub has come.
#[derive(Debug, Serialize, Deserialize)]
pub struct TreeDocument {
    /// `built`, or `building`.
    pub state: TreeState,
    /// Changes that are not folded into the tree's blocks yet.
    pub log_entries: usize,
    /// Leaves that the present pass has compared with their records.
    pub scrubbed_leaves: u32,
    /// Leaves of a full pass.
    pub leaves: u32,
    /// Leaves to be compared out of turn.
    pub suspects: usize,
    /// When the present pass began.
    pub pass_started_ms: WallMs,
    /// When the last full pass ended; absent for never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_full_ms: Option<WallMs>,
}

/// `GET /v1/ping`.
pub async fn ping(State(api): State<Api>) -> Json<PingDocument> {
    let node = &api.node;
    let file = node.epochs.file();
    Json(PingDocument {
        node: node.me,
        cluster: file.cluster_id,
        incarnation: file.incarnation,
        ring: node.view.load().as_deref().map(|view| view.version()),
        store: node.store.state().as_str().to_owned(),
    })
}

/// `GET /v1/store`. It answers in any state of the store: that is what is asked for.
pub async fn store(State(api): State<Api>) -> Json<StoreDocument> {
    let node: &Node = &api.node;
    let stats = node.store.stats();
    let tree = node.store.tree_stats();
    Json(StoreDocument {
        store_id: node.epochs.file().store_id,
        state: stats.state.as_str().to_owned(),
        hints_state: node.hints.state().as_str().to_owned(),
        epoch: node.epochs.actor().epoch,
        records: stats.records,
        queue: stats.queue,
        corrupt_keys: stats.corrupt_keys,
        partitions_held: node.possession.inventory().map_or(0, |all| all.advertised().len()),
        tree: TreeDocument {
            state: tree.state,
            log_entries: tree.log_entries,
            scrubbed_leaves: tree.scrubbed_leaves,
            leaves: 1 << TREE_LEAF_BITS,
            suspects: tree.suspects,
            pass_started_ms: tree.pass_started,
            last_full_ms: tree.last_full,
        },
    })
}

/// `GET /v1/load`.
pub async fn load(State(api): State<Api>) -> Json<LoadDocument> {
    Json(LoadDocument { node: api.node.me, windows: api.node.load.windows() })
}

/// `GET /v1/peers`.
pub async fn peers(State(api): State<Api>) -> Json<PeersDocument> {
    let node: &Node = &api.node;
    let view = node.view.load_full();
    let nodes = view.iter().flat_map(|view| view.nodes());
    let others = nodes.filter(|info| info.id != node.me && info.status.may_hold());
    let peers = node.health.sights(others.map(|info| info.id));
    let store = node.store.state().as_str().to_owned();
    Json(PeersDocument { node: node.me, window_s: PEER_SIGHT_WINDOW_S, store, peers })
}
