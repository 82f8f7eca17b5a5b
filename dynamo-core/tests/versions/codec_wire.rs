//! Disk and message forms: what is written is read back, bit for bit and times included; what is
//! not well formed is refused without a panic, and damage never decodes (I-17).

use bytes::Bytes;
use dynamo_core::clock::digest::{Etag, RecordDigest};
use dynamo_core::clock::dot::Dot;
use dynamo_core::clock::dvv::{Dvv, Run};
use dynamo_core::clock::record::{Content, Record, Sibling, Value};
use dynamo_core::codec::bytes::{DecodeError, Reader, Writer};
use dynamo_core::codec::record::{decode_record, encode_record};
use dynamo_core::id::{ActorId, NodeId, PutId};
use dynamo_core::key::{ObjectKey, decode_key};
use dynamo_core::limits::{
    CLOCK_ENTRIES_MAX, CONTENT_TYPE_BYTES_MAX, META_BYTES_MAX, META_ENTRIES_MAX, REPLICA_BATCH_MAX,
};
use dynamo_core::params::Durability;
use dynamo_core::put_memory::AppliedPut;
use dynamo_core::testing::strategy;
use dynamo_core::testing::values::{node, put};
use dynamo_core::time::WallMs;
use dynamo_core::wire::coordinate::{GetAnswer, GetMessage, PutAnswer, PutMessage};
use dynamo_core::wire::frame::{FrameError, decode_frame, encode_frame};
use dynamo_core::wire::record::{ClockDto, clock_from_wire, clock_to_wire};
use dynamo_core::wire::replica::{
    ReplicaOp, ReplicaResult, decode_request, decode_response, encode_request, encode_response,
};
use proptest::prelude::{
    Just, ProptestConfig, Strategy, any, prop_assert, prop_assert_eq, prop_oneof, proptest,
};

/// Everything that a record says: `==` on clocks leaves the times out.
#[derive(Debug, PartialEq)]
struct Whole {
    vector: Vec<(ActorId, u64, u64)>,
    loose: Vec<(ActorId, u64, u64, u64)>,
    siblings: Vec<Sibling>,
}

fn whole(record: &Record) -> Whole {
    let clock = record.clock();
    Whole {
        vector: clock.vector().map(|(actor, e)| (actor, e.counter, e.at.0)).collect(),
        loose: clock.loose().map(|run| (run.actor, run.first, run.last, run.at.0)).collect(),
        siblings: record.siblings().cloned().collect(),
    }
}

fn applied_puts() -> impl Strategy<Value = AppliedPut> {
    (strategy::actors(), strategy::counters(), any::<u128>())
        .prop_map(|(actor, counter, content)| AppliedPut { dot: Dot { actor, counter }, content })
}

fn replica_ops() -> impl Strategy<Value = ReplicaOp> {
    let put = (any::<u128>().prop_map(PutId), applied_puts());
    let told = proptest::collection::vec(put, 0..4);
    let durability = prop_oneof![Just(Durability::Fsync), Just(Durability::Buffered)];
    let hint = proptest::option::of(strategy::nodes());
    prop_oneof![
        (strategy::object_keys(), strategy::records(), hint, durability, told).prop_map(
            |(object, record, hint_for, durability, puts)| {
                ReplicaOp::Merge { object, record, hint_for, durability, puts }
            }
        ),
        (
            strategy::object_keys(),
            proptest::option::of(any::<u128>()),
            any::<bool>(),
            proptest::option::of(any::<u128>())
        )
            .prop_map(|(object, unless, token, put)| {
                let (unless, put) = (unless.map(RecordDigest), put.map(PutId));
                ReplicaOp::Read { object, unless, token, put }
            }),
    ]
}

fn replica_results() -> impl Strategy<Value = ReplicaResult> {
    prop_oneof![
        Just(ReplicaResult::Merged),
        Just(ReplicaResult::Same),
        any::<bool>().prop_map(|holds| ReplicaResult::Absent { holds }),
        "[a-z_]{1,20}".prop_map(|code| ReplicaResult::Refused { code }),
        (
            strategy::records(),
            proptest::option::of("[a-zA-Z0-9_-]{1,40}"),
            proptest::option::of(applied_puts())
        )
            .prop_map(|(record, token, applied)| {
                ReplicaResult::Record { record, token, applied }
            }),
    ]
}

