//! The peer client against real servers, and against sockets that misbehave.

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::Extension;
use axum::middleware::from_fn_with_state;
use axum::routing::{any, get, post};
use dynamo_core::id::{ClusterId, Incarnation, NodeId};
use http::{HeaderMap, Method, StatusCode};
use prometheus::Registry;
use service_kit::auth::reloaded::ReloadMetrics;
use service_kit::datadir::write_atomic;
use service_kit::http::error::{ErrorCode, Outcome};
use service_kit::http::server::ServerLimits;
use service_kit::peer::auth::{PeerAuth, PeerAuthConfig, PeerAuthMode};
use service_kit::peer::gate::{PeerContext, PeerGate, require_peer};
use service_kit::peer::{
    NotSentReason, PeerClient, PeerConfig, PeerError, PeerIdentity, PeerMetrics, PeerRequest,
    ProcessRole,
};
use service_kit::time::Clock;
use service_kit::tls::Tls;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::harness::{PATIENCE, metric, serve};

fn identity(cluster: u128) -> PeerIdentity {
    PeerIdentity::new(NodeId(1), Incarnation(4), ProcessRole::Router, Some(ClusterId(cluster)))
}

fn client_with(config: PeerConfig) -> (PeerClient, Registry) {
    let registry = Registry::new();
    let metrics = PeerMetrics::register(&registry).unwrap();
    (PeerClient::new(config, identity(1), Clock::system(), metrics), registry)
}

fn client() -> PeerClient {
    client_with(PeerConfig::default()).0
}

fn request<'a>(address: &'a str, path: &'a str) -> PeerRequest<'a> {
    PeerRequest {
        address,
        method: Method::POST,
        path,
        headers: HeaderMap::new(),
        body: Bytes::from_static(b"body"),
        timeout: PATIENCE,
        idempotent: true,
    }
}

fn routes() -> Router {
    Router::new()
        .route("/echo", post(|body: Bytes| async move { body }))
        .route("/large", any(|| async { vec![b'x'; 100_000] }))
        .route("/moved", any(|| async { (StatusCode::FOUND, [("location", "/echo")]) }))
        .route("/same", any(|| async { StatusCode::NOT_MODIFIED }))
        .route("/never", any(|| async { std::future::pending::<()>().await }))
}

/// A peer that does `act` with each connection it accepts.
async fn odd_peer<F: Future<Output = ()> + Send>(
    act: impl Fn(usize, TcpStream) -> F + Send + 'static,
) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        for number in 0.. {
            let (stream, _) = listener.accept().await.unwrap();
            act(number, stream).await;
        }
    });
    address
}

async fn read_some(stream: &mut TcpStream) -> String {
    let mut buf = [0u8; 4096];
    let received = stream.read(&mut buf).await.unwrap();
    String::from_utf8_lossy(&buf[..received]).into_owned()
}

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

#[tokio::test]
async fn one_connection_serves_many_calls_and_carries_the_identity() {
    let server_registry = Registry::new();
    let (me, tls, clock) = (identity(1), Tls::off(), Clock::system());
    let gate = PeerGate::register(me, &tls, clock, &server_registry).unwrap();
    let whoami = |Extension(context): Extension<PeerContext>| async move {
        let sender = context.sender.map(|s| (s.node, s.incarnation, s.role));
        format!("{sender:?} {}", context.deadline.is_some())
    };
    let router = routes().route("/who", post(whoami)).layer(from_fn_with_state(gate, require_peer));
    let server = serve(router, ServerLimits::peer());
    let address = server.address.to_string();
    let (client, registry) = client_with(PeerConfig::default());
    for _ in 0..20 {
        let answer = client.call(request(&address, "/echo")).await.unwrap();
        assert_eq!((answer.status, &answer.body[..]), (StatusCode::OK, &b"body"[..]));
    }
    let answer = client.call(request(&address, "/who")).await.unwrap();
    let text = String::from_utf8(answer.body.to_vec()).unwrap();
    assert!(text.contains("Incarnation(4), Router") && text.ends_with("true"), "{text}");
    assert_eq!(metric(&registry, "atoll_peer_connects_total"), "1");
    assert_eq!(client.idle_connections(&address), 1);

    let foreign_metrics = PeerMetrics::register(&Registry::new()).unwrap();
    let foreign =
        PeerClient::new(PeerConfig::default(), identity(2), Clock::system(), foreign_metrics);
    let answer = foreign.call(request(&address, "/echo")).await.unwrap();
    let problem = answer.into_success().unwrap_err();
    assert_eq!(problem.code(), ErrorCode::WrongCluster);
    assert_eq!(problem.known_outcome(), Outcome::NotApplied);
}

