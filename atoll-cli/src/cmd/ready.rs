//! The readiness of single processes, for health checks of containers: `atoll health --process` and
//! `atoll health --local`.

use std::time::Duration;

use service_kit::tls::plain_client;

use crate::exit;
use crate::output::{Done, Failure, Output};

/// Where the metrics listeners of a host are by default: router, storage node, membership agent and
/// worker.
const LOCAL: [&str; 4] = ["127.0.0.1:7701", "127.0.0.1:7711", "127.0.0.1:7721", "127.0.0.1:7731"];

/// Longest piece of a refusal that is shown.
const SHOWN_CHARS: usize = 200;

/// What a look at one process showed.
enum Look {
    Ready,
    NotReady(String),
    /// Nobody listens there.
    Nobody(String),
}

/// Whether all of these are ready: exit 0, else 75.
pub(crate) async fn processes(addresses: &[String], patience: Duration, output: Output) -> Done {
    let http = http(patience)?;
    for address in addresses {
        match look(&http, address).await {
            Look::Ready => {}
            Look::NotReady(why) | Look::Nobody(why) => return Err(not_ready(address, &why)),
        }
    }
    output.note("ready");
    Ok(exit::OK)
}

/// Whether whatever runs on this host is ready: exit 0 where at least one process is there and all
/// that are there are ready, else 75.
pub(crate) async fn local(patience: Duration, output: Output) -> Done {
    let http = http(patience)?;
    let mut ready = 0;
    for address in LOCAL {
        match look(&http, address).await {
            Look::Ready => ready += 1,
            Look::Nobody(_) => {}
            Look::NotReady(why) => return Err(not_ready(address, &why)),
        }
    }
    if ready == 0 {
        return Err(Failure::new(exit::UNAVAILABLE, "no process of Atoll listens here"));
    }
    output.note(format!("{ready} processes are ready"));
    Ok(exit::OK)
}

fn http(patience: Duration) -> Result<reqwest::Client, Failure> {
    let failed = |error: &dyn std::fmt::Display| Failure::new(exit::FAILURE, error.to_string());
    // The listeners that are asked here are always plain.
    let tls = plain_client(None).map_err(|error| failed(&error))?;
    let builder = reqwest::Client::builder().tls_backend_preconfigured(tls);
    builder.no_proxy().timeout(patience).build().map_err(|error| failed(&error))
}

async fn look(http: &reqwest::Client, address: &str) -> Look {
    let response = match http.get(format!("http://{address}/readyz")).send().await {
        Ok(response) => response,
        Err(error) if error.is_connect() => return Look::Nobody("nobody listens there".to_owned()),
        Err(error) if error.is_timeout() => return Look::NotReady("no answer in time".to_owned()),
        Err(error) => return Look::NotReady(error.to_string()),
    };
    if response.status().is_success() {
        return Look::Ready;
    }
    let status = response.status();
    let text = response.text().await.unwrap_or_default();
    let words: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
    Look::NotReady(format!("{status}: {}", words.chars().take(SHOWN_CHARS).collect::<String>()))
}

fn not_ready(address: &str, why: &str) -> Failure {
    Failure::new(exit::UNAVAILABLE, format!("{address} is not ready: {why}"))
}
