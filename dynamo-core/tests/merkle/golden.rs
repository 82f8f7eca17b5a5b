//! The canonical digests. Nodes of different versions compare them, and blocks of sums outlive a
//! build: a digest that changes makes every tree of the cluster differ from every other.
//!
//! `UPDATE_GOLDEN=1 cargo test -p dynamo-core --test merkle golden` rewrites the files; review the
//! difference.

use std::fmt::Write;
use std::path::PathBuf;

use dynamo_core::clock::digest::RecordDigest;
use dynamo_core::id::PartitionId;
use dynamo_core::limits::TREE_LEAF_BITS;
use dynamo_core::merkle::{Leaf, Prefix, Tree, entry_delta, entry_digest};
use dynamo_core::ring::Partitions;

use crate::support::object;

const RECORD: RecordDigest = RecordDigest(0xaac9_6c5f_0136_cecf_102e_51a7_5b37_9e63);

fn path(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "testdata", "golden", name].iter().collect()
}

#[expect(clippy::disallowed_methods, reason = "a switch of the test, not an input of the core")]
fn update() -> bool {
    std::env::var("UPDATE_GOLDEN").is_ok_and(|value| value == "1")
}

/// Compares with the file's text, or writes it.
pub(crate) fn check(name: &str, text: &str) {
    let path = path(name);
    if update() {
        std::fs::write(&path, text).expect("the golden file can be written");
    }
    let golden = std::fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    assert_eq!(golden, text, "{name} changed: nodes of earlier builds could not be compared with");
}

#[test]
fn tree_digests_v1() {
    let mut text = String::new();
    let mut line = |name: &str, digest: &dyn std::fmt::Display| {
        writeln!(text, "{name} {digest}").expect("writing to a string");
    };
    let first = object("n2", 1);
    let key = first.storage_key();
    line("entry", &format!("{:032x}", entry_digest(&key, RECORD)));
    line("change", &format!("{:032x}", entry_delta(&key, Some(RecordDigest(1)), Some(RECORD))));
    let mut tree = Tree::new();
    for number in 0..2_000 {
        let class = 1 + u8::from(number % 3 == 0);
        let digest = RecordDigest(RECORD.0.rotate_left(number));
        tree.change(class, &object("n2", number as usize), None, Some(digest));
    }
    let leaf = Leaf::of(first.position());
    line("leaf", &format!("{:032x}", tree.leaf(1, leaf)));
    for class in [1, 2, 3] {
        for bits in (0..=TREE_LEAF_BITS).rev() {
            let prefix = Prefix::new(bits, u32::from(leaf.0) >> (TREE_LEAF_BITS - bits)).unwrap();
            line(&format!("class {class} subtree {prefix:?}"), &tree.digest(class, prefix));
        }
    }
    for count in [1, 8, 64, 1024] {
        let partitions = Partitions::new(count).unwrap();
        for partition in [0, count / 2, count - 1] {
            let prefix = Prefix::of_partition(partitions, PartitionId(partition));
            line(&format!("root {partition} of {count}"), &tree.digest(1, prefix));
        }
    }
    check("merkle_v1.txt", &text);
}
