//! `atoll commit`.

use atoll_client::Client;
use clap::Args;

use crate::cmd::plan;
use crate::exit;
use crate::output::{Done, Failure, Output};

/// Commits the staged changes. Naming the plan makes sure that exactly what `atoll plan` showed is
/// committed; without it the present plan is shown and committed.
#[derive(Debug, Args)]
pub struct Commit {
    /// Name of the plan, as `atoll plan` shows it.
    pub plan: Option<String>,
}

impl Commit {
    pub(crate) async fn run(self, client: &Client, output: Output) -> Done {
        let cluster = client.cluster();
        let name = match self.plan {
            Some(name) => name,
            None => {
                let plan = cluster.plan().await?;
                if !output.is_json() {
                    plan::print(&plan, output)?;
                }
                if let Some(refusal) = plan.refusals.first() {
                    let message = format!("the plan is refused: {}", refusal.detail);
                    return Err(Failure::new(exit::CONFLICT, message));
                }
                plan.plan
            }
        };
        let committed = cluster.commit(&name).await?;
        if output.is_json() {
            output.document(&committed)?;
        } else {
            output.line(format!("committed: ring {}", committed.version))?;
        }
        Ok(exit::OK)
    }
}
