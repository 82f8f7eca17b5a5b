//! A named background job that runs again and again: after an interval with jitter, or at once
//! when triggered. At most one run at a time; triggers during a run cause one more, not many. A
//! failing or panicking run is logged and counted, and the next one comes as if nothing happened.

use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, Opts, Registry,
};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::metrics::{LATENCY_BUCKETS, MetricsError};
use crate::rng::{OsEntropy, jittered};
use crate::shutdown::Shutdown;
use crate::time::Clock;

/// When a job runs.
#[derive(Debug, Clone)]
pub struct WorkerSpec {
    /// Its name in logs and metrics.
    pub name: &'static str,
    /// Time from the end of a run to the start of the next.
    pub interval: Duration,
    /// Share of the interval by which it varies, in percent.
    pub jitter_percent: u32,
    /// Whether the first run comes at once instead of after an interval.
    pub run_at_start: bool,
}

/// Metrics of all jobs of a process.
#[derive(Debug, Clone)]
pub struct WorkerMetrics {
    runs: IntCounterVec,
    seconds: HistogramVec,
}

impl WorkerMetrics {
    /// Registers them.
    ///
    /// # Errors
    /// When they are registered already.
    pub fn register(registry: &Registry) -> Result<Self, MetricsError> {
        let runs = IntCounterVec::new(
            Opts::new("atoll_worker_runs_total", "Runs of background jobs by how they ended."),
            &["worker", "result"],
        )?;
        let seconds = HistogramVec::new(
            HistogramOpts::new("atoll_worker_run_seconds", "Duration of runs of background jobs.")
                .buckets(LATENCY_BUCKETS.to_vec()),
            &["worker"],
        )?;
        registry.register(Box::new(runs.clone()))?;
        registry.register(Box::new(seconds.clone()))?;
        Ok(Self { runs, seconds })
    }

    fn of(&self, name: &str) -> JobMetrics {
        let runs = |result: &str| self.runs.with_label_values(&[name, result]);
        JobMetrics {
            ok: runs("ok"),
            failed: runs("failed"),
            panicked: runs("panicked"),
            seconds: self.seconds.with_label_values(&[name]),
        }
    }
}

struct JobMetrics {
    ok: IntCounter,
    failed: IntCounter,
    panicked: IntCounter,
    seconds: Histogram,
}

/// A running job.
#[derive(Debug)]
pub struct Worker {
    trigger: Trigger,
    task: JoinHandle<()>,
    shutdown: Shutdown,
}

/// Asks a job for a run, from anywhere.
#[derive(Debug, Clone, Default)]
pub struct Trigger(Arc<Notify>);

impl Trigger {
    /// Asks for a run now, or right after the one in progress.
    pub fn fire(&self) {
        self.0.notify_one();
    }

    /// Returns when a run is asked for; at once where one was asked for since the last return.
    pub(crate) async fn fired(&self) {
        self.0.notified().await;
    }
}

impl Worker {
    /// Starts `job` until `shutdown` is requested. Must be called inside the runtime.
    pub fn spawn<J, F, E>(
        spec: WorkerSpec,
        clock: Clock,
        metrics: &WorkerMetrics,
        shutdown: &Shutdown,
        job: J,
    ) -> Self
    where
        J: FnMut() -> F + Send + 'static,
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Display + Send + 'static,
    {
        let trigger = Trigger::default();
        let shutdown = shutdown.child();
        let metrics = metrics.of(spec.name);
        let task = tokio::spawn(run(spec, clock, metrics, shutdown.clone(), trigger.clone(), job));
        Self { trigger, task, shutdown }
    }

    /// Asks for a run now, or right after the one in progress.
    pub fn trigger(&self) {
        self.trigger.fire();
    }

    /// A handle that asks for runs.
    #[must_use]
    pub fn trigger_handle(&self) -> Trigger {
        self.trigger.clone()
    }

