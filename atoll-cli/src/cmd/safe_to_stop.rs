//! `atoll safe-to-stop`.

use atoll_client::{Client, SafeToStop as Verdict};
use clap::Args;

use crate::exit;
use crate::output::{Done, Output};

/// Whether a node may stop without any partition losing its quorum: by who can be reached now, who
/// holds what, and what is still on its way. Exit code 0 for yes, 1 for no.
#[derive(Debug, Args)]
pub struct SafeToStop {
    /// The node, by name or id.
    pub node: String,
}

impl SafeToStop {
    pub(crate) async fn run(self, client: &Client, output: Output) -> Done {
        let verdict = client.cluster().safe_to_stop(&self.node).await?;
        if output.is_json() {
            output.document(&verdict)?;
        } else {
            print(&verdict, output)?;
        }
        Ok(if verdict.safe { exit::OK } else { exit::FAILURE })
    }
}

fn print(verdict: &Verdict, output: Output) -> std::io::Result<()> {
    let name = verdict.name.clone().unwrap_or_else(|| verdict.node.to_string());
    if verdict.safe {
        output.line(format!("{name} may stop"))?;
    } else {
        let count = verdict.partitions_at_risk;
        output
            .line(format!("{name} should not stop: {count} partitions would lose their quorum"))?;
    }
    for reason in &verdict.reasons {
        let what = match reason.reason.as_str() {
            "last_holder" => "could not be read at all",
            "reads" => "could not confirm that a key is absent",
            "writes" => "could be written to stand-ins only",
            other => other,
        };
        output.line(format!(
            "  {} partitions (first {}) of buckets with n={} {what}; {} of them already",
            reason.partitions, reason.first.0, reason.n, reason.already
        ))?;
    }
    if verdict.moves_delayed > 0 {
        let count = verdict.moves_delayed;
        output.note(format!("{count} partitions are being copied from it, among others"));
    }
    if let Some(hints) = verdict.hints_kept.filter(|count| *count > 0) {
        output.note(format!("it keeps {hints} writes for other nodes; they wait until it is back"));
    }
    if !verdict.unreachable.is_empty() {
        let silent: Vec<String> = verdict.unreachable.iter().map(ToString::to_string).collect();
        output.note(format!("not reachable now: {}", silent.join(", ")));
    }
    for warning in &verdict.warnings {
        output.note(format!("note: {warning}"));
    }
    Ok(())
}
