//! What one agent knows: history, states and registers, and the view of the cluster that follows.
//!
//! Everything that changes it is a [`Delta`], whether it comes from a peer, from the disk or from
//! an administrator. A delta is first judged, without effect ([`super::judge`]); what was
//! accepted is made durable by the caller; only then it is applied ([`Membership::apply`]). So
//! nothing is acknowledged or passed on that a crash could take back.
//!
//! Not here: how deltas travel ([`super::gossip`]) and how changes are planned ([`super::plan`]).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::fold::{Fold, FoldCache};
use super::history::{Event, History, HistoryError};
use super::member::MemberStatus;
use super::registers::{BucketEntry, Registers, StagedChange, StagedEntry, WriteStamp};
use super::state::{NodeState, StateError, States};
use crate::clock::hlc::Hlc;
use crate::id::{ClusterId, NodeId};
use crate::key::Bucket;
use crate::limits::CANDIDATE_REFRESH_MS;
use crate::params::BucketProps;
use crate::ring::{PartitionSet, RingVersion};
use crate::time::{Mono, WallMs};
use crate::wire::membership::LocalStorage;
use crate::wire::ring::{NodeInfo, RING_FORMAT, RingSnapshot};

/// A set of things to know. JSON form of gossip and of the agent's own file.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Delta {
    /// Events, in an order in which they can be inserted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<Event>,
    /// Staged changes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub staged: Option<StagedEntry>,
    /// Bucket properties by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub buckets: BTreeMap<String, BucketEntry>,
    /// States of nodes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub states: Vec<NodeState>,
}

impl Delta {
    /// Whether there is nothing in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// A delta of one state.
    #[must_use]
    pub fn of_state(state: NodeState) -> Self {
        Self { states: vec![state], ..Self::default() }
    }

    /// Whether losing it in a crash would break a promise. States are repeated by their nodes;
    /// everything else is a decision of somebody who was told that it was taken.
    #[must_use]
    pub fn must_be_durable(&self) -> bool {
        !self.events.is_empty() || self.staged.is_some() || !self.buckets.is_empty()
    }
}

/// Why a report of the storage node is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReportError {
    /// It is about another node.
    #[error("the report is about another node than this agent's")]
    OtherNode,
    /// A newer storage process has reported.
    #[error("a newer storage process has reported for this node")]
    Stale,
    /// It is invalid.
    #[error(transparent)]
    State(#[from] StateError),
}

/// Everything one agent knows.
#[derive(Debug, Clone)]
pub struct Membership {
    pub(super) me: NodeId,
    pub(super) history: History,
    folds: FoldCache,
    pub(super) fold: Option<Arc<Fold>>,
    pub(super) states: States,
    pub(super) registers: Registers,
    said_at: Mono,
}

impl Membership {
    /// An agent that knows of nobody but itself.
    #[must_use]
    pub fn new(me: NodeState, now: Mono) -> Self {
        let mut states = States::default();
        let node = me.node;
        states.put(me, now);
        Self {
            me: node,
            history: History::new(),
            folds: FoldCache::default(),
            fold: None,
            states,
            registers: Registers::default(),
            said_at: now,
        }
    }

    /// This agent's node.
    #[must_use]
    pub fn me(&self) -> NodeId {
        self.me
    }

    /// What this agent says about its node.
    #[must_use]
    pub fn my_state(&self) -> &NodeState {
        self.states.get(self.me).expect("the own state is put first and never forgotten")
    }

    /// The history.
    #[must_use]
    pub fn history(&self) -> &History {
        &self.history
    }

    /// Members and ring; `None` before the founding.
    #[must_use]
    pub fn fold(&self) -> Option<&Arc<Fold>> {
        self.fold.as_ref()
    }

    /// The states.
    #[must_use]
    pub fn states(&self) -> &States {
        &self.states
    }

    /// The registers.
    #[must_use]
    pub fn registers(&self) -> &Registers {
        &self.registers
    }

    /// The cluster; `None` before the founding.
    #[must_use]
    pub fn cluster(&self) -> Option<ClusterId> {
        self.fold.as_ref().map(|fold| fold.cluster)
    }

