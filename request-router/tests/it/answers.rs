//! What clients get for objects: status, headers and bytes.

use crate::support::{Cluster, Reply, request};

fn context(reply: &Reply) -> String {
    reply.header("x-atoll-context").unwrap_or_else(|| panic!("no context: {reply:?}")).to_owned()
}

/// Two blind writes leave two siblings.
fn siblings(cluster: &Cluster, path: &str) {
    assert_eq!(cluster.put(path, &[("content-type", "text/plain")], b"one").status, 204);
    assert_eq!(cluster.put(path, &[("x-atoll-meta-who", "me")], b"\xfftwo").status, 204);
}

const EVIDENCE: [(&str, &str); 5] = [
    ("x-atoll-acks", "2/2"),
    ("x-atoll-primaries", "2/3"),
    ("x-atoll-hinted", "0"),
    ("x-atoll-durability", "fsync"),
    ("x-content-type-options", "nosniff"),
];

fn check_evidence(reply: &Reply) {
    for (name, value) in EVIDENCE {
        assert_eq!(reply.header(name), Some(value), "{name}: {reply:?}");
    }
    assert_eq!(reply.header("x-atoll-coordinator").map(str::len), Some(32), "{reply:?}");
    assert!(reply.header("x-request-id").is_some(), "{reply:?}");
    let timing = reply.header("server-timing").unwrap();
    assert!(timing.contains("coordinator;dur=") && timing.contains("total;dur="), "{timing}");
    for hop in ["x-secret-hop", "x-atoll-ring", "keep-alive", "connection"] {
        assert_eq!(reply.header(hop), None, "{reply:?}");
    }
}

#[test]
fn a_value_comes_back_as_it_was_stored() {
    let cluster = Cluster::start(3);
    let headers = [
        ("content-type", "application/json"),
        ("x-atoll-meta-colour", "blue"),
        ("x-request-id", "mine-1"),
    ];
    let put = cluster.put("/v1/kv/carts/alice", &headers, b"{\"book\":1}");
    assert_eq!((put.status, put.body.len()), (204, 0));
    assert_eq!(put.header("content-length"), None);
    assert_eq!(put.header("x-request-id"), Some("mine-1"));
    check_evidence(&put);

    let got = cluster.get("/v1/kv/carts/alice");
    assert_eq!((got.status, got.text()), (200, "{\"book\":1}"));
    check_evidence(&got);
    let expected = [
        ("content-type", "application/json"),
        ("x-atoll-meta-colour", "blue"),
        ("x-atoll-siblings", "1"),
        ("content-security-policy", "sandbox"),
        ("vary", "accept"),
        ("content-length", "10"),
    ];
    for (name, value) in expected {
        assert_eq!(got.header(name), Some(value), "{got:?}");
    }
    let etag = got.header("etag").unwrap();
    assert!(etag.starts_with('"') && etag.ends_with('"'), "{etag}");
    assert!(got.header("last-modified").unwrap().ends_with(" GMT"));

    let head = cluster.ask("HEAD", "/v1/kv/carts/alice", &[]);
    let timeless = |reply: &Reply| {
        let varies = ["date", "server-timing", "x-request-id", "x-atoll-coordinator"];
        let mut all = reply.headers.clone();
        // Contexts name the coordinator, which may be another one.
        all.retain(|(name, _)| !varies.contains(&name.as_str()) && name != "x-atoll-context");
        all.sort();
        all
    };
    assert_eq!((head.status, timeless(&head)), (200, timeless(&got)));

    let none = cluster.put("/v1/kv/carts/raw", &[], b"raw");
    assert_eq!(none.status, 204);
    let raw = cluster.get("/v1/kv/carts/raw");
    assert_eq!(raw.header("content-type"), Some("application/octet-stream"));
}

