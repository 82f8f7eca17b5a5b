//! Keys of clients and of hosts change under load, and nobody notices; whoever has none is refused.

#![allow(clippy::unwrap_used, reason = "a test that fails should panic, also in its helpers")]

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use atoll_client::{Client, Error, Mode};
use dynamo_core::id::{Incarnation, NodeId};
use http::{HeaderMap, Method};
use service_kit::auth::reloaded::ReloadMetrics;
use service_kit::datadir::write_atomic;
use service_kit::peer::auth::{PeerAuth, PeerAuthConfig, PeerAuthMode};
use service_kit::peer::{
    PeerClient, PeerConfig, PeerIdentity, PeerMetrics, PeerRequest, ProcessRole, TcpConnector,
};
use service_kit::time::Clock;
use service_kit::tls::Tls;
use service_kit::tls::config::{Callers, TlsConfig};
use tests::harness::{Cluster, Http, eventually};

use super::scene::secure_scene;

/// Time for a changed file to be seen by all processes of a busy machine.
pub(crate) const RELOAD: Duration = Duration::from_secs(30);

/// Ports of metrics of a host, as offsets.
pub(crate) const METRICS: [u16; 4] = [1, 11, 21, 31];

fn keys(cluster: &Cluster, args: &[&str]) -> String {
    let file = cluster.data().join("keys.json").display().to_string();
    let mut all = vec!["keys"];
    all.extend_from_slice(args);
    all.extend(["--file", &file]);
    cluster.atoll_ok(&all).trim().to_owned()
}

fn status(cluster: &Cluster, host: u16, key: &str, method: &str, target: &str) -> u16 {
    let authorization = format!("Bearer {key}");
    let url = format!("{}{target}", cluster.router(host));
    let headers = [("authorization", authorization.as_str())];
    cluster.http.send(method, &url, &headers, b"").map_or(0, |answer| answer.status)
}

/// Waits until every router takes `key`, or does not.
fn everywhere(cluster: &Cluster, key: &str, taken: bool) {
    eventually("all routers have read the keys", RELOAD, || {
        (1..=cluster.hosts()).all(|k| {
            // Whoever asks often with a key that is not valid is told to wait.
            let wanted: &[u16] = if taken { &[200] } else { &[401, 429] };
            wanted.contains(&status(cluster, k, key, "GET", "/v1/cluster"))
        })
    });
}

/// One value of a metric of a process.
pub(crate) fn metric(http: &Http, cluster: &Cluster, host: u16, offset: u16, line: &str) -> f64 {
    let answer = http.send("GET", &format!("{}/metrics", cluster.url(host, offset)), &[], b"");
    let text = answer.map(|answer| answer.text()).unwrap_or_default();
    let found = text.lines().find_map(|text| text.strip_prefix(line)?.trim().parse().ok());
    found.unwrap_or(0.0)
}

fn rotate_peers(cluster: &Cluster, keys: &[&str], times: f64) {
    write_atomic(&cluster.data().join("peer-keys"), keys.join("\n").as_bytes()).unwrap();
    let line = "atoll_file_reloads_total{file=\"peer_keys\",result=\"ok\"}";
    eventually("all processes have read the keys of peers", RELOAD, || {
        (1..=cluster.hosts()).all(|k| {
            METRICS.iter().all(|offset| metric(&cluster.http, cluster, k, *offset, line) >= times)
        })
    });
}

/// Clients that write and read their own keys until told to stop, with whatever key is current.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
    key: Arc<Mutex<String>>,
    failures: Arc<Mutex<Vec<String>>>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
    runtime: tokio::runtime::Runtime,
}

