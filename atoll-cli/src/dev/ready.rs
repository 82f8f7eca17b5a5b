//! From processes to processes that are ready.

use std::path::Path;
use std::time::{Duration, Instant};

use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use service_kit::tls::plain_client;

use crate::dev::layout::Place;

/// Pause between two looks.
pub(super) const POLL: Duration = Duration::from_millis(25);

/// Time for one look.
pub(super) const LOOK: Duration = Duration::from_secs(1);

/// Waits until every place answers `/readyz` with success.
///
/// # Errors
/// Who is not ready, and why, when `patience` is over.
pub(super) async fn wait_until_ready(places: &[Place], patience: Duration) -> Result<(), String> {
    let http = http(None, None)?;
    let deadline = Instant::now() + patience;
    for place in places {
        loop {
            let Err(reason) = look(&http, place).await else { break };
            if Instant::now() >= deadline {
                return Err(format!("{} of host {}: {reason}", place.service.name(), place.host));
            }
            tokio::time::sleep(POLL).await;
        }
    }
    Ok(())
}

/// A client for processes of this machine, which presents `api_key` and believes `ca_file`.
pub(super) fn http(
    api_key: Option<&str>,
    ca_file: Option<&Path>,
) -> Result<reqwest::Client, String> {
    let mut headers = HeaderMap::new();
    // A key is plain text: another one is presented as none, and refused.
    if let Some(Ok(value)) = api_key.map(|key| HeaderValue::try_from(format!("Bearer {key}"))) {
        headers.insert(AUTHORIZATION, value);
    }
    let builder = reqwest::Client::builder().tls_backend_preconfigured(plain_client(ca_file)?);
    let built = builder.no_proxy().timeout(LOOK).default_headers(headers).build();
    built.map_err(|error| error.to_string())
}

async fn look(http: &reqwest::Client, place: &Place) -> Result<(), String> {
    let url = format!("http://{}/readyz", place.metrics);
    let response = http.get(url).send().await.map_err(|error| {
        if error.is_connect() { "does not listen yet".to_owned() } else { error.to_string() }
    })?;
    if response.status().is_success() {
        return Ok(());
    }
    let text = response.text().await.unwrap_or_default();
    Err(text.split_whitespace().collect::<Vec<_>>().join(" "))
}
