use dynamo_core::clock::hlc::Hlc;
use dynamo_core::id::{ClusterId, StoreId};
use dynamo_core::membership::history::{Change, EventId, Joiner};
use dynamo_core::membership::member::Addresses;
use dynamo_core::membership::registers::WriteStamp;
use dynamo_core::membership::state::Stamp;
use dynamo_core::params::BucketProps;
use dynamo_core::ring::{Partitions, RingVersion};
use dynamo_core::time::WallMs;

use super::*;

fn mint() -> NodeId {
    NodeId(7)
}

fn never() -> NodeId {
    panic!("an existing node keeps its id")
}

fn delta() -> Delta {
    let joiner = Joiner {
        node: NodeId(7),
        name: "n".into(),
        zone: None,
        weight: 100,
        addresses: Addresses::default(),
        store: Some(StoreId(1)),
    };
    let init = Change::Init {
        cluster: ClusterId(3),
        partitions: Partitions::new(8).unwrap(),
        spacing: 3,
        defaults: BucketProps::default(),
    };
    let event = Event {
        id: EventId { lamport: 1, issuer: NodeId(7) },
        seq: 1,
        issued_at: WallMs(1),
        parent: RingVersion::default(),
        changes: vec![init, Change::Join { joiner }],
    };
    let stamp = WriteStamp { at: Hlc(5), by: NodeId(7) };
    let state = |node: u128| NodeState {
        node: NodeId(node),
        stamp: Stamp::default(),
        name: "x".into(),
        zone: None,
        weight: 1,
        addresses: Addresses::default(),
        store: None,
    };
    Delta {
        events: vec![event],
        staged: Some(StagedEntry { stamp, cluster: None, changes: Vec::new() }),
        buckets: [("b".to_owned(), BucketEntry { stamp, props: None })].into(),
        states: vec![state(8), state(9)],
    }
}

#[test]
fn what_was_persisted_is_read_back_and_each_start_is_a_new_life() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("data");
    {
        let (store, identity, everything) = Store::open(&path, mint).unwrap();
        assert_eq!((identity.node_id, identity.incarnation), (NodeId(7), Incarnation(1)));
        assert!(everything.is_empty());
        store.persist(&delta()).unwrap();
    }
    {
        let (store, identity, everything) = Store::open(&path, never).unwrap();
        assert_eq!(identity.incarnation, Incarnation(2));
        assert_eq!(everything, delta());
        store.forget(&|node| node == NodeId(9)).unwrap();
        store.outlive(Incarnation(40)).unwrap();
        store.outlive(Incarnation(4)).unwrap();
    }
    let (_, identity, everything) = Store::open(&path, never).unwrap();
    assert_eq!(identity.incarnation, Incarnation(41), "newer than every life that was seen");
    let nodes: Vec<NodeId> = everything.states.iter().map(|state| state.node).collect();
    assert_eq!(nodes, [NodeId(9)]);
}

#[test]
fn one_process_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let (_held, ..) = Store::open(dir.path(), mint).unwrap();
    let refused = Store::open(dir.path(), never).unwrap_err();
    assert!(refused.as_invalid().is_some(), "{refused}");
}

/// Row 122, and what else must not be touched.
#[test]
fn foreign_directories_are_refused_and_left_alone() {
    let check = |damage: &dyn Fn(&Path), expected: &str| {
        let dir = tempfile::tempdir().unwrap();
        drop(Store::open(dir.path(), mint).unwrap());
        damage(dir.path());
        let node_file = std::fs::read(dir.path().join(NODE_FILE)).unwrap();
        let database = std::fs::read(dir.path().join(DATABASE_FILE)).ok();
        let refused = Store::open(dir.path(), never).unwrap_err();
        assert!(refused.to_string().contains(expected), "{refused}");
        assert!(refused.as_invalid().is_some(), "{refused}");
        assert_eq!(std::fs::read(dir.path().join(NODE_FILE)).unwrap(), node_file);
        if expected.contains("format") {
            assert_eq!(std::fs::read(dir.path().join(DATABASE_FILE)).ok(), database);
        }
    };
    let write =
        |text: &'static str| move |dir: &Path| std::fs::write(dir.join(NODE_FILE), text).unwrap();
    check(&write(r#"{"format":2,"other":true}"#), "format 2");
    check(&write("not json"), "not that of a membership agent");
    let id = "00000000000000000000000000000009";
    let other = format!(r#"{{"format":1,"node_id":"{id}","incarnation":1}}"#);
    check(&|dir| std::fs::write(dir.join(NODE_FILE), &other).unwrap(), "names");
    let lost = |dir: &Path| std::fs::remove_file(dir.join(DATABASE_FILE)).unwrap();
    check(&lost, "membership.redb is not");
}

#[test]
fn damage_is_found() {
    let sealed = seal(&delta());
    assert!(unseal::<Delta>(&sealed, "x").is_ok());
    for position in 0..sealed.len() {
        let mut damaged = sealed.clone();
        damaged[position] ^= 1;
        assert!(matches!(unseal::<Delta>(&damaged, "x"), Err(StoreError::Damaged("x"))));
    }
    assert!(unseal::<Delta>(b"abc", "x").is_err());
}
