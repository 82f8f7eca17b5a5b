//! What the logs of processes tell, asked and changed while they run.

use serde::{Deserialize, Serialize};

use crate::id::NodeId;

/// `GET`: the level in force, a [`LogLevelDocument`]; `PUT` of a [`LogLevelChange`] changes it. On a
/// router both are about all processes of the cluster: [`ClusterLogLevels`].
pub const LOG_LEVEL_PATH: &str = "/v1/admin/log-level";

/// What one process answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLevelDocument {
    /// The level in force.
    pub level: String,
    /// The level of the settings, which the next start begins with.
    pub configured: String,
}

/// What a process is told.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogLevelChange {
    /// A level, levels of parts, or both: `info,storage_node=debug`. Absent: that of the settings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub level: Option<String>,
    /// Of a router alone: the node, by id or name, whose processes are meant; absent for all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// Of a router alone: which processes are meant; absent for all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<ProcessName>,
}

/// A process of a host, by the name that it has in logs and metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProcessName {
    /// The router that is asked: routers know of no other.
    RequestRouter,
    /// Storage nodes.
    StorageNode,
    /// Membership agents.
    MembershipSvc,
    /// Anti-entropy workers.
    AntiEntropyWorker,
}

impl ProcessName {
    /// All of them.
    pub const ALL: [Self; 4] =
        [Self::RequestRouter, Self::StorageNode, Self::MembershipSvc, Self::AntiEntropyWorker];

    /// The name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RequestRouter => "request-router",
            Self::StorageNode => "storage-node",
            Self::MembershipSvc => "membership-svc",
            Self::AntiEntropyWorker => "anti-entropy-worker",
        }
    }
}

/// The levels of the processes that were asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterLogLevels {
    /// One entry for each process.
    pub processes: Vec<ProcessLogLevel>,
}

/// The level of one process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessLogLevel {
    /// Which process.
    pub process: ProcessName,
    /// Its node; absent for the router that answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<NodeId>,
    /// The node's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Whether it answered.
    pub reachable: bool,
    /// The code of its refusal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
    /// Its answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub report: Option<LogLevelDocument>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processes_have_one_name_each_and_changes_no_other_fields() {
        for process in ProcessName::ALL {
            let json = serde_json::to_string(&process).unwrap();
            assert_eq!(json, format!("\"{}\"", process.as_str()));
        }
        let change: LogLevelChange = serde_json::from_str("{}").unwrap();
        assert_eq!(change, LogLevelChange::default());
        assert!(serde_json::from_str::<LogLevelChange>(r#"{"lvl":"debug"}"#).is_err());
    }
}
