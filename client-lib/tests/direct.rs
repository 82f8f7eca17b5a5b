//! The modes in which the client knows the ring, against nodes of the test's own: which node is
//! asked, what it is told, and when the ring is looked at again.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on shall end")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use atoll_client::{Client, Error, Mode};
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use dynamo_core::clock::dot::Dot;
use dynamo_core::clock::dvv::Dvv;
use dynamo_core::clock::hlc::Hlc;
use dynamo_core::clock::record::{Content, Record, Sibling, Value};
use dynamo_core::id::{ActorId, ClusterId, Incarnation, NodeId, PutId};
use dynamo_core::membership::member::{Addresses, MemberStatus};
use dynamo_core::params::{BucketProps, Durability};
use dynamo_core::ring::{PartitionSet, Partitions, RingVersion};
use dynamo_core::time::WallMs;
use dynamo_core::wire::coordinate::{Evidence, GetMessage, PutAnswer, PutMessage, VersionsView};
use dynamo_core::wire::frame::{decode_frame, encode_frame};
use dynamo_core::wire::replica::{ReplicaOp, ReplicaResult, decode_request, encode_response};
use dynamo_core::wire::ring::{NodeInfo, RING_FORMAT, RingSnapshot};

/// What a node answers, and what it was asked.
#[derive(Default)]
struct NodeState {
    ring: Option<RingSnapshot>,
    record: Record,
    refuses: bool,
    asked: Vec<(String, HeaderMap)>,
    put: Option<PutMessage>,
    told: Option<GetMessage>,
}

type Shared = Arc<Mutex<NodeState>>;

/// One host: router and storage node on one listener.
async fn host(id: NodeId, state: Shared) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let app = Router::new().fallback(answer).with_state((id, state));
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    address
}

