//! How evenly the nodes share the load (paper section 6.2): a node is out of balance whose load
//! deviates from its fair share by [`LOAD_OUT_OF_BALANCE_MILLI`] or more; the imbalance ratio is
//! the part of the nodes that are. Shares are fair by weight: a node of twice the weight is to have
//! twice the load.
//!
//! Not here: what an operation is and over which time it is counted.

use std::collections::BTreeMap;

use crate::id::NodeId;
use crate::limits::{LOAD_JUDGED_MIN, LOAD_OUT_OF_BALANCE_MILLI};

/// What one node had to do within a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CountedLoad {
    /// Its weight.
    pub weight: u32,
    /// Its operations.
    pub operations: u64,
}

/// How the load of one node compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deviation {
    /// From its fair share, in thousandths of that.
    pub milli: i64,
    /// Whether that is too much; never where the window has too few operations to tell.
    pub out_of_balance: bool,
}

/// How even the load of one window is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Evenness {
    /// Operations of all nodes.
    pub operations: u64,
    /// Whether there were enough to judge.
    pub judged: bool,
    /// Nodes out of balance, in thousandths of all: the imbalance ratio.
    pub imbalance_milli: u32,
    /// Every node. Empty where there was no load at all.
    pub nodes: BTreeMap<NodeId, Deviation>,
}

impl Evenness {
    /// Of the nodes that said what they had to do. Nodes without weight have no fair share and are
    /// left out.
    #[must_use]
    pub fn of(loads: &BTreeMap<NodeId, CountedLoad>) -> Self {
        let loads: Vec<_> = loads.iter().filter(|(_, load)| load.weight > 0).collect();
        let operations: u64 = loads.iter().map(|(_, load)| load.operations).sum();
        let weights: u64 = loads.iter().map(|(_, load)| u64::from(load.weight)).sum();
        if operations == 0 {
            return Self::default();
        }
        // All shares are multiples of `operations / weights`, so nothing is rounded but the result.
        let due = |load: &CountedLoad| u128::from(operations) * u128::from(load.weight);
        let judged = loads
            .iter()
            .all(|(_, load)| due(load) >= u128::from(LOAD_JUDGED_MIN) * u128::from(weights));
        let nodes: BTreeMap<NodeId, Deviation> = loads
            .into_iter()
            .map(|(node, load)| {
                let had = u128::from(load.operations) * u128::from(weights);
                let milli = deviation_milli(had, due(load));
                let out_of_balance = judged && milli.abs() >= LOAD_OUT_OF_BALANCE_MILLI;
                (*node, Deviation { milli, out_of_balance })
            })
            .collect();
        let out = nodes.values().filter(|deviation| deviation.out_of_balance).count();
        let imbalance_milli = u32::try_from(out * 1000 / nodes.len().max(1)).unwrap_or(1000);
        Self { operations, judged, imbalance_milli, nodes }
    }
}

/// Rounded towards zero, so that nobody is out of balance by rounding.
fn deviation_milli(had: u128, due: u128) -> i64 {
    let off = had.abs_diff(due).saturating_mul(1000).checked_div(due).unwrap_or(0);
    let off = i64::try_from(off).unwrap_or(i64::MAX);
    if had < due { -off } else { off }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Weight and operations of every node; deviations in thousandths; who is out of balance.
    struct Case {
        name: &'static str,
        loads: &'static [(u32, u64)],
        judged: bool,
        milli: &'static [i64],
        out: &'static [usize],
        imbalance_milli: u32,
    }

    const fn case(name: &'static str, loads: &'static [(u32, u64)]) -> Case {
        Case { name, loads, judged: true, milli: &[], out: &[], imbalance_milli: 0 }
    }

    fn check(case: &Case) {
        let load = |(weight, operations)| CountedLoad { weight, operations };
        let loads = (1..).map(NodeId).zip(case.loads.iter().copied().map(load)).collect();
        let found = Evenness::of(&loads);
        let milli: Vec<i64> = found.nodes.values().map(|node| node.milli).collect();
        let all = found.nodes.values().enumerate();
        let out: Vec<usize> =
            all.filter(|(_, node)| node.out_of_balance).map(|(index, _)| index).collect();
        assert_eq!((milli.as_slice(), out.as_slice()), (case.milli, case.out), "{}", case.name);
        assert_eq!((found.judged, found.imbalance_milli), (case.judged, case.imbalance_milli));
    }

    #[test]
    fn who_is_out_of_balance() {
        let rows = [
            Case { milli: &[0, 0], ..case("even", &[(100, 500), (100, 500)]) },
            Case { milli: &[149, -149], ..case("just in", &[(1, 1149), (1, 851)]) },
            Case {
                milli: &[150, -150],
                out: &[0, 1],
                imbalance_milli: 1000,
                ..case("just out", &[(1, 1150), (1, 850)])
            },
            Case {
                milli: &[500, -250, -250],
                out: &[0, 1, 2],
                imbalance_milli: 1000,
                ..case("one hot node makes the others idle", &[(1, 3000), (1, 1500), (1, 1500)])
            },
            Case {
                milli: &[333, -111, -111, -111],
                out: &[0],
                imbalance_milli: 250,
                ..case("one of four", &[(1, 1200), (1, 800), (1, 800), (1, 800)])
            },
            Case { milli: &[0, 0], ..case("by weight", &[(100, 500), (200, 1000)]) },
            Case {
                milli: &[-1000, 1000],
                out: &[0, 1],
                imbalance_milli: 1000,
                ..case("one has nothing to do", &[(1, 0), (1, 1000)])
            },
            Case {
                judged: false,
                milli: &[-1000, 1000],
                ..case("too few to tell", &[(1, 0), (1, 799)])
            },
            Case { milli: &[0], ..case("alone", &[(7, 400)]) },
            Case { milli: &[0], ..case("a node without weight", &[(0, 3), (7, 400)]) },
            Case { judged: false, ..case("no load", &[(1, 0), (1, 0)]) },
            Case { judged: false, ..case("nobody", &[]) },
            Case {
                milli: &[0, 0],
                ..case("the largest numbers", &[(u32::MAX, u64::MAX / 2), (u32::MAX, u64::MAX / 2)])
            },
        ];
        rows.iter().for_each(check);
    }
}
