//! What one accepted connection is doing and since when: the timeouts that hyper does not have are
//! judged from this. Shared between the stream, the service and the task of the connection.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dynamo_core::time::Mono;

use super::framing::{Fault, Framing};
use crate::time::Clock;

/// Time for which a refused client may go on sending before the connection is dropped.
const LINGER: Duration = Duration::from_secs(1);

/// What a connection does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Phase {
    /// A request head is expected or has begun to arrive.
    Head = 0,
    /// A request is being handled.
    Busy = 1,
    /// The answer is on its way, or the connection is idle after it.
    Answered = 2,
    /// The last answer is written; what still comes is dropped.
    Closing = 3,
}

/// What should happen to a connection now.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing for at least this long.
    Wait(Duration),
    /// Finish the request in flight, then close.
    CloseGently,
    /// Close now.
    Drop,
}

/// Bounds of the phases of a connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct PhaseLimits {
    pub(super) head: Duration,
    pub(super) idle: Duration,
}

/// Shared between the stream, the service and the task of one connection. All of them run on that
/// one task, hence relaxed atomics.
#[derive(Debug)]
pub(super) struct Activity {
    clock: Clock,
    phase: AtomicU8,
    since_us: AtomicU64,
    /// The messages in the bytes that hyper was given.
    framing: Mutex<Framing>,
    /// The socket does not take what we write.
    write_blocked: AtomicBool,
    /// The client was refused and may still be sending.
    linger: AtomicBool,
    /// Some of an answer of ours is not written yet. Only when nothing is can a write be hyper's
    /// own: a body may contain what looks like an answer of hyper.
    answer_open: AtomicBool,
    /// The last byte of the answer is in hyper's hands; the next flush writes it.
    answer_ended: AtomicBool,
}

impl Activity {
    pub(super) fn new(clock: Clock) -> Arc<Self> {
        let now = clock.mono();
        Arc::new(Self {
            clock,
            phase: AtomicU8::new(Phase::Head as u8),
            since_us: AtomicU64::new(now.0),
            framing: Mutex::new(Framing::new()),
            write_blocked: AtomicBool::new(false),
            linger: AtomicBool::new(false),
            answer_open: AtomicBool::new(false),
            answer_ended: AtomicBool::new(false),
        })
    }

    /// hyper has a request; what speaks against taking it.
    pub(super) fn request_begins(&self) -> Option<Fault> {
        self.phase.store(Phase::Busy as u8, Ordering::Relaxed);
        self.answer_ended.store(false, Ordering::Relaxed);
        self.answer_open.store(true, Ordering::Relaxed);
        self.framing().request_begins()
    }

    /// hyper calls flush on the stream only when it has written all that it holds.
    pub(super) fn flushed(&self) {
        if self.answer_ended.load(Ordering::Relaxed) {
            self.answer_open.store(false, Ordering::Relaxed);
        }
    }

    /// Whether nothing of an answer of ours is still to be written.
    pub(super) fn is_answered(&self) -> bool {
        !self.answer_open.load(Ordering::Relaxed)
    }

    /// The client was refused and may still be sending.
    pub(super) fn refused_and_closed(&self) {
        self.linger.store(true, Ordering::Relaxed);
    }

    /// Whether to read and drop what still comes before closing.
    pub(super) fn lingers(&self) -> bool {
        self.linger.load(Ordering::Relaxed)
    }

    /// The last answer is written.
    pub(super) fn closes(&self) {
        if self.phase() != Phase::Closing {
            self.enter(Phase::Closing);
        }
    }

    pub(super) fn request_answered(&self, refused_and_closed: bool) {
        if refused_and_closed {
            self.refused_and_closed();
        }
        self.enter(Phase::Answered);
    }

    /// What is due. `Busy` has no bound here: bodies and handlers have their own.
    pub(super) fn verdict(&self, limits: PhaseLimits) -> Verdict {
        let since = Mono(self.since_us.load(Ordering::Relaxed));
        let passed = self.clock.mono().since(since);
        let (limit, late) = match self.phase() {
            Phase::Busy => return Verdict::Wait(limits.head),
            Phase::Head => (limits.head, Verdict::Drop),
            Phase::Closing => (LINGER, Verdict::Drop),
            Phase::Answered if self.write_blocked.load(Ordering::Relaxed) => {
                (limits.idle, Verdict::Drop)
            }
            Phase::Answered => (limits.idle, Verdict::CloseGently),
        };
        match limit.checked_sub(passed) {
            // A head may begin at any moment: look again in time for its shorter bound.
            Some(left) if !left.is_zero() => Verdict::Wait(left.min(limits.head)),
            _ => late,
        }
    }

    fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Relaxed) {
            0 => Phase::Head,
            1 => Phase::Busy,
            2 => Phase::Answered,
            _ => Phase::Closing,
        }
    }

    fn enter(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Relaxed);
        self.touch();
    }

    fn touch(&self) {
        self.since_us.store(self.clock.mono().0, Ordering::Relaxed);
    }

    /// `bytes` came and go to hyper next.
    pub(super) fn received(&self, bytes: &[u8]) {
        self.framing().feed(bytes);
        if self.phase() == Phase::Answered {
            self.enter(Phase::Head);
        }
    }

    /// The messages in the bytes that hyper was given.
    pub(super) fn framing(&self) -> MutexGuard<'_, Framing> {
        self.framing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// hyper has taken the whole answer; its next flush writes the rest.
    pub(super) fn answer_taken(&self) {
        self.answer_ended.store(true, Ordering::Relaxed);
    }

    /// The socket took what was written, or did not.
    pub(super) fn wrote(&self, blocked: bool) {
        self.write_blocked.store(blocked, Ordering::Relaxed);
        if !blocked && self.phase() != Phase::Busy {
            self.touch();
        }
    }
}

#[cfg(test)]
mod tests {
    use dynamo_core::time::WallMs;

    use super::*;

    #[test]
    fn each_phase_has_its_bound() {
        let (clock, hand) = Clock::manual(WallMs(0));
        let limits = PhaseLimits { head: Duration::from_secs(5), idle: Duration::from_secs(60) };
        let activity = Activity::new(clock);
        assert_eq!(activity.verdict(limits), Verdict::Wait(Duration::from_secs(5)));
        hand.advance(Duration::from_secs(5));
        assert_eq!(activity.verdict(limits), Verdict::Drop, "silent from the start");
        activity.request_begins();
        hand.advance(Duration::from_secs(600));
        assert_eq!(
            activity.verdict(limits),
            Verdict::Wait(limits.head),
            "handlers take their time"
        );
        activity.request_answered(false);
        hand.advance(Duration::from_secs(59));
        assert_eq!(activity.verdict(limits), Verdict::Wait(Duration::from_secs(1)));
        activity.received(b"GET / HT");
        assert_eq!(activity.verdict(limits), Verdict::Wait(limits.head));
        hand.advance(Duration::from_secs(5));
        assert_eq!(activity.verdict(limits), Verdict::Drop, "a head that does not end");
        activity.request_answered(false);
        hand.advance(Duration::from_secs(60));
        assert_eq!(activity.verdict(limits), Verdict::CloseGently);
        activity.wrote(true);
        assert_eq!(activity.verdict(limits), Verdict::Drop, "a client that does not read");
    }
}
