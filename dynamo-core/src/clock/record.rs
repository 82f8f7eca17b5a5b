//! What one replica stores under one key: a clock and the siblings that nothing has superseded.
//!
//! `sync` is a join: commutative, associative, idempotent and monotone (I-5), so replicas that
//! exchange records in any order and any number of times become equal. A delta (one new sibling
//! with its causal past) is a record like any other and is synced the same way.
//!
//! Invariant: the clock covers the dot of every sibling.
//! Not here: minting dots (see [`crate::replica`]), wire and disk forms.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use crate::clock::dot::Dot;
use crate::clock::dvv::Dvv;
use crate::clock::hlc::Hlc;
use crate::id::PutId;
use crate::limits::{CONTENT_TYPE_BYTES_MAX, META_BYTES_MAX, META_ENTRIES_MAX};
use crate::time::WallMs;

/// An object as the client stored it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Value {
    /// The opaque bytes; empty is a value too.
    pub bytes: Bytes,
    /// The stored `Content-Type`; `None` reads as `application/octet-stream`.
    pub content_type: Option<String>,
    /// User metadata (`X-Atoll-Meta-*`), names in lower case, sorted by name.
    pub meta: Vec<(String, String)>,
    /// Absolute time from which on the value reads as absent; the same instant everywhere.
    pub expires_at: Option<WallMs>,
}

impl Value {
    /// Whether content type and metadata are within what any node stores. Checked wherever a value
    /// comes in; the size of the value itself is a setting of the services.
    #[must_use]
    pub fn is_within_limits(&self) -> bool {
        let meta: usize = self.meta.iter().map(|(name, text)| name.len() + text.len()).sum();
        self.content_type.as_ref().is_none_or(|text| text.len() <= CONTENT_TYPE_BYTES_MAX)
            && self.meta.len() <= META_ENTRIES_MAX
            && meta <= META_BYTES_MAX
    }
}

/// What one write event put under the key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// An object.
    Value(Value),
    /// A delete, which is a version like any other until it is safe to reap.
    Tombstone,
}

impl Content {
    /// Whether two attempts of a put carry the same object. The expiry of a relative time to live
    /// differs between attempts, so it does not count.
    #[must_use]
    pub fn is_same_object(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Tombstone, Self::Tombstone) => true,
            (Self::Value(a), Self::Value(b)) => {
                a.bytes == b.bytes && a.content_type == b.content_type && a.meta == b.meta
            }
            _ => false,
        }
    }
}

/// One version that nothing known has superseded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sibling {
    /// The write event that made it.
    pub dot: Dot,
    /// The client put behind it, for idempotent retries.
    pub put_id: PutId,
    /// When the coordinator accepted it.
    pub stamp: Hlc,
    /// What was written.
    pub content: Content,
}

impl Sibling {
    /// Whether a reader at `now` sees a value here (neither deleted nor expired).
    #[must_use]
    pub fn is_live(&self, now: WallMs) -> bool {
        match &self.content {
            Content::Value(value) => value.expires_at.is_none_or(|at| at > now),
            Content::Tombstone => false,
        }
    }
}

/// A clock and its siblings.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Record {
    clock: Dvv,
    siblings: BTreeMap<Dot, Sibling>,
}

impl Record {
    /// A record of `siblings` whose causal past is `clock`. The siblings' own dots are added to
    /// the clock, so the invariant holds by construction.
    #[must_use]
    pub fn new(clock: Dvv, siblings: impl IntoIterator<Item = Sibling>) -> Self {
        let mut record = Self { clock, siblings: BTreeMap::new() };
        for sibling in siblings {
            record.clock.insert(sibling.dot, sibling.stamp.wall());
            record.siblings.insert(sibling.dot, sibling);
        }
        record
    }

    /// Everything that this record has seen, superseded versions included.
    #[must_use]
    pub fn clock(&self) -> &Dvv {
        &self.clock
    }

