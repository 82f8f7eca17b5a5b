//! Anti-entropy with Merkle trees (paper section 4.7): how replicas notice that they differ, find
//! where, and become equal again.
//!
//! Every node keeps one tree over the whole hash space. A partition is a subtree, so its root is
//! read off the tree whatever the ring looks like, and no membership change makes a node build a
//! tree anew. How many copies an object has depends on its bucket, so two nodes have in common
//! what both own at one N: sums are kept per N, which is called the *class* here.
//!
//! | module | what it holds |
//! |---|---|
//! | [`prefix`] | leaves and subtrees: slices of the hash space |
//! | [`digest`] | what one key adds to its leaf |
//! | [`leaf_sums`], [`tree`] | the sums of all leaves, and the digests over them |
//! | [`keys`] | the keys of a leaf and the order in which they are listed |
//! | [`exchange`] | one comparison of two replicas, with repair |
//! | [`mod@partners`] | what a node is to be compared with |
//!
//! Architecture invariants:
//! - a leaf's digest is a sum of its entries: a write is one delta, deltas commute, and what a scan
//!   finds missing is mended by adding it while writes go on;
//! - digests are over canonical forms, never over stored bytes (see [`crate::clock::digest`]);
//! - equal records give equal trees, whatever order the writes came in.
//!
//! Not here: persistence, scans, and when a comparison runs.

pub mod digest;
pub mod exchange;
pub mod keys;
pub mod leaf_sums;
pub mod partners;
pub mod prefix;
pub mod tree;

pub use digest::{TreeDigest, entry_delta, entry_digest};
pub use keys::{KeyEntry, scan_order};
pub use leaf_sums::{BLOCK_LEAVES, BLOCKS, Block, BlockIndex, BlockIndexError, LeafSums};
pub use partners::{led, partners, within};
pub use prefix::{Leaf, Prefix, PrefixError};
pub use tree::Tree;
