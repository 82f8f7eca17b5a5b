//! Waiting until a change of the membership has moved its data.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use atoll_client::{Client, ClusterDocument};
use dynamo_core::id::NodeId;

use crate::exit;
use crate::human;
use crate::output::{Failure, Output};

/// Pause between two looks.
const POLL: Duration = Duration::from_secs(1);

/// What is waited for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Goal {
    /// Nodes that are to be gone: they hold nothing any more.
    pub(crate) gone: BTreeSet<NodeId>,
    /// Nodes that are to hold everything that they own.
    pub(crate) complete: BTreeSet<NodeId>,
}

impl Goal {
    /// Partitions that are still to move: 0 when the goal is reached.
    fn left(&self, cluster: &ClusterDocument) -> u64 {
        let of = |member: &atoll_client::MemberView| {
            if self.gone.contains(&member.node) {
                // A node that holds nothing and is still listed has something left over.
                u64::from(member.holds.max(1))
            } else if self.complete.contains(&member.node) {
                u64::from(member.pending)
            } else {
                0
            }
        };
        cluster.members.iter().map(of).sum()
    }
}

/// Waits for `goal`. What does not answer for a while is asked again: a node that leaves may be the
/// one that was asked.
///
/// # Errors
/// Exit 75 when `patience` is over.
pub(crate) async fn wait_for(
    client: &Client,
    goal: &Goal,
    patience: Duration,
    output: Output,
) -> Result<(), Failure> {
    let cluster = client.cluster();
    let style = "{bar:30} {pos}/{len} partitions moved {elapsed} {msg}";
    let progress = output.progress(Some(0), style);
    let (started, mut most, mut said) = (Instant::now(), 0, None);
    loop {
        let seen = cluster.status().await;
        let left = seen.as_ref().ok().map(|seen| goal.left(seen));
        if left == Some(0) {
            progress.finish_and_clear();
            return Ok(());
        }
        if started.elapsed() >= patience {
            progress.finish_and_clear();
            let what = match (left, seen) {
                (Some(left), _) => format!("{left} partitions have not moved"),
                (None, Err(error)) => error.to_string(),
                (None, Ok(_)) => "nothing is known".to_owned(),
            };
            let message = format!("not done after {} s: {what}", patience.as_secs());
            return Err(Failure::new(exit::UNAVAILABLE, message));
        }
        if let Some(left) = left {
            most = most.max(left);
            progress.set_length(most);
            progress.set_position(most - left);
            let eta = cluster.transfers().await.ok().and_then(|transfers| transfers.eta_ms);
            progress
                .set_message(eta.map(|ms| format!("eta {}", human::time(ms))).unwrap_or_default());
            if progress.is_hidden() && said != Some(left) {
                output.note(format!("{left} partitions to move"));
                said = Some(left);
            }
        }
        tokio::time::sleep(POLL).await;
    }
}
