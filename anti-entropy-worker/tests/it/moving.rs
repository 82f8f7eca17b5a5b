//! Partitions come to the nodes that the ring gives them, also when the worker dies on the way.

use dynamo_core::id::PartitionId;
use http::Method;

use crate::agent::{PARTITIONS, partitions};
use crate::scene::{Running, Scene, node, object, until, value};

const OBJECTS: usize = 200;

/// Three nodes with equal data, and a fourth that is to get its share.
async fn joining() -> Scene {
    let scene = Scene::new(4, 3).await;
    for number in 0..OBJECTS {
        for id in 1..=3 {
            scene.store(id).merge(&object(number), &value(1));
        }
    }
    scene.agents.set_members(4);
    scene
}

fn wanted(scene: &Scene, id: usize) -> usize {
    let view = scene.agents.view();
    partitions().iter().filter(|partition| view.wants(node(id), *partition)).count()
}

/// Whether the node holds all that it wants, with every record of it.
fn has_its_share(scene: &Scene, id: usize) -> bool {
    let view = scene.agents.view();
    let held = scene.store(id).content().held.clone();
    let complete = (0..OBJECTS).map(object).all(|object| {
        let partition = partitions().of(object.position());
        let here = scene.store(id).content().records.contains_key(&object.storage_key());
        here || !view.wants(node(id), partition)
    });
    held.len() == wanted(scene, id) && complete
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_joins_gets_its_share_and_the_others_release_theirs() {
    let scene = joining().await;
    let mut others = Vec::new();
    for id in 1..=3 {
        others.push(scene.start(id).await.unwrap());
    }
    let worker = scene.start(4).await.unwrap();
    until("it has its share", || has_its_share(&scene, 4)).await;
    let sources = (1..=3).filter(|id| scene.store(*id).asked("transfer", "/page") > 0).count();
    assert!(sources > 1, "several sources");
    until("the others have released what they do not want", || {
        (1..=3).all(|id| scene.store(id).content().held.len() == wanted(&scene, id))
    })
    .await;
    until("it says so", || {
        worker.metric("atoll_transfer_partitions", "held") as usize == wanted(&scene, 4)
    })
    .await;
    let transfers = scene.get(&worker, "/v1/transfers").await;
    assert!(transfers["records"].as_u64().unwrap() > 0, "{transfers}");
    assert_eq!(transfers["partitions"].as_array().unwrap().len(), 0, "{transfers}");
    let leaving = scene.get(&others[0], "/v1/transfers").await;
    let graced = leaving["totals"]["grace"].as_u64().unwrap_or(0);
    assert_eq!(graced as usize, PARTITIONS as usize - wanted(&scene, 1), "{leaving}");
    for worker in others.into_iter().chain([worker]) {
        worker.stop().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_died_goes_on_where_it_was() {
    let scene = joining().await;
    for id in 1..=3 {
        scene.store(id).content().pages_left = 4;
    }
    let worker = scene.start(4).await.unwrap();
    let failed = |worker: &Running| worker.metric("atoll_transfer_failures_total", "");
    let copied = |worker: &Running| worker.metric("atoll_transfer_records_total", "");
    until("it gets stuck", || failed(&worker) > 3.0 && copied(&worker) > 0.0).await;
    worker.stop().await.unwrap();
    assert!(!has_its_share(&scene, 4));
    for id in 1..=3 {
        scene.store(id).content().pages_left = usize::MAX;
    }
    let worker = scene.start(4).await.unwrap();
    until("it has its share", || has_its_share(&scene, 4)).await;
    let view = scene.agents.view();
    let share = (0..OBJECTS)
        .filter(|number| view.wants(node(4), partitions().of(object(*number).position())))
        .count() as f64;
    until("it says so", || {
        worker.metric("atoll_transfer_partitions", "held") as usize == wanted(&scene, 4)
    })
    .await;
    let rest = copied(&worker);
    assert!(rest < share, "{rest} of {share} records: what was copied is not copied again");
    worker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wiped_store_refills() {
    let scene = Scene::new(3, 3).await;
    for number in 0..OBJECTS {
        for id in 1..=2 {
            scene.store(id).merge(&object(number), &value(1));
        }
    }
    // Node 3 lost its disk; the others still hold everything.
    scene.store(3).content().held.clear();
    scene.agents.advertise(node(3), None, false);
    let worker = scene.start(3).await.unwrap();
    until("it is full again", || has_its_share(&scene, 3) && scene.are_equal(&[1, 2, 3])).await;
    worker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_loss_must_be_accepted() {
    let scene = Scene::new(3, 3).await;
    let lost = PartitionId(5);
    for id in 1..=3 {
        scene.store(id).content().held.remove(&lost);
        scene.agents.advertise(node(id), Some(lost), false);
    }
    let worker = scene.start(3).await.unwrap();
    until("it is known that nobody has it", || {
        worker.metric("atoll_transfer_partitions", "no_holder") == 1.0
    })
    .await;
    let accept =
        |body: &'static str| scene.call(&worker, Method::POST, "/v1/transfers/accept-loss", body);
    assert_eq!(accept(r#"{"partitions":[4]}"#).await.status, 409);
    assert_eq!(accept(r#"{"partitions":[]}"#).await.status, 422);
    assert_eq!(accept(r#"{"partitions":[5]}"#).await.status, 200);
    until("it is held all the same", || scene.store(3).content().held.contains_key(&lost)).await;
    worker.stop().await.unwrap();
}
