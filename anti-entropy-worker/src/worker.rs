//! What the handlers and tasks of one worker share.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use dynamo_core::cluster_view::ClusterView;
use dynamo_core::id::NodeId;
use dynamo_core::ring::RingVersion;
use service_kit::peer::PeerIdentity;
use service_kit::time::Clock;

use crate::exchange::repairs::Repairs;
use crate::exchange::rounds::Rounds;
use crate::movement::Movement;
use crate::pause::PauseSwitch;

/// One worker.
#[derive(Debug)]
pub struct Worker {
    /// The node that it works for.
    pub me: NodeId,
    /// Who it is to its peers.
    pub identity: PeerIdentity,
    /// The clock.
    pub clock: Clock,
    /// The ring, once known.
    pub view: Arc<ArcSwapOption<ClusterView>>,
    /// The switch that halts it.
    pub pause: PauseSwitch,
    /// The comparisons in their turns.
    pub rounds: Arc<Rounds>,
    /// The comparisons that were asked for.
    pub repairs: Arc<Repairs>,
    /// Partitions on the move.
    pub movement: Arc<Movement>,
}

impl Worker {
    /// The version of the ring in use.
    #[must_use]
    pub fn ring(&self) -> Option<RingVersion> {
        self.view.load().as_deref().map(|view| view.version())
    }
}
