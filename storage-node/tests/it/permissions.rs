//! Who may do what: every API key against every route of the node's own table, and against every
//! effect that depends on the message, where hosts sign and where they have certificates. A route that
//! is not in the table here fails.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dynamo_core::clock::record::Record;
use dynamo_core::entropy::SplitMix;
use dynamo_core::id::{Incarnation, PutId};
use dynamo_core::key::ObjectKey;
use dynamo_core::params::{Durability, Quorum, WriteQuorum};
use dynamo_core::time::WallMs;
use dynamo_core::wire::coordinate::{
    COORDINATE_GET_PATH, COORDINATE_PUT_PATH, Condition, ContentDto, GetMessage, PutMessage,
};
use dynamo_core::wire::frame::{FRAME_CONTENT_TYPE, encode_frame};
use dynamo_core::wire::headers::BACKGROUND;
use dynamo_core::wire::replica::{REPLICA_BATCH_PATH, ReplicaOp, encode_request};
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method};
use hyper_util::rt::TokioIo;
use prometheus::Registry;
use service_kit::auth::api_key::{KeyDigest, mint};
use service_kit::auth::config::AuthMode;
use service_kit::auth::key_file::{KeyEntry, KeyFile, KeyVersion, Timestamp};
use service_kit::auth::scope::Scope;
use service_kit::datadir::write_atomic;
use service_kit::launch::ServiceContext;
use service_kit::peer::auth::{PeerAuthConfig, PeerAuthMode};
use service_kit::peer::{
    Connector, PeerClient, PeerConfig, PeerIdentity, PeerMetrics, PeerRequest, PeerResponse,
    PeerStream, ProcessRole,
};
use service_kit::rng::OsEntropy;
use service_kit::shutdown::Shutdown;
use service_kit::time::Clock;
use service_kit::tls::authority::Authority;
use service_kit::tls::plain_client;
use storage_node::api::routes::{self, Need};
use storage_node::config::StorageConfig;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;

use crate::agent::CLUSTER;
use crate::cluster::{Cluster, node};

/// What each route needs. Written by hand, so that a change of the node's table is noticed.
const ROUTES: [(&str, &str, Need); 23] = [
    ("POST", "/v1/coordinate/get", Need::Permitted),
    ("POST", "/v1/coordinate/put", Need::Permitted),
    ("POST", "/v1/replica/batch", Need::Permitted),
    ("GET", "/v1/replica/kv/{bucket}/{*key}", Need::Host),
    ("PUT", "/v1/replica/kv/{bucket}/{*key}", Need::Host),
    ("GET", "/v1/hints", Need::Host),
    ("POST", "/v1/hints/sync-point", Need::Host),
    ("GET", "/v1/hints/sync-point/{id}", Need::Host),
    ("GET", "/v1/store", Need::Host),
    ("GET", "/v1/load", Need::Host),
    ("GET", "/v1/peers", Need::Host),
    ("GET", "/v1/admin/log-level", Need::Host),
    ("PUT", "/v1/admin/log-level", Need::Host),
    ("POST", "/v1/tree/digests", Need::Host),
    ("POST", "/v1/tree/keys", Need::Host),
    ("GET", "/v1/partitions", Need::Host),
    ("POST", "/v1/partitions/{partition}/page", Need::Host),
    ("POST", "/v1/partitions/hold", Need::Host),
    ("POST", "/v1/partitions/release", Need::Host),
    ("POST", "/v1/partitions/drop", Need::Host),
    ("POST", "/v1/reap/check", Need::Host),
    ("POST", "/v1/reap", Need::Host),
    ("GET", "/v1/ping", Need::Known),
];

/// Keys by name: scopes, and the buckets they are for.
const KEYS: [(&str, &[Scope], &str); 7] = [
    ("reader", &[Scope::Read], "*"),
    ("writer", &[Scope::Write], "b*"),
    ("deleter", &[Scope::Delete], "*"),
    ("editor", &[Scope::Read, Scope::Write, Scope::Delete], "?"),
    ("elsewhere", &[Scope::Read, Scope::Write, Scope::Delete], "elsewhere"),
    ("admin", &[Scope::Admin], "*"),
    ("root", &Scope::ALL, "*"),
];

/// The text of a key; always the same for a name.
fn text(name: &str) -> String {
    let seed = name.bytes().fold(7, |seed, byte| seed * 31 + u64::from(byte));
    mint(&name.parse().unwrap(), &mut SplitMix::new(seed))
}

