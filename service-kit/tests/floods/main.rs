//! Many connections that cost us something and their owner nothing. What is held is bounded by the
//! configured limits, whatever the number of attempts; counts and memory are asserted, never time.
//! A process of its own, and one test at a time, so that its memory is that of the flood.

#![allow(clippy::unwrap_used, reason = "a broken assumption is a failed test")]

#[path = "../it/harness.rs"]
#[expect(dead_code, reason = "shared with tests that need more of it")]
mod harness;

use std::sync::Arc;
use std::time::Duration;

use service_kit::http::server::ServerLimits;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use harness::{PATIENCE, TestServer, exchange, metric, read_one, read_to_end, routes, serve};

const HELLO: &[u8] = b"GET /hello HTTP/1.1\r\nHost: a\r\n\r\n";

/// Connections of the flooded server; small enough for the usual limit of open files, of which
/// each connection takes two here.
const CONNECTIONS: usize = 256;

/// Large heads that are on their way at once: together three times what is allowed in memory.
const BOMBS_AT_ONCE: usize = 250;

/// What the senders of this process and the allocator may take besides.
const SLACK_BYTES: usize = 24 * 1024 * 1024;

/// Resident memory of this process, which is the server and its clients.
fn resident_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    let kib: usize = line.trim().trim_end_matches(" kB").parse().unwrap();
    kib * 1024
}

fn server() -> TestServer {
    let mut limits = ServerLimits::client();
    limits.connections_max = CONNECTIONS;
    serve(routes(), limits)
}

/// What the server may hold for so many connections: a buffer each way.
fn allowed_bytes(connections: usize) -> usize {
    connections * 2 * ServerLimits::client().head_bytes_max + SLACK_BYTES
}

/// Opens `attempts` connections that each send `bytes`, and keeps those that stay open. A refused
/// one is told so by an answer that starts with `refusal`.
async fn flood(server: &TestServer, attempts: usize, bytes: &[u8]) -> Vec<TcpStream> {
    let mut held = Vec::new();
    for _ in 0..attempts {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        if held.len() < CONNECTIONS {
            stream.write_all(bytes).await.unwrap();
            held.push(stream);
            continue;
        }
        let mut answer = [0u8; 12];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 503");
    }
    held
}

/// Idle connections, and heads that stop just below their limit: so many are held, the others are
/// turned away at once, and those that are held still work.
async fn idle_and_half_open_connections_are_bounded() {
    let half = format!("GET /hello HTTP/1.1\r\nHost: a\r\nX: {}", "x".repeat(15 * 1024));
    for (attempts, bytes) in [(10_000, &b""[..]), (2000, half.as_bytes())] {
        let server = server();
        let before = resident_bytes();
        let mut held = flood(&server, attempts, bytes).await;
        assert_eq!(metric(&server.registry, "atoll_http_connections{"), CONNECTIONS.to_string());
        assert_eq!(
            metric(&server.registry, "atoll_http_connections_over_cap_total"),
            (attempts - CONNECTIONS).to_string()
        );
        let grown = resident_bytes().saturating_sub(before);
        assert!(
            grown <= allowed_bytes(CONNECTIONS),
            "{grown} bytes more for {CONNECTIONS} connections"
        );
        let last = held.last_mut().unwrap();
        let rest = if bytes.is_empty() { HELLO } else { b"\r\n\r\n" };
        last.write_all(rest).await.unwrap();
        assert!(read_one(last).await.ends_with("hello"));
    }
}

/// A thousand heads of 380 kB that never end, almost as many at once as there are connections: each
/// is refused at the limit, and none is kept.
async fn unfinished_large_heads_are_refused_within_bounded_memory() {
    let server = server();
    let bomb = format!("GET /hello HTTP/1.1\r\nHost: a\r\nX: {}", "x".repeat(380 * 1024));
    let bomb = Arc::new(bomb);
    let before = resident_bytes();
    let mut peak = before;
    let mut answered = 0;
    for _ in 0..4 {
        let senders: Vec<_> = (0..BOMBS_AT_ONCE)
            .map(|_| {
                let (bomb, address) = (Arc::clone(&bomb), server.address);
                tokio::spawn(async move { exchange(address, bomb.as_bytes(), true).await })
            })
            .collect();
        for sender in senders {
            let answer = sender.await.unwrap();
            assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431 "), "{answer}");
            answered += usize::from(!answer.is_empty());
        }
        peak = peak.max(resident_bytes());
        // The senders may have heard before the server let go: the next ones need its places.
        let places = async {
            while metric(&server.registry, "atoll_http_connections{") != "0" {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, places).await.unwrap();
    }
    assert!(answered > 0, "refusals arrive although the sender is still sending");
    let grown = peak - before;
    assert!(grown <= allowed_bytes(BOMBS_AT_ONCE), "{grown} bytes more at the peak");
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(HELLO).await.unwrap();
    assert!(read_one(&mut stream).await.ends_with("hello"));
    server.shutdown.request();
    assert_eq!(read_to_end(&mut stream).await, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn floods_are_held_within_the_limits() {
    idle_and_half_open_connections_are_bounded().await;
    unfinished_large_heads_are_refused_within_bounded_memory().await;
}
