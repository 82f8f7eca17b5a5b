//! Prometheus helpers around an injected registry. The global registry is never used, so several
//! services can live in one process (tests, `atoll dev`).
//!
//! Labels are closed sets: routes as they were declared, methods, classes of status.

use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::{MatchedPath, Request};
use axum::response::Response;
use dynamo_core::time::Mono;
use http::{Method, StatusCode};
use hyper::body::Body as _;
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts, Registry,
    TextEncoder,
};
use tower::{Layer, Service};

use crate::telemetry::trace::name_request;
use crate::time::Clock;

/// A metric could not be made: a name or label is invalid or taken. A mistake in the program.
pub type MetricsError = prometheus::Error;

/// Media type of [`encode`]'s text.
pub const TEXT_FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Bounds in seconds from 50 µs to about a minute, each √2 of the one before: p99.9 is known to
/// within a fifth of itself, at nine nanoseconds per observation.
pub const LATENCY_BUCKETS: [f64; 42] = exponential(50e-6, std::f64::consts::SQRT_2);

/// Bounds in bytes from 64 B to 128 MiB, each 2 times the one before.
pub const SIZE_BUCKETS: [f64; 22] = exponential(64.0, 2.0);

/// Bounds of small counts (siblings, versions per read, batch sizes).
pub const COUNT_BUCKETS: [f64; 12] =
    [0.0, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0];

const fn exponential<const N: usize>(first: f64, factor: f64) -> [f64; N] {
    let mut bounds = [first; N];
    let mut i = 1;
    while i < N {
        bounds[i] = bounds[i - 1] * factor;
        i += 1;
    }
    bounds
}

/// Everything in `registry` in the text format of Prometheus.
///
/// # Errors
/// When a metric family is inconsistent, a mistake in the program.
pub fn encode(registry: &Registry) -> Result<String, MetricsError> {
    TextEncoder::new().encode_to_string(&registry.gather())
}

/// Registers CPU, memory, file descriptors and start time of the process.
///
/// # Errors
/// When they are registered already.
pub fn register_process(registry: &Registry) -> Result<(), MetricsError> {
    registry.register(Box::new(prometheus::process_collector::ProcessCollector::for_self()))
}

/// Registers `atoll_build_info`, a constant 1 labelled with service and version.
///
/// # Errors
/// When it is registered already.
pub fn register_build_info(registry: &Registry, service: &str) -> Result<(), MetricsError> {
    let opts = Opts::new("atoll_build_info", "Constant 1; the labels say what runs here.")
        .const_label("service", service)
        .const_label("version", env!("CARGO_PKG_VERSION"));
    let gauge = IntGauge::with_opts(opts)?;
    gauge.set(1);
    registry.register(Box::new(gauge))
}

/// Registers a gauge that is `value`.
///
/// # Errors
/// When it is registered already.
pub fn register_constant(
    registry: &Registry,
    name: &str,
    help: &str,
    value: i64,
) -> Result<(), MetricsError> {
    let gauge = IntGauge::with_opts(Opts::new(name, help))?;
    gauge.set(value);
    registry.register(Box::new(gauge))
}

/// Requests by route: rate, duration, in flight, bytes.
#[derive(Debug, Clone)]
pub struct HttpMetrics {
    requests: IntCounterVec,
    seconds: HistogramVec,
    request_bytes: IntCounterVec,
    response_bytes: IntCounterVec,
    in_flight: IntGauge,
    clock: Clock,
}