impl Load {
    /// With the API key `key`, believing the CAs `ca`.
    pub(crate) fn start(cluster: &Cluster, key: &str, ca: &[u8]) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let mut load = Self {
            stop: Arc::default(),
            done: Arc::default(),
            key: Arc::new(Mutex::new(key.to_owned())),
            failures: Arc::default(),
            tasks: Vec::new(),
            runtime,
        };
        let endpoints: Vec<String> = (1..=cluster.hosts()).map(|k| cluster.router(k)).collect();
        for number in 0..4 {
            let (stop, done) = (Arc::clone(&load.stop), Arc::clone(&load.done));
            let (key, failures) = (Arc::clone(&load.key), Arc::clone(&load.failures));
            let (endpoints, ca) = (endpoints.clone(), ca.to_vec());
            load.tasks.push(load.runtime.spawn(async move {
                let mut used = String::new();
                let mut bucket = None;
                for round in 0u64.. {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    let current = key.lock().unwrap().clone();
                    if current != used || bucket.is_none() {
                        let client = Client::builder()
                            .endpoints(endpoints.clone())
                            .api_key(&current)
                            .ca_pem(ca.clone())
                            .timeout(Duration::from_secs(20))
                            .build()
                            .unwrap();
                        bucket = Some(client.bucket("carts"));
                        used = current;
                    }
                    let Some(bucket) = &bucket else { return };
                    let name = format!("{number}-{}", round % 50);
                    let put = bucket.put(&name, format!("{round}")).await.map(drop);
                    let got = bucket.get(&name).await.map(drop);
                    for failed in [put.err(), got.err()].into_iter().flatten() {
                        failures.lock().unwrap().push(format!("{name}: {failed}"));
                    }
                    done.fetch_add(2, Ordering::Relaxed);
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            }));
        }
        load
    }

    /// Waits for some more requests, so that each step of a rotation meets traffic.
    pub(crate) fn go_on(&self) {
        let from = self.done.load(Ordering::Relaxed);
        eventually("the load goes on", Duration::from_secs(60), || {
            self.done.load(Ordering::Relaxed) >= from + 100
        });
    }

    pub(crate) fn finish(self) -> (u64, Vec<String>) {
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            self.runtime.block_on(task).unwrap();
        }
        let failures = self.failures.lock().unwrap().clone();
        (self.done.load(Ordering::Relaxed), failures)
    }
}

#[test]
fn keys_are_rotated_under_load_without_a_failed_request() {
    let scene = secure_scene(3);
    let cluster = &scene.cluster;
    let first = keys(cluster, &["new", "app", "--scope", "read,write", "--bucket", "carts"]);
    everywhere(cluster, &first, true);
    let load = Load::start(cluster, &first, &std::fs::read(cluster.ca_file()).unwrap());
    load.go_on();

    let second = keys(cluster, &["new", "app"]);
    everywhere(cluster, &second, true);
    *load.key.lock().unwrap() = second.clone();
    load.go_on();
    keys(cluster, &["revoke", "app", "--version", "1"]);
    everywhere(cluster, &first, false);
    load.go_on();

    let old = std::fs::read_to_string(cluster.data().join("peer-keys")).unwrap();
    let new = "fedcba9876543210fedcba9876543210fedcba9876543210fedcba9876543210";
    for (times, keys) in
        [(1.0, vec![old.trim(), new]), (2.0, vec![new, old.trim()]), (3.0, vec![new])]
    {
        rotate_peers(cluster, &keys, times);
        load.go_on();
    }

    let (done, failures) = load.finish();
    assert!(done >= 600, "{done}");
    assert!(
        failures.is_empty(),
        "{} of {done}: {:?}",
        failures.len(),
        &failures[..failures.len().min(5)]
    );
    assert_eq!(status(cluster, 1, &second, "GET", "/v1/kv/orders/1"), 403, "another bucket");
    assert_eq!(status(cluster, 1, &second, "POST", "/v1/cluster/stage"), 403);
}

