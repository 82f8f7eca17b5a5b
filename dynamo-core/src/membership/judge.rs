//! Judging what comes from outside, before any of it has an effect: only what is new and valid is
//! accepted. Everything else is counted or named, and changes nothing.

use std::collections::BTreeMap;

use super::history::{Event, HistoryError};
use super::registers::{BucketEntry, StagedEntry};
use super::state::{NodeState, Stamp, StateError};
use super::view::{Delta, Membership};
use crate::id::{ClusterId, NodeId};
use crate::key::Bucket;
use crate::limits::BUCKETS_MAX;
use crate::time::WallMs;

/// Why a part of a delta was not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// An event.
    #[error(transparent)]
    Event(#[from] HistoryError),
    /// The state of a node.
    #[error("state of node {node}: {error}")]
    State {
        /// The node.
        node: NodeId,
        /// What is wrong.
        error: StateError,
    },
    /// There is no room for another candidate.
    #[error("too many nodes that are no members")]
    TooManyCandidates,
    /// There is no room for another bucket.
    #[error("at most {BUCKETS_MAX} buckets have properties of their own")]
    TooManyBuckets,
    /// A register was written too far in the future to be believed.
    #[error("a timestamp is more than a minute ahead of this node's clock")]
    ClockSkew,
    /// Properties or the name of a bucket are invalid.
    #[error("invalid bucket properties")]
    Bucket,
    /// The staged changes are invalid.
    #[error("invalid staged changes")]
    Staged,
    /// Something about a cluster came to a node that may not adopt it.
    #[error("this node does not adopt a cluster from that peer")]
    NotAdopting,
}

/// A judged delta.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Judged {
    /// What is new and valid: to be made durable, then applied.
    pub accept: Delta,
    /// What is invalid.
    pub refused: Vec<Refusal>,
    /// Parts that were known already or older than what is known (replays).
    pub known: u32,
    /// A newer life of this very node exists: this process must stop speaking for it (I-24).
    pub fenced: Option<Stamp>,
}

impl Membership {
    /// Judges a delta of a peer. `may_adopt` says whether an agent that belongs to no cluster may
    /// join the delta's. Nothing changes.
    #[must_use]
    pub fn judge(&self, delta: Delta, may_adopt: bool, wall: WallMs) -> Judged {
        let mut judged = Judged::default();
        let founded = !self.history.is_empty();
        if !founded && !may_adopt && !delta.events.is_empty() {
            judged.refused.push(Refusal::NotAdopting);
        } else {
            self.judge_events(delta.events, &mut judged);
        }
        let adopted = judged.accept.events.first().and_then(Event::cluster);
        let cluster = self.cluster().or(adopted);
        if let Some(staged) = delta.staged {
            self.judge_staged(staged, cluster, wall, &mut judged);
        }
        if cluster.is_some() {
            self.judge_buckets(delta.buckets, wall, &mut judged);
        }
        for state in delta.states {
            self.judge_state(state, &mut judged);
        }
        judged
    }

    fn judge_events(&self, events: Vec<Event>, judged: &mut Judged) {
        if events.is_empty() {
            return;
        }
        let mut history = self.history.clone();
        for event in events {
            match history.insert(event.clone()) {
                Ok(true) => judged.accept.events.push(event),
                Ok(false) => judged.known += 1,
                Err(error) => judged.refused.push(error.into()),
            }
        }
    }

    fn judge_staged(
        &self,
        entry: StagedEntry,
        cluster: Option<ClusterId>,
        wall: WallMs,
        judged: &mut Judged,
    ) {
        if !entry.is_valid() {
            judged.refused.push(Refusal::Staged);
        } else if entry.stamp.at.is_ahead_of(wall) {
            judged.refused.push(Refusal::ClockSkew);
        } else if self.registers.staged_is_news(&entry, cluster) {
            judged.accept.staged = Some(entry);
        } else {
            judged.known += 1;
        }
    }

    fn judge_buckets(
        &self,
        buckets: BTreeMap<String, BucketEntry>,
        wall: WallMs,
        judged: &mut Judged,
    ) {
        let mut room = BUCKETS_MAX.saturating_sub(self.registers.buckets.len());
        for (name, entry) in buckets {
            let valid = name.parse::<Bucket>().is_ok()
                && entry.props.is_none_or(|props| props.validated().is_ok());
            let new = !self.registers.buckets.contains_key(&name);
            if !valid {
                judged.refused.push(Refusal::Bucket);
            } else if entry.stamp.at.is_ahead_of(wall) {
                judged.refused.push(Refusal::ClockSkew);
            } else if !self.registers.bucket_is_news(&name, &entry) {
                judged.known += 1;
            } else if new && room == 0 {
                judged.refused.push(Refusal::TooManyBuckets);
            } else {
                room -= usize::from(new);
                judged.accept.buckets.insert(name, entry);
            }
        }
    }

    fn judge_state(&self, state: NodeState, judged: &mut Judged) {
        if let Err(error) = state.check() {
            judged.refused.push(Refusal::State { node: state.node, error });
        } else if state.node == self.me {
            self.judge_echo(&state, judged);
        } else if self.fold.as_ref().is_some_and(|fold| fold.is_given_up(state.node))
            || !self.states.is_news(&state)
        {
            judged.known += 1;
        } else if self.states.get(state.node).is_none() && !self.has_room_for(&state, judged) {
            judged.refused.push(Refusal::TooManyCandidates);
        } else {
            judged.accept.states.push(state);
        }
    }

    fn has_room_for(&self, state: &NodeState, judged: &Judged) -> bool {
        let fold = self.fold.as_ref();
        let joined = fold.is_some_and(|fold| fold.members.contains_key(&state.node));
        // An adopted history names its members only once it is applied.
        let members = fold.map_or(0, |fold| fold.members.len());
        let adopting = fold.is_none() && !judged.accept.events.is_empty();
        joined || adopting || self.states.has_room(members)
    }

    /// A state of this very node that came from outside.
    fn judge_echo(&self, echo: &NodeState, judged: &mut Judged) {
        let mine = self.my_state();
        if mine.stamp.is_fenced_by(echo.stamp) {
            judged.fenced = Some(echo.stamp);
        } else if !echo.stamp.is_fenced_by(mine.stamp) && echo.stamp >= mine.stamp && echo != mine {
            // Somebody speaks in this process's name: outdo it.
            let mut next = mine.clone();
            next.stamp.version = echo.stamp.version + 1;
            judged.accept.states.push(next);
        } else {
            judged.known += 1;
        }
    }
}
