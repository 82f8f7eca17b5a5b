//! Placement: which nodes store which part of the hash space (paper sections 4.2, 4.3, 6.2).
//!
//! | module | what it decides |
//! |---|---|
//! | [`token`] | key to position to partition |
//! | [`ring`] | the immutable map from partitions to owners, with its version |
//! | [`preference_list`] | the nodes for a partition in order, and who stands in for whom |
//! | [`claim`](mod@claim) | how members share the partitions |
//! | [`transition`] | what a change of the ring moves |
//! | [`partition_set`], [`possession`] | who holds what, as opposed to who owns it |
//!
//! Invariants: a ring is a pure function of its input, equal on every node; nothing here knows who
//! is alive, so a dead node moves no partition. Not here: the membership history that rings are
//! folded from, and the transfer of data.

pub mod claim;
pub mod partition_set;
pub mod possession;
pub mod preference_list;
#[expect(clippy::module_inception, reason = "the noun of this file is the ring itself")]
pub mod ring;
pub mod token;
pub mod transition;
pub mod version;

pub use claim::{ClaimInput, ClaimMember, ClaimOutcome, ClaimViolation, claim};
pub use partition_set::{ParsePartitionSetError, PartitionSet};
pub use possession::{Holdings, Placement, ReplicaSets};
pub use preference_list::{ActiveEntry, ActiveList, PreferenceList, Role};
pub use ring::{Ring, RingError};
pub use token::{Partitions, PartitionsError, key_hash};
pub use transition::{Move, NodeShare, RingDiff, RingDiffError, ZoneSpread};
pub use version::RingVersion;
