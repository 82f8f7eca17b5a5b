//! Whether a node may stop: would any partition lose its quorum, given who can be reached, who
//! holds what, and what is still on its way to a new owner? Asked before a host is restarted.

use std::collections::BTreeMap;

use crate::cluster_view::ClusterView;
use crate::id::{NodeId, PartitionId};
use crate::ring::ReplicaSets;

/// Copies below which the stop of any replica costs a majority: objects with fewer copies are no
/// reason against stopping, or no node could ever be restarted.
const QUORUM_SURVIVES_FROM: u8 = 3;

/// Why a node should not stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StopReason {
    /// No other node that can be reached holds the partition: it could not be read at all.
    LastHolder,
    /// Too few holders could be reached for a majority: absence could not be confirmed.
    Reads,
    /// Too few owners could be reached for a majority: only fallbacks would take writes.
    Writes,
}

impl StopReason {
    /// Its word in answers.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::LastHolder => "last_holder",
            Self::Reads => "reads",
            Self::Writes => "writes",
        }
    }
}

/// The partitions for which one reason speaks against the stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StopRisk {
    /// The reason: of several for one partition the worst.
    pub reason: StopReason,
    /// Copies of the objects concerned.
    pub n: u8,
    /// How many partitions.
    pub partitions: u32,
    /// The first of them.
    pub first: PartitionId,
    /// How many of them have no quorum as it is, with the node.
    pub already: u32,
}

/// What a stop would mean.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StopVerdict {
    /// What speaks against it; empty where it is safe.
    pub risks: Vec<StopRisk>,
    /// Partitions at risk, each counted once.
    pub partitions_at_risk: u32,
    /// Partitions with an owner that still waits for its copy, and of whose holders the node is
    /// one: a stop delays them.
    pub moves_delayed: u32,
    /// Numbers of copies, in use by some bucket, that no stop of a replica leaves a majority of.
    /// They are left out of the judgement.
    pub always_short: Vec<u8>,
}

/// Judges the stop of `node`. Only partitions that it owns or holds count: for the others the stop
/// changes nothing.
#[must_use]
pub fn stopping(
    view: &ClusterView,
    node: NodeId,
    reachable: impl Fn(NodeId) -> bool,
) -> StopVerdict {
    let mut verdict = StopVerdict::default();
    if view.ring().is_empty() {
        return verdict;
    }
    let judged = |n: u8| n >= QUORUM_SURVIVES_FROM || n == view.defaults().n;
    let (classes, short): (Vec<u8>, Vec<u8>) = view.classes().iter().partition(|n| judged(**n));
    verdict.always_short = short;
    let others = |other: NodeId| other != node && reachable(other);
    let mut risks: BTreeMap<(StopReason, u8), StopRisk> = BTreeMap::new();
    for partition in view.partitions().iter() {
        let mut at_risk = false;
        let mut delays = false;
        for n in &classes {
            let sets = view.placement().replica_sets(partition, *n);
            let holds = sets.holders.contains(&node);
            if !holds && !sets.owners.contains(&node) {
                continue;
            }
            delays |= holds && !sets.is_settled();
            let Some(reason) = reason(&sets, *n, others) else { continue };
            at_risk = true;
            let risk = risks.entry((reason, *n)).or_insert(StopRisk {
                reason,
                n: *n,
                partitions: 0,
                first: partition,
                already: 0,
            });
            risk.partitions += 1;
            risk.already += u32::from(self::reason(&sets, *n, &reachable).is_some());
        }
        verdict.partitions_at_risk += u32::from(at_risk);
        verdict.moves_delayed += u32::from(delays);
    }
    verdict.risks = risks.into_values().collect();
    verdict
}

