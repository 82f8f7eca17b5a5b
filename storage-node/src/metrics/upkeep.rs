//! The metrics of what the node does beside requests: tree and scrub, partitions that come and go,
//! and the slices of background work.

use dynamo_core::admission::Kind;
use prometheus::{Gauge, Histogram, IntCounter, IntCounterVec, IntGauge};
use service_kit::metrics::{LATENCY_BUCKETS, MetricsError};

use super::Make;

/// The Merkle tree and the scrub.
#[derive(Debug, Clone)]
pub struct TreeMetrics {
    /// 1 where the tree is evidence, 0 while it is being built.
    pub built: IntGauge,
    /// Changes in its log.
    pub log_entries: IntGauge,
    /// Times that the log was folded into the blocks.
    pub folds: IntCounter,
    /// Leaves compared with their records.
    pub scrubbed_leaves: IntCounter,
    /// Records verified.
    pub scrubbed_records: IntCounter,
    /// Bytes of records verified.
    pub scrubbed_bytes: IntCounter,
    /// Leaves of a complete tree that differed from their records.
    pub mismatches: IntCounter,
    /// Steps that failed.
    pub scrub_failures: IntCounter,
    /// Full passes.
    pub passes: IntCounter,
    /// Leaves that the present pass has compared.
    pub pass_leaves: IntGauge,
    /// When the last full pass ended, in seconds since 1970; 0 for never.
    pub last_full: IntGauge,
}

/// Partitions that come and go.
#[derive(Debug, Clone)]
pub struct PartitionMetrics {
    /// Partitions that the node is to have.
    pub wanted: IntGauge,
    /// Partitions of which something is left over.
    pub leftover: IntGauge,
    /// Records given to other nodes.
    pub page_records: IntCounter,
    /// Their bytes.
    pub page_bytes: IntCounter,
    /// Records left out of pages because they were unreadable.
    pub page_unreadable: IntCounter,
    /// Records dropped with partitions given up.
    pub dropped: IntCounter,
    /// Dead records removed.
    pub reaped: IntCounter,
    /// Clocks truncated.
    pub truncated: IntCounter,
    /// Orders of the reaper refused, since the record was another one by then.
    pub reap_changed: IntCounter,
}

/// One kind of background work.
#[derive(Debug, Clone)]
pub struct KindMetrics {
    /// Slices granted.
    pub granted: IntCounter,
    /// Requests refused because too many wait.
    pub refused_full: IntCounter,
    /// Requests refused because their time ran out.
    pub refused_late: IntCounter,
}

/// Slices of background work.
#[derive(Debug, Clone)]
pub struct SliceMetrics {
    /// Slices there are now.
    pub slices: IntGauge,
    /// Slices there may be.
    pub slices_max: IntGauge,
    /// Slices in use.
    pub in_use: IntGauge,
    /// Requests that wait.
    pub waiting: IntGauge,
    /// From the request of a slice to its grant.
    pub wait_seconds: Histogram,
    kinds: Vec<KindMetrics>,
    /// Foreground p99 of the last minute in milliseconds.
    pub foreground_p99_seconds: Gauge,
    /// Commit p99 of the last minute in milliseconds.
    pub store_p99_seconds: Gauge,
    /// Failures in the last minute.
    pub failures: IntGauge,
    /// Longest wait for the writer in the last minute in milliseconds.
    pub queue_wait_seconds: Gauge,
    /// Decisions for more slices.
    pub raised: IntCounter,
    /// Decisions for fewer.
    pub lowered: IntCounter,
}

impl SliceMetrics {
    /// Those of one kind.
    #[must_use]
    pub fn of(&self, kind: Kind) -> Option<&KindMetrics> {
        let index = Kind::ALL.iter().position(|other| *other == kind)?;
        self.kinds.get(index)
    }
}

