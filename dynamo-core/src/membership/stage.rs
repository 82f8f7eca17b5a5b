//! Staging: what an administrator asks for, checked against what is known and added to the staged
//! changes. Nothing moves until a plan of all staged changes is committed.

use super::member::MemberStatus;
use super::registers::{StagedChange, StagedEntry};
use super::view::{Delta, Membership};
use crate::id::NodeId;
use crate::limits::CHANGES_MAX;
use crate::time::WallMs;

/// Why a change cannot be staged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StageError {
    /// No node has this id or name.
    #[error("no node with this id or name is known here")]
    Unknown,
    /// Several nodes have this name.
    #[error("several nodes have this name; use the id")]
    Ambiguous,
    /// Only a node that never was a member can join.
    #[error("node {0} is {1}: only a candidate can join or replace")]
    NotCandidate(NodeId, MemberStatus),
    /// Only a member can leave or be changed.
    #[error("node {0} is {1}: only a member can leave, be replaced or be changed")]
    NotMember(NodeId, MemberStatus),
    /// The weight, zone or address is invalid.
    #[error("invalid weight, zone or address")]
    Invalid,
    /// Too many changes are staged.
    #[error("at most {CHANGES_MAX} changes can be staged; commit or drop them first")]
    TooMany,
}

/// The node that an administrator means by an id or a name. Of several nodes with one name, the
/// one that `wanted` prefers is meant, if there is exactly one.
///
/// # Errors
/// [`StageError::Unknown`] or [`StageError::Ambiguous`].
pub fn resolve(
    view: &Membership,
    name_or_id: &str,
    wanted: impl Fn(MemberStatus) -> bool,
) -> Result<NodeId, StageError> {
    if let Ok(node) = name_or_id.parse::<NodeId>() {
        return view.status(node).map(|_| node).ok_or(StageError::Unknown);
    }
    let members = view.fold().into_iter().flat_map(|fold| {
        let former = fold.former.values().map(|former| &former.member);
        fold.members.values().chain(former).map(|member| (member.node, member.name.as_str()))
    });
    let candidates = view
        .states()
        .iter()
        .filter(|state| view.status(state.node) == Some(MemberStatus::Candidate))
        .map(|state| (state.node, state.name.as_str()));
    let named: Vec<NodeId> = members
        .chain(candidates)
        .filter(|(_, name)| *name == name_or_id)
        .map(|(node, _)| node)
        .collect();
    let preferred: Vec<NodeId> =
        named.iter().copied().filter(|node| view.status(*node).is_some_and(&wanted)).collect();
    match (preferred.as_slice(), named.as_slice()) {
        ([node], _) | ([], [node]) => Ok(*node),
        ([], []) => Err(StageError::Unknown),
        _ => Err(StageError::Ambiguous),
    }
}

/// Adds a change to the staged ones, in place of an earlier one of the same kind for the same node.
///
/// # Errors
/// [`StageError`] where the change could not be committed as things stand.
pub fn stage(view: &Membership, change: StagedChange, wall: WallMs) -> Result<Delta, StageError> {
    check(view, &change)?;
    let replaced = |old: &StagedChange| {
        old.node() == change.node()
            && std::mem::discriminant(old) == std::mem::discriminant(&change)
    };
    let mut changes: Vec<StagedChange> =
        view.staged().iter().filter(|old| !replaced(old)).cloned().collect();
    changes.push(change);
    // The founding adds one change of its own.
    if changes.len() >= CHANGES_MAX {
        return Err(StageError::TooMany);
    }
    let entry = StagedEntry { stamp: view.stamp(wall), cluster: view.cluster(), changes };
    if !entry.is_valid() {
        return Err(StageError::Invalid);
    }
    Ok(Delta { staged: Some(entry), ..Delta::default() })
}

/// Drops all staged changes; `None` where there are none.
#[must_use]
pub fn drop_staged(view: &Membership, wall: WallMs) -> Option<Delta> {
    if view.staged().is_empty() {
        return None;
    }
    let (stamp, cluster) = (view.stamp(wall), view.cluster());
    let staged = Some(StagedEntry { stamp, cluster, changes: Vec::new() });
    Some(Delta { staged, ..Delta::default() })
}

/// Checks the nodes of a change against their status.
pub(super) fn check(view: &Membership, change: &StagedChange) -> Result<(), StageError> {
    let status = |node: NodeId| view.status(node).ok_or(StageError::Unknown);
    let candidate = |node: NodeId| match status(node)? {
        MemberStatus::Candidate => Ok(()),
        other => Err(StageError::NotCandidate(node, other)),
    };
    let member = |node: NodeId| match status(node)? {
        MemberStatus::Member => Ok(()),
        other => Err(StageError::NotMember(node, other)),
    };
    match change {
        StagedChange::Join { node, .. } => candidate(*node),
        StagedChange::Replace { node, with } => {
            member(*node)?;
            candidate(*with)
        }
        StagedChange::ForceRemove { node, .. } => match status(*node)? {
            MemberStatus::Member | MemberStatus::Leaving => Ok(()),
            other => Err(StageError::NotMember(*node, other)),
        },
        StagedChange::Leave { node }
        | StagedChange::SetWeight { node, .. }
        | StagedChange::SetZone { node, .. }
        | StagedChange::SetAddress { node, .. } => member(*node),
    }
}