fn flipped(bytes: &[u8], bit: usize) -> Bytes {
    let mut copy = bytes.to_vec();
    copy[bit / 8] ^= 1 << (bit % 8);
    Bytes::from(copy)
}

/// The disk form around any payload, with the checksum that makes the decoder look at it.
fn sealed(key: &[u8], payload: &[u8]) -> Bytes {
    let crc = crc32c::crc32c_append(crc32c::crc32c(key), payload);
    let mut out = vec![1];
    out.extend_from_slice(&crc.to_be_bytes());
    out.extend_from_slice(payload);
    Bytes::from(out)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn records_round_trip_on_disk(record in strategy::records(), object in strategy::object_keys()) {
        let key = object.storage_key();
        let stored = encode_record(&key, &record);
        let read = decode_record(&key, stored.clone()).expect("what was written is read");
        prop_assert_eq!(whole(&read), whole(&record));
        prop_assert_eq!(encode_record(&key, &read), stored, "one form per record");
        prop_assert_eq!(RecordDigest::of(&read), RecordDigest::of(&record));
    }

    #[test]
    fn a_record_under_another_key_is_corrupt(
        record in strategy::records(),
        a in strategy::object_keys(),
        b in strategy::object_keys(),
    ) {
        let stored = encode_record(&a.storage_key(), &record);
        let read = decode_record(&b.storage_key(), stored);
        prop_assert!(a == b || read == Err(DecodeError::Checksum));
    }

    #[test]
    fn equal_records_and_only_they_have_equal_digests(
        a in strategy::records(),
        b in strategy::records(),
    ) {
        let same = |x: &Record, y: &Record| {
            x.clock() == y.clock()
                && x.siblings().map(|s| s.dot).eq(y.siblings().map(|s| s.dot))
        };
        prop_assert_eq!(RecordDigest::of(&a) == RecordDigest::of(&b), same(&a, &b));
        let etag = |r: &Record| Etag::of(r.siblings().map(|s| s.dot));
        let dots = |r: &Record| r.siblings().map(|s| s.dot).collect::<Vec<_>>();
        prop_assert_eq!(etag(&a) == etag(&b), dots(&a) == dots(&b));
        prop_assert_eq!(etag(&a).to_string().parse(), Ok(etag(&a)));
    }

    #[test]
    fn clocks_round_trip_as_json(clock in strategy::clocks()) {
        let json = serde_json::to_string(&clock_to_wire(&clock)).expect("json");
        let dto: ClockDto = serde_json::from_str(&json).expect("json");
        let read = clock_from_wire(&dto).expect("a clock");
        prop_assert_eq!(whole(&Record::new(read, [])), whole(&Record::new(clock, [])));
    }

    #[test]
    fn replica_messages_round_trip(
        ops in proptest::collection::vec(replica_ops(), 0..6),
        results in proptest::collection::vec(replica_results(), 0..6),
    ) {
        let read = decode_request(encode_request(&ops).expect("small")).expect("request");
        prop_assert_eq!(&read, &ops);
        for (read, op) in read.iter().zip(&ops) {
            if let (ReplicaOp::Merge { record: a, .. }, ReplicaOp::Merge { record: b, .. }) = (read, op) {
                prop_assert_eq!(whole(a), whole(b));
            }
        }
        let message = encode_response(&results).expect("small");
        prop_assert_eq!(decode_response(message.clone(), results.len()).expect("response"), results.clone());
        prop_assert!(matches!(decode_response(message, results.len() + 1), Err(FrameError::Body)));
    }

    #[test]
    fn storage_keys_and_texts_round_trip(object in strategy::object_keys()) {
        prop_assert_eq!(&ObjectKey::from_storage_key(&object.storage_key()).expect("key"), &object);
        let parsed = ObjectKey::parse(object.bucket().as_str(), &object.key_text());
        prop_assert_eq!(parsed, Ok(object.clone()));
        prop_assert_eq!(decode_key(&object.key_text()), Ok(object.key().clone()));
        let mut other = object.storage_key();
        other[0] ^= 1;
        prop_assert_eq!(
            ObjectKey::from_storage_key(&other),
            Err(DecodeError::Invalid("position"))
        );
    }

    #[test]
    fn integers_round_trip_in_one_form(value in prop_oneof![any::<u64>(), 0u64..300]) {
        let mut out = Writer::default();
        out.varint(value);
        let bytes = out.finish();
        let mut input = Reader::new(bytes.clone());
        prop_assert_eq!(input.varint(), Ok(value));
        prop_assert_eq!(input.finish(), Ok(()));
        // The same number with a superfluous last byte is refused.
        let mut long = bytes.to_vec();
        *long.last_mut().expect("one byte at least") |= 0x80;
        long.push(0);
        prop_assert_eq!(Reader::new(Bytes::from(long)).varint(), Err(DecodeError::Invalid("integer")));
    }

    /// No decoder panics or hangs, whatever comes.
    #[test]
    fn decoders_survive_anything(input in proptest::collection::vec(any::<u8>(), 0..300)) {
        let bytes = Bytes::from(input.clone());
        prop_assert!(decode_record(b"k", bytes.clone()).is_err());
        let _opened = ObjectKey::from_storage_key(&input);
        prop_assert!(decode_request(bytes.clone()).is_err());
        prop_assert!(decode_response(bytes.clone(), 1).is_err());
        prop_assert!(decode_frame::<PutMessage>(bytes).is_err());
        let mut framed = b"ATF1".to_vec();
        framed.extend_from_slice(&u32::try_from(input.len()).expect("short").to_be_bytes());
        framed.extend_from_slice(&input);
        let framed = Bytes::from(framed);
        let _read = decode_request(framed.clone());
        let _read = decode_response(framed, 1);
        // Behind a valid checksum the parser itself sees the bytes.
        if let Ok(record) = decode_record(b"k", sealed(b"k", &input)) {
            let again = decode_record(b"k", encode_record(b"k", &record)).expect("its own form");
            prop_assert_eq!(whole(&again), whole(&record));
        }
    }

    /// Nor does the parser behind the checksum on input that is almost right; what it accepts is a
    /// record that can be written and read again.
    #[test]
    fn the_record_parser_survives_damage(
        record in strategy::records(),
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut payload = encode_record(b"k", &record).slice(5..).to_vec();
        for (index, byte) in damage {
            let at = index.index(payload.len());
            payload[at] = byte;
        }
        if let Ok(read) = decode_record(b"k", sealed(b"k", &payload)) {
            let again = decode_record(b"k", encode_record(b"k", &read)).expect("its own form");
            prop_assert_eq!(whole(&again), whole(&read));
        }
    }

    /// Damaged messages decode to something or to an error, never to a panic.
    #[test]
    fn message_parsers_survive_damage(
        ops in proptest::collection::vec(replica_ops(), 1..3),
        results in proptest::collection::vec(replica_results(), 1..3),
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        for message in [encode_request(&ops), encode_response(&results)] {
            let mut message = message.expect("small").to_vec();
            for (index, byte) in &damage {
                let at = index.index(message.len());
                message[at] = *byte;
            }
            let _read = decode_request(Bytes::from(message.clone()));
            let _read = decode_response(Bytes::from(message), results.len());
        }
    }
}

