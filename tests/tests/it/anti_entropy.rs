//! Replicas become equal by themselves: after the loss of a disk, after the loss of the hints, and
//! with nobody asking for an object.

use std::collections::BTreeMap;
use std::time::Duration;

use tests::harness::{Cluster, eventually};

use super::scene::scene;

/// The worker on the command line.
const WORKER: &str = "anti-entropy-worker";

/// Time in which replicas have to be equal; a round of a development cluster takes seconds.
const CONVERGED: Duration = Duration::from_secs(120);

/// Puts `count` objects through host 1.
fn put_all(cluster: &Cluster, bucket: &str, count: usize) -> Vec<String> {
    let names: Vec<String> = (0..count).map(|index| format!("{bucket}/object-{index}")).collect();
    for name in &names {
        let put = cluster.http.put(&cluster.object(1, name), "", name.as_bytes());
        assert_eq!(put.status, 204, "{}", put.text());
    }
    names
}

/// Which objects the replicas do not have alike. Reads the replicas themselves, so it repairs
/// nothing.
fn differing(cluster: &Cluster, names: &[String]) -> Vec<String> {
    let alike = |name: &String| {
        let first = cluster.replica_digest(1, name);
        !first.is_empty() && (2..=cluster.hosts()).all(|k| cluster.replica_digest(k, name) == first)
    };
    names.iter().filter(|name| !alike(name)).cloned().collect()
}

fn converge(cluster: &Cluster, names: &[String]) {
    // Of those that differed, so that the replicas are not read through again and again.
    let mut open = names.to_vec();
    eventually("all replicas are equal", CONVERGED, || {
        std::thread::sleep(Duration::from_millis(500));
        open = differing(cluster, &open);
        open.is_empty()
    });
    assert_eq!(differing(cluster, names), Vec::<String>::new());
}

/// The counters of a host's worker, by name and labels.
fn counters(cluster: &Cluster, host: u16) -> BTreeMap<String, f64> {
    let text = cluster.http.get(&format!("{}/metrics", cluster.url(host, 31))).text();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let split = |line: &str| {
        let (name, value) = line.rsplit_once(' ')?;
        Some((name.to_owned(), value.parse().ok()?))
    };
    lines.filter_map(split).collect()
}

fn counter(cluster: &Cluster, host: u16, name: &str) -> f64 {
    counters(cluster, host).get(name).copied().unwrap_or_default()
}

/// Waits for further rounds of every worker, and holds that nothing moves in them.
fn is_quiet(cluster: &Cluster) {
    let agreed = "atoll_anti_entropy_rounds_total{result=\"agreed\"}";
    let rounds = |more: f64| {
        for host in 1..=cluster.hosts() {
            let before = counter(cluster, host, agreed);
            eventually("further rounds", CONVERGED, || {
                counter(cluster, host, agreed) >= before + more
            });
        }
    };
    let moved = || {
        let sum = |host| -> f64 {
            let all = counters(cluster, host);
            let records =
                |name: &&String| name.starts_with("atoll_anti_entropy_record_bytes_total");
            all.iter().filter(|(name, _)| records(name)).map(|(_, value)| value).sum()
        };
        (1..=cluster.hosts()).map(sum).sum::<f64>()
    };
    // What was repaired last may still be looked at once more by the other end.
    rounds(2.0);
    let before = moved();
    rounds(4.0);
    assert_eq!(moved(), before, "two further rounds of every pair move nothing");
}

#[test]
fn a_lost_disk_is_filled_again_without_a_client() {
    let scene = scene(3);
    let cluster = &scene.cluster;
    let names = put_all(cluster, "disk", 300);
    cluster.dev("stop", 3, &[]);
    std::fs::remove_dir_all(cluster.data().join("host-3/storage")).expect("the disk of host 3");
    cluster.dev("start", 3, &[]);
    converge(cluster, &names);
    eventually("host 3 holds its partitions", CONVERGED, || {
        let url = format!("{}/v1/transfers", cluster.url(3, 30));
        let transfers = cluster.http.get(&url).json();
        let moving = transfers["partitions"].as_array().map_or(1, Vec::len);
        moving == 0 && transfers["totals"]["held"].as_u64().unwrap_or(0) > 0
    });
    is_quiet(cluster);
}

#[test]
fn lost_hints_are_made_up_for_without_a_client() {
    let mut scene = scene(3);
    let cluster = &scene.cluster;
    let mut names = put_all(cluster, "hints", 50);
    cluster.dev("stop", 3, &[]);
    names.extend(put_all(cluster, "more", 150));
    assert!(scene.cluster.shut_down().success(), "{}", scene.cluster.log());
    for host in 1..=2 {
        let hints = scene.cluster.data().join(format!("host-{host}/storage/hints.redb"));
        std::fs::remove_file(hints).expect("the hint file");
    }
    scene.cluster.launch();
    converge(&scene.cluster, &names);
    is_quiet(&scene.cluster);
}

#[test]
fn killing_the_workers_hurts_nobody() {
    let scene = scene(3);
    let cluster = &scene.cluster;
    for host in 1..=3 {
        cluster.dev("stop", host, &["--kill", "--service", WORKER]);
    }
    let names = put_all(cluster, "alone", 50);
    for (host, name) in (1..=3).cycle().zip(&names) {
        assert_eq!(cluster.http.get(&cluster.object(host, name)).status, 200);
    }
    for host in 1..=3 {
        cluster.dev("start", host, &["--service", WORKER]);
    }
    converge(cluster, &names);
    is_quiet(cluster);
}
