//! Partitions that change their owner: wanted, copied page by page, held, released, dropped.

use std::time::Duration;

use dynamo_core::id::PartitionId;
use dynamo_core::merkle::Prefix;
use dynamo_core::wire::partition::{
    DropAnswer, DropRequest, PARTITIONS_DROP_PATH, PARTITIONS_HOLD_PATH, PARTITIONS_PATH,
    PARTITIONS_RELEASE_PATH, PageRequest, PartitionInfo, PartitionsDocument, PartitionsRequest,
    decode_page, page_path,
};
use dynamo_core::wire::tree::{DigestsAnswer, DigestsRequest, TREE_DIGESTS_PATH};
use service_kit::http::error::ErrorCode;

use crate::client::{Ask, Client, w};
use crate::cluster::{Cluster, PATIENCE, node, number};

async fn partitions(client: &Client, cluster: &Cluster, id: usize) -> PartitionsDocument {
    let document: PartitionsDocument =
        client.json(cluster.address(id), PARTITIONS_PATH).await.unwrap();
    document.check().unwrap();
    document
}

/// Puts at the first owner.
async fn put(client: &Client, cluster: &Cluster, key: &str) {
    let owner = number(cluster.replicas(key).owners[0]);
    client.put(cluster.address(owner), key, "v", w(3)).await.unwrap();
}

