//! A fourth host joins by stage, plan and commit.

use std::time::Duration;

use tests::harness::eventually;

use super::scene::{Writers, all_read_back, scene};

#[test]
fn a_fourth_host_joins_and_the_old_holders_keep_answering() {
    let scene = scene(3);
    let (cluster, http) = (&scene.cluster, &scene.cluster.http);
    let writers = Writers::start(cluster, "growth", &[1, 2, 3], 4);
    std::thread::sleep(Duration::from_secs(1));
    let data = cluster.data().display().to_string();
    cluster.atoll_ok(&["dev", "add-host", "--data", &data]);
    eventually("the candidate can be staged", Duration::from_secs(20), || {
        cluster.atoll(&["stage", "join", "host-4"]).status.success()
    });
    let plan: serde_json::Value =
        serde_json::from_str(&cluster.atoll_ok(&["plan", "--json"])).expect("a plan as JSON");
    let hash = plan["plan"].as_str().expect("a plan has a hash").to_owned();
    assert!(!cluster.atoll(&["commit", "not-the-hash"]).status.success(), "a stale plan");
    cluster.atoll_ok(&["commit", &hash]);
    let members = |host| {
        let ring = http.get(&format!("{}/v1/cluster", cluster.router(host))).json();
        ring["members"]
            .as_array()
            .map_or(0, |m| m.iter().filter(|m| m["owns"].as_u64().unwrap_or(0) > 0).count())
    };
    eventually("every host sees four owners", Duration::from_secs(20), || {
        (1..=4).all(|host| members(host) == 4)
    });
    std::thread::sleep(Duration::from_secs(1));
    let report = writers.finish();
    assert!(report.refused.is_empty(), "refused: {:?}", &report.refused[..1]);
    all_read_back(cluster, &report, &[1, 2, 3, 4]);
}
