//! The metrics of the storage node, on an injected registry. Labels are closed sets and every child
//! is made here once, so that the hot path touches atomics only.

mod file;
mod freshness;
mod load;
mod peers;
mod space;
mod upkeep;

use prometheus::{
    Gauge, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry,
};
use service_kit::metrics::{COUNT_BUCKETS, LATENCY_BUCKETS, MetricsError};

use self::file::FileFamilies;
pub use self::file::FileMetrics;
pub use self::freshness::FreshnessMetrics;
pub use self::load::LoadMetrics;
pub use self::peers::PeerMetricsSet;
pub use self::space::SpaceMetrics;
pub use self::upkeep::{KindMetrics, PartitionMetrics, SliceMetrics, TreeMetrics};

/// The records.
#[derive(Debug, Clone)]
pub struct StoreMetrics {
    /// Records found unreadable.
    pub corrupt_records: IntCounter,
    /// Records that are unreadable now.
    pub corrupt_keys: IntGauge,
    /// Reads that the file refused.
    pub read_failures: IntCounter,
    /// Keys that came to have many siblings.
    pub siblings_warned: IntCounter,
    /// The Merkle tree.
    pub tree: TreeMetrics,
    /// Partitions that come and go.
    pub partitions: PartitionMetrics,
}

/// The hints held for others.
#[derive(Debug, Clone)]
pub struct HintMetrics {
    /// Hints held.
    pub held: IntGauge,
    /// Bytes of the hints held.
    pub held_bytes: IntGauge,
    /// Hints taken in.
    pub stored: IntCounter,
    /// Hints delivered and removed.
    pub delivered: IntCounter,
    /// Hints dropped because the file was at its cap.
    pub dropped_full: IntCounter,
    /// Hints dropped because of their age.
    pub dropped_expired: IntCounter,
    /// Hints dropped because they were unreadable.
    pub dropped_corrupt: IntCounter,
    /// Delivery messages that failed.
    pub delivery_failures: IntCounter,
}

/// How a coordinated request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestEnd {
    /// Answered.
    Ok,
    /// Refused for a reason that lies with the request.
    Refused,
    /// Too few replicas.
    Unavailable,
    /// Out of time.
    Deadline,
    /// Ended by a mistake of ours.
    Failed,
}

/// One kind of coordinated request.
#[derive(Debug, Clone)]
pub struct RequestMetrics {
    ok: Histogram,
    refused: Histogram,
    unavailable: Histogram,
    deadline: Histogram,
    failed: Histogram,
}

impl RequestMetrics {
    fn count(&self) -> u64 {
        let ends = [&self.ok, &self.refused, &self.unavailable, &self.deadline, &self.failed];
        ends.map(Histogram::get_sample_count).iter().sum()
    }

    /// Where to observe the duration of a request that ended like this.
    #[must_use]
    pub fn of(&self, end: RequestEnd) -> &Histogram {
        match end {
            RequestEnd::Ok => &self.ok,
            RequestEnd::Refused => &self.refused,
            RequestEnd::Unavailable => &self.unavailable,
            RequestEnd::Deadline => &self.deadline,
            RequestEnd::Failed => &self.failed,
        }
    }
}

impl CoordinatorMetrics {
    /// Requests that were coordinated so far, however they ended.
    #[must_use]
    pub fn requests(&self) -> u64 {
        [&self.get, &self.put, &self.delete].map(RequestMetrics::count).iter().sum()
    }
}

/// What coordination did.
#[derive(Debug, Clone)]
pub struct CoordinatorMetrics {
    /// Gets.
    pub get: RequestMetrics,
    /// Puts.
    pub put: RequestMetrics,
    /// Deletes.
    pub delete: RequestMetrics,
    /// Replies or acknowledgements when an answer was given.
    pub acks: Histogram,
    /// Versions that a get returned.
    pub versions_per_read: Histogram,
    /// Requests answered with the help of a fallback.
    pub fallbacks_used: IntCounter,
    /// Replica writes sent to a fallback as a hint.
    pub hints_sent: IntCounter,
    /// Retries of puts that had been applied before.
    pub replayed: IntCounter,
    /// Puts that arrived as repetitions of an earlier attempt.
    pub repeated: IntCounter,
    /// Stale replicas repaired after a get.
    pub read_repairs: IntCounter,
    /// Repairs left undone because too many were on their way.
    pub read_repairs_skipped: IntCounter,
    /// From the answer of a put until all of its N replicas had it.
    pub replication_lag_seconds: Histogram,
}

/// Work done for other coordinators.
#[derive(Debug, Clone)]
pub struct ReplicaMetrics {
    /// Time of one message.
    pub message_seconds: Histogram,
    /// Operations in one message.
    pub message_ops: Histogram,
    /// Merges.
    pub merges: IntCounter,
    /// Reads.
    pub reads: IntCounter,
    /// Reads answered with "same".
    pub reads_same: IntCounter,
    /// Reads and merges that were background work.
    pub background: IntCounter,
    /// Operations refused.
    pub refused: IntCounter,
}