#[test]
fn siblings_are_shown_and_resolved() {
    let cluster = Cluster::start(3);
    siblings(&cluster, "/v1/kv/b/k");
    let got = cluster.get("/v1/kv/b/k");
    assert_eq!((got.status, got.header("x-atoll-siblings")), (300, Some("2")));
    assert_eq!(got.header("content-type"), Some("application/json"));
    check_evidence(&got);
    let document = got.json();
    assert_eq!(document["context"], context(&got).as_str());
    let one = &document["siblings"][0];
    let two = &document["siblings"][1];
    let (text, binary) = if one["value"].is_string() { (one, two) } else { (two, one) };
    assert_eq!((&text["value"], &text["content_type"]), (&"one".into(), &"text/plain".into()));
    assert_eq!(text.get("value_base64"), None);
    assert_eq!(binary["value_base64"], "/3R3bw==");
    assert_eq!(binary["content_type"], "application/octet-stream");
    assert_eq!(binary["meta"]["who"], "me");
    assert!(text["last_modified"].as_str().unwrap().ends_with('Z'));

    let head = cluster.ask("HEAD", "/v1/kv/b/k", &[]);
    assert_eq!((head.status, head.header("content-length")), (300, got.header("content-length")));

    let etag = binary["etag"].as_str().unwrap();
    for tag in [etag.to_owned(), format!("%22{etag}%22")] {
        let single = cluster.get(&format!("/v1/kv/b/k?sibling={tag}"));
        assert_eq!((single.status, &single.body[..]), (200, &b"\xfftwo"[..]));
        assert_eq!(single.header("x-atoll-meta-who"), Some("me"));
        assert_eq!(single.header("x-atoll-siblings"), Some("2"));
    }
    let gone = cluster.get("/v1/kv/b/k?sibling=0123456789abcdef");
    assert_eq!((gone.status, gone.json()["code"].as_str()), (404, Some("not_found")));
    assert!(gone.header("x-atoll-context").is_some());

    let latest = cluster.get("/v1/kv/b/k?resolve=lww");
    assert_eq!(latest.status, 200);
    assert!(latest.body == b"one" || latest.body == b"\xfftwo");

    let merged = cluster.put("/v1/kv/b/k", &[("x-atoll-context", &context(&got))], b"merged");
    assert_eq!(merged.status, 204);
    assert_eq!(cluster.get("/v1/kv/b/k").text(), "merged");
}

#[test]
fn siblings_in_parts() {
    let cluster = Cluster::start(3);
    siblings(&cluster, "/v1/kv/b/k");
    let got = cluster.ask("GET", "/v1/kv/b/k", &[("accept", "multipart/mixed")]);
    assert_eq!(got.status, 300);
    let kind = got.header("content-type").unwrap();
    let boundary = kind.strip_prefix("multipart/mixed; boundary=").unwrap();
    let body = String::from_utf8_lossy(&got.body).into_owned();
    let parts: Vec<&str> = body.split(&format!("--{boundary}")).collect();
    assert_eq!(parts.len(), 4, "{body}");
    assert_eq!((parts[0], parts[3]), ("", "--\r\n"));
    let text = parts[1..3].iter().find(|part| part.contains("text/plain")).unwrap();
    assert!(text.ends_with("\r\n\r\none\r\n"), "{text}");

    let neither = cluster.ask("GET", "/v1/kv/b/k", &[("accept", "image/png")]);
    assert_eq!((neither.status, neither.json()["code"].as_str()), (406, Some("not_acceptable")));
    assert_eq!(neither.header("x-atoll-siblings"), Some("2"));
}

#[test]
fn deleted_and_absent_keys_differ() {
    let cluster = Cluster::start(3);
    let absent = cluster.get("/v1/kv/b/k");
    assert_eq!((absent.status, absent.json()["code"].as_str()), (404, Some("not_found")));
    assert_eq!(absent.header("x-atoll-deleted"), None);
    assert_eq!(absent.header("x-atoll-context"), None);
    check_evidence(&absent);

    assert_eq!(cluster.put("/v1/kv/b/k", &[], b"v").status, 204);
    let live = cluster.get("/v1/kv/b/k");
    let deleted = cluster.ask("DELETE", "/v1/kv/b/k", &[("x-atoll-context", &context(&live))]);
    assert_eq!(deleted.status, 204);
    check_evidence(&deleted);
    let gone = cluster.get("/v1/kv/b/k");
    assert_eq!((gone.status, gone.header("x-atoll-deleted")), (404, Some("true")));
    let again = cluster.put("/v1/kv/b/k", &[("x-atoll-context", &context(&gone))], b"new");
    assert_eq!(again.status, 204);
    let got = cluster.get("/v1/kv/b/k");
    assert_eq!((got.status, got.text(), got.header("x-atoll-siblings")), (200, "new", Some("1")));
    let head = cluster.ask("HEAD", "/v1/kv/b/none", &[]);
    assert_eq!((head.status, head.body.len()), (404, 0));
}

