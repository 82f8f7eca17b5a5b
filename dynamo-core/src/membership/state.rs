//! What each node says about itself: where it listens, which store it has, what it holds. Every
//! node writes its own state only and passes on those of the others; of two states of one node the
//! one with the greater [`Stamp`] wins.
//!
//! States say nothing about up or down (paper section 4.8.3: failure is a local notion), and
//! members do not repeat themselves, so a quiet cluster gossips digests only (hazards C14, C15).
//! Nodes that are no members must say now and then that they are there, or they are forgotten.
//!
//! Like events, states derive serde: their JSON form is hashed and stored.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use super::member::{Addresses, MemberError, check_name, check_weight, check_zone};
use crate::id::{Incarnation, NodeId, StoreId};
use crate::limits::{CANDIDATE_SILENCE_MS, CANDIDATES_MAX, NODES_EVER_MAX};
use crate::ring::PartitionSet;
use crate::time::Mono;

/// Number of slices of the node-id space that are compared as one hash each.
pub const STATE_RANGES: usize = 16;

/// Largest counter that is believed. No process counts that far; beyond it a forged state could
/// not be outgrown any more.
const COUNTER_MAX: u64 = 1 << 48;

/// Which of two states of one node is the newer: first the life of its agent, then the count
/// within it.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(deny_unknown_fields)]
pub struct Stamp {
    /// Incarnation of the agent: grows at each start.
    pub incarnation: Incarnation,
    /// Drawn at random at each start: tells two processes apart that run on copies of one data
    /// directory. The greater one is listened to.
    pub life: u64,
    /// Counts the changes within this life.
    pub version: u64,
}

impl Stamp {
    /// Whether this is an earlier or the losing life of the node, as seen from `other`.
    #[must_use]
    pub fn is_fenced_by(self, other: Self) -> bool {
        (self.incarnation, self.life) < (other.incarnation, other.life)
    }

    fn is_believable(self) -> bool {
        self.incarnation.0 <= COUNTER_MAX && self.version <= COUNTER_MAX
    }
}

/// What a storage node tells its agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoreState {
    /// Its store.
    pub store_id: StoreId,
    /// Its actor epoch.
    pub epoch: u64,
    /// Incarnation of the storage process.
    pub incarnation: Incarnation,
    /// The partitions that it holds completely; absent before it knows the ring.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holds: Option<PartitionSet>,
    /// Whether it has data beside what it holds that must go to others before the node may be
    /// switched off: partitions left over, hints.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub leftover: bool,
    /// Bytes stored, roughly: for the estimates of a plan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
}

/// Everything that a node says about itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeState {
    /// The node.
    pub node: NodeId,
    /// Which state of the node this is.
    pub stamp: Stamp,
    /// Its name.
    pub name: String,
    /// Its failure domain as configured: what a `join` records unless it says otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// Its weight as configured: what a `join` records unless it says otherwise.
    pub weight: u32,
    /// Where its processes listen.
    pub addresses: Addresses,
    /// Its store; absent until its storage node has reported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store: Option<StoreState>,
}

/// A state that no correct node publishes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    /// A counter that no process reaches.
    #[error("a counter of the state is out of bounds")]
    Counter,
    /// A description that breaks a rule.
    #[error(transparent)]
    Member(#[from] MemberError),
}

impl NodeState {
    /// Checks what can be checked without other states.
    ///
    /// # Errors
    /// The first rule that the state breaks.
    pub fn check(&self) -> Result<(), StateError> {
        let store_ok = self
            .store
            .as_ref()
            .is_none_or(|store| store.incarnation.0 <= COUNTER_MAX && store.epoch <= COUNTER_MAX);
        if !self.stamp.is_believable() || !store_ok {
            return Err(StateError::Counter);
        }
        check_name(&self.name)?;
        check_zone(self.zone.as_deref())?;
        check_weight(self.weight)?;
        Ok(self.addresses.check()?)
    }

    /// The form that is stored and hashed.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a state has string keys only and no failing serializer")
    }

    fn digest(&self) -> u64 {
        xxh3_64(&self.encode())
    }
}

/// A state with what was noted when it arrived.
#[derive(Debug, Clone)]
struct Known {
    state: NodeState,
    digest: u64,
    bytes: usize,
    heard_at: Mono,
}

