//! Hosts that stop, and hosts that hang: both sides of the promise to stay writeable.

use super::scene::{Report, Scene, Writers, all_read_back, hints_drain, scene};

#[test]
fn two_of_five_hosts_may_stop() {
    let (scene, report) = survive("stop", "start");
    hints_drain(&scene.cluster);
    all_read_back(&scene.cluster, &report, &[1, 2, 3, 4, 5]);
}

#[test]
fn two_of_five_hosts_may_hang() {
    let (scene, report) = survive("pause", "resume");
    hints_drain(&scene.cluster);
    all_read_back(&scene.cluster, &report, &[1, 2, 3, 4, 5]);
}

/// Default-quorum reads and writes go on while two hosts are away; what was acked meanwhile.
fn survive(away: &str, back: &str) -> (Scene, Report) {
    let scene = scene(5);
    let cluster = &scene.cluster;
    let old = |index| format!("days/old-{index}");
    for index in 0..60 {
        let put = cluster.http.put(&cluster.object(1, &old(index)), "", b"old");
        assert_eq!(put.status, 204, "{}", put.text());
    }
    let writers = Writers::start(cluster, "days", &[1, 2, 3], 6);
    std::thread::sleep(std::time::Duration::from_millis(700));
    for host in [4, 5] {
        cluster.dev(away, host, &[]);
    }
    std::thread::sleep(std::time::Duration::from_secs(3));
    for (round, host) in [1, 2, 3].into_iter().cycle().take(60).enumerate() {
        let url = cluster.object(host, &format!("days/probe-{round}"));
        let put = cluster.http.put(&url, "", b"probe");
        assert_eq!(put.status, 204, "{}", put.text());
        let get = cluster.http.get(&url);
        assert_eq!((get.status, get.text().as_str()), (200, "probe"), "{:?}", get.headers);
    }
    // Of some of these, two of the three primaries are away.
    for index in 0..60 {
        let get = cluster.http.get(&cluster.object(1 + index % 3, &old(index)));
        assert_eq!((get.status, get.text().as_str()), (200, "old"), "{}", old(index));
    }
    for host in [4, 5] {
        cluster.dev(back, host, &[]);
    }
    let report = writers.finish();
    assert!(report.refused.is_empty(), "refused: {:?}", &report.refused[..1]);
    assert!(report.acked.len() > 100, "only {} writes", report.acked.len());
    (scene, report)
}

#[test]
fn with_two_of_three_hosts_gone_w1_goes_on_and_w2_is_refused() {
    let scene = scene(3);
    let (cluster, http) = (&scene.cluster, &scene.cluster.http);
    assert_eq!(http.put(&cluster.object(1, "days/k"), "", b"before").status, 204);
    cluster.dev("stop", 2, &[]);
    cluster.dev("stop", 3, &["--kill"]);

    for w in ["1", "one", "any"] {
        let url = cluster.object(1, &format!("days/w-{w}"));
        let put = http.call("PUT", &format!("{url}?w={w}"), &[], b"alone");
        assert_eq!(put.status, 204, "w={w}: {}", put.text());
        let get = http.get(&format!("{url}?r=1"));
        assert_eq!((get.status, get.text().as_str()), (200, "alone"));
    }
    for _ in 0..20 {
        let put = http.call("PUT", &format!("{}?w=2", cluster.object(1, "days/k")), &[], b"two");
        assert_eq!(put.status, 503, "{}", put.text());
        let problem = put.json();
        assert_eq!(problem["code"], "quorum_unavailable", "{problem}");
        assert_eq!(
            (problem["required"].as_u64(), problem["retryable"].as_bool()),
            (Some(2), Some(true))
        );
    }
    let get = http.get(&cluster.object(1, "days/k"));
    assert_eq!(get.status, 503, "a default get needs two replies: {}", get.text());
    // One primary alone cannot confirm that a key is absent where two are asked for.
    let absent = http.get(&cluster.object(1, "days/never-written"));
    assert_eq!(absent.status, 503, "{}", absent.text());

    cluster.dev("start", 2, &[]);
    cluster.dev("start", 3, &[]);
    hints_drain(cluster);
    for w in ["1", "one", "any"] {
        let name = format!("days/w-{w}");
        for host in 1..=3 {
            assert_eq!(http.get(&cluster.object(host, &name)).text(), "alone", "{name} at {host}");
        }
        let digest = cluster.replica_digest(1, &name);
        assert!(!digest.is_empty());
        for host in 2..=3 {
            assert_eq!(cluster.replica_digest(host, &name), digest, "{name} at {host}");
        }
    }
}
