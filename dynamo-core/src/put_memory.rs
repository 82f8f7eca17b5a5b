//! What a replica remembers of the puts of the last minutes, so that each is applied once although
//! its attempts reach several coordinators (paper section 5 leaves its "retry states" out).
//!
//! A record names the puts of its siblings only. What has been superseded is known by its dot
//! alone, and a late attempt has none yet: without a memory its coordinator would mint a second
//! dot, and a superseded value would be back. So a replica remembers the put of every version that
//! it has minted or been sent, and a coordinator asks the others for theirs where an earlier
//! attempt may have been applied ([`crate::quorum::catch_up`]).
//!
//! In memory: after a restart the other replicas still remember. Where all have forgotten, a retry
//! of a superseded put makes a new version, which its client's context covers or which shows as a
//! sibling. Nothing is lost by it.
//!
//! Not here: what follows from it for a record ([`crate::replica`], [`crate::clock::twin`]).

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use xxhash_rust::xxh3::Xxh3;

use crate::clock::dot::Dot;
use crate::clock::record::{Content, Record};
use crate::id::{KeyHash, PutId};
use crate::limits::{PUT_ID_MEMORY_MAX, PUT_ID_MEMORY_S, TOLD_PUTS_MAX};
use crate::time::Mono;

/// One put that was applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AppliedPut {
    /// A dot that it got.
    pub dot: Dot,
    /// Fingerprint of what it wrote ([`fingerprint`]).
    pub content: u128,
}

type Name = (KeyHash, PutId);

/// The puts of the last minutes, at most [`PUT_ID_MEMORY_MAX`] of the last [`PUT_ID_MEMORY_S`]
/// seconds, oldest forgotten first.
#[derive(Debug, Default)]
pub struct PutMemory {
    puts: BTreeMap<Name, AppliedPut>,
    order: VecDeque<(Mono, Name)>,
}

impl PutMemory {
    /// What is remembered of the puts of one object.
    #[must_use]
    pub fn of(&self, key: KeyHash) -> PutsOf<'_> {
        PutsOf { memory: Some(self), key }
    }

    /// Remembers a put, and forgets what is too old or too much. What was remembered of the same
    /// put before stays: one dot of it is enough.
    pub fn insert(&mut self, put: PutId, key: KeyHash, applied: AppliedPut, now: Mono) {
        let name = (key, put);
        if self.puts.contains_key(&name) {
            return;
        }
        self.puts.insert(name, applied);
        self.order.push_back((now, name));
        let age = Duration::from_secs(PUT_ID_MEMORY_S);
        while let Some((at, name)) = self.order.front().copied() {
            if self.order.len() <= PUT_ID_MEMORY_MAX && now.since(at) <= age {
                break;
            }
            self.order.pop_front();
            self.puts.remove(&name);
        }
    }

    /// Remembers the puts of all siblings of a record that another replica has sent, and what it
    /// has told of others ([`PutsOf::superseded`]).
    pub fn learn(
        &mut self,
        key: KeyHash,
        record: &Record,
        told: &[(PutId, AppliedPut)],
        now: Mono,
    ) {
        for (put, applied) in told {
            self.insert(*put, key, *applied, now);
        }
        for sibling in record.siblings() {
            if !self.puts.contains_key(&(key, sibling.put_id)) {
                let content = fingerprint(&sibling.content);
                self.insert(sibling.put_id, key, AppliedPut { dot: sibling.dot, content }, now);
            }
        }
    }

    /// All puts that are remembered.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn puts(&self) -> impl Iterator<Item = PutId> + '_ {
        self.puts.keys().map(|(_, put)| *put)
    }

    /// Forgets a put whose commit failed.
    pub fn remove(&mut self, put: PutId, key: KeyHash) {
        // Its place in the order stays until it is old: removing a missing name is harmless.
        self.puts.remove(&(key, put));
    }

    /// Forgets all puts of an object whose record is gone.
    pub fn forget(&mut self, key: KeyHash) {
        let puts: Vec<PutId> = self.of_key(key).map(|(put, _)| put).collect();
        for put in puts {
            self.puts.remove(&(key, put));
        }
    }

    fn of_key(&self, key: KeyHash) -> impl Iterator<Item = (PutId, AppliedPut)> + '_ {
        let all = (key, PutId(0))..=(key, PutId(u128::MAX));
        self.puts.range(all).map(|((_, put), applied)| (*put, *applied))
    }
}

