//! The history of membership changes: a set of events that only grows (paper section 4.8.1).
//!
//! An event is one commit of an administrator: one or many changes that were planned together. Its
//! id is a Lamport time and its issuer, which orders all events of a cluster totally and places
//! every event behind all that its issuer knew. Merging two histories is set union.
//!
//! Invariants:
//! - events of one issuer are numbered 1, 2, 3 … without gap, so "issuer → last number" says
//!   exactly which events a history contains (the digest that gossip compares);
//! - the first event, and only that one, founds the cluster;
//! - two histories with equal versions are equal.
//!
//! Events derive serde, unlike other domain types: their JSON form is what is hashed, stored and
//! gossiped, byte for byte the same everywhere. A golden file holds it.
//!
//! Not here: what the events mean for members and ring ([`super::fold`]).

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use super::member::{Addresses, MemberError, check_name, check_weight, check_zone};
use crate::id::{ClusterId, NodeId, StoreId};
use crate::limits::{CHANGES_MAX, HISTORY_EVENTS_MAX, REPLICAS_MAX};
use crate::params::BucketProps;
use crate::ring::{Partitions, RingVersion};
use crate::time::WallMs;

/// Largest accepted time of issue, in the year 10889: keeps times exact in every JSON reader.
const ISSUED_AT_MAX: WallMs = WallMs(1 << 48);

/// The order and identity of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EventId {
    /// One more than the largest Lamport time that the issuer knew. Counts a chain of events, so
    /// it never exceeds [`HISTORY_EVENTS_MAX`].
    pub lamport: u64,
    /// The node at which the administrator committed.
    pub issuer: NodeId,
}

/// What is recorded of a node that becomes a member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Joiner {
    /// The node.
    pub node: NodeId,
    /// Its name.
    pub name: String,
    /// Its failure domain; absent where unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// Its capacity in relation to the others.
    pub weight: u32,
    /// Where to reach it until it says so itself.
    pub addresses: Addresses,
    /// Its store at the time; always known of founders.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store: Option<StoreId>,
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Change {
    /// Founds the cluster: first change of its first event. The joins of that event are the
    /// founders.
    Init {
        /// Its identity.
        cluster: ClusterId,
        /// Its number of partitions, for life.
        partitions: Partitions,
        /// How many consecutive positions are on distinct nodes and zones.
        spacing: u8,
        /// Properties of buckets that have no own.
        defaults: BucketProps,
    },
    /// A node becomes a member.
    Join {
        /// The node.
        joiner: Joiner,
    },
    /// A member leaves.
    Leave {
        /// The node.
        node: NodeId,
        /// Its data is given up: it is not read from any more. Otherwise it answers for what it
        /// holds until the new owners hold it.
        forced: bool,
    },
    /// A new node takes the place of a member, which leaves.
    Replace {
        /// The member.
        node: NodeId,
        /// The node in its place.
        joiner: Joiner,
    },
    /// A member's capacity changes.
    SetWeight {
        /// The member.
        node: NodeId,
        /// Its new weight.
        weight: u32,
    },
    /// A member's failure domain changes.
    SetZone {
        /// The member.
        node: NodeId,
        /// Its new zone; absent for unknown.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        zone: Option<String>,
    },
    /// Where to reach a member of which nothing newer is known.
    SetAddress {
        /// The member.
        node: NodeId,
        /// Its addresses; absent ones stay as they are.
        addresses: Addresses,
    },
}

impl Change {
    /// Whether the change may move partitions.
    #[must_use]
    pub fn places(&self) -> bool {
        !matches!(self, Self::SetAddress { .. })
    }
}

/// One committed plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Event {
    /// Identity and order.
    pub id: EventId,
    /// Number among the events of its issuer, from 1.
    pub seq: u64,
    /// Wall clock of the issuer, for people; decides nothing.
    pub issued_at: WallMs,
    /// The history that the change was planned on.
    pub parent: RingVersion,
    /// The changes, in order.
    pub changes: Vec<Change>,
}

/// An event that no correct node issues.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EventError {
    /// The Lamport time, number, parent or time of issue is out of bounds.
    #[error("event order out of bounds")]
    Order,
    /// No change, or more than [`CHANGES_MAX`].
    #[error("an event has 1 to {CHANGES_MAX} changes")]
    Changes,
    /// A founding anywhere but at the start of the first event, or a first event without one.
    #[error("exactly the first event founds the cluster")]
    Founding,
    /// A founding with impossible parameters.
    #[error("impossible cluster parameters")]
    Parameters,
    /// A node is described impossibly.
    #[error(transparent)]
    Member(#[from] MemberError),
}

