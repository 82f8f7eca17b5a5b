//! Stage, plan, commit.

use dynamo_core::id::ClusterId;
use dynamo_core::membership::member::MemberStatus;
use dynamo_core::membership::plan::{self, CommitError, Plan, mean_partition_bytes};
use dynamo_core::membership::registers::StagedChange;
use dynamo_core::membership::stage::{self, StageError, resolve};
use dynamo_core::membership::state::StoreState;
use dynamo_core::membership::view::{Delta, Membership};
use dynamo_core::ring::PartitionSet;
use dynamo_core::time::Mono;
use dynamo_core::wire::membership::{ClusterDocument, PlanDocument, StageRequest};

use crate::support::{WALL, founding, node, partitions, state, store};

const NOW: Mono = Mono(1);

/// An agent that knows `count` nodes.
fn knowing(count: usize) -> Membership {
    let mut view = Membership::new(state(0), NOW);
    let states = (1..count).map(state).collect();
    view.apply(Delta { states, ..Delta::default() }, NOW).unwrap();
    view
}

fn stage(view: &mut Membership, change: StagedChange) {
    let delta = stage::stage(view, change, WALL).unwrap();
    view.apply(delta, NOW).unwrap();
}

fn plan_of(view: &Membership) -> Plan {
    plan::plan(view, founding(), |_| Some(10)).unwrap()
}

fn commit(view: &mut Membership) -> Result<(), CommitError> {
    let tag = plan_of(view).tag();
    let delta = plan::commit(view, founding(), &tag, ClusterId(1), WALL)?;
    view.apply(delta, NOW).unwrap();
    Ok(())
}

fn join(index: usize) -> StagedChange {
    StagedChange::Join { node: node(index), zone: None, weight: None }
}

fn leave(index: usize) -> StagedChange {
    StagedChange::Leave { node: node(index) }
}

/// A cluster of the first `members`, each holding everything.
fn cluster(count: usize, members: usize) -> Membership {
    let mut view = knowing(count);
    for index in 0..members {
        stage(&mut view, join(index));
    }
    commit(&mut view).unwrap();
    for index in 0..members {
        hold(&mut view, index, PartitionSet::full(partitions()));
    }
    view
}

fn hold(view: &mut Membership, index: usize, held: PartitionSet) {
    let mut said = view.states().get(node(index)).unwrap().clone();
    said.stamp.version += 1;
    said.store = Some(store(index, Some(held)));
    view.apply(Delta::of_state(said), NOW).unwrap();
}

fn codes(notes: &[plan::Note]) -> Vec<&str> {
    notes.iter().map(|note| note.code).collect()
}

#[test]
fn founding_names_the_store_of_every_founder() {
    let mut view = knowing(4);
    let mut silent = state(3);
    silent.stamp.version += 1;
    silent.store = None;
    view.apply(Delta::of_state(silent), NOW).unwrap();
    for index in [0, 1, 3] {
        stage(&mut view, join(index));
    }
    let plan = plan_of(&view);
    assert!(plan.founds());
    assert_eq!(codes(&plan.refusals), ["store_unknown"]);
    assert!(matches!(commit(&mut view), Err(CommitError::Refused(_))));
    assert_eq!(view.cluster(), None);
    view.apply(
        Delta::of_state(dynamo_core::membership::state::NodeState {
            stamp: dynamo_core::membership::state::Stamp { version: 9, ..state(3).stamp },
            ..state(3)
        }),
        NOW,
    )
    .unwrap();
    let document = PlanDocument::of(&plan_of(&view), &view);
    assert_eq!((document.founding, document.moves_total, document.bytes), (true, 0, Some(0)));
    commit(&mut view).unwrap();
    assert_eq!(view.cluster(), Some(ClusterId(1)));
    let snapshot = view.snapshot().unwrap();
    for index in [0, 1, 3] {
        let info = snapshot.nodes.iter().find(|info| info.id == node(index)).unwrap();
        assert_eq!(info.status, MemberStatus::Member);
        assert_eq!(info.founding_store, Some(store(index, None).store_id));
    }
    assert!(view.staged().is_empty());
}

