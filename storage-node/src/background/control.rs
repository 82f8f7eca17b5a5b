//! The feedback loop of background work: once a second a sample of what requests experience goes to
//! the controller, and its decision to the slices.

use std::sync::Arc;
use std::time::Duration;

use dynamo_core::admission::{Sample, SliceController};
use service_kit::shutdown::Shutdown;
use service_kit::window::{Growth, Window};

use crate::metrics::{Metrics, RequestEnd, RequestMetrics};
use crate::node::Node;

/// Pause between two samples.
const TICK: Duration = Duration::from_secs(1);

/// What a sample looks back on: a minute.
const TICKS: usize = 60;

/// What the samples are made of.
struct Senses {
    foreground: Window,
    commits: Window,
    waits: Window,
    failures: Growth,
}

impl Senses {
    fn new(metrics: &Metrics) -> Self {
        let coordinator = &metrics.coordinator;
        let ends = [RequestEnd::Ok, RequestEnd::Unavailable, RequestEnd::Deadline];
        let of = |kind: &RequestMetrics| ends.map(|end| kind.of(end).clone());
        let kinds = [&coordinator.get, &coordinator.put, &coordinator.delete];
        let files = [&metrics.records_file, &metrics.hints_file];
        Self {
            foreground: Window::new(kinds.into_iter().flat_map(of).collect(), TICKS),
            commits: Window::new(files.map(|file| file.commit_seconds.clone()).to_vec(), TICKS),
            waits: Window::new(files.map(|file| file.queue_wait_seconds.clone()).to_vec(), TICKS),
            failures: Growth::new(TICKS),
        }
    }

    fn sample(&mut self, metrics: &Metrics) -> Sample {
        self.foreground.tick();
        self.commits.tick();
        self.waits.tick();
        let files = [&metrics.records_file, &metrics.hints_file];
        let commits: u64 = files.iter().map(|file| file.failures.get() + file.rejected.get()).sum();
        let failures = commits + metrics.store.read_failures.get();
        Sample {
            foreground_p99_ms: ms(&self.foreground, 990),
            store_p99_ms: ms(&self.commits, 990),
            failures: self.failures.tick(failures),
            queue_wait_ms: ms(&self.waits, 1000).unwrap_or(0),
        }
    }
}

/// A quantile in milliseconds, rounded up.
fn ms(window: &Window, milli: u64) -> Option<u64> {
    let micros = window.quantile(milli)?.as_micros().div_ceil(1000);
    Some(u64::try_from(micros).unwrap_or(u64::MAX))
}

/// Runs the loop until the stop.
pub async fn run(node: Arc<Node>, mut controller: SliceController, shutdown: Shutdown) {
    let mut senses = Senses::new(&node.metrics);
    while shutdown.unless_requested(tokio::time::sleep(TICK)).await.is_some() {
        let sample = senses.sample(&node.metrics);
        let before = controller.slices();
        let slices = controller.step(node.clock.mono(), &sample);
        show(&node.metrics, &sample);
        if slices == before {
            continue;
        }
        let moves = &node.metrics.slices;
        (if slices > before { &moves.raised } else { &moves.lowered }).inc();
        tracing::debug!(before, slices, ?sample, "the slices of background work changed");
        node.slices.set(slices);
    }
}

fn show(metrics: &Metrics, sample: &Sample) {
    let seconds = |ms: u64| Duration::from_millis(ms).as_secs_f64();
    let slices = &metrics.slices;
    slices.foreground_p99_seconds.set(seconds(sample.foreground_p99_ms.unwrap_or(0)));
    slices.store_p99_seconds.set(seconds(sample.store_p99_ms.unwrap_or(0)));
    slices.failures.set(i64::try_from(sample.failures).unwrap_or(i64::MAX));
    slices.queue_wait_seconds.set(seconds(sample.queue_wait_ms));
}
