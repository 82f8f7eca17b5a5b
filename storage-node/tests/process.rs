//! The binary: what it refuses, and how.

use std::process::{Command, Output};

fn run(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_storage-node"))
        .args(args)
        .env_clear()
        .output()
        .expect("the binary of this package runs")
}

#[test]
fn settings_that_cannot_work_are_refused_with_78() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let data_dir = dir.path().join("data").display().to_string();
    let local = ["--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0"];
    let no_secret = run(&[&local[..], &["--data-dir", &data_dir]].concat());
    assert_eq!(no_secret.status.code(), Some(78));
    let text = String::from_utf8_lossy(&no_secret.stderr).into_owned();
    assert!(text.contains("cluster_secret"), "{text}");

    let secret = ["--set", "cluster_secret=of this test"];
    let foreign = dir.path().join("foreign");
    std::fs::create_dir(&foreign).expect("a directory");
    std::fs::write(foreign.join("node.json"), r#"{"format":999}"#).expect("a file");
    let foreign = foreign.display().to_string();
    let refused = run(&[&local[..], &secret, &["--data-dir", &foreign]].concat());
    assert_eq!(refused.status.code(), Some(78));
    let text = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(text.contains("format 999"), "{text}");

    let unknown = run(&["--set", "no.such.setting=1"]);
    assert_eq!(unknown.status.code(), Some(78));
}

#[test]
fn the_effective_settings_are_printed_without_the_secret() {
    let printed = run(&["--set", "cluster_secret=hush", "--print-config"]);
    assert_eq!(printed.status.code(), Some(0));
    let text = String::from_utf8_lossy(&printed.stdout).into_owned();
    assert!(text.contains("data_dir") && !text.contains("hush"), "{text}");
}