impl ReplicaMetrics {
    /// Operations for requests that others coordinated, so far.
    #[must_use]
    pub fn for_requests(&self) -> u64 {
        (self.reads.get() + self.merges.get()).saturating_sub(self.background.get())
    }
}

/// Everything.
#[derive(Debug, Clone)]
pub struct Metrics {
    /// The main file.
    pub records_file: FileMetrics,
    /// The hint file.
    pub hints_file: FileMetrics,
    /// The disk.
    pub space: SpaceMetrics,
    /// The records.
    pub store: StoreMetrics,
    /// The hints.
    pub hints: HintMetrics,
    /// Coordination.
    pub coordinator: CoordinatorMetrics,
    /// How fresh reads are.
    pub freshness: FreshnessMetrics,
    /// Replica messages.
    pub replica: ReplicaMetrics,
    /// Peers.
    pub peers: PeerMetricsSet,
    /// Background work.
    pub slices: SliceMetrics,
    /// The share of the load.
    pub load: LoadMetrics,
    /// The actor epoch.
    pub epoch: IntGauge,
    /// Epochs ended because data was lost.
    pub epochs_ended: IntCounter,
    /// Number of the ring in use.
    pub ring_version: IntGauge,
    /// Partitions held completely.
    pub partitions_held: IntGauge,
}

impl Metrics {
    /// Registers everything.
    ///
    /// # Errors
    /// When a name is taken already, a mistake in the program.
    pub fn register(registry: &Registry) -> Result<Self, MetricsError> {
        let make = Make { registry };
        let files = FileFamilies::register(&make)?;
        Ok(Self {
            records_file: files.of("records"),
            hints_file: files.of("hints"),
            space: make.space()?,
            store: make.store()?,
            hints: make.hints()?,
            coordinator: make.coordinator()?,
            freshness: make.freshness()?,
            replica: make.replica()?,
            peers: make.peers()?,
            slices: make.slices()?,
            load: make.load()?,
            epoch: make.gauge("atoll_actor_epoch", "Epoch under which this node mints dots.")?,
            epochs_ended: make.counter(
                "atoll_actor_epochs_ended_total",
                "Epochs ended because data was or may have been lost.",
            )?,
            ring_version: make.gauge("atoll_ring_version", "Number of the ring in use.")?,
            partitions_held: make
                .gauge("atoll_partitions_held", "Partitions that this node holds completely.")?,
        })
    }
}

/// Makes and registers single metrics and families.
struct Make<'a> {
    registry: &'a Registry,
}

