//! A whole service that speaks TLS, on sockets: who is heard on a port of peers and on one of clients,
//! what is refused at the start, and files that change while it runs.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::routing::get;
use dynamo_core::id::{Incarnation, NodeId};
use http::{HeaderMap, Method};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use service_kit::config::EXIT_CONFIG;
use service_kit::http::server::ServerLimits;
use service_kit::launch::{CommonFlags, ServiceContext, run};
use service_kit::metrics::encode;
use service_kit::peer::gate::require_peer;
use service_kit::peer::{PeerIdentity, PeerRequest, ProcessRole};
use service_kit::shutdown::Shutdown;
use service_kit::tls::authority::{Authority, Issued};
use service_kit::tls::config::{Callers, TlsConfig};
use time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::harness::{PATIENCE, exchange};
use crate::launch::{Brief, Settings};

const DAY: Duration = Duration::DAY;

/// Files of a `[tls]` table in a directory.
struct Files {
    dir: tempfile::TempDir,
}

impl Files {
    fn new(ca: &Authority, host: &Issued) -> Self {
        let files = Self { dir: tempfile::tempdir().unwrap() };
        files.write("ca.crt", &ca.pem());
        files.write("tls.crt", &host.cert_pem);
        files.write("tls.key", &host.key_pem);
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        service_kit::datadir::write_atomic(&self.path(name), text.as_bytes()).unwrap();
    }

    fn config(&self) -> TlsConfig {
        TlsConfig {
            cert_file: Some(self.path("tls.crt")),
            key_file: Some(self.path("tls.key")),
            ca_file: Some(self.path("ca.crt")),
            ..TlsConfig::default()
        }
    }
}

/// A service in this process: `/hello` for everybody, `/peer` for identified peers.
struct Served {
    address: SocketAddr,
    context: ServiceContext<Settings>,
    task: tokio::task::JoinHandle<()>,
}

impl Served {
    fn start(tls: TlsConfig, callers: Callers) -> Self {
        let settings = Settings::secured(tls, callers);
        let context = ServiceContext::new("test", settings, Shutdown::new()).unwrap();
        let identity = PeerIdentity::new(NodeId(1), Incarnation(1), ProcessRole::Storage, None);
        let gate = context.peer_gate(identity).unwrap();
        let peers = Router::new().route("/peer", get(|| async { "peer" }));
        let router = Router::new()
            .route("/hello", get(|| async { "hello" }))
            .merge(peers.layer(from_fn_with_state(gate, require_peer)));
        let listeners = context.bind().unwrap();
        let address = listeners.api_addr();
        let served = context.clone();
        let task = tokio::spawn(async move {
            served.serve_pair(listeners, router, ServerLimits::peer()).await.unwrap();
        });
        Self { address, context, task }
    }

    fn metric(&self, line: &str) -> String {
        let text = encode(&self.context.registry).unwrap();
        let found = text.lines().find_map(|text| text.strip_prefix(line));
        found.unwrap_or("absent").trim().to_owned()
    }

    async fn stop(self) {
        self.context.shutdown.request();
        tokio::time::timeout(PATIENCE, self.task).await.unwrap().unwrap();
    }
}

/// A client of some version that believes `ca` and presents `shown`.
fn client(
    ca: &Authority,
    shown: Option<&Issued>,
    version: &'static SupportedProtocolVersion,
) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca.pem().as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots);
    let config = match shown {
        None => builder.with_no_client_auth(),
        Some(shown) => {
            let cert = CertificateDer::from_pem_slice(shown.cert_pem.as_bytes()).unwrap();
            let key = PrivateKeyDer::from_pem_slice(shown.key_pem.as_bytes()).unwrap();
            builder.with_client_auth_cert(vec![cert], key).unwrap()
        }
    };
    Arc::new(config)
}