impl HttpMetrics {
    /// Registers the metrics of the listener called `listener`.
    ///
    /// # Errors
    /// When the registry already has a listener of this name.
    pub fn register(
        registry: &Registry,
        listener: &'static str,
        clock: Clock,
    ) -> Result<Self, MetricsError> {
        let opts = |name: &str, help: &str| Opts::new(name, help).const_label("listener", listener);
        let counters = |name: &str, help: &str, labels: &[&str]| {
            let counters = IntCounterVec::new(opts(name, help), labels)?;
            registry.register(Box::new(counters.clone()))?;
            Ok::<_, MetricsError>(counters)
        };
        let seconds = HistogramVec::new(
            HistogramOpts::new(
                "atoll_http_request_seconds",
                "Time from the head of a request to the head of its answer.",
            )
            .const_label("listener", listener)
            .buckets(LATENCY_BUCKETS.to_vec()),
            &["route", "method"],
        )?;
        registry.register(Box::new(seconds.clone()))?;
        let in_flight = IntGauge::with_opts(opts(
            "atoll_http_requests_in_flight",
            "Requests that are being answered.",
        ))?;
        registry.register(Box::new(in_flight.clone()))?;
        Ok(Self {
            requests: counters(
                "atoll_http_requests_total",
                "Requests by route, method and class of status.",
                &["route", "method", "status"],
            )?,
            seconds,
            request_bytes: counters(
                "atoll_http_request_bytes_total",
                "Announced bytes of request bodies.",
                &["route", "method"],
            )?,
            response_bytes: counters(
                "atoll_http_response_bytes_total",
                "Bytes of answers of known length.",
                &["route", "method"],
            )?,
            in_flight,
            clock,
        })
    }

    /// The durations of the requests of one route and method, as they were declared.
    #[must_use]
    pub fn seconds(&self, route: &str, method: &str) -> Histogram {
        self.seconds.with_label_values(&[route, method])
    }

    /// Requests of one route and method that were answered with 5xx.
    #[must_use]
    pub fn server_errors(&self, route: &str, method: &str) -> u64 {
        self.requests.with_label_values(&[route, method, "5xx"]).get()
    }

    /// Requests that are being answered.
    #[must_use]
    pub fn in_flight(&self) -> i64 {
        self.in_flight.get()
    }

    /// A layer for `Router::layer`, which puts it around each route and method by itself.
    #[must_use]
    pub fn layer(&self) -> HttpMetricsLayer {
        HttpMetricsLayer { metrics: self.clone() }
    }
}

/// The [`Layer`] of [`HttpMetrics`].
#[derive(Debug, Clone)]
pub struct HttpMetricsLayer {
    metrics: HttpMetrics,
}

/// A route whose requests are counted.
#[derive(Debug, Clone)]
pub struct Measured<S> {
    inner: S,
    metrics: HttpMetrics,
    /// The metrics of this route by method, looked up once.
    children: Arc<[OnceLock<Arc<RouteMetrics>>; METHODS.len()]>,
}

#[derive(Debug)]
struct RouteMetrics {
    by_class: [IntCounter; 5],
    seconds: Histogram,
    request_bytes: IntCounter,
    response_bytes: IntCounter,
}

/// Methods that have a label of their own; others share the last.
const METHODS: [&str; 6] = ["GET", "HEAD", "PUT", "POST", "DELETE", "other"];

/// Classes of status, 1xx first.
const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

impl<S> Layer<S> for HttpMetricsLayer {
    type Service = Measured<S>;

    fn layer(&self, inner: S) -> Measured<S> {
        Measured { inner, metrics: self.metrics.clone(), children: Arc::default() }
    }
}

impl<S> Measured<S> {
    fn route(&self, request: &Request) -> Arc<RouteMetrics> {
        let method = method_index(request.method());
        let slot = self.children.get(method).unwrap_or(&self.children[METHODS.len() - 1]);
        Arc::clone(slot.get_or_init(|| {
            let path = request.extensions().get::<MatchedPath>();
            let route = path.map_or("unmatched", MatchedPath::as_str);
            let labels = [route, METHODS.get(method).copied().unwrap_or("other")];
            let [route, method] = labels;
            let metrics = &self.metrics;
            Arc::new(RouteMetrics {
                by_class: CLASSES
                    .map(|class| metrics.requests.with_label_values(&[route, method, class])),
                seconds: metrics.seconds.with_label_values(&labels),
                request_bytes: metrics.request_bytes.with_label_values(&labels),
                response_bytes: metrics.response_bytes.with_label_values(&labels),
            })
        }))
    }
}

