//! The membership agent of this host: who this node is, asked once on an empty directory, and the
//! ring, followed all the time.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use dynamo_core::cluster_view::ClusterView;
use dynamo_core::id::NodeId;
use dynamo_core::wire::membership::{NODE_PATH, NodeView};
use dynamo_core::wire::ring::RingSnapshot;
use http::{HeaderMap, Method};
use service_kit::peer::{PeerClient, PeerIdentity, PeerRequest};
use service_kit::readiness::Readiness;
use service_kit::shutdown::Shutdown;
use tokio::sync::{Notify, watch};

use crate::limits::{AGENT_RETRY, AGENT_TIMEOUT};
use crate::peers::reach::Reach;
use crate::progress::{ProgressError, ProgressFile};

/// The readiness condition: a ring is known.
pub const RING_READY: &str = "ring";

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
        match shutdown.unless_requested(ask_node(client, agent)).await? {
            Ok(node) => return Some(node),
            Err(error) if !told => {
                told = true;
                tracing::warn!(error, "waiting for the membership agent of this host");
            }
            Err(error) => tracing::debug!(error, "still waiting for the membership agent"),
        }
        shutdown.unless_requested(tokio::time::sleep(AGENT_RETRY)).await?;
    }
}

async fn ask_node(client: &PeerClient, agent: &str) -> Result<NodeId, String> {
    let request = PeerRequest {
        address: agent,
        method: Method::GET,
        path: NODE_PATH,
        headers: HeaderMap::new(),
        body: Bytes::new(),
        timeout: AGENT_TIMEOUT,
        idempotent: true,
    };
    let answer = client.call(request).await.map_err(|error| error.to_string())?;
    let answer = answer.into_success().map_err(|problem| problem.to_string())?;
    let view: NodeView = serde_json::from_slice(&answer.body).map_err(|error| error.to_string())?;
    Ok(view.node)
}

/// What follows the ring.
#[derive(Debug)]
pub struct Follower {
    /// Where the ring is put.
    pub view: Arc<ArcSwapOption<ClusterView>>,
    /// Whose cluster it states.
    pub identity: PeerIdentity,
    /// Who forgets nodes that are gone.
    pub reach: Arc<Reach>,
    /// Whose cluster the progress is of.
    pub progress: Arc<ProgressFile>,
    /// Who waits for a first ring.
    pub readiness: Readiness,
    /// Who hears of every change.
    pub changed: Arc<Notify>,
}

impl Follower {
    /// Takes over every new ring, until the stop.
    ///
    /// # Errors
    /// Where the ring is that of another cluster than the progress.
    pub async fn run(
        self,
        mut rings: watch::Receiver<Option<Arc<ClusterView>>>,
        shutdown: Shutdown,
    ) -> Result<(), ProgressError> {
        let mut joined = None;
        loop {
            let view = rings.borrow_and_update().clone();
            if let Some(view) = view {
                if joined != Some(view.cluster()) {
                    self.progress.join_cluster(view.cluster())?;
                    self.identity.set_cluster(view.cluster());
                    joined = Some(view.cluster());
                }
                self.reach.retain(|node| view.node(node).is_some());
                self.view.store(Some(view));
                self.readiness.set(RING_READY);
                self.changed.notify_waiters();
            }
            match shutdown.unless_requested(rings.changed()).await {
                None | Some(Err(_)) => return Ok(()),
                Some(Ok(())) => {}
            }
        }
    }
}