    /// Stops this job and waits for the run in progress to be given up.
    pub async fn stop(self) {
        self.shutdown.request();
        if let Err(error) = self.task.await {
            tracing::error!(%error, "a background job's loop ended abnormally");
        }
    }
}

async fn run<J, F, E>(
    spec: WorkerSpec,
    clock: Clock,
    metrics: JobMetrics,
    shutdown: Shutdown,
    trigger: Trigger,
    mut job: J,
) where
    J: FnMut() -> F + Send + 'static,
    F: Future<Output = Result<(), E>> + Send + 'static,
    E: Display + Send + 'static,
{
    let mut at_once = spec.run_at_start;
    loop {
        if !std::mem::take(&mut at_once) {
            let pause = jittered(spec.interval, spec.jitter_percent, &mut OsEntropy);
            tokio::select! {
                () = shutdown.requested() => return,
                () = trigger.fired() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
        let started = clock.mono();
        // A task of its own, so that a panic ends the run and not the job.
        let mut running = tokio::spawn(job());
        let ended = tokio::select! {
            ended = &mut running => ended,
            () = shutdown.requested() => {
                running.abort();
                // Waits until the run is really given up; how it ended does not matter any more.
                drop(running.await);
                return;
            }
        };
        metrics.seconds.observe(clock.mono().since(started).as_secs_f64());
        match ended {
            Ok(Ok(())) => metrics.ok.inc(),
            Ok(Err(error)) => {
                metrics.failed.inc();
                tracing::warn!(worker = spec.name, %error, "a background job failed");
            }
            Err(error) => {
                metrics.panicked.inc();
                tracing::error!(worker = spec.name, %error, "a background job panicked");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use tokio::sync::mpsc;

    use super::*;

    fn spec(run_at_start: bool) -> WorkerSpec {
        let interval = Duration::from_secs(3600);
        WorkerSpec { name: "job", interval, jitter_percent: 20, run_at_start }
    }

    #[tokio::test]
    async fn runs_again_after_failure_and_panic_and_stops() {
        let metrics = WorkerMetrics::register(&Registry::new()).unwrap();
        let shutdown = Shutdown::new();
        let (sender, mut ran) = mpsc::channel(16);
        let count = Arc::new(AtomicU32::new(0));
        let worker = Worker::spawn(spec(true), Clock::system(), &metrics, &shutdown, move || {
            let (sender, count) = (sender.clone(), Arc::clone(&count));
            async move {
                let run = count.fetch_add(1, Ordering::Relaxed);
                sender.send(run).await.map_err(|e| e.to_string())?;
                match run {
                    1 => Err("expected".to_owned()),
                    2 => panic!("expected"),
                    _ => Ok(()),
                }
            }
        });
        for run in 0..4 {
            assert_eq!(ran.recv().await, Some(run));
            worker.trigger();
        }
        assert_eq!(ran.recv().await, Some(4));
        worker.stop().await;
        assert_eq!(ran.recv().await, None, "the job is gone");
        assert!(!shutdown.is_requested());
        let of = |result| metrics.runs.with_label_values(&["job", result]).get();
        assert_eq!((of("failed"), of("panicked")), (1, 1));
    }

    #[tokio::test]
    async fn a_run_that_hangs_does_not_hold_up_the_stop() {
        let metrics = WorkerMetrics::register(&Registry::new()).unwrap();
        let shutdown = Shutdown::new();
        let (sender, mut ran) = mpsc::channel::<()>(1);
        let worker = Worker::spawn(spec(false), Clock::system(), &metrics, &shutdown, move || {
            let sender = sender.clone();
            async move {
                sender.send(()).await.map_err(|e| e.to_string())?;
                std::future::pending::<Result<(), String>>().await
            }
        });
        worker.trigger_handle().fire();
        ran.recv().await.unwrap();
        shutdown.request();
        worker.stop().await;
    }
}
