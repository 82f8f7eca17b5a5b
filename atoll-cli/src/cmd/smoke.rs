//! `atoll smoke`.

use std::time::{Duration, Instant};

use atoll_client::{Bucket, Client, Context};
use clap::Args;
use serde_json::json;

use crate::exit;
use crate::output::{Done, Failure, Output};

/// The bucket of the test.
const BUCKET: &str = "atoll-smoke";

/// Pause between two looks at the health.
const POLL: Duration = Duration::from_millis(500);

/// Tests a cluster from its client's side, with one key of its own: put, get, concurrent versions
/// and their merge, delete. Exit code 75 where it is not reachable or healthy in time, 1 for a
/// wrong answer.
#[derive(Debug, Args)]
pub struct Smoke {
    /// Seconds to wait until the cluster serves.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub wait_s: u64,
}

impl Smoke {
    pub(crate) async fn run(self, client: &Client, output: Output) -> Done {
        let health = wait_until_serving(client, Duration::from_secs(self.wait_s)).await?;
        let mut steps = Steps { done: Vec::new(), output };
        steps.pass(format!("the cluster is {health}"))?;
        let bucket = client.bucket(BUCKET);
        let key = PutKey::random();
        let result = walk(&bucket, &key.0, &mut steps).await;
        if result.is_err() {
            // Leave nothing behind, as far as that works; the failure is what matters.
            drop(bucket.delete(&key.0).await);
        }
        result?;
        if output.is_json() {
            output.document(&json!({ "bucket": BUCKET, "key": key.0, "passed": steps.done }))?;
        }
        Ok(exit::OK)
    }
}

/// A key that no other run has.
struct PutKey(String);

impl PutKey {
    fn random() -> Self {
        use dynamo_core::id::PutId;
        Self(PutId::random(&mut service_kit::rng::OsEntropy).to_string())
    }
}

/// The steps that have passed, one line each.
struct Steps {
    done: Vec<String>,
    output: Output,
}

impl Steps {
    fn pass(&mut self, what: String) -> std::io::Result<()> {
        if !self.output.is_json() {
            self.output.line(format!("ok  {what}"))?;
        }
        self.done.push(what);
        Ok(())
    }
}

async fn wait_until_serving(client: &Client, patience: Duration) -> Result<String, Failure> {
    let started = Instant::now();
    loop {
        let why = match client.cluster().health().await {
            Ok(health) if matches!(health.status.as_str(), "healthy" | "degraded") => {
                return Ok(health.status);
            }
            Ok(health) => format!("the cluster is {}", health.status),
            Err(error) => error.to_string(),
        };
        if started.elapsed() >= patience {
            let message = format!("not serving after {} s: {why}", patience.as_secs());
            return Err(Failure::new(exit::UNAVAILABLE, message));
        }
        tokio::time::sleep(POLL).await;
    }
}

async fn walk(bucket: &Bucket, key: &str, steps: &mut Steps) -> Result<(), Failure> {
    let first = bucket.put(key, "one").await?.context;
    steps.pass(format!("put {BUCKET}/{key}"))?;
    expect(bucket, key, &["one"]).await?;
    steps.pass("get gives the same bytes".to_owned())?;

    bucket.put(key, "left").context(first.clone()).await?;
    bucket.put(key, "right").context(first).await?;
    let both = expect(bucket, key, &["left", "right"]).await?;
    steps.pass("two puts on one context leave two versions".to_owned())?;

    bucket.put(key, "merged").context(both).await?;
    let merged = expect(bucket, key, &["merged"]).await?;
    steps.pass("a put on the context of both leaves one".to_owned())?;

    bucket.delete(key).context(merged).await?;
    let read = bucket.get(key).await?;
    if !read.versions.is_empty() || !read.deleted {
        return Err(wrong("the object is there after its deletion"));
    }
    steps.pass("delete: not found, and known to be deleted".to_owned())?;
    Ok(())
}

/// Reads `key` and compares the values, in any order.
async fn expect(bucket: &Bucket, key: &str, values: &[&str]) -> Result<Option<Context>, Failure> {
    let read = bucket.get(key).await?;
    let mut got: Vec<&[u8]> = read.versions.iter().map(|version| &version.value[..]).collect();
    got.sort_unstable();
    let mut wanted: Vec<&[u8]> = values.iter().map(|value| value.as_bytes()).collect();
    wanted.sort_unstable();
    if got != wanted {
        let count = got.len();
        return Err(wrong(&format!("expected {values:?}, got {count} other versions")));
    }
    Ok(read.context)
}

fn wrong(what: &str) -> Failure {
    Failure::new(exit::FAILURE, format!("wrong answer: {what}"))
}