impl Event {
    /// Checks everything that can be checked without the history.
    ///
    /// # Errors
    /// The first rule that the event breaks.
    pub fn check(&self) -> Result<(), EventError> {
        let events_max = HISTORY_EVENTS_MAX as u64;
        let ordered = (1..=events_max).contains(&self.id.lamport)
            && (1..=self.id.lamport).contains(&self.seq)
            && self.parent.number < events_max
            && self.issued_at <= ISSUED_AT_MAX;
        if !ordered {
            return Err(EventError::Order);
        }
        if !(1..=CHANGES_MAX).contains(&self.changes.len()) {
            return Err(EventError::Changes);
        }
        let first = self.id.lamport == 1;
        if first != self.founds() || first != (self.parent == RingVersion::default()) {
            return Err(EventError::Founding);
        }
        if self.changes.iter().skip(1).any(|change| matches!(change, Change::Init { .. })) {
            return Err(EventError::Founding);
        }
        self.changes.iter().try_for_each(check_change)
    }

    /// Whether the event founds a cluster.
    #[must_use]
    pub fn founds(&self) -> bool {
        self.cluster().is_some()
    }

    /// The cluster that the event founds.
    #[must_use]
    pub fn cluster(&self) -> Option<ClusterId> {
        match self.changes.first() {
            Some(Change::Init { cluster, .. }) => Some(*cluster),
            _ => None,
        }
    }

    /// The form that is stored, gossiped and hashed.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("an event has string keys only and no failing serializer")
    }

    fn digest(&self) -> u64 {
        xxh3_64(&self.encode())
    }
}

fn check_change(change: &Change) -> Result<(), EventError> {
    match change {
        Change::Init { spacing, defaults, .. } => {
            let possible = (1..=REPLICAS_MAX).contains(spacing) && defaults.validated().is_ok();
            if possible { Ok(()) } else { Err(EventError::Parameters) }
        }
        Change::Join { joiner } | Change::Replace { joiner, .. } => {
            check_name(&joiner.name)?;
            check_zone(joiner.zone.as_deref())?;
            check_weight(joiner.weight)?;
            Ok(joiner.addresses.check()?)
        }
        Change::Leave { .. } => Ok(()),
        Change::SetWeight { weight, .. } => Ok(check_weight(*weight)?),
        Change::SetZone { zone, .. } => Ok(check_zone(zone.as_deref())?),
        Change::SetAddress { addresses, .. } => Ok(addresses.check()?),
    }
}

/// Why an event is not taken into a history.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HistoryError {
    /// No correct node issues such an event.
    #[error(transparent)]
    Event(#[from] EventError),
    /// An earlier event of the same issuer is not known yet. It will come with a later message.
    #[error("events {after} and following of node {issuer} are missing before {seq}")]
    Gap {
        /// The issuer.
        issuer: NodeId,
        /// The last known number.
        after: u64,
        /// The number of the event.
        seq: u64,
    },
    /// Another event has the same number: the issuer's data directory was copied or restored.
    #[error("node {issuer} issued two different events with number {seq}")]
    Conflict {
        /// The issuer.
        issuer: NodeId,
        /// The number.
        seq: u64,
    },
    /// The event founds another cluster, or nothing was founded yet.
    #[error("the event belongs to another cluster")]
    OtherCluster,
    /// The history has as many events as it may.
    #[error("a history has at most {HISTORY_EVENTS_MAX} events")]
    Full,
}

/// The set of events.
#[derive(Debug, Clone, Default)]
pub struct History {
    events: BTreeMap<EventId, Arc<Event>>,
    /// Per issuer its events in order: place `seq − 1`.
    issuers: BTreeMap<NodeId, Vec<EventId>>,
    /// In event order: digest of the event, hash of the history up to and including it.
    chain: Vec<(u64, u64)>,
}

impl PartialEq for History {
    fn eq(&self, other: &Self) -> bool {
        self.events == other.events
    }
}

impl Eq for History {}

