//! A server on a free port and raw connections to it.

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::routing::{any, get};
use prometheus::Registry;
use service_kit::http::body::{BodyLimits, BodyReader, ByteBudget};
use service_kit::http::error::Problem;
use service_kit::http::fallback::with_fallbacks;
use service_kit::http::server::{
    BoundListener, DrainReport, HttpServer, ServerLimits, ServerMetrics,
};
use service_kit::shutdown::Shutdown;
use service_kit::time::Clock;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

/// No test waits longer for anything than this.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Bytes of a body that the test routes take.
pub(crate) const BODY_MAX: usize = 1024 * 1024;

pub(crate) struct TestServer {
    pub(crate) address: SocketAddr,
    pub(crate) registry: Registry,
    pub(crate) shutdown: Shutdown,
    pub(crate) task: JoinHandle<DrainReport>,
}

/// Serves `router` with `limits`, draining for up to ten seconds.
pub(crate) fn serve(router: Router, limits: ServerLimits) -> TestServer {
    serve_draining(router, limits, Duration::from_secs(10))
}

pub(crate) fn serve_draining(router: Router, limits: ServerLimits, drain: Duration) -> TestServer {
    let registry = Registry::new();
    let metrics = ServerMetrics::register(&registry, "api").unwrap();
    let listener = BoundListener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = listener.local_addr();
    let shutdown = Shutdown::new();
    let server = HttpServer::new(limits, metrics, Clock::system());
    let task = tokio::spawn(server.serve(listener, router, shutdown.clone(), drain));
    TestServer { address, registry, shutdown, task }
}

/// `GET /hello` and `/v1/kv/{*key}`, which answers the number of bytes of its body.
pub(crate) fn routes() -> Router {
    let mut limits = BodyLimits::up_to(BODY_MAX);
    limits.rate_grace = Duration::from_millis(300);
    let reader = BodyReader::new(limits, ByteBudget::default());
    let router = Router::new()
        .route("/hello", get(|| async { "hello" }))
        .route("/panic", get(|| async { panicking() }))
        .route("/v1/kv/{*key}", any(count));
    with_fallbacks(router).with_state(reader)
}

fn panicking() -> &'static str {
    panic!("expected by a test")
}

async fn count(State(reader): State<BodyReader>, request: Request) -> Result<String, Problem> {
    let (parts, body) = request.into_parts();
    let held = reader.read(&parts.headers, body).await?;
    Ok(format!("{} bytes", held.bytes().len()))
}

/// Writes `bytes` and reads until the server closes.
pub(crate) async fn exchange(address: SocketAddr, bytes: &[u8], half_close: bool) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    // The server may close before it has taken everything.
    if stream.write_all(bytes).await.is_ok() && half_close {
        stream.shutdown().await.ok();
    }
    read_to_end(&mut stream).await
}

/// Everything until the connection ends, also by a reset.
pub(crate) async fn read_to_end(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    let mut buf = vec![0u8; 64 * 1024];
    let reading = async {
        while let Ok(received @ 1..) = stream.read(&mut buf).await {
            answer.extend_from_slice(&buf[..received]);
        }
    };
    let shown = tokio::time::timeout(PATIENCE, reading).await;
    let text = String::from_utf8_lossy(&answer).into_owned();
    assert!(shown.is_ok(), "the connection stays open after: {text}");
    text
}

/// One answer of known length on a connection that stays open.
pub(crate) async fn read_one(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    let reading = async {
        let mut byte = [0u8; 1];
        loop {
            if stream.read(&mut byte).await.unwrap_or(0) == 0 {
                return;
            }
            answer.push(byte[0]);
            let text = String::from_utf8_lossy(&answer);
            if let Some((head, body)) = text.split_once("\r\n\r\n") {
                let length = head
                    .lines()
                    .find_map(|line| line.strip_prefix("content-length: "))
                    .map_or(0, |digits| digits.trim().parse().unwrap());
                if body.len() >= length {
                    return;
                }
            }
        }
    };
    tokio::time::timeout(PATIENCE, reading).await.expect("an answer in time");
    String::from_utf8(answer).unwrap()
}

/// The value of a metric line that starts with `name`.
pub(crate) fn metric(registry: &Registry, name: &str) -> String {
    let text = service_kit::metrics::encode(registry).unwrap();
    let line = text.lines().find(|line| line.starts_with(name));
    line.and_then(|line| line.rsplit(' ').next()).unwrap_or("absent").to_owned()
}
