//! What the workers of all hosts do, told as one: transfers, anti-entropy, repairs, accepted losses;
//! and whether a host may stop.

use dynamo_core::id::PartitionId;
use dynamo_core::wire::worker::{RepairState, TransferState};

use crate::support::{Cluster, Mode, Reply, dead_address, request, snapshot};

const JSON: [(&str, &str); 1] = [("content-type", "application/json")];

fn post(cluster: &Cluster, path: &str, body: &str) -> Reply {
    request(cluster.router, "POST", path, &JSON, body.as_bytes())
}

#[test]
fn transfers_are_those_of_all_workers() {
    use TransferState::{Copying, Dropping, Held};
    let cluster = Cluster::start(3);
    let moving = |partition, state| (PartitionId(partition), state);
    cluster.nodes[0].worker(|w| w.moving = vec![moving(3, Copying), moving(4, Held)]);
    cluster.nodes[1].worker(|w| w.moving = vec![moving(3, Dropping)]);
    let sum = cluster.get("/v1/transfers").json();
    assert_eq!(
        (&sum["incoming"], &sum["outgoing"], &sum["silent"]),
        (&1.into(), &1.into(), &0.into())
    );
    assert_eq!((&sum["totals"]["copying"], &sum["eta_ms"]), (&1.into(), &400.into()));
    assert_eq!((&sum["records"], &sum["records_total"]), (&10.into(), &40.into()));
    assert_eq!(sum["nodes"][0]["report"]["partitions"][0]["partition"], 3);

    cluster.nodes[0].set(Mode::Frozen);
    let sum = cluster.get("/v1/transfers").json();
    assert_eq!((&sum["incoming"], &sum["silent"]), (&0.into(), &1.into()));
    assert_eq!(sum["nodes"][0]["reachable"], false);
    assert_eq!(cluster.get("/v1/transfers?x=1").status, 400);
}

