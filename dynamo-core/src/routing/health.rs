//! What the reachable nodes can serve, over all partitions: the figures behind "is the cluster
//! healthy".
//!
//! Not here: how reachability is found out; whether a node may stop ([`super::stopping`]).

use crate::cluster_view::ClusterView;
use crate::id::NodeId;
use crate::ring::ReplicaSets;

/// Partitions by what they still can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PartitionHealth {
    /// Partitions of the ring.
    pub partitions: u32,
    /// Those whose N owners all hold them and are all reachable.
    pub all_ok: u32,
    /// Those with enough reachable owners for a write and enough reachable holders for a read
    /// that confirms absence, at a majority of N, without any fallback.
    pub quorum_ok: u32,
    /// Nodes that are to have a partition and do not hold it yet, summed over the partitions.
    pub pending_moves: u32,
}

/// One word for an operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HealthStatus {
    /// Every replica is where it belongs and reachable.
    Healthy,
    /// Something is missing, and every partition has its quorum.
    Degraded,
    /// Some partition has lost its quorum of primaries (fallbacks may still take writes).
    Unavailable,
}

impl HealthStatus {
    /// Its word in answers.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Degraded => "degraded",
            Self::Unavailable => "unavailable",
        }
    }
}

impl PartitionHealth {
    /// Of a cluster at the default N of its buckets. Moves are counted for all buckets: a node that
    /// only has to have those with more copies waits for its data, too.
    pub fn of_cluster(view: &ClusterView, reachable: impl Fn(NodeId) -> bool) -> Self {
        if view.ring().is_empty() {
            return Self::default();
        }
        let n = view.defaults().n;
        let sets = view.partitions().iter().map(|p| view.placement().replica_sets(p, n));
        let mut health = Self::of(sets, n, reachable);
        let pending = view.partitions().iter().map(|partition| {
            let wanting = view.wanting(partition).iter();
            wanting.filter(|node| !view.holdings().holds(**node, partition)).count()
        });
        health.pending_moves = u32::try_from(pending.sum::<usize>()).unwrap_or(u32::MAX);
        health
    }

    /// Sums over the replica sets of every partition, each computed for `n` replicas.
    pub fn of(
        sets: impl IntoIterator<Item = ReplicaSets>,
        n: u8,
        reachable: impl Fn(NodeId) -> bool,
    ) -> Self {
        let mut health = Self::default();
        for sets in sets {
            health.partitions += 1;
            let owners = count(&sets.owners, &reachable);
            let all = usize::from(n) == owners && sets.is_settled() && !sets.holders.is_empty();
            health.all_ok += u32::from(all);
            health.quorum_ok += u32::from(has_quorum(&sets, n, &reachable));
            health.pending_moves = health
                .pending_moves
                .saturating_add(u32::try_from(sets.pending.len()).unwrap_or(u32::MAX));
        }
        health
    }

    /// One word for all of it. A cluster without partitions serves nothing.
    #[must_use]
    pub fn status(&self) -> HealthStatus {
        if self.partitions == 0 || self.quorum_ok < self.partitions {
            HealthStatus::Unavailable
        } else if self.all_ok < self.partitions {
            HealthStatus::Degraded
        } else {
            HealthStatus::Healthy
        }
    }
}

/// Whether a majority of N is reachable in both senses: among the owners for writes, among the
/// holders for reads.
fn has_quorum(sets: &ReplicaSets, n: u8, reachable: impl Fn(NodeId) -> bool) -> bool {
    let quorum = usize::from(n / 2 + 1);
    count(&sets.owners, &reachable) >= quorum && count(&sets.holders, &reachable) >= quorum
}

fn count(nodes: &[NodeId], reachable: impl Fn(NodeId) -> bool) -> usize {
    nodes.iter().filter(|node| reachable(**node)).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(owners: &[u128], holders: &[u128]) -> ReplicaSets {
        let nodes = |ids: &[u128]| ids.iter().map(|id| NodeId(*id)).collect::<Vec<_>>();
        let pending = owners.iter().filter(|id| !holders.contains(id)).copied().collect::<Vec<_>>();
        ReplicaSets {
            owners: nodes(owners),
            pending: nodes(&pending),
            holders: nodes(holders),
            fallbacks: Vec::new(),
        }
    }

    #[test]
    fn health_counts_partitions() {
        let full = || set(&[1, 2, 3], &[1, 2, 3]);
        let moving = || set(&[1, 2, 9], &[1, 2, 3]);
        let unheld = || set(&[1, 2, 3], &[]);
        type Row = (Vec<ReplicaSets>, &'static [u128], (u32, u32, u32), HealthStatus);
        let rows: [Row; 7] = [
            (vec![full(), full()], &[], (2, 2, 0), HealthStatus::Healthy),
            (vec![full(), full()], &[1], (0, 2, 0), HealthStatus::Degraded),
            (
                vec![full(), set(&[4, 5, 6], &[4, 5, 6])],
                &[1, 2],
                (1, 1, 0),
                HealthStatus::Unavailable,
            ),
            (vec![moving()], &[], (0, 1, 1), HealthStatus::Degraded),
            (vec![moving()], &[1, 3], (0, 0, 1), HealthStatus::Unavailable),
            (vec![unheld()], &[], (0, 0, 3), HealthStatus::Unavailable),
            (vec![], &[], (0, 0, 0), HealthStatus::Unavailable),
        ];
        for (sets, down, expected, status) in rows {
            let health = PartitionHealth::of(sets.clone(), 3, |node| !down.contains(&node.0));
            let got = (health.all_ok, health.quorum_ok, health.pending_moves);
            assert_eq!((got, health.status()), (expected, status), "{sets:?} {down:?}");
        }
    }
}
