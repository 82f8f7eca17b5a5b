//! `atoll plan`.

use atoll_client::{Client, PlanDocument};

use crate::exit;
use crate::output::{Done, Output, table};

/// Prints what committing the staged changes would do. Exit code 4 where it would be refused.
pub(crate) async fn run(client: &Client, output: Output) -> Done {
    let plan = client.cluster().plan().await?;
    if output.is_json() {
        output.document(&plan)?;
    } else {
        print(&plan, output)?;
        if plan.refusals.is_empty() {
            output.note(format!("commit with: atoll commit {}", plan.plan));
        }
    }
    Ok(if plan.refusals.is_empty() { exit::OK } else { exit::CONFLICT })
}

/// The plan for people.
pub(crate) fn print(plan: &PlanDocument, output: Output) -> std::io::Result<()> {
    let bytes = plan.bytes.map_or_else(|| "unknown".to_owned(), |bytes| bytes.to_string());
    output.line(format!("plan {}  on ring {}", plan.plan, plan.parent))?;
    if plan.founding {
        output.line("founds the cluster: nothing moves")?;
    }
    output.line(format!(
        "members after {}  moves {}  bytes {bytes}",
        plan.members_after, plan.moves_total
    ))?;
    let load = plan.load_max_milli;
    output.line(format!("highest load {}.{:03} of the mean", load / 1000, load % 1000))?;
    let spread = &plan.spread;
    output.line(format!(
        "zones {}  partitions on {} distinct zones: {}, on fewer: {}",
        spread.zones, spread.zones_wanted, spread.partitions_spread, spread.partitions_short
    ))?;
    let mut rows = table(vec!["NODE", "OWNS", "AFTER", "REPLICAS", "AFTER", "GAINS", "LOSES"]);
    let mut nodes: Vec<_> = plan.nodes.iter().collect();
    nodes.sort_by(|a, b| a.name.cmp(&b.name));
    for node in nodes {
        rows.add_row(vec![
            node.name.clone(),
            node.owned_before.to_string(),
            node.owned_after.to_string(),
            node.replicas_before.to_string(),
            node.replicas_after.to_string(),
            node.gained.to_string(),
            node.lost.to_string(),
        ]);
    }
    output.table(&rows)?;
    for (kind, notes) in [("warning", &plan.warnings), ("refused", &plan.refusals)] {
        for note in notes {
            output.line(format!("{kind} {}: {}", note.code, note.detail))?;
        }
    }
    Ok(())
}
