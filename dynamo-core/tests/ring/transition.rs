//! What a plan shows about a change of the ring.

use dynamo_core::id::{NodeId, PartitionId};
use dynamo_core::ring::{ClaimMember, Move, Partitions, Ring, RingDiff, RingVersion};

use crate::support::{claim_on, in_zone, members, node};

fn ring_of(owners: &[Option<NodeId>]) -> Ring {
    let partitions = Partitions::new(u32::try_from(owners.len()).unwrap()).unwrap();
    Ring::new(partitions, owners, RingVersion::default()).unwrap()
}

fn in_order(order: &[usize]) -> Ring {
    ring_of(&order.iter().map(|number| Some(node(*number))).collect::<Vec<_>>())
}

/// T3 with equal partitions: X (node 9) takes the place of a second A between A and B.
#[test]
fn t3_a_joiner_gains_what_others_drop() {
    let (old, new) = (in_order(&[0, 0, 1, 2, 3, 4, 5, 6]), in_order(&[0, 9, 1, 2, 3, 4, 5, 6]));
    let mut all = members(7);
    all.push(ClaimMember { node: node(9), weight: 100, zone: None });
    let diff = RingDiff::between(&old, &new, 3, &all).unwrap();
    let gain = |partition: u32, replaces: usize| Move {
        partition: PartitionId(partition),
        to: node(9),
        replaces: Some(node(replaces)),
    };
    // (F, G], (G, A] and (A, X]: B drops the first, C the second; A, which had (A, X], drops it.
    assert_eq!(diff.moves, [gain(0, 2), gain(1, 0), gain(7, 1)]);
    assert_eq!(diff.share(node(9)).gained, 3);
    assert_eq!(diff.share(node(9)).replicas_after, 3);
    assert_eq!(diff.share(node(0)).owned_before, 2);
    assert_eq!(diff.share(node(0)).owned_after, 1);
    assert_eq!(diff.load_max_milli, 1000, "eight nodes of equal weight with one partition each");
    assert_eq!(diff.spread.partitions_spread, 8);
}

#[test]
fn gains_and_losses_add_up() {
    let all: Vec<ClaimMember> = (0..9).map(|number| in_zone(number, number % 3)).collect();
    let before = claim_on(&[None; 64], &all[..8], 3);
    let after = claim_on(&before.owners, &all, 3);
    let (old, new) = (ring_of(&before.owners), ring_of(&after.owners));
    let diff = RingDiff::between(&old, &new, 3, &all).unwrap();
    let gained: u32 = diff.shares.values().map(|share| share.gained).sum();
    let lost: u32 = diff.shares.values().map(|share| share.lost).sum();
    assert_eq!((gained, lost), (diff.moves.len() as u32, gained));
    for (node, share) in &diff.shares {
        assert_eq!(share.replicas_before + share.gained, share.replicas_after + share.lost);
        assert_eq!(share.owned_after, new.owners_count(*node));
    }
    assert_eq!(diff.spread.zones, 3);
    assert_eq!(diff.spread.zones_wanted, 3);
    assert_eq!(diff.spread.partitions_short, []);
}

#[test]
fn a_first_ring_only_gains_and_an_equal_ring_moves_nothing() {
    let all = members(3);
    let new = ring_of(&claim_on(&[None; 16], &all, 3).owners);
    let diff = RingDiff::between(&Ring::empty(new.partitions()), &new, 3, &all).unwrap();
    assert_eq!(diff.moves.len(), 48);
    assert!(diff.moves.iter().all(|gain| gain.replaces.is_none()));
    assert_eq!(RingDiff::between(&new, &new, 3, &all).unwrap().moves, []);
}

#[test]
fn too_few_zones_in_a_list_are_named() {
    // Two zones; nodes 0 and 1 in one of them stand next to each other.
    let all = [in_zone(0, 0), in_zone(1, 0), in_zone(2, 1), in_zone(3, 1)];
    let ring = in_order(&[0, 1, 2, 3]);
    let diff = RingDiff::between(&ring, &ring, 2, &all).unwrap();
    assert_eq!(diff.spread.partitions_short, [PartitionId(0), PartitionId(2)]);
    assert_eq!(diff.spread.partitions_spread, 2);
}

#[test]
fn rings_of_different_size_are_refused() {
    let (small, large) = (in_order(&[0, 1]), in_order(&[0, 1, 2, 3]));
    assert!(RingDiff::between(&small, &large, 3, &members(4)).is_err());
}

#[test]
fn the_compact_form_is_the_ring() {
    let ring = ring_of(&claim_on(&[None; 64], &members(5), 3).owners);
    let indexes: Vec<Option<u32>> = ring.owner_indexes().collect();
    let again =
        Ring::from_indexes(ring.partitions(), ring.nodes(), &indexes, ring.version()).unwrap();
    assert_eq!(again, ring);
    assert!(Ring::from_indexes(ring.partitions(), &[], &indexes, ring.version()).is_err());
    assert!(Ring::from_indexes(ring.partitions(), ring.nodes(), &[None], ring.version()).is_err());
}