mod prop {
    pub(super) use proptest::sample;
}

/// I-17: every single flipped bit of a stored record is noticed, and so is every cut.
#[test]
fn every_flipped_bit_and_every_cut_of_a_record_is_refused() {
    let (key, record) = (b"some key", sample());
    let stored = encode_record(key, &record);
    for bit in 0..stored.len() * 8 {
        assert!(decode_record(key, flipped(&stored, bit)).is_err(), "bit {bit}");
    }
    for end in 0..stored.len() {
        assert!(decode_record(key, stored.slice(..end)).is_err(), "cut at {end}");
    }
    let mut longer = stored.to_vec();
    longer.push(0);
    assert_eq!(decode_record(key, Bytes::from(longer)), Err(DecodeError::Checksum));
    let mut trailing = stored[5..].to_vec();
    trailing.push(0);
    assert_eq!(decode_record(key, sealed(key, &trailing)), Err(DecodeError::Trailing));
    let newer = [&[2], &stored[1..]].concat();
    assert_eq!(decode_record(key, Bytes::from(newer)), Err(DecodeError::Version(2)));
}

fn sample() -> Record {
    let mut clock = Dvv::new();
    clock.insert_up_to(ActorId { node: node(1), epoch: 3 }, 300, WallMs(1_700_000_000_000));
    clock.insert_run(Run {
        actor: ActorId { node: node(2), epoch: 1 },
        first: 4,
        last: 6,
        at: WallMs(1_700_000_000_001),
    });
    let value = put(5, None).content;
    let sibling = |counter, content| Sibling {
        dot: dynamo_core::clock::dot::Dot { actor: ActorId { node: node(1), epoch: 3 }, counter },
        put_id: dynamo_core::id::PutId(9),
        stamp: dynamo_core::clock::hlc::Hlc(77),
        content,
    };
    Record::new(clock, [sibling(299, value), sibling(300, Content::Tombstone)])
}

