//! How the storage nodes see each other: what each measured of its peers lately, and what all of
//! them together say of a node.
//!
//! A node that is slow finds everybody slow: it measures its own pauses, too. So a node is judged
//! by the peer that sees it best, and against the other nodes. What only some peers find slow is a
//! link, and shows in the number of them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::failure_view::{FailureView, PeerState};
use crate::id::NodeId;
use crate::limits::{PATIENCE_MS_MAX, PEER_SIGHT_MESSAGES_MIN, PEER_SLOW_FACTOR};
use crate::wire::operations::NodeReport;

/// `GET` at a storage node, answered by a [`PeersDocument`].
pub const PEERS_PATH: &str = "/v1/peers";

/// What a node thinks of a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PeerMark {
    /// It answers as the others do.
    Up,
    /// It answers much later than the others: stand-ins are asked along with it.
    Slow,
    /// It did not answer, and does so again to probes.
    Suspect,
    /// It does not answer.
    Down,
}

impl PeerMark {
    /// What `view` says of `node`.
    #[must_use]
    pub fn of(view: &FailureView, node: NodeId) -> Self {
        match view.state(node) {
            PeerState::Up if view.routable(node) => Self::Up,
            PeerState::Up => Self::Slow,
            PeerState::Suspect => Self::Suspect,
            PeerState::Down => Self::Down,
        }
    }
}

/// What a node measured of a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerSight {
    /// The peer.
    pub node: NodeId,
    /// What it thinks of it now.
    pub state: PeerMark,
    /// Messages with operations on its replicas that it answered, or did not answer in time.
    pub messages: u64,
    /// Half of them took at most this long, in microseconds; absent without any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p50_us: Option<u64>,
    /// 99 of 100 took at most this long.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p99_us: Option<u64>,
}

/// How one node sees its peers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeersDocument {
    /// The node.
    pub node: NodeId,
    /// Seconds that the figures are about at most.
    pub window_s: u64,
    /// The state of its own store: `healthy`, or why it takes no values.
    pub store: String,
    /// The peers that it knows something of, by node.
    pub peers: Vec<PeerSight>,
}

/// How one node looks to its peers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeSight {
    /// The node.
    pub node: NodeId,
    /// Its name.
    pub name: String,
    /// Peers that know something of it.
    pub observers: usize,
    /// Of those: find it slow right now.
    pub slow_for: usize,
    /// Of those: do not reach it right now.
    pub away_for: usize,
    /// Messages of all of them.
    pub messages: u64,
    /// The median as the peer measured it that sees it best; absent where nobody sent it enough.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p50_us: Option<u64>,
    /// 99 of 100 messages of the peer that sees it best took at most this long, in microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p99_us: Option<u64>,
    /// Whether that stands out against the other nodes.
    pub slow: bool,
    /// The state of its store in its own words: `healthy`, or why it takes no values. Absent where
    /// it does not answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store: Option<String>,
}

/// How the nodes see each other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterPeers {
    /// Seconds that the figures are about at most.
    pub window_s: u64,
    /// Nodes that gave no report.
    pub silent: usize,
    /// The nodes, by id.
    pub nodes: Vec<NodeSight>,
}

impl ClusterPeers {
    /// Turns what each node says of the others into what the others say of each.
    #[must_use]
    pub fn of(reports: &[NodeReport<PeersDocument>]) -> Self {
        let mut sights: BTreeMap<NodeId, Vec<&PeerSight>> = BTreeMap::new();
        for document in NodeReport::reports(reports) {
            for sight in document.peers.iter().filter(|sight| sight.node != document.node) {
                sights.entry(sight.node).or_default().push(sight);
            }
        }
        let of_node = |node| sights.get(&node).map_or(&[][..], Vec::as_slice);
        let mut nodes: Vec<NodeSight> =
            reports.iter().map(|report| NodeSight::of(report, of_node(report.node))).collect();
        nodes.sort_by_key(|node| node.node);
        let known: Vec<Option<u64>> = nodes.iter().map(|node| node.p99_us).collect();
        for (index, node) in nodes.iter_mut().enumerate() {
            node.slow = stands_out(&known, index);
        }
        let window_s =
            NodeReport::reports(reports).map(|document| document.window_s).max().unwrap_or(0);
        Self { window_s, silent: NodeReport::silent(reports), nodes }
    }
}

impl NodeSight {
    fn of(report: &NodeReport<PeersDocument>, sights: &[&PeerSight]) -> Self {
        let marked =
            |marks: &[PeerMark]| sights.iter().filter(|sight| marks.contains(&sight.state)).count();
        let enough = || sights.iter().filter(|sight| sight.messages >= PEER_SIGHT_MESSAGES_MIN);
        Self {
            node: report.node,
            name: report.name.clone(),
            observers: sights.len(),
            slow_for: marked(&[PeerMark::Slow]),
            away_for: marked(&[PeerMark::Suspect, PeerMark::Down]),
            messages: sights.iter().map(|sight| sight.messages).sum(),
            p50_us: enough().filter_map(|sight| sight.p50_us).min(),
            p99_us: enough().filter_map(|sight| sight.p99_us).min(),
            slow: false,
            store: report.report.as_ref().map(|document| document.store.clone()),
        }
    }
}

