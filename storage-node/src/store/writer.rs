//! The one writer of a file: takes everything that waits, applies it in one transaction, commits,
//! and only then answers (group commit). The commit in flight gathers the next batch. A sync costs
//! the same for one job as for many, so while several jobs come at a time the writer also waits a
//! little for as many as came together lately, at most [`COMMIT_GATHER_TIME`]. Where jobs come one
//! by one nothing waits.
//!
//! | module | what |
//! |---|---|
//! | `commits` | the thread: batches and commits |
//! | `recovery` | what follows a failure |
//! | `renewal` | replacing a damaged file by an empty one |
//!
//! A batch of buffered jobs is committed to memory and synced soon after, at the latest
//! [`BUFFER_AGE_MAX`] later or with the [`BUFFER_JOBS_MAX`]th such job.
//!
//! After any failure the file takes no writes until it was opened anew: a sync that failed may
//! have thrown the pages away, so trying it again would acknowledge what is lost. Reads go on.
//!
//! [`COMMIT_GATHER_TIME`]: crate::limits::COMMIT_GATHER_TIME
//! [`BUFFER_AGE_MAX`]: crate::limits::BUFFER_AGE_MAX
//! [`BUFFER_JOBS_MAX`]: crate::limits::BUFFER_JOBS_MAX

mod commits;
mod recovery;
mod renewal;
#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use dynamo_core::time::Mono;
use service_kit::time::Clock;
use tokio::sync::watch;

use self::commits::Loop;
use super::aside::Place;
use super::engine::{Engine, Tables};
use super::error::{EngineError, StoreError};
use super::queue::{Queue, Rejected};
use super::space::{Level, Space};
use crate::limits::{STORE_QUEUE_BYTES_MAX, STORE_QUEUE_MAX};
use crate::metrics::FileMetrics;

#[cfg(test)]
pub(crate) use self::renewal::RenewStep;
pub(crate) use self::renewal::{Doubt, Successor};
pub use super::state::StoreState;

/// One change of the file, from the request to the answer.
pub(crate) trait WriteJob: Send {
    /// Bytes it holds in memory, for the queue's bound.
    fn bytes(&self) -> usize;

    /// Whether its answer must wait for the disk.
    fn is_durable(&self) -> bool;

    /// Whether it adds values, for which a full disk has no room.
    fn adds_values(&self) -> bool {
        false
    }

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

/// What is written along with the jobs of a batch, in the same transaction.
pub(crate) trait Companion: Send {
    /// Every job of the batch is applied: the last writes of the transaction.
    fn seal(&mut self, tables: &mut dyn Tables) -> Result<(), EngineError>;

    /// The transaction is visible; or it failed, and it is not known what is on disk until
    /// [`Self::reopened`]. Comes before the jobs are answered.
    fn end(&mut self, committed: bool);

    /// The file was opened anew, perhaps without what was in memory only, perhaps empty.
    fn reopened(&mut self, engine: &dyn Engine);
}

/// For files whose jobs write everything themselves.
pub(crate) struct Alone;

impl Companion for Alone {
    fn seal(&mut self, _: &mut dyn Tables) -> Result<(), EngineError> {
        Ok(())
    }

    fn end(&mut self, _: bool) {}

