//! Who gets the next slice: round robin between the kinds of work, the oldest of a kind first.
//!
//! Every wait is bounded, in number (the queue of a kind) and in time (a deadline per request), so
//! a worker always learns soon whether it may go on.
//!
//! Invariants: never more tickets run than there are slices, except where the number of slices
//! has just been lowered: what runs is not interrupted. A kind that waits is served before another
//! kind is served twice.

use std::collections::{BTreeMap, VecDeque};

use super::kind::Kind;
use crate::limits::{SLICE_WAITERS_MAX, SLICES_MIN};
use crate::time::Mono;

/// One request for a slice. Never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(u64);

/// [`SLICE_WAITERS_MAX`] requests of this kind wait already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too much background work of kind {0} waits")]
pub struct QueueFull(pub Kind);

#[derive(Debug, Clone, Copy)]
struct Waiter {
    ticket: Ticket,
    deadline: Mono,
}

/// Slices, and those who wait for them.
#[derive(Debug)]
pub struct SliceQueue {
    slices: u32,
    /// The kind whose turn it is, as an index into [`Kind::ALL`].
    turn: usize,
    minted: u64,
    running: BTreeMap<Ticket, Kind>,
    waiting: [VecDeque<Waiter>; Kind::ALL.len()],
}

impl SliceQueue {
    /// A queue for so many slices, at least one.
    #[must_use]
    pub fn new(slices: u32) -> Self {
        Self {
            slices: slices.max(SLICES_MIN),
            turn: 0,
            minted: 0,
            running: BTreeMap::new(),
            waiting: Default::default(),
        }
    }

    /// Changes the number of slices; what runs goes on. Call [`SliceQueue::grant`] afterwards.
    pub fn set_slices(&mut self, slices: u32) {
        self.slices = slices.max(SLICES_MIN);
    }

    /// Asks for a slice until `deadline`. Call [`SliceQueue::grant`] afterwards.
    ///
    /// # Errors
    /// [`QueueFull`]; the work is refused with 503 `overloaded`.
    pub fn ask(&mut self, kind: Kind, deadline: Mono) -> Result<Ticket, QueueFull> {
        let queue = self.waiting.get_mut(kind.index()).ok_or(QueueFull(kind))?;
        if queue.len() >= SLICE_WAITERS_MAX {
            return Err(QueueFull(kind));
        }
        self.minted += 1;
        let ticket = Ticket(self.minted);
        queue.push_back(Waiter { ticket, deadline });
        Ok(ticket)
    }

    /// Hands out free slices: these tickets may run now.
    pub fn grant(&mut self) -> Vec<Ticket> {
        let mut granted = Vec::new();
        while self.running.len() < self.slices as usize {
            let Some((kind, ticket)) = self.next_waiter() else { break };
            self.running.insert(ticket, kind);
            granted.push(ticket);
        }
        granted
    }

    /// Takes back the slice of a ticket that ran, or the request of one that waits no longer. An
    /// unknown ticket changes nothing. Call [`SliceQueue::grant`] afterwards.
    pub fn finish(&mut self, ticket: Ticket) {
        if self.running.remove(&ticket).is_none() {
            for queue in &mut self.waiting {
                queue.retain(|waiter| waiter.ticket != ticket);
            }
        }
    }

    /// Removes those who have waited until their deadline: their work is refused.
    pub fn expire(&mut self, now: Mono) -> Vec<Ticket> {
        let mut expired = Vec::new();
        for queue in &mut self.waiting {
            queue.retain(|waiter| {
                let over = waiter.deadline <= now;
                if over {
                    expired.push(waiter.ticket);
                }
                !over
            });
        }
        expired
    }

    /// When the next wait ends in vain; `None` while nobody waits.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Mono> {
        self.waiting.iter().flatten().map(|waiter| waiter.deadline).min()
    }

    /// Slices in use.
    #[must_use]
    pub fn running(&self) -> usize {
        self.running.len()
    }

    /// Requests of a kind that wait.
    #[must_use]
    pub fn waiting(&self, kind: Kind) -> usize {
        self.waiting.get(kind.index()).map_or(0, VecDeque::len)
    }

    fn next_waiter(&mut self) -> Option<(Kind, Ticket)> {
        let kinds = Kind::ALL.len();
        for step in 0..kinds {
            let index = (self.turn + step) % kinds;
            let waiter = self.waiting.get_mut(index).and_then(VecDeque::pop_front);
            if let (Some(waiter), Some(kind)) = (waiter, Kind::ALL.get(index)) {
                self.turn = (index + 1) % kinds;
                return Some((*kind, waiter.ticket));
            }
        }
        None
    }
}
