//! What must be refused, over the wire: rows 105–111, other clusters, older lives, bad requests.

use std::fs;

use dynamo_core::clock::hlc::Hlc;
use dynamo_core::id::{ClusterId, Incarnation, NodeId};
use dynamo_core::membership::registers::{BucketEntry, WriteStamp};
use dynamo_core::membership::state::Stamp;
use dynamo_core::membership::view::Delta;
use dynamo_core::params::BucketProps;
use dynamo_core::time::WallMs;
use dynamo_core::wire::gossip::{GOSSIP_PATH, GossipBody, GossipMessage, Want};
use dynamo_core::wire::membership::{
    CLUSTER_PATH, COMMIT_PATH, LOCAL_STORAGE_PATH, NODE_PATH, PLAN_PATH, STAGE_PATH,
};
use http::{HeaderMap, Method};
use service_kit::http::error::ErrorCode;

use crate::support::{Client, TestAgent, start, three, until};

async fn code_of(client: &Client, agent: &TestAgent, path: &str, body: &str) -> ErrorCode {
    client.post(agent, path, body).await.into_success().unwrap_err().code()
}

#[tokio::test(flavor = "multi_thread")]
async fn forged_gossip_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let client = Client::new();
    let agents = three(dir.path(), &client).await;
    let at = &agents[0];
    let cluster = client.node(at).await.cluster.unwrap();
    let other = client.node(&agents[1]).await;
    let version = client.node(at).await.version;
    let stamp = Stamp { incarnation: Incarnation(9), life: 1, version: 1 };
    let push = |delta: Delta| GossipBody::Push { delta, want: Want::default() };
    let text = |message: &GossipMessage| String::from_utf8(message.encode()).unwrap();
    let seal = |cluster, from, stamp, body| GossipMessage::seal(cluster, from, stamp, body);
    let empty = || push(Delta::default());

    let wrong = seal(Some(ClusterId(5)), NodeId(5), stamp, empty());
    assert_eq!(code_of(&client, at, GOSSIP_PATH, &text(&wrong)).await, ErrorCode::WrongCluster);

    let good = seal(Some(cluster), NodeId(5), stamp, empty());
    let newer = text(&good).replace("\"protocol\":1", "\"protocol\":9");
    assert_eq!(code_of(&client, at, GOSSIP_PATH, &newer).await, ErrorCode::ProtocolVersion);
    let damaged = text(&good).replace("\"life\":1", "\"life\":2");
    assert_eq!(code_of(&client, at, GOSSIP_PATH, &damaged).await, ErrorCode::DigestMismatch);
    let unknown = text(&good).replace("\"life\":1", "\"life\":1,\"x\":1");
    assert_eq!(code_of(&client, at, GOSSIP_PATH, &unknown).await, ErrorCode::BadJson);
    for nothing in ["", "{", "[]", "null"] {
        assert_eq!(code_of(&client, at, GOSSIP_PATH, nothing).await, ErrorCode::BadJson);
    }

    let older = Stamp { incarnation: Incarnation(0), life: 1, version: 1 };
    let zombie = seal(Some(cluster), other.node, older, empty());
    let refused = client.post(at, GOSSIP_PATH, &text(&zombie)).await;
    assert_eq!(refused.headers["x-atoll-incarnation"], other.incarnation.0.to_string());
    assert_eq!(refused.into_success().unwrap_err().code(), ErrorCode::StaleIncarnation);

    // Ten years ahead: refused, and the clock of later writes does not move.
    let future = Hlc::at(WallMs(u64::from(u32::MAX) * 1000));
    let entry = BucketEntry {
        stamp: WriteStamp { at: future, by: NodeId(5) },
        props: Some(BucketProps { n: 1, ..BucketProps::default() }),
    };
    let skewed = Delta { buckets: [("carts".to_owned(), entry)].into(), ..Delta::default() };
    let message = seal(Some(cluster), NodeId(5), stamp, push(skewed));
    assert!(client.post(at, GOSSIP_PATH, &text(&message)).await.status.is_success());
    let (_, view) = client.ring(at).await.unwrap();
    assert_eq!(view.buckets().count(), 0);
    assert_eq!(view.version(), version);
    assert!(at.metric("atoll_membership_gossip_refused_parts_total") >= 1.0);
    for agent in agents {
        agent.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_clusters_never_mix() {
    let dir = tempfile::tempdir().unwrap();
    let client = Client::new();
    let ours = three(&dir.path().join("ours"), &client).await;
    let mut theirs = three(&dir.path().join("theirs"), &client).await;
    let (_, before) = client.ring(&ours[0]).await.unwrap();
    // One of theirs is restarted with one of ours as its seed.
    let strayed = theirs.remove(2);
    strayed.stop().await;
    let path = dir.path().join("theirs").join("a3");
    let seeds = [ours[0].address.clone(), theirs[0].address.clone()];
    let strayed = start(&path, "a3", &seeds).await;
    until(async || {
        let refused = strayed.registry.gather().iter().any(|family| {
            family.name() == "atoll_membership_gossip_rounds_total"
                && family.get_metric().iter().any(|metric| {
                    metric.get_label()[0].value() == "failed"
                        && metric.get_counter().get_value() >= 2.0
                })
        });
        refused && client.node(&strayed).await.version == client.node(&theirs[0]).await.version
    })
    .await;
    let (_, after) = client.ring(&ours[0]).await.unwrap();
    assert_eq!(after.version(), before.version());
    assert_eq!(after.nodes().count(), 3, "nobody of theirs is known here");
    strayed.stop().await;
    for agent in ours.into_iter().chain(theirs) {
        agent.stop().await;
    }
}

/// I-24: a copied data directory. The later life is listened to, the earlier one stops.
#[tokio::test(flavor = "multi_thread")]
async fn the_older_of_two_lives_is_fenced_and_its_restart_takes_over() {
    let dir = tempfile::tempdir().unwrap();
    let client = Client::new();
    let mut agents = three(dir.path(), &client).await;
    let seeds = [agents[0].address.clone()];
    let path = dir.path().join("a3");
    let copy = dir.path().join("copy");
    agents.remove(2).stop().await;
    copy_directory(&path, &copy);
    // Two starts of the copy: its life is later than the first of the original.
    start(&copy, "a3", &seeds).await.stop().await;
    let original = start(&path, "a3", &seeds).await;
    let twin = start(&copy, "a3", &seeds).await;
    until(async || client.node(&original).await.fenced).await;
    assert!(!client.node(&twin).await.fenced);
    assert!(original.metric("atoll_membership_fenced") > 0.0);
    let body = r#"{"set":{"node":"a1","weight":1}}"#;
    let refused = code_of(&client, &original, STAGE_PATH, body).await;
    assert_eq!(refused, ErrorCode::StaleIncarnation);
    let lost_to = client.node(&twin).await.incarnation;
    original.stop().await;
    let original = start(&path, "a3", &seeds).await;
    assert!(client.node(&original).await.incarnation > lost_to, "a restart is the latest life");
    until(async || client.node(&twin).await.fenced).await;
    original.stop().await;
    twin.stop().await;
    for agent in agents {
        agent.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_requests_get_the_stated_answer() {
    let dir = tempfile::tempdir().unwrap();
    let client = Client::new();
    let agent = start(dir.path(), "a1", &[]).await;
    let none = HeaderMap::new;
    let code = async |method: Method, path: &str, body: &str| {
        let response = client.call(&agent, method, path, none(), body).await;
        response.into_success().unwrap_err().code()
    };
    let get = Method::GET;
    for path in ["/v1/ring?wait_ms=60001", "/v1/ring?wait_ms=-1", "/v1/ring?wait_ms="] {
        assert_eq!(code(get.clone(), path, "").await, ErrorCode::BadParameter, "{path}");
    }
    let twice = "/v1/ring?wait_ms=1&wait_ms=1";
    assert_eq!(code(get.clone(), twice, "").await, ErrorCode::DuplicateParameter);
    for path in ["/v1/ring?x=1", "/v1/node?x", "/v1/cluster?y=2"] {
        assert_eq!(code(get.clone(), path, "").await, ErrorCode::UnknownParameter, "{path}");
    }
    assert_eq!(code(get.clone(), "/v1/ring?wait_ms=1", "").await, ErrorCode::NotReady);
    assert_eq!(code(get.clone(), "/v1/nothing", "").await, ErrorCode::NotFound);
    assert_eq!(code(Method::DELETE, NODE_PATH, "").await, ErrorCode::MethodNotAllowed);
    assert_eq!(code(get.clone(), PLAN_PATH, "").await, ErrorCode::Conflict);
    assert_eq!(code(get.clone(), "/v1/buckets/_x", "").await, ErrorCode::ReservedBucket);
    assert_eq!(code(get, "/v1/buckets/b", "").await, ErrorCode::NotReady);
    let post = Method::POST;
    assert_eq!(code(post.clone(), COMMIT_PATH, "").await, ErrorCode::BadHeader);
    for (body, expected) in [
        ("", ErrorCode::BadJson),
        (r#"{"leave":{"node":"a"},"leave":{"node":"b"}}"#, ErrorCode::BadJson),
        (r#"{"join":{"node":"a1","x":1}}"#, ErrorCode::Unprocessable),
        (r#"{"join":{"node":"nobody"}}"#, ErrorCode::NotFound),
        (r#"{"leave":{"node":"a1"}}"#, ErrorCode::Conflict),
        (r#"{"join":{"node":"a1","weight":99999999}}"#, ErrorCode::Unprocessable),
    ] {
        assert_eq!(code(post.clone(), STAGE_PATH, body).await, expected, "{body}");
    }
    let foreign = format!(
        r#"{{"node":"{}","store_id":"{}","epoch":1,"incarnation":1}}"#,
        NodeId(1),
        NodeId(2)
    );
    assert_eq!(code(post, LOCAL_STORAGE_PATH, &foreign).await, ErrorCode::Unprocessable);
    assert_eq!(client.cluster(&agent).await.staged, 0, "{CLUSTER_PATH}: nothing was taken");
    agent.stop().await;
}

fn copy_directory(from: &std::path::Path, to: &std::path::Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}
