//! What operators can ask, and what the worker refuses.

use anti_entropy_worker::progress::PROGRESS_FILE;
use dynamo_core::id::ClusterId;
use http::Method;
use serde_json::Value as Json;
use service_kit::launch::RunError;

use crate::scene::{Scene, object, until, value};

#[tokio::test(flavor = "multi_thread")]
async fn a_repair_is_done_at_once_and_tells_how_far_it_is() {
    let scene = Scene::new(2, 2).await;
    let worker = scene.start(1).await.unwrap();
    let ask =
        |body: &'static str| scene.call(&worker, Method::POST, "/v1/anti-entropy/repair", body);
    for number in 0..20 {
        scene.store(2).merge(&object(number), &value(2));
    }
    for scope in ["{}", r#"{"bucket":"b"}"#, r#"{"partition":3}"#] {
        let answer = ask(scope).await;
        assert_eq!(answer.status, 202);
        let repair: Json = serde_json::from_slice(&answer.body).unwrap();
        let path = format!("/v1/anti-entropy/repair/{}", repair["id"].as_str().unwrap());
        let mut state = Json::Null;
        for _ in 0..500 {
            state = scene.get(&worker, &path).await;
            if !state["ended_at"].is_null() {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        assert_eq!(state["state"], "done", "{state}");
        assert!(scene.are_equal(&[1, 2]) || scope.contains("partition"));
    }
    let refusals = [
        (r#"{"partition":1,"bucket":"b"}"#, 422),
        (r#"{"partition":8}"#, 422),
        (r#"{"bucket":"B A D"}"#, 422),
        (r#"{"surprise":1}"#, 422),
        ("{", 400),
    ];
    for (body, status) in refusals {
        assert_eq!(ask(body).await.status, status, "{body}");
    }
    let unknown = scene.call(&worker, Method::GET, "/v1/anti-entropy/repair/nope", "").await;
    assert_eq!(unknown.status, 404);
    worker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn work_is_halted_and_goes_on() {
    let scene = Scene::new(2, 2).await;
    let worker = scene.start(1).await.unwrap();
    let halted = scene.call(&worker, Method::POST, "/v1/anti-entropy/pause", "").await;
    assert_eq!(serde_json::from_slice::<Json>(&halted.body).unwrap()["paused"], true);
    let running = || worker.metric("atoll_anti_entropy_rounds_running", "") > 0.0;
    scene.store(2).merge(&object(1), &value(2));
    // Rounds that were under way have stopped between two steps; none begins.
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    assert!(!scene.are_equal(&[1, 2]) || running());
    scene.call(&worker, Method::POST, "/v1/anti-entropy/resume", "").await;
    until("it goes on", || scene.are_equal(&[1, 2])).await;
    let ping = scene.get(&worker, "/v1/ping").await;
    assert_eq!(ping["node"], "00000000000000000000000000000001");
    worker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn another_cluster_and_another_node_are_refused() {
    let scene = Scene::new(2, 2).await;
    scene.start(1).await.unwrap().stop().await.unwrap();
    // The directory of another node.
    std::fs::create_dir_all(scene.data_dir(2)).unwrap();
    std::fs::copy(scene.data_dir(1).join(PROGRESS_FILE), scene.data_dir(2).join(PROGRESS_FILE))
        .unwrap();
    let moved = scene.start(2).await.unwrap();
    let ping = scene.get(&moved, "/v1/ping").await;
    assert_eq!(ping["node"], "00000000000000000000000000000001", "a directory knows its node");
    moved.stop().await.unwrap();
    // Another cluster: refused, with the exit code of a wrong setting.
    scene.agents.set_cluster(ClusterId(0xbad));
    // The cached ring is that of the own cluster, so it starts, and ends when it hears of the
    // other one.
    let ended = match scene.start(1).await {
        Ok(worker) => worker.ended().await,
        Err(error) => Err(error),
    };
    assert!(matches!(ended, Err(RunError::Config(_))), "{ended:?}");
}
