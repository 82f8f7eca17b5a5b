//! From processes to processes that are ready.

use std::time::{Duration, Instant};

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
    let http = http().map_err(|error| error.to_string())?;
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

/// A client for processes of this machine.
pub(super) fn http() -> reqwest::Result<reqwest::Client> {
    reqwest::Client::builder().no_proxy().timeout(LOOK).build()
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