/// Settings with everything that protects a node. The files lie beside the nodes' data.
fn secured(config: &mut StorageConfig) {
    let root = config.data_dir.parent().unwrap().to_owned();
    let (peers, keys) = (root.join("peer-keys"), root.join("keys.json"));
    let entry = |(name, scopes, buckets): &(&str, &[Scope], &str)| KeyEntry {
        id: name.parse().unwrap(),
        scopes: scopes.to_vec(),
        buckets: vec![buckets.parse().unwrap()],
        requests_per_s: None,
        requests_at_once: None,
        versions: vec![KeyVersion {
            version: 1,
            sha256: KeyDigest::of(&text(name)),
            created_at: Timestamp(WallMs(0)),
            expires_at: None,
            revoked_at: None,
        }],
    };
    let file = KeyFile { format: 1, keys: KEYS.iter().map(entry).collect() };
    write_atomic(&keys, &file.to_json().unwrap()).unwrap();
    write_atomic(&peers, b"0123456789abcdef0123456789abcdef").unwrap();
    config.peer_auth.mode = Some(PeerAuthMode::Hmac);
    config.peer_auth.keys_file = Some(peers);
    config.auth.mode = Some(AuthMode::Keys);
    config.auth.keys_file = Some(keys);
}

/// As [`secured`], and hosts know each other by certificates instead of signatures.
fn certified(config: &mut StorageConfig) {
    secured(config);
    config.peer_auth = PeerAuthConfig::default();
    let root = config.data_dir.parent().unwrap().to_owned();
    let [ca, cert, key] = ["ca.crt", "tls.crt", "tls.key"].map(|name| root.join(name));
    if !ca.exists() {
        let authority = Authority::new("ours", time::Duration::DAY).unwrap();
        let host = authority.issue(&["atoll"], time::Duration::DAY).unwrap();
        write_atomic(&cert, host.cert_pem.as_bytes()).unwrap();
        write_atomic(&key, host.key_pem.as_bytes()).unwrap();
        write_atomic(&ca, authority.pem().as_bytes()).unwrap();
    }
    config.tls.cert_file = Some(cert);
    config.tls.key_file = Some(key);
    config.tls.ca_file = Some(ca);
}

