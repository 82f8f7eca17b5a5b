//! `atoll health`.

use std::time::Duration;

use atoll_client::Client;
use clap::Args;

use crate::cmd::ready;
use crate::exit;
use crate::output::{Done, Output, table};

/// Whether every partition can be read and written. Exit code 0 while healthy or degraded, 75
/// while some partition has no quorum. With --process or --local: whether single processes are
/// ready.
#[derive(Debug, Args)]
pub struct Health {
    /// Exit with 75 while degraded, too.
    #[arg(long, conflicts_with_all = ["process", "local"])]
    pub strict: bool,
    /// Instead: whether the process with this metrics listener is ready. May be repeated.
    #[arg(long, value_name = "HOST:PORT", conflicts_with = "local")]
    pub process: Vec<String>,
    /// Instead: whether the processes that run on this host, on the default ports, are ready.
    #[arg(long)]
    pub local: bool,
}

impl Health {
    /// Asks single processes, where that is wanted.
    pub(crate) async fn of_processes(&self, timeout: Duration, output: Output) -> Option<Done> {
        if self.local {
            return Some(ready::local(timeout, output).await);
        }
        if self.process.is_empty() {
            return None;
        }
        Some(ready::processes(&self.process, timeout, output).await)
    }

    pub(crate) async fn run(self, client: &Client, output: Output) -> Done {
        let health = client.cluster().health().await?;
        if output.is_json() {
            output.document(&health)?;
        } else {
            let mut rows = table(vec!["STATUS", &health.status]);
            let of = |part: u64, whole: u64| format!("{part} of {whole}");
            rows.add_row(vec!["nodes reachable".into(), of(health.nodes_reachable, health.nodes)]);
            rows.add_row(vec![
                "partitions complete".into(),
                of(health.partitions_all_ok, health.partitions),
            ]);
            rows.add_row(vec![
                "partitions with a quorum".into(),
                of(health.partitions_quorum_ok, health.partitions),
            ]);
            rows.add_row(vec!["pending moves".into(), health.pending_moves.to_string()]);
            let hints =
                health.hints.map_or_else(|| "unknown".to_owned(), |count| count.to_string());
            rows.add_row(vec!["hints".into(), hints]);
            output.table(&rows)?;
        }
        let well = health.status == "healthy" || (health.status == "degraded" && !self.strict);
        Ok(if well { exit::OK } else { exit::UNAVAILABLE })
    }
}
