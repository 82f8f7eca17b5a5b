//! Golden files: what this build writes to disk, to clients and to peers is, byte for byte, what
//! the files in `testdata/golden` say, and reads back as the value they were made from. They are
//! the promise to later builds; a form that changes gets a new version and a new file.
//!
//! `UPDATE_GOLDEN=1 cargo test -p dynamo-core --test versions golden` rewrites them; review the difference.

use std::fmt::Write;
use std::path::PathBuf;

use bytes::Bytes;
use dynamo_core::clock::context::{CausalContext, ContextKeys};
use dynamo_core::clock::digest::{Etag, RecordDigest};
use dynamo_core::clock::dot::Dot;
use dynamo_core::clock::dvv::{Dvv, Run};
use dynamo_core::clock::hlc::Hlc;
use dynamo_core::clock::record::{Content, Record, Sibling, Value};
use dynamo_core::codec::record::{decode_record, encode_record};
use dynamo_core::id::{ActorId, NodeId, PutId};
use dynamo_core::key::ObjectKey;
use dynamo_core::params::{Durability, Quorum, WriteQuorum};
use dynamo_core::put_memory::AppliedPut;
use dynamo_core::time::WallMs;
use dynamo_core::wire::coordinate::{
    Condition, ContentDto, Evidence, GetAnswer, GetMessage, PutAnswer, PutMessage, ReplicaView,
    SiblingView, VersionsView,
};
use dynamo_core::wire::frame::{decode_frame, encode_frame};
use dynamo_core::wire::replica::{
    ReplicaOp, ReplicaResult, decode_request, decode_response, encode_request, encode_response,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

const A: NodeId = NodeId(0x1111_2222_3333_4444_5555_6666_7777_8888);
const B: NodeId = NodeId(0x99aa_aabb_bbcc_ccdd_ddee_eeff_ff00_0011);
const NOW: WallMs = WallMs(1_790_000_000_000);

fn object() -> ObjectKey {
    ObjectKey::parse("carts", "alice/2026%00").expect("a legal name")
}

/// A record with everything a record can have.
fn record() -> Record {
    let mut clock = Dvv::new();
    clock.insert_up_to(ActorId { node: A, epoch: 3 }, 300, WallMs(NOW.0 - 10));
    clock.insert_up_to(ActorId { node: B, epoch: 0 }, 2, WallMs(NOW.0 - 20));
    let actor = ActorId { node: B, epoch: 1 };
    clock.insert_run(Run { actor, first: 4, last: 6, at: WallMs(NOW.0 - 30) });
    let value = Value {
        bytes: Bytes::from_static(b"{\"book\":1}"),
        content_type: Some("application/json".into()),
        meta: vec![("colour".into(), "grün".into()), ("size".into(), String::new())],
        expires_at: Some(WallMs(NOW.0 + 60_000)),
    };
    let empty = Value::default();
    let sibling = |node, epoch, counter, content| Sibling {
        dot: Dot { actor: ActorId { node, epoch }, counter },
        put_id: PutId(0xfeed_0000 + u128::from(counter)),
        stamp: Hlc::after(Hlc::at(WallMs(NOW.0 - counter)), WallMs(0)),
        content,
    };
    Record::new(
        clock,
        [
            sibling(A, 3, 300, Content::Value(value)),
            sibling(B, 0, 2, Content::Tombstone),
            sibling(B, 1, 6, Content::Value(empty)),
        ],
    )
}

fn context() -> CausalContext {
    let record = record();
    CausalContext { clock: record.clock().clone(), stamp: record.latest_stamp(), fastest: Some(B) }
}

fn path(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "testdata", "golden", name].iter().collect()
}

#[expect(clippy::disallowed_methods, reason = "a switch of the test, not an input of the core")]
fn update() -> bool {
    std::env::var("UPDATE_GOLDEN").is_ok_and(|value| value == "1")
}

/// Compares with the file's text, or writes it.
fn check(name: &str, text: &str) {
    let path = path(name);
    if update() {
        std::fs::write(&path, text).expect("the golden file can be written");
    }
    let golden = std::fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    assert_eq!(golden, text, "{name} changed: what earlier builds wrote must stay readable");
}

/// Compares bytes as lines of 32 in hexadecimal.
fn check_bytes(name: &str, bytes: &[u8]) {
    let mut text = String::new();
    for line in bytes.chunks(32) {
        for byte in line {
            write!(text, "{byte:02x}").expect("writing to a string");
        }
        text.push('\n');
    }
    check(name, &text);
}

/// The bytes of a golden file.
fn stored(name: &str) -> Bytes {
    let text = std::fs::read_to_string(path(name)).expect("the golden file exists");
    let digits: String = text.split_whitespace().collect();
    (0..digits.len() / 2)
        .map(|at| u8::from_str_radix(&digits[2 * at..2 * at + 2], 16).expect("hexadecimal"))
        .collect::<Vec<u8>>()
        .into()
}

#[test]
fn disk_record_v1() {
    let key = object().storage_key();
    check_bytes("storage_key_v1.hex", &key);
    check_bytes("record_v1.hex", &encode_record(&key, &record()));
    assert_eq!(decode_record(&key, stored("record_v1.hex")), Ok(record()));
    check_bytes("record_empty_v1.hex", &encode_record(&key, &Record::default()));
    assert_eq!(decode_record(&key, stored("record_empty_v1.hex")), Ok(Record::default()));
}

/// Digests are compared between nodes of different versions, entity tags kept by clients.
#[test]
fn digests_v1() {
    let (digest, empty) = (RecordDigest::of(&record()), RecordDigest::of(&Record::default()));
    let etag = Etag::of(record().siblings().map(|sibling| sibling.dot));
    check("digests_v1.txt", &format!("record {digest}\nempty {empty}\netag {etag}\n"));
}