#[test]
fn a_plan_is_bound_to_history_and_staged_changes() {
    let mut view = cluster(6, 3);
    stage(&mut view, join(3));
    let first = plan_of(&view).tag();
    assert_eq!(plan_of(&view).tag(), first, "a plan is a function of the view");
    let stale = |view: &Membership, tag: &str| {
        let refused = plan::commit(view, founding(), tag, ClusterId(1), WALL);
        matches!(refused, Err(CommitError::Stale { present }) if present == plan_of(view).tag())
    };
    stage(&mut view, join(4));
    assert!(stale(&view, &first), "something else is staged");
    let second = plan_of(&view).tag();
    let mut elsewhere = view.clone();
    let delta = plan::commit(&view, founding(), &second, ClusterId(1), WALL).unwrap();
    view.apply(delta, NOW).unwrap();
    assert_eq!(
        plan::commit(&view, founding(), &second, ClusterId(1), WALL),
        Err(CommitError::Nothing)
    );
    // The same at another agent, whose history then moves on by gossip.
    stage(&mut elsewhere, join(5));
    let third = plan_of(&elsewhere).tag();
    let news = Delta { events: view.everything().events, ..Delta::default() };
    elsewhere.apply(news, NOW).unwrap();
    assert!(stale(&elsewhere, &third), "the history moved on");
    assert!(stale(&elsewhere, "0000000000000000"));
}

#[test]
fn a_plan_shows_what_would_happen() {
    let mut view = cluster(4, 3);
    stage(&mut view, join(3));
    let plan = plan_of(&view);
    assert_eq!(plan.refusals, []);
    assert_eq!(plan.members_after, 4);
    let gained = plan.diff.share(node(3)).gained as usize;
    assert!(gained > 0 && gained <= plan.diff.moves.len());
    assert_eq!(plan.bytes, Some(plan.diff.moves.len() as u64 * 10));
    assert_eq!(plan::plan(&view, founding(), |_| None).unwrap().bytes, None);
    let before = view.version();
    assert_eq!(plan.parent, before);
    commit(&mut view).unwrap();
    assert_eq!(view.version().number, before.number + 1);
    let document = ClusterDocument::of(&view);
    let joined = document.members.iter().find(|member| member.node == node(3)).unwrap();
    assert_eq!((joined.holds, joined.pending), (0, joined.replicas), "it holds nothing yet");
    assert_eq!(joined.replicas as usize, gained);
    // While that is under way the next plan says so.
    stage(&mut view, StagedChange::SetWeight { node: node(0), weight: 200 });
    assert!(codes(&plan_of(&view).warnings).contains(&"moves_pending"));
}

/// I-21: no plan leaves a partition without anybody who holds its data.
#[test]
fn giving_up_the_last_copy_is_refused_unless_said_in_so_many_words() {
    let mut view = cluster(3, 3);
    for index in [1, 2] {
        hold(&mut view, index, PartitionSet::empty(partitions()));
    }
    let remove = |accept_data_loss| StagedChange::ForceRemove { node: node(0), accept_data_loss };
    stage(&mut view, remove(false));
    assert_eq!(codes(&plan_of(&view).refusals), ["data_loss"]);
    assert!(matches!(commit(&mut view), Err(CommitError::Refused(_))));
    // A node that leaves in good order goes on answering for what it holds: nothing is lost.
    let dropped = stage::drop_staged(&view, WALL).unwrap();
    view.apply(dropped, NOW).unwrap();
    stage(&mut view, leave(0));
    assert_eq!(plan_of(&view).refusals, []);
    assert!(stage::drop_staged(&view, WALL).is_some());
    let dropped = stage::drop_staged(&view, WALL).unwrap();
    view.apply(dropped, NOW).unwrap();
    assert!(stage::drop_staged(&view, WALL).is_none());
    stage(&mut view, remove(true));
    let plan = plan_of(&view);
    assert_eq!(plan.refusals, []);
    assert!(codes(&plan.warnings).contains(&"data_loss"));
}

