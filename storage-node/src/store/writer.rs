//! The one writer of a file: takes everything that waits, applies it in one transaction, commits,
//! and only then answers (group commit). The commit in flight gathers the next batch, so there is
//! no lingering.
//!
//! A batch of buffered jobs is committed to memory and synced soon after, at the latest
//! [`BUFFER_AGE_MAX`] later or with the [`BUFFER_JOBS_MAX`]th such job.
//!
//! After any failure the file takes no writes until it was opened anew: a sync that failed may
//! have thrown the pages away, so trying it again would acknowledge what is lost. Reads go on.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use dynamo_core::time::Mono;
use service_kit::time::Clock;
use tokio::sync::watch;

use super::engine::{Commit, Engine, Tables};
use super::error::{EngineError, StoreError};
use super::queue::{Queue, Rejected, Taken};
use crate::limits::{
    BUFFER_AGE_MAX, BUFFER_JOBS_MAX, COMMIT_BYTES_MAX, COMMIT_JOBS_MAX, DAMAGED_COMMITS_MAX,
    REOPEN_BACKOFF_MAX, REOPEN_BACKOFF_MIN, REOPEN_CALM, STORE_QUEUE_BYTES_MAX, STORE_QUEUE_MAX,
};
use crate::metrics::FileMetrics;

/// Whether a file takes writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum StoreState {
    /// Reads and writes.
    Healthy = 0,
    /// A write failed: reads go on, writes are refused until the file was opened anew.
    ReadOnly = 1,
    /// The file is being opened anew: neither reads nor writes.
    Reopening = 2,
    /// The file is damaged beyond reading; the next start sets it aside and begins empty.
    Damaged = 3,
}

impl StoreState {
    /// Its name in answers and logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::ReadOnly => "read_only",
            Self::Reopening => "reopening",
            Self::Damaged => "damaged",
        }
    }
}

/// One change of the file, from the request to the answer.
pub(crate) trait WriteJob: Send {
    /// Bytes it holds in memory, for the queue's bound.
    fn bytes(&self) -> usize;

    /// Whether its answer must wait for the disk.
    fn is_durable(&self) -> bool;

    /// When nobody waits for it any more.
    fn deadline(&self) -> Option<Mono> {
        None
    }

    /// Reads and writes the tables. What concerns this job alone (a refusal, an unreadable record)
    /// it remembers for [`Self::finish`]; an error gives up the whole batch.
    fn apply(&mut self, tables: &mut dyn Tables) -> Result<(), EngineError>;

    /// Answers, after the commit or instead of it.
    fn finish(self: Box<Self>, committed: Result<(), StoreError>);
}

/// What is done when a commit has failed, before anyone is told.
pub(crate) type OnFailure = Box<dyn Fn() + Send>;

/// The handle on a writer thread.
pub(crate) struct Writer {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer").field("state", &self.state()).finish_non_exhaustive()
    }
}

struct Shared {
    queue: Queue<Box<dyn WriteJob>>,
    state: AtomicU8,
    watch: watch::Sender<StoreState>,
    /// Whether a check is on its way.
    checking: AtomicBool,
    metrics: FileMetrics,
}

/// A commit of nothing.
struct CheckJob(Arc<Shared>);

impl WriteJob for CheckJob {
    fn bytes(&self) -> usize {
        0
    }

    fn is_durable(&self) -> bool {
        true
    }

    fn apply(&mut self, _: &mut dyn Tables) -> Result<(), EngineError> {
        Ok(())
    }

    fn finish(self: Box<Self>, _: Result<(), StoreError>) {
        self.0.checking.store(false, Ordering::Release);
    }
}

impl Shared {
    fn set_state(&self, state: StoreState) {
        self.state.store(state as u8, Ordering::Release);
        self.metrics.state.set(i64::from(state as u8));
        self.watch.send_replace(state);
    }
}

