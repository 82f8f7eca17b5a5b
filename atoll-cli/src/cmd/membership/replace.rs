//! `atoll replace`.

use std::collections::BTreeSet;
use std::time::Duration;

use atoll_client::Client;
use clap::Args;
use serde_json::json;

use super::commit_alone::{Wish, commit_alone};
use super::leave::unknown;
use super::settle::{Goal, wait_for};
use super::{Apply, find};
use crate::exit;
use crate::output::{Done, Output};

/// A new node takes the place of a member, which leaves: every partition of the one moves to the
/// other, and nothing else does. For a member that will not come back, too: the data comes from the
/// other holders.
#[derive(Debug, Args)]
pub struct Replace {
    /// The member, by name or id.
    pub node: String,
    /// The node that takes its place.
    #[arg(long, value_name = "NODE")]
    pub with: String,
    #[command(flatten)]
    pub apply: Apply,
}

impl Replace {
    pub(crate) async fn run(self, client: &Client, output: Output) -> Done {
        let cluster = client.cluster().status().await?;
        let id = |name: &str| find(&cluster, name).map(|m| m.node).ok_or_else(|| unknown(name));
        let (node, with) = (id(&self.node)?, id(&self.with)?);
        let wishes = BTreeSet::from([Wish::Replace { node, with }]);
        let committed = commit_alone(client, &wishes, &self.apply, output).await?;
        if self.apply.wait {
            // A dead node never says that it holds nothing: its successor decides when all is done.
            let goal = Goal { complete: BTreeSet::from([with]), ..Goal::default() };
            wait_for(client, &goal, Duration::from_secs(self.apply.timeout_s), output).await?;
            output.note(format!("{} holds all that {} held", self.with, self.node));
        }
        if output.is_json() {
            let (ring, complete) = (committed.version, self.apply.wait);
            let document =
                json!({ "node": node, "with": with, "ring": ring, "complete": complete });
            output.document(&document)?;
        }
        Ok(exit::OK)
    }
}
