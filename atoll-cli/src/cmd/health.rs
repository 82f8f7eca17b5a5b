//! `atoll health`.

use atoll_client::Client;
use clap::Args;

use crate::exit;
use crate::output::{Done, Output, table};

/// Whether every partition can be read and written. Exit code 0 while healthy or degraded, 75
/// while some partition has no quorum.
#[derive(Debug, Args)]
pub struct Health {
    /// Exit with 75 while degraded, too.
    #[arg(long)]
    pub strict: bool,
}

impl Health {
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
