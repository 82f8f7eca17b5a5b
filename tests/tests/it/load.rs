//! `atoll load` while a host goes away and comes back.

use std::fmt::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::scene::{ATOLL, hints_drain, scene};

/// Lines in the shape of package stanzas: one JSON object each, of very different lengths.
fn stanzas(count: usize) -> Vec<String> {
    (0..count)
        .map(|i| {
            let mut text = String::new();
            for line in 0..i % 23 {
                write!(text, "Depends: libthing{line} (>= {}.{i})\\n", line * 7)
                    .expect("writing to a string");
            }
            format!(r#"{{"Package":"package-{i}","Stanza":"{text}é — {i}"}}"#)
        })
        .collect()
}

#[test]
fn a_load_survives_a_host_that_stops_half_way() {
    let scene = scene(3);
    let (cluster, http) = (&scene.cluster, &scene.cluster.http);
    let lines = stanzas(1500);
    let file = cluster.data().join("packages.ndjson");
    std::fs::write(&file, lines.join("\n") + "\n").expect("writing to a string");

    let load = Command::new(ATOLL)
        .args(["load", file.to_str().unwrap(), "--bucket", "packages", "--key", "Package"])
        .env("ATOLL_ENDPOINT", cluster.router(1))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("writing to a string");
    std::thread::sleep(Duration::from_millis(300));
    cluster.dev("stop", 2, &[]);
    let output = load.wait_with_output().expect("writing to a string");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    cluster.dev("start", 2, &[]);
    hints_drain(cluster);

    for (index, line) in lines.iter().enumerate() {
        let name = format!("packages/package-{index}");
        let digest = cluster.replica_digest(1, &name);
        assert!(!digest.is_empty(), "{name} has no replica at host 1");
        for host in 1..=3 {
            let get = http.get(&cluster.object(host, &name));
            assert_eq!((get.status, get.text()), (200, line.clone()), "{name} at host {host}");
            assert_eq!(cluster.replica_digest(host, &name), digest, "{name} at host {host}");
        }
    }
}
