//! Everything that is stored, page by page: what a backup reads, a restore merges, a verification
//! compares.

use bytes::Bytes;
use dynamo_core::clock::dot::Dot;
use dynamo_core::clock::dvv::Dvv;
use dynamo_core::clock::hlc::Hlc;
use dynamo_core::clock::record::{Content, Record, Sibling, Value};
use dynamo_core::id::{ActorId, NodeId, PartitionId, PutId, StoreId};
use dynamo_core::key::ObjectKey;
use dynamo_core::merkle::{Prefix, scan_order};
use dynamo_core::ring::{Partitions, RingVersion};
use dynamo_core::time::WallMs;
use dynamo_core::wire::partition::{Page, decode_page, encode_page};
use dynamo_core::wire::tree::{KeysAnswer, ObjectDto};
use service_kit::http::error::{ErrorCode, Outcome};

use crate::support::{Cluster, Mode, Reply, dead_address, request, snapshot};

const FRAME: [(&str, &str); 1] = [("content-type", "application/vnd.atoll.frame")];

fn post(cluster: &Cluster, path: &str, body: &str) -> Reply {
    let json = [("content-type", "application/json")];
    request(cluster.router, "POST", path, &json, body.as_bytes())
}

fn record(node: u128, counter: u64) -> Record {
    let actor = ActorId { node: NodeId(node), epoch: 1 };
    let mut clock = Dvv::new();
    clock.insert_up_to(actor, counter, WallMs(1));
    let value = Value {
        bytes: Bytes::from(format!("{node}-{counter}")),
        content_type: None,
        meta: Vec::new(),
        expires_at: None,
    };
    Record::new(
        clock,
        [Sibling {
            dot: Dot { actor, counter },
            put_id: PutId(u128::from(counter)),
            stamp: Hlc::default(),
            content: Content::Value(value),
        }],
    )
}

/// Objects of one partition, in scan order.
fn objects(partition: u32, count: usize) -> Vec<ObjectKey> {
    let partitions = Partitions::new(8).unwrap();
    let mut found: Vec<ObjectKey> = (0..)
        .map(|index| ObjectKey::parse("b", &format!("k{index}")).unwrap())
        .filter(|object| partitions.of(object.position()) == PartitionId(partition))
        .take(count)
        .collect();
    found.sort_by(scan_order);
    found
}

/// Reads all pages of a partition.
fn read_all(cluster: &Cluster, partition: u32) -> (Vec<(ObjectKey, Record)>, usize) {
    let (mut all, mut pages, mut body) = (Vec::new(), 0, "{}".to_owned());
    loop {
        let reply = post(cluster, &format!("/v1/admin/partitions/{partition}/records"), &body);
        assert_eq!(reply.status, 200, "{}", reply.text());
        let page = decode_page(Bytes::from(reply.body)).unwrap();
        all.extend(page.records);
        pages += 1;
        match page.next {
            Some(next) => {
                body = serde_json::json!({ "after": ObjectDto::from(&next) }).to_string();
            }
            None => return (all, pages),
        }
    }
}

