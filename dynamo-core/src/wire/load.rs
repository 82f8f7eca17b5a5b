//! Who had how many operations lately: what each storage node counted, and how even that is.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::id::NodeId;
use crate::limits::LOAD_WINDOWS_S;
use crate::routing::evenness::{CountedLoad, Evenness};
use crate::wire::operations::NodeReport;

/// `GET` at a storage node, answered by a [`LoadDocument`].
pub const LOAD_PATH: &str = "/v1/load";

/// The operations of one node within one window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadWindow {
    /// Seconds that the window is to span, one of [`LOAD_WINDOWS_S`].
    pub window_s: u64,
    /// Seconds that it does span; fewer after a start.
    pub seconds: u64,
    /// Requests that it coordinated; each of them is also an operation on its own replica.
    pub coordinated: u64,
    /// Operations on its replicas for requests that others coordinated.
    pub replica: u64,
}

impl LoadWindow {
    /// Operations on its replicas: its load.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.coordinated.saturating_add(self.replica)
    }
}

/// The operations of one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadDocument {
    /// The node.
    pub node: NodeId,
    /// One window for each of [`LOAD_WINDOWS_S`].
    pub windows: Vec<LoadWindow>,
}

/// How the load of one node compares within one window.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeLoadView {
    /// The node.
    pub node: NodeId,
    /// Its name.
    pub name: String,
    /// Its weight.
    pub weight: u32,
    /// What it counted.
    #[serde(flatten)]
    pub counted: LoadWindow,
    /// Deviation from its fair share by weight, in thousandths of that; absent without any load.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deviation_milli: Option<i64>,
    /// Whether that is out of balance; never where there was too little to judge.
    pub out_of_balance: bool,
}

/// How even the load of one window is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterLoadWindow {
    /// Seconds that the window is to span.
    pub window_s: u64,
    /// Operations of all nodes that answered.
    pub operations: u64,
    /// Whether there were enough of them to judge.
    pub judged: bool,
    /// Nodes out of balance in thousandths of those that answered: the imbalance ratio.
    pub imbalance_milli: u32,
    /// The nodes that answered, by id.
    pub nodes: Vec<NodeLoadView>,
}

/// How the nodes share the load.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterLoad {
    /// By window, the shortest first.
    pub windows: Vec<ClusterLoadWindow>,
    /// Nodes that gave no report; the shares are those of the others.
    pub silent: usize,
}

impl ClusterLoad {
    /// Compares the reports of nodes. `weight` is that of a member; nodes without one (they leave,
    /// and still answer) are left out, as nothing is due to them.
    #[must_use]
    pub fn of(nodes: &[NodeReport<LoadDocument>], weight: impl Fn(NodeId) -> Option<u32>) -> Self {
        let members = nodes.iter().filter_map(|node| Some((node, weight(node.node)?)));
        let members: Vec<_> = members.collect();
        let windows = LOAD_WINDOWS_S.map(|window_s| {
            let counted = members.iter().filter_map(|(node, weight)| {
                let report = node.report.as_ref()?;
                let window = report.windows.iter().find(|window| window.window_s == window_s)?;
                Some((node.node, node.name.clone(), *weight, *window))
            });
            ClusterLoadWindow::of(window_s, counted.collect())
        });
        let silent = members.iter().filter(|(node, _)| node.report.is_none()).count();
        Self { windows: windows.to_vec(), silent }
    }
}

impl ClusterLoadWindow {
    fn of(window_s: u64, mut counted: Vec<(NodeId, String, u32, LoadWindow)>) -> Self {
        counted.sort_by_key(|(node, ..)| *node);
        let load = |weight, window: &LoadWindow| CountedLoad {
            weight,
            // Nodes that started lately are measured by their rate.
            operations: window.operations().saturating_mul(window_s) / window.seconds.max(1),
        };
        let loads: BTreeMap<NodeId, CountedLoad> =
            counted.iter().map(|(node, _, weight, w)| (*node, load(*weight, w))).collect();
        let evenness = Evenness::of(&loads);
        let nodes = counted.into_iter().map(|(node, name, weight, counted)| {
            let deviation = evenness.nodes.get(&node);
            NodeLoadView {
                node,
                name,
                weight,
                counted,
                deviation_milli: deviation.map(|deviation| deviation.milli),
                out_of_balance: deviation.is_some_and(|deviation| deviation.out_of_balance),
            }
        });
        let nodes: Vec<NodeLoadView> = nodes.collect();
        Self {
            window_s,
            operations: nodes.iter().map(|node| node.counted.operations()).sum(),
            judged: evenness.judged,
            imbalance_milli: evenness.imbalance_milli,
            nodes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(id: u128, counts: Option<[(u64, u64); 2]>) -> NodeReport<LoadDocument> {
        let node = NodeId(id);
        let report = counts.map(|counts| LoadDocument {
            node,
            windows: LOAD_WINDOWS_S
                .into_iter()
                .zip(counts)
                .map(|(window_s, (seconds, operations))| LoadWindow {
                    window_s,
                    seconds,
                    coordinated: operations / 4,
                    replica: operations - operations / 4,
                })
                .collect(),
        });
        let reachable = report.is_some();
        NodeReport { node, name: format!("host-{id}"), reachable, refused: None, report }
    }

    #[test]
    fn members_are_compared_by_their_rates() {
        let nodes = [
            report(2, Some([(60, 1300), (60, 1300)])),
            // Half the time and half the operations.
            report(1, Some([(30, 500), (30, 500)])),
            report(3, None),
            // It leaves: nothing is due to it.
            report(4, Some([(60, 1), (60, 1)])),
        ];
        let load = ClusterLoad::of(&nodes, |node| (node != NodeId(4)).then_some(100));
        assert_eq!(load.silent, 1);
        let minute = &load.windows[0];
        assert_eq!((minute.window_s, minute.operations, minute.judged), (60, 1800, true));
        let deviations: Vec<_> = minute.nodes.iter().map(|n| n.deviation_milli).collect();
        assert_eq!(deviations, [Some(-130), Some(130)]);
        assert_eq!((minute.imbalance_milli, minute.nodes[0].name.as_str()), (0, "host-1"));
        let json = serde_json::to_string(&load).unwrap();
        assert_eq!(serde_json::from_str::<ClusterLoad>(&json).unwrap(), load);
    }
}
