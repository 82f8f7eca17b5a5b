//! Stage, plan and commit of one wish, alone.
//!
//! A commit names its plan, and a plan covers every staged change: what is committed is what was
//! looked at, or nothing. So all that is left to do is to look.

use std::collections::BTreeSet;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use atoll_client::{Client, Cluster, CommitDocument, PlanDocument, Stage};
use dynamo_core::id::NodeId;
use dynamo_core::membership::history::Change;

use super::Apply;
use crate::cmd::plan;
use crate::exit;
use crate::output::{Failure, Output};

/// Pause before a plan that went stale is made again.
const AGAIN: Duration = Duration::from_millis(500);

/// One change, as it is asked for and as a plan lists it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Wish {
    Join { node: NodeId },
    Leave { node: NodeId },
    Replace { node: NodeId, with: NodeId },
}

impl Wish {
    fn request(self) -> Stage {
        match self {
            Self::Join { node } => Stage::Join { node: node.to_string(), zone: None, weight: None },
            Self::Leave { node } => Stage::Leave { node: node.to_string() },
            Self::Replace { node, with } => {
                Stage::Replace { node: node.to_string(), with: with.to_string() }
            }
        }
    }

    /// `None` for a change that no command of this kind stages.
    fn of(change: &Change) -> Option<Self> {
        match change {
            Change::Join { joiner } => Some(Self::Join { node: joiner.node }),
            Change::Leave { node, forced: false } => Some(Self::Leave { node: *node }),
            Change::Replace { node, joiner } => {
                Some(Self::Replace { node: *node, with: joiner.node })
            }
            _ => None,
        }
    }
}

/// What a plan has to do with what is wished.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Staged {
    /// All of it and nothing else.
    Ours,
    /// Some of it is missing, and nothing else is there.
    Incomplete,
    /// Somebody else's changes are among it.
    Foreign,
}

/// Judges the changes of a plan. Nodes that join may go together: each of them was asked for in the
/// same way, and if everyone waited for the others none would ever join.
fn judge(wishes: &BTreeSet<Wish>, changes: &[Change]) -> Staged {
    let joining = wishes.iter().all(|wish| matches!(wish, Wish::Join { .. }));
    let mut met = BTreeSet::new();
    for change in changes {
        match Wish::of(change) {
            Some(wish) if wishes.contains(&wish) => {
                met.insert(wish);
            }
            Some(Wish::Join { .. }) if joining => {}
            _ => return Staged::Foreign,
        }
    }
    if met == *wishes { Staged::Ours } else { Staged::Incomplete }
}

/// Why nothing was committed.
#[derive(Debug)]
pub(crate) enum NotCommitted {
    /// The membership moved on: look again.
    Stale(Failure),
    /// Somebody else's changes are staged.
    Foreign,
    /// Refused, declined, or not reachable.
    Failed(Failure),
}

impl From<atoll_client::Error> for NotCommitted {
    fn from(error: atoll_client::Error) -> Self {
        Self::Failed(error.into())
    }
}

impl From<NotCommitted> for Failure {
    fn from(not: NotCommitted) -> Self {
        match not {
            NotCommitted::Stale(failure) | NotCommitted::Failed(failure) => failure,
            NotCommitted::Foreign => {
                let message = "somebody else's changes are staged: see `atoll plan`, then `atoll \
                               commit` them or drop them with `atoll stage clear`";
                Self::new(exit::CONFLICT, message)
            }
        }
    }
}

/// Commits exactly `wishes`, and starts again while others change the cluster in between.
///
/// # Errors
/// Exit 4 where the plan is refused, would leave too few nodes, is declined, or where somebody
/// else's changes are staged; 75 where it does not come about in time.
pub(crate) async fn commit_alone(
    client: &Client,
    wishes: &BTreeSet<Wish>,
    apply: &Apply,
    output: Output,
) -> Result<CommitDocument, NotCommitted> {
    let cluster = client.cluster();
    let deadline = Instant::now() + Duration::from_secs(apply.timeout_s);
    loop {
        match attempt(&cluster, wishes, apply, output).await {
            Err(NotCommitted::Stale(_)) if Instant::now() < deadline => {
                tokio::time::sleep(AGAIN).await;
            }
            ended => return ended,
        }
    }
}

