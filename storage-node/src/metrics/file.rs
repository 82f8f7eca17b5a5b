//! The metrics of a file and its writer, labelled by file.

use prometheus::{Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec};
use service_kit::metrics::{COUNT_BUCKETS, LATENCY_BUCKETS, MetricsError};

use super::Make;

/// One file and its writer.
#[derive(Debug, Clone)]
pub struct FileMetrics {
    /// Time of one commit, the sync included.
    pub commit_seconds: Histogram,
    /// Jobs in one commit.
    pub batch_jobs: Histogram,
    /// How long the oldest job of a batch had waited for the writer.
    pub queue_wait_seconds: Histogram,
    /// Jobs waiting when a batch was taken.
    pub queue_depth: IntGauge,
    /// Jobs refused because the queue was full.
    pub rejected: IntCounter,
    /// Commits that failed.
    pub failures: IntCounter,
    /// 0 healthy, 1 read-only, 2 reopening, 3 quarantined, 4 full.
    pub state: IntGauge,
    /// Times that the file was opened anew, or that it was tried.
    pub reopens: IntCounter,
    /// Times that the file was damaged and replaced by an empty one.
    pub quarantines: IntCounter,
    /// Jobs refused because the disk was full.
    pub refused_full: IntCounter,
}

/// The families that are labelled by file.
pub(super) struct FileFamilies {
    commit_seconds: HistogramVec,
    batch_jobs: HistogramVec,
    queue_wait_seconds: HistogramVec,
    queue_depth: IntGaugeVec,
    rejected: IntCounterVec,
    failures: IntCounterVec,
    state: IntGaugeVec,
    reopens: IntCounterVec,
    quarantines: IntCounterVec,
    refused_full: IntCounterVec,
}

impl FileFamilies {
    pub(super) fn register(make: &Make<'_>) -> Result<Self, MetricsError> {
        const FILE: &[&str] = &["file"];
        Ok(Self {
            commit_seconds: make.histograms(
                "atoll_store_commit_seconds",
                "Time of one group commit, the sync included.",
                &LATENCY_BUCKETS,
                FILE,
            )?,
            batch_jobs: make.histograms(
                "atoll_store_batch_jobs",
                "Writes that shared one commit.",
                &COUNT_BUCKETS,
                FILE,
            )?,
            queue_wait_seconds: make.histograms(
                "atoll_store_queue_wait_seconds",
                "Time that the oldest write of a batch had waited for the writer.",
                &LATENCY_BUCKETS,
                FILE,
            )?,
            queue_depth: make.gauges(
                "atoll_store_queue_depth",
                "Writes waiting for the writer of the file.",
                FILE,
            )?,
            rejected: make.counters(
                "atoll_store_rejected_total",
                "Writes refused because the queue was full.",
                FILE,
            )?,
            failures: make.counters(
                "atoll_store_commit_failures_total",
                "Commits that failed; the file takes no writes until it was opened anew.",
                FILE,
            )?,
            state: make.gauges(
                "atoll_store_state",
                "0 healthy, 1 read-only after a failure, 2 reopening, 3 quarantined, 4 disk full.",
                FILE,
            )?,
            reopens: make.counters(
                "atoll_store_reopens_total",
                "Times that the file was opened anew after a failure, or that it was tried.",
                FILE,
            )?,
            quarantines: make.counters(
                "atoll_store_quarantines_total",
                "Times that the file was damaged and replaced by an empty one.",
                FILE,
            )?,
            refused_full: make.counters(
                "atoll_store_refused_full_total",
                "Writes refused because the disk was full.",
                FILE,
            )?,
        })
    }

    pub(super) fn of(&self, file: &str) -> FileMetrics {
        let label = &[file];
        FileMetrics {
            commit_seconds: self.commit_seconds.with_label_values(label),
            batch_jobs: self.batch_jobs.with_label_values(label),
            queue_wait_seconds: self.queue_wait_seconds.with_label_values(label),
            queue_depth: self.queue_depth.with_label_values(label),
            rejected: self.rejected.with_label_values(label),
            failures: self.failures.with_label_values(label),
            state: self.state.with_label_values(label),
            reopens: self.reopens.with_label_values(label),
            quarantines: self.quarantines.with_label_values(label),
            refused_full: self.refused_full.with_label_values(label),
        }
    }
}
