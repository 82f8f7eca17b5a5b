//! Mixed load with a verdict, for scenarios that are not written in Rust. Reads commands from its
//! standard input, one per line, and answers each with one line of JSON:
//!
//! - `stop` ends the load: `{"writes","reads","errors","first_errors"}`;
//! - `check` reads everything back and judges: `{"good","lost","invented","risen","unread"}`,
//!   and the writes to keys with which something is wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::Parser;
use serde_json::json;
use tests::history::History;
use tests::history::check::{Verdict, check};
use tests::workload::Workload;

/// Mixed load through the client library.
#[derive(Debug, Parser)]
struct Args {
    /// Router URL; give several.
    #[arg(long, required = true)]
    endpoint: Vec<String>,
    /// Bucket to work in.
    #[arg(long, default_value = "workload")]
    bucket: String,
    /// Number of keys.
    #[arg(long, default_value_t = 200)]
    keys: u64,
    /// Concurrent clients.
    #[arg(long, default_value_t = 8)]
    clients: u64,
    /// Seed of the operations.
    #[arg(long)]
    seed: u64,
}

/// Every write to the keys with which something is wrong, for whoever has to find out why.
fn of_bad_keys(history: &History, verdict: &Verdict) -> BTreeMap<String, Vec<String>> {
    let bad = verdict.lost.iter().chain(&verdict.risen).chain(&verdict.invented);
    let keys: BTreeSet<&str> = bad.filter_map(|text| text.split(':').next()).collect();
    let mut writes: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for write in history.writes.iter().filter(|write| keys.contains(write.key.as_str())) {
        writes.entry(write.key.clone()).or_default().push(format!("{write:?}"));
    }
    writes
}

#[tokio::main]
async fn main() {
    let args = Args::parse();
    let workload = Workload {
        endpoints: args.endpoint,
        bucket: args.bucket,
        keys: args.keys,
        clients: args.clients,
        seed: args.seed,
    };
    let stop = Arc::new(AtomicBool::new(false));
    let load = tokio::spawn({
        let (workload, stop) = (workload.clone(), Arc::clone(&stop));
        async move { workload.run(stop).await }
    });
    let (commands, mut received) = tokio::sync::mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if commands.send(line).is_err() {
                return;
            }
        }
    });
    let (mut load, mut history) = (Some(load), None);
    while let Some(command) = received.recv().await {
        stop.store(true, Ordering::Relaxed);
        if let Some(load) = load.take() {
            history = Some(load.await.expect("the load does not panic"));
        }
        let seen = history.as_ref().expect("the load has ended");
        let answer = if command == "stop" {
            json!({
                "writes": seen.writes.len(),
                "reads": seen.reads.len(),
                "errors": seen.errors.len(),
                "first_errors": seen.errors.iter().take(5).collect::<Vec<_>>(),
            })
        } else {
            match workload.read_all().await {
                Err(unread) => json!({ "good": false, "unread": unread }),
                Ok(end) => {
                    let verdict = check(seen, &end);
                    json!({
                        "good": verdict.is_good(),
                        "writes": of_bad_keys(seen, &verdict),
                        "lost": verdict.lost,
                        "invented": verdict.invented,
                        "risen": verdict.risen,
                        "unread": [],
                    })
                }
            }
        };
        let mut out = std::io::stdout();
        writeln!(out, "{answer}").expect("whoever asked reads the answer");
        out.flush().expect("whoever asked reads the answer");
    }
}
