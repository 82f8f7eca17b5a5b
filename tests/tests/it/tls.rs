//! Certificates and their CA are replaced under load, and nobody notices; who has none, or another,
//! is not heard by real processes.

#![allow(clippy::unwrap_used, reason = "a test that fails should panic, also in its helpers")]

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use service_kit::datadir::write_atomic;
use service_kit::tls::authority::{Authority, Issued};
use tests::harness::{Cluster, Http, Service, eventually};

use super::scene::{ATOLL, secure_scene};
use super::security::{Load, METRICS, RELOAD, metric};

const DAY: time::Duration = time::Duration::DAY;

/// Names of the certificate that all hosts of a cluster on one machine share.
const NAMES: [&str; 3] = ["atoll", "localhost", "127.0.0.1"];

/// Waits until every process has taken `times` changes of its certificates.
fn reloaded(cluster: &Cluster, times: f64) {
    let line = "atoll_file_reloads_total{file=\"tls\",result=\"ok\"}";
    eventually("all processes have read the certificates", RELOAD, || {
        (1..=cluster.hosts()).all(|k| {
            METRICS.iter().all(|offset| metric(&cluster.http, cluster, k, *offset, line) >= times)
        })
    });
}

fn write(cluster: &Cluster, name: &str, text: &str) {
    write_atomic(&cluster.data().join(name), text.as_bytes()).unwrap();
}

/// Whether a new client that believes `ca` gets an answer of every router.
fn believed(cluster: &Cluster, ca: &str) -> bool {
    let file = cluster.data().join("believed.crt");
    write_atomic(&file, ca.as_bytes()).unwrap();
    let http = Http::believing(Some(&file));
    (1..=cluster.hosts()).all(|k| http.send("GET", &cluster.router(k), &[], b"").is_ok())
}

#[test]
fn certificates_and_their_ca_are_replaced_under_load_without_a_failed_request() {
    let scene = secure_scene(3);
    let cluster = &scene.cluster;
    let old = std::fs::read_to_string(cluster.ca_file()).unwrap();
    let authority = Authority::new("the next", DAY).unwrap();
    let (new, both) = (authority.pem(), format!("{old}{}", authority.pem()));
    let host = authority.issue(&NAMES, DAY).unwrap();
    let load = Load::start(cluster, &cluster.admin_key(), both.as_bytes());
    load.go_on();
    assert!(believed(cluster, &old) && !believed(cluster, &new));

    // The order of the manual: everybody believes both, everybody shows the new, nobody the old.
    write(cluster, "ca.crt", &both);
    reloaded(cluster, 1.0);
    load.go_on();
    write(cluster, "tls.key", &host.key_pem);
    write(cluster, "tls.crt", &host.cert_pem);
    reloaded(cluster, 2.0);
    load.go_on();
    assert!(believed(cluster, &new) && !believed(cluster, &old));
    write(cluster, "ca.crt", &new);
    reloaded(cluster, 3.0);
    load.go_on();
    // Of no use: what is there stays.
    write(cluster, "tls.crt", "not a certificate");
    let stale = "atoll_file_stale{file=\"tls\"}";
    eventually("a bad file is seen", RELOAD, || {
        (1..=3).all(|k| METRICS.iter().all(|o| metric(&cluster.http, cluster, k, *o, stale) > 0.0))
    });
    load.go_on();
    assert!(believed(cluster, &new));
    write(cluster, "tls.crt", &host.cert_pem);
    reloaded(cluster, 4.0);
    load.go_on();

    let (done, failures) = load.finish();
    assert!(done >= 600, "{done}");
    let shown = &failures[..failures.len().min(5)];
    assert!(failures.is_empty(), "{} of {done}: {shown:?}", failures.len());

    // A value of many TLS records arrives whole, at routers and between hosts.
    let http = Http::believing(Some(&cluster.ca_file()));
    let key = format!("Bearer {}", cluster.admin_key());
    let (key, large) = ([("authorization", key.as_str())], vec![b'x'; 1024 * 1024]);
    let put = http.call("PUT", &cluster.object(1, "carts/large"), &key, &large);
    assert_eq!(put.status, 204, "{}", put.text());
    let got = http.call("GET", &cluster.object(3, "carts/large?r=3"), &key, b"");
    assert!(got.status == 200 && got.body == large, "{} {}", got.status, got.body.len());

    // A process that knows nothing but the new certificates finds its place among the others.
    let scrape = Http::new();
    cluster.kill(2, Service::Storage);
    cluster.revive(2, Service::Storage);
    eventually("the restarted process speaks with the others", RELOAD, || {
        let ok = "atoll_tls_handshakes_total{listener=\"api\"}";
        metric(&scrape, cluster, 2, 11, ok) > 0.0
            && metric(&scrape, cluster, 2, 11, "atoll_peer_connects_total") > 0.0
    });
}

