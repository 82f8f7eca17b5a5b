//! The writer thread: batches and their commits.

use std::sync::Arc;
use std::time::Duration;

use dynamo_core::time::Mono;
use service_kit::time::Clock;

use super::super::engine::{Commit, Engine};
use super::super::error::{EngineError, StoreError};
use super::super::queue::{Gather, Taken};
use super::super::space::Level;
use super::super::state::StoreState;
use super::recovery::Recovery;
use super::{Companion, OnFailure, Shared, Successor, WriteJob, WriterParts};
use crate::limits::{
    BUFFER_AGE_MAX, BUFFER_JOBS_MAX, COMMIT_BYTES_MAX, COMMIT_GATHER_TIME, COMMIT_JOBS_MAX,
    SPACE_CHECK_INTERVAL,
};

/// The writer thread.
pub(super) struct Loop {
    pub(super) shared: Arc<Shared>,
    pub(super) engine: Arc<dyn Engine>,
    pub(super) place: Arc<dyn super::super::aside::Place>,
    pub(super) clock: Clock,
    pub(super) on_failure: OnFailure,
    pub(super) companion: Box<dyn Companion>,
    pub(super) successor: Box<dyn Successor>,
    /// What went wrong and was not seen to yet.
    pub(super) broken: Option<EngineError>,
    pub(super) recovery: Recovery,
    /// What is committed before anything that is queued.
    pub(super) first: Vec<Box<dyn WriteJob>>,
    /// Jobs that may be expected to come together with the next one.
    expected: usize,
    /// Jobs that are committed to memory only.
    pub(super) unsynced: usize,
    pub(super) unsynced_since: Option<Mono>,
}

impl Loop {
    pub(super) fn new(shared: Arc<Shared>, parts: WriterParts) -> Self {
        Self {
            shared,
            engine: parts.engine,
            place: parts.home.place,
            clock: parts.clock,
            on_failure: parts.on_failure,
            companion: parts.companion,
            successor: parts.successor,
            broken: None,
            recovery: Recovery::default(),
            first: Vec::new(),
            expected: 0,
            unsynced: 0,
            unsynced_since: None,
        }
    }

    pub(super) fn run(mut self) {
        loop {
            if let Some(error) = self.broken.take() {
                if !self.recover(&error) {
                    return;
                }
                continue;
            }
            if !self.first.is_empty() {
                let first = std::mem::take(&mut self.first);
                self.commit(first);
                continue;
            }
            if self.is_in_doubt() {
                continue;
            }
            self.look_for_space();
            let wait = match self.unsynced_since {
                Some(since) => BUFFER_AGE_MAX.saturating_sub(self.clock.mono().since(since)),
                None => SPACE_CHECK_INTERVAL,
            };
            if self.unsynced_since.is_some() && wait.is_zero() {
                self.commit(Vec::new());
                continue;
            }
            let gather = self.gather();
            match self.shared.queue.take(COMMIT_JOBS_MAX, COMMIT_BYTES_MAX, Some(wait), gather) {
                Taken::Items(jobs) => {
                    let durable = jobs.iter().any(|job| job.is_durable());
                    self.expected = expected(self.expected, jobs.len(), durable);
                    self.commit(jobs);
                }
                // Time to sync, or to look at the disk.
                Taken::Nothing => {}
                Taken::Closed => break,
            }
        }
        if self.unsynced > 0 {
            self.commit(Vec::new());
        }
    }

    /// What to wait for before the next batch is taken.
    fn gather(&self) -> Option<Gather> {
        let together = self.expected > 1;
        together.then_some(Gather { items: self.expected, time: COMMIT_GATHER_TIME })
    }

    /// Takes over how much room the disk has.
    pub(super) fn look_for_space(&self) {
        let level = self.shared.space.check(self.clock.mono());
        let state = self.shared.state();
        let next = if level == Level::Ample { StoreState::Healthy } else { StoreState::Full };
        if state.takes_writes() && state != next {
            self.shared.set_state(next);
        }
    }

    /// Answers the jobs that nobody waits for any more or for which there is no room.
    fn sort_out(&self, jobs: Vec<Box<dyn WriteJob>>, now: Mono) -> Vec<Box<dyn WriteJob>> {
        let mut kept = Vec::with_capacity(jobs.len());
        for job in jobs {
            if job.deadline().is_some_and(|at| at <= now) {
                job.finish(Err(StoreError::Expired));
            } else if let Some(error) = self.shared.refusal(job.as_ref()) {
                job.finish(Err(error));
            } else {
                kept.push(job);
            }
        }
        kept
    }

    /// Commits one batch and answers it. An empty batch syncs what is in memory only.
    fn commit(&mut self, jobs: Vec<Box<dyn WriteJob>>) {
        let metrics = &self.shared.metrics;
        metrics.queue_depth.set(i64::try_from(self.shared.queue.len()).unwrap_or(i64::MAX));
        let now = self.clock.mono();
        self.shared.taken(now);
        let mut jobs = self.sort_out(jobs, now);
        if jobs.is_empty() && self.unsynced == 0 {
            return;
        }
        let buffered = self.unsynced + jobs.len();
        let durable = jobs.is_empty()
            || buffered >= BUFFER_JOBS_MAX
            || jobs.iter().any(|job| job.is_durable());
        let how = if durable { Commit::Durable } else { Commit::Buffered };
        let companion = &mut self.companion;
        let result = self.engine.transact(how, &mut |tables| {
            jobs.iter_mut().try_for_each(|job| job.apply(tables))?;
            companion.seal(tables)
        });
        companion.end(result.is_ok());
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
            Err(error) => self.fail(error, jobs),
        }
    }

    /// Refuses what is queued for at most `time`. False where the writer is to end.
    pub(super) fn refuse_for(&self, time: Duration) -> bool {
        let until = self.clock.mono().plus(time);
        loop {
            let left = self.clock.remaining(until);
            match self.shared.queue.take(COMMIT_JOBS_MAX, COMMIT_BYTES_MAX, Some(left), None) {
                Taken::Items(jobs) => {
                    for job in jobs {
                        let error = self.shared.refusal(job.as_ref());
                        job.finish(Err(error.unwrap_or(StoreError::Unavailable)));
                    }
                }
                Taken::Nothing => {}
                Taken::Closed => return false,
            }
            if self.clock.remaining(until).is_zero() {
                return true;
            }
        }
    }
}

/// How many jobs may be expected to come together, after a batch of `jobs` where `before` were:
/// at least as many, and not many fewer than before, as batches vary. Buffered writes do not wait:
/// they share no sync.
pub(super) fn expected(before: usize, jobs: usize, durable: bool) -> usize {
    if durable { jobs.max(before - before.div_ceil(4)) } else { 0 }
}
