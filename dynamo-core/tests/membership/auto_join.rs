//! Joining without an administrator: who does it, when, and what it leaves alone.

use dynamo_core::id::ClusterId;
use dynamo_core::membership::auto_join::{AutoJoin, Waiting, auto_join};
use dynamo_core::membership::member::MemberStatus;
use dynamo_core::membership::plan;
use dynamo_core::membership::registers::StagedChange;
use dynamo_core::membership::stage::{self, StageError};
use dynamo_core::membership::view::{Delta, Membership};
use dynamo_core::ring::PartitionSet;
use dynamo_core::time::Mono;

use crate::support::{WALL, founding, node, partitions, state, store};

const NOW: Mono = Mono(1);

fn founders() -> Vec<String> {
    ["n0", "n1", "n2"].map(String::from).to_vec()
}

/// What node `me` knows of the nodes `0..count`.
fn knowing(me: usize, count: usize) -> Membership {
    let mut view = Membership::new(state(me), NOW);
    let states = (0..count).filter(|index| *index != me).map(state).collect();
    view.apply(Delta { states, ..Delta::default() }, NOW).unwrap();
    view
}

fn look(view: &Membership) -> AutoJoin {
    auto_join(view, &founders(), founding(), ClusterId(7), WALL, NOW)
}

/// Takes the step that is due.
fn join(view: &mut Membership) -> Delta {
    let AutoJoin::Commit(delta) = look(view) else { panic!("{:?}", look(view)) };
    view.apply(delta.clone(), NOW).unwrap();
    delta
}

/// What node `me` knows once the founders have founded.
fn founded(me: usize, count: usize) -> Membership {
    let mut first = knowing(0, count);
    let delta = join(&mut first);
    let mut view = knowing(me, count);
    view.apply(delta, NOW).unwrap();
    view
}

fn without_store(view: &mut Membership, index: usize) {
    let mut silent = state(index);
    silent.stamp.version += 1;
    silent.store = None;
    view.apply(Delta::of_state(silent), NOW).unwrap();
}

#[test]
fn the_first_founder_founds_when_it_knows_all() {
    let mut view = knowing(0, 4);
    join(&mut view);
    assert_eq!(view.cluster(), Some(ClusterId(7)));
    let status = |index| view.status(node(index)).unwrap();
    assert_eq!([0, 1, 2].map(status), [MemberStatus::Member; 3]);
    assert_eq!(status(3), MemberStatus::Candidate);
    assert_eq!(look(&view), AutoJoin::Settled);
}

#[test]
fn nobody_founds_too_early_or_twice() {
    let waits = |view: &Membership, reason: Waiting| {
        assert_eq!(look(view), AutoJoin::Waiting(reason));
    };
    waits(&knowing(1, 4), Waiting::Founding);
    waits(&knowing(3, 4), Waiting::Founding);
    let missing = Waiting::Founder { name: "n2".into(), error: StageError::Unknown };
    waits(&knowing(0, 2), missing);
    let mut view = knowing(0, 3);
    without_store(&mut view, 2);
    waits(&view, Waiting::Store("n2".into()));
    // The first founder lost its disk: the others know a ring, its history has not arrived.
    let mut view = knowing(0, 3);
    let mut held = state(1);
    held.stamp.version += 1;
    held.store = Some(store(1, Some(PartitionSet::full(partitions()))));
    view.apply(Delta::of_state(held), NOW).unwrap();
    waits(&view, Waiting::History(node(1)));
}

#[test]
fn a_later_node_joins_once_and_never_again() {
    let mut view = founded(3, 4);
    join(&mut view);
    assert_eq!(view.status(node(3)), Some(MemberStatus::Member));
    assert_eq!(look(&view), AutoJoin::Settled);
    let leave = StagedChange::Leave { node: node(3) };
    view.apply(stage::stage(&view, leave, WALL).unwrap(), NOW).unwrap();
    let tag = plan::plan(&view, founding(), |_| None).unwrap().tag();
    let delta = plan::commit(&founded_with(&view, 0), founding(), &tag, ClusterId(9), WALL);
    view.apply(delta.unwrap(), NOW).unwrap();
    assert_ne!(view.status(node(3)), Some(MemberStatus::Member));
    assert_eq!(look(&view), AutoJoin::Settled);
}

/// The same knowledge at node `me`.
fn founded_with(view: &Membership, me: usize) -> Membership {
    let mut other = Membership::new(state(me), NOW);
    other.apply(view.everything(), NOW).unwrap();
    other
}

#[test]
fn what_an_administrator_staged_is_left_alone() {
    let mut view = founded(3, 5);
    let weight = StagedChange::SetWeight { node: node(1), weight: 7 };
    view.apply(stage::stage(&view, weight.clone(), WALL).unwrap(), NOW).unwrap();
    let delta = join(&mut view);
    assert_eq!((delta.events.len(), &delta.staged), (1, &None));
    assert_eq!(view.staged(), [weight]);
    let members = &view.fold().unwrap().members;
    assert!(members.contains_key(&node(3)) && !members.contains_key(&node(4)));
    assert_eq!(members[&node(1)].weight, 100);
}

#[test]
fn concurrent_joins_merge() {
    let (mut third, mut fourth) = (founded(3, 5), founded(4, 5));
    let (one, other) = (join(&mut third), join(&mut fourth));
    third.apply(other, NOW).unwrap();
    fourth.apply(one, NOW).unwrap();
    assert_eq!(third.version(), fourth.version());
    assert_eq!(third.fold().unwrap().members.len(), 5);
    assert!(third.fold().unwrap().skipped.is_empty());
}

#[test]
fn a_namesake_or_a_missing_store_keeps_a_node_out() {
    let mut view = founded(3, 4);
    without_store(&mut view, 3);
    assert_eq!(look(&view), AutoJoin::Waiting(Waiting::Store("n3".into())));
    // The volume of n1 was lost: a new node with the old name.
    let mut reborn = state(9);
    reborn.name = "n1".into();
    let mut view = Membership::new(reborn, NOW);
    view.apply(founded(3, 4).everything(), NOW).unwrap();
    assert_eq!(look(&view), AutoJoin::Waiting(Waiting::NameTaken(node(1))));
}
