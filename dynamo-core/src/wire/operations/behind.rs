//! Which partitions are behind, and which of their replicas: what the workers of all nodes say of
//! their comparisons, put together.
//!
//! A comparison tells that two replicas differ, not which of them lacks something; both may. The
//! replica that differs from all others is the one to look at, so it comes first.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::NodeReport;
use crate::id::{NodeId, PartitionId};
use crate::limits::PARTITIONS_BEHIND_SHOWN_MAX;
use crate::time::WallMs;
use crate::wire::worker::AntiEntropyDocument;

/// A replica that is not known to equal all others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicaApart {
    /// The node that has it.
    pub node: NodeId,
    /// Nodes whose replica it differs from, or was not compared with.
    pub from: Vec<NodeId>,
}

/// A partition whose replicas the last comparisons did not find equal everywhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionBehind {
    /// The partition.
    pub partition: PartitionId,
    /// When all its replicas were last found equal; absent where some never were.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agreed_at: Option<WallMs>,
    /// Whether replicas were found to differ; otherwise they could not be compared.
    pub differs: bool,
    /// The replicas concerned, first the one that is apart from most others.
    pub replicas: Vec<ReplicaApart>,
}

#[derive(Default)]
struct Found {
    agreed: BTreeSet<Option<WallMs>>,
    apart: BTreeMap<NodeId, BTreeSet<NodeId>>,
    differs: bool,
}

impl Found {
    fn add(&mut self, a: NodeId, b: NodeId) {
        self.apart.entry(a).or_default().insert(b);
        self.apart.entry(b).or_default().insert(a);
    }
}

/// How many partitions are behind, and the worst of them: those that differ before those that could
/// not be compared, and the longest ago before the others.
pub(super) fn of(nodes: &[NodeReport<AntiEntropyDocument>]) -> (usize, Vec<PartitionBehind>) {
    let mut all: BTreeMap<PartitionId, Found> = BTreeMap::new();
    for report in NodeReport::reports(nodes) {
        for partition in &report.partitions {
            let apart = partition.differs_from.iter().chain(&partition.not_compared_with);
            let found = all.entry(partition.partition).or_default();
            found.agreed.insert(partition.agreed_at);
            found.differs |= !partition.differs_from.is_empty();
            apart.for_each(|node| found.add(report.node, *node));
        }
    }
    all.retain(|_, found| !found.apart.is_empty());
    let count = all.len();
    let mut behind: Vec<PartitionBehind> = all
        .into_iter()
        .map(|(partition, found)| PartitionBehind {
            partition,
            agreed_at: found.agreed.first().copied().flatten(),
            differs: found.differs,
            replicas: replicas(found.apart),
        })
        .collect();
    // What never agreed is the oldest.
    behind.sort_by_key(|one| (!one.differs, one.agreed_at, one.partition));
    behind.truncate(PARTITIONS_BEHIND_SHOWN_MAX);
    (count, behind)
}

fn replicas(apart: BTreeMap<NodeId, BTreeSet<NodeId>>) -> Vec<ReplicaApart> {
    let one = |(node, from): (NodeId, BTreeSet<NodeId>)| ReplicaApart {
        node,
        from: from.into_iter().collect(),
    };
    let mut replicas: Vec<ReplicaApart> = apart.into_iter().map(one).collect();
    replicas.sort_by_key(|replica| (std::cmp::Reverse(replica.from.len()), replica.node));
    replicas
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::worker::PartitionAgreement;

    /// A partition at one node: when it agreed, what it differs from, what it was not compared with.
    type Said<'a> = (u32, Option<u64>, &'a [u128], &'a [u128]);

    fn ids(nodes: &[u128]) -> Vec<NodeId> {
        nodes.iter().copied().map(NodeId).collect()
    }

    fn report(node: u128, said: &[Said<'_>]) -> NodeReport<AntiEntropyDocument> {
        let partition = |(partition, agreed, differs, not): &Said<'_>| PartitionAgreement {
            partition: PartitionId(*partition),
            agreed_at: agreed.map(WallMs),
            differs_from: ids(differs),
            not_compared_with: ids(not),
        };
        let report = AntiEntropyDocument {
            node: NodeId(node),
            ring: None,
            paused: false,
            peers: Vec::new(),
            partitions: said.iter().map(partition).collect(),
            lag_ms: None,
            keys_behind: 0,
        };
        let (node, name) = (NodeId(node), format!("host-{node}"));
        NodeReport { node, name, reachable: true, refused: None, report: Some(report) }
    }

    #[test]
    fn the_replica_that_is_apart_from_all_others_comes_first() {
        let silent = NodeReport { reachable: false, report: None, ..report(4, &[]) };
        let nodes = [
            report(1, &[(0, Some(50), &[], &[]), (7, Some(9), &[2], &[]), (8, Some(40), &[], &[])]),
            report(2, &[(0, Some(50), &[], &[]), (7, Some(11), &[1, 3], &[])]),
            report(3, &[(7, None, &[], &[]), (8, Some(30), &[], &[4])]),
            silent,
        ];
        let (count, behind) = of(&nodes);
        assert_eq!(count, 2);
        let seven = &behind[0];
        assert_eq!((seven.partition, seven.agreed_at, seven.differs), (PartitionId(7), None, true));
        let apart = |node, from| ReplicaApart { node: NodeId(node), from: ids(from) };
        assert_eq!(seven.replicas, [apart(2, &[1, 3]), apart(1, &[2]), apart(3, &[2])]);
        let eight = &behind[1];
        assert_eq!(
            (eight.agreed_at, eight.differs),
            (Some(WallMs(30)), false),
            "its worker is away"
        );
        assert_eq!(eight.replicas, [apart(3, &[4]), apart(4, &[3])]);
    }

    #[test]
    fn the_worst_are_named_and_all_are_counted() {
        let many = u32::try_from(PARTITIONS_BEHIND_SHOWN_MAX).unwrap() + 5;
        let said: Vec<Said<'_>> =
            (0..many).map(|p| (p, Some(u64::from(many - p)), &[][..], &[2][..])).collect();
        let (count, behind) = of(&[report(1, &said)]);
        assert_eq!((count, behind.len()), (said.len(), PARTITIONS_BEHIND_SHOWN_MAX));
        assert_eq!(behind[0].partition, PartitionId(many - 1), "the longest ago");
        assert_eq!(of(&[]), (0, Vec::new()));
    }
}