/// The worst that can be said of a partition with these nodes; `None` where it has its quorum.
fn reason(sets: &ReplicaSets, n: u8, reachable: impl Fn(NodeId) -> bool) -> Option<StopReason> {
    let quorum = usize::from(n / 2 + 1);
    let count = |nodes: &[NodeId]| nodes.iter().filter(|node| reachable(**node)).count();
    match (count(&sets.holders), count(&sets.owners)) {
        (0, _) => Some(StopReason::LastHolder),
        (holders, _) if holders < quorum => Some(StopReason::Reads),
        (_, owners) if owners < quorum => Some(StopReason::Writes),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::cluster_view::{Addresses, MemberStatus, NodeInfo, RingSnapshot};
    use crate::id::{ClusterId, Incarnation};
    use crate::params::BucketProps;
    use crate::ring::{PartitionSet, Partitions, RingVersion};
    use crate::wire::ring::RING_FORMAT;

    const PARTITIONS: u32 = 8;

    /// Nodes 1 to `count`; partition p is owned by node p mod count and the next ones. Each node
    /// holds what `holds` says.
    fn view(count: u32, n: u8, buckets: &[u8], holds: impl Fn(u128, u32) -> bool) -> ClusterView {
        let partitions = Partitions::new(PARTITIONS).unwrap();
        let node = |id: u128| {
            let mut held = PartitionSet::empty(partitions);
            for partition in (0..PARTITIONS).filter(|partition| holds(id, *partition)) {
                held.insert(PartitionId(partition));
            }
            NodeInfo {
                id: NodeId(id),
                name: format!("host-{id}"),
                zone: None,
                weight: 100,
                addresses: Addresses::default(),
                status: MemberStatus::Member,
                incarnation: Incarnation(1),
                holds: Some(held),
                store_id: None,
                founding_store: None,
                epoch: 1,
            }
        };
        let props = |n| BucketProps { n, ..BucketProps::default() };
        let buckets: BTreeMap<String, BucketProps> =
            buckets.iter().map(|n| (format!("b{n}"), props(*n))).collect();
        ClusterView::from_snapshot(RingSnapshot {
            format: RING_FORMAT,
            cluster: ClusterId(1),
            version: RingVersion { number: 1, hash: 1 },
            partitions,
            spacing: n,
            nodes: (1..=u128::from(count)).map(node).collect(),
            owners: (0..PARTITIONS).map(|partition| Some(partition % count)).collect(),
            defaults: props(n),
            buckets,
        })
        .unwrap()
    }

    fn risks(verdict: &StopVerdict) -> Vec<(StopReason, u8, u32, u32)> {
        verdict.risks.iter().map(|r| (r.reason, r.n, r.partitions, r.already)).collect()
    }

    #[test]
    fn a_node_may_stop_while_the_others_have_a_quorum() {
        use StopReason::{LastHolder, Reads};
        let all = |_: u128, _: u32| true;
        let three = view(3, 3, &[], all);
        let judge = |view: &ClusterView, node: u128, down: &[u128]| {
            stopping(view, NodeId(node), |other| !down.contains(&other.0))
        };
        assert_eq!(judge(&three, 1, &[]), StopVerdict::default());
        let second = judge(&three, 1, &[2]);
        assert_eq!(risks(&second), [(Reads, 3, PARTITIONS, 0)]);
        assert_eq!(second.partitions_at_risk, PARTITIONS);
        let third = judge(&three, 1, &[2, 3]);
        assert_eq!(risks(&third), [(LastHolder, 3, PARTITIONS, PARTITIONS)]);
        // Stopping what is down already changes nothing, and is as dangerous as it is.
        assert_eq!(risks(&judge(&three, 2, &[2])), []);
        assert_eq!(judge(&three, 99, &[2, 3]), StopVerdict::default(), "a node without data");
        assert_eq!(judge(&view(1, 1, &[], all), 1, &[]).partitions_at_risk, PARTITIONS);
    }

    #[test]
    fn who_holds_counts_for_reads_and_who_owns_for_writes() {
        // Node 4 owns and holds nothing yet; 1, 2, 3 hold everything.
        let moving = view(4, 3, &[], |node, _| node != 4);
        let of = |node: u128, down: &[u128]| {
            stopping(&moving, NodeId(node), |other| !down.contains(&other.0))
        };
        let pending = of(4, &[]);
        assert_eq!((risks(&pending), pending.moves_delayed), (vec![], 0));
        let source = of(1, &[]);
        assert_eq!(risks(&source), []);
        assert!(source.moves_delayed > 0, "{source:?}");
        // With the newcomer down, some partitions have two owners left; one more is too many.
        let both = of(1, &[4]);
        assert!(both.risks.iter().any(|risk| risk.reason == StopReason::Writes), "{both:?}");
    }

    #[test]
    fn few_copies_are_told_and_not_held_against_a_restart() {
        let mixed = view(5, 3, &[1, 2, 5], |_, _| true);
        let verdict = stopping(&mixed, NodeId(1), |_| true);
        assert_eq!((verdict.always_short, verdict.partitions_at_risk), (vec![1, 2], 0));
        let verdict = stopping(&mixed, NodeId(1), |other| other.0 > 3);
        assert!(verdict.risks.iter().any(|risk| risk.n == 5), "{verdict:?}");
    }
}
