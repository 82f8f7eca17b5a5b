//! Messages about partitions and reaping: what they say, and what they refuse.

use dynamo_core::clock::digest::RecordDigest;
use dynamo_core::clock::record::Record;
use dynamo_core::id::{ActorId, NodeId, PartitionId, StoreId};
use dynamo_core::key::ObjectKey;
use dynamo_core::limits::{PARTITIONS_MAX, REAP_KEYS_MAX, REPLICAS_MAX};
use dynamo_core::replica::coordinate_put;
use dynamo_core::ring::RingVersion;
use dynamo_core::testing::values::{node, put};
use dynamo_core::time::WallMs;
use dynamo_core::wire::partition::{
    Page, PageRequest, PartitionInfo, PartitionMessageError, PartitionsDocument, PartitionsRequest,
    decode_page, encode_page, page_path,
};
use dynamo_core::wire::reap::{
    ReapAction, ReapAnswer, ReapCheckRequest, ReapItem, ReapMessageError, ReapRequest, ReapResult,
};
use dynamo_core::wire::tree::TreeState;
use dynamo_core::wire::worker::{AcceptLossRequest, RepairRequest, TransferState};

fn object(key: &str) -> ObjectKey {
    ObjectKey::parse("cart", key).unwrap()
}

fn record() -> Record {
    let mut actor = dynamo_core::actor::Actor::restarted(node(1), 0);
    let now = WallMs(1_700_000_000_000);
    coordinate_put(&Record::default(), &put(1, None), &mut actor, now).unwrap().record
}

#[test]
fn pages_round_trip() {
    for count in [0, 1, 3] {
        let page = Page {
            ring: RingVersion { number: 3, hash: 9 },
            store: StoreId(4),
            records: (0..count).map(|key| (object(&format!("k%00{key}")), record())).collect(),
            unreadable: 2,
            next: (count > 0).then(|| object("z")),
        };
        let message = encode_page(&page).unwrap();
        assert_eq!(decode_page(message.clone()).unwrap(), page);
        assert!(decode_page(message.slice(..message.len() - 1)).is_err(), "truncated");
    }
    assert_eq!(page_path(PartitionId(7)), "/v1/partitions/7/page");
    let request = PageRequest::new(Some(NodeId(1)), Some(&object("a")));
    let json = serde_json::to_string(&request).unwrap();
    assert!(json.starts_with(r#"{"for":"#), "{json}");
    let back: PageRequest = serde_json::from_str(&json).unwrap();
    assert_eq!(back.after().unwrap(), Some(object("a")));
}

#[test]
fn documents_are_checked() {
    let info = |partition: u32, held_from| PartitionInfo {
        partition: PartitionId(partition),
        wanted: true,
        held_from,
        leftover: false,
        records: None,
    };
    let check = |partitions| {
        let ring = RingVersion::default();
        let (store, tree) = (StoreId(1), TreeState::Built);
        PartitionsDocument { ring, store, epoch: 1, tree, partitions }.check()
    };
    assert_eq!(check(vec![info(0, Some(1)), info(1, None)]), Ok(()));
    let cases = [
        (vec![info(1, None), info(1, None)], PartitionMessageError::Order),
        (vec![info(2, None), info(1, None)], PartitionMessageError::Order),
        (vec![info(PARTITIONS_MAX, None)], PartitionMessageError::Partition(PARTITIONS_MAX)),
        (vec![info(0, Some(0))], PartitionMessageError::Depth(0)),
        (vec![info(0, Some(REPLICAS_MAX + 1))], PartitionMessageError::Depth(REPLICAS_MAX + 1)),
    ];
    for (partitions, error) in cases {
        assert_eq!(check(partitions), Err(error));
    }
    let ring = RingVersion::default();
    let request = PartitionsRequest { ring, partitions: vec![PartitionId(3), PartitionId(2)] };
    assert_eq!(request.check(), Err(PartitionMessageError::Order));
}

#[test]
fn reap_orders_round_trip_and_are_bounded() {
    let actors = vec![ActorId { node: node(1), epoch: 3 }];
    let item = |action| ReapItem { object: object("a"), digest: RecordDigest(7), action };
    let items = [item(ReapAction::Remove), item(ReapAction::Truncate(actors))];
    let request = ReapRequest::new(RingVersion::default(), &items);
    let json = serde_json::to_string(&request).unwrap();
    assert!(json.contains(r#""action":"remove""#), "{json}");
    let back: ReapRequest = serde_json::from_str(&json).unwrap();
    assert_eq!(back.items().unwrap(), items);
    let nothing = [item(ReapAction::Truncate(Vec::new()))];
    let nothing = ReapRequest::new(RingVersion::default(), &nothing);
    assert_eq!(nothing.items(), Err(ReapMessageError::NoActors));
    let many = vec![item(ReapAction::Remove); REAP_KEYS_MAX + 1];
    let many = ReapRequest::new(RingVersion::default(), &many);
    assert_eq!(many.items(), Err(ReapMessageError::TooMany("items")));
    let key = object("a");
    let many = ReapCheckRequest::new(std::iter::repeat_n(&key, REAP_KEYS_MAX + 1));
    assert_eq!(many.objects(), Err(ReapMessageError::TooMany("objects")));
    let answer = ReapAnswer { results: vec![ReapResult::Done] };
    assert_eq!(answer.check(2), Err(ReapMessageError::Count { expected: 2, got: 1 }));
}

#[test]
fn what_operators_send_is_strict() {
    for state in TransferState::ALL {
        let json = serde_json::to_string(&state).unwrap();
        assert_eq!(json, format!("\"{}\"", state.as_str()));
    }
    let both = r#"{"partition":1,"bucket":"b"}"#;
    assert!(serde_json::from_str::<RepairRequest>(both).unwrap().check().is_err());
    assert!(serde_json::from_str::<RepairRequest>(r#"{"partitions":1}"#).is_err());
    assert!(AcceptLossRequest { partitions: Vec::new() }.check().is_err());
}
