//! The watch against a real publisher that changes, vanishes and lies.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use dynamo_core::id::{Incarnation, NodeId};
use http::header::{ETAG, IF_NONE_MATCH};
use http::{HeaderMap, StatusCode};
use prometheus::Registry;
use service_kit::http::server::ServerLimits;
use service_kit::peer::{PeerClient, PeerConfig, PeerIdentity, PeerMetrics, ProcessRole};
use service_kit::ring_watch::{RingWatch, RingWatchConfig, RingWatchDeps, RingWatchMetrics};
use service_kit::shutdown::Shutdown;
use service_kit::time::Clock;
use tokio::sync::watch;

use crate::harness::{PATIENCE, metric, serve};

/// Publishes the text in the channel; holds a poll until it differs from the caller's.
fn publisher(text: watch::Receiver<String>) -> Router {
    async fn ring(State(text): State<watch::Receiver<String>>, headers: HeaderMap) -> Response {
        let known = headers.get(IF_NONE_MATCH).and_then(|v| v.to_str().ok()).unwrap_or_default();
        let mut text = text.clone();
        let changed = text.wait_for(|now| format!("\"{now}\"") != known);
        match tokio::time::timeout(Duration::from_millis(100), changed).await {
            Ok(Ok(now)) => ([(ETAG, format!("\"{}\"", *now))], now.clone()).into_response(),
            _ => StatusCode::NOT_MODIFIED.into_response(),
        }
    }
    Router::new().route("/v1/ring", get(ring)).with_state(text)
}

struct Watching {
    watch: RingWatch<u64>,
    registry: Registry,
    shutdown: Shutdown,
}

/// Watches numbers.
fn watching(address: &str, cache: &Path) -> Watching {
    let registry = Registry::new();
    let metrics = PeerMetrics::register(&registry).unwrap();
    let identity = PeerIdentity::new(NodeId(1), Incarnation(1), ProcessRole::Router, None);
    let client = PeerClient::new(PeerConfig::default(), identity, Clock::system(), metrics);
    let shutdown = Shutdown::new();
    let mut config = RingWatchConfig::new(vec![address.to_owned()], "/v1/ring");
    config.wait = Duration::from_secs(5);
    config.retry = Duration::from_millis(20);
    config.cache_file = Some(cache.to_owned());
    let deps = RingWatchDeps {
        clock: Clock::system(),
        metrics: RingWatchMetrics::register(&registry).unwrap(),
        shutdown: shutdown.clone(),
    };
    let parse = |bytes: &[u8]| {
        std::str::from_utf8(bytes).map_err(|e| e.to_string())?.parse().map_err(|e| format!("{e}"))
    };
    let watch = RingWatch::start(config, client, deps, parse, |n: &u64| *n);
    Watching { watch, registry, shutdown }
}

async fn until(watching: &Watching, wanted: u64) {
    let mut latest = watching.watch.subscribe();
    let reached = latest.wait_for(|now| now.as_deref() == Some(&wanted));
    tokio::time::timeout(PATIENCE, reached).await.unwrap().unwrap();
}

async fn until_file(path: &Path, wanted: &str) {
    let written = async {
        while std::fs::read_to_string(path).unwrap_or_default() != wanted {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, written).await.unwrap();
}

#[tokio::test]
async fn changes_arrive_and_survive_a_restart_without_the_publisher() {
    let dir = tempfile::tempdir().unwrap();
    let cache = dir.path().join("ring.json");
    let (publish, text) = watch::channel("1".to_owned());
    let server = serve(publisher(text), ServerLimits::peer());
    let address = server.address.to_string();

    let first = watching(&address, &cache);
    assert_eq!(first.watch.first().await.as_deref(), Some(&1));
    for version in 2..5u64 {
        publish.send_replace(version.to_string());
        until(&first, version).await;
    }
    assert!(first.watch.age().is_some());
    until_file(&cache, "4").await;
    assert_eq!(metric(&first.registry, "atoll_ring_watch_version"), "4");

    publish.send_replace("not a number".to_owned());
    while metric(&first.registry, "atoll_ring_watch_polls_total{result=\"failed\"}") == "absent" {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(first.watch.current().as_deref(), Some(&4), "a bad snapshot replaces nothing");
    first.shutdown.request();
    while !first.watch.is_finished() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    server.shutdown.request();
    server.task.await.unwrap();

    let second = watching(&address, &cache);
    assert_eq!(second.watch.current().as_deref(), Some(&4), "the cache is there at once");
    assert_eq!(second.watch.age(), None, "and nobody has confirmed it");
    second.shutdown.request();
}

#[tokio::test]
async fn a_refresh_interrupts_a_long_poll() {
    let dir = tempfile::tempdir().unwrap();
    // A publisher that never ends a long poll, but answers an immediate one with its count.
    let polls = Arc::new(std::sync::atomic::AtomicU64::new(0));
    let router = Router::new().route(
        "/v1/ring",
        get(move |uri: http::Uri| async move {
            if uri.query() != Some("wait_ms=0") {
                std::future::pending::<()>().await;
            }
            let count = polls.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 1;
            ([(ETAG, format!("\"{count}\""))], count.to_string())
        }),
    );
    let server = serve(router, ServerLimits::peer());
    let watching = watching(&server.address.to_string(), &dir.path().join("ring.json"));
    until(&watching, 1).await;
    for wanted in 2..5 {
        watching.watch.refresh_now();
        until(&watching, wanted).await;
    }
}

#[tokio::test]
async fn an_unreadable_cache_is_ignored() {
    let dir = tempfile::tempdir().unwrap();
    let cache = dir.path().join("ring.json");
    std::fs::write(&cache, "garbage").unwrap();
    let (_publish, text) = watch::channel("9".to_owned());
    let server = serve(publisher(text), ServerLimits::peer());
    let watching = watching(&server.address.to_string(), &cache);
    assert_eq!(watching.watch.current(), None);
    until(&watching, 9).await;
    until_file(&cache, "9").await;
}