/// Whether one of the figures is beyond what any node is given, and far beyond the median of the
/// others: as in [`FailureView`], where everybody is slow nobody stands out.
fn stands_out(known: &[Option<u64>], index: usize) -> bool {
    let Some(figure) = known.get(index).copied().flatten() else { return false };
    let others = known.iter().enumerate().filter(|(other, _)| *other != index);
    let mut others: Vec<u64> = others.filter_map(|(_, figure)| *figure).collect();
    others.sort_unstable();
    let median = others.get(others.len().saturating_sub(1) / 2);
    let beyond = |median: &u64| figure > median.saturating_mul(u64::from(PEER_SLOW_FACTOR));
    figure > PATIENCE_MS_MAX * 1000 && median.is_some_and(beyond)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a node says of another: messages and p99 in milliseconds.
    type Said = (u128, PeerMark, u64, u64);

    fn report(node: u128, said: Option<&[Said]>) -> NodeReport<PeersDocument> {
        let sight = |(node, state, messages, p99_ms): &Said| PeerSight {
            node: NodeId(*node),
            state: *state,
            messages: *messages,
            p50_us: Some(900),
            p99_us: Some(p99_ms * 1000),
        };
        let report = said.map(|said| PeersDocument {
            node: NodeId(node),
            window_s: 30,
            store: "healthy".to_owned(),
            peers: said.iter().map(sight).collect(),
        });
        let reachable = report.is_some();
        NodeReport {
            node: NodeId(node),
            name: format!("host-{node}"),
            reachable,
            refused: None,
            report,
        }
    }

    struct Case {
        why: &'static str,
        /// What nodes 1, 2 and 3 say; `None` where they do not answer.
        said: [Option<&'static [Said]>; 3],
        /// Of each node: p99 in milliseconds, how many find it slow, and do not reach it.
        nodes: [(Option<u64>, usize, usize); 3],
        slow: &'static [u128],
    }

    fn check(case: &Case) {
        let reports: Vec<_> =
            (1..=3).zip(case.said).map(|(node, said)| report(node, said)).collect();
        let peers = ClusterPeers::of(&reports);
        let nodes = peers.nodes.iter();
        let figures: Vec<_> =
            nodes.map(|n| (n.p99_us.map(|us| us / 1000), n.slow_for, n.away_for)).collect();
        assert_eq!(figures, case.nodes, "{}", case.why);
        let slow = peers.nodes.iter().filter(|node| node.slow).map(|node| node.node.0);
        assert_eq!(slow.collect::<Vec<_>>(), case.slow, "{}", case.why);
        assert_eq!(peers.silent, case.said.iter().filter(|said| said.is_none()).count());
        let json = serde_json::to_string(&peers).unwrap();
        assert_eq!(serde_json::from_str::<ClusterPeers>(&json).unwrap(), peers, "{}", case.why);
    }

    #[test]
    fn a_node_is_judged_by_the_peer_that_sees_it_best() {
        use PeerMark::{Down, Slow, Suspect, Up};
        check(&Case {
            why: "node 2 pauses, and finds the others slow for it",
            said: [
                Some(&[(2, Slow, 200, 700), (3, Up, 200, 9)]),
                Some(&[(1, Up, 200, 650), (3, Up, 200, 650)]),
                Some(&[(1, Up, 200, 8), (2, Up, 200, 800)]),
            ],
            nodes: [(Some(8), 0, 0), (Some(700), 1, 0), (Some(9), 0, 0)],
            slow: &[2],
        });
        check(&Case {
            why: "where everybody is slow nobody stands out",
            said: [
                Some(&[(2, Up, 200, 500), (3, Up, 200, 400)]),
                Some(&[(1, Up, 200, 450), (3, Up, 200, 600)]),
                Some(&[(1, Up, 200, 300), (2, Up, 200, 900)]),
            ],
            nodes: [(Some(300), 0, 0), (Some(500), 0, 0), (Some(400), 0, 0)],
            slow: &[],
        });
        check(&Case {
            why: "a link, not a node: one of two sees it well",
            said: [
                Some(&[(2, Slow, 200, 900), (3, Up, 200, 9)]),
                Some(&[(1, Slow, 200, 900), (3, Up, 200, 9)]),
                Some(&[(1, Up, 200, 9), (2, Up, 200, 9)]),
            ],
            nodes: [(Some(9), 1, 0), (Some(9), 1, 0), (Some(9), 0, 0)],
            slow: &[],
        });
        check(&Case {
            why: "too few messages, and a node that is away",
            said: [
                Some(&[(2, Up, PEER_SIGHT_MESSAGES_MIN - 1, 900), (3, Down, 200, 2000)]),
                Some(&[(1, Up, PEER_SIGHT_MESSAGES_MIN, 8), (3, Suspect, 3, 2000)]),
                None,
            ],
            nodes: [(Some(8), 0, 0), (None, 0, 0), (Some(2000), 0, 2)],
            slow: &[3],
        });
    }
}
