//! The results of a run.

use std::fmt;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::options::Options;
use crate::processes::Usage;
use crate::workload::Operation;

/// Latencies are recorded in microseconds up to one minute; longer ones count as one minute.
const LATENCY_US_MAX: u64 = 60_000_000;

/// What one client, or all of them, saw.
#[derive(Debug, Clone)]
pub struct Tally {
    latency: [Histogram<u64>; 3],
    /// Gets that found a value.
    pub hits: u64,
    /// Gets that found none.
    pub misses: u64,
    /// Answers that showed more than one sibling.
    pub with_siblings: u64,
    /// Requests that failed, by status code; 0 for failures of the connection.
    pub errors: std::collections::BTreeMap<u16, u64>,
}

impl Default for Tally {
    fn default() -> Self {
        let histogram = || {
            Histogram::new_with_bounds(1, LATENCY_US_MAX, 3)
                .expect("the bounds and three digits are valid")
        };
        Self {
            latency: [histogram(), histogram(), histogram()],
            hits: 0,
            misses: 0,
            with_siblings: 0,
            errors: std::collections::BTreeMap::new(),
        }
    }
}

impl Tally {
    /// Records a completed operation.
    pub fn record(&mut self, operation: Operation, latency: Duration) {
        let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        self.latency[operation as usize].saturating_record(micros.clamp(1, LATENCY_US_MAX));
    }

    /// Records a failed operation.
    pub fn fail(&mut self, status: u16) {
        *self.errors.entry(status).or_default() += 1;
    }

    /// Adds what another client saw.
    pub fn add(&mut self, other: &Self) {
        for (mine, theirs) in self.latency.iter_mut().zip(&other.latency) {
            mine.add(theirs).expect("all histograms have the same bounds");
        }
        self.hits += other.hits;
        self.misses += other.misses;
        self.with_siblings += other.with_siblings;
        for (status, count) in &other.errors {
            *self.errors.entry(*status).or_default() += count;
        }
    }
}

/// Latency of one kind of operation.
#[derive(Debug, Clone, Serialize)]
pub struct Latency {
    /// The kind.
    pub operation: &'static str,
    /// Completed operations.
    pub count: u64,
    /// Mean in milliseconds.
    pub mean_ms: f64,
    /// Percentiles in milliseconds.
    pub p50_ms: f64,
    /// 90th.
    pub p90_ms: f64,
    /// 99th.
    pub p99_ms: f64,
    /// 99.9th.
    pub p999_ms: f64,
    /// The slowest.
    pub max_ms: f64,
}

/// What the server processes used.
#[derive(Debug, Clone, Serialize)]
pub struct Servers {
    /// Processes that were read at both ends of the run.
    pub processes: usize,
    /// CPU time per completed operation in microseconds.
    pub cpu_us_per_op: f64,
    /// Cores kept busy on average.
    pub cores: f64,
    /// Resident memory at the end in MiB.
    pub rss_mib: f64,
}

/// The results of a run.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Version of this form.
    pub format: u32,
    /// What was asked for.
    pub options: Options,
    /// Seconds measured.
    pub seconds: f64,
    /// Completed operations.
    pub operations: u64,
    /// Completed operations per second.
    pub ops_per_s: f64,
    /// Latency by kind of operation; kinds that did not occur are left out.
    pub latency: Vec<Latency>,
    /// Share of gets that found a value.
    pub hit_rate: Option<f64>,
    /// Answers that showed more than one sibling.
    pub with_siblings: u64,
    /// Failed requests by status code; 0 for failures of the connection.
    pub errors: std::collections::BTreeMap<u16, u64>,
    /// CPU and memory of the servers, where their process ids were given.
    pub servers: Option<Servers>,
}

impl Report {
    /// Puts the results together.
    #[must_use]
    pub fn new(
        options: &Options,
        tally: &Tally,
        elapsed: Duration,
        before: Usage,
        after: Usage,
    ) -> Self {
        let seconds = elapsed.as_secs_f64();
        let latency: Vec<Latency> = Operation::ALL
            .into_iter()
            .zip(&tally.latency)
            .filter(|(_, histogram)| !histogram.is_empty())
            .map(|(operation, histogram)| latency(operation, histogram))
            .collect();
        let operations: u64 = latency.iter().map(|l| l.count).sum();
        let done = operations.max(1) as f64;
        let cpu = after.cpu.saturating_sub(before.cpu).as_secs_f64();
        let servers = (after.processes > 0).then(|| Servers {
            processes: after.processes.min(before.processes),
            cpu_us_per_op: cpu * 1e6 / done,
            cores: cpu / seconds,
            rss_mib: after.rss_bytes as f64 / (1024.0 * 1024.0),
        });
        let gets = tally.hits + tally.misses;
        Self {
            format: 1,
            options: options.clone(),
            seconds,
            operations,
            ops_per_s: operations as f64 / seconds,
            latency,
            hit_rate: (gets > 0).then(|| tally.hits as f64 / gets as f64),
            with_siblings: tally.with_siblings,
            errors: tally.errors.clone(),
            servers,
        }
    }
}

fn latency(operation: Operation, histogram: &Histogram<u64>) -> Latency {
    let ms = |micros: u64| micros as f64 / 1000.0;
    Latency {
        operation: operation.name(),
        count: histogram.len(),
        mean_ms: histogram.mean() / 1000.0,
        p50_ms: ms(histogram.value_at_quantile(0.5)),
        p90_ms: ms(histogram.value_at_quantile(0.9)),
        p99_ms: ms(histogram.value_at_quantile(0.99)),
        p999_ms: ms(histogram.value_at_quantile(0.999)),
        max_ms: ms(histogram.max()),
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let options = &self.options;
        let kind = options.rate.map_or("closed loop".to_owned(), |r| format!("open loop {r}/s"));
        writeln!(
            f,
            "{kind}, {} clients, {}, {} keys, {} to {} bytes",
            options.clients,
            options.mix,
            options.keys,
            options.value_size.min,
            options.value_size.max
        )?;
        writeln!(
            f,
            "{} operations in {:.1} s: {:.0} op/s",
            self.operations, self.seconds, self.ops_per_s
        )?;
        writeln!(
            f,
            "{:<8}{:>10}{:>10}{:>10}{:>10}{:>10}{:>10}{:>10}",
            "ms", "count", "mean", "p50", "p90", "p99", "p99.9", "max"
        )?;
        for l in &self.latency {
            writeln!(
                f,
                "{:<8}{:>10}{:>10.3}{:>10.3}{:>10.3}{:>10.3}{:>10.3}{:>10.3}",
                l.operation, l.count, l.mean_ms, l.p50_ms, l.p90_ms, l.p99_ms, l.p999_ms, l.max_ms
            )?;
        }
        if let Some(rate) = self.hit_rate {
            writeln!(
                f,
                "hit rate {:.2} %, answers with siblings {}",
                rate * 100.0,
                self.with_siblings
            )?;
        }
        if let Some(servers) = &self.servers {
            writeln!(
                f,
                "servers: {} processes, {:.1} µs CPU per operation, {:.2} cores, {:.1} MiB resident",
                servers.processes, servers.cpu_us_per_op, servers.cores, servers.rss_mib
            )?;
        }
        let failed: u64 = self.errors.values().sum();
        write!(f, "errors {failed}")?;
        for (status, count) in &self.errors {
            let name = if *status == 0 { "connection".to_owned() } else { status.to_string() };
            write!(f, ", {name}: {count}")?;
        }
        Ok(())
    }
}
