//! Sessions: short-lived values where the last write may win.
//!
//! ```text
//! atoll dev &
//! cargo run --example session -- http://127.0.0.1:7700
//! ```
//! The bucket reconciles concurrent versions itself (`lww`), and sessions expire by themselves.

#![expect(clippy::print_stdout, reason = "the example talks to people")]

use std::time::Duration;

use atoll_client::{BucketProps, Client, Error, Reconciliation};

#[tokio::main]
async fn main() -> Result<(), Error> {
    let endpoint = std::env::args().nth(1).unwrap_or_else(|| "http://127.0.0.1:7700".to_owned());
    let client = Client::builder().endpoints([endpoint]).build()?;
    let defaults = client.cluster().buckets().await?.defaults;
    let props = BucketProps { reconciliation: Reconciliation::Lww, ..defaults };
    client.cluster().set_bucket_props("sessions", &props).await?;

    // The properties reach every host by gossip; a put before that would leave two versions.
    let sessions = client.bucket("sessions");
    while client.cluster().bucket_props("sessions").await?.props != props {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    tokio::time::sleep(Duration::from_secs(2)).await;

    // Two blind writers: both succeed, and the later one is what is read.
    sessions.put("s-42", "{\"user\":\"alice\",\"page\":1}").ttl(Duration::from_secs(60)).await?;
    sessions.put("s-42", "{\"user\":\"alice\",\"page\":2}").ttl(Duration::from_secs(2)).await?;
    match sessions.get_one("s-42").await? {
        Some(session) => println!("session: {}", String::from_utf8_lossy(&session.value)),
        None => println!("no session"),
    }

    tokio::time::sleep(Duration::from_secs(3)).await;
    match sessions.get_one("s-42").await? {
        Some(session) => println!("session: {}", String::from_utf8_lossy(&session.value)),
        None => println!("the session has expired"),
    }
    Ok(())
}
