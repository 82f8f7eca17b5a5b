//! Comparing replicas over HTTP: digests, keys, the scrub, slices, and reaping.

use std::collections::BTreeMap;

use dynamo_core::id::ActorId;
use dynamo_core::key::ObjectKey;
use dynamo_core::merkle::{Leaf, Prefix, TreeDigest};
use dynamo_core::params::BucketProps;
use dynamo_core::ring::Partitions;
use dynamo_core::wire::reap::{
    REAP_CHECK_PATH, REAP_PATH, ReapAction, ReapAnswer, ReapCheckAnswer, ReapCheckRequest,
    ReapItem, ReapRequest, ReapResult,
};
use dynamo_core::wire::tree::{
    DigestsAnswer, DigestsRequest, KeysAnswer, KeysRequest, TREE_DIGESTS_PATH, TREE_KEYS_PATH,
    TreeState,
};
use service_kit::http::error::ErrorCode;
use storage_node::api::status::StoreDocument;

use crate::agent::PARTITIONS;
use crate::client::{Client, w, with};
use crate::cluster::{Cluster, PATIENCE, node};

async fn roots(client: &Client, cluster: &Cluster, id: usize, n: u8) -> DigestsAnswer {
    let size = Partitions::new(PARTITIONS).unwrap();
    let prefixes: Vec<Prefix> = size.iter().map(|p| Prefix::of_partition(size, p)).collect();
    let request = DigestsRequest::new(n, &prefixes);
    let answer: DigestsAnswer =
        client.ask(cluster.address(id), TREE_DIGESTS_PATH, &request).await.unwrap();
    answer.check(prefixes.len()).unwrap();
    answer
}

