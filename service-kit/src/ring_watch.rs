//! Follows a snapshot that another process publishes: long polls with the ETag of the last one,
//! hands each new one to whoever subscribes, and keeps the newest on disk, so that a restart while
//! the publisher is away begins with the last one known.
//!
//! Generic over the snapshot: what is in it, and which of two is newer, is the parser's and the
//! publisher's business. A snapshot that does not parse is counted and never replaces a good one.

use std::fmt::Display;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use dynamo_core::limits::PEER_MESSAGE_BYTES_MAX;
use dynamo_core::time::Mono;
use http::header::{ETAG, IF_NONE_MATCH};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use prometheus::{IntCounterVec, IntGauge, Opts, Registry};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

use crate::datadir::write_atomic;
use crate::limits::WATCH_RETRY;
use crate::metrics::MetricsError;
use crate::peer::{Connector, PeerClient, PeerRequest};
use crate::rng::{OsEntropy, jittered};
use crate::shutdown::Shutdown;
use crate::time::Clock;

/// Time beyond the asked wait after which a poll is given up.
const POLL_GRACE: Duration = Duration::from_secs(3);

/// What is watched, and where.
#[derive(Debug, Clone)]
pub struct RingWatchConfig {
    /// `host:port` of each publisher; the next one is tried when one fails.
    pub addresses: Vec<String>,
    /// Path and query without `wait_ms`, for example `/v1/ring`.
    pub path: String,
    /// How long the publisher may hold a poll open.
    pub wait: Duration,
    /// File for the newest snapshot; `None` for no cache.
    pub cache_file: Option<PathBuf>,
    /// Pause after a failed poll.
    pub retry: Duration,
}

impl RingWatchConfig {
    /// Watches `path` at `addresses` with ten-second polls and no cache.
    #[must_use]
    pub fn new(addresses: Vec<String>, path: impl Into<String>) -> Self {
        Self {
            addresses,
            path: path.into(),
            wait: Duration::from_secs(10),
            cache_file: None,
            retry: WATCH_RETRY,
        }
    }
}

/// Metrics of the watch.
#[derive(Debug, Clone)]
pub struct RingWatchMetrics {
    polls: IntCounterVec,
    version: IntGauge,
    age_s: IntGauge,
}

impl RingWatchMetrics {
    /// Registers them.
    ///
    /// # Errors
    /// When they are registered already.
    pub fn register(registry: &Registry) -> Result<Self, MetricsError> {
        let polls = IntCounterVec::new(
            Opts::new("atoll_ring_watch_polls_total", "Polls of the ring by how they ended."),
            &["result"],
        )?;
        let version =
            IntGauge::new("atoll_ring_watch_version", "Version of the ring that is in use.")?;
        let age_s = IntGauge::new(
            "atoll_ring_watch_age_seconds",
            "Time since the publisher last confirmed the ring, as of the last poll.",
        )?;
        registry.register(Box::new(polls.clone()))?;
        registry.register(Box::new(version.clone()))?;
        registry.register(Box::new(age_s.clone()))?;
        Ok(Self { polls, version, age_s })
    }

    fn count(&self, result: &str) {
        self.polls.with_label_values(&[result]).inc();
    }
}

/// The newest snapshot, as it changes. Clones share it; polling ends with the `Shutdown` given.
#[derive(Debug)]
pub struct RingWatch<T> {
    latest: watch::Receiver<Option<Arc<T>>>,
    /// Asks for a poll at once.
    wake: Arc<Notify>,
    confirmed: Arc<Confirmed>,
    task: Arc<JoinHandle<()>>,
}

impl<T> Clone for RingWatch<T> {
    fn clone(&self) -> Self {
        Self {
            latest: self.latest.clone(),
            wake: Arc::clone(&self.wake),
            confirmed: Arc::clone(&self.confirmed),
            task: Arc::clone(&self.task),
        }
    }
}

/// When the publisher last said that our snapshot is the newest; 0 for never.
#[derive(Debug)]
struct Confirmed {
    clock: Clock,
    at_us: AtomicU64,
}