    fn reopened(&mut self, _: &dyn Engine) {}
}

/// Where a file lives.
#[derive(Debug, Clone)]
pub struct Home {
    /// Its place in the directory.
    pub(crate) place: Arc<dyn Place>,
    /// The room around it.
    pub(crate) space: Arc<Space>,
}

impl Home {
    /// A file at `place`, with the room that the files of its directory share.
    #[must_use]
    pub fn new(place: super::aside::FilePlace, space: Arc<Space>) -> Self {
        Self { place: Arc::new(place), space }
    }
}

/// What a writer works with.
pub(crate) struct WriterParts {
    /// Name of the thread.
    pub(crate) name: &'static str,
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) home: Home,
    pub(crate) clock: Clock,
    pub(crate) metrics: FileMetrics,
    pub(crate) on_failure: OnFailure,
    pub(crate) companion: Box<dyn Companion>,
    pub(crate) successor: Box<dyn Successor>,
}

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
    space: Arc<Space>,
    /// Whether a check is on its way.
    checking: AtomicBool,
    /// When the first job that was not taken yet came, in microseconds; 0 for none.
    first_at: AtomicU64,
    clock: Clock,
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
    /// Notes that a job came.
    fn came(&self) {
        if self.first_at.load(Ordering::Relaxed) == 0 {
            self.first_at.store(self.clock.mono().0.max(1), Ordering::Relaxed);
        }
    }

    /// Notes that everything was taken; how long the first of it had waited.
    fn taken(&self, now: Mono) {
        let first = self.first_at.swap(0, Ordering::Relaxed);
        if first > 0 {
            self.metrics.queue_wait_seconds.observe(now.since(Mono(first)).as_secs_f64());
        }
    }

    fn state(&self) -> StoreState {
        StoreState::from_number(self.state.load(Ordering::Acquire))
    }

    fn set_state(&self, state: StoreState) {
        self.state.store(state as u8, Ordering::Release);
        self.metrics.state.set(i64::from(state as u8));
        self.watch.send_replace(state);
    }

    /// Why a job cannot be done now, if so.
    fn refusal(&self, job: &dyn WriteJob) -> Option<StoreError> {
        match self.state() {
            StoreState::Healthy => None,
            StoreState::Full => {
                let room = match self.space.level() {
                    Level::Ample => true,
                    Level::Low => !job.adds_values(),
                    Level::Exhausted => false,
                };
                (!room).then_some(StoreError::Full)
            }
            StoreState::ReadOnly | StoreState::Reopening | StoreState::Quarantined => {
                // Why it is read-only matters to nobody but the one who asks for space.
                let full = self.space.level() == Level::Exhausted;
                Some(if full { StoreError::Full } else { StoreError::Unavailable })
            }
        }
    }
}

impl Writer {
    /// Starts the writer of an open file.
    ///
    /// # Errors
    /// When the operating system gives no thread.
    pub(crate) fn start(parts: WriterParts) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            queue: Queue::new(STORE_QUEUE_MAX, STORE_QUEUE_BYTES_MAX),
            state: AtomicU8::new(StoreState::Healthy as u8),
            watch: watch::channel(StoreState::Healthy).0,
            space: Arc::clone(&parts.home.space),
            checking: AtomicBool::new(false),
            first_at: AtomicU64::new(0),
            clock: parts.clock.clone(),
            metrics: parts.metrics.clone(),
        });
        let name = parts.name.to_owned();
        let run = Loop::new(Arc::clone(&shared), parts);
        let thread = std::thread::Builder::new().name(name).spawn(move || run.run())?;
        Ok(Self { shared, thread: Mutex::new(Some(thread)) })
    }

    /// Queues a job; one that cannot be queued is finished at once, with the reason.
    pub(crate) fn submit(&self, job: Box<dyn WriteJob>) {
        if let Some(error) = self.shared.refusal(job.as_ref()) {
            if error == StoreError::Full {
                self.shared.metrics.refused_full.inc();
            }
            job.finish(Err(error));
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
            return;
        }
        self.shared.came();
    }

    /// Asks for a commit of nothing, since a read has failed: the engine answers nothing more after
    /// some failures until the file is opened anew, and only a commit finds that out.
    pub(crate) fn check(&self) {
        if !self.shared.checking.swap(true, Ordering::AcqRel) {
            self.submit(Box::new(CheckJob(Arc::clone(&self.shared))));
        }
    }

    /// What the file takes now.
    pub(crate) fn state(&self) -> StoreState {
        self.shared.state()
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
        joined && self.state().takes_writes()
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.stop();
    }
}