/// Waits until node `id` works with the newest ring.
async fn follows(client: &Client, cluster: &Cluster, id: usize) -> PartitionsDocument {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let document = partitions(client, cluster, id).await;
        if document.ring == cluster.agents.view().version() {
            return document;
        }
        assert!(tokio::time::Instant::now() < deadline, "never follows");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_moves_from_a_node_that_left_to_the_one_that_owns_it_now() {
    let cluster = Cluster::start(4).await;
    let client = Client::new(81);
    for id in 0..60 {
        put(&client, &cluster, &format!("k{id}")).await;
    }
    cluster.agents.remove(node(4));
    let ring = cluster.agents.view().version();
    let (mut gained, mut documents) = (Vec::new(), Vec::new());
    for id in 1..=4 {
        let document = follows(&client, &cluster, id).await;
        let lacks = |info: &&PartitionInfo| info.wanted && info.held_from.is_none();
        let missing = document.partitions.iter().filter(lacks);
        gained.extend(missing.map(|info| (id, info.partition)));
        documents.push((id, document));
    }
    assert!(!gained.is_empty(), "somebody owns what node 4 had");
    let left = follows(&client, &cluster, 4).await;
    // Nobody writes to a removed node any more, so what it has is no evidence: it is left over.
    let is_left = |info: &PartitionInfo| !info.wanted && info.held_from.is_none() && info.leftover;
    assert!(left.partitions.iter().all(is_left), "{left:?}");

    // The new owner copies from the former one and holds.
    let mut copied = 0;
    for (id, partition) in &gained {
        let worker = Client::worker(node(*id));
        let request = PageRequest::new(Some(node(*id)), None);
        let has = |document: &PartitionsDocument| {
            document.get(*partition).is_some_and(|info| info.held_from.is_some())
        };
        let source = documents.iter().find(|(_, document)| has(document)).unwrap().0;
        let from = cluster.address(source);
        let page = worker.post(from, &page_path(*partition), &request, Some("transfer")).await;
        let page = decode_page(page.unwrap()).unwrap();
        assert_eq!((page.next.is_none(), page.unreadable), (page.records.is_empty(), 0));
        copied += page.records.len();
        let other = PageRequest::new(Some(node(4)), None);
        let none = worker.post(from, &page_path(*partition), &other, None).await.unwrap();
        assert!(decode_page(none).unwrap().records.is_empty(), "node 4 is to have nothing");
        let request = PartitionsRequest { ring, partitions: vec![*partition] };
        let stranger = client.post(cluster.address(*id), PARTITIONS_HOLD_PATH, &request, None);
        assert_eq!(stranger.await.unwrap_err().code(), ErrorCode::Forbidden);
        let held: PartitionsDocument =
            worker.ask(cluster.address(*id), PARTITIONS_HOLD_PATH, &request).await.unwrap();
        assert!(held.get(*partition).unwrap().held_from.is_some());
        let refused = worker.post(cluster.address(*id), PARTITIONS_RELEASE_PATH, &request, None);
        assert_eq!(refused.await.unwrap_err().code(), ErrorCode::Conflict, "it is needed");
    }
    assert!(copied > 0);
    let given: f64 = (1..=4).map(|id| cluster.metric(id, "atoll_page_records_total")).sum();
    assert!((given - copied as f64).abs() < 0.5);
    let deadline = tokio::time::Instant::now() + PATIENCE;
    let advertised = |(id, partition): &(usize, PartitionId)| {
        cluster.agents.view().holdings().holds(node(*id), *partition)
    };
    while !gained.iter().all(advertised) {
        assert!(tokio::time::Instant::now() < deadline, "never advertised");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_released_is_dropped_to_the_end_and_survives_restarts() {
    let mut cluster = Cluster::start(4).await;
    let client = Client::new(82);
    let worker = Client::worker(node(4));
    for id in 0..200 {
        put(&client, &cluster, &format!("k{id}")).await;
    }
    let before = partitions(&client, &cluster, 4).await;
    let nothing = DropRequest { ring: before.ring, partition: before.partitions[0].partition };
    let to = cluster.address(4);
    let refused = worker.post(to, PARTITIONS_DROP_PATH, &nothing, None).await.unwrap_err();
    assert_eq!(refused.code(), ErrorCode::Conflict, "nothing is left over");
    cluster.agents.remove(node(4));
    let document = follows(&client, &cluster, 4).await;
    let ring = cluster.agents.view().ring().clone();
    let all: Vec<PartitionId> = document.partitions.iter().map(|info| info.partition).collect();
    let request = PartitionsRequest { ring: document.ring, partitions: all.clone() };
    let old = PartitionsRequest { ring: before.ring, partitions: all.clone() };
    let refused = worker.post(to, PARTITIONS_RELEASE_PATH, &old, None).await.unwrap_err();
    assert_eq!(refused.code(), ErrorCode::Conflict, "another ring");
    let refused = worker.post(to, PARTITIONS_HOLD_PATH, &request, None).await.unwrap_err();
    assert_eq!(refused.code(), ErrorCode::Conflict, "not wanted");
    let released: PartitionsDocument =
        worker.ask(to, PARTITIONS_RELEASE_PATH, &request).await.unwrap();
    let is_left = |document: &PartitionsDocument| {
        document.partitions.iter().all(|info| info.leftover && info.held_from.is_none())
    };
    assert!(is_left(&released) && released.partitions.len() == all.len());
    // Its data is about to go, so it takes no new writes either.
    let key = (0..).map(|id| format!("new{id}")).find(|key| {
        let object = dynamo_core::key::ObjectKey::parse("b", key).unwrap();
        all.contains(&ring.partition_of(object.position()))
    });
    let ask = Ask { ring: Some(document.ring), ..w(1) };
    let refused = client.put(to, &key.unwrap(), "v", ask).await.unwrap_err();
    assert_eq!(refused.code(), ErrorCode::NotOwner);
    cluster.kill(4).await;
    cluster.start_node(4).await.unwrap();
    cluster.ready(4).await;
    let after = follows(&client, &cluster, 4).await;
    assert!(is_left(&after) && after.partitions.len() == all.len(), "noted durably");
    let to = cluster.address(4);
    let mut dropped = 0;
    for partition in all {
        let request = DropRequest { ring: after.ring, partition };
        loop {
            let answer: DropAnswer = worker.ask(to, PARTITIONS_DROP_PATH, &request).await.unwrap();
            dropped += answer.dropped;
            if answer.done {
                break;
            }
        }
    }
    assert!(dropped > 0);
    assert!(partitions(&client, &cluster, 4).await.partitions.is_empty());
    let store: storage_node::api::status::StoreDocument =
        client.json(to, "/v1/store").await.unwrap();
    assert_eq!((store.records, store.partitions_held), (Some(0), 0));
    let request = DigestsRequest::new(3, &[Prefix::ALL]);
    let digests: DigestsAnswer = client.ask(to, TREE_DIGESTS_PATH, &request).await.unwrap();
    assert!(digests.digests[0].is_empty(), "records and sums go together");
    assert!((cluster.metric(4, "atoll_records_dropped_total") - dropped as f64).abs() < 0.5);
}