/// Payloads that a checksum covers but that no build writes.
#[test]
fn impossible_payloads_are_refused() {
    let table = |nodes: &[u128]| {
        let mut out = Writer::default();
        out.len(nodes.len());
        nodes.iter().for_each(|node| out.u128(*node));
        out
    };
    let numbers = |mut out: Writer, numbers: &[u64]| {
        numbers.iter().for_each(|number| out.varint(*number));
        out.finish()
    };
    let cases: [(&str, Bytes, DecodeError); 10] = [
        ("repeated node", numbers(table(&[7, 7]), &[]), DecodeError::Invalid("repeated node")),
        (
            "node index",
            numbers(table(&[7]), &[1, 1, 0, 5, 0, 0, 0]),
            DecodeError::Invalid("node index"),
        ),
        ("zero counter", numbers(table(&[7]), &[1, 0, 0, 0, 0]), DecodeError::Invalid("counter")),
        // vector (0/0 up to 5), then a run from 6, which the vector touches
        (
            "touching run",
            numbers(table(&[7]), &[1, 0, 0, 5, 0, 1, 0, 0, 6, 0, 0, 0]),
            DecodeError::Invalid("clock"),
        ),
        (
            "covered run",
            numbers(table(&[7]), &[1, 0, 0, 5, 0, 1, 0, 0, 2, 1, 0, 0]),
            DecodeError::Invalid("clock"),
        ),
        (
            "runs that touch",
            numbers(table(&[7]), &[0, 2, 0, 0, 4, 1, 0, 0, 0, 6, 0, 0, 0]),
            DecodeError::Invalid("clock"),
        ),
        (
            "endless run",
            numbers(table(&[7]), &[0, 1, 0, 0, 4, u64::MAX, 0, 0]),
            DecodeError::Invalid("counter"),
        ),
        (
            "repeated actor",
            numbers(table(&[7]), &[2, 0, 0, 5, 0, 0, 0, 6, 0, 0, 0]),
            DecodeError::Invalid("clock"),
        ),
        (
            "more items than bytes",
            numbers(table(&[7]), &[1 << 40]),
            DecodeError::Invalid("clock entries"),
        ),
        ("nothing behind", numbers(table(&[7]), &[]), DecodeError::Truncated),
    ];
    for (name, payload, error) in cases {
        assert_eq!(decode_record(b"k", sealed(b"k", &payload)), Err(error), "{name}");
    }
}

/// Records beyond the limits of messages still come back from disk: good data never turns bad.
#[test]
fn what_was_stored_is_read_back_at_any_size() {
    let mut clock = Dvv::new();
    for number in 0..3 * CLOCK_ENTRIES_MAX as u64 {
        let actor = ActorId { node: node(1), epoch: number };
        clock.insert_up_to(actor, 1, WallMs(0));
        clock.insert(dynamo_core::clock::dot::Dot { actor, counter: 3 }, WallMs(0));
    }
    let value = Value {
        content_type: Some("t".repeat(CONTENT_TYPE_BYTES_MAX + 1)),
        meta: vec![("m".repeat(META_BYTES_MAX), String::new()); META_ENTRIES_MAX + 1],
        ..Value::default()
    };
    assert!(!value.is_within_limits());
    let dot =
        dynamo_core::clock::dot::Dot { actor: ActorId { node: node(1), epoch: 0 }, counter: 1 };
    let sibling = Sibling {
        dot,
        put_id: dynamo_core::id::PutId(1),
        stamp: dynamo_core::clock::hlc::Hlc(0),
        content: Content::Value(value),
    };
    let record = Record::new(clock, [sibling]);
    let read = decode_record(b"k", encode_record(b"k", &record)).expect("read back");
    assert_eq!(whole(&read), whole(&record));
    // In a message it is refused as a whole.
    let object = ObjectKey::parse("b", "k").expect("a name");
    let op = ReplicaOp::Merge {
        object,
        record,
        hint_for: None,
        durability: Durability::Fsync,
        puts: Vec::new(),
    };
    assert!(matches!(decode_request(encode_request([&op]).expect("fits")), Err(FrameError::Body)));
}

