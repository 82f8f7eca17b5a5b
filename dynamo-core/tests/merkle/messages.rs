//! Messages of a comparison: what they look like, and what is refused.

use bytes::Bytes;
use dynamo_core::clock::digest::RecordDigest;
use dynamo_core::id::StoreId;
use dynamo_core::key::{NameError, ObjectKey};
use dynamo_core::limits::{
    PEER_MESSAGE_BYTES_MAX, REPLICAS_MAX, TREE_KEYS_MAX, TREE_LEAVES_MAX, TREE_PREFIXES_MAX,
};
use dynamo_core::merkle::{KeyEntry, Leaf, Prefix, PrefixError, TreeDigest};
use dynamo_core::ring::RingVersion;
use dynamo_core::testing::strategy::object_keys;
use dynamo_core::time::WallMs;
use dynamo_core::wire::tree::{
    DigestsAnswer, DigestsRequest, KeyEntryDto, KeysAnswer, KeysRequest, ObjectDto, PrefixDto,
    TreeMessageError, TreeState,
};
use proptest::collection::{btree_set, vec};
use proptest::option;
use proptest::prelude::{Strategy, any, proptest};
use proptest::prop_assert_eq;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::golden;

fn through_json<T: Serialize + DeserializeOwned>(message: &T) -> T {
    serde_json::from_slice(&serde_json::to_vec(message).unwrap()).unwrap()
}

fn entries() -> impl Strategy<Value = KeyEntry> {
    let dead_since = option::of(any::<u64>().prop_map(WallMs));
    (object_keys(), any::<u128>(), dead_since).prop_map(|(object, digest, dead_since)| KeyEntry {
        object,
        digest: RecordDigest(digest),
        dead_since,
    })
}

proptest! {
    #[test]
    fn messages_mean_what_was_said(
        n in 1..=REPLICAS_MAX,
        prefixes in vec((0..=16u8, any::<u32>()), 0..20),
        leaves in btree_set(any::<u16>(), 0..20),
        after in option::of(object_keys()),
        entries in vec(entries(), 0..10),
    ) {
        let prefix = |(bits, index)| Prefix::new(bits, index & ((1 << bits) - 1)).unwrap();
        let prefixes: Vec<Prefix> = prefixes.into_iter().map(prefix).collect();
        let request = DigestsRequest::new(n, &prefixes);
        prop_assert_eq!(through_json(&request).prefixes(), Ok(prefixes));
        let leaves: Vec<Leaf> = leaves.into_iter().map(Leaf).collect();
        let request = KeysRequest::new(n, &leaves, after.as_ref());
        prop_assert_eq!(through_json(&request).parse(), Ok((leaves, after.clone())));
        let answer = KeysAnswer::new(&entries, after.as_ref());
        prop_assert_eq!(through_json(&answer).parse(), Ok((entries, after)));
    }
}

#[test]
fn requests_beyond_their_limits_are_refused() {
    for n in [0, REPLICAS_MAX + 1, u8::MAX] {
        let class = Err(TreeMessageError::Class(n));
        assert_eq!(DigestsRequest::new(n, &[]).prefixes(), class.clone());
        assert_eq!(KeysRequest::new(n, &[], None).parse().map(|_| vec![]), class);
    }
    let too_many = DigestsRequest::new(3, &vec![Prefix::ALL; TREE_PREFIXES_MAX + 1]);
    assert_eq!(too_many.prefixes(), Err(TreeMessageError::TooMany("prefixes")));
    let (bits, index) = (4, 16);
    let request = DigestsRequest { n: 3, prefixes: vec![PrefixDto { bits, index }] };
    assert_eq!(request.prefixes(), Err(TreeMessageError::Prefix(PrefixError { bits, index })));
    let leaves = |count: usize| (0..=u16::MAX).take(count).map(Leaf).collect::<Vec<_>>();
    let request = KeysRequest::new(3, &leaves(TREE_LEAVES_MAX + 1), None);
    assert_eq!(request.parse(), Err(TreeMessageError::TooMany("leaves")));
    assert!(KeysRequest::new(3, &leaves(TREE_LEAVES_MAX), None).parse().is_ok());
    for order in [[Leaf(2), Leaf(1)], [Leaf(1), Leaf(1)]] {
        let request = KeysRequest::new(3, &order, None);
        assert_eq!(request.parse(), Err(TreeMessageError::LeafOrder));
    }
    let after = Some(ObjectDto { bucket: "_own".into(), key: Bytes::from_static(b"k") });
    let request = KeysRequest { n: 3, leaves: vec![1], after };
    assert_eq!(request.parse(), Err(TreeMessageError::Name(NameError::Reserved)));
}

