//! What operators see of the router itself. Rates, durations and sizes by route come from
//! `service_kit::metrics::HttpMetrics`, calls to peers from its peer client.

use dynamo_core::routing::ChoiceReason;
use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry};
use service_kit::http::error::Problem;
use service_kit::metrics::{COUNT_BUCKETS, LATENCY_BUCKETS, MetricsError, SIZE_BUCKETS};

/// The router's metrics, children looked up once.
#[derive(Debug, Clone)]
pub struct RouterMetrics {
    /// Object requests that went to a coordinator: one forward each, whatever the retries.
    pub forwards: IntCounter,
    /// Attempts beyond the first of a request, because an earlier one had failed.
    pub retries: IntCounter,
    /// Attempts beyond the first of a request, because an earlier one was late.
    pub hedges: IntCounter,
    /// Hedges whose answer was the one that counted.
    pub hedges_won: IntCounter,
    /// Hedges that the budget did not allow.
    pub hedges_denied: IntCounter,
    /// Answers that said that our ring is old.
    pub not_owner: IntCounter,
    /// Time from the choice of a coordinator to its answer.
    pub coordination_seconds: Histogram,
    /// Siblings of each read that found any.
    pub siblings: Histogram,
    /// Bytes of values that were written.
    pub value_bytes_in: Histogram,
    /// Bytes of values that were read.
    pub value_bytes_out: Histogram,
    /// Bytes of request bodies in memory.
    pub bytes_in_flight: IntGauge,
    choices: [IntCounter; ChoiceReason::ALL.len()],
    refusals: IntCounterVec,
}

impl RouterMetrics {
    /// Registers them.
    ///
    /// # Errors
    /// When they are registered already.
    pub fn register(registry: &Registry) -> Result<Self, MetricsError> {
        let counter = |name: &str, help: &str| counter(registry, name, help);
        let histogram =
            |name: &str, help: &str, buckets: &[f64]| histogram(registry, name, help, buckets);
        let choices = counters(
            registry,
            "atoll_router_coordinator_choices_total",
            "Requests by why their first coordinator was chosen.",
            &["reason"],
        )?;
        let bytes_in_flight = IntGauge::new(
            "atoll_router_body_bytes_in_flight",
            "Bytes of request bodies that are in memory.",
        )?;
        registry.register(Box::new(bytes_in_flight.clone()))?;
        Ok(Self {
            forwards: counter(
                "atoll_router_forwards_total",
                "Object requests that were forwarded to a coordinator; each is forwarded once.",
            )?,
            retries: counter(
                "atoll_router_retries_total",
                "Requests sent to a further coordinator because one had failed.",
            )?,
            hedges: counter(
                "atoll_router_hedges_total",
                "Requests sent to a further coordinator because one was late.",
            )?,
            hedges_won: counter(
                "atoll_router_hedges_won_total",
                "Hedges whose answer came first.",
            )?,
            hedges_denied: counter(
                "atoll_router_hedges_denied_total",
                "Hedges that the hedge budget did not allow.",
            )?,
            not_owner: counter(
                "atoll_router_not_owner_total",
                "Answers of storage nodes that are no replica of the key under their ring.",
            )?,
            coordination_seconds: histogram(
                "atoll_router_coordination_seconds",
                "Time from the choice of a coordinator to its answer.",
                &LATENCY_BUCKETS,
            )?,
            siblings: histogram(
                "atoll_router_siblings",
                "Versions that reads returned.",
                &COUNT_BUCKETS,
            )?,
            value_bytes_in: histogram(
                "atoll_router_value_bytes_in",
                "Bytes of the values that puts carried.",
                &SIZE_BUCKETS,
            )?,
            value_bytes_out: histogram(
                "atoll_router_value_bytes_out",
                "Bytes of the values that reads returned.",
                &SIZE_BUCKETS,
            )?,
            bytes_in_flight,
            choices: ChoiceReason::ALL.map(|reason| choices.with_label_values(&[reason.as_str()])),
            refusals: counters(
                registry,
                "atoll_router_refusals_total",
                "Object requests that were refused, by code, and whether a write may have happened.",
                &["code", "outcome"],
            )?,
        })
    }

    /// Counts why a first coordinator was chosen.
    pub fn chosen(&self, reason: ChoiceReason) {
        let all = ChoiceReason::ALL.iter().zip(&self.choices);
        for (_, counter) in all.filter(|(known, _)| **known == reason) {
            counter.inc();
        }
    }

    /// Counts a refusal.
    pub fn refused(&self, problem: &Problem) {
        let labels = [problem.code().as_str(), problem.known_outcome().as_str()];
        self.refusals.with_label_values(&labels).inc();
    }
}

fn counter(registry: &Registry, name: &str, help: &str) -> Result<IntCounter, MetricsError> {
    let counter = IntCounter::new(name, help)?;
    registry.register(Box::new(counter.clone()))?;
    Ok(counter)
}

fn counters(
    registry: &Registry,
    name: &str,
    help: &str,
    labels: &[&str],
) -> Result<IntCounterVec, MetricsError> {
    let counters = IntCounterVec::new(Opts::new(name, help), labels)?;
    registry.register(Box::new(counters.clone()))?;
    Ok(counters)
}

fn histogram(
    registry: &Registry,
    name: &str,
    help: &str,
    buckets: &[f64],
) -> Result<Histogram, MetricsError> {
    let histogram = Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets.to_vec()))?;
    registry.register(Box::new(histogram.clone()))?;
    Ok(histogram)
}
