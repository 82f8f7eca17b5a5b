//! `atoll log-level`.

use std::io;

use atoll_client::{Client, ClusterLogLevels, LogLevelChange, ProcessName};
use clap::Args;
use clap::builder::PossibleValuesParser;

use crate::exit;
use crate::output::{Done, Failure, Output, table};

/// What the logs of the processes tell, and changing it until they end.
#[derive(Debug, Args)]
pub struct LogLevel {
    /// A level for everything, levels for parts, or both: info,storage_node=debug.
    #[arg(conflicts_with = "reset")]
    pub level: Option<String>,
    /// Back to the level of the settings.
    #[arg(long)]
    pub reset: bool,
    /// Only the processes of this node, by name or id. Routers belong to none.
    #[arg(long, value_name = "NODE")]
    pub node: Option<String>,
    /// Only this kind of process. Of the routers the one that is asked changes.
    #[arg(long, value_name = "PROCESS",
        value_parser = PossibleValuesParser::new(ProcessName::ALL.map(ProcessName::as_str)))]
    pub process: Option<String>,
}

impl LogLevel {
    pub(crate) async fn run(self, client: &Client, output: Output) -> Done {
        let cluster = client.cluster();
        let named = |process: &ProcessName| Some(process.as_str()) == self.process.as_deref();
        let process = ProcessName::ALL.into_iter().find(named);
        let levels = if self.level.is_some() || self.reset {
            let change = LogLevelChange { level: self.level, node: self.node, process };
            cluster.set_log_level(&change).await?
        } else {
            let mut levels = cluster.log_levels().await?;
            levels.processes.retain(|one| {
                let of_node = |node: &str| {
                    one.name.as_deref() == Some(node)
                        || one.node.is_some_and(|id| id.to_string() == node)
                };
                process.is_none_or(|process| one.process == process)
                    && self.node.as_deref().is_none_or(of_node)
            });
            levels
        };
        show(&levels, output)?;
        let silent = levels.processes.iter().filter(|one| one.report.is_none()).count();
        if silent > 0 {
            let message = format!("{silent} processes did not answer, or refused");
            return Err(Failure::new(exit::UNAVAILABLE, message));
        }
        Ok(exit::OK)
    }
}

fn show(levels: &ClusterLogLevels, output: Output) -> io::Result<()> {
    if output.is_json() {
        return output.document(levels);
    }
    let mut rows = table(vec!["PROCESS", "NODE", "LEVEL", "CONFIGURED"]);
    for one in &levels.processes {
        let refused = one.refused.clone().unwrap_or_else(|| "unreachable".to_owned());
        let (level, configured) = match &one.report {
            Some(report) => (report.level.clone(), report.configured.clone()),
            None => (refused, String::new()),
        };
        let node = one.name.clone().unwrap_or_else(|| "this router".to_owned());
        rows.add_row(vec![one.process.as_str().to_owned(), node, level, configured]);
    }
    output.table(&rows)
}
