//! The tree itself: arithmetic of subtrees, sums against scans, digests against their definition.

use std::collections::BTreeMap;

use dynamo_core::clock::digest::RecordDigest;
use dynamo_core::id::{KeyHash, PartitionId};
use dynamo_core::key::ObjectKey;
use dynamo_core::limits::{PARTITIONS_MAX, TREE_LEAF_BITS};
use dynamo_core::merkle::{
    BLOCK_LEAVES, BLOCKS, BlockIndex, BlockIndexError, Leaf, Prefix, PrefixError, Tree, TreeDigest,
    entry_delta, entry_digest,
};
use dynamo_core::ring::Partitions;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::{Strategy, any, proptest};
use proptest::{prop_assert, prop_assert_eq};
use xxhash_rust::xxh3::xxh3_128;

use crate::support::{OBJECTS, class};

fn prefixes() -> impl Strategy<Value = Prefix> {
    (0..=TREE_LEAF_BITS, any::<u32>())
        .prop_map(|(bits, index)| Prefix::new(bits, index & ((1 << bits) - 1)).unwrap())
}

#[test]
fn subtrees_that_do_not_exist_are_refused() {
    for (bits, index) in [(0, 1), (4, 16), (16, 65_536), (17, 0), (255, 0), (32, 1), (3, u32::MAX)]
    {
        assert_eq!(Prefix::new(bits, index), Err(PrefixError { bits, index }));
    }
    assert_eq!(BlockIndex::new(BLOCKS), Err(BlockIndexError(BLOCKS)));
    assert_eq!(BlockIndex::of(Leaf(u16::MAX)).get(), BLOCKS - 1);
}

#[test]
fn a_partition_is_the_subtree_of_its_range() {
    for count in [1, 2, 64, 1024, PARTITIONS_MAX] {
        let partitions = Partitions::new(count).unwrap();
        for partition in [0, count / 3, count - 1].map(PartitionId) {
            let prefix = Prefix::of_partition(partitions, partition);
            assert_eq!(prefix.range(), partitions.range(partition));
            assert_eq!(prefix.index(), partition.0);
            let beyond = PartitionId(partition.0 + count);
            assert_eq!(Prefix::of_partition(partitions, beyond), prefix);
        }
    }
}

proptest! {
    #[test]
    fn children_cut_their_parent_without_gap(prefix in prefixes()) {
        let children: Vec<Prefix> = prefix.children().collect();
        if prefix.leaf().is_some() {
            prop_assert!(children.is_empty());
            return Ok(());
        }
        prop_assert!((2..=16).contains(&children.len()));
        prop_assert!(children.iter().all(|child| child.bits() % 4 == 0 && prefix < *child));
        let mut next = prefix.range().0.0;
        for (at, child) in children.iter().enumerate() {
            prop_assert_eq!(child.range().0.0, next);
            next = child.range().1.0.wrapping_add(1);
            prop_assert!(at == 0 || children[at - 1] < *child);
        }
        prop_assert_eq!(next, prefix.range().1.0.wrapping_add(1));
    }

    #[test]
    fn a_subtree_contains_the_leaves_of_its_range(prefix in prefixes(), position in any::<u128>()) {
        let (first, last) = prefix.range();
        let leaf = Leaf::of(KeyHash(position));
        prop_assert!(leaf.range().0.0 <= position && position <= leaf.range().1.0);
        let is_within = first.0 <= position && position <= last.0;
        prop_assert_eq!(prefix.contains(leaf), is_within);
        prop_assert_eq!(prefix.leaves().contains(&leaf.0), is_within);
        prop_assert_eq!(prefix.first_leaf(), Leaf::of(first));
    }
}

/// One key gets another record, or loses it.
type Change = (usize, Option<u8>);

fn changes() -> impl Strategy<Value = Vec<Change>> {
    vec((0..OBJECTS.len(), option::of(0..4u8)), 0..120)
}

fn digest(number: u8) -> RecordDigest {
    RecordDigest(u128::MAX / 7 * u128::from(number))
}

/// Applies changes as a store does: one delta each.
fn grown(changes: &[Change]) -> (Tree, BTreeMap<ObjectKey, RecordDigest>) {
    let (mut tree, mut records) = (Tree::new(), BTreeMap::new());
    for (at, number) in changes {
        let (object, new) = (&OBJECTS[*at], number.map(digest));
        let old = match new {
            Some(new) => records.insert(object.clone(), new),
            None => records.remove(object),
        };
        tree.change(class(object), object, old, new);
    }
    (tree, records)
}

/// The tree as its definition says: leaf sums by scan, then every digest by hand.
struct Plain<'a>(&'a BTreeMap<ObjectKey, RecordDigest>);

