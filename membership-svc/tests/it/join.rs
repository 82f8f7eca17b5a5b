//! Agents that join without an administrator.

use dynamo_core::membership::member::MemberStatus;
use membership_svc::config::JoinConfig;

use crate::support::{Client, TestAgent, start_joining, until};

#[tokio::test(flavor = "multi_thread")]
async fn founders_found_once_a_later_node_joins_and_a_removed_one_stays_out() {
    let dir = tempfile::tempdir().unwrap();
    let client = Client::new();
    let founders = ["a1", "a2", "a3"].map(String::from).to_vec();
    let join = JoinConfig { auto: true, founders };
    let mut agents: Vec<TestAgent> = Vec::new();
    for name in ["a1", "a2", "a3", "a4"] {
        let seeds: Vec<String> = agents.iter().map(|agent| agent.address.clone()).collect();
        agents.push(start_joining(&dir.path().join(name), name, &seeds, join.clone()).await);
    }
    let all: Vec<&TestAgent> = agents.iter().collect();
    client.all_know(&all, 4).await;
    assert!(client.ring(&agents[0]).await.is_none(), "no storage node has reported");
    for agent in &agents {
        client.report(agent).await;
    }
    client.all_have(&all, 4).await;
    let clusters = client.cluster(&agents[0]).await.cluster;
    for agent in &agents {
        assert_eq!(client.cluster(agent).await.cluster, clusters);
        assert_eq!(client.node(agent).await.status, MemberStatus::Member);
    }
    let (_, ring) = client.ring(&agents[0]).await.unwrap();
    assert_eq!(ring.version().number, 2, "one founding and one join");
    client.stage(&agents[0], r#"{"leave":{"node":"a4"}}"#).await;
    let plan = client.plan(&agents[0]).await.plan;
    client.commit(&agents[0], &plan).await.unwrap();
    client.all_have(&all, 3).await;
    let fourth = agents.pop().unwrap();
    let seeds: Vec<String> = agents.iter().map(|agent| agent.address.clone()).collect();
    fourth.stop().await;
    let again = start_joining(&dir.path().join("a4"), "a4", &seeds, join).await;
    until(async || client.ring(&again).await.is_some_and(|(_, ring)| ring.version().number == 3))
        .await;
    assert_ne!(client.node(&again).await.status, MemberStatus::Member);
    again.stop().await;
    for agent in agents {
        agent.stop().await;
    }
}
