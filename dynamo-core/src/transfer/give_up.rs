//! The steps by which a node gives up what it does not need any more of one partition.
//!
//! ```text
//! waiting for owners → releasing: compare* → release → grace → pushing: compare* → dropping*
//! ```
//! After the release the node still has the data: requests that were under way when it was
//! released may still write here, so what came late is pushed to the owners before it is deleted.
//! Whatever changes in between, a ring or a process, leads back to comparing, never forward.

use std::collections::BTreeSet;
use std::time::Duration;

use super::retry::Retry;
use crate::entropy::Entropy;
use crate::id::NodeId;
use crate::limits::RELEASE_GRACE_MS;
use crate::merkle::exchange::ExchangeMode;
use crate::time::Mono;
use crate::wire::worker::TransferState;

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Idle,
    Compare { peer: NodeId },
    Release,
    Drop,
}

/// What is to be done next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    Compare { peer: NodeId, classes: Vec<u8>, mode: ExchangeMode },
    Release,
    Drop,
    Wait,
}

/// One owner of what is given up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Owner {
    pub(super) node: NodeId,
    /// The classes that are given up and that it is to have.
    pub(super) classes: Vec<u8>,
    /// Whether it says that it holds what it is to have of the partition.
    pub(super) holds: bool,
}

/// One partition, or a part of one, on its way out.
#[derive(Debug)]
pub(super) struct GiveUp {
    pub(super) state: TransferState,
    pub(super) step: Step,
    pub(super) retry: Retry,
    pub(super) error: Option<String>,
    pub(super) restarts: u32,
    pub(super) dropped: u64,
    agreed: BTreeSet<NodeId>,
    released_at: Option<Mono>,
}

impl GiveUp {
    pub(super) fn new() -> Self {
        Self {
            state: TransferState::WaitingForOwners,
            step: Step::Idle,
            retry: Retry::default(),
            error: None,
            restarts: 0,
            dropped: 0,
            agreed: BTreeSet::new(),
            released_at: None,
        }
    }

    /// Decides the next step of an idle one. `is_held`: whether something is still held that is
    /// not needed; else it is left over.
    pub(super) fn next(&mut self, owners: &[Owner], is_held: bool, now: Mono) -> Next {
        if !is_held && self.released_at.is_none() {
            // Released by an earlier process, or never held: nobody knows since when.
            self.released_at = Some(now);
            self.agreed.clear();
        }
        let released_at = self.released_at.filter(|_| !is_held);
        if let Some(at) = released_at
            && now.since(at) < Duration::from_millis(RELEASE_GRACE_MS)
        {
            self.state = TransferState::Grace;
            return Next::Wait;
        }
        if !owners.iter().all(|owner| owner.holds) {
            self.state = TransferState::WaitingForOwners;
            return Next::Wait;
        }
        let open = owners.iter().find(|owner| !self.agreed.contains(&owner.node));
        let (comparing, mode) = match released_at {
            None => (TransferState::Releasing, ExchangeMode::Both),
            Some(_) => (TransferState::Pushing, ExchangeMode::PushOnly),
        };
        match (open, released_at) {
            (Some(owner), _) => {
                self.state = comparing;
                Next::Compare { peer: owner.node, classes: owner.classes.clone(), mode }
            }
            (None, None) => {
                self.state = TransferState::Releasing;
                Next::Release
            }
            (None, Some(_)) => {
                self.state = TransferState::Dropping;
                Next::Drop
            }
        }
    }

    /// Notes that the step has begun.
    pub(super) fn begin(&mut self, next: &Next) {
        self.step = match next {
            Next::Compare { peer, .. } => Step::Compare { peer: *peer },
            Next::Release => Step::Release,
            Next::Drop => Step::Drop,
            Next::Wait => Step::Idle,
        };
    }

    /// The peer was found equal (or to have everything) under the present ring.
    pub(super) fn agreed(&mut self, peer: NodeId) {
        self.agreed.insert(peer);
        self.succeeded();
    }

    /// The store has released it.
    pub(super) fn released(&mut self, now: Mono) {
        self.agreed.clear();
        self.released_at = Some(now);
        self.state = TransferState::Grace;
        self.succeeded();
    }

    /// A step succeeded.
    pub(super) fn succeeded(&mut self) {
        self.step = Step::Idle;
        self.retry.succeeded();
        self.error = None;
    }

    /// The step failed.
    pub(super) fn failed(&mut self, reason: String, now: Mono, entropy: &mut impl Entropy) {
        self.step = Step::Idle;
        self.error = Some(reason);
        self.retry.failed(now, entropy);
        self.restarts = self.restarts.saturating_add(1);
    }

    /// The ring changed: other owners must agree.
    pub(super) fn ring_changed(&mut self) {
        self.agreed.clear();
        self.step = Step::Idle;
    }

    /// The peer that it is compared with now.
    pub(super) fn peer(&self) -> Option<NodeId> {
        match self.step {
            Step::Compare { peer } => Some(peer),
            Step::Idle | Step::Release | Step::Drop => None,
        }
    }
}