impl Plain<'_> {
    fn digest(&self, class_asked: u8, prefix: Prefix) -> u128 {
        let (first, last) = prefix.range();
        let within = |o: &ObjectKey| class(o) == class_asked && first <= o.position();
        let entries = self.0.iter().filter(|(o, _)| within(o) && o.position() <= last);
        let entries: Vec<u128> =
            entries.map(|(o, record)| entry_digest(&o.storage_key(), *record)).collect();
        match prefix.leaf() {
            _ if entries.is_empty() => 0,
            Some(_) => entries.iter().fold(0, |sum, entry| sum.wrapping_add(*entry)),
            None => {
                let children = prefix
                    .children()
                    .flat_map(|child| self.digest(class_asked, child).to_be_bytes());
                xxh3_128(&children.collect::<Vec<u8>>())
            }
        }
    }
}

proptest! {
    #[test]
    fn the_tree_is_what_a_scan_makes(changes in changes()) {
        let (tree, records) = grown(&changes);
        let mut scanned = Tree::new();
        for (object, record) in records.iter().rev() {
            scanned.change(class(object), object, None, Some(*record));
        }
        prop_assert_eq!(&tree, &scanned, "I-16");
        prop_assert_eq!(tree.is_empty(), records.is_empty());
        let classes: Vec<u8> = tree.classes().collect();
        prop_assert!((1..=3).all(|n| classes.contains(&n) == records.keys().any(|o| class(o) == n)));
    }

    #[test]
    fn digests_follow_from_the_leaves(changes in changes(), prefix in prefixes()) {
        let (tree, records) = grown(&changes);
        let plain = Plain(&records);
        for class in 1..=3 {
            // Any subtree, and those on the way to a key.
            prop_assert_eq!(tree.digest(class, prefix), TreeDigest(plain.digest(class, prefix)));
            for bits in [0, 3, 4, 9, 10, 12, 15, 16] {
                let leaf = u32::from(Leaf::of(OBJECTS[0].position()).0);
                let prefix = Prefix::new(bits, leaf >> (TREE_LEAF_BITS - bits)).unwrap();
                let digest = TreeDigest(plain.digest(class, prefix));
                prop_assert_eq!(tree.digest(class, prefix), digest);
            }
        }
    }

    #[test]
    fn deltas_commute(deltas in vec((1..=2u8, 0..300u16, any::<u128>()), 0..60), turn in any::<usize>()) {
        let sum = |deltas: &[(u8, u16, u128)]| {
            let mut tree = Tree::new();
            for (class, leaf, delta) in deltas {
                tree.apply(*class, Leaf(*leaf), *delta);
            }
            tree
        };
        let tree = sum(&deltas);
        let mut turned = deltas.clone();
        turned.rotate_left(turn % deltas.len().max(1));
        turned.reverse();
        prop_assert_eq!(&sum(&turned), &tree);
        for (class, leaf, delta) in &deltas {
            turned.push((*class, *leaf, delta.wrapping_neg()));
        }
        prop_assert!(sum(&turned).is_empty(), "what is taken back leaves nothing behind");
    }

    #[test]
    fn blocks_rebuild_the_tree(changes in changes()) {
        let (tree, _) = grown(&changes);
        let mut read = Tree::new();
        for (class, index, block) in tree.blocks() {
            prop_assert!(block.iter().any(|sum| *sum != 0));
            prop_assert_eq!(tree.block(class, index), Some(block));
            read.set_block(class, index, block);
        }
        prop_assert_eq!(&read, &tree);
        let indexes: Vec<_> = tree.blocks().map(|(class, index, _)| (class, index)).collect();
        for (class, index) in indexes {
            read.set_block(class, index, &[0; BLOCK_LEAVES]);
            prop_assert_eq!(read.block(class, index), None);
        }
        prop_assert!(read.is_empty());
    }

    #[test]
    fn a_cleared_subtree_is_as_if_its_keys_had_never_been(changes in changes(), prefix in prefixes(), own in any::<bool>()) {
        // Mostly one that holds a key.
        let leaf = u32::from(Leaf::of(OBJECTS[0].position()).0);
        let bits = prefix.bits();
        let around = Prefix::new(bits, leaf >> (TREE_LEAF_BITS - bits)).unwrap();
        let prefix = if own { around } else { prefix };
        let (mut tree, records) = grown(&changes);
        tree.clear(prefix);
        let mut rest = Tree::new();
        for (object, record) in &records {
            if !prefix.contains(Leaf::of(object.position())) {
                rest.change(class(object), object, None, Some(*record));
            }
        }
        prop_assert_eq!(tree, rest);
    }
}

#[test]
fn an_entry_depends_on_key_and_record() {
    let (a, b) = (OBJECTS[0].storage_key(), OBJECTS[1].storage_key());
    let swapped = entry_digest(&a, digest(1)).wrapping_add(entry_digest(&b, digest(2)));
    let proper = entry_digest(&a, digest(2)).wrapping_add(entry_digest(&b, digest(1)));
    assert_ne!(swapped, proper);
    assert_eq!(entry_delta(&a, None, None), 0);
    assert_eq!(entry_delta(&a, Some(digest(1)), Some(digest(1))), 0);
    assert_eq!(entry_delta(&a, None, Some(digest(1))), entry_digest(&a, digest(1)));
    let gone = entry_delta(&a, Some(digest(1)), None);
    assert_eq!(gone.wrapping_add(entry_digest(&a, digest(1))), 0);
}
