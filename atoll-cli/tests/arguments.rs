//! What can be typed, and what cannot. The commands themselves are tested against a real cluster,
//! in the workspace's `tests` package.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on shall end")]

use std::process::{Command as Process, Output};

use atoll_cli::args::{Cli, Command};
use atoll_cli::exit;
use clap::{CommandFactory, Parser};

fn parse(line: &str) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(std::iter::once("atoll").chain(line.split_whitespace()))
}

#[test]
fn the_command_line_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn valid_lines_parse() {
    for line in [
        "dev",
        "dev --hosts 5 --base-port 9000 --data d --fresh",
        "dev stop 2 --data d --kill --service storage-node",
        "dev start 2",
        "dev pause 1 --service router",
        "dev resume 1",
        "dev add-host --data d",
        "dev list",
        "get carts alice --r quorum --pr 1 --sibling e1",
        "get carts alice --resolve lww --json",
        "put carts alice - --w any --durability buffered --ttl-s 60 --meta a=b --meta c=d",
        "put carts alice -5",
        "put carts alice @file --context-file ctx",
        "delete carts alice --context t --pw all",
        "load f.ndjson --bucket b --key Package --concurrency 64 --w 2 --keep-going",
        "load - --bucket b --key k --replace --start-line 7",
        "status",
        "ring --partitions",
        "explain carts alice",
        "stage join host-4 host-5 --zone a --weight 50",
        "stage leave host-1",
        "stage replace host-1 --with host-4",
        "stage force-remove host-1 --accept-data-loss",
        "stage set host-1 --weight 10",
        "stage clear",
        "plan",
        "commit abc",
        "commit",
        "health --strict",
        "hints --wait --wait-s 5",
        "bucket list",
        "bucket get carts",
        "bucket set carts --n 5 --r one --w all --reconciliation lww --notfound-ok true",
        "bucket reset carts",
        "completions bash",
        "version",
        "--endpoint http://a:1 --endpoint b:2 --timeout-ms 100 --mode client-driven status",
        "router --config f --listen 127.0.0.1:0",
        "storage-node --config f --exit-on-stdin-eof",
        "membership --config f --set name=x",
    ] {
        if let Err(error) = parse(line) {
            panic!("{line}: {error}");
        }
    }
}

#[test]
fn valid_lines_for_operators_parse() {
    for line in [
        "health --process 127.0.0.1:7701 --process h:1",
        "health --local",
        "transfers",
        "transfers --watch",
        "transfers --all --json",
        "transfers accept-loss 3 4 --data-is-lost",
        "anti-entropy",
        "peers",
        "repair",
        "repair --bucket carts --wait --timeout-s 5",
        "repair --partition 7",
        "safe-to-stop host-1",
        "verify",
        "verify --bucket carts --concurrency 8",
        "verify --quick",
        "backup --out d --resume --partial --concurrency 2",
        "restore d",
        "restore d --check",
        "restore d --no-buckets --again",
        "join host-4 --wait",
        "leave host-1 --yes --wait --timeout-s 9",
        "leave host-1 -y --force",
        "replace host-1 --with host-4 --wait",
        "decommission --wait atoll-3 atoll-4",
        "decommission --wait --timeout-s 60 --prefix atoll- --ordinals-from 3",
        "smoke --wait-s 1",
        "idle",
    ] {
        if let Err(error) = parse(line) {
            panic!("{line}: {error}");
        }
    }
}

#[test]
fn invalid_lines_are_refused() {
    for line in [
        "",
        "frobnicate",
        "dev --hosts 0",
        "dev --hosts 21",
        "dev --base-port 80",
        "dev stop",
        "dev stop 2 --service worker",
        "dev start 2 --kill",
        "dev --hosts 3 stop 2",
        "get carts",
        "get carts alice --r 2.5",
        "get carts alice --sibling e --resolve lww",
        "put carts alice",
        "put carts alice v --w none",
        "put carts alice v --durability maybe",
        "put carts alice v --meta nonsense",
        "put carts alice v --context t --context-file f",
        "put carts alice v --if-match e --if-absent",
        "put carts alice v --idempotency-key mine",
        "load f --key k",
        "load f --bucket b --key k --concurrency 0",
        "load f --bucket b --key k --start-line 0",
        "stage join",
        "stage set host-1",
        "stage set host-1 --weight 1 --zone a",
        "stage replace host-1",
        "bucket set carts --reconciliation crdt",
        "health --local --process h:1",
        "health --local --strict",
        "transfers accept-loss 3",
        "transfers accept-loss --data-is-lost",
        "transfers --watch accept-loss 3 --data-is-lost",
        "repair --bucket b --partition 1",
        "repair --partition x",
        "safe-to-stop",
        "verify --quick --bucket b",
        "verify --concurrency 0",
        "backup",
        "backup --out d --concurrency 65",
        "restore",
        "join",
        "leave",
        "replace host-1",
        "decommission",
        "decommission --prefix atoll-",
        "decommission --ordinals-from 3",
        "decommission a --prefix atoll- --ordinals-from 3",
        "idle now",
        "completions elvish2",
        "--timeout-ms 0 status",
        "--timeout-ms 60001 status",
    ] {
        assert!(parse(line).is_err(), "{line}");
    }
}

#[test]
fn endpoints_may_be_listed_or_repeated() {
    let cli = parse("status --endpoint a:1,b:2 --endpoint c:3").unwrap();
    assert_eq!(cli.global.endpoints, ["a:1", "b:2", "c:3"]);
    assert!(matches!(cli.command, Command::Status));
}

