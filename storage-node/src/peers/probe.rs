//! Out-of-band probes: a peer that is not trusted is asked `GET /v1/ping` now and then, so that no
//! user's request has to find out whether it is back.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use dynamo_core::cluster_view::ClusterView;
use dynamo_core::id::NodeId;
use http::{HeaderMap, Method};
use service_kit::peer::{PeerClient, PeerRequest};
use service_kit::shutdown::Shutdown;
use service_kit::time::Clock;
use tokio::task::JoinSet;

use super::health::PeerHealth;
use crate::limits::{PROBE_TICK, PROBE_TIMEOUT};

/// Answers whether the process is there.
pub const PING_PATH: &str = "/v1/ping";

/// Probes peers until the stop.
#[derive(Clone)]
pub struct Prober {
    /// How peers are called.
    pub client: PeerClient,
    /// The clock.
    pub clock: Clock,
    /// Where peers are.
    pub view: Arc<ArcSwapOption<ClusterView>>,
    /// Who is due, and who hears the result.
    pub health: Arc<PeerHealth>,
}

impl std::fmt::Debug for Prober {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Prober")
    }
}

impl Prober {
    /// Probes whoever is due, until the stop.
    pub async fn run(self, shutdown: Shutdown) {
        let mut probes = JoinSet::new();
        while shutdown.unless_requested(tokio::time::sleep(PROBE_TICK)).await.is_some() {
            // At most one probe per peer is due at a time, so the set is as small as the ring.
            for node in self.health.due_probes(self.clock.mono()) {
                let prober = self.clone();
                probes.spawn(async move { prober.probe(node).await });
            }
            while probes.try_join_next().is_some() {}
        }
    }

    async fn probe(&self, node: NodeId) {
        let ok = self.ping(node).await;
        self.health.on_probe(node, self.clock.mono(), ok);
    }

    async fn ping(&self, node: NodeId) -> bool {
        let view = self.view.load_full();
        let address = view
            .as_deref()
            .and_then(|view| view.node(node))
            .and_then(|info| info.addresses.storage.clone());
        let Some(address) = address else { return false };
        let request = PeerRequest {
            address: &address,
            method: Method::GET,
            path: PING_PATH,
            headers: HeaderMap::new(),
            body: Bytes::new(),
            timeout: PROBE_TIMEOUT,
            idempotent: true,
        };
        self.client.call(request).await.is_ok_and(|answer| answer.status.is_success())
    }
}
