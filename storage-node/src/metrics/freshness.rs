//! The metrics of how fresh reads are. Labels are closed: N up to its limit, few quorums, few times.

use std::time::Duration;

use prometheus::{GaugeVec, IntGaugeVec, Opts};
use service_kit::metrics::MetricsError;

use super::Make;

/// The estimate that was made last.
#[derive(Debug, Clone)]
pub struct FreshnessMetrics {
    ratio: GaugeVec,
    after_seconds: GaugeVec,
    samples: IntGaugeVec,
}

impl FreshnessMetrics {
    /// The probability that a read `after_ms` after the acknowledgement is fresh.
    pub fn ratio(&self, n: usize, r: u8, w: u8, after_ms: u64, ratio: f64) {
        let [n, r, w, after] = [n.to_string(), r.to_string(), w.to_string(), after_ms.to_string()];
        self.ratio.with_label_values(&[&n, &r, &w, &after]).set(ratio);
    }

    /// The time after which 99.9 % of the reads are fresh; none where so many never were.
    pub fn time(&self, n: usize, r: u8, w: u8, time: Option<Duration>) {
        let labels = [n.to_string(), r.to_string(), w.to_string()];
        let seconds = time.map_or(f64::INFINITY, |time| time.as_secs_f64());
        self.after_seconds.with_label_values(&labels).set(seconds);
    }

    /// What the estimate rests on.
    pub fn samples(&self, n: usize, puts: usize, gets: usize) {
        for (kind, count) in [("put", puts), ("get", gets)] {
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            self.samples.with_label_values(&[n.to_string().as_str(), kind]).set(count);
        }
    }
}

impl Make<'_> {
    pub(super) fn freshness(&self) -> Result<FreshnessMetrics, MetricsError> {
        let gauges = |name: &str, help: &str, labels: &[&str]| {
            let gauges = GaugeVec::new(Opts::new(name, help), labels)?;
            self.registry.register(Box::new(gauges.clone()))?;
            Ok::<_, MetricsError>(gauges)
        };
        Ok(FreshnessMetrics {
            ratio: gauges(
                "atoll_freshness_ratio",
                "Probability that a read so many milliseconds after the answer of a put sees it.",
                &["n", "r", "w", "after_ms"],
            )?,
            after_seconds: gauges(
                "atoll_freshness_after_seconds",
                "Time after the answer of a put from which on 99.9 % of the reads see it.",
                &["n", "r", "w"],
            )?,
            samples: self.gauges(
                "atoll_freshness_samples",
                "Requests that the last estimate of the freshness of reads rests on.",
                &["n", "operation"],
            )?,
        })
    }
}
