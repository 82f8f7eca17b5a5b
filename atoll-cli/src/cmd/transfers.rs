//! `atoll transfers`.

use std::time::Duration;

use atoll_client::{Client, ClusterTransfers, TransferState, TransferView};
use clap::{Args, Subcommand};
use dynamo_core::id::{NodeId, PartitionId};

use crate::exit;
use crate::human;
use crate::output::{Done, Failure, Output, table};

/// Pause between two looks while watching.
const POLL: Duration = Duration::from_millis(500);

/// Partitions that are listed one by one; the others are in the totals.
const SHOWN_MAX: usize = 40;

/// Partitions on the move, with what is left to copy. docs/operations.md explains the states.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Transfers {
    /// Follow the movements until there are none, with a bar.
    #[arg(long)]
    pub watch: bool,
    /// List every partition, not the first 40.
    #[arg(long)]
    pub all: bool,
    #[command(subcommand)]
    pub command: Option<TransfersCommand>,
}

/// What can be told to movements.
#[derive(Debug, Subcommand)]
pub enum TransfersCommand {
    /// Accept that partitions nobody holds are lost: their owners start over, empty
    AcceptLoss {
        /// The partitions, each of them in the state no_holder.
        #[arg(required = true)]
        partitions: Vec<u32>,
        /// Say so: what is in them is gone.
        #[arg(long, required = true)]
        data_is_lost: bool,
    },
}

impl Transfers {
    pub(crate) async fn run(self, client: &Client, output: Output) -> Done {
        if let Some(TransfersCommand::AcceptLoss { partitions, .. }) = &self.command {
            let partitions: Vec<PartitionId> =
                partitions.iter().copied().map(PartitionId).collect();
            return accept(client, &partitions, output).await;
        }
        if self.watch {
            return watch(client, output).await;
        }
        let transfers = client.cluster().transfers().await?;
        if output.is_json() {
            output.document(&transfers)?;
        } else {
            self.print(&transfers, output)?;
        }
        Ok(exit::OK)
    }

    fn print(&self, transfers: &ClusterTransfers, output: Output) -> std::io::Result<()> {
        output.line(summary(transfers))?;
        let mut rows = table(vec![
            "NODE",
            "PARTITION",
            "STATE",
            "PEER",
            "RECORDS",
            "OF",
            "BYTES",
            "ETA",
            "RESTARTS",
            "ERROR",
        ]);
        let named = |node: NodeId| {
            let found = transfers.nodes.iter().find(|report| report.node == node);
            found.map_or_else(|| node.to_string(), |report| report.name.clone())
        };
        let views = transfers.nodes.iter().flat_map(|report| {
            let views = report.report.iter().flat_map(|document| &document.partitions);
            views.map(|view| (report.name.clone(), view))
        });
        let mut hidden = 0;
        for (shown, (name, view)) in views.enumerate() {
            if shown < SHOWN_MAX || self.all {
                rows.add_row(row(name, view, view.peer.map(named)));
            } else {
                hidden += 1;
            }
        }
        output.table(&rows)?;
        if hidden > 0 {
            output.note(format!("and {hidden} more; --all lists them"));
        }
        for report in transfers.nodes.iter().filter(|report| report.report.is_none()) {
            let why = report.refused.as_deref().unwrap_or("its worker does not answer");
            output.note(format!("{}: {why}; it is not counted", report.name));
        }
        if let Some(lost) = transfers.totals.get(&TransferState::NoHolder) {
            output.note(format!("nobody is known to hold {lost} of them: see docs/operations.md"));
        }
        Ok(())
    }
}

fn row(name: String, view: &TransferView, peer: Option<String>) -> Vec<String> {
    let dash = || "-".to_owned();
    vec![
        name,
        view.partition.0.to_string(),
        view.state.as_str().to_owned(),
        peer.unwrap_or_else(dash),
        view.records.to_string(),
        view.records_total.map_or_else(dash, |total| total.to_string()),
        human::bytes(view.bytes),
        view.eta_ms.map_or_else(dash, human::time),
        view.restarts.to_string(),
        view.error.clone().unwrap_or_else(dash),
    ]
}

fn summary(transfers: &ClusterTransfers) -> String {
    let states: Vec<String> = transfers
        .totals
        .iter()
        .map(|(state, count)| format!("{} {count}", state.as_str()))
        .collect();
    let mut line = format!("to copy {}  to give up {}", transfers.incoming, transfers.outgoing);
    if let Some(eta) = transfers.eta_ms {
        line.push_str(&format!("  eta {}", human::time(eta)));
    }
    if transfers.paused > 0 {
        line.push_str(&format!("  paused at {} nodes", transfers.paused));
    }
    if !states.is_empty() {
        line.push_str(&format!("  ({})", states.join(", ")));
    }
    line
}

/// Follows the movements to their end: one bar over all partitions. Programs get one document per
/// look, on a line.
async fn watch(client: &Client, output: Output) -> Done {
    let progress = output.progress(Some(0), "{bar:30} {pos}/{len} partitions {elapsed} {msg}");
    let mut most = 0;
    loop {
        let transfers = client.cluster().transfers().await?;
        if output.is_json() {
            let line = serde_json::to_string(&transfers).map_err(std::io::Error::from)?;
            output.line(line)?;
        }
        if transfers.is_settled() {
            progress.finish_and_clear();
            output.note("nothing moves");
            return Ok(exit::OK);
        }
        let left = (transfers.incoming + transfers.outgoing) as u64;
        most = most.max(left);
        progress.set_length(most);
        progress.set_position(most - left);
        progress.set_message(told(&transfers));
        tokio::time::sleep(POLL).await;
    }
}

fn told(transfers: &ClusterTransfers) -> String {
    let mut parts = vec![human::bytes(transfers.bytes)];
    if let Some(total) = transfers.records_total {
        parts.push(format!("{}/{total} records", transfers.records));
    }
    if let Some(eta) = transfers.eta_ms {
        parts.push(format!("eta {}", human::time(eta)));
    }
    if transfers.silent > 0 {
        parts.push(format!("{} nodes silent", transfers.silent));
    }
    parts.join(", ")
}

async fn accept(client: &Client, partitions: &[PartitionId], output: Output) -> Done {
    let accepted = client.cluster().accept_loss(partitions).await?;
    if output.is_json() {
        output.document(&accepted)?;
    } else {
        let count = accepted.partitions.len();
        output.line(format!("{count} partitions start over, empty"))?;
    }
    let failed: Vec<&str> = accepted
        .nodes
        .iter()
        .filter(|node| node.report.is_none())
        .map(|node| node.name.as_str())
        .collect();
    if failed.is_empty() {
        return Ok(exit::OK);
    }
    let message = format!("{} did not take it; repeat it", failed.join(", "));
    Err(Failure::new(exit::UNAVAILABLE, message))
}
