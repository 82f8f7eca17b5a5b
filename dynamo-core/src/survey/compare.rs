//! Comparing what several nodes list of the same keys.

use std::collections::BTreeMap;

use crate::clock::digest::RecordDigest;
use crate::id::NodeId;
use crate::key::ObjectKey;
use crate::merkle::KeyEntry;

/// A key that its replicas do not agree about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The object.
    pub object: ObjectKey,
    /// What each node has, in the order of the nodes; `None` for nothing.
    pub replicas: Vec<(NodeId, Option<RecordDigest>)>,
}

/// Compares complete listings of the same keys by the nodes that are to have them all. Returns how
/// many distinct keys there are, and those that are not the same everywhere, in scan order.
#[must_use]
pub fn compare(listings: &BTreeMap<NodeId, Vec<KeyEntry>>) -> (u64, Vec<Difference>) {
    let mut keys: BTreeMap<Vec<u8>, (&ObjectKey, BTreeMap<NodeId, RecordDigest>)> = BTreeMap::new();
    for (node, entries) in listings {
        for entry in entries {
            let of_key = keys
                .entry(entry.object.storage_key())
                .or_insert_with(|| (&entry.object, BTreeMap::new()));
            of_key.1.insert(*node, entry.digest);
        }
    }
    let mut differences = Vec::new();
    for (object, digests) in keys.values() {
        let mut replicas = listings.keys().map(|node| (*node, digests.get(node).copied()));
        let first = digests.values().next();
        if replicas.any(|(_, digest)| digest.as_ref() != first) {
            let replicas = listings.keys().map(|node| (*node, digests.get(node).copied()));
            differences
                .push(Difference { object: (*object).clone(), replicas: replicas.collect() });
        }
    }
    (keys.len() as u64, differences)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::merkle::scan_order;

    #[test]
    fn keys_must_be_the_same_at_every_node() {
        let entry = |key: &str, digest: u128| KeyEntry {
            object: ObjectKey::parse("b", key).unwrap(),
            digest: RecordDigest(digest),
            dead_since: None,
        };
        let listings = BTreeMap::from([
            (NodeId(1), vec![entry("same", 1), entry("other", 2), entry("missing", 3)]),
            (NodeId(2), vec![entry("same", 1), entry("other", 9), entry("missing", 3)]),
            (NodeId(3), vec![entry("same", 1), entry("other", 2), entry("extra", 4)]),
        ]);
        let (keys, differences) = compare(&listings);
        assert_eq!(keys, 4);
        assert!(differences.is_sorted_by(|a, b| scan_order(&a.object, &b.object).is_lt()));
        let of = |key: &str| {
            let found = differences.iter().find(|d| d.object.key_text() == key)?;
            Some(found.replicas.iter().map(|(_, digest)| digest.map(|d| d.0)).collect::<Vec<_>>())
        };
        assert_eq!(of("same"), None);
        assert_eq!(of("other"), Some(vec![Some(2), Some(9), Some(2)]));
        assert_eq!(of("missing"), Some(vec![Some(3), Some(3), None]));
        assert_eq!(of("extra"), Some(vec![None, None, Some(4)]));
        assert_eq!(compare(&BTreeMap::new()), (0, Vec::new()));
    }
}