fn atoll(arguments: &[&str]) -> Output {
    Process::new(env!("CARGO_BIN_EXE_atoll"))
        .args(arguments)
        .env_remove("ATOLL_ENDPOINT")
        .env_remove("ATOLL_TIMEOUT_MS")
        .output()
        .unwrap()
}

#[test]
fn exit_codes_say_what_went_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("none");
    let foreign = dir.path().join("foreign");
    std::fs::create_dir(&foreign).unwrap();
    std::fs::write(foreign.join("thesis.tex"), "x").unwrap();
    let text = |path: &std::path::Path| path.to_str().unwrap().to_owned();
    // Port 1 is nobody's: connections are refused at once.
    let nobody = ["--endpoint", "http://127.0.0.1:1"];
    let cases: Vec<(Vec<String>, exit::Exit)> = [
        (vec!["version"], exit::OK),
        (vec!["--help"], exit::OK),
        (vec!["completions", "zsh"], exit::OK),
        (vec!["frobnicate"], exit::USAGE),
        (vec!["health", "--process", "127.0.0.1:1"], exit::UNAVAILABLE),
        ([&nobody[..], &["safe-to-stop", "host-1"]].concat(), exit::UNAVAILABLE),
        ([&nobody[..], &["smoke", "--wait-s", "0"]].concat(), exit::UNAVAILABLE),
        ([&nobody[..], &["decommission", "--wait", "host-1"]].concat(), exit::UNAVAILABLE),
        ([&nobody[..], &["join", "host-1", "--timeout-s", "0"]].concat(), exit::UNAVAILABLE),
        ([&nobody[..], &["restore", "/nonexistent"]].concat(), exit::FAILURE),
        ([&nobody[..], &["get", "carts", "k"]].concat(), exit::UNAVAILABLE),
        ([&nobody[..], &["get", "No", "k"]].concat(), exit::USAGE),
        ([&nobody[..], &["get", "carts", ""]].concat(), exit::USAGE),
        (vec!["--endpoint", "https://a", "status"], exit::CONFIG),
        (
            [&nobody[..], &["load", "/nonexistent", "--bucket", "b", "--key", "k"]].concat(),
            exit::FAILURE,
        ),
    ]
    .into_iter()
    .map(|(line, exit)| (line.into_iter().map(str::to_owned).collect(), exit))
    .chain([
        (vec!["dev".into(), "list".into(), "--data".into(), text(&data)], exit::UNAVAILABLE),
        (vec!["dev".into(), "--fresh".into(), "--data".into(), text(&foreign)], exit::CONFIG),
    ])
    .collect();
    for (line, expected) in cases {
        let arguments: Vec<&str> = line.iter().map(String::as_str).collect();
        let output = atoll(&arguments);
        assert_eq!(output.status.code(), Some(i32::from(expected.0)), "{arguments:?}: {output:?}");
        let told = if expected == exit::OK { &output.stdout } else { &output.stderr };
        assert!(!told.is_empty(), "{arguments:?} says nothing");
    }
    assert!(foreign.join("thesis.tex").exists());
}

#[test]
fn failures_are_json_where_programs_read() {
    let output = atoll(&["--json", "--endpoint", "http://127.0.0.1:1", "put", "carts", "k", "v"]);
    let document: serde_json::Value = serde_json::from_slice(&output.stderr).unwrap();
    assert_eq!(document["exit_code"], 75);
    assert_eq!(document["details"]["outcome"], "not_applied");
    assert!(output.stdout.is_empty());
}

#[test]
fn idle_ends_when_it_is_told_to() {
    use std::os::unix::process::ExitStatusExt;
    let mut idle = Process::new(env!("CARGO_BIN_EXE_atoll")).arg("idle").spawn().unwrap();
    // Until its handlers are installed, the signal ends it: then it is simply started again.
    loop {
        std::thread::sleep(std::time::Duration::from_millis(20));
        let pid = rustix::process::Pid::from_child(&idle);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        let status = idle.wait().unwrap();
        if status.signal().is_none() {
            assert_eq!(status.code(), Some(0));
            return;
        }
        idle = Process::new(env!("CARGO_BIN_EXE_atoll")).arg("idle").spawn().unwrap();
    }
}

#[test]
fn completions_know_every_command() {
    let script = String::from_utf8(atoll(&["completions", "bash"]).stdout).unwrap();
    for command in Cli::command().get_subcommands() {
        assert!(script.contains(command.get_name()), "{}", command.get_name());
    }
}

#[test]
fn a_bad_line_is_named_and_nothing_is_skipped_silently() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("f.ndjson");
    std::fs::write(&file, "\n{\"k\":1}\nnot json\n[1]\n{\"x\":1}\n").unwrap();
    let output = atoll(&[
        "--json",
        "--endpoint",
        "http://127.0.0.1:1",
        "load",
        file.to_str().unwrap(),
        "--bucket",
        "b",
        "--key",
        "k",
        "--keep-going",
    ]);
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&document["stored"], &document["blank"], &document["failed"]),
        (&0.into(), &1.into(), &4.into())
    );
    let mut lines: Vec<u64> = document["failures"]
        .as_array()
        .unwrap()
        .iter()
        .map(|f| f["line"].as_u64().unwrap())
        .collect();
    lines.sort_unstable();
    assert_eq!(lines, [2, 3, 4, 5]);
}
