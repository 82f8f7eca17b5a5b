//! From the history to members and ring: a fold over the events in their order.
//!
//! Every event is applied as one plan: its changes to the set of members, then one
//! [`claim`](crate::ring::claim()) from the owners before to the owners after. A change that is illegal
//! at its place, because a concurrent event came first, is skipped; all nodes skip the same ones.
//!
//! Invariants: a pure function of the history; a node that left never returns under its id (I-25);
//! the last member cannot leave, so no partition is ever without owner (I-21).
//!
//! A fold of a long history costs one claim per event, so recent results are kept by the hash of
//! the events that they contain ([`FoldCache`]).

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::history::{Change, Event, EventId, History, Joiner};
use super::member::Addresses;
use crate::id::{ClusterId, NodeId, StoreId};
use crate::limits::{MEMBERS_MAX, NODES_EVER_MAX};
use crate::params::BucketProps;
use crate::ring::{ClaimInput, ClaimMember, ClaimViolation, Partitions, Ring, RingVersion, claim};

/// Recent folds that are kept: a concurrent event lands a few places before the end at most.
const FOLDS_KEPT: usize = 8;

/// A member of the ring.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The node.
    pub node: NodeId,
    /// Its name, unique among members.
    pub name: String,
    /// Its failure domain.
    pub zone: Option<String>,
    /// Its capacity in relation to the others.
    pub weight: u32,
    /// Where to reach it until it says so itself.
    pub addresses: Addresses,
    /// The store with which it founded the cluster; `None` of later members.
    pub founding_store: Option<StoreId>,
    /// The event that made it a member.
    pub joined: EventId,
}

/// A node that is no member any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Former {
    /// What it was when it left.
    pub member: Member,
    /// Its data was given up: nothing is read from it.
    pub forced: bool,
    /// The event that removed it.
    pub left: EventId,
}

/// Why a change had no effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Skip {
    /// A node that is or was a member cannot join.
    #[error("the node is or was a member")]
    AlreadyKnown,
    /// The name belongs to another member.
    #[error("another member has this name")]
    NameTaken,
    /// Only members can leave, be replaced or be changed.
    #[error("the node is not a member")]
    NotMember,
    /// The last member cannot leave.
    #[error("the last member cannot leave")]
    LastMember,
    /// There are as many members, or were as many in all, as there may be.
    #[error("too many members")]
    TooManyMembers,
    /// A cluster is founded once.
    #[error("the cluster is already founded")]
    Founded,
}

/// A change that was skipped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Skipped {
    /// Its event.
    pub event: EventId,
    /// Its place among the event's changes.
    pub index: usize,
    /// Why.
    pub reason: Skip,
}

/// Members and ring at one version of the history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fold {
    /// The cluster.
    pub cluster: ClusterId,
    /// How many consecutive positions are on distinct nodes and zones.
    pub spacing: u8,
    /// Properties of buckets that have no own.
    pub defaults: BucketProps,
    /// Members by node.
    pub members: BTreeMap<NodeId, Member>,
    /// Former members by node.
    pub former: BTreeMap<NodeId, Former>,
    /// The ring; its version is that of the history.
    pub ring: Arc<Ring>,
    /// Where the last claim fell short of the ideal.
    pub violations: Vec<ClaimViolation>,
    /// Changes without effect.
    pub skipped: Vec<Skipped>,
}

impl Fold {
    /// The state right after a founding event was begun: no members.
    fn founded(event: &Event) -> Option<Self> {
        let Some(Change::Init { cluster, partitions, spacing, defaults }) = event.changes.first()
        else {
            return None;
        };
        Some(Self {
            cluster: *cluster,
            spacing: *spacing,
            defaults: *defaults,
            members: BTreeMap::new(),
            former: BTreeMap::new(),
            ring: Arc::new(Ring::empty(*partitions)),
            violations: Vec::new(),
            skipped: Vec::new(),
        })
    }

    /// The fold with one more event. `None` stands for the time before the founding, where only a
    /// founding event has a result.
    #[must_use]
    pub fn after(before: Option<&Self>, event: &Event, version: RingVersion) -> Option<Self> {
        let founding = before.is_none();
        let mut next = match before {
            Some(fold) => fold.clone(),
            None => Self::founded(event)?,
        };
        let mut owners: Vec<Option<NodeId>> = next.ring.owners().collect();
        let mut placed = false;
        for (index, change) in event.changes.iter().enumerate().skip(usize::from(founding)) {
            match next.apply(change, event.id, founding, &mut owners) {
                Ok(()) => placed |= change.places(),
                Err(reason) => next.skipped.push(Skipped { event: event.id, index, reason }),
            }
        }
        if placed {
            let members = next.claim_members();
            let input = ClaimInput { previous: &owners, members: &members, spacing: next.spacing };
            let outcome = claim(&input);
            owners = outcome.owners;
            next.violations = outcome.violations;
        }
        let ring = Ring::new(next.partitions(), &owners, version)
            .expect("a claim names every partition and at most MEMBERS_MAX members");
        next.ring = Arc::new(ring);
        Some(next)
    }

    /// The number of partitions.
    #[must_use]
    pub fn partitions(&self) -> Partitions {
        self.ring.partitions()
    }

