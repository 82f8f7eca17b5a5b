//! `atoll leave`.

use std::collections::BTreeSet;
use std::time::Duration;

use atoll_client::Client;
use clap::Args;
use serde_json::json;

use super::commit_alone::{Wish, commit_alone};
use super::settle::{Goal, wait_for};
use super::{Apply, find};
use crate::exit;
use crate::output::{Done, Failure, Output};

/// A member hands over what it owns and leaves: stages, shows the plan, commits. The node may be
/// switched off when it is not listed any more; --wait waits for that.
#[derive(Debug, Args)]
pub struct Leave {
    /// The member, by name or id.
    pub node: String,
    #[command(flatten)]
    pub apply: Apply,
}

impl Leave {
    pub(crate) async fn run(self, client: &Client, output: Output) -> Done {
        let cluster = client.cluster().status().await?;
        let member = find(&cluster, &self.node).ok_or_else(|| unknown(&self.node))?;
        let node = member.node;
        let wishes = BTreeSet::from([Wish::Leave { node }]);
        let committed = commit_alone(client, &wishes, &self.apply, output).await?;
        if self.apply.wait {
            let goal = Goal { gone: BTreeSet::from([node]), ..Goal::default() };
            wait_for(client, &goal, Duration::from_secs(self.apply.timeout_s), output).await?;
            output.note(format!("{} has left; it may be switched off", self.node));
        }
        if output.is_json() {
            let ring = committed.version;
            output.document(&json!({ "node": node, "ring": ring, "gone": self.apply.wait }))?;
        }
        Ok(exit::OK)
    }
}

/// The failure for a node that nobody knows.
pub(super) fn unknown(name: &str) -> Failure {
    Failure::new(exit::NOT_FOUND, format!("no node is called {name:?}"))
}