#[tokio::test]
async fn calls_in_parallel_share_a_bounded_pool() {
    let server = serve(routes(), ServerLimits::peer());
    let address = server.address.to_string();
    let config = PeerConfig { idle_max: 2, connections_max: 4, ..PeerConfig::default() };
    let (client, registry) = client_with(config);
    let calls: Vec<_> = (0..64)
        .map(|_| {
            let (client, address) = (client.clone(), address.clone());
            tokio::spawn(async move { client.call(request(&address, "/echo")).await.is_ok() })
        })
        .collect();
    for call in calls {
        assert!(call.await.unwrap());
    }
    assert!(client.idle_connections(&address) <= 2);
    let connects: u32 = metric(&registry, "atoll_peer_connects_total").parse().unwrap();
    assert!((1..=64).contains(&connects));
    assert_eq!(metric(&registry, "atoll_peer_calls_total{result=\"answered\"}"), "64");
}

#[tokio::test]
async fn what_never_left_is_not_applied() {
    // A port that was ours and is closed: connections to it are refused.
    let closed: SocketAddr = {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        listener.local_addr().unwrap()
    };
    let closed = closed.to_string();
    for (address, path) in [(closed.as_str(), "/echo"), ("no port", "/echo"), (&closed, "no path")]
    {
        let error = client().call(request(address, path)).await.unwrap_err();
        assert!(matches!(error, PeerError::NotSent(_)), "{address} {path}: {error}");
        assert_eq!(error.outcome(), Outcome::NotApplied);
    }
}

