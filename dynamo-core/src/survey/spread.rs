//! How far a record that was put back has spread.

use crate::id::NodeId;
use crate::ring::ReplicaSets;

/// Where one record is after an attempt to merge it into all its replicas.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Spread {
    /// Too few replicas took it: it may be lost again with one of them. Merge it again.
    Short,
    /// A majority of every set that a write must reach has it: reads find it, and anti-entropy
    /// brings it to the rest.
    Quorum,
    /// Every node that is to have it, or is read from in place of such a node, has it.
    Everywhere,
}

impl Spread {
    /// Of a record whose replicas are `sets`; `took` says who merged it durably.
    #[must_use]
    pub fn of(sets: &ReplicaSets, took: impl Fn(NodeId) -> bool) -> Self {
        let targets = sets.write_targets();
        if !targets.is_empty() && targets.iter().all(|node| took(*node)) {
            return Self::Everywhere;
        }
        let has_majority =
            |set: &Vec<NodeId>| set.iter().filter(|node| took(**node)).count() > set.len() / 2;
        if sets.write_sets().iter().all(has_majority) { Self::Quorum } else { Self::Short }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_must_reach_a_majority_of_every_set() {
        let nodes = |ids: &[u128]| ids.iter().map(|id| NodeId(*id)).collect::<Vec<_>>();
        let sets = |owners: &[u128], holders: &[u128]| ReplicaSets {
            owners: nodes(owners),
            pending: nodes(owners).into_iter().filter(|o| !holders.contains(&o.0)).collect(),
            holders: nodes(holders),
            fallbacks: Vec::new(),
        };
        let settled = || sets(&[1, 2, 3], &[1, 2, 3]);
        let moving = || sets(&[1, 8, 9], &[1, 2, 3]);
        let rows: [(ReplicaSets, &[u128], Spread); 8] = [
            (settled(), &[1, 2, 3], Spread::Everywhere),
            (settled(), &[1, 3], Spread::Quorum),
            (settled(), &[3], Spread::Short),
            (settled(), &[7, 8, 9], Spread::Short),
            (moving(), &[1, 8, 9, 2, 3], Spread::Everywhere),
            (moving(), &[1, 8, 9], Spread::Short),
            (moving(), &[1, 8, 2], Spread::Quorum),
            (ReplicaSets::default(), &[], Spread::Short),
        ];
        for (sets, took, expected) in rows {
            let got = Spread::of(&sets, |node| took.contains(&node.0));
            assert_eq!(got, expected, "{sets:?} {took:?}");
        }
    }
}