impl Confirmed {
    fn now(&self) {
        self.at_us.store(self.clock.mono().0, Ordering::Relaxed);
    }

    fn age(&self) -> Option<Duration> {
        match self.at_us.load(Ordering::Relaxed) {
            0 => None,
            at => Some(self.clock.mono().since(Mono(at))),
        }
    }
}

/// What the watch needs of its process.
#[derive(Debug, Clone)]
pub struct RingWatchDeps {
    /// The clock.
    pub clock: Clock,
    /// The metrics.
    pub metrics: RingWatchMetrics,
    /// When to stop.
    pub shutdown: Shutdown,
}

impl<T: Send + Sync + 'static> RingWatch<T> {
    /// Reads the cache and starts to poll. `parse` reads a snapshot, `version` is what the metric
    /// shows. Must be called inside the runtime.
    pub fn start<C, E>(
        config: RingWatchConfig,
        client: PeerClient<C>,
        deps: RingWatchDeps,
        parse: impl Fn(&[u8]) -> Result<T, E> + Send + Sync + 'static,
        version: impl Fn(&T) -> u64 + Send + Sync + 'static,
    ) -> Self
    where
        C: Connector,
        E: Display,
    {
        let cached =
            config.cache_file.as_deref().and_then(read_cache).and_then(|bytes| {
                match parse(&bytes) {
                    Ok(snapshot) => Some(Arc::new(snapshot)),
                    Err(error) => {
                        tracing::warn!(%error, "the cached ring is not readable and is ignored");
                        None
                    }
                }
            });
        if let Some(snapshot) = &cached {
            deps.metrics.version.set(i64::try_from(version(snapshot)).unwrap_or(i64::MAX));
        }
        let (publish, latest) = watch::channel(cached);
        let wake = Arc::<Notify>::default();
        let confirmed = Arc::new(Confirmed { clock: deps.clock.clone(), at_us: AtomicU64::new(0) });
        let poller = Poller {
            config,
            client,
            deps: deps.clone(),
            parse: Box::new(move |bytes| parse(bytes).map_err(|error| error.to_string())),
            version: Box::new(version),
            publish,
            confirmed: Arc::clone(&confirmed),
            etag: None,
            address: 0,
            healthy: true,
        };
        let asked = Arc::clone(&wake);
        let shutdown = deps.shutdown;
        let task = tokio::spawn(async move {
            shutdown.unless_requested(poller.run(asked)).await;
        });
        Self { latest, wake, confirmed, task: Arc::new(task) }
    }

    /// The newest snapshot, `None` where there never was one.
    #[must_use]
    pub fn current(&self) -> Option<Arc<T>> {
        self.latest.borrow().clone()
    }

    /// Every change from now on.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<Option<Arc<T>>> {
        self.latest.clone()
    }

    /// Waits for a first snapshot; `None` where the watch ends without one.
    pub async fn first(&self) -> Option<Arc<T>> {
        let mut latest = self.latest.clone();
        latest.wait_for(Option::is_some).await.ok().and_then(|snapshot| snapshot.clone())
    }

    /// Asks the publisher anew at once, without its wait: some answer said that ours is old.
    pub fn refresh_now(&self) {
        self.wake.notify_one();
    }

    /// Time since the publisher last confirmed the snapshot; `None` where it has not since start.
    #[must_use]
    pub fn age(&self) -> Option<Duration> {
        self.confirmed.age()
    }

    /// True once polling has ended, which it only does with the process.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.task.is_finished()
    }
}

type Parse<T> = Box<dyn Fn(&[u8]) -> Result<T, String> + Send + Sync>;

struct Poller<T, C: Connector> {
    config: RingWatchConfig,
    client: PeerClient<C>,
    deps: RingWatchDeps,
    parse: Parse<T>,
    version: Box<dyn Fn(&T) -> u64 + Send + Sync>,
    publish: watch::Sender<Option<Arc<T>>>,
    confirmed: Arc<Confirmed>,
    /// ETag of the snapshot that the current publisher gave us.
    etag: Option<HeaderValue>,
    address: usize,
    healthy: bool,
}