#[test]
fn a_partition_is_read_as_its_holders_have_it_together() {
    let cluster = Cluster::start(3);
    let objects = objects(5, 10);
    for (index, object) in objects.iter().enumerate() {
        // No node has all of them, and of the last one two have different versions.
        cluster.nodes[index % 3].keep(object, &record(1, 1));
    }
    let last = objects.last().unwrap();
    cluster.nodes[0].keep(last, &record(1, 1));
    cluster.nodes[1].keep(last, &record(2, 7));
    let (read, pages) = read_all(&cluster, 5);
    assert!(pages > 1, "the nodes' pages are small");
    let names: Vec<&ObjectKey> = read.iter().map(|(object, _)| object).collect();
    assert_eq!(names, objects.iter().collect::<Vec<_>>());
    assert_eq!(read.last().unwrap().1, record(1, 1).sync(&record(2, 7)));
    assert_eq!(read_all(&cluster, 4).0, []);

    let path = "/v1/admin/partitions/5/records";
    let whole = post(&cluster, path, "{}");
    assert_eq!(whole.header("x-atoll-acks"), Some("3/3"));
    for (path, body, status) in [
        ("/v1/admin/partitions/8/records", "{}", 422),
        ("/v1/admin/partitions/x/records", "{}", 422),
        ("/v1/admin/partitions/05/records", "{}", 422),
        (path, r#"{"nodes":1}"#, 422),
        (path, "", 400),
    ] {
        assert_eq!(post(&cluster, path, body).status, status, "{path} {body}");
    }
}

#[test]
fn a_majority_of_the_holders_is_needed_unless_less_will_do() {
    let cluster = Cluster::start(3);
    let object = objects(5, 1).remove(0);
    cluster.nodes[0].keep(&object, &record(1, 1));
    let path = "/v1/admin/partitions/5/records";
    cluster.nodes[1].set(Mode::Refuse(ErrorCode::Internal, Outcome::NotApplied));
    assert_eq!(post(&cluster, path, "{}").header("x-atoll-acks"), Some("2/3"));
    cluster.nodes[2].set(Mode::Garbage);
    let short = post(&cluster, path, "{}");
    assert_eq!((short.status, short.json()["code"].as_str()), (503, Some("quorum_unavailable")));
    assert_eq!((&short.json()["required"], &short.json()["got"]), (&2.into(), &1.into()));
    let partial = post(&cluster, path, r#"{"partial":true}"#);
    assert_eq!(partial.status, 200);
    assert_eq!(decode_page(Bytes::from(partial.body)).unwrap().records.len(), 1);
    // A node without time for background work says so, and when to come back.
    cluster.nodes[2].set(Mode::Refuse(ErrorCode::Overloaded, Outcome::NotApplied));
    cluster.nodes[1].set(Mode::Refuse(ErrorCode::Overloaded, Outcome::NotApplied));
    assert_eq!(post(&cluster, path, "{}").json()["code"], "overloaded");
}

#[test]
fn records_are_merged_at_every_replica() {
    let cluster = Cluster::start(3);
    let objects: Vec<ObjectKey> = (0..8).flat_map(|partition| objects(partition, 20)).collect();
    cluster.nodes[1].keep(&objects[0], &record(9, 9));
    let page = |records: Vec<(ObjectKey, Record)>| {
        let (ring, store) = (RingVersion::default(), StoreId(1));
        encode_page(&Page { ring, store, records, unreadable: 0, next: None }).unwrap()
    };
    let body = page(objects.iter().map(|object| (object.clone(), record(1, 1))).collect());
    let merge = |body: &[u8]| request(cluster.router, "POST", "/v1/admin/merge", &FRAME, body);
    let merged = merge(&body);
    assert_eq!(merged.status, 200, "{}", merged.text());
    let told = merged.json();
    assert_eq!((&told["records"], &told["everywhere"]), (&160.into(), &160.into()));
    assert_eq!((&told["quorum"], &told["short"]), (&0.into(), &0.into()));
    for node in &cluster.nodes {
        assert!(objects[1..].iter().all(|object| node.kept(object) == Some(record(1, 1))));
    }
    let joined = record(9, 9).sync(&record(1, 1));
    assert_eq!(cluster.nodes[1].kept(&objects[0]), Some(joined));

    // One node is gone: a majority has them. Two: too few.
    let mut members: Vec<_> = cluster.nodes.iter().map(|n| (n.id, n.address)).collect();
    for (dead, expected) in [(2, "quorum"), (1, "short")] {
        members[dead].1 = dead_address();
        cluster.agent.publish(&snapshot(10 - dead as u64, &members));
        let mut told = merge(&body).json();
        while told[expected] != 160 {
            told = merge(&body).json();
        }
        assert_eq!(
            (&told["nodes"][2]["failed"], &told["nodes"][2]["error"]),
            (&160.into(), &"not_ready".into())
        );
    }
    for body in [&b"nonsense"[..], &body[..body.len() - 1], b""] {
        assert_eq!(merge(body).status, 400);
    }
}

#[test]
fn buckets_with_fewer_copies_go_to_fewer_nodes() {
    let cluster = Cluster::start(3);
    let object = ObjectKey::parse("pairs", "k").unwrap();
    let (ring, store) = (RingVersion::default(), StoreId(1));
    let records = vec![(object.clone(), record(1, 1))];
    let body = encode_page(&Page { ring, store, records, unreadable: 0, next: None }).unwrap();
    let merged = request(cluster.router, "POST", "/v1/admin/merge", &FRAME, &body).json();
    assert_eq!(merged["everywhere"], 1);
    assert_eq!(cluster.nodes.iter().filter(|node| node.kept(&object).is_some()).count(), 2);
}

#[test]
fn keys_and_digests_are_those_of_one_node() {
    let cluster = Cluster::start(3);
    let objects = objects(3, 5);
    for object in &objects {
        cluster.nodes[0].keep(object, &record(1, 1));
    }
    cluster.nodes[1].keep(&objects[0], &record(1, 1));
    let leaves = Prefix::of_partition(Partitions::new(8).unwrap(), PartitionId(3)).leaves();
    let path = "/v1/admin/partitions/3/keys";
    let mut found = Vec::new();
    for first in (u32::from(*leaves.start())..=u32::from(*leaves.end())).step_by(256) {
        let mut after = serde_json::Value::Null;
        loop {
            let mut ask = serde_json::json!(
                { "node": "host-1", "n": 3, "first": first, "last": first + 255 });
            if !after.is_null() {
                ask["after"] = after;
            }
            let reply = post(&cluster, path, &ask.to_string());
            assert_eq!(reply.status, 200, "{}", reply.text());
            let answer: KeysAnswer = serde_json::from_slice(&reply.body).unwrap();
            let (keys, next) = answer.parse().unwrap();
            found.extend(keys.into_iter().map(|entry| entry.object));
            match next {
                Some(next) => after = serde_json::to_value(ObjectDto::from(&next)).unwrap(),
                None => break,
            }
        }
    }
    assert_eq!(found, objects);
    let start = *leaves.start();
    for body in [
        format!(r#"{{"node":"host-1","n":3,"first":0,"last":{start}}}"#),
        format!(r#"{{"node":"host-1","n":3,"first":{start},"last":{}}}"#, start + 256),
        format!(r#"{{"node":"host-1","n":3,"first":{},"last":{start}}}"#, start + 1),
        format!(r#"{{"node":"host-1","n":0,"first":{start},"last":{start}}}"#),
    ] {
        assert_eq!(post(&cluster, path, &body).status, 422, "{body}");
    }

    let digest = |node: &str| {
        let body = format!(r#"{{"node":"{node}","n":3}}"#);
        post(&cluster, "/v1/admin/partitions/3/digest", &body)
    };
    let of = |node: &str| digest(node).json()["digest"].as_str().unwrap().to_owned();
    assert_ne!(of("host-1"), of("host-2"));
    for object in &objects {
        cluster.nodes[1].keep(object, &record(1, 1));
    }
    assert_eq!(of("host-1"), of("host-2"));
    assert_eq!(digest("nobody").status, 404);
    cluster.nodes[1].set(Mode::Refuse(ErrorCode::Overloaded, Outcome::NotApplied));
    assert_eq!(digest("host-2").json()["code"], "overloaded");
}
