//! What this node sends to its peers, and how it sees them.

use dynamo_core::limits::{PEER_SIGHT_MESSAGES_MIN, PEER_SIGHT_WINDOW_S};
use prometheus::{GaugeVec, Histogram, IntCounter, IntGauge, Opts};
use service_kit::metrics::{COUNT_BUCKETS, MetricsError};

use super::Make;

/// The other nodes, as this one sees them.
#[derive(Debug, Clone)]
pub struct PeerMetricsSet {
    /// Peers that are trusted.
    pub up: IntGauge,
    /// Peers that are not.
    pub down: IntGauge,
    /// Times that a peer was found unreachable.
    pub went_down: IntCounter,
    /// Times that a peer came back.
    pub came_up: IntCounter,
    /// Operations in one message to a peer.
    pub batch_ops: Histogram,
    /// Operations refused because a peer's queue was full.
    pub queue_full: IntCounter,
    /// What peers took to answer lately.
    pub p99: GaugeVec,
}

impl Make<'_> {
    pub(super) fn peers(&self) -> Result<PeerMetricsSet, MetricsError> {
        let states =
            self.gauges("atoll_peers", "Other nodes by how this one sees them.", &["state"])?;
        let changes = self.counters(
            "atoll_peer_changes_total",
            "Changes of how this node sees a peer.",
            &["to"],
        )?;
        let p99 = GaugeVec::new(
            Opts::new(
                "atoll_peer_p99_seconds",
                format!(
                    "99 of 100 messages to the replicas of a peer took at most this long, over \
                     {PEER_SIGHT_WINDOW_S} s; only for peers that were sent {PEER_SIGHT_MESSAGES_MIN}."
                ),
            ),
            &["peer_name"],
        )?;
        self.registry.register(Box::new(p99.clone()))?;
        Ok(PeerMetricsSet {
            up: states.with_label_values(&["up"]),
            down: states.with_label_values(&["down"]),
            went_down: changes.with_label_values(&["down"]),
            came_up: changes.with_label_values(&["up"]),
            batch_ops: self.histogram(
                "atoll_peer_batch_ops",
                "Operations that travelled to a peer in one message.",
                &COUNT_BUCKETS,
            )?,
            queue_full: self.counter(
                "atoll_peer_queue_full_total",
                "Operations not sent because the peer's queue was full.",
            )?,
            p99,
        })
    }
}