#[test]
fn frames_say_what_is_wrong_with_them() {
    let good = encode_frame(
        &GetMessage {
            bucket: "b".into(),
            key: Bytes::from_static(b"\x00/k"),
            r: None,
            pr: None,
            notfound_ok: None,
            values: true,
            explain: false,
        },
        &[],
    )
    .expect("small");
    let (message, parts) = decode_frame::<GetMessage>(good.clone()).expect("frame");
    assert_eq!(message.key.as_ref(), b"\x00/k");
    parts.finish().expect("no body");
    let with = |range: std::ops::Range<usize>, bytes: &[u8]| {
        let mut copy = good.to_vec();
        copy.splice(range, bytes.iter().copied());
        decode_frame::<GetMessage>(Bytes::from(copy)).map(|_| ()).expect_err("damaged")
    };
    assert!(matches!(with(0..4, b"ATF2"), FrameError::Magic));
    assert!(matches!(with(4..8, &u32::MAX.to_be_bytes()), FrameError::HeaderTooLong));
    assert!(matches!(with(4..8, &4_000u32.to_be_bytes()), FrameError::Truncated));
    assert!(matches!(with(8..9, b"["), FrameError::Header(_)));
    assert!(matches!(with(3..good.len(), b""), FrameError::Truncated));
    let op = |number: usize| ReplicaOp::Read {
        object: ObjectKey::parse("b", &number.to_string()).expect("a name"),
        unless: None,
        token: false,
        put: None,
    };
    let batch: Vec<ReplicaOp> = (0..=REPLICA_BATCH_MAX).map(op).collect();
    assert!(decode_request(encode_request(&batch[1..]).expect("fits")).is_ok());
    assert!(matches!(decode_request(encode_request(&batch).expect("fits")), Err(FrameError::Body)));
    let mut longer = encode_request(&batch[..1]).expect("fits").to_vec();
    longer.push(0);
    assert!(matches!(decode_request(Bytes::from(longer)), Err(FrameError::Body)));
}

/// Unknown fields of a newer peer are ignored (I-18); missing optional ones have their defaults.
#[test]
fn coordinate_messages_are_tolerant() {
    let get: GetMessage =
        serde_json::from_str(r#"{"bucket":"b","key":"a%2Fb","values":true,"new":{"x":1}}"#)
            .expect("get");
    assert_eq!((get.key.as_ref(), get.explain, get.r), (&b"a/b"[..], false, None));
    let put: PutMessage = serde_json::from_str(
        r#"{"bucket":"b","key":"k","put_id":"00000000-0000-0000-0000-000000000007","content":{"kind":"tombstone"},"w":"any","pw":2,"later":0}"#,
    )
    .expect("put");
    assert!(!put.return_body && put.condition.is_none() && put.w.is_some());
    for bad in [
        r#"{"bucket":"b","key":"%zz","values":true}"#,
        r#"{"bucket":"b","key":"k"}"#,
        r#"{"bucket":"b","key":"k","values":true,"r":"some"}"#,
        r#"{"bucket":"b","key":"k","values":true,"r":-1}"#,
        r#"{"bucket":"b","key":"k","values":true,"r":1.5}"#,
    ] {
        assert!(serde_json::from_str::<GetMessage>(bad).is_err(), "{bad}");
    }
    let evidence = r#"{"acks":2,"asked":2,"primaries":2,"n":3,"hinted":0,"coordinator":"00000000000000000000000000000001","durability":"fsync"}"#;
    let get: GetAnswer = serde_json::from_str(&format!(
        r#"{{"versions":{{"sibling_count":0}},"evidence":{evidence}}}"#
    ))
    .expect("answer");
    assert_eq!(get.evidence.coordinator, NodeId(1));
    let put: PutAnswer = serde_json::from_str(&format!(
        r#"{{"versions":{{"sibling_count":1,"context":"x"}},"evidence":{evidence},"replayed":true}}"#
    ))
    .expect("answer");
    assert!(put.replayed);
}