fn longest(number: usize) -> ObjectKey {
    let mut key = vec![0xff; 1_024];
    key[..8].copy_from_slice(&number.to_be_bytes());
    ObjectKey::new("b".repeat(64).parse().unwrap(), Bytes::from(key)).unwrap()
}

#[test]
fn answers_beyond_their_limits_are_refused() {
    let dto = KeyEntryDto {
        bucket: "carts".into(),
        key: Bytes::new(),
        digest: RecordDigest(1),
        dead_since_ms: None,
    };
    let answer = KeysAnswer { keys: vec![dto.clone()], next: None };
    assert_eq!(answer.parse(), Err(TreeMessageError::Name(NameError::EmptyKey)));
    let answer = KeysAnswer { keys: vec![dto; TREE_KEYS_MAX + 1], next: None };
    assert_eq!(answer.parse(), Err(TreeMessageError::TooMany("keys")));
    let digests = |state, count| DigestsAnswer {
        ring: RingVersion::default(),
        store: StoreId(1),
        state,
        digests: vec![TreeDigest::EMPTY; count],
    };
    assert_eq!(digests(TreeState::Built, 2).check(2), Ok(()));
    assert_eq!(digests(TreeState::Building, 0).check(2), Ok(()));
    let wrong = TreeMessageError::DigestCount { expected: 2, got: 1 };
    assert_eq!(digests(TreeState::Built, 1).check(2), Err(wrong));
    for text in ["", "0", "+000000000000000000000000000000f", "g0000000000000000000000000000000"] {
        assert!(serde_json::from_value::<TreeDigest>(text.into()).is_err(), "{text}");
    }
}

#[test]
fn the_largest_messages_fit() {
    let entry = |number| KeyEntry {
        object: longest(number),
        digest: RecordDigest(u128::MAX),
        dead_since: Some(WallMs(u64::MAX)),
    };
    let keys: Vec<KeyEntry> = (0..TREE_KEYS_MAX).map(entry).collect();
    let page = serde_json::to_vec(&KeysAnswer::new(&keys, Some(&longest(0)))).unwrap();
    assert!(page.len() < PEER_MESSAGE_BYTES_MAX, "{} bytes", page.len());
    let prefixes = vec![Prefix::from(Leaf(u16::MAX)); TREE_PREFIXES_MAX];
    let request = serde_json::to_vec(&DigestsRequest::new(7, &prefixes)).unwrap();
    assert!(request.len() < PEER_MESSAGE_BYTES_MAX, "{} bytes", request.len());
}

/// What earlier builds send must stay readable.
#[test]
fn tree_messages_v1() {
    let object = ObjectKey::parse("carts", "alice/2026%00").unwrap();
    let prefixes = [Prefix::new(10, 1023).unwrap(), Prefix::ALL];
    let entry =
        |dead_since| KeyEntry { object: object.clone(), digest: RecordDigest(7), dead_since };
    let digests = DigestsAnswer {
        ring: RingVersion { number: 12, hash: 0xfeed },
        store: StoreId(9),
        state: TreeState::Built,
        digests: vec![TreeDigest(1 << 100), TreeDigest::EMPTY],
    };
    let building = DigestsAnswer { state: TreeState::Building, digests: vec![], ..digests.clone() };
    let request = KeysRequest::new(3, &[Leaf(1), Leaf(65_535)], Some(&object));
    let answer = KeysAnswer::new(&[entry(None), entry(Some(WallMs(5)))], Some(&object));
    let lines = [
        serde_json::to_string(&DigestsRequest::new(3, &prefixes)),
        serde_json::to_string(&digests),
        serde_json::to_string(&building),
        serde_json::to_string(&request),
        serde_json::to_string(&KeysRequest::new(1, &[], None)),
        serde_json::to_string(&answer),
    ];
    let lines: Vec<String> = lines.into_iter().map(|line| line.unwrap() + "\n").collect();
    golden::check("tree_messages_v1.txt", &lines.concat());
}
