//! Joining without an administrator, for deployments where starting a node with an empty disk *is* the
//! explicit decision that it shall join (paper section 4.8.1): a pod that an operator added.
//!
//! It happens once in the life of a node id: who is or was a member never joins again, so restarts and
//! removals change nothing. It is a plan like any other, made and committed in one step on what this
//! agent knows, with the joins alone: what an administrator has staged is neither committed nor
//! dropped. Concurrent joins of several nodes are concurrent events, which the history merges.
//!
//! The founding is done by one node, the first of the named founders, when it knows all of them. Two
//! agents that found at the same time would make two clusters, which never merge.
//!
//! Not here: when it is tried again (membership-svc).

use super::member::MemberStatus;
use super::plan::{self, CommitError, FoundingParams};
use super::registers::StagedChange;
use super::stage::{self, StageError};
use super::view::{Delta, Membership};
use crate::id::{ClusterId, NodeId};
use crate::time::{Mono, WallMs};

/// What a node that joins by itself has to do now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AutoJoin {
    /// Nothing any more: it is a member, or was one.
    Settled,
    /// Nothing yet.
    Waiting(Waiting),
    /// To issue this event.
    Commit(Delta),
}

/// Why a node does not join yet.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Waiting {
    /// The storage node of this host, or of a founder, has not reported its store.
    #[error("the storage node of {0} has not reported its store yet")]
    Store(String),
    /// There is no cluster, and founding one is not up to this node.
    #[error("there is no cluster yet, and this node does not found it")]
    Founding,
    /// There is no cluster, and a founder is not known or not by one name.
    #[error("there is no cluster yet, and founder {name} is not known: {error}")]
    Founder {
        /// The founder.
        name: String,
        /// Why it cannot be named.
        error: StageError,
    },
    /// Some node has known a ring: there is a cluster, its history is on the way.
    #[error("{0} belongs to a cluster that is not known here yet")]
    History(NodeId),
    /// A member has this node's name: its disk may have been lost, or it may come back.
    #[error("member {0} has the same name: replace it, or remove it")]
    NameTaken(NodeId),
    /// The plan is refused.
    #[error("the join is refused: {0}")]
    Refused(String),
}

/// What this agent's node has to do to belong to the ring. `founders` are the names of the nodes that
/// found a cluster where there is none; empty for joining an existing one only.
#[must_use]
pub fn auto_join(
    view: &Membership,
    founders: &[String],
    founding: FoundingParams,
    new_cluster: ClusterId,
    wall: WallMs,
    now: Mono,
) -> AutoJoin {
    if view.status(view.me()) != Some(MemberStatus::Candidate) {
        return AutoJoin::Settled;
    }
    let joining = if view.fold().is_some() { joiner(view) } else { founders_of(view, founders) };
    let committed = joining.and_then(|nodes| {
        commit(view, &nodes, founding, new_cluster, wall, now)
            .map_err(|error| Waiting::Refused(error.to_string()))
    });
    match committed {
        Ok(delta) => AutoJoin::Commit(delta),
        Err(reason) => AutoJoin::Waiting(reason),
    }
}

/// This node, where it can join the cluster.
fn joiner(view: &Membership) -> Result<Vec<NodeId>, Waiting> {
    let me = view.my_state();
    if me.store.is_none() {
        return Err(Waiting::Store(me.name.clone()));
    }
    let members = view.fold().into_iter().flat_map(|fold| fold.members.values());
    let mut namesakes = members.filter(|member| member.name == me.name);
    match namesakes.next() {
        Some(member) => Err(Waiting::NameTaken(member.node)),
        None => Ok(vec![me.node]),
    }
}

/// All founders, where it is this node that founds.
fn founders_of(view: &Membership, founders: &[String]) -> Result<Vec<NodeId>, Waiting> {
    let me = view.my_state();
    if founders.first() != Some(&me.name) {
        return Err(Waiting::Founding);
    }
    // A delta of gossip may bring states before the history that belongs to them.
    let has_held = |state: &&super::state::NodeState| {
        state.store.as_ref().is_some_and(|store| store.holds.is_some())
    };
    if let Some(state) = view.states().iter().find(has_held) {
        return Err(Waiting::History(state.node));
    }
    let known = founders.iter().map(|name| {
        let node = stage::resolve(view, name, |status| status == MemberStatus::Candidate)
            .map_err(|error| Waiting::Founder { name: name.clone(), error })?;
        match view.states().get(node) {
            Some(state) if state.store.is_some() => Ok(node),
            _ => Err(Waiting::Store(name.clone())),
        }
    });
    known.collect()
}

/// Why a join could not be made.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error(transparent)]
    Stage(#[from] StageError),
    #[error(transparent)]
    Commit(#[from] CommitError),
    #[error(transparent)]
    History(#[from] super::history::HistoryError),
}

/// The event with which `nodes` join, planned on a copy of the view in which nothing else is staged.
fn commit(
    view: &Membership,
    nodes: &[NodeId],
    founding: FoundingParams,
    new_cluster: ClusterId,
    wall: WallMs,
    now: Mono,
) -> Result<Delta, Refusal> {
    let mut draft = view.clone();
    if let Some(delta) = stage::drop_staged(&draft, wall) {
        draft.apply(delta, now)?;
    }
    for &node in nodes {
        let join = StagedChange::Join { node, zone: None, weight: None };
        let delta = stage::stage(&draft, join, wall)?;
        draft.apply(delta, now)?;
    }
    let tag = plan::plan(&draft, founding, |_| None)?.tag();
    let delta = plan::commit(&draft, founding, &tag, new_cluster, wall)?;
    // What is really staged stays as it is.
    Ok(Delta { staged: None, ..delta })
}