/// `GET /hello`; the answer, or why there is none.
async fn hello(address: SocketAddr, config: Arc<ClientConfig>) -> Result<String, String> {
    send(address, config, b"GET /hello HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await
}

/// Everything that is answered to `bytes`, or why there is nothing.
async fn send(
    address: SocketAddr,
    config: Arc<ClientConfig>,
    bytes: &[u8],
) -> Result<String, String> {
    let asking = async {
        let stream = TcpStream::connect(address).await?;
        let name = ServerName::try_from("atoll").unwrap();
        let mut stream = TlsConnector::from(config).connect(name, stream).await?;
        stream.write_all(bytes).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok::<_, std::io::Error>(answer)
    };
    let answer = tokio::time::timeout(PATIENCE, asking).await.expect("an end in time");
    answer.map_err(|error| error.to_string())
}

#[tokio::test]
async fn only_hosts_of_the_cluster_are_heard_on_a_port_of_peers() {
    let (ca, foreign) = (Authority::new("ours", DAY).unwrap(), Authority::new("x", DAY).unwrap());
    let host = ca.issue(&["atoll"], DAY).unwrap();
    let files = Files::new(&ca, &host);
    let peers = Served::start(files.config(), Callers::Peers);
    let clients = Served::start(files.config(), Callers::Clients);
    let (tls13, tls12) = (&rustls::version::TLS13, &rustls::version::TLS12);
    let of_foreign = foreign.issue(&["atoll"], DAY).unwrap();
    let nameless = ca.issue(&["other"], DAY).unwrap();
    let expired = ca.issue(&["atoll"], -Duration::MINUTE).unwrap();
    // What is presented, in which version; heard by peers, and why not; heard as a client.
    let cases = [
        ("a host", Some(&host), tls13, Ok(()), true),
        ("nothing", None, tls13, Err("no_certificate"), true),
        ("another CA", Some(&of_foreign), tls13, Err("certificate"), true),
        ("another name", Some(&nameless), tls13, Err("certificate"), true),
        ("expired", Some(&expired), tls13, Err("expired"), true),
        ("TLS 1.2", Some(&host), tls12, Err("version"), false),
    ];
    for (what, shown, version, as_peer, as_client) in cases {
        let count = |reason: &str| {
            let name = "atoll_tls_handshakes_failed_total{listener=\"api\",reason";
            peers.metric(&format!("{name}=\"{reason}\"}}")).parse::<u64>().unwrap()
        };
        let before = as_peer.err().map(count);
        let config = client(&ca, shown, version);
        let answer = hello(peers.address, Arc::clone(&config)).await;
        assert_eq!(answer.is_ok(), as_peer.is_ok(), "{what}: {answer:?}");
        let counted = as_peer.err().map(|reason| count(reason) - 1);
        assert_eq!(counted, before, "{what} is counted once");
        let answer = hello(clients.address, config).await;
        assert_eq!(answer.is_ok(), as_client, "{what} as a client: {answer:?}");
    }
    let believes_others = hello(clients.address, client(&foreign, None, tls13)).await;
    assert!(believes_others.is_err(), "a client that does not know our CA leaves");
    peers.stop().await;
    clients.stop().await;
}

/// A port of both: whoever shows nothing is a client, and no host whatever it says.
#[tokio::test]
async fn a_client_without_a_certificate_is_heard_on_a_port_of_both_and_is_no_host() {
    let (ca, foreign) = (Authority::new("ours", DAY).unwrap(), Authority::new("x", DAY).unwrap());
    let host = ca.issue(&["atoll"], DAY).unwrap();
    let files = Files::new(&ca, &host);
    let both = Served::start(files.config(), Callers::PeersAndClients);
    let of_foreign = foreign.issue(&["atoll"], DAY).unwrap();
    let nameless = ca.issue(&["other"], DAY).unwrap();
    let expired = ca.issue(&["atoll"], -Duration::MINUTE).unwrap();
    let signed = "x-atoll-auth: a\r\n";
    // What is presented and said; the status behind the gate, and how often it is counted there.
    let cases = [
        // A host that says nothing of itself: that is found after its certificate.
        ("a host", Some(&host), "", 400, 0),
        ("nothing", None, "", 401, 1),
        ("a signature", None, signed, 401, 1),
    ];
    let refused = || both.metric("atoll_peer_refused_total{code=\"unauthorized\"}");
    for (what, shown, said, status, counted) in cases {
        let config = client(&ca, shown, &rustls::version::TLS13);
        let heard = hello(both.address, Arc::clone(&config)).await.unwrap();
        assert!(heard.starts_with("HTTP/1.1 200"), "{what}: {heard}");
        let before: u64 = refused().parse().unwrap();
        let request = format!("GET /peer HTTP/1.1\r\nHost: a\r\n{said}Connection: close\r\n\r\n");
        let answer = send(both.address, config, request.as_bytes()).await.unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{what}: {answer}");
        assert_eq!(refused().parse::<u64>().unwrap(), before + counted, "{what}");
    }
    for (what, shown, reason) in [
        ("another CA", &of_foreign, "certificate"),
        ("another name", &nameless, "certificate"),
        ("expired", &expired, "expired"),
    ] {
        let name = "atoll_tls_handshakes_failed_total{listener=\"api\",reason";
        let count = || both.metric(&format!("{name}=\"{reason}\"}}")).parse::<u64>().unwrap();
        let before = count();
        let config = client(&ca, Some(shown), &rustls::version::TLS13);
        let answer = hello(both.address, config).await;
        assert!(answer.is_err(), "{what}: {answer:?}");
        assert_eq!(count(), before + 1, "{what}");
    }
    both.stop().await;
}

#[tokio::test]
async fn what_is_not_tls_is_closed_and_nobody_waits_for_who_says_nothing() {
    let ca = Authority::new("ours", DAY).unwrap();
    let files = Files::new(&ca, &ca.issue(&["atoll"], DAY).unwrap());
    let served = Served::start(files.config(), Callers::Clients);
    // Connected before all others, and silent: the loop goes on without them.
    let mut silent = Vec::new();
    for _ in 0..20 {
        silent.push(TcpStream::connect(served.address).await.unwrap());
    }
    let plain: &[u8] = b"GET /hello HTTP/1.1\r\nHost: a\r\n\r\n";
    for bytes in [plain, b"\x16\x03\x01\xff\xff", &[0u8; 2000], b"\x80\x2e\x01\x03\x00"] {
        let answer = exchange(served.address, bytes, true).await;
        assert!(!answer.contains("HTTP"), "{answer}");
    }
    let good = client(&ca, None, &rustls::version::TLS13);
    assert!(hello(served.address, Arc::clone(&good)).await.unwrap().ends_with("hello"));
    // What is wrong inside is refused as on a plain port, problem and all.
    let refused = send(served.address, good, b"GET /hello HTTP/1.1\r\nHost\r\n\r\n").await.unwrap();
    assert!(refused.starts_with("HTTP/1.1 400") && refused.contains("\"status\":400"), "{refused}");
    let failed = "atoll_tls_handshakes_failed_total{listener=\"api\",reason=\"not_tls\"}";
    assert!(served.metric(failed).parse::<u64>().unwrap() >= 2, "{}", served.metric(failed));
    // Those that say nothing do not hold up the stop either.
    served.stop().await;
    drop(silent);
}

#[tokio::test]
async fn a_certificate_that_names_nodes_speaks_for_these_alone() {
    let ca = Authority::new("ours", DAY).unwrap();
    let files = Files::new(&ca, &ca.issue(&["atoll"], DAY).unwrap());
    let served = Served::start(files.config(), Callers::Peers);
    let of_seven = format!("node-{}.atoll", NodeId(7));
    let of_none = format!("node-{}.elsewhere", NodeId(7));
    let any = ProcessRole::Storage;
    let cases: [(&[&str], u128, ProcessRole, u16); 5] = [
        (&["atoll"], 8, any, 200),
        (&["atoll", &of_seven], 7, any, 200),
        (&["atoll", &of_seven], 8, any, 401),
        (&["atoll", &of_seven], 8, ProcessRole::Router, 200),
        (&["atoll", &of_none], 8, any, 200),
    ];
    for (names, node, role, status) in cases {
        let files = Files::new(&ca, &ca.issue(names, DAY).unwrap());
        let settings = Settings::secured(files.config(), Callers::Peers);
        let context = ServiceContext::new("caller", settings, Shutdown::new()).unwrap();
        let identity = PeerIdentity::new(NodeId(node), Incarnation(1), role, None);
        let caller = context.peer_client(identity);
        let address = served.address.to_string();
        for _ in 0..2 {
            let request = PeerRequest {
                address: &address,
                method: Method::GET,
                path: "/peer",
                headers: HeaderMap::new(),
                body: bytes::Bytes::new(),
                timeout: PATIENCE,
                idempotent: true,
            };
            let answer = caller.call(request).await.unwrap();
            assert_eq!(answer.status.as_u16(), status, "{names:?} {node} {role:?}");
        }
        assert_eq!(caller.idle_connections(&address), 1, "the connection is kept");
    }
    served.stop().await;
}

#[tokio::test]
async fn changed_files_are_used_and_bad_ones_are_not() {
    let (old, new) = (Authority::new("old", DAY).unwrap(), Authority::new("new", DAY).unwrap());
    let files = Files::new(&old, &old.issue(&["atoll"], DAY).unwrap());
    let served = Served::start(files.config(), Callers::Peers);
    let tls13 = &rustls::version::TLS13;
    let expires = "atoll_tls_certificate_expires_timestamp_seconds";
    let first = served.metric(expires);
    let reloads = |result: &str| {
        served.metric(&format!("atoll_file_reloads_total{{file=\"tls\",result=\"{result}\"}}"))
    };
    let until = async |result: &str, count: &str| {
        let seen = async {
            while reloads(result) != count {
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, seen).await.expect("the change is seen");
    };
    // A certificate without its key: nothing changes.
    let host = new.issue(&["atoll"], DAY * 3).unwrap();
    files.write("tls.crt", &host.cert_pem);
    until("failed", "1").await;
    assert_eq!(served.metric("atoll_file_stale{file=\"tls\"}"), "1");
    let of_old = old.issue(&["atoll"], DAY).unwrap();
    assert!(hello(served.address, client(&old, Some(&of_old), tls13)).await.is_ok());
    // Both, and a CA that knows them.
    files.write("ca.crt", &new.pem());
    files.write("tls.key", &host.key_pem);
    until("ok", "1").await;
    assert_eq!(served.metric("atoll_file_stale{file=\"tls\"}"), "0");
    assert_ne!(served.metric(expires), first);
    assert!(hello(served.address, client(&new, Some(&host), tls13)).await.is_ok());
    assert!(hello(served.address, client(&old, Some(&of_old), tls13)).await.is_err());
    served.stop().await;
}

#[test]
fn a_start_with_files_of_no_use_is_refused() {
    let (ca, other) = (Authority::new("ours", DAY).unwrap(), Authority::new("x", DAY).unwrap());
    let host = ca.issue(&["atoll"], DAY).unwrap();
    let expired = ca.issue(&["atoll"], -Duration::MINUTE).unwrap();
    type Spoil<'a> = &'a dyn Fn(&Files);
    let mode = |name: &'static str, bits: u32| {
        move |files: &Files| {
            let permissions = std::fs::Permissions::from_mode(bits);
            std::fs::set_permissions(files.path(name), permissions).unwrap();
        }
    };
    let (key_of_other, foreign) =
        (other.issue(&["atoll"], DAY).unwrap(), other.issue(&["atoll"], DAY).unwrap());
    let nameless = ca.issue(&["localhost"], DAY).unwrap();
    let put = |issued: &Issued| {
        let issued = issued.clone();
        move |files: &Files| {
            files.write("tls.crt", &issued.cert_pem);
            files.write("tls.key", &issued.key_pem);
        }
    };
    let cases: [(&str, Spoil<'_>, Result<(), &str>); 11] = [
        ("good", &|_| {}, Ok(())),
        ("expired", &put(&expired), Err("tls.cert_file")),
        ("other CA", &put(&foreign), Err("tls.cert_file")),
        ("no cluster name", &put(&nameless), Err("tls.cert_file")),
        ("no certificate", &|f| f.write("tls.crt", "x"), Err("tls.cert_file")),
        ("other key", &|f| f.write("tls.key", &key_of_other.key_pem), Err("tls.key_file")),
        ("no key", &|f| f.write("tls.key", &host.cert_pem), Err("tls.key_file")),
        ("open key", &mode("tls.key", 0o640), Err("tls.key_file")),
        ("missing key", &|f| std::fs::remove_file(f.path("tls.key")).unwrap(), Err("tls.key_file")),
        ("missing CA", &|f| std::fs::remove_file(f.path("ca.crt")).unwrap(), Err("tls.ca_file")),
        ("no CA", &|f| f.write("ca.crt", ""), Err("tls.ca_file")),
    ];
    for (what, spoil, expected) in cases {
        let files = Files::new(&ca, &host);
        spoil(&files);
        let settings = Settings::secured(files.config(), Callers::Peers);
        let made = ServiceContext::new("test", settings, Shutdown::new()).map(drop);
        let refused = made.map_err(|error| error.to_string());
        assert_eq!(refused.is_ok(), expected.is_ok(), "{what}: {refused:?}");
        let line = refused.err().unwrap_or_default();
        assert!(line.starts_with(expected.err().unwrap_or_default()), "{what}: {line}");
        assert!(!line.contains('\n'), "{what}: {line}");
        let code = if expected.is_ok() { 0 } else { EXIT_CONFIG };
        assert_eq!(run::<Brief>(&flags(files.dir.path()), vec![]), ExitCode::from(code), "{what}");
    }
}

fn flags(dir: &Path) -> CommonFlags {
    let set = |key: &str, file: &str| format!("tls.{key}={}", dir.join(file).display());
    let files = [("cert_file", "tls.crt"), ("key_file", "tls.key"), ("ca_file", "ca.crt")];
    let set = files.map(|(key, file)| set(key, file)).to_vec();
    CommonFlags { set, ..CommonFlags::default() }
}