impl Make<'_> {
    pub(super) fn tree(&self) -> Result<TreeMetrics, MetricsError> {
        Ok(TreeMetrics {
            built: self.gauge(
                "atoll_tree_built",
                "1 where the Merkle tree is complete, 0 while it is being built.",
            )?,
            log_entries: self.gauge(
                "atoll_tree_log_entries",
                "Changes of the Merkle tree that are not folded into its blocks yet.",
            )?,
            folds: self.counter(
                "atoll_tree_folds_total",
                "Times the tree's log was folded into blocks.",
            )?,
            scrubbed_leaves: self.counter(
                "atoll_scrub_leaves_total",
                "Leaves of the tree compared with their records.",
            )?,
            scrubbed_records: self
                .counter("atoll_scrub_records_total", "Records whose checksum was verified.")?,
            scrubbed_bytes: self
                .counter("atoll_scrub_bytes_total", "Bytes of records that were verified.")?,
            mismatches: self.counter(
                "atoll_scrub_mismatches_total",
                "Leaves of a complete tree that differed from their records.",
            )?,
            scrub_failures: self
                .counter("atoll_scrub_failures_total", "Steps of the scrub that failed.")?,
            passes: self.counter("atoll_scrub_passes_total", "Full passes of the scrub.")?,
            pass_leaves: self.gauge(
                "atoll_scrub_pass_leaves",
                "Leaves that the present pass of the scrub has compared, of 65,536.",
            )?,
            last_full: self.gauge(
                "atoll_scrub_last_full_timestamp_seconds",
                "When the last full pass of the scrub ended; 0 for never.",
            )?,
        })
    }

    pub(super) fn partitions(&self) -> Result<PartitionMetrics, MetricsError> {
        let reaped =
            self.counters("atoll_reap_orders_total", "Orders of the reaper.", &["result"])?;
        Ok(PartitionMetrics {
            wanted: self
                .gauge("atoll_partitions_wanted", "Partitions that this node is to have.")?,
            leftover: self.gauge(
                "atoll_partitions_leftover",
                "Partitions given up whose data is not dropped to the end yet.",
            )?,
            page_records: self
                .counter("atoll_page_records_total", "Records given to other nodes in pages.")?,
            page_bytes: self
                .counter("atoll_page_bytes_total", "Bytes of records given to other nodes.")?,
            page_unreadable: self.counter(
                "atoll_page_unreadable_total",
                "Records left out of pages because they were unreadable.",
            )?,
            dropped: self.counter(
                "atoll_records_dropped_total",
                "Records dropped with partitions given up.",
            )?,
            reaped: reaped.with_label_values(&["removed"]),
            truncated: reaped.with_label_values(&["truncated"]),
            reap_changed: reaped.with_label_values(&["changed"]),
        })
    }

    pub(super) fn slices(&self) -> Result<SliceMetrics, MetricsError> {
        const KIND: &[&str] = &["kind"];
        let granted = self.counters(
            "atoll_slices_granted_total",
            "Slices granted to background work.",
            KIND,
        )?;
        let refused = self.counters(
            "atoll_slices_refused_total",
            "Background work refused a slice.",
            &["kind", "reason"],
        )?;
        let moves = self.counters(
            "atoll_slices_changes_total",
            "Decisions of the controller of background work.",
            &["to"],
        )?;
        Ok(SliceMetrics {
            slices: self.gauge("atoll_slices", "Slices of background work there are now.")?,
            slices_max: self
                .gauge("atoll_slices_max", "Slices of background work there may be at most.")?,
            in_use: self.gauge("atoll_slices_in_use", "Slices of background work in use.")?,
            waiting: self
                .gauge("atoll_slices_waiting", "Background work that waits for a slice.")?,
            wait_seconds: self.histogram(
                "atoll_slices_wait_seconds",
                "From the request of a slice to its grant.",
                &LATENCY_BUCKETS,
            )?,
            kinds: Kind::ALL.iter().map(|kind| of_kind(&granted, &refused, *kind)).collect(),
            foreground_p99_seconds: self.seconds(
                "atoll_slices_foreground_p99_seconds",
                "Foreground p99 of the last minute, as the controller sees it.",
            )?,
            store_p99_seconds: self.seconds(
                "atoll_slices_store_p99_seconds",
                "Commit p99 of the last minute, as the controller sees it.",
            )?,
            failures: self.gauge(
                "atoll_slices_failures",
                "Failures of the last minute, as the controller sees them.",
            )?,
            queue_wait_seconds: self.seconds(
                "atoll_slices_queue_wait_seconds",
                "Longest wait for a writer in the last minute, as the controller sees it.",
            )?,
            raised: moves.with_label_values(&["more"]),
            lowered: moves.with_label_values(&["fewer"]),
        })
    }
}

fn of_kind(granted: &IntCounterVec, refused: &IntCounterVec, kind: Kind) -> KindMetrics {
    KindMetrics {
        granted: granted.with_label_values(&[kind.as_str()]),
        refused_full: refused.with_label_values(&[kind.as_str(), "full"]),
        refused_late: refused.with_label_values(&[kind.as_str(), "late"]),
    }
}