/// How hosts know each other, by its name.
type Protection = (&'static str, fn(&mut StorageConfig));

/// The ways in which they do, of which a node that asks clients for keys has one.
const PROTECTIONS: [Protection; 2] = [("signatures", secured), ("certificates", certified)];

/// Connects without a certificate, over TLS where the nodes speak it.
struct Showless(Option<Arc<ClientConfig>>);

impl Connector for Showless {
    type Stream = TokioIo<PeerStream>;

    async fn connect(&self, address: &str) -> io::Result<Self::Stream> {
        let stream = TcpStream::connect(address).await?;
        let Some(config) = self.0.clone() else {
            return Ok(TokioIo::new(PeerStream::Clear(stream)));
        };
        let name = ServerName::try_from("atoll").unwrap();
        let stream = TlsConnector::from(config).connect(name, stream).await?;
        Ok(TokioIo::new(PeerStream::Tls(Box::new(stream))))
    }
}

/// Somebody with nothing that hosts have, who nonetheless says to be node 2, in a later life.
fn stranger(cluster: &Cluster) -> PeerClient<Showless> {
    let incarnation = Incarnation(u64::MAX);
    let identity = PeerIdentity::new(node(2), incarnation, ProcessRole::Storage, Some(CLUSTER));
    let metrics = PeerMetrics::register(&Registry::new()).unwrap();
    let ca = cluster.data_dir(1).with_file_name("ca.crt");
    let config = ca.exists().then(|| Arc::new(plain_client(Some(&ca)).unwrap()));
    let (limits, clock) = (PeerConfig::default(), Clock::system());
    PeerClient::with_connector(limits, identity, clock, metrics, Showless(config))
}

/// A message: where it goes, its frame, and whether it says that it is background work.
type Message = (&'static str, Bytes, bool);

async fn send<C: Connector>(
    sender: &PeerClient<C>,
    to: SocketAddr,
    key: Option<&str>,
    method: Method,
    message: Message,
) -> PeerResponse {
    let (path, body, background) = message;
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(FRAME_CONTENT_TYPE));
    if let Some(key) = key {
        headers.insert(AUTHORIZATION, format!("Bearer {key}").parse().unwrap());
    }
    if background {
        headers.insert(BACKGROUND, HeaderValue::from_static("transfer"));
    }
    let request = PeerRequest {
        address: &to.to_string(),
        method,
        path,
        headers,
        body,
        timeout: Duration::from_secs(5),
        idempotent: false,
    };
    sender.call(request).await.unwrap()
}

fn get(explain: bool) -> Message {
    let message = GetMessage {
        bucket: "b".to_owned(),
        key: Bytes::from_static(b"k"),
        r: None,
        pr: None,
        notfound_ok: None,
        values: true,
        explain,
    };
    (COORDINATE_GET_PATH, encode_frame(&message, &[]).unwrap(), false)
}

/// A put of `value`, or a delete.
fn change(value: Option<&str>) -> PutMessage {
    let value = value.map(|text| ContentDto::Value {
        len: text.len(),
        content_type: None,
        meta: Vec::new(),
        expires_at: None,
    });
    PutMessage {
        bucket: "b".to_owned(),
        key: Bytes::from_static(b"k"),
        put_id: PutId::random(&mut OsEntropy),
        context: None,
        content: value.unwrap_or(ContentDto::Tombstone),
        w: None,
        pw: None,
        durability: None,
        return_body: false,
        condition: None,
    }
}

fn put(message: &PutMessage) -> Message {
    let body = match message.content {
        ContentDto::Value { len, .. } => vec![Bytes::from(vec![b'v'; len])],
        ContentDto::Tombstone => Vec::new(),
    };
    (COORDINATE_PUT_PATH, encode_frame(message, &body).unwrap(), false)
}

fn batch(op: &ReplicaOp, background: bool) -> Message {
    (REPLICA_BATCH_PATH, encode_request([op]).unwrap(), background)
}

fn object() -> ObjectKey {
    ObjectKey::new("b".parse().unwrap(), Bytes::from_static(b"k")).unwrap()
}

/// Every effect, and the scopes that it needs; `None` where no client may ever have it.
fn effects() -> Vec<(&'static str, Message, Option<&'static [Scope]>)> {
    use Scope::{Admin, Delete, Read, Write};
    let read = ReplicaOp::Read { object: object(), unless: None, token: true, put: None };
    let merge = ReplicaOp::Merge {
        object: object(),
        record: Record::default(),
        hint_for: None,
        durability: Durability::Fsync,
        puts: Vec::new(),
    };
    let seen = PutMessage { return_body: true, ..change(Some("v")) };
    let condition = Some(Condition::Exists);
    let conditional = PutMessage { condition, ..change(Some("v")) };
    vec![
        ("get", get(false), Some(&[Read])),
        ("explain", get(true), Some(&[Read, Admin])),
        ("put", put(&change(Some("v"))), Some(&[Write])),
        ("put and see", put(&seen), Some(&[Write, Read])),
        ("put if", put(&conditional), Some(&[Write, Read])),
        ("delete", put(&change(None)), Some(&[Delete])),
        ("read a replica", batch(&read, false), Some(&[Read])),
        ("read in the background", batch(&read, true), None),
        ("bring a record", batch(&merge, false), None),
    ]
}

#[test]
fn every_route_has_its_entry_here() {
    let served: BTreeMap<(String, String), Need> = routes::table()
        .into_iter()
        .flat_map(|route| {
            let of = move |(method, need): (&'static str, Need)| {
                ((method.to_owned(), route.pattern.to_owned()), need)
            };
            route.methods.into_iter().map(of)
        })
        .collect();
    let listed = ROUTES
        .iter()
        .map(|(method, pattern, need)| (((*method).to_owned(), (*pattern).to_owned()), *need));
    assert_eq!(served, listed.collect());
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_may_do_what_their_scopes_say_and_nothing_of_what_hosts_do() {
    for (protection, protected) in PROTECTIONS {
        let cluster = Cluster::start_with(3, protected).await;
        let (client, to) = (stranger(&cluster), cluster.address(1));
        for (name, scopes, buckets) in KEYS {
            let key = text(name);
            // Buckets do not bind administrators.
            let has = |scope: &Scope| {
                scopes.contains(scope) && (*scope == Scope::Admin || buckets != "elsewhere")
            };
            for (what, message, needed) in effects() {
                let answer = send(&client, to, Some(&key), Method::POST, message).await;
                let may = needed.is_some_and(|needed| needed.iter().all(has));
                let status = answer.status.as_u16();
                let shown = format!("{protection}: {name}: {what}: {status} {:?}", answer.body);
                assert_eq!(status != 403, may, "{shown}");
                assert!([200, 403, 412].contains(&status), "{shown}");
            }
            for (method, pattern, need) in ROUTES {
                let path = match pattern {
                    "/v1/replica/kv/{bucket}/{*key}" => "/v1/replica/kv/b/k",
                    "/v1/partitions/{partition}/page" => "/v1/partitions/0/page",
                    "/v1/hints/sync-point/{id}" => "/v1/hints/sync-point/1",
                    other => other,
                };
                let message = (path, Bytes::new(), false);
                let answer = send(&client, to, Some(&key), method.parse().unwrap(), message).await;
                let expected = match need {
                    Need::Host => 401,
                    Need::Known => 200,
                    // An empty message is none.
                    Need::Permitted => 400,
                };
                let status = answer.status.as_u16();
                assert_eq!(status, expected, "{protection}: {name}: {method} {path}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_gets_anywhere_without_a_valid_key() {
    let wrong = mint(&"root".parse().unwrap(), &mut SplitMix::new(1));
    for (protection, protected) in PROTECTIONS {
        let cluster = Cluster::start_with(1, protected).await;
        let (client, to) = (stranger(&cluster), cluster.address(1));
        let refused = || cluster.metric(1, "atoll_auth_refused_total");
        for key in [None, Some("x"), Some(wrong.as_str())] {
            for message in [get(false), put(&change(Some("v")))] {
                let (before, what) = (refused(), format!("{protection}: {}: {key:?}", message.0));
                let answer = send(&client, to, key, Method::POST, message).await;
                assert_eq!(answer.status.as_u16(), 401, "{what}");
                assert_eq!(answer.headers["www-authenticate"], "Bearer realm=\"atoll\"", "{what}");
                assert!(refused() > before, "{what}");
            }
        }
    }
}

/// Hosts are hosts by what they prove alone: a client that takes the name of one changes nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_says_to_be_a_node_fences_nobody() {
    for (protection, protected) in PROTECTIONS {
        let cluster = Cluster::start_with(3, protected).await;
        let (client, root) = (stranger(&cluster), text("root"));
        for id in 1..=3 {
            let to = cluster.address(id);
            let answer = send(&client, to, Some(&root), Method::POST, get(false)).await;
            assert_eq!(answer.status.as_u16(), 200, "{protection}: {id}");
        }
        // All three have to speak with each other.
        let w = Some(WriteQuorum::Of(Quorum::All));
        let message = put(&PutMessage { w, pw: Some(Quorum::All), ..change(Some("v")) });
        for id in 1..=3 {
            let to = cluster.address(id);
            let answer = send(&client, to, Some(&root), Method::POST, message.clone()).await;
            assert_eq!(answer.status.as_u16(), 200, "{protection}: {id}: {:?}", answer.body);
        }
    }
}

/// Where hosts have certificates and sign nothing, these alone make them hosts: they need no key.
#[tokio::test(flavor = "multi_thread")]
async fn hosts_are_known_by_certificates_alone() {
    let cluster = Cluster::start_with(3, certified).await;
    let mut config = StorageConfig { data_dir: cluster.data_dir(9), ..StorageConfig::default() };
    certified(&mut config);
    let context = ServiceContext::new("router", config, Shutdown::new()).unwrap();
    let router = ProcessRole::Router;
    let host = context.peer_client(PeerIdentity::new(node(9), Incarnation(1), router, None));
    // All three have to speak with each other.
    let w = Some(WriteQuorum::Of(Quorum::All));
    let message = put(&PutMessage { w, pw: Some(Quorum::All), ..change(Some("v")) });
    for id in 1..=3 {
        let to = cluster.address(id);
        let answer = send(&host, to, None, Method::POST, message.clone()).await;
        assert_eq!(answer.status.as_u16(), 200, "{id}: {:?}", answer.body);
        let of_hosts = ("/v1/partitions", Bytes::new(), false);
        let answer = send(&host, to, None, Method::GET, of_hosts).await;
        assert_eq!(answer.status.as_u16(), 200, "{id}: {:?}", answer.body);
        assert_eq!(cluster.metric(id, "atoll_auth_refused_total"), 0.0, "{id}");
        assert_eq!(cluster.metric(id, "atoll_peer_refused_total"), 0.0, "{id}");
    }
}