#[test]
fn a_loss_is_accepted_where_it_is_known_and_nowhere_else() {
    let cluster = Cluster::start(3);
    let lost = (PartitionId(5), TransferState::NoHolder);
    cluster.nodes[0].worker(|w| w.moving = vec![lost]);
    cluster.nodes[2].worker(|w| w.moving = vec![lost, (PartitionId(6), TransferState::Waiting)]);
    let path = "/v1/transfers/accept-loss";
    for (body, status) in [
        (r#"{"partitions":[]}"#, 422),
        (r#"{"partitions":[5,6]}"#, 409),
        (r#"{"partitions":[7]}"#, 409),
        (r#"{"partition":5}"#, 422),
        ("", 400),
    ] {
        assert_eq!(post(&cluster, path, body).status, status, "{body}");
    }
    let accepted = post(&cluster, path, r#"{"partitions":[5]}"#);
    assert_eq!((accepted.status, &accepted.json()["partitions"]), (200, &vec![5].into()));
    let told: Vec<String> = accepted.json()["nodes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|node| node["name"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(told, ["host-1", "host-3"]);
    assert_eq!(post(&cluster, path, r#"{"partitions":[5]}"#).status, 409, "nothing is lost now");
}

#[test]
fn anti_entropy_is_as_old_as_its_oldest_part() {
    let cluster = Cluster::start(2);
    cluster.nodes[0].worker(|w| w.lag_ms = Some(50));
    assert_eq!(cluster.get("/v1/anti-entropy").json()["lag_ms"], serde_json::Value::Null);
    cluster.nodes[1].worker(|w| w.lag_ms = Some(900));
    let sum = cluster.get("/v1/anti-entropy").json();
    assert_eq!((&sum["lag_ms"], &sum["keys_behind"]), (&900.into(), &2.into()));
    assert_eq!(
        (&sum["keys_repaired"], &sum["running"], &sum["bytes"]),
        (&4.into(), &2.into(), &154.into())
    );
    assert_eq!(sum["nodes"][0]["report"]["peers"].as_array().unwrap().len(), 1);
    let short = cluster.get("/v1/anti-entropy?summary=true").json();
    assert_eq!((&short["lag_ms"], &short["keys_repaired"]), (&900.into(), &4.into()));
    assert_eq!(short["nodes"][0]["report"]["peers"], serde_json::json!([]));
    assert_eq!(cluster.get("/v1/anti-entropy?summary=2").status, 400);
}

#[test]
fn a_repair_runs_everywhere_under_one_name() {
    let cluster = Cluster::start(3);
    let path = "/v1/anti-entropy/repair";
    for body in [
        r#"{"partition":8}"#,
        r#"{"bucket":"No"}"#,
        r#"{"bucket":"b","partition":1}"#,
        r#"{"all":1}"#,
    ] {
        assert_eq!(post(&cluster, path, body).status, 422, "{body}");
    }
    let taken = post(&cluster, path, r#"{"bucket":"carts"}"#);
    assert_eq!((taken.status, &taken.json()["state"]), (202, &"queued".into()));
    let location = taken.header("location").unwrap().to_owned();
    assert_eq!(taken.json()["nodes"][2]["report"]["bucket"], "carts");
    cluster.nodes[0].end_repairs(RepairState::Done);
    let look = || cluster.get(&location).json();
    assert_eq!((&look()["state"], &look()["ended"]), (&"running".into(), &1.into()));
    for node in &cluster.nodes {
        node.end_repairs(RepairState::Done);
    }
    assert_eq!((&look()["state"], &look()["keys_repaired"]), (&"done".into(), &9.into()));
    cluster.nodes[1].set(Mode::Frozen);
    assert_eq!((&look()["state"], &look()["silent"]), (&"failed".into(), &1.into()));
    cluster.nodes[1].set(Mode::Work);
    for unknown in ["nonsense", "7a5c2cf8-86f4-4b26-a3c8-dd4a6a0a0a0a"] {
        assert_eq!(cluster.get(&format!("{path}/{unknown}")).status, 404, "{unknown}");
    }
}

#[test]
fn why_a_node_should_not_stop_is_said() {
    let cluster = Cluster::start(3);
    let stop = |node: &str| cluster.get(&format!("/v1/cluster/safe-to-stop?node={node}")).json();
    let safe = stop("host-1");
    assert_eq!((&safe["safe"], &safe["reasons"]), (&true.into(), &Vec::<u8>::new().into()));
    // The bucket "pairs" has two copies: no stop leaves a majority of them.
    assert!(safe["warnings"][0].as_str().unwrap().contains("n=2"), "{safe}");
    assert_eq!(safe["hints_kept"], 3);

    let mut members: Vec<_> = cluster.nodes.iter().map(|n| (n.id, n.address)).collect();
    members[2].1 = dead_address();
    cluster.agent.publish(&snapshot(2, &members));
    while cluster.get("/v1/cluster/health").json()["nodes_reachable"] != 2 {
        std::thread::yield_now();
    }
    let risky = stop("host-1");
    assert_eq!((&risky["safe"], &risky["partitions_at_risk"]), (&false.into(), &8.into()));
    let reason = &risky["reasons"][0];
    assert_eq!((&reason["reason"], &reason["already"]), (&"reads".into(), &0.into()));
    assert_eq!(risky["unreachable"].as_array().unwrap().len(), 1);
    assert_eq!(cluster.get("/v1/cluster/safe-to-stop?node=nobody").status, 404);
    assert_eq!(cluster.get("/v1/cluster/safe-to-stop").status, 400);
}

#[test]
fn pending_moves_are_counted_by_who_holds() {
    let cluster = Cluster::start(3);
    let members: Vec<_> = cluster.nodes.iter().map(|n| (n.id, n.address)).collect();
    let mut newer = snapshot(2, &members);
    newer.nodes[1].holds = None;
    cluster.agent.publish(&newer);
    let mut health = cluster.get("/v1/cluster/health").json();
    while health["pending_moves"] == 0 {
        health = cluster.get("/v1/cluster/health").json();
    }
    assert_eq!((&health["pending_moves"], &health["status"]), (&8.into(), &"degraded".into()));
}
