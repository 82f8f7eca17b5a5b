//! `atoll anti-entropy`.

use atoll_client::{Client, ClusterAntiEntropy};
use dynamo_core::id::NodeId;
use dynamo_core::time::WallMs;
use service_kit::time::Clock;

use crate::exit;
use crate::human;
use crate::output::{Done, Output, table};

/// Prints how far the replicas of all nodes have been compared, and how long ago all were equal.
pub(crate) async fn run(client: &Client, output: Output) -> Done {
    let state = client.cluster().anti_entropy().await?;
    if output.is_json() {
        output.document(&state)?;
    } else {
        print(&state, output)?;
    }
    Ok(exit::OK)
}

/// Which partitions are behind, and where.
fn print_behind(state: &ClusterAntiEntropy, output: Output) -> std::io::Result<()> {
    let name = |node: NodeId| {
        let known = state.nodes.iter().find(|report| report.node == node);
        known.map_or_else(|| node.to_string(), |report| report.name.clone())
    };
    let now = Clock::system().wall();
    output.line(format!("partitions behind {}", state.partitions_behind))?;
    let mut rows = table(vec!["PARTITION", "LAST EQUAL", "WHY", "REPLICA", "IS APART FROM"]);
    for partition in &state.behind {
        let age = |at: WallMs| u64::try_from(now.since(at).as_millis()).unwrap_or(u64::MAX);
        let equal = partition.agreed_at.map(|at| format!("{} ago", human::time(age(at))));
        for replica in &partition.replicas {
            let mut from: Vec<String> = replica.from.iter().map(|node| name(*node)).collect();
            from.sort_unstable();
            rows.add_row(vec![
                partition.partition.0.to_string(),
                equal.clone().unwrap_or_else(|| "-".to_owned()),
                if partition.differs { "differs" } else { "not compared" }.to_owned(),
                name(replica.node),
                from.join(", "),
            ]);
        }
    }
    output.table(&rows)?;
    let hidden = state.partitions_behind.saturating_sub(state.behind.len());
    if hidden > 0 {
        output.note(format!("{hidden} more partitions are behind"));
    }
    Ok(())
}

fn print(state: &ClusterAntiEntropy, output: Output) -> std::io::Result<()> {
    let lag = match state.lag_ms {
        Some(ms) => format!("all replicas were last seen equal {} ago", human::time(ms)),
        None => "not every node has seen all its replicas equal yet".to_owned(),
    };
    output.line(lag)?;
    output.line(format!(
        "keys behind {}  compared {}  repaired {}  moved {}",
        state.keys_behind,
        state.keys_compared,
        state.keys_repaired,
        human::bytes(state.bytes)
    ))?;
    if state.partitions_behind > 0 {
        print_behind(state, output)?;
    }
    let mut rows = table(vec![
        "NODE",
        "PARTNER",
        "PARTITIONS",
        "RUNNING",
        "COMPARED",
        "REPAIRED",
        "BYTES",
        "ERROR",
    ]);
    for node in &state.nodes {
        for peer in node.report.iter().flat_map(|report| &report.peers) {
            rows.add_row(vec![
                node.name.clone(),
                peer.name.clone().unwrap_or_else(|| peer.node.to_string()),
                peer.partitions.to_string(),
                peer.running.to_string(),
                peer.keys_compared.to_string(),
                peer.keys_repaired.to_string(),
                human::bytes(peer.bytes),
                peer.error.clone().unwrap_or_else(|| "-".to_owned()),
            ]);
        }
    }
    output.table(&rows)?;
    for node in state.nodes.iter().filter(|node| node.report.is_none()) {
        let why = node.refused.as_deref().unwrap_or("its worker does not answer");
        output.note(format!("{}: {why}; it is not counted", node.name));
    }
    if state.paused > 0 {
        output.note(format!("paused at {} nodes", state.paused));
    }
    Ok(())
}
