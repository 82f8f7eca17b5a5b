//! `atoll status`.

use atoll_client::{Client, MemberView};

use crate::exit;
use crate::output::{Done, Output, table};

/// Prints the members, and whether the answering router reaches them.
pub(crate) async fn run(client: &Client, output: Output) -> Done {
    let cluster = client.cluster().status().await?;
    if output.is_json() {
        output.document(&cluster)?;
        return Ok(exit::OK);
    }
    let id = cluster.cluster.map_or_else(|| "not founded yet".to_owned(), |id| id.to_string());
    let partitions = cluster.partitions.map_or_else(|| "-".to_owned(), |count| count.to_string());
    output.line(format!("cluster {id}  ring {}  partitions {partitions}", cluster.version))?;
    // What is reachable is the router's own view; the members are listed without it.
    if let Ok(health) = client.cluster().health().await {
        output.line(format!(
            "{}  {} of {} nodes reachable",
            health.status, health.nodes_reachable, health.nodes
        ))?;
    }
    let mut rows = table(vec![
        "NAME", "STATE", "ZONE", "WEIGHT", "OWNS", "REPLICAS", "HOLDS", "PENDING", "ROUTER",
        "STORAGE", "NODE",
    ]);
    for member in &cluster.members {
        rows.add_row(row(member));
    }
    output.table(&rows)?;
    if cluster.staged > 0 {
        output.note(format!("{} staged changes; see `atoll plan`", cluster.staged));
    }
    if cluster.partitions_pending > 0 {
        output.note(format!(
            "{} partitions wait for an owner to hold them",
            cluster.partitions_pending
        ));
    }
    Ok(exit::OK)
}

fn row(member: &MemberView) -> Vec<String> {
    let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".to_owned());
    vec![
        member.name.clone(),
        member.status.as_str().to_owned(),
        text(&member.zone),
        member.weight.to_string(),
        member.owns.to_string(),
        member.replicas.to_string(),
        member.holds.to_string(),
        member.pending.to_string(),
        text(&member.addresses.router),
        text(&member.addresses.storage),
        member.node.to_string(),
    ]
}
