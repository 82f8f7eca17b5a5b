//! The web console's files, and the figures that are there for it.

use dynamo_core::limits::{LOAD_WINDOWS_S, PEER_SIGHT_MESSAGES_MIN, PEER_SIGHT_WINDOW_S};
use dynamo_core::wire::peers::{PeerMark, PeerSight};

use crate::support::{Cluster, Mode, Reply};

const POLICY: &str = "default-src 'self'; base-uri 'none'; form-action 'none'; \
    frame-ancestors 'none'; object-src 'none'";

struct Case {
    path: &'static str,
    status: u16,
    kind: &'static str,
    begins: &'static str,
}

fn check(reply: &Reply, case: &Case) {
    let Case { path, status, kind, begins } = case;
    assert_eq!((reply.status, reply.header("content-type")), (*status, Some(*kind)), "{path}");
    assert!(reply.text().starts_with(begins), "{path}: {}", reply.text());
    if *status == 200 {
        assert_eq!(reply.header("content-security-policy"), Some(POLICY), "{path}");
        assert_eq!(reply.header("x-content-type-options"), Some("nosniff"), "{path}");
        assert_eq!(reply.header("x-frame-options"), Some("DENY"), "{path}");
        assert_eq!(reply.header("cache-control"), Some("no-cache"), "{path}");
    }
}

#[test]
fn files_have_their_types_and_a_strict_policy() {
    let cluster = Cluster::start(1);
    let (html, script) = ("text/html; charset=utf-8", "text/javascript; charset=utf-8");
    let problem = "application/problem+json";
    let missing = |path| Case { path, status: 404, kind: problem, begins: "{\"type\"" };
    let found = |path, kind, begins| Case { path, status: 200, kind, begins };
    let rows = [
        found("/console/", html, "<!doctype html>"),
        found("/console/index.html", html, "<!doctype html>"),
        found("/console/main.js", script, "//"),
        found("/console/base.css", "text/css; charset=utf-8", "/*"),
        found("/console/icon.svg", "image/svg+xml", "<svg"),
        missing("/console/nothing.js"),
        missing("/console/..%2F..%2FCargo.toml"),
        missing("/console/a/b"),
        Case { path: "/console/?x=1", status: 400, kind: problem, begins: "{\"type\"" },
    ];
    for case in rows {
        check(&cluster.get(case.path), &case);
    }
    let door = cluster.get("/console");
    assert_eq!((door.status, door.header("location")), (308, Some("console/")));
    let refused = cluster.ask("POST", "/console/", &[]);
    assert_eq!((refused.status, refused.header("allow")), (405, Some("GET,HEAD")));
    assert_eq!(cluster.ask("HEAD", "/console/", &[]).body.len(), 0);
}

#[test]
fn every_file_that_a_file_names_is_there_and_nothing_is_inline() {
    let cluster = Cluster::start(1);
    let mut wanted = vec!["index.html".to_owned()];
    let mut seen = Vec::new();
    while let Some(name) = wanted.pop() {
        let reply = cluster.get(&format!("/console/{name}"));
        assert_eq!(reply.status, 200, "{name}");
        let text = reply.text().to_owned();
        for inline in
            ["<style", " style=\"", "onclick=\"", "javascript:", "innerHTML", "http://", "https://"]
        {
            let namespace = text.replace("http://www.w3.org/2000/svg", "");
            assert!(!namespace.contains(inline), "{name} has {inline}");
        }
        seen.push(name);
        for opening in ["from './", "href=\"", "src=\""] {
            for rest in text.split(opening).skip(1) {
                let next: String = rest.chars().take_while(|c| !"'\"".contains(*c)).collect();
                let ours = !next.starts_with(['#', '.']) && !next.is_empty();
                if ours && !seen.contains(&next) && !wanted.contains(&next) {
                    wanted.push(next);
                }
            }
        }
    }
    assert!(seen.len() > 15, "{seen:?}");
}

#[test]
fn unchanged_files_are_not_sent_again() {
    let cluster = Cluster::start(1);
    let whole = cluster.get("/console/main.js");
    let tag = whole.header("etag").unwrap().to_owned();
    let other = cluster.get("/console/base.css");
    assert_ne!(other.header("etag"), Some(tag.as_str()));
    let again = cluster.ask("GET", "/console/main.js", &[("if-none-match", &tag)]);
    assert_eq!((again.status, again.body.len(), again.header("etag")), (304, 0, Some(&*tag)));
    let changed = cluster.ask("GET", "/console/main.js", &[("if-none-match", "\"other\"")]);
    assert_eq!((changed.status, changed.body), (200, whole.body));
}