    /// All siblings in dot order: tombstones, expired values and duplicates of one put included.
    pub fn siblings(&self) -> impl Iterator<Item = &Sibling> + '_ {
        self.siblings.values()
    }

    /// Number of siblings as stored.
    #[must_use]
    pub fn sibling_count(&self) -> usize {
        self.siblings.len()
    }

    /// The sibling that `dot` names, where it is still alive.
    #[must_use]
    pub fn sibling(&self, dot: &Dot) -> Option<&Sibling> {
        self.siblings.get(dot)
    }

    /// True where nothing was ever written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.clock.is_empty()
    }

    /// Joins two records: a sibling stays unless the other side has seen and superseded it.
    #[must_use]
    pub fn sync(&self, other: &Self) -> Self {
        let mut siblings = BTreeMap::new();
        for (from, to) in [(self, other), (other, self)] {
            for (dot, sibling) in &from.siblings {
                if to.siblings.contains_key(dot) || !to.clock.covers(dot) {
                    siblings.insert(*dot, sibling.clone());
                }
            }
        }
        let mut clock = self.clock.clone();
        clock.merge(&other.clock);
        Self { clock, siblings }
    }

    /// Whether syncing `other` into this record would change nothing.
    #[must_use]
    pub fn contains(&self, other: &Self) -> bool {
        self.clock.descends(&other.clock)
            && self
                .siblings
                .keys()
                .all(|dot| other.siblings.contains_key(dot) || !other.clock.covers(dot))
    }

    /// Takes out the siblings that `is_over` names. The clock goes on covering them, as after a put
    /// that supersedes them.
    #[must_use]
    pub(crate) fn without(mut self, is_over: impl Fn(&Sibling) -> bool) -> Self {
        self.siblings.retain(|_, sibling| !is_over(sibling));
        self
    }

    /// What a reader at `now` is shown: live values in dot order, each put once. (Two coordinators
    /// may both have accepted one retried put; the smaller dot stands for it.)
    #[must_use]
    pub fn visible(&self, now: WallMs) -> Vec<&Sibling> {
        let mut seen = BTreeSet::new();
        self.siblings
            .values()
            .filter(|sibling| sibling.is_live(now) && seen.insert(sibling.put_id))
            .collect()
    }

    /// Whether the key was deleted (or expired): something was written and nothing is live.
    #[must_use]
    pub fn is_deleted(&self, now: WallMs) -> bool {
        !self.clock.is_empty() && !self.siblings.values().any(|sibling| sibling.is_live(now))
    }

    /// The latest stamp of any sibling.
    #[must_use]
    pub fn latest_stamp(&self) -> Hlc {
        self.siblings.values().map(|sibling| sibling.stamp).max().unwrap_or_default()
    }

    /// Keeps the sibling with the greatest (stamp, dot) alone: last-write-wins between concurrent
    /// versions. The clock keeps covering the ones dropped. Stamps follow causality (see
    /// [`Hlc`]), so the outcome does not depend on the order of merges.
    #[must_use]
    pub fn last_write(mut self) -> Self {
        let winner = self.siblings.values().map(|sibling| (sibling.stamp, sibling.dot)).max();
        if let Some((_, dot)) = winner {
            self.siblings.retain(|other, _| *other == dot);
        }
        self
    }

    /// Bytes of all values and metadata, for budgets.
    #[must_use]
    pub fn payload_bytes(&self) -> usize {
        let of = |sibling: &Sibling| match &sibling.content {
            Content::Value(value) => {
                let meta: usize = value.meta.iter().map(|(k, v)| k.len() + v.len()).sum();
                value.bytes.len() + meta + value.content_type.as_ref().map_or(0, String::len)
            }
            Content::Tombstone => 0,
        };
        self.siblings.values().map(of).sum()
    }

    pub(crate) fn clock_mut(&mut self) -> &mut Dvv {
        &mut self.clock
    }
}
