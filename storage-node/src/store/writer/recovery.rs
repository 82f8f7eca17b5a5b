//! What follows a failure: no write is taken; the file is opened anew after a pause; where there
//! are signs of damage it is checked page by page; a damaged one is replaced by an empty one.

use std::time::Duration;

use dynamo_core::time::Mono;

use super::super::error::{EngineError, StoreError};
use super::super::space::Level;
use super::super::state::StoreState;
use super::WriteJob;
use super::commits::Loop;
use super::renewal::{Doubt, RenewStep};
use crate::limits::{
    DAMAGE_CALM, DAMAGES_MAX, REOPEN_BACKOFF_MAX, REOPEN_BACKOFF_MIN, REOPEN_CALM,
    SPACE_CHECK_INTERVAL, UNREADABLE_OPENS_MAX,
};

/// What is remembered of earlier failures.
#[derive(Debug, Default)]
pub(super) struct Recovery {
    backoff: Option<Duration>,
    healthy_since: Mono,
    /// Signs of damage that a check did not confirm, and when the last of them was seen.
    damages: u32,
    damaged_at: Mono,
    /// Openings in a row at which the disk did not give the file's bytes.
    unreadable: u32,
    /// Whether the file is to be checked when it is open again.
    check: bool,
}

impl Recovery {
    /// Counts a sign of damage. True where there were too many.
    fn damaged(&mut self, now: Mono) -> bool {
        if now.since(self.damaged_at) > DAMAGE_CALM {
            self.damages = 0;
        }
        self.damaged_at = now;
        self.damages += 1;
        self.check = true;
        self.damages >= DAMAGES_MAX
    }

    /// The next pause.
    fn pause(&mut self, now: Mono) -> Duration {
        if now.since(self.healthy_since) > REOPEN_CALM {
            self.backoff = None;
        }
        let pause = self.backoff.unwrap_or(REOPEN_BACKOFF_MIN);
        self.backoff = Some((pause * 2).min(REOPEN_BACKOFF_MAX));
        pause
    }
}

impl Loop {
    /// A commit failed: no write is acknowledged until the file was opened anew.
    pub(super) fn fail(&mut self, error: EngineError, jobs: Vec<Box<dyn WriteJob>>) {
        tracing::error!(%error, jobs = jobs.len(), "a commit failed; the store takes no writes");
        self.shared.metrics.failures.inc();
        if matches!(error, EngineError::Full(_)) {
            // Before the epoch is written, which needs space too.
            self.shared.space.ran_out(self.clock.mono());
        }
        self.break_off(error);
        jobs.into_iter().for_each(|job| job.finish(Err(StoreError::CommitFailed)));
    }

    /// Looks for doubts about the file. True where there are some, and writing is broken off.
    pub(super) fn is_in_doubt(&mut self) -> bool {
        let error = match self.successor.doubts() {
            None => return false,
            Some(Doubt::Structure) => EngineError::Damaged("a read met a damaged page".to_owned()),
            Some(Doubt::Records) => EngineError::Io("too many records are unreadable".to_owned()),
            Some(Doubt::Vanished) => {
                // No sign of damage that counts: where the check finds nothing, the file is good.
                self.recovery.check = true;
                EngineError::Io("records have vanished".to_owned())
            }
        };
        tracing::error!(%error, "the store takes no writes until its file was checked");
        self.break_off(error);
        true
    }

    fn break_off(&mut self, error: EngineError) {
        self.shared.set_state(StoreState::ReadOnly);
        // What was in memory only may be lost, and what was sent to replicas before this commit
        // may not be here: the epoch ends before anyone learns of it.
        (self.on_failure)();
        (self.unsynced, self.unsynced_since) = (0, None);
        self.broken = Some(error);
    }

