//! What Prometheus sees of the worker. Ages are -1 where there is nothing to be old yet.

use std::collections::{BTreeMap, BTreeSet};

use dynamo_core::admission::Kind;
use dynamo_core::id::PartitionId;
use dynamo_core::merkle::exchange::{ExchangeCounts, ExchangeEnd, ExchangeResult};
use dynamo_core::wire::worker::TransferState;
use prometheus::core::Collector;
use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec,
    Opts, Registry,
};
use service_kit::metrics::{LATENCY_BUCKETS, MetricsError};

/// The kinds of work that a worker does.
pub const KINDS: [Kind; 4] = [Kind::Exchange, Kind::Transfer, Kind::Repair, Kind::Reap];

/// A partition that is behind, and the name of the peer with which it is.
pub type Behind = (PartitionId, String);

/// Makes and registers metrics.
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

    fn counter(&self, name: &str, help: &str) -> Result<IntCounter, MetricsError> {
        self.add(IntCounter::new(name, help))
    }

    fn counters(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> Result<IntCounterVec, MetricsError> {
        self.add(IntCounterVec::new(Opts::new(name, help), labels))
    }

    fn gauge(&self, name: &str, help: &str) -> Result<IntGauge, MetricsError> {
        self.add(IntGauge::new(name, help))
    }

    /// A gauge of seconds that starts at -1 for never.
    fn age(&self, name: &str, help: &str) -> Result<Gauge, MetricsError> {
        let gauge = self.add(Gauge::new(name, help))?;
        gauge.set(-1.0);
        Ok(gauge)
    }
}

/// Calls to the storage nodes of other hosts.
#[derive(Debug, Clone)]
pub struct CallMetrics {
    bytes: Vec<(Kind, IntCounter, IntCounter)>,
    /// Calls that were refused as overloaded and tried again.
    pub overloaded: IntCounter,
}

impl CallMetrics {
    fn register(make: &Maker<'_>) -> Result<Self, MetricsError> {
        let help = "Bytes of messages to and from storage nodes of other hosts, by what for.";
        let bytes = make.counters("atoll_worker_bytes_total", help, &["kind", "direction"])?;
        let of = |kind: Kind, direction| bytes.with_label_values(&[kind.as_str(), direction]);
        let cached = |kind| (kind, of(kind, "sent"), of(kind, "received"));
        let overloaded_help = "Calls that a storage node put off for want of a slice.";
        Ok(Self {
            bytes: KINDS.map(cached).to_vec(),
            overloaded: make.counter("atoll_worker_overloaded_total", overloaded_help)?,
        })
    }

    /// Counts one call.
    pub fn count(&self, kind: Kind, sent: usize, received: usize) {
        if let Some((_, out, back)) = self.bytes.iter().find(|(known, ..)| *known == kind) {
            out.inc_by(sent as u64);
            back.inc_by(received as u64);
        }
    }
}

/// Comparisons.
#[derive(Debug, Clone)]
pub struct ExchangeMetrics {
    agreed: IntCounter,
    left: IntCounter,
    failed: IntCounter,
    /// Turns in which a partner was not reachable.
    pub skipped: IntCounter,
    seconds: Histogram,
    compared: IntCounter,
    differing: IntCounter,
    settled: IntCounter,
    refused: IntCounter,
    pulled: IntCounter,
    pushed: IntCounter,
    bytes_pulled: IntCounter,
    bytes_pushed: IntCounter,
    /// Comparisons under way.
    pub running: IntGauge,
    /// Partners with which there is something in common.
    pub partners: IntGauge,
    /// Seconds since everything in common was last found equal, per partner.
    pub agreed_age: GaugeVec,
    /// Seconds since the oldest comparison of any partition with any partner.
    pub lag: Gauge,
    /// Keys that the last rounds left different.
    pub keys_behind: IntGauge,
    /// Partitions that the last rounds did not find equal with every partner.
    pub partitions_behind: IntGauge,
    behind: GaugeVec,
    /// 1 while an operator has halted the worker.
    pub paused: IntGauge,
}

