//! What the coordinator of a put asks before it mints, where another attempt of the same put may
//! have been applied: what the other replicas have of the object, and whether they remember the
//! put ([`crate::put_memory`]).
//!
//! An earlier attempt may have reached another coordinator, which minted a dot and was then too
//! slow, or cut off, to say so. Minting a second dot for the same put is harmless while both
//! versions are there, as readers see them as one; but whoever supersedes the one he saw may leave
//! the other to rise, where nobody has seen both ([`crate::clock::twin`]).
//!
//! Nothing depends on its success: a put is accepted although nobody answers. The shell gives it
//! [`crate::limits::CATCH_UP_MS`] at most, merges what was found into its own replica, remembers
//! the put, and then coordinates it as any other.
//!
//! Not here: finding the put in the record ([`crate::replica::coordinate_put_in`]).

use std::collections::BTreeSet;
use std::time::Duration;

use crate::clock::record::Record;
use crate::id::NodeId;
use crate::limits::LATE_PUT_MS;
use crate::put_memory::AppliedPut;
use crate::ring::ReplicaSets;
use crate::time::WallMs;

/// Whether an attempt that was sent at `sent` has been on its way for so long that its sender may
/// have turned to another coordinator: it waited for a process that hung, or in the network. A
/// sender whose clock goes wrong costs a question too many, or does without the answer.
#[must_use]
pub fn is_late(sent: WallMs, now: WallMs) -> bool {
    now.since(sent) > Duration::from_millis(LATE_PUT_MS)
}

/// The answers that are waited for, and what they came to.
#[derive(Debug)]
pub struct CatchUp {
    open: BTreeSet<NodeId>,
    found: Record,
    applied: Option<AppliedPut>,
}

impl CatchUp {
    /// Begins at node `me`; [`Self::open`] says whom to ask. What it cannot reach it does not ask.
    #[must_use]
    pub fn start(me: NodeId, replicas: &ReplicaSets, reachable: impl Fn(NodeId) -> bool) -> Self {
        let targets = replicas.write_targets().into_iter();
        let open = targets.filter(|other| *other != me && reachable(*other)).collect();
        Self { open, found: Record::default(), applied: None }
    }

    /// Who has not answered yet.
    pub fn open(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.open.iter().copied()
    }

    /// `from` has this record, and remembers of the put what `applied` says.
    pub fn on_answer(&mut self, from: NodeId, record: &Record, applied: Option<AppliedPut>) {
        if self.open.remove(&from) {
            self.found = self.found.sync(record);
            self.applied = self.applied.or(applied);
        }
    }

    /// `from` has nothing, or does not answer.
    pub fn on_silence(&mut self, from: NodeId) {
        self.open.remove(&from);
    }

    /// Whether nothing more is to be learned: everybody has answered, or one remembers the put.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.open.is_empty() || self.applied.is_some_and(|put| self.found.clock().covers(&put.dot))
    }

    /// What the others have of the object, and what became of the put.
    #[must_use]
    pub fn finish(self) -> (Record, Option<AppliedPut>) {
        (self.found, self.applied)
    }
}