    /// Brings the file back. False where the writer is to end.
    pub(super) fn recover(&mut self, error: &EngineError) -> bool {
        if matches!(error, EngineError::Damaged(_)) && self.recovery.damaged(self.clock.mono()) {
            return self.quarantine(&error.to_string());
        }
        let mut full = matches!(error, EngineError::Full(_));
        loop {
            if full {
                self.read_on();
            }
            let pause = self.recovery.pause(self.clock.mono());
            if !self.refuse_for(pause) {
                return false;
            }
            // Without space the file would fail its first write.
            while self.shared.space.check(self.clock.mono()) == Level::Exhausted {
                if !self.refuse_for(SPACE_CHECK_INTERVAL) {
                    return false;
                }
            }
            self.shared.set_state(StoreState::Reopening);
            self.shared.metrics.reopens.inc();
            match self.open_again() {
                Ok(()) => {
                    tracing::warn!("the store was opened anew and takes writes again");
                    self.serve_again();
                    return true;
                }
                Err(error) if self.is_beyond_use(&error) => {
                    return self.quarantine(&error.to_string());
                }
                Err(error) => {
                    tracing::error!(%error, "the store could not be opened anew");
                    full = matches!(error, EngineError::Full(_));
                    if full {
                        self.shared.space.ran_out(self.clock.mono());
                    }
                    self.shared.set_state(StoreState::ReadOnly);
                }
            }
        }
    }

    /// Opens the file to be read only, since space may not come back for long.
    fn read_on(&mut self) {
        self.shared.set_state(StoreState::Reopening);
        match self.engine.reopen_for_reads() {
            Ok(()) => self.companion.reopened(self.engine.as_ref()),
            // A file system that copies on write may have no room even to open it.
            Err(error) => tracing::error!(%error, "the store cannot be read until it has space"),
        }
        self.shared.set_state(StoreState::ReadOnly);
    }

    /// Opens the file, and checks it where there are doubts. Opening writes and syncs, so an open
    /// file has taken a write.
    fn open_again(&mut self) -> Result<(), EngineError> {
        self.engine.reopen()?;
        if self.recovery.check {
            self.engine.verify()?;
        }
        self.successor.confirm(self.engine.as_ref())
    }

    fn is_beyond_use(&mut self, error: &EngineError) -> bool {
        match error {
            EngineError::Damaged(_) | EngineError::Format(_) => true,
            EngineError::Unreadable(_) => {
                self.recovery.unreadable += 1;
                self.recovery.unreadable >= UNREADABLE_OPENS_MAX
            }
            EngineError::Io(_)
            | EngineError::Full(_)
            | EngineError::Locked
            | EngineError::Closed => {
                self.recovery.unreadable = 0;
                false
            }
        }
    }

    fn serve_again(&mut self) {
        self.companion.reopened(self.engine.as_ref());
        let now = self.clock.mono();
        self.recovery.healthy_since = now;
        (self.recovery.unreadable, self.recovery.check) = (0, false);
        let level = self.shared.space.check(now);
        let room = level == Level::Ample;
        self.shared.set_state(if room { StoreState::Healthy } else { StoreState::Full });
    }

    /// Replaces the damaged file by an empty one. False where the writer is to end.
    fn quarantine(&mut self, why: &str) -> bool {
        tracing::error!(why, "the store's file is damaged and is replaced by an empty one");
        self.shared.metrics.quarantines.inc();
        self.shared.set_state(StoreState::Quarantined);
        self.successor.forget();
        self.engine.close();
        self.engine.discard();
        let (mut told, mut done) = (false, 0);
        while let Err(error) = self.renew(why, &mut done) {
            if !std::mem::replace(&mut told, true) {
                tracing::error!(%error, "the damaged file could not be replaced; trying again");
            }
            if matches!(error, EngineError::Full(_)) {
                self.shared.space.ran_out(self.clock.mono());
            }
            self.engine.close();
            if !self.refuse_for(REOPEN_BACKOFF_MAX) {
                return false;
            }
        }
        self.recovery = Recovery::default();
        self.serve_again();
        self.first = self.successor.first_jobs();
        tracing::warn!("the store is empty and takes writes; it refills from its peers");
        true
    }

    /// Does the steps after the first `done` ones.
    fn renew(&mut self, why: &str, done: &mut usize) -> Result<(), EngineError> {
        let (engine, place) = (self.engine.as_ref(), self.place.as_ref());
        let successor = self.successor.as_mut();
        for (number, step) in RenewStep::ALL.into_iter().enumerate().skip(*done) {
            step.perform(engine, place, successor, why).inspect_err(|error| {
                // What was made by now is opened anew; where it is damaged already, all begins anew.
                let create = RenewStep::ALL.len() - 2;
                let damaged = matches!(error, EngineError::Damaged(_));
                *done = if damaged { 0 } else { number.min(create) };
            })?;
        }
        Ok(())
    }
}