impl ExchangeMetrics {
    fn register(make: &Maker<'_>) -> Result<Self, MetricsError> {
        let name = |rest: &str| format!("atoll_anti_entropy_{rest}");
        let counter = |rest: &str, help: &str| make.counter(&name(rest), help);
        let rounds_help = "Comparisons with another node, by how they ended.";
        let rounds = make.counters(&name("rounds_total"), rounds_help, &["result"])?;
        let repaired_help = "Keys repaired, by direction: pulled to this node, pushed to others.";
        let repaired =
            make.counters(&name("keys_repaired_total"), repaired_help, &["direction"])?;
        let bytes_help = "Bytes of records moved by comparisons, by direction.";
        let bytes = make.counters(&name("record_bytes_total"), bytes_help, &["direction"])?;
        let seconds = HistogramOpts::new(name("round_seconds"), "Duration of comparisons.")
            .buckets(LATENCY_BUCKETS.to_vec());
        let age_help = "Seconds since everything in common was found equal; -1 for never.";
        let lag_help = "Seconds since every partition was found equal with every other owner that \
                        holds it: how stale a replica may be at most; -1 before the first full round.";
        let settled_help = "Keys that differed only because a write was on its way.";
        let refused_help = "Keys that differ and could not be read or merged.";
        let behind_help = "Keys that the last comparisons found different and left so.";
        let apart_help =
            "Partitions that the last comparisons did not find equal with some partner.";
        let named_help = "Seconds since a partition was found equal with a peer, for those furthest \
                          behind; -1 for never. None while all are equal.";
        Ok(Self {
            agreed: rounds.with_label_values(&["agreed"]),
            left: rounds.with_label_values(&["differences_left"]),
            failed: rounds.with_label_values(&["failed"]),
            skipped: rounds.with_label_values(&["skipped"]),
            seconds: make.add(Histogram::with_opts(seconds))?,
            compared: counter("keys_compared_total", "Keys compared one by one.")?,
            differing: counter("keys_differing_total", "Keys that differed at first sight.")?,
            settled: counter("keys_settled_total", settled_help)?,
            refused: counter("keys_refused_total", refused_help)?,
            pulled: repaired.with_label_values(&["pulled"]),
            pushed: repaired.with_label_values(&["pushed"]),
            bytes_pulled: bytes.with_label_values(&["pulled"]),
            bytes_pushed: bytes.with_label_values(&["pushed"]),
            running: make.gauge(&name("rounds_running"), "Comparisons under way.")?,
            partners: make.gauge(&name("partners"), "Nodes with partitions in common.")?,
            agreed_age: make
                .add(GaugeVec::new(Opts::new(name("agreed_age_seconds"), age_help), &["peer"]))?,
            lag: make.age(&name("lag_seconds"), lag_help)?,
            keys_behind: make.gauge(&name("keys_behind"), behind_help)?,
            partitions_behind: make.gauge(&name("partitions_behind"), apart_help)?,
            behind: make.add(GaugeVec::new(
                Opts::new(name("partition_behind_seconds"), named_help),
                &["partition", "peer_name"],
            ))?,
            paused: make.gauge(&name("paused"), "1 while the worker is halted by an operator.")?,
        })
    }

    /// Shows which partitions are behind with whom, and for how long; `before` is what was shown
    /// last, and becomes what is shown now.
    pub fn show_behind(&self, before: &mut BTreeSet<Behind>, now: BTreeMap<Behind, f64>) {
        let labels = |(partition, peer): &Behind| [partition.0.to_string(), peer.clone()];
        for gone in before.iter().filter(|shown| !now.contains_key(shown)) {
            // It is there: it was shown.
            drop(self.behind.remove_label_values(&labels(gone)));
        }
        for (behind, seconds) in &now {
            self.behind.with_label_values(&labels(behind)).set(*seconds);
        }
        *before = now.into_keys().collect();
    }

    /// Counts a comparison that has ended.
    pub fn ended(&self, result: &ExchangeResult, seconds: f64) {
        match &result.end {
            ExchangeEnd::Agreed => self.agreed.inc(),
            ExchangeEnd::DifferencesLeft => self.left.inc(),
            ExchangeEnd::Failed { .. } => self.failed.inc(),
        }
        self.seconds.observe(seconds);
        self.moved(&result.counts);
    }