/// What a key permits is the same in every mode of access, also where the client asks storage nodes
/// itself; a client that has no business with them is refused by them.
#[test]
fn scopes_hold_in_every_client_mode() {
    let scene = secure_scene(3);
    let cluster = &scene.cluster;
    let make = |id: &str, scopes: &str, buckets: &str| {
        keys(cluster, &["new", id, "--scope", scopes, "--bucket", buckets])
    };
    let editor = make("editor", "read,write,delete", "carts");
    let reader = make("reader", "read", "carts");
    let writer = make("writer", "write", "carts");
    let elsewhere = make("elsewhere", "read,write,delete", "orders");
    everywhere(cluster, &elsewhere, true);
    let (runtime, _) = cluster.http.parts();
    let _inside = runtime.enter();
    let endpoints: Vec<String> = (1..=3).map(|host| cluster.router(host)).collect();
    let client = |mode: Mode, key: &str| {
        let builder = Client::builder().endpoints(endpoints.clone()).mode(mode);
        let builder = builder.ca_pem(std::fs::read(cluster.ca_file()).unwrap());
        if key.is_empty() { builder } else { builder.api_key(key) }.build().unwrap()
    };
    // Storage nodes look at the file in their own time.
    let known = || {
        let client = client(Mode::PartitionAware, &elsewhere);
        (0..24).all(|n| {
            runtime.block_on(client.bucket("orders").get(n.to_string()).into_future()).is_ok()
        })
    };
    eventually("all storage nodes have read the keys", RELOAD, known);
    for mode in [Mode::Routed, Mode::PartitionAware, Mode::ClientDriven] {
        for (key, id, get, put, delete) in [
            (&editor, "editor", 0, 0, 0),
            (&reader, "reader", 0, 403, 403),
            (&writer, "writer", 403, 0, 403),
            (&elsewhere, "elsewhere", 403, 403, 403),
        ] {
            let bucket = client(mode, key).bucket("carts");
            let name = format!("{mode:?}");
            let ended = runtime.block_on(async {
                let put = bucket.put(&name, "v").await.map(drop);
                let get = bucket.get(&name).await.map(drop);
                (status_of(get), status_of(put), status_of(bucket.delete(&name).await.map(drop)))
            });
            assert_eq!(ended, (get, put, delete), "{mode:?} {id}");
        }
        let nobody = client(mode, "").bucket("carts");
        let error = runtime.block_on(nobody.get("k").into_future()).unwrap_err();
        assert!(error.to_string().contains("API key"), "{mode:?}: {error}");
    }
}

/// A client shows storage nodes no certificate, and so is none of the hosts: not by what it says, not by a
/// signature, not on a route that is for them.
#[test]
fn who_shows_no_certificate_is_a_client_at_storage_nodes() {
    let scene = secure_scene(1);
    let cluster = &scene.cluster;
    let admin = format!("Bearer {}", cluster.admin_key());
    let key = ("authorization", admin.as_str());
    let signature = ("x-atoll-auth", "v1");
    // Headers; the statuses of a route for every key, of one for scopes, and of one for hosts.
    type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], [u16; 3]);
    let cases: [Case<'_>; 4] = [
        ("nothing", &[], [401, 401, 401]),
        // An empty message is none.
        ("a key", &[key], [200, 400, 401]),
        ("a signature", &[signature], [401, 401, 401]),
        ("a key and a signature", &[key, signature], [401, 401, 401]),
    ];
    let routes = [("GET", "/v1/ping"), ("POST", "/v1/replica/batch"), ("GET", "/v1/partitions")];
    let not_believed = || {
        let line = "atoll_peer_refused_total{code=\"unauthorized\"}";
        metric(&cluster.http, cluster, 1, 11, line)
    };
    for (what, headers, statuses) in cases {
        for ((method, path), status) in routes.into_iter().zip(statuses) {
            let before = not_believed();
            let frame = ("content-type", "application/vnd.atoll.frame");
            let headers: Vec<_> = headers.iter().copied().chain([frame]).collect();
            let url = format!("{}{path}", cluster.url(1, 10));
            let answer = cluster.http.send(method, &url, &headers, b"").unwrap();
            assert_eq!(answer.status, status, "{what}: {method} {path}: {}", answer.text());
            let as_host = path == "/v1/partitions" || headers.contains(&signature);
            assert_eq!(not_believed() > before, as_host, "{what}: {method} {path}");
        }
    }
    // The agent and the worker have no clients.
    for offset in [20, 30] {
        let url = format!("{}/v1/ring", cluster.url(1, offset));
        assert!(cluster.http.send("GET", &url, &[key], b"").is_err(), "{offset}");
    }
}

/// The status that a call was refused with; 0 where it was not.
fn status_of(ended: Result<(), Error>) -> u16 {
    let Err(error) = ended else { return 0 };
    error.problem().unwrap_or_else(|| panic!("{error}")).status
}

