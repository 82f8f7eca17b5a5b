//! What operators see of one request and of one fault: a trace over all processes that took part, and
//! one line in the log of each that handled the failure; and that they choose what the logs tell.

#![allow(clippy::unwrap_used, reason = "a test that fails should panic, also in its helpers")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use prost::Message;
use tests::harness::{Http, Service, eventually};

use super::scene::{scene, scene_in, secure_scene};

/// Objects that are written while a host is gone, and how many at a time.
const PUTS: usize = 200;
const WRITERS: usize = 8;

/// What the collector was sent.
#[derive(Default)]
struct Collected {
    /// Spans with the service that they are of.
    spans: Vec<(String, Span)>,
    /// Everything as it came.
    raw: Vec<u8>,
    /// Messages that were not what the protocol says.
    wrong: Vec<String>,
}

type Shared = Arc<Mutex<Collected>>;

async fn collect(State(shared): State<Shared>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let mut all = shared.lock().unwrap();
    all.raw.extend_from_slice(&body);
    let kind = headers.get("content-type").and_then(|value| value.to_str().ok());
    match ExportTraceServiceRequest::decode(body) {
        Ok(message) if kind == Some("application/x-protobuf") => {
            for resource in message.resource_spans {
                let of = resource.resource.unwrap_or_default();
                let service = text(&of.attributes, "service.name");
                let spans = resource.scope_spans.into_iter().flat_map(|scope| scope.spans);
                all.spans.extend(spans.map(|span| (service.clone(), span)));
            }
        }
        decoded => all.wrong.push(format!("{kind:?}: {decoded:?}")),
    }
    StatusCode::OK
}

fn text(attributes: &[KeyValue], name: &str) -> String {
    let found = attributes.iter().find(|attribute| attribute.key == name);
    match found.and_then(|attribute| attribute.value.clone()) {
        Some(AnyValue { value: Some(Value::StringValue(text)) }) => text,
        Some(AnyValue { value: Some(Value::IntValue(number)) }) => number.to_string(),
        _ => String::new(),
    }
}

/// The spans of one trace that have this parent.
fn children(spans: &[(String, Span)], trace: &[u8], parent: &[u8]) -> Vec<(String, Span)> {
    let mine = |span: &Span| span.trace_id == trace && span.parent_span_id == parent;
    spans.iter().filter(|(_, span)| mine(span)).cloned().collect()
}

/// Service, name and kind of a span.
fn shape(span: &(String, Span)) -> (&str, &str, SpanKind) {
    (&span.0, &span.1.name, span.1.kind())
}

#[test]
fn one_request_is_one_trace_over_all_processes_and_tells_no_key() {
    const TRACE: [u8; 16] = [0x0a; 16];
    const PARENT: [u8; 8] = [0x0b; 8];
    let shared = Shared::default();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let app = Router::new().route("/v1/traces", post(collect)).with_state(Arc::clone(&shared));
    runtime.spawn(async move { axum::serve(listener, app).await.unwrap() });

    let env = vec![
        ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint),
        ("OTEL_BSP_SCHEDULE_DELAY", "200".to_owned()),
    ];
    let scene = scene_in(3, env);
    let cluster = &scene.cluster;
    let traceparent = format!("00-{}-{}-01", "0a".repeat(16), "0b".repeat(8));
    let url = cluster.object(1, "secrets/the-name-of-the-object?w=all");
    let headers = [("traceparent", traceparent.as_str()), ("x-request-id", "the-request")];
    let answer = cluster.http.call("PUT", &url, &headers, b"the value of the object");
    assert_eq!(answer.status, 204, "{}", answer.text());

    let spans = || shared.lock().unwrap().spans.clone();
    let of = |parent: &[u8]| children(&spans(), &TRACE, parent);
    eventually("all spans have come", Duration::from_secs(30), || {
        spans().iter().filter(|(_, span)| span.trace_id == TRACE).count() >= 6
    });
    let [router] = &of(&PARENT)[..] else { panic!("{:?}", of(&PARENT)) };
    let route = "PUT /v1/kv/{bucket}/{*key}";
    assert_eq!(shape(router), ("request-router", route, SpanKind::Server));
    assert_eq!(text(&router.1.attributes, "http.response.status_code"), "204");
    assert_eq!(text(&router.1.attributes, "request_id"), "the-request");
    let [coordinator] = &of(&router.1.span_id)[..] else { panic!("{:?}", spans()) };
    let route = "POST /v1/coordinate/put";
    assert_eq!(shape(coordinator), ("storage-node", route, SpanKind::Server));
    let messages = of(&coordinator.1.span_id);
    let mut peers: Vec<String> =
        messages.iter().map(|message| text(&message.1.attributes, "peer")).collect();
    peers.sort();
    peers.dedup();
    assert_eq!(peers.len(), 2, "one message to each of the other replicas: {messages:?}");
    for message in &messages {
        assert_eq!(shape(message), ("storage-node", "replica merge", SpanKind::Client));
        let [replica] = &of(&message.1.span_id)[..] else { panic!("{:?}", spans()) };
        assert_eq!(shape(replica), ("storage-node", "POST /v1/replica/batch", SpanKind::Server));
    }
    // What was not asked for: traces that began here are sampled, one in a hundred.
    let all = shared.lock().unwrap();
    assert_eq!(all.wrong, Vec::<String>::new());
    for hidden in ["the-name-of-the-object", "the value of the object"] {
        let found = all.raw.windows(hidden.len()).any(|window| window == hidden.as_bytes());
        assert!(!found, "'{hidden}' is in a trace");
    }
}

