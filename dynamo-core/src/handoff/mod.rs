//! Hinted handoff (paper section 4.6): what a node keeps for others, and when it is handed over.
//!
//! | module | what it decides |
//! |---|---|
//! | [`hint`] | which target is due, how much goes at once, when a hint may be deleted or dropped |
//!
//! Not here: the hint file, and sending.

pub mod hint;

use crate::cluster_view::ClusterView;
use crate::id::NodeId;
use crate::key::ObjectKey;

pub use hint::{
    BatchEnd, HintBatchBudget, HintSchedule, HintUsage, HintWork, is_expired, may_delete,
};

/// Who gets a hint that was kept for `target`: the target while it takes part in writes of the
/// object, and otherwise those that do now. A node that has left, or that has given the partition
/// away since, would refuse it for ever.
#[must_use]
pub fn receivers(view: &ClusterView, target: NodeId, object: &ObjectKey) -> Vec<NodeId> {
    let n = view.bucket(object.bucket()).n;
    let targets = view.replica_sets(object.position(), n).write_targets();
    if targets.contains(&target) { vec![target] } else { targets }
}