/// What is remembered of the puts of one object; nothing by default.
#[derive(Debug, Clone, Copy, Default)]
pub struct PutsOf<'m> {
    memory: Option<&'m PutMemory>,
    key: KeyHash,
}

impl PutsOf<'_> {
    /// What became of this put, where it is remembered.
    #[must_use]
    pub fn get(&self, put: PutId) -> Option<AppliedPut> {
        self.memory?.puts.get(&(self.key, put)).copied()
    }

    /// The puts that a record has superseded, as far as they are remembered, and
    /// [`TOLD_PUTS_MAX`] at most. A replica that was away while they came and went does not know
    /// that they were applied; it is told with the hint.
    #[must_use]
    pub fn superseded(&self, record: &Record) -> Vec<(PutId, AppliedPut)> {
        let Some(memory) = self.memory else { return Vec::new() };
        let is_gone = |dot: &Dot| record.clock().covers(dot) && record.sibling(dot).is_none();
        memory
            .of_key(self.key)
            .filter(|(_, applied)| is_gone(&applied.dot))
            .take(TOLD_PUTS_MAX)
            .collect()
    }
}

/// Fingerprint of what a put writes. The expiry of a relative time to live differs between the
/// attempts of one put, so it does not count.
#[must_use]
pub fn fingerprint(content: &Content) -> u128 {
    let mut hash = Xxh3::new();
    let mut part = |bytes: &[u8]| {
        hash.update(&(bytes.len() as u64).to_be_bytes());
        hash.update(bytes);
    };
    match content {
        Content::Tombstone => part(b"tombstone"),
        Content::Value(value) => {
            part(b"value");
            part(&value.bytes);
            part(value.content_type.as_deref().unwrap_or_default().as_bytes());
            for (name, text) in &value.meta {
                part(name.as_bytes());
                part(text.as_bytes());
            }
        }
    }
    hash.digest128()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{ActorId, NodeId};

    fn applied(counter: u64) -> AppliedPut {
        let actor = ActorId { node: NodeId(1), epoch: 1 };
        AppliedPut { dot: Dot { actor, counter }, content: 0 }
    }

    #[test]
    fn age_and_number_are_bounded() {
        let key = KeyHash(5);
        let mut memory = PutMemory::default();
        memory.insert(PutId(1), key, applied(1), Mono(0));
        memory.insert(PutId(1), key, applied(9), Mono(1));
        assert_eq!(memory.of(key).get(PutId(1)), Some(applied(1)), "the first dot stays");
        assert_eq!(memory.of(KeyHash(6)).get(PutId(1)), None, "another object is another put");
        let later = Mono(0).plus(Duration::from_secs(PUT_ID_MEMORY_S + 1));
        memory.insert(PutId(2), key, applied(2), later);
        assert_eq!(memory.of(key).get(PutId(1)), None);
        for id in 0..PUT_ID_MEMORY_MAX as u128 {
            memory.insert(PutId(100 + id), key, applied(3), later);
        }
        assert_eq!(memory.of(key).get(PutId(2)), None);
        assert_eq!(memory.puts.len(), PUT_ID_MEMORY_MAX);
        memory.remove(PutId(100), key);
        assert_eq!(memory.of(key).get(PutId(100)), None);
        memory.insert(PutId(7), KeyHash(6), applied(4), later);
        memory.forget(key);
        assert_eq!(memory.puts.len(), 1);
        assert_eq!(memory.of(KeyHash(6)).get(PutId(7)), Some(applied(4)));
        assert_eq!(PutsOf::default().get(PutId(7)), None);
    }
}