async fn attempt(
    cluster: &Cluster,
    wishes: &BTreeSet<Wish>,
    apply: &Apply,
    output: Output,
) -> Result<CommitDocument, NotCommitted> {
    let staged = cluster.status().await?.staged;
    let mut plan = if staged > 0 { Some(cluster.plan().await.map_err(moved_on)?) } else { None };
    if plan.as_ref().is_some_and(|plan| judge(wishes, &plan.changes) == Staged::Foreign) {
        return Err(NotCommitted::Foreign);
    }
    if plan.as_ref().is_none_or(|plan| judge(wishes, &plan.changes) == Staged::Incomplete) {
        for wish in wishes {
            // What is staged already is staged again: that changes nothing.
            cluster.stage(&wish.request()).await?;
        }
        plan = None;
    }
    let plan = match plan {
        Some(plan) => plan,
        None => cluster.plan().await.map_err(moved_on)?,
    };
    match judge(wishes, &plan.changes) {
        Staged::Ours => {}
        Staged::Foreign => return Err(NotCommitted::Foreign),
        Staged::Incomplete => {
            let message = "the staged changes were dropped by somebody else";
            return Err(NotCommitted::Stale(Failure::new(exit::CONFLICT, message)));
        }
    }
    if let Err(failure) = check(cluster, &plan, apply, output).await {
        // Only our own changes are staged: nobody else's go with them.
        cluster.unstage().await?;
        return Err(NotCommitted::Failed(failure));
    }
    let committed = cluster.commit(&plan.plan).await.map_err(moved_on)?;
    output.note(format!("committed: ring {}", committed.version));
    Ok(committed)
}

/// A refusal because the membership is not what it was a moment ago: worth another look.
fn moved_on(error: atoll_client::Error) -> NotCommitted {
    match error.code() {
        Some("stale_plan" | "conflict") => NotCommitted::Stale(error.into()),
        _ => NotCommitted::Failed(error.into()),
    }
}

/// Whether the plan may be committed.
async fn check(
    cluster: &Cluster,
    planned: &PlanDocument,
    apply: &Apply,
    output: Output,
) -> Result<(), Failure> {
    if !output.is_json() {
        plan::print(planned, output)?;
    }
    if let Some(refusal) = planned.refusals.first() {
        let message = format!("the plan is refused: {}", refusal.detail);
        return Err(Failure::new(exit::CONFLICT, message));
    }
    let copies = usize::from(cluster.status().await?.spacing.unwrap_or(0));
    if planned.members_after < copies && !apply.force {
        let message = format!(
            "{} nodes would be left for {copies} copies of each object; --force to do it anyway",
            planned.members_after
        );
        return Err(Failure::new(exit::CONFLICT, message));
    }
    if apply.yes || is_agreed()? {
        return Ok(());
    }
    Err(Failure::new(exit::CONFLICT, "not committed"))
}

/// Asks, where there is somebody to ask.
fn is_agreed() -> std::io::Result<bool> {
    if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
        return Ok(true);
    }
    let mut stderr = std::io::stderr().lock();
    write!(stderr, "commit this plan? [y/N] ")?;
    stderr.flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_wished_is_committed() {
        let id = NodeId;
        let leave = |node| Change::Leave { node: id(node), forced: false };
        let wish = |node| Wish::Leave { node: id(node) };
        let removed = Change::Leave { node: id(1), forced: true };
        let weight = Change::SetWeight { node: id(9), weight: 1 };
        let rows: [(&[Wish], Vec<Change>, Staged); 7] = [
            (&[wish(1)], vec![leave(1)], Staged::Ours),
            (&[wish(1), wish(2)], vec![leave(2), leave(1)], Staged::Ours),
            (&[wish(1), wish(2)], vec![leave(2)], Staged::Incomplete),
            (&[wish(1)], vec![], Staged::Incomplete),
            (&[wish(1)], vec![leave(1), leave(2)], Staged::Foreign),
            (&[wish(1)], vec![removed], Staged::Foreign),
            (&[wish(1)], vec![leave(1), weight], Staged::Foreign),
        ];
        for (wishes, changes, expected) in rows {
            let wishes = wishes.iter().copied().collect();
            assert_eq!(judge(&wishes, &changes), expected, "{wishes:?} {changes:?}");
        }
    }
}