    /// The version of history and ring.
    #[must_use]
    pub fn version(&self) -> RingVersion {
        self.history.version()
    }

    /// The staged changes of this cluster.
    #[must_use]
    pub fn staged(&self) -> &[StagedChange] {
        let cluster = self.cluster();
        self.registers
            .staged
            .as_ref()
            .filter(|entry| entry.cluster == cluster)
            .map_or(&[], |entry| &entry.changes)
    }

    /// A time for a register that follows everything this agent has seen.
    #[must_use]
    pub fn stamp(&self, wall: WallMs) -> WriteStamp {
        let at = Hlc::after(self.registers.latest(), wall);
        WriteStamp { at, by: self.me }
    }

    /// What a node is to the ring; `None` for an unknown one.
    #[must_use]
    pub fn status(&self, node: NodeId) -> Option<MemberStatus> {
        let state = self.states.get(node);
        let fold = self.fold.as_ref();
        if fold.is_some_and(|fold| fold.members.contains_key(&node)) {
            return Some(MemberStatus::Member);
        }
        if let Some(former) = fold.and_then(|fold| fold.former.get(&node)) {
            let store = state.and_then(|state| state.store.as_ref());
            let is_done = store.is_none_or(|store| {
                !store.leftover && store.holds.as_ref().is_none_or(PartitionSet::is_empty)
            });
            let is_gone = former.forced || is_done;
            return Some(if is_gone { MemberStatus::Removed } else { MemberStatus::Leaving });
        }
        state.map(|_| MemberStatus::Candidate)
    }

    /// A changed description of this node, as the next state; `None` where nothing changes.
    #[must_use]
    pub fn describe(&self, change: impl FnOnce(&mut NodeState)) -> Option<Delta> {
        let mut next = self.my_state().clone();
        change(&mut next);
        if next == *self.my_state() {
            return None;
        }
        next.stamp.version += 1;
        Some(Delta::of_state(next))
    }

    /// What the storage node of this host reports, as this node's next state; `None` where it says
    /// nothing new.
    ///
    /// # Errors
    /// [`ReportError`] where it is not for this node, not the latest, or invalid.
    pub fn report(&self, report: LocalStorage) -> Result<Option<Delta>, ReportError> {
        if report.node != self.me {
            return Err(ReportError::OtherNode);
        }
        let known = self.my_state().store.as_ref();
        if known.is_some_and(|known| {
            known.store_id == report.store_id && known.incarnation > report.incarnation
        }) {
            return Err(ReportError::Stale);
        }
        let delta = self.describe(|state| state.store = Some(report.state()));
        if let Some(state) = delta.as_ref().and_then(|delta| delta.states.first()) {
            state.check()?;
        }
        Ok(delta)
    }

    /// What this node has to repeat now: a node that is no member says from time to time that it
    /// is still there.
    #[must_use]
    pub fn refresh(&self, now: Mono) -> Option<Delta> {
        let due = now.since(self.said_at) >= Duration::from_millis(CANDIDATE_REFRESH_MS);
        if !due || self.status(self.me) == Some(MemberStatus::Member) {
            return None;
        }
        let mut next = self.my_state().clone();
        next.stamp.version += 1;
        Some(Delta::of_state(next))
    }

    /// Forgets nodes that own and hold nothing and have been silent for long. Returns how many.
    pub fn forget_silent(&mut self, now: Mono) -> usize {
        let idle = |node: &NodeId| {
            *node != self.me
                && matches!(
                    self.status(*node),
                    Some(MemberStatus::Candidate | MemberStatus::Removed)
                )
        };
        let silent: Vec<NodeId> = self.states.silent(now).filter(idle).collect();
        for node in &silent {
            self.states.forget(*node);
        }
        silent.len()
    }

