//! The metrics of the disk under the data directory.

use prometheus::{IntCounter, IntGauge};
use service_kit::metrics::MetricsError;

use super::Make;

/// The room on the disk.
#[derive(Debug, Clone)]
pub struct SpaceMetrics {
    /// Bytes that may still be written.
    pub free_bytes: IntGauge,
    /// Bytes set apart for deletes on a full disk; 0 while they are in use.
    pub reserve_bytes: IntGauge,
    /// Writes that found no space.
    pub ran_out: IntCounter,
    /// Damaged files that were set aside and are still there.
    pub set_aside: IntGauge,
}

impl Make<'_> {
    pub(super) fn space(&self) -> Result<SpaceMetrics, MetricsError> {
        Ok(SpaceMetrics {
            free_bytes: self.gauge(
                "atoll_store_free_bytes",
                "Bytes free on the disk of the data directory, the reserve not counted.",
            )?,
            reserve_bytes: self.gauge(
                "atoll_store_reserve_bytes",
                "Bytes set apart for deletes on a full disk; 0 while they are in use.",
            )?,
            ran_out: self
                .counter("atoll_store_ran_out_total", "Writes that found no space on the disk.")?,
            set_aside: self.gauge(
                "atoll_store_set_aside_files",
                "Damaged files that were set aside and are still there.",
            )?,
        })
    }
}