/// Warnings and errors in the logs of a host, without their times, and how often each was written.
fn troubles(log: &str) -> BTreeMap<String, usize> {
    let mut troubles = BTreeMap::new();
    for line in log.lines() {
        let said = line.split_once(' ').map_or("", |(_, said)| said.trim_start());
        if said.starts_with("WARN") || said.starts_with("ERROR") {
            *troubles.entry(said.to_owned()).or_insert(0) += 1;
        }
    }
    troubles
}

#[test]
fn a_host_that_is_gone_is_one_line_in_the_log_of_each_process_that_misses_it() {
    let scene = scene(3);
    let cluster = &scene.cluster;
    for n in 0..20 {
        let put = cluster.http.put(&cluster.object(1, &format!("b/{n}")), "", b"v");
        assert_eq!(put.status, 204);
    }
    let logs = [(1, Service::Router), (1, Service::Storage), (3, Service::Storage)];
    let before = logs.map(|(host, service)| cluster.log_of(host, service).len());
    cluster.kill(2, Service::Storage);
    // Many at a time, so that no node coordinates them all: one alone would stay the fastest.
    std::thread::scope(|writers| {
        for writer in 0..WRITERS {
            writers.spawn(move || {
                let http = Http::new();
                for n in 0..PUTS / WRITERS {
                    let put = http.put(&cluster.object(1, &format!("b/{writer}-{n}")), "", b"v");
                    assert_eq!(put.status, 204, "{}", put.text());
                }
            });
        }
    });
    for ((host, service), before) in logs.into_iter().zip(before) {
        let told = || troubles(&cluster.log_of(host, service)[before..]);
        let shown = format!("host {host} {}", service.name());
        eventually(&format!("{shown} tells it"), Duration::from_secs(20), || !told().is_empty());
        let told = told();
        assert!(told.values().all(|times| *times == 1), "{shown}: {told:?}");
    }
}

/// Level and configured level of each process that answers, by name of process.
fn levels(text: &str) -> Vec<(String, String, String)> {
    let json: serde_json::Value = serde_json::from_str(text).unwrap();
    let field = |value: &serde_json::Value| value.as_str().unwrap_or("nothing").to_owned();
    let entry = |one: &serde_json::Value| {
        let report = &one["report"];
        (field(&one["process"]), field(&report["level"]), field(&report["configured"]))
    };
    json["processes"].as_array().unwrap().iter().map(entry).collect()
}

#[test]
fn the_level_of_logs_is_changed_while_processes_run_and_a_restart_forgets_it() {
    let scene = secure_scene(1);
    let cluster = &scene.cluster;
    let key = cluster.admin_key();
    let ask = |args: &[&str]| {
        let mut all = vec!["log-level", "--json", "--api-key", &key];
        all.extend_from_slice(args);
        cluster.atoll(&all)
    };
    let told = |args: &[&str]| {
        let output = ask(args);
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        levels(&String::from_utf8_lossy(&output.stdout))
    };
    let all = ["request-router", "storage-node", "membership-svc", "anti-entropy-worker"];
    let expect = |level: &dyn Fn(&str) -> &'static str| -> Vec<_> {
        all.map(|name| (name.to_owned(), level(name).to_owned(), "info".to_owned())).into()
    };
    assert_eq!(told(&[]), expect(&|_| "info"));
    assert_eq!(told(&["warn,service_kit=debug"]), expect(&|_| "warn,service_kit=debug"));
    let lines = || cluster.log_of(1, Service::Storage);
    // A message that is not signed is told at debug, by the part that was asked for.
    let debug = |text: String| text.lines().filter(|line| line.contains("DEBUG")).count();
    let before = debug(lines());
    eventually("the storage node tells more", Duration::from_secs(20), || {
        drop(cluster.http.get(&format!("{}/v1/store", cluster.storage(1))));
        debug(lines()) > before
    });
    let one = ["--process", "storage-node", "trace"];
    assert_eq!(told(&one).len(), 1);
    let changed =
        |name: &str| if name == "storage-node" { "trace" } else { "warn,service_kit=debug" };
    assert_eq!(told(&[]), expect(&changed));
    assert_eq!(told(&["--reset"]), expect(&|_| "info"));
    let before = debug(lines());
    drop(cluster.http.get(&format!("{}/v1/store", cluster.storage(1))));
    assert_eq!(debug(lines()), before);

    for bad in ["debgu", "storage_node", "[x{y=1}]=debug", ""] {
        let output = ask(&[bad]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains("neither a level"), "{bad}: {said}");
    }
    assert!(!ask(&["--node", "nobody", "debug"]).status.success());
    assert_eq!(told(&[]), expect(&|_| "info"), "what was refused changed nothing");

    told(&["error"]);
    cluster.dev("stop", 1, &["--service", "anti-entropy-worker"]);
    cluster.revive(1, Service::Worker);
    let restarted = |name: &str| if name == "anti-entropy-worker" { "info" } else { "error" };
    eventually("the worker has forgotten it", Duration::from_secs(30), || {
        let output = ask(&[]);
        output.status.success()
            && levels(&String::from_utf8_lossy(&output.stdout)) == expect(&restarted)
    });
    let audit = std::fs::read_to_string(cluster.data().join("host-1/audit.log")).unwrap();
    let entered = audit.matches("PUT /v1/admin/log-level").count();
    assert_eq!(entered, 2 * 9, "each change before and after, those that were refused too");
}