    /// The members as placement sees them.
    #[must_use]
    pub fn claim_members(&self) -> Vec<ClaimMember> {
        self.members
            .values()
            .map(|member| ClaimMember {
                node: member.node,
                weight: member.weight,
                zone: member.zone.clone(),
            })
            .collect()
    }

    /// Whether the node was removed for good: it may neither join, nor serve, nor take hints.
    #[must_use]
    pub fn is_given_up(&self, node: NodeId) -> bool {
        self.former.get(&node).is_some_and(|former| former.forced)
    }

    fn apply(
        &mut self,
        change: &Change,
        event: EventId,
        founding: bool,
        owners: &mut [Option<NodeId>],
    ) -> Result<(), Skip> {
        match change {
            Change::Init { .. } => Err(Skip::Founded),
            Change::Join { joiner } => self.join(joiner, event, founding, None),
            Change::Leave { node, forced } => self.leave(*node, *forced, event),
            Change::Replace { node, joiner } => {
                if !self.replace(*node, joiner, event)? {
                    return Ok(());
                }
                for owner in owners.iter_mut().filter(|owner| **owner == Some(*node)) {
                    *owner = Some(joiner.node);
                }
                Ok(())
            }
            Change::SetWeight { node, weight } => {
                self.member_mut(*node)?.weight = *weight;
                Ok(())
            }
            Change::SetZone { node, zone } => {
                self.member_mut(*node)?.zone.clone_from(zone);
                Ok(())
            }
            Change::SetAddress { node, addresses } => {
                let member = self.member_mut(*node)?;
                member.addresses = addresses.clone().or(&member.addresses);
                Ok(())
            }
        }
    }

    fn member_mut(&mut self, node: NodeId) -> Result<&mut Member, Skip> {
        self.members.get_mut(&node).ok_or(Skip::NotMember)
    }

    fn join(
        &mut self,
        joiner: &Joiner,
        event: EventId,
        founding: bool,
        replaces: Option<NodeId>,
    ) -> Result<(), Skip> {
        if self.members.contains_key(&joiner.node) || self.former.contains_key(&joiner.node) {
            return Err(Skip::AlreadyKnown);
        }
        let same_name =
            |member: &&Member| member.name == joiner.name && Some(member.node) != replaces;
        if self.members.values().any(|member| same_name(&member)) {
            return Err(Skip::NameTaken);
        }
        let members_after = self.members.len() + usize::from(replaces.is_none());
        if members_after > MEMBERS_MAX || self.members.len() + self.former.len() >= NODES_EVER_MAX {
            return Err(Skip::TooManyMembers);
        }
        let member = Member {
            node: joiner.node,
            name: joiner.name.clone(),
            zone: joiner.zone.clone(),
            weight: joiner.weight,
            addresses: joiner.addresses.clone(),
            founding_store: joiner.store.filter(|_| founding),
            joined: event,
        };
        self.members.insert(joiner.node, member);
        Ok(())
    }

    fn leave(&mut self, node: NodeId, forced: bool, event: EventId) -> Result<(), Skip> {
        if let Some(former) = self.former.get_mut(&node).filter(|former| forced && !former.forced) {
            // It left in good order and will not come back with its data: give that up too.
            former.forced = true;
            return Ok(());
        }
        if self.members.contains_key(&node) && self.members.len() == 1 {
            return Err(Skip::LastMember);
        }
        let member = self.members.remove(&node).ok_or(Skip::NotMember)?;
        self.former.insert(node, Former { member, forced, left: event });
        Ok(())
    }

    /// Whether the joiner takes over what the node owns. Where a concurrent event made it a member
    /// already, the node still leaves: on the hosts that did not know that event it has left, and
    /// who left never comes back (I-25).
    fn replace(&mut self, node: NodeId, joiner: &Joiner, event: EventId) -> Result<bool, Skip> {
        self.member_mut(node)?;
        let joined = node != joiner.node && self.members.contains_key(&joiner.node);
        if !joined {
            self.join(joiner, event, false, Some(node))?;
        }
        self.leave(node, false, event)?;
        Ok(!joined)
    }
}

/// Folds histories, reusing recent results.
#[derive(Debug, Clone, Default)]
pub struct FoldCache {
    recent: VecDeque<Arc<Fold>>,
}

impl FoldCache {
    /// The fold of `history`; `None` before the founding.
    pub fn fold(&mut self, history: &History) -> Option<Arc<Fold>> {
        let known = |count: usize| {
            let version = history.version_at(count);
            self.recent.iter().find(|fold| fold.ring.version() == version).cloned()
        };
        let len = history.len();
        let start = (len.saturating_sub(FOLDS_KEPT)..=len)
            .rev()
            .filter(|count| *count > 0)
            .find_map(|count| known(count).map(|fold| (count, fold)));
        let (done, mut fold) = match start {
            Some((count, fold)) => (count, Some(fold)),
            None => (0, None),
        };
        for (index, event) in history.events().enumerate().skip(done) {
            let version = history.version_at(index + 1);
            let next = Fold::after(fold.as_deref(), event, version).map(Arc::new);
            if let Some(next) = next.clone().filter(|_| index + FOLDS_KEPT >= len) {
                if self.recent.len() >= FOLDS_KEPT {
                    self.recent.pop_front();
                }
                self.recent.push_back(next);
            }
            fold = next;
        }
        fold
    }
}