#[test]
fn puts_can_return_what_they_made() {
    let cluster = Cluster::start(3);
    let one = cluster.put("/v1/kv/b/k?return_body", &[("content-type", "text/plain")], b"one");
    assert_eq!((one.status, one.text()), (200, "one"));
    assert_eq!(one.header("content-type"), Some("text/plain"));
    let two = cluster.put("/v1/kv/b/k?return_body=true", &[], b"two");
    assert_eq!((two.status, two.json()["siblings"].as_array().unwrap().len()), (300, 2));
    // The write is done, so the answer is never 406.
    let headers = [("accept", "text/plain"), ("content-type", "text/plain")];
    let three = cluster.put("/v1/kv/b/k?return_body", &headers, b"three");
    assert_eq!((three.status, three.header("content-type")), (300, Some("application/json")));
}

#[test]
fn posts_choose_a_key() {
    let cluster = Cluster::start(3);
    let post = |headers: &[(&str, &str)]| {
        let reply = request(cluster.router, "POST", "/v1/kv/notes", headers, b"hello");
        assert_eq!((reply.status, reply.body.len()), (201, 0), "{reply:?}");
        check_evidence(&reply);
        reply.header("location").unwrap().to_owned()
    };
    let (one, two) = (post(&[]), post(&[]));
    assert_ne!(one, two);
    let uuid = one.strip_prefix("/v1/kv/notes/").unwrap();
    assert_eq!((uuid.len(), &uuid[14..15]), (36, "7"), "{uuid}");
    assert_eq!(cluster.get(&one).text(), "hello");
    let key = [("idempotency-key", "note-1")];
    assert_eq!(post(&key), post(&key), "a retry makes no second object");
}

#[test]
fn conditions_on_reads_and_writes() {
    let cluster = Cluster::start(3);
    let path = "/v1/kv/b/k";
    assert_eq!(cluster.put(path, &[("if-none-match", "*")], b"first").status, 204);
    assert_eq!(cluster.put(path, &[("if-none-match", "*")], b"second").status, 412);
    let etag = cluster.get(path).header("etag").unwrap().to_owned();
    let fresh = cluster.ask("GET", path, &[("if-none-match", &etag)]);
    assert_eq!((fresh.status, fresh.header("etag")), (304, Some(&*etag)));
    assert!(fresh.header("x-atoll-context").is_some());
    assert_eq!(cluster.ask("GET", path, &[("if-none-match", "\"0000\"")]).status, 200);
    assert_eq!(cluster.ask("GET", path, &[("if-match", &etag)]).status, 200);
    assert_eq!(cluster.ask("GET", path, &[("if-match", "\"0000\"")]).status, 412);
    assert_eq!(cluster.ask("GET", "/v1/kv/b/none", &[("if-match", "*")]).status, 412);
    let context = context(&cluster.get(path));
    let update = [("if-match", etag.as_str()), ("x-atoll-context", context.as_str())];
    assert_eq!(cluster.put(path, &update, b"third").status, 204);
    assert_eq!(cluster.put(path, &update, b"fourth").status, 412);
    assert_eq!(cluster.get(path).text(), "third");
}

#[test]
fn explanations_and_lifetimes() {
    let cluster = Cluster::start(3);
    assert_eq!(cluster.put("/v1/kv/b/a%2Fb?ttl_s=3600", &[], b"v").status, 204);
    let reply = cluster.get("/v1/kv/b/a/b?explain");
    assert_eq!(reply.status, 200);
    let told = reply.json();
    assert_eq!((&told["bucket"], &told["key"]), (&"b".into(), &"a/b".into()));
    assert_eq!(told["versions"].as_array().unwrap().len(), 1);
    assert_eq!(told["replicas"][0]["result"], "record");
    assert!(told["replicas"][0]["name"].as_str().unwrap().starts_with("host-"));
    assert_eq!(told["preference_list"].as_array().unwrap().len(), 3);
    assert_eq!(told["routing"]["attempts"], 1);
    let absent = cluster.get("/v1/kv/b/none?explain").json();
    assert_eq!(absent["versions"].as_array().unwrap().len(), 0);

    let records = cluster.shared.records.lock().unwrap();
    let sibling = records.values().next().unwrap().siblings().next().unwrap().clone();
    let dynamo_core::clock::record::Content::Value(value) = sibling.content else { panic!() };
    let expires_at = value.expires_at.unwrap();
    assert!(expires_at.since(sibling.stamp.wall()) >= std::time::Duration::from_secs(3590));
}

#[test]
fn quorums_are_checked_against_the_bucket() {
    let cluster = Cluster::start(3);
    assert_eq!(cluster.put("/v1/kv/pairs/k?w=2", &[], b"v").status, 204);
    let three = cluster.put("/v1/kv/pairs/k?w=3", &[], b"v");
    assert_eq!(three.status, 400);
    assert!(three.json()["detail"].as_str().unwrap().contains("'w': must be 1..2"), "{three:?}");
}
