//! The actor of a node: under which epoch it mints dots, and when that epoch must end.
//!
//! A coordinator that has lost records would otherwise mint a counter again, and the old write of
//! that name would silently swallow the new one (hazard C4, the data-loss bug of Dynamo-style
//! stores). So the epoch ends (a) when the store was not closed cleanly, was restored or is new,
//! (b) when a record is found missing or unreadable, (c) when a merge shows a dot of this node, of
//! any epoch, that its own record does not cover. Weaker rules lost acknowledged writes in
//! simulation: read repair can bring back an *older* clock first, and then nothing looks missing.
//!
//! Invariant: the caller persists and fsyncs the new epoch before a dot is minted under it.

use crate::id::{ActorId, NodeId};

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