    /// Counts what a comparison has done.
    pub fn moved(&self, counts: &ExchangeCounts) {
        self.compared.inc_by(counts.keys);
        self.differing.inc_by(counts.differing);
        self.settled.inc_by(counts.settled);
        self.refused.inc_by(counts.refused);
        self.pulled.inc_by(counts.pulled);
        self.pushed.inc_by(counts.pushed);
        self.bytes_pulled.inc_by(counts.bytes_pulled);
        self.bytes_pushed.inc_by(counts.bytes_pushed);
    }
}

/// Partitions on the move.
#[derive(Debug, Clone)]
pub struct TransferMetrics {
    states: BTreeMap<TransferState, IntGauge>,
    /// Records copied.
    pub records: IntCounter,
    /// Their bytes.
    pub bytes: IntCounter,
    /// Records that a source could not read.
    pub unreadable: IntCounter,
    /// Partitions taken over.
    pub held: IntCounter,
    /// Partitions given up.
    pub released: IntCounter,
    /// Records deleted of partitions given up.
    pub dropped: IntCounter,
    /// Steps that failed and are tried again.
    pub failures: IntCounter,
    /// Seconds without progress of the oldest running transfer.
    pub stalled: Gauge,
}

impl TransferMetrics {
    fn register(make: &Maker<'_>) -> Result<Self, MetricsError> {
        let states_help = "Partitions by where they stand.";
        let opts = Opts::new("atoll_transfer_partitions", states_help);
        let by_state = make.add(IntGaugeVec::new(opts, &["state"]))?;
        let state = |state: TransferState| (state, by_state.with_label_values(&[state.as_str()]));
        let counter =
            |rest: &str, help: &str| make.counter(&format!("atoll_transfer_{rest}_total"), help);
        let stalled_help = "Seconds for which a running transfer has made no progress at most.";
        Ok(Self {
            states: TransferState::ALL.map(state).into_iter().collect(),
            records: counter("records", "Records copied.")?,
            bytes: counter("bytes", "Bytes of records copied.")?,
            unreadable: counter("unreadable_records", "Records that a source could not read.")?,
            held: counter("held_partitions", "Partitions taken over.")?,
            released: counter("released_partitions", "Partitions given up.")?,
            dropped: counter("dropped_records", "Records deleted of partitions given up.")?,
            failures: counter("failures", "Steps of transfers that failed and are tried again.")?,
            stalled: make.add(Gauge::new("atoll_transfer_stalled_seconds", stalled_help))?,
        })
    }

    /// Shows how many partitions stand where.
    pub fn show(&self, totals: &BTreeMap<TransferState, usize>) {
        for (state, gauge) in &self.states {
            let count = totals.get(state).copied().unwrap_or(0);
            gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }
}

/// Reaping.
#[derive(Debug, Clone)]
pub struct ReapMetrics {
    /// Keys looked at.
    pub examined: IntCounter,
    /// Dead records removed, counted once per key.
    pub removed: IntCounter,
    /// Clocks truncated, counted once per key.
    pub truncated: IntCounter,
    /// Keys for which not every node could say that it is time.
    pub postponed: IntCounter,
}

impl ReapMetrics {
    fn register(make: &Maker<'_>) -> Result<Self, MetricsError> {
        let counter =
            |rest: &str, help: &str| make.counter(&format!("atoll_reap_{rest}_total"), help);
        Ok(Self {
            examined: counter("examined_keys", "Keys that were old enough to be removed.")?,
            removed: counter("removed_keys", "Dead keys removed at all their owners.")?,
            truncated: counter("truncated_keys", "Keys whose clock lost its oldest entries.")?,
            postponed: counter("postponed_keys", "Keys for which the evidence was not complete.")?,
        })
    }
}

/// All metrics of the worker.
#[derive(Debug, Clone)]
pub struct Metrics {
    /// Calls.
    pub calls: CallMetrics,
    /// Comparisons.
    pub exchanges: ExchangeMetrics,
    /// Partitions on the move.
    pub transfers: TransferMetrics,
    /// Reaping.
    pub reap: ReapMetrics,
}

impl Metrics {
    /// Registers them.
    ///
    /// # Errors
    /// When they are registered already.
    pub fn register(registry: &Registry) -> Result<Self, MetricsError> {
        let make = Maker { registry };
        Ok(Self {
            calls: CallMetrics::register(&make)?,
            exchanges: ExchangeMetrics::register(&make)?,
            transfers: TransferMetrics::register(&make)?,
            reap: ReapMetrics::register(&make)?,
        })
    }
}