async fn answer(
    State((id, state)): State<(NodeId, Shared)>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> (StatusCode, Bytes) {
    let mut state = state.lock().unwrap();
    state.asked.push((uri.path().to_owned(), headers));
    match uri.path() {
        "/v1/ring" => (StatusCode::OK, serde_json::to_vec(&state.ring).unwrap().into()),
        "/v1/coordinate/put" if state.refuses => {
            let problem = r#"{"status":421,"code":"not_owner","outcome":"not_applied"}"#;
            (StatusCode::MISDIRECTED_REQUEST, problem.into())
        }
        "/v1/coordinate/put" => {
            let (message, _) = decode_frame::<PutMessage>(body).unwrap();
            state.put = Some(message);
            let evidence = Evidence {
                acks: 2,
                asked: 2,
                primaries: 2,
                n: 3,
                hinted: 0,
                coordinator: id,
                durability: Durability::Fsync,
            };
            let versions = VersionsView {
                context: Some("NEW".to_owned()),
                sibling_count: 1,
                ..VersionsView::default()
            };
            let answer = PutAnswer { versions, evidence, replayed: false };
            (StatusCode::OK, encode_frame(&answer, []).unwrap())
        }
        "/v1/coordinate/get" => {
            state.told = Some(decode_frame::<GetMessage>(body).unwrap().0);
            (StatusCode::OK, Bytes::new())
        }
        "/v1/replica/batch" => {
            let result = match decode_request(body).unwrap().remove(0) {
                ReplicaOp::Read { token, .. } if state.record.is_empty() => {
                    assert!(token);
                    ReplicaResult::Absent { holds: true }
                }
                ReplicaOp::Read { .. } => ReplicaResult::Record {
                    record: state.record.clone(),
                    token: Some(format!("token-{}", id.0)),
                    applied: None,
                },
                ReplicaOp::Merge { .. } => panic!("a client brings no records"),
            };
            (StatusCode::OK, encode_response([&result]).unwrap())
        }
        _ => (StatusCode::OK, Bytes::new()),
    }
}

/// Three hosts that own a small ring together.
struct Cluster {
    hosts: Vec<Shared>,
    addresses: Vec<String>,
}

impl Cluster {
    async fn start() -> Self {
        let mut cluster = Self { hosts: Vec::new(), addresses: Vec::new() };
        for id in 1..=3 {
            let state = Shared::default();
            cluster.addresses.push(host(NodeId(id), Arc::clone(&state)).await);
            cluster.hosts.push(state);
        }
        let partitions = Partitions::new(8).unwrap();
        let nodes = (1u128..).zip(&cluster.addresses).map(|(id, address)| NodeInfo {
            id: NodeId(id),
            name: format!("n{id}"),
            zone: None,
            weight: 100,
            addresses: Addresses {
                router: Some(address.clone()),
                storage: Some(address.clone()),
                ..Addresses::default()
            },
            status: MemberStatus::Member,
            incarnation: Incarnation(1),
            holds: Some(PartitionSet::full(partitions)),
            store_id: None,
            founding_store: None,
            epoch: 1,
        });
        let ring = RingSnapshot {
            format: RING_FORMAT,
            cluster: ClusterId(9),
            version: RingVersion { number: 1, hash: 1 },
            partitions,
            spacing: 3,
            nodes: nodes.collect(),
            owners: (0..8).map(|partition| Some(partition % 3)).collect(),
            defaults: BucketProps::default(),
            buckets: BTreeMap::new(),
        };
        for host in &cluster.hosts {
            host.lock().unwrap().ring = Some(ring.clone());
        }
        cluster
    }

    fn client(&self, mode: Mode) -> Client {
        let endpoints = self.addresses.iter().cloned();
        Client::builder().endpoints(endpoints).mode(mode).build().unwrap()
    }

    fn asked(&self, path: &str) -> usize {
        let of = |host: &Shared| {
            host.lock().unwrap().asked.iter().filter(|(asked, _)| asked == path).count()
        };
        self.hosts.iter().map(of).sum()
    }
}

fn record(writes: &[(u128, &'static str)]) -> Record {
    let siblings = writes.iter().map(|(node, value)| Sibling {
        dot: Dot { actor: ActorId { node: NodeId(*node), epoch: 1 }, counter: 1 },
        put_id: PutId(*node),
        stamp: Hlc::at(WallMs(1_000)),
        content: Content::Value(Value { bytes: Bytes::from(*value), ..Value::default() }),
    });
    Record::new(Dvv::new(), siblings)
}

#[tokio::test]
async fn puts_go_straight_to_a_coordinator_and_say_who_sends_them() {
    let cluster = Cluster::start().await;
    let client = cluster.client(Mode::PartitionAware);
    let done = client.bucket("b").put("k", "v").w(2u8).await.unwrap();
    assert_eq!(done.context.unwrap().as_str(), "NEW");
    assert_eq!(done.siblings, Some(1));
    assert_eq!(cluster.asked("/v1/coordinate/put"), 1);
    assert_eq!(cluster.asked("/v1/kv/b/k"), 0);
    let host = cluster.hosts.iter().find(|host| host.lock().unwrap().put.is_some()).unwrap();
    let host = host.lock().unwrap();
    let message = host.put.as_ref().unwrap();
    assert_eq!((message.bucket.as_str(), &message.key[..]), ("b", &b"k"[..]));
    assert_eq!(Some(message.put_id), done.put_id);
    let (_, headers) = host.asked.iter().find(|(path, _)| path == "/v1/coordinate/put").unwrap();
    for name in [
        "x-atoll-cluster",
        "x-atoll-sender",
        "x-atoll-role",
        "x-atoll-incarnation",
        "x-atoll-protocol",
        "x-atoll-deadline-ms",
        "x-atoll-ring",
    ] {
        assert!(headers.contains_key(name), "{name}");
    }
}

#[tokio::test]
async fn a_node_that_is_no_owner_any_more_makes_the_client_look_at_the_ring_at_once() {
    let cluster = Cluster::start().await;
    for host in &cluster.hosts[..2] {
        host.lock().unwrap().refuses = true;
    }
    let client = cluster.client(Mode::PartitionAware);
    for _ in 0..8 {
        client.bucket("b").put("k", "v").await.unwrap();
    }
    assert!(cluster.hosts[2].lock().unwrap().put.is_some());
    // Well below the ten seconds between two regular looks.
    for _ in 0..100 {
        if cluster.asked("/v1/ring") > 1 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the ring was not looked at again");
}

#[tokio::test]
async fn a_client_driven_get_merges_the_replicas_and_joins_their_contexts() {
    let cluster = Cluster::start().await;
    cluster.hosts[0].lock().unwrap().record = record(&[(1, "left")]);
    cluster.hosts[1].lock().unwrap().record = record(&[(2, "right")]);
    cluster.hosts[2].lock().unwrap().record = record(&[(1, "left"), (2, "right")]);
    let client = cluster.client(Mode::ClientDriven);
    let read = client.bucket("b").get("k").r(3u8).await.unwrap();
    let mut values: Vec<_> = read.versions.iter().map(|version| version.value.clone()).collect();
    values.sort();
    assert_eq!(values, ["left", "right"]);
    let context = read.context.unwrap();
    let mut tokens: Vec<_> = context.as_str().split('.').collect();
    tokens.sort_unstable();
    assert_eq!(tokens, ["token-1", "token-2", "token-3"]);
    assert_eq!((read.evidence.acks, read.evidence.n), (Some(3), Some(3)));
    // Behind the answer one of the stale replicas is told to look at all of them.
    let told = |host: &Shared| host.lock().unwrap().told.clone();
    for _ in 0..100 {
        let stale = [told(&cluster.hosts[0]), told(&cluster.hosts[1])];
        if let Some(message) = stale.iter().flatten().next() {
            assert_eq!((message.bucket.as_str(), &message.key[..]), ("b", &b"k"[..]));
            assert!(!message.values, "only the repair is wanted");
            // Nothing more comes: the read has ended, and its repair with it.
            tokio::time::sleep(Duration::from_millis(200)).await;
            assert_eq!(cluster.asked("/v1/coordinate/get"), 1);
            assert!(told(&cluster.hosts[2]).is_none(), "it was not stale");
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("nobody was told to repair");
}

#[tokio::test]
async fn a_client_driven_get_confirms_absence_and_refuses_without_a_quorum() {
    let cluster = Cluster::start().await;
    let client = cluster.client(Mode::ClientDriven);
    let read = client.bucket("b").get("k").await.unwrap();
    assert!(read.versions.is_empty() && !read.deleted && read.context.is_none());

    // Of the snapshot's nodes, two are nobody's address from now on.
    let mut ring = cluster.hosts[0].lock().unwrap().ring.clone().unwrap();
    for node in &mut ring.nodes[1..] {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        node.addresses.storage = Some(listener.local_addr().unwrap().to_string());
    }
    for host in &cluster.hosts {
        host.lock().unwrap().ring = Some(ring.clone());
    }
    let client = cluster.client(Mode::ClientDriven);
    let error = client.bucket("b").get("k").await.unwrap_err();
    assert!(matches!(error, Error::Refused { .. }), "{error:?}");
    assert_eq!(error.problem().unwrap().status, 503);
    let one = client.bucket("b").get("k").r(1u8).notfound_ok(true).await.unwrap();
    assert!(one.versions.is_empty());
}