#[test]
fn a_host_with_the_certificate_of_another_node_is_refused() {
    let scene = secure_scene(2);
    let cluster = &scene.cluster;
    let status: serde_json::Value = serde_json::from_str(&cluster.atoll_ok(&[
        "status",
        "--json",
        "--api-key",
        &cluster.admin_key(),
    ]))
    .unwrap();
    let members = status.to_string();
    let first = status["members"].as_array().and_then(|members| {
        members.iter().find(|member| member["name"] == "host-1")?["node"].as_str()
    });
    let first = first.unwrap_or_else(|| panic!("no host-1 in {members}"));
    let old = std::fs::read_to_string(cluster.ca_file()).unwrap();
    let authority = Authority::new("the next", DAY).unwrap();
    write(cluster, "ca.crt", &format!("{old}{}", authority.pem()));
    reloaded(cluster, 1.0);
    // Both hosts read the same files here: the second one now shows the certificate of the first.
    let name = format!("node-{first}.atoll");
    let names = [&NAMES as &[&str], &[&name]].concat();
    let host = authority.issue(&names, DAY).unwrap();
    write(cluster, "tls.key", &host.key_pem);
    write(cluster, "tls.crt", &host.cert_pem);
    reloaded(cluster, 2.0);
    for service in [Service::Membership, Service::Storage] {
        cluster.kill(2, service);
        cluster.revive(2, service);
    }
    let gossip = "atoll_membership_gossip_refused_total{reason=\"unauthorized\"}";
    let others = "atoll_peer_refused_total{code=\"unauthorized\"}";
    eventually("the first host refuses the second", RELOAD, || {
        metric(&cluster.http, cluster, 1, 21, gossip) > 0.0
            && METRICS.iter().any(|offset| {
                metric(&cluster.http, cluster, 1, *offset, others) > 0.0
                    || metric(&cluster.http, cluster, 2, *offset, others) > 0.0
            })
    });
}

/// `curl` with these arguments: its exit code, and the status that it saw.
fn curl(args: &[&str]) -> (i32, String) {
    let output = Command::new("curl")
        .args(["--silent", "--max-time", "20", "--output", "/dev/null"])
        .args(["--write-out", "%{http_code}"])
        .args(args)
        .stdin(Stdio::null())
        .output()
        .expect("curl is installed");
    (output.status.code().unwrap_or(-1), String::from_utf8_lossy(&output.stdout).into_owned())
}

fn files(cluster: &Cluster, name: &str, issued: &Issued) -> [String; 2] {
    let names = [format!("{name}.crt"), format!("{name}.key")];
    for (file, text) in names.iter().zip([&issued.cert_pem, &issued.key_pem]) {
        write(cluster, file, text);
    }
    names.map(|file| cluster.data().join(file).display().to_string())
}

