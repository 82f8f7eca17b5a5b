//! Tombstones go when every owner has them and nobody keeps a hint, and not before.

use dynamo_core::clock::record::Content;

use crate::scene::{Scene, object, until, value, written};

const OBJECTS: usize = 24;

#[tokio::test(flavor = "multi_thread")]
async fn what_is_dead_everywhere_is_removed_everywhere() {
    let scene = Scene::new(2, 2).await;
    let hinted = object(0);
    for number in 0..OBJECTS {
        // Deleted long ago.
        let record = match number % 2 {
            0 => written(1, Content::Tombstone),
            _ => value(1),
        };
        for id in 1..=2 {
            scene.store(id).merge(&object(number), &record);
        }
    }
    scene.store(2).content().hints.push(hinted.clone());
    let workers = [scene.start(1).await.unwrap(), scene.start(2).await.unwrap()];
    let left = |id: usize| scene.store(id).content().records.len();
    until("the dead are gone, but for one with a hint", || {
        (1..=2).all(|id| left(id) == OBJECTS / 2 + 1)
    })
    .await;
    assert!(scene.store(1).content().records.contains_key(&hinted.storage_key()));
    let removed: f64 =
        workers.iter().map(|worker| worker.metric("atoll_reap_removed_keys_total", "")).sum();
    assert_eq!(removed as usize, OBJECTS / 2 - 1);
    for worker in workers {
        worker.stop().await.unwrap();
    }
}
