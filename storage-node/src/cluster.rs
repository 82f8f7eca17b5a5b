//! This node's part in its cluster: following the ring, holding partitions from the founding on,
//! and telling the local membership agent about the store.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dynamo_core::cluster_view::ClusterView;
use dynamo_core::id::NodeId;
use dynamo_core::transfer::Inventory;
use dynamo_core::wire::membership::{LOCAL_STORAGE_PATH, LocalStorage, NODE_PATH, NodeView};
use dynamo_core::wire::ring::RingSnapshot;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Method};
use service_kit::http::error::{ErrorCode, Problem};
use service_kit::peer::{PeerClient, PeerIdentity, PeerRequest, PeerResponse};
use service_kit::readiness::Readiness;
use service_kit::shutdown::Shutdown;
use tokio::sync::watch;

use crate::limits::{ADVERTISE_INTERVAL, AGENT_RETRY, AGENT_TIMEOUT};
use crate::node::Node;
use crate::node_file::NodeFileError;
use crate::store::StoreError;

/// The readiness condition: a ring is known, and this node may serve under it.
pub const RING_READY: &str = "ring";

/// Why a node stops by itself.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// The data belongs to another cluster than the agent does.
    #[error(transparent)]
    Foreign(#[from] NodeFileError),
    /// A newer process of this node is running; this one must not write any more.
    #[error("a newer process speaks for this node: {0}")]
    Fenced(String),
}

/// Reads a ring snapshot.
///
/// # Errors
/// What is wrong with it.
pub fn parse_view(json: &[u8]) -> Result<ClusterView, String> {
    let snapshot: RingSnapshot = serde_json::from_slice(json).map_err(|e| e.to_string())?;
    ClusterView::from_snapshot(snapshot).map_err(|e| e.to_string())
}

/// Asks the local agent who this host is, until it answers or the process stops (`None`).
pub async fn learn_node(client: &PeerClient, agent: &str, shutdown: &Shutdown) -> Option<NodeId> {
    let mut told = false;
    loop {
        let answer = shutdown.unless_requested(agent_get(client, agent, NODE_PATH)).await?;
        let node = answer.and_then(|answer| {
            serde_json::from_slice::<NodeView>(&answer.body).map_err(|error| {
                Problem::new(ErrorCode::BadJson, format!("the agent's answer: {error}"))
            })
        });
        match node {
            Ok(view) => return Some(view.node),
            Err(error) if !told => {
                told = true;
                tracing::warn!(%error, "waiting for the membership agent of this host");
            }
            Err(error) => tracing::debug!(%error, "still waiting for the membership agent"),
        }
        shutdown.unless_requested(tokio::time::sleep(AGENT_RETRY)).await?;
    }
}

async fn agent_get(client: &PeerClient, agent: &str, path: &str) -> Result<PeerResponse, Problem> {
    call(client, agent, Method::GET, path, Bytes::new()).await
}

async fn call(
    client: &PeerClient,
    agent: &str,
    method: Method,
    path: &str,
    body: Bytes,
) -> Result<PeerResponse, Problem> {
    let mut headers = HeaderMap::new();
    if !body.is_empty() {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    let timeout = AGENT_TIMEOUT;
    let request =
        PeerRequest { address: agent, method, path, headers, body, timeout, idempotent: true };
    let answer = client
        .call(request)
        .await
        .map_err(|error| Problem::new(ErrorCode::NotReady, format!("the agent: {error}")))?;
    answer.into_success()
}

/// Takes over every new ring, until the stop.
///
/// # Errors
/// [`ClusterError::Foreign`] where the ring is that of another cluster than the data.
pub async fn follow(
    node: Arc<Node>,
    identity: PeerIdentity,
    mut rings: watch::Receiver<Option<Arc<ClusterView>>>,
    readiness: Readiness,
    changed: Arc<tokio::sync::Notify>,
    shutdown: Shutdown,
) -> Result<(), ClusterError> {
    loop {
        let view = rings.borrow_and_update().clone();
        if let Some(view) = view {
            node.epochs.join_cluster(view.cluster())?;
            identity.set_cluster(view.cluster());
            let mut told = false;
            while let Err(error) = adopt(&node, &view).await {
                // Until the store takes writes again the node works with the ring before.
                if !std::mem::replace(&mut told, true) {
                    tracing::error!(%error, "a new ring could not be taken over; trying again");
                }
                let pause = tokio::time::sleep(AGENT_RETRY);
                if shutdown.unless_requested(pause).await.is_none() {
                    return Ok(());
                }
            }
            readiness.set(RING_READY);
            changed.notify_one();
        }
        match shutdown.unless_requested(rings.changed()).await {
            None | Some(Err(_)) => return Ok(()),
            Some(Ok(())) => {}
        }
    }
}

/// Works under `view` from now on. What the node has and how its tree sorts the buckets fit the
/// ring before it is used.
async fn adopt(node: &Node, view: &Arc<ClusterView>) -> Result<(), StoreError> {
    node.adopt_inventory(view).await?;
    node.store.sort_buckets(view).await?;
    let number = i64::try_from(view.version().number).unwrap_or(i64::MAX);
    node.metrics.ring_version.set(number);
    node.view.store(Some(Arc::clone(view)));
    let known = |peer: NodeId| view.node(peer).is_some();
    node.health.retain(known);
    node.peers.retain(known);
    let (mut up, mut down) = (0, 0);
    node.health.with(|health| {
        for peer in view.members().filter(|peer| peer.id != node.me) {
            *(if health.reachable(peer.id) { &mut up } else { &mut down }) += 1;
        }
    });
    node.metrics.peers.up.set(up);
    node.metrics.peers.down.set(down);
    node.handoff.wake();
    Ok(())
}

/// Tells the local agent about the store, each second and on every change, until the stop.
///
/// # Errors
/// [`ClusterError::Fenced`] where the agent knows a newer process of this node.
pub async fn advertise(
    node: Arc<Node>,
    client: PeerClient,
    agent: String,
    changed: Arc<tokio::sync::Notify>,
    shutdown: Shutdown,
) -> Result<(), ClusterError> {
    let mut healthy = true;
    loop {
        let file = node.epochs.file();
        let inventory = node.possession.inventory();
        let local = LocalStorage {
            node: node.me,
            store_id: file.store_id,
            epoch: node.epochs.actor().epoch,
            incarnation: file.incarnation,
            holds: inventory.as_deref().map(Inventory::advertised),
            leftover: inventory.as_deref().is_some_and(Inventory::has_leftover),
            bytes: None,
        };
        // Ids, numbers and text: encoding cannot fail, and an empty body would be refused.
        let body = Bytes::from(serde_json::to_vec(&local).unwrap_or_default());
        match call(&client, &agent, Method::POST, LOCAL_STORAGE_PATH, body).await {
            Ok(_) => healthy = true,
            Err(problem) if problem.code() == ErrorCode::StaleIncarnation => {
                return Err(ClusterError::Fenced(problem.detail().to_owned()));
            }
            Err(problem) => {
                // Once per outage, not per second.
                if std::mem::replace(&mut healthy, false) {
                    tracing::warn!(%problem, "the membership agent was not told of the store");
                }
            }
        }
        tokio::select! {
            () = shutdown.requested() => return Ok(()),
            () = changed.notified() => {}
            () = tokio::time::sleep(pause(healthy)) => {}
        }
    }
}

fn pause(healthy: bool) -> Duration {
    if healthy { ADVERTISE_INTERVAL } else { AGENT_RETRY }
}
