//! From nothing to a ring, and changes of it.

use dynamo_core::id::Incarnation;
use dynamo_core::membership::member::MemberStatus;
use dynamo_core::wire::membership::{BUCKETS_PATH, BucketDocument, STAGE_PATH};
use http::{HeaderMap, Method, StatusCode};
use service_kit::http::error::ErrorCode;

use crate::support::{Client, ring_of, start, three, until};

#[tokio::test(flavor = "multi_thread")]
async fn a_founding_is_seen_by_all_and_a_fourth_node_joins() {
    let dir = tempfile::tempdir().unwrap();
    let client = Client::new();
    let agents = three(dir.path(), &client).await;
    let (_, first) = client.ring(&agents[0]).await.unwrap();
    for agent in &agents {
        let (_, view) = client.ring(agent).await.unwrap();
        assert_eq!(view.version(), first.version());
        assert_eq!(view.ring(), first.ring());
        for node in view.members() {
            assert!(view.is_founding_store(node.id, node.store_id.unwrap()));
        }
    }
    // The fourth finds the cluster through another seed than the first three.
    let fourth = start(&dir.path().join("4"), "a4", std::slice::from_ref(&agents[2].address)).await;
    let mut all: Vec<_> = agents.iter().collect();
    all.push(&fourth);
    client.all_know(&all, 4).await;
    client.all_have(&all, 3).await;
    assert_eq!(client.node(&fourth).await.status, MemberStatus::Candidate);
    client.stage(&agents[0], r#"{"join":{"node":"a4","weight":50}}"#).await;
    let plan = client.plan(&agents[0]).await;
    assert!(plan.moves_total > 0 && !plan.founding);
    // Staged at one, committed at another.
    until(async || client.plan_tag(&agents[2]).await.as_ref() == Some(&plan.plan)).await;
    client.commit(&agents[2], &plan.plan).await.unwrap();
    client.all_have(&all, 4).await;
    let (_, view) = client.ring(&fourth).await.unwrap();
    assert_eq!(view.version().number, 2);
    let joined = view.node(view.resolve("a4").unwrap()).unwrap();
    assert_eq!((joined.weight, joined.holds.as_ref()), (50, None));
    assert!(view.ring().owners_count(joined.id) > 0);
    until(async || client.cluster(&agents[0]).await.staged == 0).await;
    for agent in agents {
        agent.stop().await;
    }
    fourth.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stale_plan_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let client = Client::new();
    let agents = three(dir.path(), &client).await;
    let at = &agents[0];
    client.stage(at, r#"{"set":{"node":"a2","weight":300}}"#).await;
    let old = client.plan(at).await.plan;
    client.stage(at, r#"{"set":{"node":"a3","weight":200}}"#).await;
    let refused = client.commit(at, &old).await.unwrap_err();
    assert_eq!((refused.code(), refused.status().as_u16()), (ErrorCode::StalePlan, 412));
    let refused = client.commit(at, "nonsense").await.unwrap_err();
    assert_eq!(refused.code(), ErrorCode::BadHeader);
    let new = client.plan(at).await.plan;
    client.commit(at, &new).await.unwrap();
    let refused = client.commit(at, &new).await.unwrap_err();
    assert_eq!(refused.code(), ErrorCode::Conflict, "nothing is staged any more");
    client.stage(at, r#"{"leave":{"node":"a3"}}"#).await;
    let dropped = client.call(at, Method::DELETE, STAGE_PATH, HeaderMap::new(), "").await;
    assert_eq!(dropped.status, StatusCode::OK);
    assert_eq!(client.cluster(at).await.staged, 0);
    for agent in agents {
        agent.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_keeps_the_history_and_begins_a_new_life() {
    let dir = tempfile::tempdir().unwrap();
    let client = Client::new();
    let mut agents = three(dir.path(), &client).await;
    let before = client.node(&agents[2]).await;
    agents.remove(2).stop().await;
    // Something happens while it is away.
    client.stage(&agents[0], r#"{"set":{"node":"a1","zone":"other"}}"#).await;
    let plan = client.plan(&agents[0]).await.plan;
    let committed = client.commit(&agents[0], &plan).await.unwrap();
    let seeds = [agents[0].address.clone()];
    let back = start(&dir.path().join("a3"), "a3", &seeds).await;
    let after = client.node(&back).await;
    assert_eq!(after.node, before.node);
    assert_eq!(after.cluster, before.cluster);
    assert!(after.version >= before.version, "what it knew is there before it hears anything");
    assert_eq!(after.incarnation, Incarnation(before.incarnation.0 + 1));
    until(async || client.node(&back).await.version == committed.version).await;
    let (_, view) = client.ring(&back).await.unwrap();
    let store = view.node(after.node).unwrap().store_id;
    assert!(store.is_some(), "what its storage node had reported is not forgotten");
    // The others learn where it listens now.
    until(async || {
        let (_, view) = client.ring(&agents[0]).await.unwrap();
        let addresses = &view.node(after.node).unwrap().addresses;
        addresses.membership.as_ref() == Some(&back.address)
    })
    .await;
    back.stop().await;
    for agent in agents {
        agent.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_poll_wakes_on_a_change_and_times_out_without() {
    let dir = tempfile::tempdir().unwrap();
    let client = Client::new();
    let agents = three(dir.path(), &client).await;
    // Quiet: every agent has the last word of all others.
    until(async || {
        let (one, _) = client.ring(&agents[0]).await.unwrap();
        let (two, _) = client.ring(&agents[1]).await.unwrap();
        let (three, _) = client.ring(&agents[2]).await.unwrap();
        one == two && two == three
    })
    .await;
    let (etag, view) = client.ring(&agents[2]).await.unwrap();
    let response = client.poll(&agents[2], &etag, 1).await;
    assert_eq!(response.status, StatusCode::NOT_MODIFIED);
    assert!(response.body.is_empty());
    let at_once = client.poll(&agents[2], "\"something-else\"", 60_000).await;
    assert_eq!(ring_of(&at_once).0, etag);
    // A change at another agent wakes a poll that would wait a minute.
    let waiting = tokio::spawn({
        let (client, address) = (client.clone(), agents[2].address.clone());
        async move { client.poll_address(&address, &etag, 60_000).await }
    });
    let path = format!("{BUCKETS_PATH}/carts");
    let put = client.call(&agents[0], Method::PUT, &path, HeaderMap::new(), r#"{"n":2}"#).await;
    assert_eq!(put.status, StatusCode::OK);
    let document: BucketDocument = serde_json::from_slice(&put.body).unwrap();
    assert!(document.own && document.props.n == 2);
    let (_, woken) = ring_of(&waiting.await.unwrap());
    assert_eq!(woken.version(), view.version(), "no membership change was needed");
    assert_eq!(woken.bucket(&"carts".parse().unwrap()).n, 2);
    let deleted = client.call(&agents[1], Method::DELETE, &path, HeaderMap::new(), "").await;
    assert_eq!(deleted.status, StatusCode::NO_CONTENT);
    assert!(agents[0].metric("atoll_membership_history_events") >= 1.0);
    for agent in agents {
        agent.stop().await;
    }
}

/// Regression: a gossip round under way kept the file open after the agent had stopped, and the next
/// start on the directory was refused.
#[tokio::test(flavor = "multi_thread")]
async fn the_directory_is_free_once_the_agent_has_stopped() {
    let dir = tempfile::tempdir().unwrap();
    let mute = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let seeds = [mute.local_addr().unwrap().to_string()];
    let agent = start(dir.path(), "a1", &seeds).await;
    // The seed takes the message and never answers: the round is under way.
    let (unanswered, _) = mute.accept().await.unwrap();
    unanswered.readable().await.unwrap();
    agent.stop().await;
    let again = start(dir.path(), "a1", &[]).await;
    assert_eq!(Client::new().node(&again).await.incarnation.0, 2);
    again.stop().await;
}