#[test]
fn context_token_v1() {
    let keys = ContextKeys::derive([&b"golden cluster secret"[..]]).expect("one secret");
    let mut text = String::new();
    for context in [context(), CausalContext::default()] {
        text.push_str(&keys.encode(&object(), &context).expect("short"));
        text.push('\n');
    }
    check("context_v1.txt", &text);
    let golden = std::fs::read_to_string(path("context_v1.txt")).expect("the file exists");
    let read: Vec<CausalContext> =
        golden.lines().map(|token| keys.decode(&object(), token).expect("genuine")).collect();
    assert_eq!(read, [context(), CausalContext::default()]);
}

#[test]
fn replica_messages_v1() {
    let merge = |hint_for, durability| ReplicaOp::Merge {
        object: object(),
        record: record(),
        hint_for,
        durability,
        puts: Vec::new(),
    };
    let read = |unless, token| ReplicaOp::Read { object: object(), unless, token, put: None };
    let ops = vec![
        merge(None, Durability::Fsync),
        merge(Some(B), Durability::Buffered),
        read(Some(RecordDigest(7)), false),
        read(None, true),
    ];
    check_bytes("replica_request_v1.hex", &encode_request(&ops).expect("short"));
    assert_eq!(decode_request(stored("replica_request_v1.hex")).expect("a request"), ops);
    let results = vec![
        ReplicaResult::Merged,
        ReplicaResult::Record { record: record(), token: Some("token".into()), applied: None },
        ReplicaResult::Record { record: Record::default(), token: None, applied: None },
        ReplicaResult::Same,
        ReplicaResult::Absent { holds: true },
        ReplicaResult::Refused { code: "overloaded".into() },
    ];
    check_bytes("replica_response_v1.hex", &encode_response(&results).expect("short"));
    let read = decode_response(stored("replica_response_v1.hex"), results.len());
    assert_eq!(read.expect("a response"), results);
}

#[test]
fn questions_about_a_put_v1() {
    let put = Some(PutId(0x77));
    let dot = Dot { actor: ActorId { node: B, epoch: 3 }, counter: 9 };
    let told = AppliedPut { dot, content: 0xabc };
    let ops = vec![
        ReplicaOp::Read { object: object(), unless: None, token: false, put },
        ReplicaOp::Merge {
            object: object(),
            record: record(),
            hint_for: None,
            durability: Durability::Fsync,
            puts: vec![(PutId(0x78), told)],
        },
    ];
    check_bytes("replica_put_request_v1.hex", &encode_request(&ops).expect("short"));
    assert_eq!(decode_request(stored("replica_put_request_v1.hex")).expect("a request"), ops);
    let applied = Some(told);
    let results = vec![ReplicaResult::Record { record: record(), token: None, applied }];
    check_bytes("replica_put_response_v1.hex", &encode_response(&results).expect("short"));
    let read = decode_response(stored("replica_put_response_v1.hex"), results.len());
    assert_eq!(read.expect("a response"), results);
}

/// The header of a frame is text and reads better so.
fn check_message<M: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(
    name: &str,
    message: &M,
    body: &[Bytes],
) {
    let frame = encode_frame(message, body).expect("short");
    check_bytes(&format!("{name}.hex"), &frame);
    let (read, mut parts) =
        decode_frame::<M>(stored(&format!("{name}.hex"))).expect("the golden frame");
    assert_eq!(read, *message);
    for part in body {
        assert_eq!(parts.take(part.len()).expect("its body"), part);
    }
    parts.finish().expect("nothing behind");
}

#[test]
fn coordinate_messages_v1() {
    let key = object().key().clone();
    let get = GetMessage {
        bucket: "carts".into(),
        key: key.clone(),
        r: Some(Quorum::Count(2)),
        pr: Some(Quorum::One),
        notfound_ok: Some(true),
        values: true,
        explain: true,
    };
    check_message("get_message_v1", &get, &[]);
    let body = Bytes::from_static(b"\x00value");
    let put = PutMessage {
        bucket: "carts".into(),
        key,
        put_id: PutId(0xfeed),
        context: Some("token".into()),
        content: ContentDto::Value {
            len: body.len(),
            content_type: Some("text/plain".into()),
            meta: vec![("a".into(), "b".into())],
            expires_at: Some(NOW),
        },
        w: Some(WriteQuorum::Any),
        pw: Some(Quorum::All),
        durability: Some(Durability::Buffered),
        return_body: true,
        condition: Some(Condition::Matches(vec!["0123456789abcdef".into()])),
    };
    check_message("put_message_v1", &put, std::slice::from_ref(&body));
    let evidence = Evidence {
        acks: 2,
        asked: 2,
        primaries: 1,
        n: 3,
        hinted: 1,
        coordinator: A,
        durability: Durability::Fsync,
    };
    let versions = VersionsView {
        context: Some("token".into()),
        etag: Some("0123456789abcdef".into()),
        deleted: false,
        values: true,
        siblings: vec![SiblingView {
            etag: "fedcba9876543210".into(),
            last_modified: NOW,
            len: body.len(),
            content_type: None,
            meta: vec![],
            expires_at: None,
        }],
        sibling_count: 1,
    };
    let replicas = vec![ReplicaView {
        node: A,
        fallback_for: Some(B),
        result: "record".into(),
        holds: true,
        digest: Some(RecordDigest(1).to_string()),
        siblings: vec!["dot".into()],
    }];
    let answer = GetAnswer { versions: versions.clone(), evidence: evidence.clone(), replicas };
    check_message("get_answer_v1", &answer, std::slice::from_ref(&body));
    let answer = PutAnswer { versions, evidence, replayed: true };
    check_message("put_answer_v1", &answer, std::slice::from_ref(&body));
}
