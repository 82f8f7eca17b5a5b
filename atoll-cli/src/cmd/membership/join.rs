//! `atoll join`.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use atoll_client::Client;
use clap::Args;
use dynamo_core::id::NodeId;
use dynamo_core::membership::member::MemberStatus;
use serde_json::json;

use super::commit_alone::{NotCommitted, Wish, commit_alone};
use super::settle::{Goal, wait_for};
use super::{Apply, find};
use crate::exit;
use crate::output::{Done, Failure, Output};

/// Pause between two looks for a node that is not known yet.
const POLL: Duration = Duration::from_millis(500);

/// A running node joins the ring: waits until it is known, stages, plans and commits, again where
/// others join at the same time. A member needs nothing. Founds no cluster: for that, `atoll stage
/// join` all first nodes, then commit.
#[derive(Debug, Args)]
pub struct Join {
    /// The node, by name or id.
    pub node: String,
    #[command(flatten)]
    pub apply: Apply,
}

impl Join {
    pub(crate) async fn run(self, client: &Client, output: Output) -> Done {
        let started = Instant::now();
        let patience = Duration::from_secs(self.apply.timeout_s);
        let node = loop {
            let (node, status) = self.look(client, started, patience).await?;
            if status == MemberStatus::Member {
                break node;
            }
            let wishes = BTreeSet::from([Wish::Join { node }]);
            let Err(not) = commit_alone(client, &wishes, &self.apply, output).await else {
                break node;
            };
            // The commit of another node that joins may have taken this one along.
            let (_, status) = self.look(client, started, patience).await?;
            if status != MemberStatus::Member
                && (!matches!(not, NotCommitted::Foreign) || started.elapsed() >= patience)
            {
                return Err(not.into());
            }
            tokio::time::sleep(POLL).await;
        };
        if self.apply.wait {
            let goal = Goal { complete: BTreeSet::from([node]), ..Goal::default() };
            let left = patience.saturating_sub(started.elapsed());
            wait_for(client, &goal, left, output).await?;
        }
        if output.is_json() {
            output.document(
                &json!({ "node": node, "status": "member", "complete": self.apply.wait }),
            )?;
        }
        output.note(format!("{} is a member", self.node));
        Ok(exit::OK)
    }

    /// The node, once it is known to a founded cluster.
    async fn look(
        &self,
        client: &Client,
        started: Instant,
        patience: Duration,
    ) -> Result<(NodeId, MemberStatus), Failure> {
        loop {
            let missing = match client.cluster().status().await {
                Err(error) => Failure::from(error),
                Ok(cluster) if cluster.cluster.is_none() => {
                    Failure::new(exit::UNAVAILABLE, "the cluster is not founded yet")
                }
                Ok(cluster) => match find(&cluster, &self.node) {
                    Some(member) if member.status == MemberStatus::Leaving => {
                        let message = format!("{} is leaving and cannot join again", self.node);
                        return Err(Failure::new(exit::CONFLICT, message));
                    }
                    Some(member) => return Ok((member.node, member.status)),
                    None => {
                        let message = format!("no node is called {:?} yet", self.node);
                        Failure::new(exit::UNAVAILABLE, message)
                    }
                },
            };
            if started.elapsed() >= patience {
                return Err(missing);
            }
            tokio::time::sleep(POLL).await;
        }
    }
}
