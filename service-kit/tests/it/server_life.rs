//! Caps, bounded lives and the orderly end of a server.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use service_kit::http::server::{DrainReport, ServerLimits};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

use crate::harness::{PATIENCE, metric, read_one, read_to_end, routes, serve, serve_draining};

const HELLO: &[u8] = b"GET /hello HTTP/1.1\r\nHost: a\r\n\r\n";

#[tokio::test]
async fn connections_beyond_the_cap_are_refused_and_freed() {
    let mut limits = ServerLimits::client();
    limits.connections_max = 1;
    let server = serve(routes(), limits);
    let mut first = TcpStream::connect(server.address).await.unwrap();
    first.write_all(HELLO).await.unwrap();
    read_one(&mut first).await;
    let mut second = TcpStream::connect(server.address).await.unwrap();
    assert!(read_to_end(&mut second).await.starts_with("HTTP/1.1 503 "));
    drop(first);
    // The slot is free once the server has seen the end of the first connection.
    let again = async {
        loop {
            let mut third = TcpStream::connect(server.address).await.unwrap();
            if third.write_all(HELLO).await.is_ok() && read_one(&mut third).await.ends_with("hello")
            {
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, again).await.unwrap();
}

#[tokio::test]
async fn a_connection_ends_after_its_last_request_and_at_the_end_of_its_life() {
    let mut limits = ServerLimits::client();
    limits.requests_per_connection_max = 2;
    let server = serve(routes(), limits);
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(HELLO).await.unwrap();
    assert!(!read_one(&mut stream).await.contains("connection: close"));
    stream.write_all(HELLO).await.unwrap();
    assert!(read_to_end(&mut stream).await.contains("connection: close"));

    let mut limits = ServerLimits::client();
    limits.header_read_timeout = Duration::from_millis(100);
    limits.connection_lifetime = Some(Duration::from_millis(100));
    let server = serve(routes(), limits);
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(HELLO).await.unwrap();
    assert!(read_to_end(&mut stream).await.ends_with("hello"));
}

/// A route that answers only when a permit is there, and the permits.
fn gated() -> (Router, Arc<Semaphore>, Arc<Semaphore>) {
    let (entered, gate) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let (inside, wait) = (Arc::clone(&entered), Arc::clone(&gate));
    let router = Router::new().route(
        "/hello",
        get(move || async move {
            inside.add_permits(1);
            wait.acquire().await.map(|_| "hello").unwrap_or("closed")
        }),
    );
    (router, entered, gate)
}

#[tokio::test]
async fn a_drain_lets_requests_in_flight_finish() {
    let (router, entered, gate) = gated();
    let server = serve(router, ServerLimits::client());
    let mut idle = TcpStream::connect(server.address).await.unwrap();
    let mut busy = TcpStream::connect(server.address).await.unwrap();
    busy.write_all(HELLO).await.unwrap();
    drop(entered.acquire().await.unwrap());
    server.shutdown.request();
    assert_eq!(read_to_end(&mut idle).await, "", "idle connections end at once");
    gate.add_permits(1);
    let answer = read_to_end(&mut busy).await;
    assert!(answer.ends_with("hello") && answer.contains("connection: close"), "{answer}");
    assert_eq!(server.task.await.unwrap(), DrainReport { aborted: 0 });
    assert!(TcpStream::connect(server.address).await.is_err(), "nobody listens any more");
    assert_eq!(metric(&server.registry, "atoll_http_connections{"), "0");
}

#[tokio::test]
async fn a_drain_has_an_end() {
    let (router, entered, _gate) = gated();
    let server = serve_draining(router, ServerLimits::client(), Duration::from_millis(200));
    let mut busy = TcpStream::connect(server.address).await.unwrap();
    busy.write_all(HELLO).await.unwrap();
    drop(entered.acquire().await.unwrap());
    server.shutdown.request();
    let report = tokio::time::timeout(PATIENCE, server.task).await.unwrap().unwrap();
    assert_eq!(report, DrainReport { aborted: 1 });
    assert_eq!(read_to_end(&mut busy).await, "");
}
