//! What this node remembers of the puts it coordinated, so that a retry gets the dot of the first
//! attempt also when another write has superseded the sibling meanwhile. Without it the retry
//! would mint a second dot and bring a superseded value back.
//!
//! In memory: after a restart a retry of a superseded put makes a new version, which its client's
//! context covers or which shows as a sibling. Nothing is lost by it.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use dynamo_core::clock::dot::Dot;
use dynamo_core::clock::record::Content;
use dynamo_core::id::{KeyHash, PutId};
use dynamo_core::limits::{PUT_ID_MEMORY_MAX, PUT_ID_MEMORY_S};
use dynamo_core::time::Mono;
use xxhash_rust::xxh3::Xxh3;

/// One put that was applied here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct AppliedPut {
    /// The dot it got.
    pub(crate) dot: Dot,
    /// Fingerprint of what it wrote.
    pub(crate) content: u128,
}

type Name = (KeyHash, PutId);

/// The puts of the last minutes, oldest forgotten first.
#[derive(Debug, Default)]
pub(crate) struct PutMemory {
    puts: BTreeMap<Name, AppliedPut>,
    order: VecDeque<(Mono, Name)>,
}

impl PutMemory {
    /// What became of this put, where it is remembered.
    pub(crate) fn get(&self, put: PutId, key: KeyHash) -> Option<AppliedPut> {
        self.puts.get(&(key, put)).copied()
    }

    /// Remembers a put, and forgets what is too old or too much.
    pub(crate) fn insert(&mut self, put: PutId, key: KeyHash, applied: AppliedPut, now: Mono) {
        if self.puts.insert((key, put), applied).is_none() {
            self.order.push_back((now, (key, put)));
        }
        let age = Duration::from_secs(PUT_ID_MEMORY_S);
        while let Some((at, name)) = self.order.front().copied() {
            if self.order.len() <= PUT_ID_MEMORY_MAX && now.since(at) <= age {
                break;
            }
            self.order.pop_front();
            self.puts.remove(&name);
        }
    }

    /// Forgets a put whose commit failed.
    pub(crate) fn remove(&mut self, put: PutId, key: KeyHash) {
        // Its place in the order stays until it is old: removing a missing name is harmless.
        self.puts.remove(&(key, put));
    }

    /// Forgets all puts of an object whose record is gone.
    pub(crate) fn forget(&mut self, key: KeyHash) {
        let all = (key, PutId(0))..=(key, PutId(u128::MAX));
        let names: Vec<Name> = self.puts.range(all).map(|(name, _)| *name).collect();
        for name in names {
            self.puts.remove(&name);
        }
    }
}

/// Fingerprint of what a put writes. The expiry of a relative time to live differs between the
/// attempts of one put, so it does not count.
pub(crate) fn fingerprint(content: &Content) -> u128 {
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
    use dynamo_core::id::{ActorId, NodeId};

    use super::*;

    fn applied(counter: u64) -> AppliedPut {
        let actor = ActorId { node: NodeId(1), epoch: 1 };
        AppliedPut { dot: Dot { actor, counter }, content: 0 }
    }

    #[test]
    fn age_and_number_are_bounded() {
        let key = KeyHash(5);
        let mut memory = PutMemory::default();
        memory.insert(PutId(1), key, applied(1), Mono(0));
        assert_eq!(memory.get(PutId(1), key), Some(applied(1)));
        assert_eq!(memory.get(PutId(1), KeyHash(6)), None, "another object is another put");
        let later = Mono(0).plus(Duration::from_secs(PUT_ID_MEMORY_S + 1));
        memory.insert(PutId(2), key, applied(2), later);
        assert_eq!(memory.get(PutId(1), key), None);
        for id in 0..PUT_ID_MEMORY_MAX as u128 {
            memory.insert(PutId(100 + id), key, applied(3), later);
        }
        assert_eq!(memory.get(PutId(2), key), None);
        assert_eq!(memory.puts.len(), PUT_ID_MEMORY_MAX);
        memory.remove(PutId(100), key);
        assert_eq!(memory.get(PutId(100), key), None);
        memory.insert(PutId(7), KeyHash(6), applied(4), later);
        memory.forget(key);
        assert_eq!(memory.puts.len(), 1);
        assert_eq!(memory.get(PutId(7), KeyHash(6)), Some(applied(4)));
    }
}