#[tokio::test]
async fn a_full_pool_is_a_deadline_before_sending() {
    let server = serve(routes(), ServerLimits::peer());
    let address = server.address.to_string();
    let (client, _) = client_with(PeerConfig { connections_max: 1, ..PeerConfig::default() });
    let (holder, held_address) = (client.clone(), address.clone());
    let held = tokio::spawn(async move { holder.call(request(&held_address, "/never")).await });
    while metric(&server.registry, "atoll_http_connections{") != "1" {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let short = PeerRequest { timeout: Duration::from_millis(50), ..request(&address, "/echo") };
    let error = client.call(short).await.unwrap_err();
    assert_eq!(error, PeerError::NotSent(NotSentReason::Deadline));
    held.abort();
}

#[tokio::test]
async fn what_was_sent_has_an_unknown_outcome() {
    let server = serve(routes(), ServerLimits::peer());
    let address = server.address.to_string();
    let short = PeerRequest { timeout: Duration::from_millis(100), ..request(&address, "/never") };
    let error = client().call(short).await.unwrap_err();
    assert_eq!(error, PeerError::Deadline);
    assert_eq!(error.outcome(), Outcome::Unknown);

    let hangs_up = odd_peer(|_, mut stream| async move {
        read_some(&mut stream).await;
    })
    .await;
    let error = client().call(request(&hangs_up, "/echo")).await.unwrap_err();
    assert!(matches!(error, PeerError::Unknown(_)), "{error}");

    let partial = odd_peer(|_, mut stream| async move {
        read_some(&mut stream).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhal").await.unwrap();
    })
    .await;
    let error = client().call(request(&partial, "/echo")).await.unwrap_err();
    assert!(matches!(error, PeerError::Unknown(_)), "{error}");

    let babble = odd_peer(|_, mut stream| async move {
        stream.write_all(b"SSH-2.0-OpenSSH\r\n").await.unwrap();
        read_some(&mut stream).await;
    })
    .await;
    let error = client().call(request(&babble, "/echo")).await.unwrap_err();
    assert_eq!(error.outcome(), Outcome::Unknown, "{error}");
}

#[tokio::test]
async fn answers_are_capped_and_redirects_refused() {
    let server = serve(routes(), ServerLimits::peer());
    let address = server.address.to_string();
    let config = PeerConfig { response_bytes_max: 50_000, ..PeerConfig::default() };
    let (client, _) = client_with(config);
    let error = client.call(request(&address, "/large")).await.unwrap_err();
    assert_eq!(error, PeerError::TooLarge { limit: 50_000 });
    let error = client.call(request(&address, "/moved")).await.unwrap_err();
    assert!(matches!(error, PeerError::BadResponse(_)), "{error}");
    let same = client.call(request(&address, "/same")).await.unwrap();
    assert_eq!(same.status, StatusCode::NOT_MODIFIED);
    let endless = odd_peer(|_, mut stream| async move {
        read_some(&mut stream).await;
        let head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
        stream.write_all(head).await.unwrap();
        let chunk = [b"4000\r\n".to_vec(), vec![b'x'; 0x4000], b"\r\n".to_vec()].concat();
        while stream.write_all(&chunk).await.is_ok() {}
    })
    .await;
    let error = client.call(request(&endless, "/echo")).await.unwrap_err();
    assert_eq!(error, PeerError::TooLarge { limit: 50_000 });
}

#[tokio::test]
async fn a_stale_connection_is_replaced_once_for_idempotent_calls() {
    // Each connection answers once; the second request on it is read and then cut off.
    let once = |_: usize, mut stream: TcpStream| async move {
        read_some(&mut stream).await;
        stream.write_all(OK).await.unwrap();
        read_some(&mut stream).await;
    };
    let address = odd_peer(move |number, stream| {
        let acting = once(number, stream);
        async move {
            tokio::spawn(acting);
        }
    })
    .await;
    let (client, registry) = client_with(PeerConfig::default());
    client.call(request(&address, "/echo")).await.unwrap();
    let answer = client.call(request(&address, "/echo")).await.unwrap();
    assert_eq!(&answer.body[..], b"ok");
    assert_eq!(metric(&registry, "atoll_peer_stale_retries_total"), "1");

    let once_only = PeerRequest { idempotent: false, ..request(&address, "/echo") };
    let error = client.call(once_only).await.unwrap_err();
    assert_eq!(error.outcome(), Outcome::Unknown, "{error}");
}

#[tokio::test]
async fn names_are_resolved() {
    let server = serve(Router::new().route("/", get(|| async { "x" })), ServerLimits::peer());
    let address = format!("localhost:{}", server.address.port());
    let get = PeerRequest { method: Method::GET, body: Bytes::new(), ..request(&address, "/") };
    assert_eq!(&client().call(get).await.unwrap().body[..], b"x");
}

/// An identity that is proven by the key of `seed`.
fn proven(dir: &std::path::Path, seed: &str) -> PeerIdentity {
    let file = dir.join(seed);
    write_atomic(&file, seed.repeat(4).as_bytes()).unwrap();
    let registry = Registry::new();
    let reloads = ReloadMetrics::register(&registry).unwrap();
    let config = PeerAuthConfig { mode: Some(PeerAuthMode::Hmac), keys_file: Some(file) };
    let auth = PeerAuth::load(&config, Clock::system(), &registry, reloads).unwrap();
    identity(1).proven_by(auth)
}

/// Two receivers behind one address stand for two lives of one.
#[tokio::test]
async fn signed_calls_find_each_new_life_of_their_receiver() {
    let dir = tempfile::tempdir().unwrap();
    let life = |path: &str| {
        let identity = proven(dir.path(), "0123456789abcdef");
        let (tls, clock, registry) = (Tls::off(), Clock::system(), Registry::new());
        let gate = PeerGate::register(identity, &tls, clock, &registry).unwrap();
        let echo = post(|body: Bytes| async move { body });
        Router::new().route(path, echo).layer(from_fn_with_state(gate, require_peer))
    };
    let router = life("/one").merge(life("/two"));
    let server = serve(router, ServerLimits::peer());
    let address = server.address.to_string();
    let client = |seed| {
        let metrics = PeerMetrics::register(&Registry::new()).unwrap();
        let identity = proven(dir.path(), seed);
        PeerClient::new(PeerConfig::default(), identity, Clock::system(), metrics)
    };
    let (ours, foreign) = (client("0123456789abcdef"), client("fedcba9876543210"));
    let large = Bytes::from(vec![7; 300_000]);
    let ask = async |client: &PeerClient, path: &str| {
        let mut call = request(&address, path);
        (call.body, call.idempotent) = (large.clone(), false);
        client.call(call).await.unwrap()
    };
    for path in ["/one", "/one", "/two", "/one", "/two"] {
        let answer = ask(&ours, path).await;
        assert_eq!((answer.status, answer.body == large), (StatusCode::OK, true), "{path}");
        assert_eq!(ask(&foreign, path).await.status, StatusCode::UNAUTHORIZED);
    }
    let calls: Vec<_> = (0..64)
        .map(|_| {
            let (client, address) = (ours.clone(), address.clone());
            tokio::spawn(
                async move { client.call(request(&address, "/one")).await.unwrap().status },
            )
        })
        .collect();
    for call in calls {
        assert_eq!(call.await.unwrap(), StatusCode::OK);
    }
}