impl<T: Send + Sync + 'static, C: Connector> Poller<T, C> {
    async fn run(mut self, wake: Arc<Notify>) {
        // The first poll must not wait for a change: nothing was confirmed yet.
        let mut wait = Duration::ZERO;
        loop {
            let polled = tokio::select! {
                polled = self.poll(wait) => polled,
                () = wake.notified() => {
                    wait = Duration::ZERO;
                    continue;
                }
            };
            let age = self
                .confirmed
                .age()
                .map_or(-1, |age| i64::try_from(age.as_secs()).unwrap_or(i64::MAX));
            self.deps.metrics.age_s.set(age);
            match polled {
                Ok(()) => {
                    wait = self.config.wait;
                    if !std::mem::replace(&mut self.healthy, true) {
                        tracing::info!("the ring is confirmed again");
                    }
                }
                Err(error) => {
                    wait = Duration::ZERO;
                    self.deps.metrics.count("failed");
                    // Once per outage, not per poll.
                    if std::mem::replace(&mut self.healthy, false) {
                        tracing::warn!(%error, "the ring could not be polled");
                    }
                    self.etag = None;
                    self.address = self.address.wrapping_add(1);
                    let pause = jittered(self.config.retry, 50, &mut OsEntropy);
                    tokio::select! {
                        () = tokio::time::sleep(pause) => {}
                        () = wake.notified() => {}
                    }
                }
            }
        }
    }

    async fn poll(&mut self, wait: Duration) -> Result<(), String> {
        let count = self.config.addresses.len().max(1);
        let address =
            self.config.addresses.get(self.address % count).ok_or("no address to poll")?.clone();
        let joint = if self.config.path.contains('?') { '&' } else { '?' };
        let path = format!("{}{joint}wait_ms={}", self.config.path, wait.as_millis());
        let mut headers = HeaderMap::new();
        if let Some(etag) = &self.etag {
            headers.insert(IF_NONE_MATCH, etag.clone());
        }
        let request = PeerRequest {
            address: &address,
            method: Method::GET,
            path: &path,
            headers,
            body: Bytes::new(),
            timeout: wait + POLL_GRACE,
            idempotent: true,
        };
        let response = self.client.call(request).await.map_err(|error| error.to_string())?;
        if response.status == StatusCode::NOT_MODIFIED {
            self.deps.metrics.count("unchanged");
            self.confirmed.now();
            return Ok(());
        }
        let response = response.into_success().map_err(|problem| problem.to_string())?;
        let snapshot = (self.parse)(&response.body)?;
        let version = (self.version)(&snapshot);
        self.publish.send_replace(Some(Arc::new(snapshot)));
        self.etag = response.headers.get(ETAG).cloned();
        self.confirmed.now();
        self.deps.metrics.count("changed");
        self.deps.metrics.version.set(i64::try_from(version).unwrap_or(i64::MAX));
        self.cache(response.body).await;
        // Without an ETag a long poll would answer at once, again and again.
        if self.etag.is_none() {
            tokio::time::sleep(self.config.retry).await;
        }
        Ok(())
    }

    /// A failure to cache costs nothing now, and is seen when the next start has no ring.
    async fn cache(&self, bytes: Bytes) {
        let Some(path) = self.config.cache_file.clone() else { return };
        let written = tokio::task::spawn_blocking(move || write_atomic(&path, &bytes)).await;
        let error = match written {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error.to_string(),
            Err(error) => error.to_string(),
        };
        self.deps.metrics.count("cache_failed");
        tracing::warn!(%error, "the ring could not be cached");
    }
}

fn read_cache(path: &Path) -> Option<Vec<u8>> {
    let file = std::fs::File::open(path)
        .inspect_err(|error| {
            if error.kind() != std::io::ErrorKind::NotFound {
                tracing::warn!(%error, "the cached ring cannot be opened");
            }
        })
        .ok()?;
    let mut content = Vec::new();
    file.take(PEER_MESSAGE_BYTES_MAX as u64)
        .read_to_end(&mut content)
        .inspect_err(|error| tracing::warn!(%error, "the cached ring cannot be read"))
        .ok()?;
    Some(content)
}
