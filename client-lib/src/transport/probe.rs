//! The background task that probes suspect endpoints. Any HTTP answer at all brings one back: a
//! refusal is an answer too. The task ends with the last handle of its client.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use reqwest::Method;
use tokio::sync::Notify;

use crate::limits::PROBE_TIMEOUT;
use crate::transport::endpoints::Endpoints;
use crate::transport::exchange::{DeadlineHeader, Http, Kind, Request};

/// How often an idle task looks whether its client is still there.
const IDLE: Duration = Duration::from_secs(5);

/// The path that is asked for. Every listener knows it or answers 404, and both will do.
const PROBE_PATH: &str = "/v1/ping";

/// Probes the suspects of `endpoints` until they are dropped. `wake` is notified when one becomes
/// suspect.
pub(crate) async fn probe_suspects(endpoints: Weak<Endpoints>, http: Http, wake: Arc<Notify>) {
    loop {
        let Some(strong) = endpoints.upgrade() else { return };
        let now = Instant::now();
        for base in strong.due(now) {
            tokio::spawn(probe(Weak::clone(&endpoints), http.clone(), base));
        }
        let pause = strong.next_probe().map_or(IDLE, |at| at.saturating_duration_since(now));
        drop(strong);
        tokio::select! {
            () = tokio::time::sleep(pause.min(IDLE)) => {}
            () = wake.notified() => {}
        }
    }
}

async fn probe(endpoints: Weak<Endpoints>, http: Http, base: Arc<str>) {
    let mut request = Request::new(Method::GET, PROBE_PATH, Kind::Read);
    request.deadline = DeadlineHeader::None;
    let exchange = http.exchange(Arc::clone(&base), &request, false, PROBE_TIMEOUT);
    let answered = matches!(tokio::time::timeout(PROBE_TIMEOUT, exchange).await, Ok(Ok(_)));
    if answered && let Some(endpoints) = endpoints.upgrade() {
        tracing::info!(endpoint = %base, "endpoint answers again");
        endpoints.answered(&base);
    }
}
