//! The rows against a router before storage nodes in memory, and what takes time or several
//! requests.

use std::sync::atomic::Ordering;

use crate::bad_input::http::{After, Connection, message, request};
use crate::bad_input::{check_all, rows};
use crate::support::Cluster;

#[test]
fn every_row_gets_its_answer_and_stores_nothing() {
    let cluster = Cluster::start(3);
    check_all(cluster.router, || cluster.stored());
    assert_eq!(cluster.metric("atoll_http_panics_total{listener=\"api\"}") as u64, 0);
    assert!(cluster.shared.applied.load(Ordering::Relaxed) > 0, "the taken rows were stored");
}

#[test]
fn rows_have_names_of_their_own() {
    let mut names: Vec<String> = rows().into_iter().map(|row| row.name).collect();
    let all = names.len();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), all);
    assert!(all > 150, "{all} rows");
}

/// Rows 30 and 31: who sends nothing, or a byte now and then, is dropped.
#[test]
fn slow_heads_are_dropped() {
    let cluster = Cluster::start(1);
    let address = cluster.router;
    let silent = std::thread::spawn(move || Connection::open(address).ends_silently());
    let half = std::thread::spawn(move || {
        let mut connection = Connection::open(address);
        connection.send(b"GET /v1/kv/b/k HTTP/1.1\r\nhost: ", After::Listen);
        connection.reply(false).is_none_or(|reply| reply.status == 408)
    });
    assert!(silent.join().unwrap());
    assert!(half.join().unwrap());
}

/// Row 35: pipelined requests are answered in order.
#[test]
fn pipelined_requests_are_answered_in_order() {
    let cluster = Cluster::start(3);
    let count = 300;
    for index in 0..3 {
        let path = format!("/v1/kv/b/{index}");
        assert_eq!(cluster.put(&path, &[], format!("value {index}").as_bytes()).status, 204);
    }
    let bytes: Vec<u8> =
        (0..count).flat_map(|i| message("GET", &format!("/v1/kv/b/{}", i % 3), &[], b"")).collect();
    let mut connection = Connection::open(cluster.router);
    connection.send(&bytes, After::Listen);
    for index in 0..count {
        let reply = connection.reply(false).unwrap();
        assert_eq!(reply.text(), format!("value {}", index % 3));
    }
}

/// Rows 44 to 48 and 91: odd keys and empty values come back as they were put.
#[test]
fn odd_names_come_back() {
    let cluster = Cluster::start(3);
    let keys = ["%ff%fe", "%00", "%0d%0a", "..", "a+b", "a%20b", "//", "%2F", "a%2Fb/c"];
    for key in keys {
        let path = format!("/v1/kv/b/{key}");
        let put = cluster.put(&path, &[], key.as_bytes());
        assert_eq!(put.status, 204, "{key}: {put:?}");
    }
    // "%2F" and "//" differ: one slash, and two.
    for key in keys {
        let got = cluster.get(&format!("/v1/kv/b/{key}"));
        assert_eq!((got.status, got.text()), (200, key));
    }
    let same = cluster.get("/v1/kv/b/a%2fb%2fc");
    assert_eq!(same.text(), "a%2Fb/c", "an escaped slash is a slash");
    assert_eq!(cluster.put("/v1/kv/b/empty", &[], b"").status, 204);
    let empty = cluster.get("/v1/kv/b/empty");
    assert_eq!((empty.status, empty.header("content-length")), (200, Some("0")));
    assert_eq!(cluster.get("/v1/kv/b/absent").status, 404);
}

/// Rows 83, 84 and 86: retries are applied once, blind writers meet a bound.
#[test]
fn retries_and_blind_writes() {
    let cluster = Cluster::start(3);
    let key = [("idempotency-key", "order-17")];
    for _ in 0..3 {
        assert_eq!(cluster.put("/v1/kv/b/k", &key, b"v").status, 204);
    }
    assert_eq!(cluster.get("/v1/kv/b/k").header("x-atoll-siblings"), Some("1"));
    let other = cluster.put("/v1/kv/b/k", &key, b"w");
    assert_eq!((other.status, other.json()["code"].as_str()), (422, Some("idempotency_mismatch")));

    let refused = (0..101).map(|i| cluster.put("/v1/kv/b/blind", &[], &[i])).last().unwrap();
    assert_eq!(refused.json()["code"], "too_many_siblings");
    let context = refused.header("x-atoll-context").unwrap();
    let merged = request(
        cluster.router,
        "PUT",
        "/v1/kv/b/blind",
        &[("x-atoll-context", context)],
        b"merged",
    );
    assert_eq!(merged.status, 204);
    assert_eq!(cluster.get("/v1/kv/b/blind").text(), "merged");
}

/// Row 76: a context of another key, or with a flipped bit, is refused.
#[test]
fn contexts_belong_to_their_key() {
    let cluster = Cluster::start(3);
    let put = cluster.put("/v1/kv/b/one", &[], b"v");
    let context = put.header("x-atoll-context").unwrap().to_owned();
    let elsewhere = cluster.put("/v1/kv/b/two", &[("x-atoll-context", &context)], b"v");
    assert_eq!(elsewhere.json()["code"], "bad_context");
    let mut flipped = context.clone();
    let middle = flipped.len() / 2;
    let other = if flipped.as_bytes()[middle] == b'A' { "B" } else { "A" };
    flipped.replace_range(middle..=middle, other);
    let damaged = cluster.put("/v1/kv/b/one", &[("x-atoll-context", &flipped)], b"v");
    assert_eq!(damaged.json()["code"], "bad_context");
    assert_eq!(cluster.put("/v1/kv/b/one", &[("x-atoll-context", &context)], b"w").status, 204);
    assert_eq!(cluster.get("/v1/kv/b/one").text(), "w");
}

/// Row 82: a context older than what is stored is no error and loses nothing.
#[test]
fn older_contexts_make_siblings() {
    let cluster = Cluster::start(3);
    let first = cluster.put("/v1/kv/b/k", &[], b"1");
    let context = [("x-atoll-context", first.header("x-atoll-context").unwrap())];
    for value in [b"2", b"3"] {
        assert_eq!(cluster.put("/v1/kv/b/k", &context, value).status, 204);
    }
    let siblings = cluster.get("/v1/kv/b/k");
    assert_eq!((siblings.status, siblings.header("x-atoll-siblings")), (300, Some("2")));
}
