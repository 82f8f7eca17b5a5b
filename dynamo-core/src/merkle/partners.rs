//! What a node is to be compared with: the other replicas of what it holds.
//!
//! Two nodes have the keys of a class in common in a partition where both are to have them and both
//! hold the partition. An owner that is still to get a partition is left to
//! [`crate::transfer`]: a comparison would only copy it key by key.

use std::collections::{BTreeMap, BTreeSet};

use crate::cluster_view::ClusterView;
use crate::id::NodeId;
use crate::key::Bucket;
use crate::merkle::exchange::ClassPart;
use crate::wire::worker::RepairRequest;

/// What `me` has in common with whom.
#[must_use]
pub fn partners(view: &ClusterView, me: NodeId) -> BTreeMap<NodeId, BTreeSet<ClassPart>> {
    let mut partners: BTreeMap<NodeId, BTreeSet<ClassPart>> = BTreeMap::new();
    for partition in view.partitions().iter() {
        let Some(from) = view.needs_from(me, partition) else { continue };
        if !view.holdings().holds(me, partition) {
            continue;
        }
        for (place, other) in (1u8..).zip(view.wanting(partition)) {
            if *other == me || !view.holdings().holds(*other, partition) {
                continue;
            }
            let classes = view.classes().iter().filter(|class| **class >= from.max(place));
            let parts = classes.map(|class| (*class, partition));
            partners.entry(*other).or_default().extend(parts);
        }
    }
    partners.retain(|_, parts| !parts.is_empty());
    partners
}

/// Of what is in common, the part that a repair is about. The keys of a bucket are compared with
/// those of all buckets that have as many copies: the tree does not tell them apart.
#[must_use]
pub fn within(
    view: &ClusterView,
    common: &BTreeSet<ClassPart>,
    scope: &RepairRequest,
) -> BTreeSet<ClassPart> {
    let bucket = scope.bucket.as_ref().map(|name| name.parse::<Bucket>());
    let class = match bucket {
        None => None,
        Some(Ok(bucket)) => Some(view.bucket(&bucket).n),
        // No object has such a bucket.
        Some(Err(_)) => return BTreeSet::new(),
    };
    let is_meant = |(of_class, partition): &&ClassPart| {
        class.is_none_or(|class| class == *of_class)
            && scope.partition.is_none_or(|meant| meant == *partition)
    };
    common.iter().filter(is_meant).copied().collect()
}

/// The other owners of the keys of one class in a partition; `None` where `me` is not the first of
/// them, who is the one that acts for all.
#[must_use]
pub fn led(view: &ClusterView, me: NodeId, (class, partition): ClassPart) -> Option<Vec<NodeId>> {
    let owners = view.ring().preference_list(partition).primaries(class);
    let (first, others) = owners.split_first()?;
    (*first == me).then(|| others.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster_view::{Addresses, MemberStatus, NodeInfo, RingSnapshot};
    use crate::id::{ClusterId, Incarnation, PartitionId};
    use crate::params::BucketProps;
    use crate::ring::{PartitionSet, Partitions, RingVersion};
    use crate::wire::ring::RING_FORMAT;

    /// Four nodes own four partitions in turn; `lacking` holds nothing yet.
    fn view(lacking: u128) -> ClusterView {
        let partitions = Partitions::new(4).unwrap();
        let node = |id: u128| NodeInfo {
            id: NodeId(id),
            name: format!("n{id}"),
            zone: None,
            weight: 1,
            addresses: Addresses::default(),
            status: MemberStatus::Member,
            incarnation: Incarnation(1),
            holds: (id != lacking).then(|| PartitionSet::full(partitions)),
            store_id: None,
            founding_store: None,
            epoch: 0,
        };
        let two = BucketProps { n: 2, ..BucketProps::default() };
        let snapshot = RingSnapshot {
            format: RING_FORMAT,
            cluster: ClusterId(1),
            version: RingVersion { number: 1, hash: 1 },
            partitions,
            spacing: 3,
            nodes: (0..4).map(node).collect(),
            owners: (0..4).map(Some).collect(),
            defaults: BucketProps::default(),
            buckets: BTreeMap::from([("two".to_owned(), two)]),
        };
        ClusterView::from_snapshot(snapshot).unwrap()
    }

    #[test]
    fn replicas_are_compared_where_both_have_the_keys() {
        let view = view(3);
        let part = |class, partition| (class, PartitionId(partition));
        // Node 0 is first in partition 0, second in 3 and third in 2.
        let expected = BTreeMap::from([
            (NodeId(1), BTreeSet::from([part(2, 0), part(3, 0), part(3, 3)])),
            (NodeId(2), BTreeSet::from([part(3, 0), part(3, 2)])),
        ]);
        assert_eq!(partners(&view, NodeId(0)), expected);
        assert_eq!(partners(&view, NodeId(3)), BTreeMap::new(), "nothing is held");
        assert_eq!(partners(&view, NodeId(9)), BTreeMap::new(), "a stranger");
    }

    #[test]
    fn partners_see_the_same() {
        let view = view(9);
        for near in (0..4).map(NodeId) {
            for (far, parts) in partners(&view, near) {
                assert_eq!(partners(&view, far).get(&near), Some(&parts), "{near} and {far}");
            }
        }
    }

    #[test]
    fn a_repair_is_of_a_part_of_it() {
        let view = view(9);
        let common = partners(&view, NodeId(0)).remove(&NodeId(1)).unwrap();
        let check = |partition: Option<u32>, bucket: Option<&str>, expected: &[(u8, u32)]| {
            let partition = partition.map(PartitionId);
            let scope = RepairRequest { partition, bucket: bucket.map(str::to_owned) };
            let expected = expected.iter().map(|(n, p)| (*n, PartitionId(*p))).collect();
            assert_eq!(within(&view, &common, &scope), expected, "{scope:?}");
        };
        check(None, None, &[(2, 0), (3, 0), (3, 3)]);
        check(Some(0), None, &[(2, 0), (3, 0)]);
        check(Some(1), None, &[]);
        check(None, Some("two"), &[(2, 0)]);
        check(None, Some("other"), &[(3, 0), (3, 3)]);
        check(None, Some("NO BUCKET"), &[]);
    }

    #[test]
    fn the_first_owner_leads() {
        let view = view(9);
        let part = (2, PartitionId(1));
        assert_eq!(led(&view, NodeId(1), part), Some(vec![NodeId(2)]));
        assert_eq!(led(&view, NodeId(2), part), None);
    }
}
