//! How many requests of one kind run at once. Beyond the limit a request is refused at once with
//! 503 `overloaded`, before its body is read: waiting would only move the queue into memory.
//!
//! Each kind of work has its own pool, so that a flood of one cannot starve another. Health and
//! metrics have none: they are never shed.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use dynamo_core::entropy::Entropy;
use prometheus::{IntCounter, IntGauge, Opts, Registry};
use tokio::sync::Semaphore;
use tower::limit::{ConcurrencyLimit, GlobalConcurrencyLimitLayer};
use tower::load_shed::{LoadShed, LoadShedLayer};
use tower::{Layer, Service, ServiceExt};

use super::error::{ErrorCode, Problem};
use crate::metrics::MetricsError;
use crate::rng::OsEntropy;

/// A named pool of requests in flight. Clones share it.
#[derive(Debug, Clone)]
pub struct AdmissionPool {
    permits: Arc<Semaphore>,
    shed: IntCounter,
    limit: usize,
    in_flight: IntGauge,
}

impl AdmissionPool {
    /// A pool of `limit` requests, its metrics labelled `pool="name"`.
    ///
    /// # Errors
    /// When the registry already has a pool of this name.
    pub fn register(
        name: &'static str,
        limit: usize,
        registry: &Registry,
    ) -> Result<Self, MetricsError> {
        let opts = |metric: &str, help: &str| Opts::new(metric, help).const_label("pool", name);
        let shed = IntCounter::with_opts(opts(
            "atoll_admission_shed_total",
            "Requests refused because their pool was full.",
        ))?;
        let in_flight = IntGauge::with_opts(opts(
            "atoll_admission_in_flight",
            "Requests of the pool that run now.",
        ))?;
        let size = IntGauge::with_opts(opts(
            "atoll_admission_limit",
            "Requests of the pool that may run at once.",
        ))?;
        size.set(i64::try_from(limit).unwrap_or(i64::MAX));
        registry.register(Box::new(shed.clone()))?;
        registry.register(Box::new(in_flight.clone()))?;
        registry.register(Box::new(size))?;
        Ok(Self { permits: Arc::new(Semaphore::new(limit)), shed, limit, in_flight })
    }

    /// A layer for the routes that belong to this pool.
    #[must_use]
    pub fn layer(&self) -> AdmissionLayer {
        AdmissionLayer { pool: self.clone() }
    }

    /// Requests that run now.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.limit - self.permits.available_permits()
    }
}

/// The [`Layer`] of an [`AdmissionPool`].
#[derive(Debug, Clone)]
pub struct AdmissionLayer {
    pool: AdmissionPool,
}

/// A service whose requests belong to an [`AdmissionPool`].
#[derive(Debug, Clone)]
pub struct Admission<S> {
    inner: LoadShed<ConcurrencyLimit<S>>,
    pool: AdmissionPool,
}

impl<S> Layer<S> for AdmissionLayer {
    type Service = Admission<S>;

    fn layer(&self, inner: S) -> Admission<S> {
        let limit = GlobalConcurrencyLimitLayer::with_semaphore(Arc::clone(&self.pool.permits));
        Admission { inner: LoadShedLayer::new().layer(limit.layer(inner)), pool: self.pool.clone() }
    }
}

impl<S> Service<Request> for Admission<S>
where
    S: Service<Request, Error = Infallible> + Clone + Send + 'static,
    S::Response: IntoResponse,
    S::Future: Send + 'static,
{
    type Response = Response;
    type Error = Infallible;
    type Future = std::pin::Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let inner = self.inner.clone();
        let pool = self.pool.clone();
        Box::pin(async move {
            let _counted = InFlight::enter(&pool.in_flight);
            // The only error is the load shed's: the inner services are infallible.
            match inner.oneshot(request).await {
                Ok(response) => Ok(response.into_response()),
                Err(_) => {
                    pool.shed.inc();
                    let seconds = 1 + u32::try_from(OsEntropy.below(2)).unwrap_or(0);
                    let detail = "too many requests of this kind are in flight";
                    let problem = Problem::new(ErrorCode::Overloaded, detail);
                    Ok(problem.retry_after_s(seconds).into_response())
                }
            }
        })
    }
}

/// Counts one request as in flight until dropped, also when its caller goes away.
struct InFlight<'a>(&'a IntGauge);

impl<'a> InFlight<'a> {
    fn enter(gauge: &'a IntGauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.dec();
    }
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::body::Body;
    use axum::routing::get;
    use tokio::sync::Notify;

    use super::*;

    #[tokio::test]
    async fn one_pool_over_several_routes() {
        let registry = Registry::new();
        let pool = AdmissionPool::register("client", 1, &registry).unwrap();
        let gate = Arc::new(Notify::new());
        let held = Arc::clone(&gate);
        let router: Router = Router::new()
            .route("/slow", get(move || async move { held.notified().await }))
            .route("/fast", get(|| async {}))
            .layer(pool.layer());
        let ask = |path: &str| {
            let request = Request::builder().uri(path).body(Body::empty()).unwrap();
            router.clone().oneshot(request)
        };
        let slow = tokio::spawn(ask("/slow"));
        while pool.in_flight() == 0 {
            tokio::task::yield_now().await;
        }
        let refused = ask("/fast").await.unwrap();
        assert_eq!(refused.status(), 503);
        assert!(refused.headers().contains_key("retry-after"));
        gate.notify_one();
        assert_eq!(slow.await.unwrap().unwrap().status(), 200);
        assert_eq!(ask("/fast").await.unwrap().status(), 200);
        assert_eq!((pool.shed.get(), pool.in_flight.get()), (1, 0));
    }
}
