//! `atoll ring`.

use atoll_client::{Client, RingSnapshot};
use clap::Args;

use crate::exit;
use crate::output::{Done, Output, table};

/// Who owns how many partitions. With --json the whole snapshot.
#[derive(Debug, Args)]
pub struct Ring {
    /// List every partition with its owner.
    #[arg(long)]
    pub partitions: bool,
}

impl Ring {
    pub(crate) async fn run(self, client: &Client, output: Output) -> Done {
        let ring = client.cluster().ring().await?;
        if output.is_json() {
            output.document(&ring)?;
            return Ok(exit::OK);
        }
        output.line(format!("ring {}  partitions {}", ring.version, ring.partitions.get()))?;
        if self.partitions {
            let mut rows = table(vec!["PARTITION", "OWNER"]);
            for (partition, owner) in ring.owners.iter().enumerate() {
                rows.add_row(vec![partition.to_string(), owner_name(&ring, *owner)]);
            }
            output.table(&rows)?;
        } else {
            output.table(&shares(&ring))?;
        }
        Ok(exit::OK)
    }
}

fn owner_name(ring: &RingSnapshot, owner: Option<u32>) -> String {
    owner
        .and_then(|index| ring.nodes.get(usize::try_from(index).ok()?))
        .map_or_else(|| "-".to_owned(), |node| node.name.clone())
}

/// Per node its share of the ring.
fn shares(ring: &RingSnapshot) -> comfy_table::Table {
    let mut rows = table(vec!["NAME", "STATE", "WEIGHT", "OWNS", "SHARE", "HOLDS"]);
    let total = ring.owners.len().max(1);
    for (index, node) in ring.nodes.iter().enumerate() {
        let index = u32::try_from(index).ok();
        let owned = ring.owners.iter().filter(|owner| owner.is_some() && **owner == index).count();
        let held = node.holds.as_ref().map_or(0, dynamo_core::ring::PartitionSet::len);
        let share = owned * 1000 / total;
        rows.add_row(vec![
            node.name.clone(),
            node.status.as_str().to_owned(),
            node.weight.to_string(),
            owned.to_string(),
            format!("{}.{}%", share / 10, share % 10),
            held.to_string(),
        ]);
    }
    rows
}
