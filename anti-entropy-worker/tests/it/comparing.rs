//! Replicas that differ become equal without a client, and then it is quiet.

use crate::scene::{Scene, node, object, until, value};

const OBJECTS: usize = 60;

/// A cluster of three whose replicas differ in every way.
async fn diverged() -> Scene {
    let scene = Scene::new(3, 3).await;
    for number in 0..OBJECTS {
        for id in 1..=3 {
            match number % 5 {
                // Everywhere; missing at one; only at one; siblings; siblings and missing.
                0 => scene.store(id).merge(&object(number), &value(1)),
                1 if id != 2 => scene.store(id).merge(&object(number), &value(1)),
                2 if id == 3 => scene.store(id).merge(&object(number), &value(1)),
                3 => scene.store(id).merge(&object(number), &value(id)),
                4 if id != 1 => scene.store(id).merge(&object(number), &value(id)),
                _ => {}
            }
        }
    }
    scene
}

#[tokio::test(flavor = "multi_thread")]
async fn diverged_replicas_become_equal_and_stay_quiet() {
    let scene = diverged().await;
    let first = scene.start(1).await.unwrap();
    let second = scene.start(2).await.unwrap();
    until("all three are equal", || scene.are_equal(&[1, 2, 3])).await;
    let records = scene.store(1).content().records.clone();
    assert_eq!(records.len(), OBJECTS);
    let (_, siblings) = &records[&object(3).storage_key()];
    assert_eq!(siblings.sibling_count(), 3, "concurrent versions are kept");

    let agreed =
        |worker: &crate::scene::Running| worker.metric("atoll_anti_entropy_rounds_total", "agreed");
    // What was repaired is compared again; then rounds find nothing but equal roots.
    let settled = (agreed(&first), agreed(&second));
    until("everybody has compared since", || {
        agreed(&first) >= settled.0 + 3.0 && agreed(&second) >= settled.1 + 3.0
    })
    .await;
    let quiet = |scene: &Scene| -> (usize, usize) {
        let asked = |path| scene.stores.iter().map(|store| store.asked("exchange", path)).sum();
        (asked("/v1/replica/batch"), asked("/v1/tree/keys"))
    };
    let before = (quiet(&scene), agreed(&first));
    until("two further rounds", || agreed(&first) >= before.1 + 4.0).await;
    assert_eq!(quiet(&scene), before.0, "further rounds move nothing");
    let repaired = first.metric("atoll_anti_entropy_keys_repaired_total", "");
    assert!(repaired > 0.0);
    first.stop().await.unwrap();
    second.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partner_that_is_away_is_skipped_and_found_again() {
    let scene = Scene::new(2, 2).await;
    let alive = scene.store(2).clone();
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    scene.agents.set_address(node(2), gone);
    scene.store(1).merge(&object(1), &value(1));
    let worker = scene.start(1).await.unwrap();
    until("the partner is skipped", || {
        worker.metric("atoll_anti_entropy_rounds_total", "skipped") > 0.0
    })
    .await;
    let status = scene.get(&worker, "/v1/anti-entropy").await;
    assert_eq!(status["peers"][0]["error"], "not reachable", "{status}");
    assert!(status["lag_ms"].is_null(), "{status}");
    let partitions = status["partitions"].as_array().unwrap();
    for partition in partitions {
        assert_eq!(partition["not_compared_with"][0], node(2).to_string(), "{status}");
    }
    let behind = || worker.metric("atoll_anti_entropy_partitions_behind", "");
    until("all that both have is behind", || behind() == partitions.len() as f64).await;
    let address = alive.start().await;
    scene.agents.set_address(node(2), address);
    until("it gets what it missed", || scene.are_equal(&[1, 2])).await;
    until("the lag is known", || worker.metric("atoll_anti_entropy_lag_seconds", "") >= 0.0).await;
    until("nothing is behind", || behind() == 0.0).await;
    worker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_store_is_waited_for() {
    let scene = Scene::new(2, 2).await;
    scene.store(2).merge(&object(1), &value(1));
    scene.store(2).content().overloaded = 3;
    let worker = scene.start(1).await.unwrap();
    until("it gets what it lacks", || scene.are_equal(&[1, 2])).await;
    assert!(worker.metric("atoll_worker_overloaded_total", "") >= 3.0);
    assert_eq!(worker.metric("atoll_anti_entropy_rounds_total", "failed"), 0.0);
    worker.stop().await.unwrap();
}