impl Writer {
    /// Starts the writer of `engine`.
    ///
    /// # Errors
    /// When the operating system gives no thread.
    pub(crate) fn start(
        name: &str,
        engine: Arc<dyn Engine>,
        clock: Clock,
        metrics: FileMetrics,
        on_failure: OnFailure,
    ) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            queue: Queue::new(STORE_QUEUE_MAX, STORE_QUEUE_BYTES_MAX),
            state: AtomicU8::new(StoreState::Healthy as u8),
            watch: watch::channel(StoreState::Healthy).0,
            checking: AtomicBool::new(false),
            metrics,
        });
        let run = Loop {
            shared: Arc::clone(&shared),
            engine,
            clock,
            on_failure,
            unsynced: 0,
            unsynced_since: None,
            backoff: REOPEN_BACKOFF_MIN,
            healthy_since: Mono::default(),
            damaged: 0,
        };
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || run.run())?;
        Ok(Self { shared, thread: Mutex::new(Some(thread)) })
    }

    /// Queues a job; one that cannot be queued is finished at once, with the reason.
    pub(crate) fn submit(&self, job: Box<dyn WriteJob>) {
        if self.state() != StoreState::Healthy {
            job.finish(Err(StoreError::Unavailable));
            return;
        }
        let bytes = job.bytes();
        if let Err((job, rejected)) = self.shared.queue.push(job, bytes) {
            job.finish(Err(match rejected {
                Rejected::Full => {
                    self.shared.metrics.rejected.inc();
                    StoreError::Overloaded
                }
                Rejected::Closed => StoreError::Closed,
            }));
        }
    }

    /// Asks for a commit of nothing, since a read has failed: the engine answers nothing more after
    /// some failures until the file is opened anew, and only a commit finds that out.
    pub(crate) fn check(&self) {
        if !self.shared.checking.swap(true, Ordering::AcqRel) {
            self.submit(Box::new(CheckJob(Arc::clone(&self.shared))));
        }
    }

    /// Whether the file takes writes now.
    pub(crate) fn state(&self) -> StoreState {
        match self.shared.state.load(Ordering::Acquire) {
            0 => StoreState::Healthy,
            1 => StoreState::ReadOnly,
            2 => StoreState::Reopening,
            _ => StoreState::Damaged,
        }
    }

    /// Changes of the state.
    pub(crate) fn watch(&self) -> watch::Receiver<StoreState> {
        self.shared.watch.subscribe()
    }

    /// Jobs waiting.
    pub(crate) fn queue_len(&self) -> usize {
        self.shared.queue.len()
    }

    /// Finishes what is queued, syncs, and ends the thread. True where everything that was ever
    /// acknowledged is on disk.
    pub(crate) fn stop(&self) -> bool {
        self.shared.queue.close();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        let joined = thread.is_none_or(|thread| thread.join().is_ok());
        joined && self.state() == StoreState::Healthy
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The writer thread.
struct Loop {
    shared: Arc<Shared>,
    engine: Arc<dyn Engine>,
    clock: Clock,
    on_failure: OnFailure,
    /// Jobs that are committed to memory only.
    unsynced: usize,
    unsynced_since: Option<Mono>,
    backoff: Duration,
    healthy_since: Mono,
    /// Commits that met a damaged page.
    damaged: u32,
}

impl Loop {
    fn run(mut self) {
        loop {
            let wait = self
                .unsynced_since
                .map(|since| BUFFER_AGE_MAX.saturating_sub(self.clock.mono().since(since)));
            let overdue = wait.is_some_and(|wait| wait.is_zero());
            if overdue {
                self.commit(Vec::new());
                continue;
            }
            match self.shared.queue.take(COMMIT_JOBS_MAX, COMMIT_BYTES_MAX, wait) {
                Taken::Items(jobs) => self.commit(jobs),
                Taken::Nothing => self.commit(Vec::new()),
                Taken::Closed => break,
            }
        }
        if self.unsynced > 0 {
            self.commit(Vec::new());
        }
    }

    /// Commits one batch and answers it. An empty batch syncs what is in memory only.
    fn commit(&mut self, jobs: Vec<Box<dyn WriteJob>>) {
        let metrics = &self.shared.metrics;
        metrics.queue_depth.set(i64::try_from(self.shared.queue.len()).unwrap_or(i64::MAX));
        let now = self.clock.mono();
        let (mut jobs, expired): (Vec<_>, Vec<_>) =
            jobs.into_iter().partition(|job| job.deadline().is_none_or(|at| at > now));
        for job in expired {
            job.finish(Err(StoreError::Expired));
        }
        if jobs.is_empty() && self.unsynced == 0 {
            return;
        }
        let buffered = self.unsynced + jobs.len();
        let durable = jobs.is_empty()
            || buffered >= BUFFER_JOBS_MAX
            || jobs.iter().any(|job| job.is_durable());
        let how = if durable { Commit::Durable } else { Commit::Buffered };
        let result = self
            .engine
            .transact(how, &mut |tables| jobs.iter_mut().try_for_each(|job| job.apply(tables)));
        metrics.batch_jobs.observe(jobs.len() as f64);
        metrics.commit_seconds.observe(self.clock.mono().since(now).as_secs_f64());
        match result {
            Ok(()) => {
                if durable {
                    (self.unsynced, self.unsynced_since) = (0, None);
                } else {
                    self.unsynced = buffered;
                    self.unsynced_since.get_or_insert(now);
                }
                jobs.into_iter().for_each(|job| job.finish(Ok(())));
            }
            Err(error) => self.fail(&error, jobs),
        }
    }

    /// The file failed: no write is acknowledged until it was opened anew.
    fn fail(&mut self, error: &EngineError, jobs: Vec<Box<dyn WriteJob>>) {
        tracing::error!(%error, jobs = jobs.len(), "a commit failed; the store takes no writes");
        self.shared.metrics.failures.inc();
        self.shared.set_state(StoreState::ReadOnly);
        // What was in memory only may be lost, and what was sent to replicas before this commit
        // may not be here: the epoch ends before anyone learns of it.
        (self.on_failure)();
        jobs.into_iter().for_each(|job| job.finish(Err(StoreError::CommitFailed)));
        (self.unsynced, self.unsynced_since) = (0, None);
        if self.clock.mono().since(self.healthy_since) > REOPEN_CALM {
            self.backoff = REOPEN_BACKOFF_MIN;
        }
        if matches!(error, EngineError::Damaged(_)) {
            self.damaged += 1;
        }
        if self.damaged >= DAMAGED_COMMITS_MAX {
            return self.give_up();
        }
        while !self.wait_and_reopen() {}
    }

    /// The file is damaged: nothing is written to it any more.
    fn give_up(&self) {
        self.shared.set_state(StoreState::Damaged);
        loop {
            match self.shared.queue.take(COMMIT_JOBS_MAX, COMMIT_BYTES_MAX, None) {
                Taken::Items(jobs) => {
                    jobs.into_iter().for_each(|job| job.finish(Err(StoreError::Unavailable)));
                }
                Taken::Nothing => {}
                Taken::Closed => return,
            }
        }
    }

    /// Waits, refusing what is still queued, and tries to open the file. True where the writer may
    /// go on, also in order to stop.
    fn wait_and_reopen(&mut self) -> bool {
        let until = self.clock.mono().plus(self.backoff);
        self.backoff = (self.backoff * 2).min(REOPEN_BACKOFF_MAX);
        loop {
            let left = self.clock.remaining(until);
            match self.shared.queue.take(COMMIT_JOBS_MAX, COMMIT_BYTES_MAX, Some(left)) {
                Taken::Items(jobs) => {
                    jobs.into_iter().for_each(|job| job.finish(Err(StoreError::Unavailable)));
                }
                Taken::Nothing => {}
                Taken::Closed => return true,
            }
            if self.clock.remaining(until).is_zero() {
                break;
            }
        }
        self.shared.set_state(StoreState::Reopening);
        // Opening writes and syncs the tables' roots, so an open file has taken a write.
        match self.engine.reopen() {
            Ok(()) => {
                tracing::warn!("the store was opened anew and takes writes again");
                self.healthy_since = self.clock.mono();
                self.shared.set_state(StoreState::Healthy);
                true
            }
            Err(error) => {
                tracing::error!(%error, "the store could not be opened anew");
                if matches!(error, EngineError::Damaged(_) | EngineError::Format(_)) {
                    self.give_up();
                    return true;
                }
                self.shared.set_state(StoreState::ReadOnly);
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use bytes::Bytes;
    use prometheus::Registry;

    use super::super::engine::{KeyRange, Rows, TableId, Work};
    use super::*;
    use crate::metrics::Metrics;

    /// A file that opens, and whose every commit meets a damaged page.
    #[derive(Debug)]
    struct DamagedPage;

    impl Engine for DamagedPage {
        fn get(&self, _: TableId, _: &[u8]) -> Result<Option<Bytes>, EngineError> {
            Ok(None)
        }

        fn page(&self, _: TableId, _: KeyRange, _: usize, _: usize) -> Result<Rows, EngineError> {
            Ok(Rows::new())
        }

        fn transact(&self, _: Commit, _: &mut Work<'_>) -> Result<(), EngineError> {
            Err(EngineError::Damaged("page".to_owned()))
        }

        fn reopen(&self) -> Result<(), EngineError> {
            Ok(())
        }

        fn rows(&self, _: TableId) -> Result<u64, EngineError> {
            Ok(0)
        }

        fn close(&self) {}
    }

    #[test]
    fn a_file_that_stays_damaged_is_given_up() {
        let metrics = Metrics::register(&Registry::new()).unwrap().records_file;
        let (clock, failures) = (Clock::system(), metrics.failures.clone());
        let nothing = Box::new(|| {});
        let writer = Writer::start("test", Arc::new(DamagedPage), clock, metrics, nothing).unwrap();
        let deadline = Instant::now() + Duration::from_secs(30);
        while writer.state() != StoreState::Damaged {
            assert!(Instant::now() < deadline, "never given up");
            writer.check();
            std::thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(failures.get(), u64::from(DAMAGED_COMMITS_MAX));
        assert!(!writer.stop(), "not everything is known to be on disk");
    }
}
