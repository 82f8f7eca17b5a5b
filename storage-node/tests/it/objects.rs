//! Objects with all nodes up.

use std::time::Duration;

use bytes::Bytes;
use dynamo_core::actor::Actor;
use dynamo_core::clock::record::{Content, Record, Value};
use dynamo_core::id::PutId;
use dynamo_core::params::{BucketProps, Durability, Reconciliation};
use dynamo_core::replica::{Minted, PutCommand, coordinate_put};
use dynamo_core::ring::RingVersion;
use dynamo_core::wire::coordinate::{COORDINATE_GET_PATH, Condition};
use dynamo_core::wire::replica::ReplicaResult;
use http::{HeaderMap, Method};
use service_kit::http::error::ErrorCode;
use service_kit::time::Clock;
use storage_node::api::replica_json::ReplicaDocument;
use storage_node::api::status::{PingDocument, StoreDocument};

use crate::client::{Ask, Client, r, w, with};
use crate::cluster::{Cluster, node, number};

#[tokio::test(flavor = "multi_thread")]
async fn what_was_put_is_read_at_every_coordinator() {
    let cluster = Cluster::start(3).await;
    let client = Client::new(1);
    let put = client.put(cluster.address(1), "k", "v", Ask::default()).await.unwrap();
    assert_eq!((put.evidence.asked, put.evidence.n, put.evidence.coordinator), (2, 3, node(1)));
    assert!(put.evidence.acks >= 2 && !put.replayed);
    for id in 1..=3 {
        let read = client.get(cluster.address(id), "k", Ask::default()).await.unwrap();
        assert_eq!(read.texts(), ["v"]);
        let sibling = &read.answer.versions.siblings[0];
        assert_eq!(sibling.content_type.as_deref(), Some("text/plain"));
        assert_eq!(sibling.meta, [("of".to_owned(), "test".to_owned())]);
        client.until_replica(cluster.address(id), "k", &["v"]).await;
    }
    let absent = client.get(cluster.address(2), "nothing", Ask::default()).await.unwrap();
    assert_eq!(absent.answer.versions.context, None);
    assert!(!absent.answer.versions.deleted);
    assert_eq!(absent.answer.evidence.acks, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn siblings_contexts_and_deletes() {
    let cluster = Cluster::start(3).await;
    let client = Client::new(2);
    let at = |id| cluster.address(id);
    client.put(at(1), "k", "a", Ask::default()).await.unwrap();
    client.put(at(2), "k", "b", Ask::default()).await.unwrap();
    let read = client.get(at(3), "k", Ask::default()).await.unwrap();
    assert_eq!(read.texts(), ["a", "b"], "two blind writes are siblings");
    let merged = client.put(at(2), "k", "a+b", with(read.context())).await.unwrap();
    assert_eq!(client.get(at(1), "k", Ask::default()).await.unwrap().texts(), ["a+b"]);
    // The context of a put covers what the client saw and its own write.
    let next = client.put(at(3), "k", "c", with(merged.versions.context)).await.unwrap();
    assert_eq!(client.get(at(2), "k", Ask::default()).await.unwrap().texts(), ["c"]);
    // A write that its client has not seen survives a delete with an older context.
    client.put(at(1), "k", "unseen", Ask::default()).await.unwrap();
    client.delete(at(2), "k", with(next.versions.context)).await.unwrap();
    assert_eq!(client.get(at(3), "k", Ask::default()).await.unwrap().texts(), ["unseen"]);
    // Without context everything that is seen goes.
    for id in [1, 2] {
        client.delete(at(id), "k", Ask::default()).await.unwrap();
        let gone = client.get(at(3), "k", Ask::default()).await.unwrap();
        assert!(gone.answer.versions.deleted && gone.values.is_empty());
        assert!(gone.answer.versions.context.is_some());
    }
    let foreign = client.put(at(1), "other", "x", with(read.context())).await.unwrap_err();
    assert_eq!(foreign.code(), ErrorCode::BadContext, "contexts are bound to their key");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retried_put_keeps_its_first_dot() {
    let cluster = Cluster::start(3).await;
    let client = Client::new(3);
    let retry = Ask { put_id: Some(PutId(77)), ..Ask::default() };
    let first = client.put(cluster.address(1), "k", "v", retry.clone()).await.unwrap();
    let again = client.put(cluster.address(1), "k", "v", retry.clone()).await.unwrap();
    assert!(!first.replayed && again.replayed);
    // Also after the sibling was superseded.
    let next = with(first.versions.context);
    client.put(cluster.address(1), "k", "w", next).await.unwrap();
    let late = client.put(cluster.address(1), "k", "v", retry.clone()).await.unwrap();
    assert!(late.replayed);
    let read = client.get(cluster.address(2), "k", Ask::default()).await.unwrap();
    assert_eq!(read.texts(), ["w"]);
    let other = client.put(cluster.address(1), "k", "other", retry.clone()).await.unwrap_err();
    assert_eq!(other.code(), ErrorCode::IdempotencyMismatch);
    // A retry at another coordinator shows once.
    client.put(cluster.address(1), "two", "v", retry.clone()).await.unwrap();
    client.put(cluster.address(2), "two", "v", retry).await.unwrap();
    let read = client.get(cluster.address(3), "two", Ask::default()).await.unwrap();
    assert_eq!(read.texts(), ["v"]);
}

/// What a coordinator outside of the cluster makes of a put of "v" with this id.
fn put_of_a_stranger(put_id: PutId) -> Minted {
    let content = Content::Value(Value {
        bytes: Bytes::from_static(b"v"),
        content_type: Some("text/plain".to_owned()),
        meta: vec![("of".to_owned(), "test".to_owned())],
        expires_at: None,
    });
    let reconciliation = Reconciliation::Siblings;
    let command = PutCommand { put_id, context: None, content, reconciliation };
    let mut stranger = Actor::restarted(node(9), 0);
    let now = Clock::system().wall();
    coordinate_put(&Record::default(), &command, &mut stranger, now).unwrap()
}

/// Regression: the first attempt reached one coordinator, which could not say so in time; a second
/// dot for the same put at another coordinator rose again after the first had been superseded.
#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_put_finds_what_its_first_attempt_made_elsewhere() {
    let cluster = Cluster::start(3).await;
    let client = Client::new(5);
    let put_id = PutId(78);
    let first = put_of_a_stranger(put_id);
    let ping: PingDocument = client.json(cluster.address(1), "/v1/ping").await.unwrap();
    for key in ["silent", "said"] {
        let (record, ring) = (first.delta.clone(), ping.ring.unwrap());
        let merged = client.merge_record(cluster.address(1), key, record, None, ring).await;
        assert_eq!(merged, ReplicaResult::Merged);
    }
    let silent = Ask { put_id: Some(put_id), ..Ask::default() };
    let said = Ask { repeated: true, ..silent.clone() };
    assert!(!client.put(cluster.address(2), "silent", "v", silent).await.unwrap().replayed);
    assert!(client.put(cluster.address(2), "said", "v", said).await.unwrap().replayed);
    assert!(cluster.metric(2, "atoll_puts_repeated_total") > 0.0);
}

/// Regression: an attempt that came late, after the put had been superseded through another
/// coordinator, made a version that rose beside what had superseded it.
#[tokio::test(flavor = "multi_thread")]
async fn a_late_put_does_not_bring_back_what_was_superseded() {
    let cluster = Cluster::start(3).await;
    let client = Client::new(6);
    let put_id = PutId(79);
    let first = put_of_a_stranger(put_id);
    let ping: PingDocument = client.json(cluster.address(1), "/v1/ping").await.unwrap();
    let late = || Ask { put_id: Some(put_id), ..Ask::default() };
    let attempts = [
        ("repeated", Ask { repeated: true, ..late() }),
        ("slow", Ask { sent_ago: Some(Duration::from_secs(2)), ..late() }),
        // May mint a second version, as nothing tells it to ask; the others know better.
        ("unaware", late()),
    ];
    for (key, ask) in attempts {
        let (record, ring) = (first.delta.clone(), ping.ring.unwrap());
        let merged = client.merge_record(cluster.address(1), key, record, None, ring).await;
        assert_eq!(merged, ReplicaResult::Merged);
        let seen = client.get(cluster.address(1), key, Ask::default()).await.unwrap();
        assert_eq!(seen.texts(), ["v"], "{key}");
        client.put(cluster.address(1), key, "w", with(seen.context())).await.unwrap();
        let asks = ask.repeated || ask.sent_ago.is_some();
        let again = client.put(cluster.address(2), key, "v", ask).await.unwrap();
        assert!(again.replayed || !asks, "{key}");
        // By read repair.
        let read = client.get(cluster.address(1), key, r(3)).await.unwrap();
        assert_eq!(read.texts(), ["w"], "{key}");
        for number in 1..=3 {
            client.until_replica(cluster.address(number), key, &["w"]).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn conditions_are_checked_against_a_read_quorum() {
    let cluster = Cluster::start(3).await;
    let client = Client::new(4);
    let on = |condition| Ask { condition: Some(condition), ..Ask::default() };
    let (one, two) = (cluster.address(1), cluster.address(2));
    let refused = client.put(one, "k", "v", on(Condition::Exists)).await.unwrap_err();
    assert_eq!(refused.code(), ErrorCode::PreconditionFailed);
    client.put(one, "k", "v", on(Condition::Absent)).await.unwrap();
    let refused = client.put(two, "k", "w", on(Condition::Absent)).await.unwrap_err();
    assert_eq!(refused.code(), ErrorCode::PreconditionFailed);
    let read = client.get(two, "k", Ask::default()).await.unwrap();
    let tag = read.answer.versions.etag.clone().unwrap();
    let matches = Condition::Matches(vec![tag]);
    let ask = Ask { condition: Some(matches.clone()), ..with(read.context()) };
    client.put(two, "k", "w", ask).await.unwrap();
    let refused = client.put(two, "k", "x", on(matches)).await.unwrap_err();
    assert_eq!(refused.code(), ErrorCode::PreconditionFailed);
    assert_eq!(client.get(one, "k", Ask::default()).await.unwrap().texts(), ["w"]);
}

/// Regression: a conditional put that had been applied, and superseded since, was refused with 412 when
/// its client tried it again, as if it had never been.
#[tokio::test(flavor = "multi_thread")]
async fn a_retry_of_a_conditional_put_is_answered_as_the_first_attempt_was() {
    let cluster = Cluster::start(3).await;
    let client = Client::new(44);
    let one = cluster.address(1);
    client.put(one, "k", "u", w(3)).await.unwrap();
    let read = client.get(one, "k", Ask::default()).await.unwrap();
    let condition = Some(Condition::Matches(vec![read.answer.versions.etag.clone().unwrap()]));
    let put_id = Some(PutId(80));
    let again = || Ask { condition: condition.clone(), put_id, ..with(read.context()) };
    let first = client.put(one, "k", "v", Ask { w: w(3).w, ..again() }).await.unwrap();
    assert!(!first.replayed);
    let seen = Ask { w: w(3).w, ..with(first.versions.context) };
    client.put(one, "k", "w", seen).await.unwrap();
    // At the same coordinator, and at one that has been sent the put.
    for id in 1..=3 {
        let retried = client.put(cluster.address(id), "k", "v", again()).await.unwrap();
        assert!(retried.replayed, "{id}");
        let other = client.put(cluster.address(id), "k", "x", again()).await.unwrap_err();
        assert_eq!(other.code(), ErrorCode::IdempotencyMismatch, "{id}");
        let another = Ask { put_id: None, ..again() };
        let refused = client.put(cluster.address(id), "k", "v", another).await.unwrap_err();
        assert_eq!(refused.code(), ErrorCode::PreconditionFailed, "{id}");
        let found = client.get(cluster.address(id), "k", r(3)).await.unwrap();
        assert_eq!(found.texts(), ["w"], "{id}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_siblings_are_refused_with_the_context_that_resolves_them() {
    let cluster = Cluster::start(3).await;
    let client = Client::new(5);
    let at = cluster.address(1);
    for number in 0..100 {
        client.put(at, "k", &number.to_string(), Ask::default()).await.unwrap();
    }
    let refused = client.put(at, "k", "one more", Ask::default()).await.unwrap_err();
    assert_eq!(refused.code(), ErrorCode::TooManySiblings);
    assert!(cluster.metric(1, "atoll_siblings_warned_total") >= 1.0);
    let read = client.get(at, "k", Ask::default()).await.unwrap();
    assert_eq!(read.values.len(), 100);
    client.put(at, "k", "all", with(read.context())).await.unwrap();
    assert_eq!(client.get(at, "k", Ask::default()).await.unwrap().texts(), ["all"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn return_body_explain_and_buckets() {
    let cluster = Cluster::start(3).await;
    let client = Client::new(6);
    let at = cluster.address(1);
    client.put(at, "k", "a", Ask::default()).await.unwrap();
    let ask = Ask { return_body: true, ..Ask::default() };
    let put = client.put(at, "k", "b", ask).await.unwrap();
    assert_eq!(put.versions.siblings.len(), 2);
    let ask = Ask { explain: true, ..Ask::default() };
    let read = client.get(at, "k", ask).await.unwrap();
    assert_eq!(read.answer.replicas.len(), 3);
    assert!(read.answer.replicas.iter().all(|r| r.result == "record" && r.holds));

    let props = BucketProps { reconciliation: Reconciliation::Lww, ..BucketProps::default() };
    cluster.agents.set_bucket("b", props);
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    client.put(at, "lww", "first", Ask::default()).await.unwrap();
    client.put(at, "lww", "second", Ask::default()).await.unwrap();
    assert_eq!(client.get(at, "lww", Ask::default()).await.unwrap().texts(), ["second"]);
    let ask = Ask { durability: Some(Durability::Buffered), ..Ask::default() };
    let put = client.put(at, "soft", "v", ask).await.unwrap();
    assert_eq!(put.evidence.durability, Durability::Buffered);
    assert_eq!(client.get(at, "soft", Ask::default()).await.unwrap().texts(), ["v"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_outside_the_list_does_not_coordinate() {
    let cluster = Cluster::start(5).await;
    let client = Client::new(7);
    let key = cluster.key_of(1);
    let outsider = number(cluster.replicas(&key).fallbacks[0]);
    let refused =
        client.put(cluster.address(outsider), &key, "v", Ask::default()).await.unwrap_err();
    assert_eq!(refused.code(), ErrorCode::NotOwner);
    // Who chose it under the same ring sees primaries down that it does not: then it stands in.
    let ask = Ask { ring: Some(cluster.agents.view().version()), ..Ask::default() };
    client.put(cluster.address(outsider), &key, "v", ask).await.unwrap();
    let read = client.get(cluster.address(outsider), &key, Ask::default()).await.unwrap();
    assert_eq!(read.texts(), ["v"], "a get may be coordinated anywhere");
}

#[tokio::test(flavor = "multi_thread")]
async fn operators_read_and_write_a_replica_as_json() {
    let cluster = Cluster::start(3).await;
    let client = Client::new(8);
    let put = client.put(cluster.address(1), "a/b c", "v", Ask::default()).await.unwrap();
    assert!(put.evidence.acks >= 2);
    client.until_replica(cluster.address(2), "a/b%20c", &["v"]).await;
    let path = "/v1/replica/kv/b/a/b%20c";
    let document: ReplicaDocument = client.json(cluster.address(2), path).await.unwrap();
    assert_eq!(document.values_base64, ["dg=="]);
    assert!(document.holds);
    let mut headers = HeaderMap::new();
    headers.insert("content-type", "application/json".parse().unwrap());
    let body = Bytes::from(serde_json::to_vec(&document).unwrap());
    let other = "/v1/replica/kv/b/copy";
    client.call(cluster.address(3), Method::PUT, other, headers, body, 2_000).await.unwrap();
    assert_eq!(client.replica(cluster.address(3), "copy").await, ["v"]);
    let missing = client.json::<ReplicaDocument>(cluster.address(3), "/v1/replica/kv/b/none").await;
    assert_eq!(missing.unwrap_err().code(), ErrorCode::NotFound);
    let ping: PingDocument = client.json(cluster.address(3), "/v1/ping").await.unwrap();
    assert_eq!((ping.node, ping.store.as_str()), (node(3), "healthy"));
    let store: StoreDocument = client.json(cluster.address(3), "/v1/store").await.unwrap();
    assert_eq!(store.records, Some(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_messages_are_refused() {
    let cluster = Cluster::start(3).await;
    let client = Client::new(9);
    let bodies: [&'static [u8]; 3] = [b"", b"ATF1\xff\xff\xff\xff", b"ATF1\0\0\0\x02{}"];
    for body in bodies {
        let body = Bytes::from_static(body);
        let headers = HeaderMap::new();
        let refused = client
            .call(cluster.address(1), Method::POST, COORDINATE_GET_PATH, headers, body, 1_000)
            .await
            .unwrap_err();
        assert_eq!(refused.code(), ErrorCode::BadFrame);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_repairs_stale_replicas() {
    let cluster = Cluster::start(3).await;
    let client = Client::new(10);
    client.put(cluster.address(1), "source", "v", w(3)).await.unwrap();
    let path = "/v1/replica/kv/b/";
    let document: ReplicaDocument =
        client.json(cluster.address(1), &format!("{path}source")).await.unwrap();
    // One replica alone learns of it.
    let body = Bytes::from(serde_json::to_vec(&document).unwrap());
    let mut headers = HeaderMap::new();
    headers.insert("content-type", "application/json".parse().unwrap());
    let to = cluster.address(3);
    client.call(to, Method::PUT, &format!("{path}stale"), headers, body, 2_000).await.unwrap();
    let read = client.get(cluster.address(1), "stale", r(3)).await.unwrap();
    assert_eq!(read.texts(), ["v"]);
    for id in 1..=3 {
        client.until_replica(cluster.address(id), "stale", &["v"]).await;
    }
    assert_eq!(cluster.metric(1, "atoll_read_repairs_total"), 2.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_hold_for_clients_that_come_directly() {
    let cluster = Cluster::start_with(3, |config| config.limits.value_bytes = 1_000).await;
    let client = Client::new(41);
    let at = cluster.address(1);
    let large = client.put(at, "k", &"x".repeat(1_001), Ask::default()).await.unwrap_err();
    assert_eq!(large.code(), ErrorCode::PayloadTooLarge);
    client.put(at, "k", &"x".repeat(1_000), Ask::default()).await.unwrap();
    let more_than_n = client.put(at, "k", "v", w(4)).await.unwrap_err();
    assert_eq!(more_than_n.code(), ErrorCode::BadParameter);
    // Records carry dots: only nodes may bring them.
    let stranger = client.replica_write_without_identity(at, "k").await;
    assert_eq!(stranger, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_may_let_its_values_expire() {
    let cluster = Cluster::start(3).await;
    let client = Client::new(42);
    cluster.agents.set_bucket("b", BucketProps { ttl_s: 1, ..BucketProps::default() });
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    client.put(cluster.address(1), "k", "v", w(3)).await.unwrap();
    let deadline = tokio::time::Instant::now() + crate::cluster::PATIENCE;
    while !client.get(cluster.address(2), "k", r(3)).await.unwrap().answer.versions.deleted {
        assert!(tokio::time::Instant::now() < deadline, "never expires");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_takes_only_what_is_its_to_take() {
    let cluster = Cluster::start(5).await;
    let client = Client::new(43);
    let key = cluster.key_of(1);
    let outsider = cluster.address(number(cluster.replicas(&key).fallbacks[1]));
    let current = cluster.agents.view().version();
    let older = RingVersion { number: 0, ..current };
    let refused = |code: ErrorCode| ReplicaResult::Refused { code: code.as_str().to_owned() };
    let result = client.merge(outsider, &key, None, older).await;
    assert_eq!(result, refused(ErrorCode::NotOwner), "an old ring, and not ours");
    let result = client.merge(outsider, &key, None, current).await;
    assert_eq!(result, refused(ErrorCode::NotOwner), "our ring, and not ours");
    let newer = RingVersion { number: current.number + 1, ..current };
    let result = client.merge(outsider, &key, None, newer).await;
    assert_eq!(result, ReplicaResult::Merged, "the sender may know better");
    assert_eq!(client.merge(cluster.address(1), &key, None, older).await, ReplicaResult::Merged);
    let nobody = Some(node(99));
    let result = client.merge(outsider, &key, nobody, current).await;
    assert_eq!(result, refused(ErrorCode::Gone), "a hint for a node that is not there");
}
