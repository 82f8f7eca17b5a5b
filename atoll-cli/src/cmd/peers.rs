//! `atoll peers`.

use atoll_client::{Client, NodeSight};

use crate::exit;
use crate::output::{Done, Output, table};

/// Prints how every node looks to its peers: which host is slow.
pub(crate) async fn run(client: &Client, output: Output) -> Done {
    let peers = client.cluster().peers().await?;
    if output.is_json() {
        output.document(&peers)?;
        return Ok(exit::OK);
    }
    let slow: Vec<&str> =
        peers.nodes.iter().filter(|node| node.slow).map(|node| node.name.as_str()).collect();
    output.line(if slow.is_empty() {
        format!("no host stands out over the last {} s", peers.window_s)
    } else {
        format!("slow over the last {} s: {}", peers.window_s, slow.join(", "))
    })?;
    let mut rows =
        table(vec!["NODE", "SLOW", "P50", "P99", "MESSAGES", "SLOW FOR", "AWAY FOR", "PEERS"]);
    for node in &peers.nodes {
        rows.add_row(row(node));
    }
    output.table(&rows)?;
    if peers.silent > 0 {
        output.note(format!("{} nodes do not answer; what they measured is missing", peers.silent));
    }
    Ok(exit::OK)
}

fn row(node: &NodeSight) -> Vec<String> {
    vec![
        node.name.clone(),
        if node.slow { "yes" } else { "no" }.to_owned(),
        time(node.p50_us),
        time(node.p99_us),
        node.messages.to_string(),
        node.slow_for.to_string(),
        node.away_for.to_string(),
        node.observers.to_string(),
    ]
}

fn time(us: Option<u64>) -> String {
    us.map_or_else(|| "-".to_owned(), |us| format!("{}.{} ms", us / 1000, us % 1000 / 100))
}