#[test]
fn rates_are_those_of_the_last_seconds() {
    let cluster = Cluster::start(3);
    let stats = || cluster.get("/v1/stats").json();
    while stats()["window_s"] == 0 {
        std::thread::yield_now();
    }
    cluster.put("/v1/kv/carts/alice", &[], b"1");
    cluster.get("/v1/kv/carts/alice");
    cluster.get("/v1/kv/carts/bob");
    let count = |name: &str| {
        let all = stats()["operations"].clone();
        let one = all.as_array().unwrap().iter().find(|one| one["operation"] == name).cloned();
        one.unwrap()
    };
    while (count("get")["requests"].as_u64(), count("put")["requests"].as_u64())
        != (Some(2), Some(1))
    {
        std::thread::yield_now();
    }
    let get = count("get");
    assert!(
        get["per_s"].as_f64().unwrap() > 0.0 && get["p999_ms"].as_f64() >= get["p50_ms"].as_f64(),
        "{get}"
    );
    assert_eq!((&get["errors"], &count("delete")["p50_ms"]), (&0.into(), &serde_json::Value::Null));
    assert_eq!(cluster.get("/v1/stats?x=1").status, 400);
}

#[test]
fn the_load_is_that_of_all_members_that_answer() {
    let cluster = Cluster::start(3);
    for (node, operations) in cluster.nodes.iter().zip([1_000, 1_000, 1_600]) {
        node.load(operations);
    }
    let load = cluster.get("/v1/cluster/load").json();
    let windows = load["windows"].as_array().unwrap();
    assert_eq!(windows.len(), LOAD_WINDOWS_S.len());
    let out = |load: &serde_json::Value| -> Vec<(i64, bool)> {
        let nodes = load["windows"][0]["nodes"].as_array().unwrap();
        let one = |node: &serde_json::Value| {
            (node["deviation_milli"].as_i64().unwrap(), node["out_of_balance"].as_bool().unwrap())
        };
        nodes.iter().map(one).collect()
    };
    assert_eq!(out(&load), [(-166, true), (-166, true), (333, true)]);
    assert_eq!((&load["silent"], &windows[0]["imbalance_milli"]), (&0.into(), &1000.into()));
    cluster.nodes[2].set(Mode::Frozen);
    let load = cluster.get("/v1/cluster/load").json();
    assert_eq!((out(&load), &load["silent"]), (vec![(0, false), (0, false)], &1.into()));
}

#[test]
fn a_slow_host_is_told_by_what_its_peers_measured() {
    let cluster = Cluster::start(3);
    let [one, two, three] = [0, 1, 2].map(|index| cluster.nodes[index].id);
    let sight = |node, p99_ms: u64| PeerSight {
        node,
        state: if p99_ms > 100 { PeerMark::Slow } else { PeerMark::Up },
        messages: PEER_SIGHT_MESSAGES_MIN,
        p50_us: Some(900),
        p99_us: Some(p99_ms * 1000),
    };
    // The second one pauses, and so finds the others slow.
    cluster.nodes[0].sees(vec![sight(two, 700), sight(three, 9)]);
    cluster.nodes[1].sees(vec![sight(one, 650), sight(three, 650)]);
    cluster.nodes[2].sees(vec![sight(one, 8), sight(two, 800)]);
    let told = || cluster.get("/v1/cluster/peers").json();
    let of = |json: &serde_json::Value| -> Vec<(bool, Option<u64>, u64)> {
        let one = |node: &serde_json::Value| {
            let slow = node["slow"].as_bool().unwrap();
            (slow, node["p99_us"].as_u64(), node["slow_for"].as_u64().unwrap())
        };
        json["nodes"].as_array().unwrap().iter().map(one).collect()
    };
    let peers = told();
    assert_eq!((&peers["silent"], &peers["window_s"]), (&0.into(), &PEER_SIGHT_WINDOW_S.into()));
    let seen = [(false, Some(8_000), 1), (true, Some(700_000), 2), (false, Some(9_000), 1)];
    assert_eq!(of(&peers), seen);
    cluster.nodes[1].set(Mode::Frozen);
    let peers = told();
    assert_eq!((&peers["silent"], of(&peers)[1]), (&1.into(), (true, Some(700_000), 2)));
    assert_eq!(cluster.get("/v1/cluster/peers?x=1").status, 400);
}