/// The states of all nodes that are known.
#[derive(Debug, Clone, Default)]
pub struct States {
    by_node: BTreeMap<NodeId, Known>,
    /// Nodes that fell silent and were forgotten, with their last stamp: only a newer state makes
    /// them known again, not an echo from a peer that forgets later.
    forgotten: BTreeMap<NodeId, Stamp>,
    ranges: [u64; STATE_RANGES],
}

impl States {
    /// What `node` said last.
    #[must_use]
    pub fn get(&self, node: NodeId) -> Option<&NodeState> {
        self.by_node.get(&node).map(|known| &known.state)
    }

    /// All states, by node.
    pub fn iter(&self) -> impl Iterator<Item = &NodeState> {
        self.by_node.values().map(|known| &known.state)
    }

    /// Number of states.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_node.len()
    }

    /// Whether no state is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_node.is_empty()
    }

    /// Whether `state` would replace what is known. Of equal stamps with different content, which
    /// only a faulty node produces, one is preferred everywhere alike.
    #[must_use]
    pub fn is_news(&self, state: &NodeState) -> bool {
        if self.forgotten.get(&state.node).is_some_and(|last| state.stamp <= *last) {
            return false;
        }
        let Some(known) = self.by_node.get(&state.node) else { return true };
        match state.stamp.cmp(&known.state.stamp) {
            Ordering::Less => false,
            Ordering::Equal => state.digest() > known.digest,
            Ordering::Greater => true,
        }
    }

    /// Bytes of what is known of `node` in its JSON form; 0 where nothing is.
    #[must_use]
    pub fn bytes(&self, node: NodeId) -> usize {
        self.by_node.get(&node).map_or(0, |known| known.bytes)
    }

    /// Whether there is room for one more node that is not a member.
    #[must_use]
    pub fn has_room(&self, members: usize) -> bool {
        self.by_node.len() < members + CANDIDATES_MAX
    }

    /// Takes a state that [`States::is_news`].
    pub fn put(&mut self, state: NodeState, now: Mono) {
        let encoded = state.encode();
        let (digest, bytes) = (xxh3_64(&encoded), encoded.len());
        let node = state.node;
        self.forgotten.remove(&node);
        let known = Known { state, digest, bytes, heard_at: now };
        let before = self.by_node.insert(node, known).map(|known| known.digest);
        self.toggle(node, before, Some(digest));
    }

    /// Drops what is known of `node`, and its echoes.
    pub fn forget(&mut self, node: NodeId) {
        let Some(known) = self.by_node.remove(&node) else { return };
        self.toggle(node, Some(known.digest), None);
        while self.forgotten.len() >= NODES_EVER_MAX {
            self.forgotten.pop_first();
        }
        self.forgotten.insert(node, known.state.stamp);
    }

    /// The nodes that have been silent for [`CANDIDATE_SILENCE_MS`].
    pub fn silent(&self, now: Mono) -> impl Iterator<Item = NodeId> + '_ {
        let limit = Duration::from_millis(CANDIDATE_SILENCE_MS);
        self.by_node
            .iter()
            .filter(move |(_, known)| now.since(known.heard_at) >= limit)
            .map(|(node, _)| *node)
    }

    /// One hash per slice of the node-id space: equal hashes, equal states.
    #[must_use]
    pub fn ranges(&self) -> &[u64; STATE_RANGES] {
        &self.ranges
    }

    /// The stamps of the nodes in one slice.
    pub fn stamps(&self, range: usize) -> impl Iterator<Item = (NodeId, Stamp)> + '_ {
        self.iter()
            .filter(move |state| range_of(state.node) == range)
            .map(|state| (state.node, state.stamp))
    }

    /// The sum over a slice does not depend on the order of arrival.
    fn toggle(&mut self, node: NodeId, out: Option<u64>, into: Option<u64>) {
        let salt = xxh3_64(&node.0.to_le_bytes());
        let mixed = |digest: Option<u64>| {
            digest.map_or(0, |digest| xxh3_64_with_seed(&digest.to_le_bytes(), salt))
        };
        if let Some(sum) = self.ranges.get_mut(range_of(node)) {
            *sum = sum.wrapping_sub(mixed(out)).wrapping_add(mixed(into));
        }
    }
}

/// The slice that a node belongs to. Ids are random, so slices are about equal.
#[must_use]
pub fn range_of(node: NodeId) -> usize {
    (node.0 % STATE_RANGES as u128) as usize
}
