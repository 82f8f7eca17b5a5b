//! `atoll repair`.

use std::time::{Duration, Instant};

use atoll_client::{Client, ClusterRepair, RepairRequest, RepairState};
use clap::Args;
use dynamo_core::id::PartitionId;

use crate::exit;
use crate::output::{Done, Failure, Output};

/// Pause between two looks while waiting.
const POLL: Duration = Duration::from_millis(250);

/// Compares all replicas now, out of turn, and makes them equal: of everything, of one bucket or of
/// one partition. Exit code 1 where some could not be made equal.
#[derive(Debug, Args)]
pub struct Repair {
    /// Only this bucket.
    #[arg(long, conflicts_with = "partition")]
    pub bucket: Option<String>,
    /// Only this partition.
    #[arg(long)]
    pub partition: Option<u32>,
    /// Wait until it is done.
    #[arg(long)]
    pub wait: bool,
    /// Seconds to wait at most.
    #[arg(long, value_name = "SECONDS", default_value_t = 3600)]
    pub timeout_s: u64,
}

impl Repair {
    pub(crate) async fn run(self, client: &Client, output: Output) -> Done {
        let scope = RepairRequest {
            partition: self.partition.map(PartitionId),
            bucket: self.bucket.clone(),
        };
        let mut repair = client.cluster().start_repair(&scope).await?;
        if !self.wait {
            if output.is_json() {
                output.document(&repair)?;
            } else {
                output.line(format!("repair {} is under way", repair.id))?;
            }
            return Ok(exit::OK);
        }
        let nodes = repair.nodes.len() as u64;
        let progress = output.progress(Some(nodes), "{bar:30} {pos}/{len} nodes {elapsed} {msg}");
        let started = Instant::now();
        // One that has failed at a node goes on at the others.
        while repair.ended + repair.silent < repair.nodes.len() {
            if started.elapsed() >= Duration::from_secs(self.timeout_s) {
                progress.finish_and_clear();
                let message = format!("repair {} goes on after {} s", repair.id, self.timeout_s);
                return Err(Failure::new(exit::UNAVAILABLE, message));
            }
            progress.set_position(repair.ended as u64);
            progress.set_message(format!("{} keys repaired", repair.keys_repaired));
            tokio::time::sleep(POLL).await;
            repair = client.cluster().repair(&repair.id).await?;
        }
        progress.finish_and_clear();
        report(&repair, output)
    }
}

fn report(repair: &ClusterRepair, output: Output) -> Done {
    if output.is_json() {
        output.document(repair)?;
    } else {
        let (compared, repaired) = (repair.keys_compared, repair.keys_repaired);
        output.line(format!("{compared} keys compared one by one, {repaired} repaired"))?;
    }
    if repair.state == RepairState::Done {
        return Ok(exit::OK);
    }
    let failures = repair.nodes.iter().filter_map(|node| match &node.report {
        None => Some(format!("{}: no report", node.name)),
        Some(report) => report.error.as_ref().map(|error| format!("{}: {error}", node.name)),
    });
    let failures: Vec<String> = failures.collect();
    let message = format!("not all replicas could be made equal: {}", failures.join("; "));
    Err(Failure::new(exit::FAILURE, message))
}
