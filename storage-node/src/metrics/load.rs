//! The metrics of this node's share of the load: what the router compares for `/v1/cluster/load`, for
//! whoever compares it over time.

use dynamo_core::limits::LOAD_WINDOWS_S;
use dynamo_core::wire::load::LoadWindow;
use prometheus::{IntGauge, IntGaugeVec};
use service_kit::metrics::MetricsError;

use super::Make;

/// The share of the load.
#[derive(Debug, Clone)]
pub struct LoadMetrics {
    operations: IntGaugeVec,
    weight: IntGauge,
}

impl LoadMetrics {
    /// Shows the windows of now, and the weight that this node's fair share follows from; without one
    /// it is no member.
    pub fn show(&self, windows: &[LoadWindow], weight: Option<u32>) {
        for window in windows {
            let operations = i64::try_from(window.operations()).unwrap_or(i64::MAX);
            let label = window.window_s.to_string();
            self.operations.with_label_values(&[label.as_str()]).set(operations);
        }
        self.weight.set(i64::from(weight.unwrap_or(0)));
    }
}

impl Make<'_> {
    pub(super) fn load(&self) -> Result<LoadMetrics, MetricsError> {
        let operations = self.gauges(
            "atoll_load_operations",
            "Operations on this node's replicas within the window: requests that it coordinated, and \
             those of other coordinators.",
            &["window_s"],
        )?;
        for window_s in LOAD_WINDOWS_S {
            operations.with_label_values(&[window_s.to_string().as_str()]);
        }
        let weight = self.gauge(
            "atoll_load_weight",
            "Weight of this node in the ring: its fair share of the load is its part of all weights; 0 \
             where it is no member.",
        )?;
        Ok(LoadMetrics { operations, weight })
    }
}
