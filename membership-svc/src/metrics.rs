//! What Prometheus sees of the agent.

use prometheus::core::Collector;
use prometheus::{Gauge, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};
use service_kit::http::error::ErrorCode;
use service_kit::metrics::MetricsError;

/// Why gossip is refused as a whole; what is wrong with a body has further codes.
const GOSSIP_CODES: [ErrorCode; 8] = [
    ErrorCode::BadJson,
    ErrorCode::DigestMismatch,
    ErrorCode::Unauthorized,
    ErrorCode::ProtocolVersion,
    ErrorCode::WrongCluster,
    ErrorCode::StaleIncarnation,
    ErrorCode::Conflict,
    ErrorCode::Overloaded,
];

/// All metrics of the agent.
#[derive(Debug, Clone)]
pub struct Metrics {
    /// Events in the history.
    pub history_events: IntGauge,
    /// Nodes by status.
    pub nodes: IntGaugeVec,
    /// Where the ring falls short of the ideal, by what is short.
    pub violations: IntGaugeVec,
    /// Partitions of which an owner does not hold the data yet.
    pub partitions_pending: IntGauge,
    /// Changes that are staged.
    pub staged: IntGauge,
    /// Gossip rounds that ended with both sides equal.
    pub rounds_equal: IntCounter,
    /// Gossip rounds that exchanged something.
    pub rounds_exchanged: IntCounter,
    /// Gossip rounds without a usable answer.
    pub rounds_failed: IntCounter,
    /// Bytes of gossip sent.
    pub bytes_sent: IntCounter,
    /// Bytes of gossip received.
    pub bytes_received: IntCounter,
    /// Messages of peers that were refused as a whole, by reason.
    pub refused: IntCounterVec,
    /// Parts of deltas that were invalid.
    pub refused_parts: IntCounter,
    /// Parts of deltas that were known already: replays, and normal overlap.
    pub known_parts: IntCounter,
    /// 1 while more gossip arrives than a healthy cluster sends.
    pub rate_alarm: IntGauge,
    /// Seconds since a round found both sides equal; -1 before the first.
    pub convergence_age: Gauge,
    /// 1 once a newer process speaks for this node.
    pub fenced: IntGauge,
    /// Seconds since the storage node of this host last reported; -1 before it did.
    pub storage_report_age: Gauge,
}

/// Makes and registers metrics under the prefix of this crate.
struct Maker<'a> {
    registry: &'a Registry,
}

impl Maker<'_> {
    fn add<M: Collector + Clone + 'static>(
        &self,
        made: prometheus::Result<M>,
    ) -> Result<M, MetricsError> {
        let metric = made?;
        self.registry.register(Box::new(metric.clone()))?;
        Ok(metric)
    }

    fn gauge(&self, name: &str, help: &str) -> Result<IntGauge, MetricsError> {
        self.add(IntGauge::new(format!("atoll_membership_{name}"), help))
    }

    /// A gauge of seconds that starts at -1 for never.
    fn age(&self, name: &str, help: &str) -> Result<Gauge, MetricsError> {
        let gauge = self.add(Gauge::new(format!("atoll_membership_{name}"), help))?;
        gauge.set(-1.0);
        Ok(gauge)
    }

    fn counter(&self, name: &str, help: &str) -> Result<IntCounter, MetricsError> {
        self.add(IntCounter::new(format!("atoll_membership_{name}"), help))
    }

    fn counters(&self, name: &str, help: &str, by: &str) -> Result<IntCounterVec, MetricsError> {
        let opts = Opts::new(format!("atoll_membership_{name}"), help);
        self.add(IntCounterVec::new(opts, &[by]))
    }
}

impl Metrics {
    /// Registers them.
    ///
    /// # Errors
    /// When they are registered already.
    pub fn register(registry: &Registry) -> Result<Self, MetricsError> {
        let make = Maker { registry };
        let nodes_opts = Opts::new("atoll_membership_nodes", "Nodes that are known, by status.");
        let nodes = make.add(IntGaugeVec::new(nodes_opts, &["status"]))?;
        let violations_opts = Opts::new(
            "atoll_membership_placement_violations",
            "Where the ring falls short of the ideal: copies on too few nodes or zones, weights.",
        );
        let violations = make.add(IntGaugeVec::new(violations_opts, &["kind"]))?;
        let rounds_help = "Gossip rounds opened here, by how they ended.";
        let rounds = make.counters("gossip_rounds_total", rounds_help, "result")?;
        let bytes =
            make.counters("gossip_bytes_total", "Bytes of gossip messages.", "direction")?;
        let refused_help = "Gossip messages refused as a whole, by reason.";
        let refused = make.counters("gossip_refused_total", refused_help, "reason")?;
        // There from the start, so that the first refusal is an increase that an alert sees.
        for code in GOSSIP_CODES {
            refused.with_label_values(&[code.as_str()]);
        }
        let refused_parts_help = "Events, states and registers in gossip that were invalid.";
        let known_help = "Parts of gossip that were known already or outdated.";
        let alarm_help = "1 while more gossip arrives than a healthy cluster sends.";
        let pending_help = "Partitions of which an owner does not hold the data yet.";
        let convergence_help =
            "Seconds since a gossip round found both sides equal; -1 before the first.";
        let report_help =
            "Seconds since the storage node of this host last reported; -1 before it did.";
        Ok(Self {
            history_events: make
                .gauge("history_events", "Events in the history: the number of the ring.")?,
            nodes,
            violations,
            partitions_pending: make.gauge("partitions_pending", pending_help)?,
            staged: make.gauge("staged_changes", "Changes that are staged.")?,
            rounds_equal: rounds.with_label_values(&["equal"]),
            rounds_exchanged: rounds.with_label_values(&["exchanged"]),
            rounds_failed: rounds.with_label_values(&["failed"]),
            bytes_sent: bytes.with_label_values(&["sent"]),
            bytes_received: bytes.with_label_values(&["received"]),
            refused,
            refused_parts: make.counter("gossip_refused_parts_total", refused_parts_help)?,
            known_parts: make.counter("gossip_known_parts_total", known_help)?,
            rate_alarm: make.gauge("gossip_rate_alarm", alarm_help)?,
            convergence_age: make.age("convergence_age_seconds", convergence_help)?,
            fenced: make.gauge("fenced", "1 once a newer process speaks for this node.")?,
            storage_report_age: make.age("storage_report_age_seconds", report_help)?,
        })
    }
}
