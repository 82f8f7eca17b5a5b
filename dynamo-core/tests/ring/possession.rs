//! Ownership is not possession: who counts for reads and writes while data moves (I-22, C12).

use std::sync::Arc;

use dynamo_core::id::{NodeId, PartitionId};
use dynamo_core::ring::{Holdings, PartitionSet, Partitions, Placement, Ring, RingVersion};
use proptest::prelude::*;

use crate::support::{claim_on, members, node};

const P: PartitionId = PartitionId(0);

fn ring(order: &[usize]) -> Arc<Ring> {
    let owners: Vec<Option<NodeId>> = order.iter().map(|number| Some(node(*number))).collect();
    let partitions = Partitions::new(u32::try_from(order.len()).unwrap()).unwrap();
    Arc::new(Ring::new(partitions, &owners, RingVersion::default()).unwrap())
}

/// Holdings in which the given nodes hold everything.
fn held_by(ring: &Ring, numbers: &[usize]) -> Holdings {
    numbers.iter().map(|number| (node(*number), PartitionSet::full(ring.partitions()))).collect()
}

fn nodes(numbers: &[usize]) -> Vec<NodeId> {
    numbers.iter().copied().map(node).collect()
}

#[test]
fn a_settled_partition_has_one_active_set() {
    let ring = ring(&[0, 1, 2, 3]);
    let placement = Placement::new(ring.clone(), held_by(&ring, &[0, 1, 2]));
    assert!(placement.is_settled(P, 3) && placement.is_settled(P, 1));
    assert!(!placement.is_settled(P, 4), "the fourth node does not hold it");
    let sets = placement.replica_sets(P, 3);
    assert_eq!(sets.holders, nodes(&[0, 1, 2]));
    assert_eq!(sets.write_sets(), [nodes(&[0, 1, 2])]);
    assert_eq!(sets.read_targets(), nodes(&[0, 1, 2]));
    assert_eq!(sets.fallbacks, nodes(&[3]));
    assert!(sets.confirmable(node(1)) && !sets.confirmable(node(3)));
}

#[test]
fn a_pending_owner_takes_writes_and_the_former_holder_answers_reads() {
    // Node 0 joined in front of 1, 2 and 3, which hold the partition; 3 lost its place to it.
    let ring = ring(&[0, 1, 2, 3]);
    let placement = Placement::new(ring.clone(), held_by(&ring, &[1, 2, 3]));
    assert!(!placement.is_settled(P, 3));
    let sets = placement.replica_sets(P, 3);
    assert_eq!(sets.owners, nodes(&[0, 1, 2]));
    assert_eq!(sets.pending, nodes(&[0]));
    assert_eq!(sets.holders, nodes(&[1, 2, 3]));
    assert_eq!(sets.write_sets(), [nodes(&[0, 1, 2]), nodes(&[1, 2, 3])]);
    assert_eq!(sets.write_targets(), nodes(&[0, 1, 2, 3]));
    assert_eq!(sets.read_targets(), nodes(&[1, 2, 3, 0]));
    assert_eq!(sets.fallbacks, []);
    assert!(!sets.confirmable(node(0)) && sets.confirmable(node(3)));
}

#[test]
fn a_node_that_left_the_ring_still_answers_while_it_holds() {
    let ring = ring(&[0, 1, 2, 0]);
    let placement = Placement::new(ring.clone(), held_by(&ring, &[0, 9]));
    let sets = placement.replica_sets(P, 3);
    assert_eq!(sets.pending, nodes(&[1, 2]));
    assert_eq!(sets.holders, nodes(&[0, 9]));
    assert_eq!(sets.write_targets(), nodes(&[0, 1, 2, 9]));
}

#[test]
fn surplus_copies_do_not_count_once_all_owners_hold() {
    let ring = ring(&[0, 1, 2, 3]);
    let placement = Placement::new(ring.clone(), held_by(&ring, &[0, 1, 2, 3, 9]));
    assert_eq!(placement.replica_sets(P, 3).holders, nodes(&[0, 1, 2]));
}

#[test]
fn without_advertisements_nothing_can_be_confirmed_absent() {
    let ring = ring(&[0, 1, 2, 3]);
    let placement = Placement::new(ring, Holdings::new());
    let sets = placement.replica_sets(P, 3);
    assert_eq!(sets.holders, []);
    assert_eq!(sets.read_targets(), nodes(&[0, 1, 2]), "the owners are still asked");
    assert_eq!(sets.write_sets(), [nodes(&[0, 1, 2])]);
    assert!((0..4).all(|number| !sets.confirmable(node(number))));
}

#[test]
fn an_advertisement_for_another_ring_size_counts_for_nothing() {
    let ring = ring(&[0, 1, 2, 3]);
    let other = PartitionSet::full(Partitions::new(64).unwrap());
    let placement = Placement::new(ring, Holdings::from_iter([(node(0), other)]));
    assert!(!placement.is_settled(P, 1));
    assert_eq!(placement.replica_sets(P, 3).holders, []);
}

#[test]
fn an_empty_ring_has_no_replicas() {
    let ring = Arc::new(Ring::empty(Partitions::new(4).unwrap()));
    let placement = Placement::new(ring, Holdings::new());
    assert!(!placement.is_settled(P, 3));
    assert_eq!(placement.replica_sets(P, 3), dynamo_core::ring::ReplicaSets::default());
}

proptest! {
    /// For any ring and any holdings: fast path and sets agree, no set repeats a node, readers ask
    /// holders first, and every holder that counts for reads is written to.
    #[test]
    fn the_sets_are_consistent(
        count in 1..16_usize,
        n in 1..=7_u8,
        bits in prop::collection::vec(any::<u16>(), 20),
    ) {
        let partitions = Partitions::new(16).unwrap();
        let owners = claim_on(&[None; 16], &members(count), 3).owners;
        let ring = Arc::new(Ring::new(partitions, &owners, RingVersion::default()).unwrap());
        let mut holdings = Holdings::new();
        for (number, bits) in bits.iter().enumerate() {
            let mut set = PartitionSet::empty(partitions);
            for partition in partitions.iter().filter(|partition| bits >> partition.0 & 1 == 1) {
                set.insert(partition);
            }
            holdings.set(node(number), set);
        }
        let placement = Placement::new(ring.clone(), holdings);
        for partition in partitions.iter() {
            let sets = placement.replica_sets(partition, n);
            prop_assert_eq!(placement.is_settled(partition, n), sets.is_settled());
            prop_assert_eq!(&sets.owners, ring.preference_list(partition).primaries(n));
            prop_assert!(sets.holders.len() <= usize::from(n));
            let holds = |node: &NodeId| placement.holdings().holds(*node, partition);
            prop_assert!(sets.holders.iter().all(holds));
            let targets = sets.write_targets();
            for set in sets.write_sets() {
                prop_assert!(set.iter().all(|node| targets.contains(node)));
            }
            let mut every: Vec<NodeId> = targets.iter().chain(&sets.fallbacks).copied().collect();
            every.sort_unstable();
            let length = every.len();
            every.dedup();
            prop_assert_eq!(every.len(), length, "a node is named twice");
            prop_assert!(sets.read_targets().starts_with(&sets.holders));
        }
    }
}
