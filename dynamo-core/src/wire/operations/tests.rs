//! The sums over nodes.

use super::*;
use crate::time::WallMs;
use crate::wire::worker::{PeerExchange, RepairRequest, TransferView};

fn node<T>(id: u128, report: Option<T>) -> NodeReport<T> {
    let reachable = report.is_some();
    NodeReport { node: NodeId(id), name: format!("host-{id}"), reachable, refused: None, report }
}

fn transfers(views: &[(TransferState, u64, Option<u64>, Option<u64>)]) -> TransfersDocument {
    let mut totals = BTreeMap::from([(TransferState::Held, 5)]);
    for (state, ..) in views {
        *totals.entry(*state).or_default() += 1;
    }
    let partitions =
        (0..).zip(views).map(|(index, (state, records, records_total, eta_ms))| TransferView {
            partition: PartitionId(index),
            state: *state,
            peer: None,
            records: *records,
            bytes: 0,
            records_total: *records_total,
            eta_ms: *eta_ms,
            restarts: 0,
            error: None,
        });
    TransfersDocument {
        node: NodeId(1),
        ring: None,
        paused: false,
        totals,
        records: 0,
        bytes: 10,
        partitions: partitions.collect(),
    }
}

#[test]
fn transfers_are_summed() {
    use TransferState::{Copying, Dropping, NoHolder, Waiting};
    let busy = transfers(&[
        (Copying, 10, Some(100), Some(700)),
        (Waiting, 0, Some(50), None),
        (Dropping, 9, None, None),
    ]);
    let slow = transfers(&[(Copying, 5, Some(7), Some(9_000))]);
    let sum = ClusterTransfers::of(vec![node(1, Some(busy)), node(2, Some(slow))]);
    assert_eq!((sum.incoming, sum.outgoing, sum.silent), (3, 1, 0));
    assert_eq!((sum.records, sum.records_total, sum.bytes), (15, Some(157), 20));
    assert_eq!(sum.eta_ms, Some(9_000));
    assert_eq!(sum.totals.get(&TransferState::Held), Some(&10));
    assert!(!sum.is_settled());

    let unknown = transfers(&[(NoHolder, 0, None, None)]);
    let sum = ClusterTransfers::of(vec![node(1, Some(unknown)), node(2, None)]);
    assert_eq!((sum.records_total, sum.silent, sum.is_settled()), (None, 1, false));
    assert!(ClusterTransfers::of(vec![node(1, Some(transfers(&[])))]).is_settled());
    assert!(!ClusterTransfers::of(vec![node(1, None)]).is_settled());
}

#[test]
fn the_lag_is_that_of_the_last_and_unknown_without_all() {
    let at = |lag_ms, error: Option<&str>| AntiEntropyDocument {
        node: NodeId(1),
        ring: None,
        paused: false,
        peers: vec![PeerExchange {
            node: NodeId(9),
            name: None,
            partitions: 1,
            agreed_at: None,
            ended_at: None,
            running: true,
            error: error.map(str::to_owned),
            keys_compared: 3,
            keys_repaired: 2,
            bytes: 1,
        }],
        partitions: Vec::new(),
        lag_ms,
        keys_behind: 4,
    };
    let rows = [
        (vec![node(1, Some(at(Some(5), None))), node(2, Some(at(Some(9), None)))], Some(9)),
        (vec![node(1, Some(at(Some(5), None))), node(2, Some(at(None, None)))], None),
        (vec![node(1, Some(at(Some(5), None))), node(2, None)], None),
        (vec![], None),
    ];
    for (nodes, lag) in rows {
        assert_eq!(ClusterAntiEntropy::of(nodes.clone()).lag_ms, lag, "{nodes:?}");
    }
    let two = vec![node(1, Some(at(None, Some("x")))), node(2, Some(at(None, None)))];
    let sum = ClusterAntiEntropy::of(two);
    assert_eq!((sum.keys_compared, sum.keys_repaired, sum.keys_behind), (6, 4, 8));
    assert_eq!((sum.running, sum.failing, sum.bytes), (2, 1, 2));
}

#[test]
fn a_repair_is_done_when_it_is_everywhere() {
    use RepairState::{Done, Failed, Queued, Running};
    let at = |state: Option<RepairState>| {
        state.map(|state| RepairDocument {
            id: "r".to_owned(),
            scope: RepairRequest::default(),
            state,
            asked_at: WallMs(1),
            ended_at: None,
            keys_compared: 1,
            keys_repaired: 1,
            error: None,
        })
    };
    let rows: [(&[Option<RepairState>], RepairState, usize); 7] = [
        (&[Some(Queued), Some(Queued)], Queued, 0),
        (&[Some(Queued), Some(Done)], Running, 1),
        (&[Some(Running), Some(Queued)], Running, 0),
        (&[Some(Done), Some(Done)], Done, 2),
        (&[Some(Done), Some(Failed)], Failed, 2),
        (&[Some(Done), None], Failed, 1),
        (&[], Done, 0),
    ];
    for (states, expected, ended) in rows {
        let nodes = (1..).zip(states).map(|(id, state)| node(id, at(*state))).collect();
        let sum = ClusterRepair::of("r".to_owned(), nodes);
        assert_eq!((sum.state, sum.ended), (expected, ended), "{states:?}");
    }
}

#[test]
fn documents_survive_json() {
    let sum = ClusterTransfers::of(vec![node(1, Some(transfers(&[]))), node(2, None)]);
    let json = serde_json::to_string(&sum).unwrap();
    assert_eq!(serde_json::from_str::<ClusterTransfers>(&json).unwrap(), sum);
    let request: RecordsRequest = serde_json::from_str("{}").unwrap();
    assert_eq!(request, RecordsRequest::default());
    assert!(serde_json::from_str::<RecordsRequest>("{\"for\":\"x\"}").is_err());
    let list = r#"{"node":"host-1","n":3,"first":0,"last":255}"#;
    let list: ListRequest = serde_json::from_str(list).unwrap();
    assert_eq!((list.first, list.last), (0, 255));
}
