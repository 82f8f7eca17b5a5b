//! The actor of a node: under which epoch it mints dots, and when that epoch must end.
//!
//! A coordinator that has lost records would otherwise mint a counter again, and the old write of
//! that name would silently swallow the new one (hazard C4, the data-loss bug of Dynamo-style
//! stores). So the epoch ends (a) when the store was not closed cleanly, was restored or is new,
//! (b) when a record is found missing or unreadable, (c) when a merge shows a dot of this node, of
//! any epoch, that its own record does not cover. Weaker rules lost acknowledged writes in
//! simulation: read repair can bring back an *older* clock first, and then nothing looks missing.
//!
//! Rule (c) has exceptions, as a record may lack a dot of its node without having lost it: its
//! entry was truncated, its record was reaped, or its partition was given up and came back. What
//! they have in common is that the present epoch is not concerned: it is never truncated, and ends
//! before a record that it minted for is reaped and before a partition comes back. So dots of the
//! *present* epoch are signs of loss in any case, and those of earlier ones where none of the
//! exceptions can apply ([`LossRule`]).
//!
//! Invariant: the caller persists and fsyncs the new epoch before a dot is minted under it.

use crate::clock::dvv::Dvv;
use crate::id::{ActorId, NodeId};
use crate::limits::CLOCK_TRUNCATE_AGE_MS;
use crate::time::WallMs;

/// The minting state of one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Actor {
    node: NodeId,
    epoch: u64,
    used: bool,
}

impl Actor {
    /// The actor of a store that was closed cleanly under `epoch`: it goes on.
    #[must_use]
    pub fn resumed(node: NodeId, epoch: u64) -> Self {
        Self { node, epoch, used: true }
    }

    /// The actor of a store that may have lost data after `epoch`: it starts over (rule a).
    #[must_use]
    pub fn restarted(node: NodeId, epoch: u64) -> Self {
        Self { node, epoch: epoch.saturating_add(1), used: false }
    }

    /// The actor id of now.
    #[must_use]
    pub fn id(&self) -> ActorId {
        ActorId { node: self.node, epoch: self.epoch }
    }

    /// Whether the epoch is later than `seen` and nothing was minted under it: then no dot of it
    /// can have been lost.
    #[must_use]
    pub fn is_fresh_after(&self, seen: u64) -> bool {
        !self.used && self.epoch > seen
    }

    /// Notes that a dot was minted under the epoch.
    pub(crate) fn mark_used(&mut self) {
        self.used = true;
    }

    /// Ends the epoch because data was lost; `seen` is the highest own epoch known of. Returns
    /// whether the epoch changed and must be persisted: an epoch under which nothing was minted
    /// cannot have lost anything, so it is kept unless `seen` is as high.
    #[must_use = "a new epoch must be persisted before a dot is minted"]
    pub fn on_loss(&mut self, seen: u64) -> bool {
        if self.is_fresh_after(seen) {
            return false;
        }
        self.epoch = self.epoch.max(seen).saturating_add(1);
        self.used = false;
        true
    }
}

/// How completely a node has the partition of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Custody {
    /// It holds the partition: what it once had it has, or it is lost.
    Held,
    /// The partition is on its way here: what the node had at an earlier time may be missing.
    Arriving,
}

/// Which dots of a node that its record lacks are signs that it lost data (rule c).
///
/// A dot of the present epoch always is: it is what a reused counter would collide with. A dot of
/// an earlier epoch is one too, as an older clock may be the first to come back after a loss that
/// took dots of the present epoch as well (weaker rules lost acknowledged writes in simulation),
/// with two exceptions:
/// - its entry is older than [`CLOCK_TRUNCATE_AGE_MS`]: it may have been truncated or reaped, which
///   needs that age. A loss of *younger* dots of this key shows with them, or was noticed when it
///   happened (rules a and b);
/// - the partition is on its way here ([`Custody::Arriving`]): the epoch ended when it became
///   wanted, so earlier ones say nothing of the present one.
///
/// Without the exceptions each old context and each page of a partition that comes back would end
/// an epoch, and clocks would grow with every one of them.
#[derive(Debug, Clone, Copy)]
pub struct LossRule {
    present: ActorId,
    custody: Custody,
    now: WallMs,
}

impl LossRule {
    /// The rule for a record of the node whose actor is `present`.
    #[must_use]
    pub fn new(present: ActorId, custody: Custody, now: WallMs) -> Self {
        Self { present, custody, now }
    }

    /// The highest own epoch of which `shown` has a dot that `local` lacks and should not.
    #[must_use]
    pub fn lost_epoch(&self, shown: &Dvv, local: &Dvv) -> Option<u64> {
        let counts = |(epoch, at): &(u64, WallMs)| {
            let is_young = at.0.saturating_add(CLOCK_TRUNCATE_AGE_MS) >= self.now.0;
            *epoch >= self.present.epoch || (self.custody == Custody::Held && is_young)
        };
        shown.unheld(self.present.node, local).filter(counts).map(|(epoch, _)| epoch).max()
    }
}