fn method_index(method: &Method) -> usize {
    METHODS.iter().position(|name| *name == method.as_str()).unwrap_or(METHODS.len() - 1)
}

impl RouteMetrics {
    fn answered(&self, status: StatusCode, took: Duration, bytes: Option<u64>) {
        let class = usize::from(status.as_u16() / 100).saturating_sub(1);
        if let Some(counter) = self.by_class.get(class) {
            counter.inc();
        }
        self.seconds.observe(took.as_secs_f64());
        self.response_bytes.inc_by(bytes.unwrap_or(0));
    }
}

impl<S> Service<Request> for Measured<S>
where
    S: Service<Request, Response = Response> + Clone + Send + 'static,
    S::Future: Send + 'static,
{
    type Response = Response;
    type Error = S::Error;
    type Future = std::pin::Pin<Box<dyn Future<Output = Result<Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let route = self.route(&request);
        if let Some(path) = request.extensions().get::<MatchedPath>() {
            name_request(request.method().as_str(), path.as_str());
        }
        route.request_bytes.inc_by(request.body().size_hint().exact().unwrap_or(0));
        let clock = self.metrics.clock.clone();
        let running = Running::enter(&self.metrics.in_flight);
        let started: Mono = clock.mono();
        let answer = self.inner.call(request);
        Box::pin(async move {
            let response = answer.await?;
            let bytes = response.body().size_hint().exact();
            route.answered(response.status(), clock.mono().since(started), bytes);
            drop(running);
            Ok(response)
        })
    }
}

/// Counts a request as in flight until dropped, also when its caller goes away.
struct Running(IntGauge);

impl Running {
    fn enter(gauge: &IntGauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.dec();
    }
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::body::Body;
    use axum::routing::get;
    use tower::ServiceExt;

    use super::*;

    #[test]
    fn buckets_grow_and_reach_a_minute() {
        for bounds in [&LATENCY_BUCKETS[..], &SIZE_BUCKETS[..], &COUNT_BUCKETS[..]] {
            assert!(bounds.windows(2).all(|pair| pair[0] < pair[1]));
        }
        let last = LATENCY_BUCKETS.last().copied();
        assert!(last.is_some_and(|bound| (60.0..100.0).contains(&bound)), "{last:?}");
    }

    #[tokio::test]
    async fn requests_are_counted_by_declared_route() {
        let registry = Registry::new();
        let metrics = HttpMetrics::register(&registry, "api", Clock::system()).unwrap();
        register_process(&registry).unwrap();
        register_build_info(&registry, "test").unwrap();
        let router: Router = Router::new()
            .route("/v1/{key}", get(|| async { "four" }))
            .fallback(|| async { StatusCode::NOT_FOUND })
            .layer(metrics.layer())
            .with_state(());
        for path in ["/v1/a", "/v1/b", "/nowhere"] {
            let request = Request::builder().uri(path).body(Body::empty()).unwrap();
            router.clone().oneshot(request).await.unwrap();
        }
        let text = encode(&registry).unwrap();
        let wanted = [
            r#"atoll_http_requests_total{listener="api",method="GET",route="/v1/{key}",status="2xx"} 2"#,
            r#"atoll_http_requests_total{listener="api",method="GET",route="unmatched",status="4xx"} 1"#,
            r#"atoll_http_response_bytes_total{listener="api",method="GET",route="/v1/{key}"} 8"#,
            r#"atoll_http_requests_in_flight{listener="api"} 0"#,
            "process_cpu_seconds_total",
        ];
        for line in wanted {
            assert!(text.contains(line), "{line} missing in\n{text}");
        }
    }
}