impl Make<'_> {
    fn store(&self) -> Result<StoreMetrics, MetricsError> {
        Ok(StoreMetrics {
            corrupt_records: self.counter(
                "atoll_corrupt_records_total",
                "Stored records that failed their checksum.",
            )?,
            corrupt_keys: self.gauge(
                "atoll_corrupt_keys",
                "Keys whose record is unreadable and not repaired yet.",
            )?,
            read_failures: self
                .counter("atoll_store_read_failures_total", "Reads that the file refused.")?,
            siblings_warned: self
                .counter("atoll_siblings_warned_total", "Keys that came to have many siblings.")?,
            tree: self.tree()?,
            partitions: self.partitions()?,
        })
    }

    fn hints(&self) -> Result<HintMetrics, MetricsError> {
        let dropped = self.counters(
            "atoll_hints_dropped_total",
            "Hints dropped undelivered and left to anti-entropy.",
            &["reason"],
        )?;
        Ok(HintMetrics {
            held: self.gauge("atoll_hints", "Hints held for other nodes.")?,
            held_bytes: self.gauge("atoll_hint_bytes", "Bytes of the hints held.")?,
            stored: self.counter("atoll_hints_stored_total", "Hints taken in.")?,
            delivered: self
                .counter("atoll_hints_delivered_total", "Hints delivered and removed.")?,
            dropped_full: dropped.with_label_values(&["full"]),
            dropped_expired: dropped.with_label_values(&["expired"]),
            dropped_corrupt: dropped.with_label_values(&["corrupt"]),
            delivery_failures: self
                .counter("atoll_hint_delivery_failures_total", "Delivery messages that failed.")?,
        })
    }

    fn coordinator(&self) -> Result<CoordinatorMetrics, MetricsError> {
        let seconds = self.histograms(
            "atoll_coordinator_seconds",
            "Time from a request's arrival at its coordinator to the answer.",
            &LATENCY_BUCKETS,
            &["operation", "outcome"],
        )?;
        let request = |operation: &str| RequestMetrics {
            ok: seconds.with_label_values(&[operation, "ok"]),
            refused: seconds.with_label_values(&[operation, "refused"]),
            unavailable: seconds.with_label_values(&[operation, "unavailable"]),
            deadline: seconds.with_label_values(&[operation, "deadline"]),
            failed: seconds.with_label_values(&[operation, "failed"]),
        };
        Ok(CoordinatorMetrics {
            get: request("get"),
            put: request("put"),
            delete: request("delete"),
            acks: self.histogram(
                "atoll_coordinator_acks",
                "Replies or acknowledgements when the answer was given.",
                &COUNT_BUCKETS,
            )?,
            versions_per_read: self.histogram(
                "atoll_versions_per_read",
                "Live versions that a get returned.",
                &COUNT_BUCKETS,
            )?,
            fallbacks_used: self.counter(
                "atoll_fallbacks_used_total",
                "Requests in which a fallback stood in for a primary.",
            )?,
            hints_sent: self
                .counter("atoll_hints_sent_total", "Replicas handed to a fallback as a hint.")?,
            replayed: self.counter(
                "atoll_puts_replayed_total",
                "Retries of puts that had been applied before.",
            )?,
            repeated: self.counter(
                "atoll_puts_repeated_total",
                "Puts that asked the other replicas first, as another attempt may have been applied.",
            )?,
            read_repairs: self
                .counter("atoll_read_repairs_total", "Stale replicas repaired after a get.")?,
            read_repairs_skipped: self.counter(
                "atoll_read_repairs_skipped_total",
                "Repairs left undone because too many were on their way.",
            )?,
            replication_lag_seconds: self.histogram(
                "atoll_replication_lag_seconds",
                "From the answer of a put until all of its N replicas had it.",
                &LATENCY_BUCKETS,
            )?,
        })
    }

    fn replica(&self) -> Result<ReplicaMetrics, MetricsError> {
        let ops = self.counters(
            "atoll_replica_ops_total",
            "Operations done for other coordinators.",
            &["operation"],
        )?;
        Ok(ReplicaMetrics {
            message_seconds: self.histogram(
                "atoll_replica_message_seconds",
                "Time of one replica message, the commit included.",
                &LATENCY_BUCKETS,
            )?,
            message_ops: self.histogram(
                "atoll_replica_message_ops",
                "Operations in one replica message.",
                &COUNT_BUCKETS,
            )?,
            merges: ops.with_label_values(&["merge"]),
            reads: ops.with_label_values(&["read"]),
            reads_same: ops.with_label_values(&["read_same"]),
            background: ops.with_label_values(&["background"]),
            refused: ops.with_label_values(&["refused"]),
        })
    }

    fn counter(&self, name: &str, help: &str) -> Result<IntCounter, MetricsError> {
        let counter = IntCounter::new(name, help)?;
        self.registry.register(Box::new(counter.clone()))?;
        Ok(counter)
    }

    fn seconds(&self, name: &str, help: &str) -> Result<Gauge, MetricsError> {
        let gauge = Gauge::new(name, help)?;
        self.registry.register(Box::new(gauge.clone()))?;
        Ok(gauge)
    }

    fn gauge(&self, name: &str, help: &str) -> Result<IntGauge, MetricsError> {
        let gauge = IntGauge::new(name, help)?;
        self.registry.register(Box::new(gauge.clone()))?;
        Ok(gauge)
    }

    fn histogram(
        &self,
        name: &str,
        help: &str,
        buckets: &[f64],
    ) -> Result<Histogram, MetricsError> {
        let opts = HistogramOpts::new(name, help).buckets(buckets.to_vec());
        let histogram = Histogram::with_opts(opts)?;
        self.registry.register(Box::new(histogram.clone()))?;
        Ok(histogram)
    }

    fn counters(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> Result<IntCounterVec, MetricsError> {
        let counters = IntCounterVec::new(Opts::new(name, help), labels)?;
        self.registry.register(Box::new(counters.clone()))?;
        Ok(counters)
    }

    fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntGaugeVec, MetricsError> {
        let gauges = IntGaugeVec::new(Opts::new(name, help), labels)?;
        self.registry.register(Box::new(gauges.clone()))?;
        Ok(gauges)
    }

    fn histograms(
        &self,
        name: &str,
        help: &str,
        buckets: &[f64],
        labels: &[&str],
    ) -> Result<HistogramVec, MetricsError> {
        let opts = HistogramOpts::new(name, help).buckets(buckets.to_vec());
        let histograms = HistogramVec::new(opts, labels)?;
        self.registry.register(Box::new(histograms.clone()))?;
        Ok(histograms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_distinct_and_a_second_registry_is_independent() {
        let registry = Registry::new();
        let metrics = Metrics::register(&registry).unwrap();
        assert!(Metrics::register(&registry).is_err());
        assert!(Metrics::register(&Registry::new()).is_ok());
        metrics.coordinator.get.of(RequestEnd::Ok).observe(0.001);
        let text = service_kit::metrics::encode(&registry).unwrap();
        assert!(
            text.contains("atoll_coordinator_seconds_count{operation=\"get\",outcome=\"ok\"} 1")
        );
    }
}
