//! The client against HTTP servers of the test's own: what is sent, what is repeated, and what is
//! made of the answers.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on shall end")]

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use atoll_client::{Client, Error, Outcome, PutId, Update, merge};
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, Method, Response, StatusCode, Uri};

/// A request as the server saw it.
#[derive(Debug, Clone)]
struct Seen {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
}

impl Seen {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

/// What the server does with the next request.
#[derive(Debug, Clone)]
enum Step {
    Answer(u16, &'static [(&'static str, &'static str)], &'static str),
    /// Accept and say nothing.
    Silence,
}

#[derive(Default)]
struct Script {
    steps: VecDeque<Step>,
    seen: Vec<Seen>,
}

/// A server that plays a script; beyond its end it repeats the last step. Probes of the client are
/// answered and not counted.
#[derive(Clone)]
struct Server {
    script: Arc<Mutex<Script>>,
    address: SocketAddr,
}

impl Server {
    async fn start(steps: impl IntoIterator<Item = Step>) -> Self {
        let script = Script { steps: steps.into_iter().collect(), ..Script::default() };
        let script = Arc::new(Mutex::new(script));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let app = Router::new().fallback(play).with_state(Arc::clone(&script));
        tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { script, address }
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn seen(&self) -> Vec<Seen> {
        self.script.lock().unwrap().seen.clone()
    }
}

async fn play(
    State(script): State<Arc<Mutex<Script>>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response<Body> {
    if uri.path() == "/v1/ping" {
        return Response::new(Body::empty());
    }
    let step = {
        let mut script = script.lock().unwrap();
        script.seen.push(Seen { method, uri, headers, body });
        let step = script.steps.front().unwrap().clone();
        if script.steps.len() > 1 {
            script.steps.pop_front();
        }
        step
    };
    match step {
        Step::Silence => std::future::pending().await,
        Step::Answer(status, headers, body) => {
            let mut response = Response::builder().status(StatusCode::from_u16(status).unwrap());
            for (name, value) in headers {
                response = response.header(*name, *value);
            }
            response.body(Body::from(body)).unwrap()
        }
    }
}

/// An address where nobody listens.
async fn nobody() -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

fn client(endpoints: &[String]) -> Client {
    Client::builder()
        .endpoints(endpoints.iter().cloned())
        .timeout(Duration::from_secs(2))
        .build()
        .unwrap()
}

const OK: Step = Step::Answer(
    200,
    &[
        ("x-atoll-context", "CTX"),
        ("etag", "\"e1\""),
        ("content-type", "text/plain"),
        ("x-atoll-acks", "2/2"),
        ("x-atoll-primaries", "1/3"),
        ("x-atoll-hinted", "1"),
        ("x-atoll-coordinator", "n1"),
        ("x-atoll-meta-color", "red"),
        ("x-request-id", "r-1"),
        ("last-modified", "Sun, 06 Nov 1994 08:49:37 GMT"),
    ],
    "hello",
);
const STORED: Step = Step::Answer(204, &[("x-atoll-context", "NEW"), ("x-atoll-acks", "2/2")], "");
const NOT_APPLIED: Step = Step::Answer(
    503,
    &[],
    r#"{"status":503,"code":"quorum_unavailable","outcome":"not_applied","retryable":true,"required":2,"got":1}"#,
);
const UNKNOWN: Step = Step::Answer(
    503,
    &[],
    r#"{"status":503,"code":"quorum_unavailable","outcome":"unknown","retryable":true}"#,
);

#[tokio::test]
async fn a_get_carries_everything_the_answer_has() {
    let server = Server::start([OK]).await;
    let bucket = client(&[server.url()]).bucket("b");
    let read = bucket.get("k/ä").r(2u8).notfound_ok(true).await.unwrap();
    assert_eq!(read.context.unwrap().as_str(), "CTX");
    assert_eq!(read.etag.as_deref(), Some("e1"));
    assert_eq!((read.evidence.acks, read.evidence.asked), (Some(2), Some(2)));
    assert_eq!((read.evidence.primaries, read.evidence.n), (Some(1), Some(3)));
    assert_eq!(read.evidence.hinted, Some(1));
    assert_eq!(read.evidence.coordinator.as_deref(), Some("n1"));
    assert_eq!(read.evidence.request_id.as_deref(), Some("r-1"));
    let version = read.versions.only().unwrap();
    assert_eq!(version.value, "hello");
    assert_eq!(version.content_type.as_deref(), Some("text/plain"));
    assert_eq!(version.meta["color"], "red");
    assert!(version.last_modified.is_some());
    let seen = &server.seen()[0];
    assert_eq!(seen.uri.to_string(), "/v1/kv/b/k/%C3%A4?r=2&notfound_ok=true");
    let timeout_ms: u64 = seen.header("x-atoll-timeout-ms").unwrap().parse().unwrap();
    assert!((1..=2000).contains(&timeout_ms));
}

#[tokio::test]
async fn keys_reach_the_server_as_they_are() {
    let cases: [(&[u8], &str); 6] = [
        (b"a b", "/v1/kv/b/a%20b"),
        (b"a//b/", "/v1/kv/b/a//b/"),
        (b"a/../b", "/v1/kv/b/a%2F..%2Fb"),
        (b"./x", "/v1/kv/b/.%2Fx"),
        (b"\0\xff?#%", "/v1/kv/b/%00%FF%3F%23%25"),
        (b"...", "/v1/kv/b/..."),
    ];
    let server = Server::start([OK]).await;
    let bucket = client(&[server.url()]).bucket("b");
    for (index, (key, path)) in cases.into_iter().enumerate() {
        bucket.get(key).await.unwrap();
        assert_eq!(server.seen()[index].uri.path(), path);
    }
    for key in [".", ".."] {
        let error = bucket.get(key).await.unwrap_err();
        assert!(matches!(error, Error::Parameter { .. }), "{error}");
    }
    assert!(matches!(bucket.get("").await, Err(Error::Name(_))));
    assert!(matches!(bucket.get("x".repeat(1025)).await, Err(Error::Name(_))));
    let bad = client(&[server.url()]).bucket("Not A Bucket");
    assert!(matches!(bad.get("k").await, Err(Error::Name(_))));
    assert_eq!(server.seen().len(), cases.len(), "what is invalid is not sent");
}

#[tokio::test]
async fn a_put_says_everything_it_was_told() {
    let server = Server::start([STORED]).await;
    let bucket = client(&[server.url()]).bucket("b");
    let context = atoll_client::Context::from_token("CTX");
    let done = bucket
        .put("k", "v")
        .context(context)
        .w(3u8)
        .ttl(Duration::from_millis(1500))
        .content_type("text/plain")
        .meta("Color", "red")
        .if_match("e1")
        .idempotency_key(PutId(7))
        .await
        .unwrap();
    assert_eq!(done.context.unwrap().as_str(), "NEW");
    assert_eq!(done.put_id, Some(PutId(7)));
    let seen = &server.seen()[0];
    assert_eq!((&seen.method, &seen.body[..]), (&Method::PUT, &b"v"[..]));
    assert_eq!(seen.uri.query(), Some("w=3&ttl_s=2"));
    for (name, value) in [
        ("x-atoll-context", "CTX"),
        ("content-type", "text/plain"),
        ("x-atoll-meta-color", "red"),
        ("if-match", "\"e1\""),
        ("idempotency-key", "00000000000000000000000000000007"),
    ] {
        assert_eq!(seen.header(name), Some(value));
    }
    bucket.delete("k").if_exists().await.unwrap();
    let seen = &server.seen()[1];
    assert_eq!((&seen.method, seen.header("if-match")), (&Method::DELETE, Some("*")));
    bucket.put("k", "").if_absent().await.unwrap();
    let seen = &server.seen()[2];
    assert_eq!(seen.header("if-none-match"), Some("*"));
    assert_eq!(seen.header("content-length"), Some("0"), "an empty value is a value");
    let error = bucket.put("k", "v").meta("a b", "x").await.unwrap_err();
    assert!(matches!(error, Error::Parameter { .. }));
}

#[tokio::test]
async fn absence_deletion_and_siblings_are_results() {
    let deleted = Step::Answer(404, &[("x-atoll-deleted", "true"), ("x-atoll-context", "DEL")], "");
    let absent =
        Step::Answer(404, &[], r#"{"status":404,"code":"not_found","outcome":"not_applied"}"#);
    let elsewhere = Step::Answer(404, &[], "<html>nginx</html>");
    let siblings = Step::Answer(
        300,
        &[("content-type", "application/json"), ("etag", "\"set\"")],
        r#"{"context":"SIB","siblings":[
            {"etag":"a","content_type":"text/plain","last_modified":"2026-01-02T03:04:05.678Z","meta":{"x":"y"},"value":"[1]"},
            {"etag":"b","last_modified":"2026-01-02T03:04:06Z","meta":{},"value_base64":"WzJd"}]}"#,
    );
    let broken = Step::Answer(300, &[], r#"{"siblings":[{"etag":"a"}]}"#);
    let server =
        Server::start([deleted, absent, elsewhere, siblings.clone(), siblings, broken]).await;
    let bucket = client(&[server.url()]).bucket("b");

    let read = bucket.get("k").await.unwrap();
    assert!(read.deleted && read.versions.is_empty());
    assert_eq!(read.context.unwrap().as_str(), "DEL");
    let read = bucket.get("k").await.unwrap();
    assert!(!read.deleted && read.context.is_none());
    assert!(bucket.get("k").await.is_err(), "another server's 404 is not an absent object");

    let read = bucket.get("k").await.unwrap();
    assert_eq!(read.context.as_ref().unwrap().as_str(), "SIB");
    assert_eq!(serde_json::json!(merge::union(&read.versions).unwrap()), serde_json::json!([1, 2]));
    assert_eq!(merge::lww(&read.versions).unwrap().etag.as_deref(), Some("b"));
    let error = bucket.get_one("k").await.unwrap_err();
    assert!(matches!(error, Error::Siblings { count: 2, context: Some(_) }));
    assert!(matches!(bucket.get("k").await, Err(Error::BadAnswer { .. })));
}

#[tokio::test]
async fn what_was_not_applied_is_sent_again_with_the_same_name() {
    let server = Server::start([NOT_APPLIED, NOT_APPLIED, STORED]).await;
    client(&[server.url()]).bucket("b").put("k", "v").await.unwrap();
    let seen = server.seen();
    assert_eq!(seen.len(), 3);
    let names: Vec<_> = seen.iter().map(|one| one.header("idempotency-key").unwrap()).collect();
    assert!(names.iter().all(|name| *name == names[0] && name.len() == 32));
}

#[tokio::test]
async fn attempts_are_bounded_and_the_last_refusal_is_told() {
    let server = Server::start([NOT_APPLIED]).await;
    let error = client(&[server.url()]).bucket("b").put("k", "v").await.unwrap_err();
    assert_eq!(server.seen().len(), 3);
    assert_eq!((error.outcome(), error.retryable()), (Outcome::NotApplied, true));
    let problem = error.problem().unwrap();
    assert_eq!(
        (problem.code.as_str(), problem.required, problem.got),
        ("quorum_unavailable", Some(2), Some(1))
    );
}

#[tokio::test]
async fn a_put_that_may_have_happened_is_reported_and_a_get_is_repeated() {
    let server = Server::start([UNKNOWN]).await;
    let bucket = client(&[server.url()]).bucket("b");
    let error = bucket.put("k", "v").await.unwrap_err();
    assert_eq!((error.outcome(), server.seen().len()), (Outcome::Unknown, 1));
    let error = bucket.get("k").await.unwrap_err();
    assert_eq!((error.outcome(), server.seen().len()), (Outcome::NotApplied, 4));
}

#[tokio::test]
async fn final_refusals_are_not_repeated() {
    for (status, code) in [
        (400, "bad_context"),
        (409, "conflict"),
        (412, "precondition_failed"),
        (413, "payload_too_large"),
        (500, "internal"),
        (504, "deadline_exceeded"),
    ] {
        let body = format!(r#"{{"status":{status},"code":"{code}","outcome":"unknown"}}"#);
        let server = Server::start([Step::Answer(status, &[], body.leak())]).await;
        let error = client(&[server.url()]).bucket("b").put("k", "v").await.unwrap_err();
        assert_eq!((error.code(), server.seen().len()), (Some(code), 1));
        let expected = if status < 500 { Outcome::NotApplied } else { Outcome::Unknown };
        assert_eq!(error.outcome(), expected, "{status}");
    }
}

#[tokio::test]
async fn a_dead_endpoint_is_passed_over_and_then_avoided() {
    let server = Server::start([OK]).await;
    let client = client(&[nobody().await, nobody().await, server.url()]);
    let bucket = client.bucket("b");
    for _ in 0..50 {
        bucket.get("k").await.unwrap();
    }
    assert_eq!(server.seen().len(), 50);
}

#[tokio::test]
async fn a_silent_endpoint_does_not_cost_the_call() {
    let silent = Server::start([Step::Silence]).await;
    let server = Server::start([STORED]).await;
    let client = client(&[silent.url(), server.url()]);
    let bucket = client.bucket("b");
    for _ in 0..20 {
        bucket.put("k", "v").await.unwrap();
    }
    let first = silent.seen();
    assert!(first.len() <= 4, "probes bring it back at most now and then: {}", first.len());
    if let Some(one) = first.first() {
        let name = one.header("idempotency-key");
        assert!(server.seen().iter().any(|seen| seen.header("idempotency-key") == name));
    }
}

#[tokio::test]
async fn nobody_at_all_is_an_error_that_says_nothing_happened() {
    let client = client(&[nobody().await, nobody().await]);
    let error = client.bucket("b").put("k", "v").await.unwrap_err();
    assert!(matches!(error, Error::Unreachable { attempts: 3, .. }), "{error:?}");
    assert_eq!((error.outcome(), error.retryable()), (Outcome::NotApplied, true));
}

#[tokio::test]
async fn silence_everywhere_is_a_timeout_with_an_unknown_outcome() {
    let silent = Server::start([Step::Silence]).await;
    let client = client(&[silent.url()]);
    let error =
        client.bucket("b").put("k", "v").timeout(Duration::from_millis(100)).await.unwrap_err();
    assert!(matches!(error, Error::Timeout { .. }), "{error:?}");
    assert_eq!(error.outcome(), Outcome::Unknown);
}

#[tokio::test]
async fn retries_end_with_the_budget() {
    let server = Server::start([NOT_APPLIED]).await;
    let client = client(&[server.url()]);
    let mut calls = Vec::new();
    for _ in 0..300 {
        let bucket = client.bucket("b");
        calls.push(tokio::spawn(async move { bucket.get("k").await }));
    }
    for call in calls {
        assert!(call.await.unwrap().is_err());
    }
    // 300 calls allow 60 retries, and the floor 100 more.
    assert_eq!(server.seen().len(), 300 + 160);
}

#[tokio::test]
async fn an_update_reads_again_where_its_condition_fails() {
    let refused = Step::Answer(
        412,
        &[],
        r#"{"status":412,"code":"precondition_failed","outcome":"not_applied"}"#,
    );
    let server = Server::start([OK, refused, OK, STORED]).await;
    let bucket = client(&[server.url()]).bucket("b");
    let mut rounds = 0;
    bucket
        .update_exclusive("k", |versions| {
            rounds += 1;
            assert_eq!(versions.len(), 1);
            Ok(Update::put("merged"))
        })
        .await
        .unwrap();
    assert_eq!(rounds, 2);
    let put = &server.seen()[3];
    assert_eq!(
        (put.header("if-match"), put.header("x-atoll-context")),
        (Some("\"e1\""), Some("CTX"))
    );

    let server = Server::start([OK]).await;
    let bucket = client(&[server.url()]).bucket("b");
    bucket.update("k", |_| Ok(Update::Keep)).await.unwrap();
    assert_eq!(server.seen().len(), 1, "nothing to write, nothing written");
    let error = bucket.update("k", |_| Err(Error::Merge("no".into()))).await.unwrap_err();
    assert!(matches!(error, Error::Merge(_)));
}