#[test]
fn strangers_are_not_heard() {
    let scene = secure_scene(1);
    let cluster = &scene.cluster;
    let ca = cluster.ca_file().display().to_string();
    let foreign = Authority::new("foreign", DAY).unwrap();
    let [bad_cert, bad_key] = files(cluster, "foreign", &foreign.issue(&NAMES, DAY).unwrap());
    write(cluster, "foreign-ca.crt", &foreign.pem());
    let foreign_ca = cluster.data().join("foreign-ca.crt").display().to_string();
    let own = ["tls.crt", "tls.key"].map(|name| cluster.data().join(name).display().to_string());
    let host = ["--cacert", &ca, "--cert", &own[0], "--key", &own[1]];
    for offset in [0, 10, 20, 30] {
        let url = format!("{}/v1/none", cluster.url(1, offset));
        let plain = url.replace("https://", "http://");
        let (is_router, has_clients) = (offset == 0, [0, 10].contains(&offset));
        // Arguments of curl, and whether there is an answer at all.
        let cases: [(&str, &[&str], &str, bool); 6] = [
            ("a host", &host, &url, true),
            ("no certificate", &["--cacert", &ca], &url, has_clients),
            (
                "of another CA",
                &["--cacert", &ca, "--cert", &bad_cert, "--key", &bad_key],
                &url,
                is_router,
            ),
            ("in clear", &[], &plain, false),
            ("TLS 1.2", &[&host as &[&str], &["--tls-max", "1.2"]].concat(), &url, false),
            ("believes another CA", &["--cacert", &foreign_ca], &url, false),
        ];
        for (what, args, url, heard) in cases {
            let (code, status) = curl(&[args, &[url]].concat());
            assert_eq!(code == 0, heard, "{what} at {offset}: exit {code}, status {status}");
            assert_eq!(status != "000", heard, "{what} at {offset}: status {status}");
        }
    }
    // A storage node hears it as a client, which is not to know what there is for hosts.
    let hosts_only = format!("{}/v1/partitions", cluster.url(1, 10));
    assert_eq!(curl(&["--cacert", &ca, &hosts_only]), (0, "401".into()));
    let not_tls = "atoll_tls_handshakes_failed_total{listener=\"api\",reason=\"not_tls\"}";
    assert!(metric(&cluster.http, cluster, 1, 11, not_tls) > 0.0);
    assert_eq!(curl(&[&format!("{}/readyz", cluster.url(1, 1))]), (0, "200".into()), "in clear");
}

#[test]
fn a_start_with_an_expired_certificate_is_refused_in_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let ca = Authority::new("ours", DAY).unwrap();
    let expired = ca.issue(&NAMES, -time::Duration::MINUTE).unwrap();
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        write_atomic(&path, text.as_bytes()).unwrap();
        path
    };
    let (ca, cert) = (file("ca.crt", &ca.pem()), file("tls.crt", &expired.cert_pem));
    let key = file("tls.key", &expired.key_pem);
    let set = |key: &str, path: &Path| format!("tls.{key}={}", path.display());
    let files = [set("ca_file", &ca), set("cert_file", &cert), set("key_file", &key)];
    for service in ["router", "storage-node", "membership", "anti-entropy-worker"] {
        let mut command = Command::new(ATOLL);
        command.arg(service).args(["--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0"]);
        command.arg("--set").arg(format!("data_dir={}", dir.path().join(service).display()));
        for setting in &files {
            command.args(["--set", setting]);
        }
        let output = command.stdin(Stdio::null()).output().unwrap();
        let line = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(78), "{service}: {line}");
        assert_eq!(line.lines().count(), 1, "{service}: {line}");
        assert!(line.contains("tls.cert_file") && line.contains("expired at"), "{service}: {line}");
    }
}

/// Time for a command that is refused before it sends anything.
const SOON: Duration = Duration::from_secs(20);

#[test]
fn the_command_line_believes_the_ca_that_it_is_given() {
    let scene = secure_scene(1);
    let cluster = &scene.cluster;
    let admin = cluster.admin_key();
    let ca = cluster.ca_file().display().to_string();
    let foreign = Authority::new("foreign", DAY).unwrap();
    write(cluster, "foreign-ca.crt", &foreign.pem());
    let foreign = cluster.data().join("foreign-ca.crt").display().to_string();
    let router = cluster.router(1);
    let cases: [(&[&str], i32); 4] =
        [(&["--ca", &ca], 0), (&["--ca", &foreign], 75), (&[], 78), (&["--ca", "/nonexistent"], 2)];
    for (args, code) in cases {
        let status = Command::new(ATOLL)
            .args(["status", "--endpoint", &router, "--api-key", &admin])
            .args(["--timeout-ms", &SOON.as_millis().to_string()])
            .args(args)
            .env_remove("ATOLL_CA_FILE")
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let shown = String::from_utf8_lossy(&status.stderr).into_owned();
        assert_eq!(status.status.code(), Some(code), "{args:?}: {shown}");
    }
}