#[test]
fn impossible_changes_are_refused_when_staged_or_planned() {
    let mut view = cluster(5, 3);
    let refused =
        |view: &Membership, change: StagedChange| stage::stage(view, change, WALL).unwrap_err();
    let member = MemberStatus::Member;
    let candidate = MemberStatus::Candidate;
    assert_eq!(refused(&view, join(0)), StageError::NotCandidate(node(0), member));
    assert_eq!(refused(&view, join(77)), StageError::Unknown);
    assert_eq!(refused(&view, leave(3)), StageError::NotMember(node(3), candidate));
    let heavy = StagedChange::SetWeight { node: node(0), weight: u32::MAX };
    assert_eq!(refused(&view, heavy), StageError::Invalid);
    let replace = |old, new| StagedChange::Replace { node: node(old), with: node(new) };
    assert_eq!(refused(&view, replace(0, 1)), StageError::NotCandidate(node(1), member));
    for index in 0..3 {
        stage(&mut view, leave(index));
    }
    assert_eq!(codes(&plan_of(&view).refusals), ["impossible"], "the last member cannot leave");
    assert!(commit(&mut view).is_err());
    stage(&mut view, join(3));
    assert_eq!(codes(&plan_of(&view).refusals), ["impossible"], "changes apply in their order");
}

#[test]
fn staging_again_replaces_and_removed_agents_do_not_commit() {
    let mut view = cluster(4, 3);
    stage(&mut view, StagedChange::SetWeight { node: node(1), weight: 5 });
    stage(&mut view, StagedChange::SetWeight { node: node(1), weight: 7 });
    assert_eq!(view.staged(), [StagedChange::SetWeight { node: node(1), weight: 7 }]);
    stage(&mut view, leave(0));
    commit(&mut view).unwrap();
    assert_eq!(view.status(node(0)), Some(MemberStatus::Leaving), "it still holds everything");
    stage(&mut view, join(3));
    assert_eq!(commit(&mut view), Err(CommitError::Removed));
    let nothing = PartitionSet::empty(partitions());
    let mut said = view.states().get(node(0)).unwrap().clone();
    said.stamp.version += 1;
    said.store = Some(StoreState { leftover: true, ..store(0, Some(nothing.clone())) });
    view.apply(Delta::of_state(said), NOW).unwrap();
    let status = view.status(node(0));
    assert_eq!(status, Some(MemberStatus::Leaving), "what it has left over must go to others");
    hold(&mut view, 0, nothing);
    assert_eq!(view.status(node(0)), Some(MemberStatus::Removed), "left and done");
}

#[test]
fn nodes_are_named_by_id_or_name() {
    let mut view = cluster(5, 3);
    // A new machine under the name of a member that is being replaced.
    let mut successor = state(3);
    successor.stamp.version += 1;
    successor.name = "n1".into();
    view.apply(Delta::of_state(successor), NOW).unwrap();
    let is_member = |status| status == MemberStatus::Member;
    let is_candidate = |status| status == MemberStatus::Candidate;
    assert_eq!(resolve(&view, "n1", is_member), Ok(node(1)));
    assert_eq!(resolve(&view, "n1", is_candidate), Ok(node(3)));
    assert_eq!(resolve(&view, &node(4).to_string(), is_member), Ok(node(4)));
    assert_eq!(resolve(&view, "nobody", is_member), Err(StageError::Unknown));
    let request: StageRequest =
        serde_json::from_str(r#"{"replace":{"node":"n1","with":"n1"}}"#).unwrap();
    let change = request.resolve(&view).unwrap();
    assert_eq!(change, StagedChange::Replace { node: node(1), with: node(3) });
    stage(&mut view, change);
    commit(&mut view).unwrap();
    assert_eq!(view.fold().unwrap().members[&node(3)].name, "n1");
    for bad in
        [r#"{"join":{"node":"n4","colour":1}}"#, r#"{"explode":{"node":"n4"}}"#, r#"{"join":{}}"#]
    {
        assert!(serde_json::from_str::<StageRequest>(bad).is_err(), "{bad}");
    }
    let both: StageRequest =
        serde_json::from_str(r#"{"set":{"node":"n0","weight":1,"zone":"a"}}"#).unwrap();
    assert_eq!(both.resolve(&view), Err(StageError::Invalid));
}

#[test]
fn bytes_are_estimated_from_reports() {
    let mut view = cluster(3, 3);
    assert_eq!(mean_partition_bytes(&view), None);
    let mut said = view.my_state().clone();
    said.stamp.version += 1;
    if let Some(store) = &mut said.store {
        store.bytes = Some(6_400);
    }
    view.apply(Delta::of_state(said), NOW).unwrap();
    assert_eq!(mean_partition_bytes(&view), Some(100));
}