/// A client of peers, with the certificate of a host, and the keys in `file` or without any.
fn peer(cluster: &Cluster, file: Option<&Path>) -> PeerClient {
    let registry = prometheus::Registry::new();
    let reloads = ReloadMetrics::register(&registry).unwrap();
    let mode = Some(file.map_or(PeerAuthMode::None, |_| PeerAuthMode::Hmac));
    let config = PeerAuthConfig { mode, keys_file: file.map(Path::to_owned) };
    let auth = PeerAuth::load(&config, Clock::system(), &registry, reloads.clone()).unwrap();
    let identity = PeerIdentity::new(NodeId(7), Incarnation(1), ProcessRole::Storage, None);
    let metrics = PeerMetrics::register(&registry).unwrap();
    let named = |name: &str| Some(cluster.data().join(name));
    let tls = TlsConfig {
        cert_file: named("tls.crt"),
        key_file: named("tls.key"),
        ca_file: named("ca.crt"),
        ..TlsConfig::default()
    };
    let clock = Clock::system();
    let tls = Tls::load(&tls, Callers::Peers, &clock, &registry, reloads).unwrap();
    let (config, connector) = (PeerConfig::default(), TcpConnector::secured_by(tls));
    PeerClient::with_connector(config, identity.proven_by(auth), clock, metrics, connector)
}

#[test]
fn a_rogue_peer_is_refused_and_counted() {
    let scene = secure_scene(1);
    let cluster = &scene.cluster;
    let wrong = cluster.data().join("wrong-keys");
    write_atomic(&wrong, b"0123456789abcdef0123456789abcdef").unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let ask = |client: &PeerClient, offset: u16, method: Method, path: &str| {
        let address = cluster.url(1, offset).replace("https://", "");
        let body: &[u8] = if method == Method::GET { b"" } else { b"{}" };
        let request = PeerRequest {
            address: &address,
            method,
            path,
            headers: HeaderMap::new(),
            body: bytes::Bytes::from_static(body),
            timeout: Duration::from_secs(10),
            idempotent: false,
        };
        runtime.block_on(client.call(request)).unwrap().status.as_u16()
    };
    let routes = [
        (10, Method::POST, "/v1/replica/batch"),
        (10, Method::PUT, "/v1/replica/kv/carts/rogue"),
        (10, Method::GET, "/v1/replica/kv/carts/rogue"),
        (10, Method::POST, "/v1/coordinate/put"),
        (10, Method::POST, "/v1/tree/digests"),
        (10, Method::GET, "/v1/partitions"),
        (10, Method::POST, "/v1/reap"),
        (10, Method::GET, "/v1/ping"),
        (20, Method::POST, "/v1/gossip"),
        (20, Method::GET, "/v1/ring"),
        (20, Method::GET, "/v1/cluster"),
        (20, Method::POST, "/v1/cluster/stage"),
        (20, Method::POST, "/v1/local/storage"),
        (20, Method::PUT, "/v1/buckets/b"),
        (30, Method::POST, "/v1/anti-entropy/repair"),
        (30, Method::GET, "/v1/transfers"),
    ];
    for (client, reason) in
        [(peer(cluster, None), "missing"), (peer(cluster, Some(&wrong)), "unknown_key")]
    {
        for (offset, method, path) in &routes {
            let line = format!("atoll_peer_auth_refused_total{{reason=\"{reason}\"}}");
            let count = || metric(&cluster.http, cluster, 1, offset + 1, &line);
            let before = count();
            assert_eq!(ask(&client, *offset, method.clone(), path), 401, "{method} {path}");
            assert!(count() > before, "{method} {path} is counted as {reason}");
        }
    }
    let ours = peer(cluster, Some(&cluster.data().join("peer-keys")));
    assert_eq!(ask(&ours, 20, Method::GET, "/v1/ring"), 200, "a host of the cluster");
    let admin = cluster.admin_key();
    assert_eq!(status(cluster, 1, &admin, "GET", "/v1/kv/carts/rogue"), 404, "nothing was stored");
    assert_eq!(status(cluster, 1, "", "GET", "/v1/kv/carts/rogue"), 401);
}
