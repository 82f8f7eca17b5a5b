use proptest::prelude::*;

use super::{Filler, Open, Tally, WriteGoal};
use crate::id::NodeId;
use crate::ring::ReplicaSets;

fn nodes(ids: &[u128]) -> Vec<NodeId> {
    ids.iter().copied().map(NodeId).collect()
}

fn replicas(owners: &[u128], holders: &[u128]) -> ReplicaSets {
    let pending = owners.iter().filter(|id| !holders.contains(id)).copied().collect::<Vec<_>>();
    ReplicaSets {
        owners: nodes(owners),
        pending: nodes(&pending),
        holders: nodes(holders),
        fallbacks: Vec::new(),
    }
}

/// Fills the places in the order given (negative: by a stand-in) and compares, after each, the
/// acks and whether the quorum is reached.
fn check(mut tally: Tally, fills: &[i32], expected: &[(u8, bool)]) {
    let mut seen = Vec::new();
    for fill in fills {
        let filler = if *fill < 0 { Filler::StandIn } else { Filler::Itself };
        tally.fill(NodeId(fill.unsigned_abs().into()), filler);
        seen.push((tally.acks(), tally.is_reached()));
    }
    assert_eq!(seen, expected);
}

fn write(sets: &ReplicaSets, w: u8, pw: u8) -> Tally {
    Tally::of_write(sets, WriteGoal::Count(w), pw)
}

#[test]
fn a_place_counts_once_whoever_fills_it() {
    let settled = replicas(&[1, 2, 3], &[1, 2, 3]);
    check(write(&settled, 2, 0), &[1, 1, -1, 2], &[(1, false), (1, false), (1, false), (2, true)]);
    check(write(&settled, 2, 0), &[-2, 2, -3], &[(1, false), (1, false), (2, true)]);
}

#[test]
fn strangers_do_not_count() {
    check(Tally::of_read(nodes(&[1, 2]), 1, 0), &[9, -9, 2], &[(0, false), (0, false), (1, true)]);
}

#[test]
fn primaries_are_counted_apart() {
    let settled = replicas(&[1, 2, 3], &[1, 2, 3]);
    check(write(&settled, 1, 2), &[1, -2, 2], &[(1, false), (2, false), (2, true)]);
}

#[test]
fn every_active_set_needs_its_quorum() {
    let moving = replicas(&[1, 2, 3], &[1, 5, 6]);
    check(write(&moving, 2, 0), &[1, 2, 3, 5], &[(1, false), (1, false), (1, false), (2, true)]);
}

#[test]
fn a_set_of_holders_that_is_too_small_needs_all_it_has() {
    let lost = replicas(&[1, 2, 3], &[1]);
    check(write(&lost, 2, 0), &[2, 3, 1], &[(1, false), (0, false), (3, true)]);
    // The owners are never too few to be counted in full: a ring of two cannot do w=3.
    check(write(&replicas(&[1, 2], &[1, 2]), 3, 0), &[1, 2], &[(1, false), (2, false)]);
}

#[test]
fn any_copy_satisfies_any() {
    let settled = replicas(&[1, 2, 3], &[1, 2, 3]);
    check(Tally::of_write(&settled, WriteGoal::Any, 0), &[-3], &[(1, true)]);
    let mut tally = Tally::of_write(&settled, WriteGoal::Any, 0);
    assert!(!tally.is_reached() && !tally.is_possible(|_| Open::default()));
    tally.fill_none();
    assert!(tally.is_reached());
    let mut counted = write(&settled, 1, 0);
    counted.fill_none();
    assert!(!counted.is_reached());
}

#[test]
fn prospects_name_the_quorum_that_lacks_most() {
    let mut tally = write(&replicas(&[1, 2, 3], &[1, 2, 3]), 2, 2);
    tally.fill(NodeId(1), Filler::Itself);
    tally.fill(NodeId(2), Filler::StandIn);
    assert_eq!(tally.prospects(|_| Open::default()), (2, 1));
    let open_3 = |node| Open { itself: node == NodeId(3), stand_in: false };
    assert_eq!(tally.prospects(open_3), (2, 3));
    assert!(tally.is_possible(open_3));
}

proptest! {
    /// Reached implies possible, and filling never undoes either.
    #[test]
    fn a_tally_only_grows(
        fills in prop::collection::vec(-6i32..=6, 0..12),
        w in 1u8..=3, pw in 0u8..=3, moving in any::<bool>(),
    ) {
        let sets = if moving { replicas(&[1, 2, 3], &[3, 4, 5]) } else { replicas(&[1, 2, 3], &[1, 2, 3]) };
        let mut tally = write(&sets, w, pw);
        let mut was_reached = false;
        for fill in fills {
            let filler = if fill < 0 { Filler::StandIn } else { Filler::Itself };
            tally.fill(NodeId(fill.unsigned_abs().into()), filler);
            prop_assert!(tally.is_reached() || !was_reached);
            prop_assert!(!tally.is_reached() || tally.is_possible(|_| Open::default()));
            was_reached = tally.is_reached();
        }
    }
}
