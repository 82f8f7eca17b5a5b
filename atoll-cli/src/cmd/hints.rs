//! `atoll hints`.

use std::time::{Duration, Instant};

use atoll_client::Client;
use clap::Args;
use serde_json::{Value, json};

use crate::exit;
use crate::output::{Done, Failure, Output, cell, table};

/// Pause between two looks while waiting.
const POLL: Duration = Duration::from_millis(200);

/// Hints that wait for delivery.
#[derive(Debug, Args)]
pub struct Hints {
    /// Wait until the hints that exist now have been delivered. Exit code 75 where they have not
    /// within --wait-s.
    #[arg(long)]
    pub wait: bool,
    /// Seconds to wait at most.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub wait_s: u64,
}

impl Hints {
    pub(crate) async fn run(self, client: &Client, output: Output) -> Done {
        if self.wait {
            return self.wait_for_drain(client, output).await;
        }
        let hints = client.cluster().hints().await?;
        if output.is_json() {
            output.document(&hints)?;
            return Ok(exit::OK);
        }
        let mut rows = table(vec!["NODE", "REACHABLE", "HINTS", "BYTES", "FOR"]);
        let empty = Vec::new();
        for node in hints["nodes"].as_array().unwrap_or(&empty) {
            let report = &node["report"];
            let targets = report["targets"].as_array().unwrap_or(&empty);
            let targets: Vec<String> = targets.iter().map(target).collect();
            rows.add_row(vec![
                cell(&node["name"]),
                cell(&node["reachable"]),
                cell(&report["hints"]),
                cell(&report["bytes"]),
                targets.join(" "),
            ]);
        }
        output.line(format!("{} hints, {} bytes", cell(&hints["hints"]), cell(&hints["bytes"])))?;
        output.table(&rows)?;
        Ok(exit::OK)
    }

    async fn wait_for_drain(&self, client: &Client, output: Output) -> Done {
        let cluster = client.cluster();
        let point = cluster.hint_sync_point().await?;
        let id = cell(&point["id"]);
        let progress = output.progress(None, "{spinner} waiting for hints {elapsed} {msg}");
        let started = Instant::now();
        loop {
            let status = cluster.hint_sync_status(&id).await?;
            if status["done"] == json!(true) {
                progress.finish_and_clear();
                if output.is_json() {
                    output.document(&status)?;
                } else {
                    output.line("delivered")?;
                }
                return Ok(exit::OK);
            }
            if started.elapsed() >= Duration::from_secs(self.wait_s) {
                progress.finish_and_clear();
                let message = format!("hints are not delivered after {} s", self.wait_s);
                return Err(Failure::new(exit::UNAVAILABLE, message));
            }
            progress.set_message(format!("{} left", cell(&status["hints"])));
            progress.tick();
            tokio::time::sleep(POLL).await;
        }
    }
}

/// A node that hints wait for, and how many.
fn target(target: &Value) -> String {
    format!("{}:{}", cell(&target["node"]), cell(&target["hints"]))
}
