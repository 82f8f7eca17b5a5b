//! `atoll stage`.

use atoll_client::{Client, Stage as Change};
use clap::Subcommand;

use crate::exit;
use crate::output::{Done, Output};

/// Changes of the membership take effect with `atoll commit`, all together, after a look at
/// `atoll plan`. Nodes are named by id or by name.
#[derive(Debug, Subcommand)]
pub enum Stage {
    /// A running node joins
    Join {
        /// The nodes.
        #[arg(required = true)]
        nodes: Vec<String>,
        /// Failure domain, in place of the announced one.
        #[arg(long)]
        zone: Option<String>,
        /// Capacity in relation to the others, in place of the announced one.
        #[arg(long)]
        weight: Option<u32>,
    },
    /// A member hands over what it owns and leaves
    Leave {
        /// The member.
        node: String,
    },
    /// A node takes the place of a member
    Replace {
        /// The member.
        node: String,
        /// The node that takes its place.
        #[arg(long)]
        with: String,
    },
    /// Remove a member that will not come back
    ForceRemove {
        /// The member.
        node: String,
        /// Also where no other node holds a partition.
        #[arg(long)]
        accept_data_loss: bool,
    },
    /// Change a member's weight or zone
    Set {
        /// The member.
        node: String,
        /// Its new weight.
        #[arg(long, required_unless_present = "zone", conflicts_with = "zone")]
        weight: Option<u32>,
        /// Its new zone; an empty one for unknown.
        #[arg(long)]
        zone: Option<String>,
    },
    /// Drop everything that is staged
    Clear,
}

impl Stage {
    pub(crate) async fn run(self, client: &Client, output: Output) -> Done {
        let cluster = client.cluster();
        let Some(changes) = self.changes() else {
            cluster.unstage().await?;
            output.note("nothing is staged any more");
            return Ok(exit::OK);
        };
        let mut answers = Vec::with_capacity(changes.len());
        for change in &changes {
            answers.push(cluster.stage(change).await?);
        }
        if output.is_json() {
            output.document(&answers)?;
        } else {
            output.note("staged; see `atoll plan`, then `atoll commit`");
        }
        Ok(exit::OK)
    }

    /// The changes to stage, `None` for dropping them.
    fn changes(self) -> Option<Vec<Change>> {
        Some(match self {
            Self::Join { nodes, zone, weight } => nodes
                .into_iter()
                .map(|node| Change::Join { node, zone: zone.clone(), weight })
                .collect(),
            Self::Leave { node } => vec![Change::Leave { node }],
            Self::Replace { node, with } => vec![Change::Replace { node, with }],
            Self::ForceRemove { node, accept_data_loss } => {
                vec![Change::ForceRemove { node, accept_data_loss }]
            }
            Self::Set { node, weight, zone } => {
                vec![Change::Set { node, weight, zone, addresses: None }]
            }
            Self::Clear => return None,
        })
    }
}