    /// Applies a delta that was accepted and made durable, or read back from the disk.
    ///
    /// # Errors
    /// Where an event does not fit the history, which a judged delta's always do: the caller's
    /// file is damaged. What was applied before stays.
    pub fn apply(&mut self, accept: Delta, now: Mono) -> Result<(), HistoryError> {
        let mut changed = false;
        for event in accept.events {
            changed |= self.history.insert(event)?;
        }
        if changed {
            self.fold = self.folds.fold(&self.history);
            self.forget_given_up();
        }
        if let Some(staged) = accept.staged
            && self.registers.staged_is_news(&staged, self.cluster())
        {
            self.registers.staged = Some(staged);
        }
        for (name, entry) in accept.buckets {
            if self.registers.bucket_is_news(&name, &entry) {
                self.registers.buckets.insert(name, entry);
            }
        }
        for state in accept.states {
            if state.node == self.me {
                self.said_at = now;
            } else if self.fold.as_ref().is_some_and(|fold| fold.is_given_up(state.node)) {
                // Judged before the event that removed the node, or kept on the disk from before.
                continue;
            }
            if self.states.is_news(&state) {
                self.states.put(state, now);
            }
        }
        Ok(())
    }

    fn forget_given_up(&mut self) {
        let Some(fold) = &self.fold else { return };
        let given_up: Vec<NodeId> = fold
            .former
            .values()
            .filter(|former| former.forced && former.member.node != self.me)
            .map(|former| former.member.node)
            .collect();
        for node in given_up {
            self.states.forget(node);
        }
    }

    /// All that is worth keeping over a restart.
    #[must_use]
    pub fn everything(&self) -> Delta {
        Delta {
            events: self.history.events().map(|event| (**event).clone()).collect(),
            staged: self.registers.staged.clone(),
            buckets: self.registers.buckets.clone(),
            states: self.states.iter().cloned().collect(),
        }
    }

    /// Properties of a bucket: its own, or the defaults; `None` before the founding.
    #[must_use]
    pub fn bucket(&self, name: &Bucket) -> Option<BucketProps> {
        let own = self.registers.buckets.get(name.as_str()).and_then(|entry| entry.props);
        own.or_else(|| self.fold.as_ref().map(|fold| fold.defaults))
    }

    /// The view of the cluster for all other processes; `None` before the founding.
    #[must_use]
    pub fn snapshot(&self) -> Option<RingSnapshot> {
        let fold = self.fold.as_ref()?;
        let mut nodes: BTreeMap<NodeId, NodeInfo> = BTreeMap::new();
        let members = fold.members.values().chain(fold.former.values().map(|f| &f.member));
        for member in members {
            let state = self.states.get(member.node);
            let addresses = match state {
                Some(state) => state.addresses.clone().or(&member.addresses),
                None => member.addresses.clone(),
            };
            let status = self.status(member.node).unwrap_or(MemberStatus::Removed);
            let store = state.and_then(|state| state.store.as_ref());
            let info = NodeInfo {
                id: member.node,
                name: member.name.clone(),
                zone: member.zone.clone(),
                weight: member.weight,
                addresses,
                status,
                incarnation: store.map(|store| store.incarnation).unwrap_or_default(),
                holds: store
                    .and_then(|store| store.holds.clone())
                    .filter(|held| status.may_hold() && !held.is_empty()),
                store_id: store.map(|store| store.store_id),
                founding_store: member.founding_store,
                epoch: store.map_or(0, |store| store.epoch),
            };
            nodes.insert(member.node, info);
        }
        for state in self.states.iter() {
            nodes.entry(state.node).or_insert_with(|| NodeInfo::candidate(state));
        }
        let ids: Vec<NodeId> = nodes.keys().copied().collect();
        let index = |owner: NodeId| ids.binary_search(&owner).ok().and_then(|i| i.try_into().ok());
        let own_buckets = self.registers.buckets.iter();
        Some(RingSnapshot {
            format: RING_FORMAT,
            cluster: fold.cluster,
            version: fold.ring.version(),
            partitions: fold.partitions(),
            spacing: fold.spacing,
            owners: fold.ring.owners().map(|owner| owner.and_then(index)).collect(),
            nodes: nodes.into_values().collect(),
            defaults: fold.defaults,
            buckets: own_buckets
                .filter_map(|(name, entry)| Some((name.clone(), entry.props?)))
                .collect(),
        })
    }
}
