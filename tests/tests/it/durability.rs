//! SIGKILL of every process type under load, and of everything at once.

use std::time::Duration;

use tests::harness::Service;

use super::scene::{Writers, all_read_back, hints_drain, scene};

#[test]
fn killing_any_process_loses_nothing_acked() {
    let scene = scene(3);
    let cluster = &scene.cluster;
    let writers = Writers::start(cluster, "kills", &[1, 2, 3], 6);
    for (host, service) in [
        (1, Service::Router),
        (2, Service::Storage),
        (3, Service::Membership),
        (1, Service::Storage),
        (2, Service::Router),
        (3, Service::Worker),
    ] {
        std::thread::sleep(Duration::from_millis(400));
        cluster.kill(host, service);
        std::thread::sleep(Duration::from_millis(600));
        cluster.revive(host, service);
    }
    let report = writers.finish();
    assert!(report.refused.is_empty(), "refused: {:?}", &report.refused[..1]);
    assert!(report.acked.len() > 100, "only {} writes", report.acked.len());
    hints_drain(cluster);
    all_read_back(cluster, &report, &[1, 2, 3]);
}

#[test]
fn killing_everything_at_once_loses_nothing_acked() {
    let mut scene = scene(3);
    let writers = Writers::start(&scene.cluster, "blackout", &[1, 2, 3], 8);
    std::thread::sleep(Duration::from_secs(2));
    scene.cluster.kill_everything();
    let report = writers.finish();
    assert!(report.acked.len() > 100, "only {} writes", report.acked.len());
    scene.cluster.launch();
    all_read_back(&scene.cluster, &report, &[1, 2, 3]);
}
