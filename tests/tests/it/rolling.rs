//! Hosts stop in order while clients work, as in an upgrade: nobody notices.

use tests::harness::Service;

use super::scene::secure_scene;
use super::security::Load;

/// Every service of a host.
const SERVICES: [Service; 4] =
    [Service::Membership, Service::Storage, Service::Router, Service::Worker];

#[test]
fn hosts_stop_one_after_the_other_without_a_failed_request() {
    let scene = secure_scene(3);
    let cluster = &scene.cluster;
    let ca = std::fs::read(cluster.ca_file()).expect("the CA of the cluster");
    let load = Load::start(cluster, &cluster.admin_key(), &ca);
    load.go_on();
    for host in 1..=cluster.hosts() {
        cluster.dev("stop", host, &[]);
        load.go_on();
        for service in SERVICES {
            let log = cluster.log_of(host, service);
            assert!(!log.contains("did not end in time"), "host {host}, {}", service.name());
        }
        assert!(
            !cluster.log().contains("signal 9"),
            "a process had to be killed:\n{}",
            cluster.log()
        );
        cluster.dev("start", host, &[]);
        load.go_on();
    }
    let (done, failures) = load.finish();
    assert!(done >= 700, "{done}");
    assert!(failures.is_empty(), "{} of {done}: {:?}", failures.len(), failures.first());
}