impl History {
    /// The history before the founding.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an event; false where it is already there.
    ///
    /// # Errors
    /// [`HistoryError`]; the history is unchanged.
    pub fn insert(&mut self, event: Event) -> Result<bool, HistoryError> {
        event.check()?;
        let (id, seq) = (event.id, event.seq);
        let issuer = id.issuer;
        let known: &[EventId] = self.issuers.get(&issuer).map_or(&[], Vec::as_slice);
        let after = known.len() as u64;
        if seq <= after {
            let same = self.events.get(&id).is_some_and(|present| **present == event);
            return if same { Ok(false) } else { Err(HistoryError::Conflict { issuer, seq }) };
        }
        if event.founds() != self.is_empty() {
            return Err(HistoryError::OtherCluster);
        }
        if seq != after + 1 {
            return Err(HistoryError::Gap { issuer, after, seq });
        }
        if known.last().is_some_and(|last| last.lamport >= id.lamport) {
            return Err(HistoryError::Event(EventError::Order));
        }
        if self.events.len() >= HISTORY_EVENTS_MAX {
            return Err(HistoryError::Full);
        }
        self.issuers.entry(issuer).or_default().push(id);
        self.events.insert(id, Arc::new(event));
        self.extend_chain(id);
        Ok(true)
    }

    /// Recomputes the hashes from `id` on.
    fn extend_chain(&mut self, id: EventId) {
        let before = self.events.range(..id).count();
        let mut hash = match before.checked_sub(1).and_then(|last| self.chain.get(last)) {
            Some((_, hash)) => *hash,
            None => 0,
        };
        let tail = self.chain.split_off(before.min(self.chain.len()));
        let mut later = tail.into_iter().map(|(digest, _)| digest);
        for (event_id, event) in self.events.range(id..) {
            let digest = if *event_id == id {
                event.digest()
            } else {
                later.next().unwrap_or_else(|| event.digest())
            };
            hash = xxh3_64_with_seed(&digest.to_le_bytes(), hash);
            self.chain.push((digest, hash));
        }
    }

    /// Whether nothing was founded yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// Number of events.
    #[must_use]
    pub fn len(&self) -> usize {
        self.events.len()
    }

    /// The events in order.
    pub fn events(&self) -> impl DoubleEndedIterator<Item = &Arc<Event>> {
        self.events.values()
    }

    /// Number and hash of the history: the version of its ring.
    #[must_use]
    pub fn version(&self) -> RingVersion {
        self.version_at(self.chain.len())
    }

    /// The version of the first `count` events.
    #[must_use]
    pub fn version_at(&self, count: usize) -> RingVersion {
        match count.checked_sub(1).and_then(|last| self.chain.get(last)) {
            Some((_, hash)) => RingVersion { number: count as u64, hash: *hash },
            None => RingVersion::default(),
        }
    }

    /// The cluster that the history is about.
    #[must_use]
    pub fn cluster(&self) -> Option<ClusterId> {
        self.events.values().next()?.cluster()
    }

    /// Per issuer the number of its last event.
    #[must_use]
    pub fn digest(&self) -> BTreeMap<NodeId, u64> {
        self.issuers.iter().map(|(issuer, ids)| (*issuer, ids.len() as u64)).collect()
    }

    /// The events that a history with `digest` lacks, in an order in which they can be inserted.
    pub fn missing<'a>(
        &'a self,
        digest: &'a BTreeMap<NodeId, u64>,
    ) -> impl Iterator<Item = &'a Arc<Event>> {
        self.events
            .values()
            .filter(|event| event.seq > digest.get(&event.id.issuer).copied().unwrap_or(0))
    }

    /// Whether a history with `digest` has events that this one lacks.
    #[must_use]
    pub fn lacks(&self, digest: &BTreeMap<NodeId, u64>) -> bool {
        digest.iter().any(|(issuer, seq)| {
            *seq > self.issuers.get(issuer).map_or(0, |events| events.len() as u64)
        })
    }

    /// Id and number of the next event of `issuer`.
    #[must_use]
    pub fn next_id(&self, issuer: NodeId) -> (EventId, u64) {
        let lamport = self.events.keys().next_back().map_or(0, |last| last.lamport) + 1;
        let seq = self.issuers.get(&issuer).map_or(0, |events| events.len() as u64) + 1;
        (EventId { lamport, issuer }, seq)
    }
}