/// Waits until the trees of all three nodes are complete and equal.
async fn equal(client: &Client, cluster: &Cluster, n: u8) -> Vec<TreeDigest> {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let mut all = Vec::new();
        for id in 1..=3 {
            all.push(roots(client, cluster, id, n).await);
        }
        let built = all.iter().all(|answer| answer.state == TreeState::Built);
        if built && all.windows(2).all(|pair| pair[0].digests == pair[1].digests) {
            return all.remove(0).digests;
        }
        assert!(tokio::time::Instant::now() < deadline, "the trees stay different");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_that_are_equal_have_equal_digests_and_list_the_same_keys() {
    let mut cluster = Cluster::start(3).await;
    let client = Client::new(71);
    let empty = equal(&client, &cluster, 3).await;
    assert!(empty.iter().all(|digest| digest.is_empty()));
    for number in 0..40 {
        let to = cluster.address(1 + number % 3);
        client.put(to, &format!("k{number}"), "v", w(3)).await.unwrap();
    }
    let filled = equal(&client, &cluster, 3).await;
    assert!(filled.iter().any(|digest| !digest.is_empty()));
    let object = ObjectKey::parse("b", "k7").unwrap();
    let request = KeysRequest::new(3, &[Leaf::of(object.position())], None);
    let mut listed = Vec::new();
    for id in 1..=3 {
        let answer: KeysAnswer =
            client.ask(cluster.address(id), TREE_KEYS_PATH, &request).await.unwrap();
        let (keys, next) = answer.parse().unwrap();
        assert!(next.is_none() && keys.iter().any(|entry| entry.object == object));
        listed.push(keys);
    }
    assert!(listed.windows(2).all(|pair| pair[0] == pair[1]));
    assert!(roots(&client, &cluster, 1, 2).await.digests.iter().all(|digest| digest.is_empty()));
    // A restart reads the tree, in order or after a crash.
    cluster.stop(1).await.unwrap();
    cluster.kill(2).await;
    for id in [1, 2] {
        cluster.start_node(id).await.unwrap();
        cluster.ready(id).await;
    }
    assert_eq!(equal(&client, &cluster, 3).await, filled);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_with_another_n_has_a_tree_of_its_own() {
    let cluster = Cluster::start(3).await;
    let client = Client::new(72);
    for number in 0..20 {
        client.put(cluster.address(1), &format!("k{number}"), "v", w(3)).await.unwrap();
    }
    let before = equal(&client, &cluster, 3).await;
    cluster.agents.set_bucket("b", BucketProps { n: 2, ..BucketProps::default() });
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while roots(&client, &cluster, 1, 3).await.digests.iter().any(|digest| !digest.is_empty())
        || roots(&client, &cluster, 1, 2).await.digests != before
    {
        assert!(tokio::time::Instant::now() < deadline, "the classes never change");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    equal(&client, &cluster, 2).await;
    assert!(cluster.metric(1, "atoll_scrub_passes_total") >= 1.0);
    assert!(cluster.metric(1, "atoll_scrub_mismatches_total") < 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_questions_are_refused_and_background_work_takes_slices() {
    let cluster = Cluster::start(1).await;
    let client = Client::new(73);
    let to = cluster.address(1);
    let cases = [
        (TREE_DIGESTS_PATH, r#"{"n":0,"prefixes":[]}"#, ErrorCode::BadRequest),
        (TREE_DIGESTS_PATH, r#"{"n":3,"prefixes":[{"bits":17,"index":0}]}"#, ErrorCode::BadRequest),
        (TREE_DIGESTS_PATH, r#"{"n":3,"prefixes":[{"bits":1,"index":2}]}"#, ErrorCode::BadRequest),
        (TREE_DIGESTS_PATH, r#"{"n":3}"#, ErrorCode::Unprocessable),
        (TREE_KEYS_PATH, r#"{"n":3,"leaves":[2,1]}"#, ErrorCode::BadRequest),
        (TREE_KEYS_PATH, r#"{"n":3,"leaves":[70000]}"#, ErrorCode::Unprocessable),
        (TREE_KEYS_PATH, "{", ErrorCode::BadJson),
        (REAP_CHECK_PATH, r#"{"objects":[{"bucket":"B","key":"k"}]}"#, ErrorCode::BadRequest),
    ];
    for (path, body, code) in cases {
        let mut headers = http::HeaderMap::new();
        headers.insert("content-type", "application/json".parse().unwrap());
        let body = bytes::Bytes::from_static(body.as_bytes());
        let refused = client.call(to, http::Method::POST, path, headers, body, 5_000).await;
        assert_eq!(refused.unwrap_err().code(), code, "{path}");
    }
    let request = DigestsRequest::new(3, &[Prefix::ALL]);
    client.post(to, TREE_DIGESTS_PATH, &request, Some("exchange")).await.unwrap();
    assert!(cluster.metric(1, "atoll_slices_granted_total") >= 1.0);
    let refused = client.post(to, TREE_DIGESTS_PATH, &request, Some("scrub")).await;
    assert_eq!(refused.unwrap_err().code(), ErrorCode::BadRequest);
    assert!(cluster.metric(1, "atoll_slices") >= 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_scrub_goes_through_everything_in_its_time() {
    let cluster = Cluster::start_with(1, |config| config.background.scrub_interval_s = 1).await;
    let client = Client::new(74);
    client.put(cluster.address(1), "k", "v", w(1)).await.unwrap();
    let deadline = tokio::time::Instant::now() + 3 * PATIENCE;
    loop {
        let store: StoreDocument = client.json(cluster.address(1), "/v1/store").await.unwrap();
        assert_eq!((store.tree.state, store.tree.leaves), (TreeState::Built, 65_536));
        if store.tree.last_full_ms.is_some() {
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "{store:?}");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert!(cluster.metric(1, "atoll_scrub_leaves_total") >= 65_536.0);
    assert!(cluster.metric(1, "atoll_scrub_last_full_timestamp_seconds") > 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_record_is_reaped_as_it_was_seen_and_not_otherwise() {
    let cluster = Cluster::start(3).await;
    let client = Client::new(75);
    let object = ObjectKey::parse("b", "gone").unwrap();
    let live = ObjectKey::parse("b", "here").unwrap();
    let missing = ObjectKey::parse("b", "never").unwrap();
    let put = client.put(cluster.address(1), "gone", "v", w(3)).await.unwrap();
    client.delete(cluster.address(1), "gone", with(put.versions.context)).await.unwrap();
    client.put(cluster.address(1), "here", "v", w(3)).await.unwrap();
    let before = equal(&client, &cluster, 3).await;
    let ring = cluster.agents.view().version();
    let check = ReapCheckRequest::new([&object, &live, &missing]);
    let mut digests = BTreeMap::new();
    for id in 1..=3 {
        let answer: ReapCheckAnswer =
            client.ask(cluster.address(id), REAP_CHECK_PATH, &check).await.unwrap();
        answer.check(3).unwrap();
        assert!(answer.presence.iter().all(|found| !found.hint));
        assert_eq!(answer.presence[2].digest, None);
        digests
            .insert(id, (answer.presence[0].digest.unwrap(), answer.presence[1].digest.unwrap()));
    }
    assert!(digests.values().all(|found| found == &digests[&1]));
    let (dead, alive) = digests[&1];
    let item = |object: &ObjectKey, digest| ReapItem {
        object: object.clone(),
        digest,
        action: ReapAction::Remove,
    };
    let unused = ActorId { node: node(9), epoch: 1 };
    let shorten = ReapAction::Truncate(vec![unused]);
    let items = [
        item(&object, alive),
        item(&live, alive),
        item(&missing, dead),
        item(&object, dead),
        ReapItem { object: live.clone(), digest: dead, action: shorten },
    ];
    let expected = [
        ReapResult::Changed,
        ReapResult::Changed,
        ReapResult::Absent,
        ReapResult::Done,
        ReapResult::Changed,
    ];
    for id in 1..=3 {
        let request = ReapRequest::new(ring, &items);
        let answer: ReapAnswer =
            client.ask(cluster.address(id), REAP_PATH, &request).await.unwrap();
        assert_eq!(answer.results, expected, "node {id}");
    }
    let after = equal(&client, &cluster, 3).await;
    assert_ne!(before, after);
    let answer: ReapCheckAnswer =
        client.ask(cluster.address(2), REAP_CHECK_PATH, &check).await.unwrap();
    assert_eq!(answer.presence[0].digest, None);
    let other = dynamo_core::ring::RingVersion { number: ring.number + 1, ..ring };
    let request = ReapRequest::new(other, &items);
    let refused = client.ask::<ReapAnswer>(cluster.address(1), REAP_PATH, &request).await;
    assert_eq!(refused.unwrap_err().code(), ErrorCode::Conflict);
    assert!(cluster.metric(1, "atoll_reap_orders_total") >= 1.0);
}
