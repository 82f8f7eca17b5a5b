//! What clients of this router experienced over the last seconds, by operation: read off the
//! request metrics once a second, so requests pay nothing for it.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use service_kit::metrics::HttpMetrics;
use service_kit::window::{Growth, Window};

use crate::limits::STATS_WINDOW_S;
use crate::routes::{BUCKET_ROUTE, OBJECT_ROUTE};
use crate::state::App;

/// Pause between two looks at the metrics.
const TICK: Duration = Duration::from_secs(1);

/// Operations, and the routes and methods that make them up.
const OPERATIONS: [(&str, &[(&str, &str)]); 3] = [
    ("get", &[(OBJECT_ROUTE, "GET"), (OBJECT_ROUTE, "HEAD")]),
    ("put", &[(OBJECT_ROUTE, "PUT"), (BUCKET_ROUTE, "POST")]),
    ("delete", &[(OBJECT_ROUTE, "DELETE")]),
];

/// What clients experienced lately at this router.
#[derive(Debug, serde::Serialize, utoipa::ToSchema)]
pub struct Stats {
    /// Seconds that the figures are about; fewer after a start.
    window_s: u64,
    /// Requests of all kinds that are being answered.
    in_flight: i64,
    /// By operation: `get` (HEAD included), `put` (POST included), `delete`.
    operations: Vec<OperationStats>,
}

/// What clients experienced of one operation.
#[derive(Debug, serde::Serialize, utoipa::ToSchema)]
pub struct OperationStats {
    /// Its name.
    operation: &'static str,
    /// Requests that ended within the window.
    requests: u64,
    /// Of those: answered with 5xx.
    errors: u64,
    /// Requests per second.
    per_s: f64,
    /// Half of them took at most this long, from the head of the request to that of the answer, in
    /// milliseconds; rounded up to a bucket of the histogram. Null without requests.
    p50_ms: Option<f64>,
    /// 99 of 100 took at most this long.
    p99_ms: Option<f64>,
    /// 999 of 1,000 took at most this long.
    p999_ms: Option<f64>,
}

/// The last seconds of every operation.
pub struct RecentRequests {
    http: HttpMetrics,
    operations: Mutex<Vec<Recent>>,
}

struct Recent {
    operation: &'static str,
    routes: &'static [(&'static str, &'static str)],
    seconds: Window,
    errors: Growth,
}

impl RecentRequests {
    /// Over the requests that `http` measures.
    #[must_use]
    pub fn new(http: HttpMetrics) -> Self {
        let operations = OPERATIONS.map(|(operation, routes)| {
            let sources = routes.iter().map(|(route, method)| http.seconds(route, method));
            Recent {
                operation,
                routes,
                seconds: Window::new(sources.collect(), STATS_WINDOW_S),
                errors: Growth::new(STATS_WINDOW_S),
            }
        });
        Self { http, operations: Mutex::new(operations.into()) }
    }

    /// Takes the numbers of now; once per second.
    fn tick(&self) {
        for recent in &mut *self.lock() {
            recent.seconds.tick();
            let errors = recent.routes.iter();
            let errors = errors.map(|(route, method)| self.http.server_errors(route, method));
            recent.errors.tick(errors.sum());
        }
    }

    /// What they were.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let operations = self.lock();
        let window_s = operations.first().map_or(0, |recent| recent.seconds.ticks() as u64);
        Stats {
            window_s,
            in_flight: self.http.in_flight(),
            operations: operations.iter().map(|recent| recent.stats(window_s)).collect(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Recent>> {
        self.operations.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Recent {
    fn stats(&self, window_s: u64) -> OperationStats {
        let requests = self.seconds.observations();
        let ms = |milli| {
            let micros = self.seconds.quantile(milli)?.as_micros();
            Some(micros as f64 / 1000.0)
        };
        OperationStats {
            operation: self.operation,
            requests,
            errors: self.errors.over(STATS_WINDOW_S).0,
            per_s: requests as f64 / window_s.max(1) as f64,
            p50_ms: ms(500),
            p99_ms: ms(990),
            p999_ms: ms(999),
        }
    }
}

/// Counts until the stop.
pub async fn run(app: App) {
    loop {
        app.requests.tick();
        if app.shutdown.unless_requested(tokio::time::sleep(TICK)).await.is_none() {
            return;
        }
    }
}
