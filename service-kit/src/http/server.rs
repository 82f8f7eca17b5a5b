//! The accept loop that serves an axum router over HTTP/1.1, with every bound that
//! `axum::serve` leaves open: connections in all and per address, time for a head, idle time,
//! requests and life of a connection, size of a head; and an orderly end.
//!
//! Invariants: HTTP/2 is not spoken; at most one request of a connection runs at a time; after
//! `serve` returns no task of the server is left.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts, Registry};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::connection::{Activity, ConnectionIo, PhaseLimits, Verdict};
use super::error::ErrorCode;
use super::service::ConnectionContext;
use crate::limits::{
    ACCEPT_RETRY, CLIENT_CONNECTION_LIFETIME, CLIENT_REQUESTS_PER_CONNECTION_MAX, CONNECTIONS_MAX,
    CONNECTIONS_PER_IP_MAX, HEAD_BYTES_MAX, HEADER_READ_TIMEOUT, KEEP_ALIVE_IDLE, LISTEN_BACKLOG,
    PEER_HEAD_BYTES_MAX, PEER_REQUESTS_PER_CONNECTION_MAX,
};
use crate::metrics::MetricsError;
use crate::rng::{OsEntropy, jittered};
use crate::shutdown::Shutdown;
use crate::time::Clock;

/// Share of its life by which that of a connection varies, in percent.
const LIFETIME_JITTER_PERCENT: u32 = 20;

/// The answer to a connection beyond the cap, as far as it can be written without waiting.
const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\nconnection: close\r\n\
    content-length: 0\r\n\r\n";

/// A listening socket that is bound but not served yet, so that its port is known before anybody
/// is told.
#[derive(Debug)]
pub struct BoundListener {
    listener: TcpListener,
    address: SocketAddr,
}

impl BoundListener {
    /// Binds `address`; port 0 takes a free one. Must be called inside the runtime.
    ///
    /// # Errors
    /// When the address is in use or not ours.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        let domain = socket2::Domain::for_address(address);
        let socket = socket2::Socket::new(domain, socket2::Type::STREAM, None)?;
        // A restarted process must get its port back while old connections are in TIME_WAIT.
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(LISTEN_BACKLOG)?;
        let listener = TcpListener::from_std(socket.into())?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address })
    }

    /// The address that was really bound.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }
}

/// Bounds of one listener. The reasons are with the constants in [`crate::limits`].
#[derive(Debug, Clone)]
pub struct ServerLimits {
    /// Connections at once.
    pub connections_max: usize,
    /// Connections of one address at once; loopback is exempt.
    pub connections_per_ip_max: usize,
    /// Time for a request head.
    pub header_read_timeout: Duration,
    /// Time an idle connection is kept.
    pub keep_alive_idle: Duration,
    /// Bytes of a request head; also what one connection buffers.
    pub head_bytes_max: usize,
    /// Requests of one connection.
    pub requests_per_connection_max: u64,
    /// Life of a connection, shortened at random; `None` for no bound.
    pub connection_lifetime: Option<Duration>,
}

impl ServerLimits {
    /// For a listener of clients.
    #[must_use]
    pub fn client() -> Self {
        Self {
            connections_max: CONNECTIONS_MAX,
            connections_per_ip_max: CONNECTIONS_PER_IP_MAX,
            header_read_timeout: HEADER_READ_TIMEOUT,
            keep_alive_idle: KEEP_ALIVE_IDLE,
            head_bytes_max: HEAD_BYTES_MAX,
            requests_per_connection_max: CLIENT_REQUESTS_PER_CONNECTION_MAX,
            connection_lifetime: Some(CLIENT_CONNECTION_LIFETIME),
        }
    }

    /// For a listener of peers: few, long-lived connections from few addresses.
    #[must_use]
    pub fn peer() -> Self {
        Self {
            connections_per_ip_max: CONNECTIONS_MAX,
            head_bytes_max: PEER_HEAD_BYTES_MAX,
            requests_per_connection_max: PEER_REQUESTS_PER_CONNECTION_MAX,
            connection_lifetime: None,
            ..Self::client()
        }
    }

    /// For the metrics and health listener.
    #[must_use]
    pub fn admin() -> Self {
        Self { connections_max: CONNECTIONS_PER_IP_MAX, ..Self::client() }
    }
}

/// Counters of one listener, cached.
#[derive(Debug, Clone)]
pub struct ServerMetrics {
    open: IntGauge,
    accepted: IntCounter,
    over_cap: IntCounter,
    accept_errors: IntCounter,
    dropped: IntCounter,
    panics: IntCounter,
    refused: IntCounterVec,
}

impl ServerMetrics {
    /// Registers the counters of the listener called `listener`.
    ///
    /// # Errors
    /// When the registry already has a listener of this name.
    pub fn register(registry: &Registry, listener: &'static str) -> Result<Self, MetricsError> {
        let opts = |name: &str, help: &str| Opts::new(name, help).const_label("listener", listener);
        let counter = |name: &str, help: &str| -> Result<IntCounter, MetricsError> {
            let counter = IntCounter::with_opts(opts(name, help))?;
            registry.register(Box::new(counter.clone()))?;
            Ok(counter)
        };
        let open =
            IntGauge::with_opts(opts("atoll_http_connections", "Connections that are open."))?;
        registry.register(Box::new(open.clone()))?;
        let refused = IntCounterVec::new(
            opts("atoll_http_refused_total", "Requests refused before any route was looked up."),
            &["code"],
        )?;
        registry.register(Box::new(refused.clone()))?;
        Ok(Self {
            open,
            accepted: counter("atoll_http_connections_accepted_total", "Connections accepted.")?,
            over_cap: counter(
                "atoll_http_connections_over_cap_total",
                "Connections refused because the listener or the address had too many.",
            )?,
            accept_errors: counter("atoll_http_accept_errors_total", "Failed accepts.")?,
            dropped: counter(
                "atoll_http_connections_dropped_total",
                "Connections dropped because a head or the taking of an answer was too slow.",
            )?,
            panics: counter("atoll_http_panics_total", "Requests whose handler panicked.")?,
            refused,
        })
    }

    pub(super) fn refused(&self, code: ErrorCode) {
        self.refused.with_label_values(&[code.as_str()]).inc();
    }

    pub(super) fn panicked(&self) {
        self.panics.inc();
    }
}

/// Serves one router on one listener.
#[derive(Debug, Clone)]
pub struct HttpServer {
    limits: ServerLimits,
    metrics: ServerMetrics,
    clock: Clock,
}

/// How a server ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DrainReport {
    /// Connections that were aborted because they did not end in time.
    pub aborted: usize,
}

impl HttpServer {
    /// A server with these bounds.
    #[must_use]
    pub fn new(limits: ServerLimits, metrics: ServerMetrics, clock: Clock) -> Self {
        Self { limits, metrics, clock }
    }

    /// Serves until `shutdown` is requested; then stops accepting, lets requests in flight finish
    /// with `Connection: close` for up to `drain`, and aborts the rest.
    pub async fn serve(
        self,
        listener: BoundListener,
        router: Router,
        shutdown: Shutdown,
        drain: Duration,
    ) -> DrainReport {
        let tasks = TaskTracker::new();
        let abort = CancellationToken::new();
        let gate = Gate::new(&self.limits);
        // Done once here instead of once per request.
        let router = router.with_state(());
        while let Some(accepted) = shutdown.unless_requested(listener.listener.accept()).await {
            match accepted {
                Ok((stream, client)) => {
                    let Some(slot) = gate.admit(client.ip()) else {
                        self.metrics.over_cap.inc();
                        refuse_over_cap(&stream);
                        continue;
                    };
                    self.metrics.accepted.inc();
                    let connection =
                        self.clone().connection(stream, client, router.clone(), shutdown.clone());
                    let abort = abort.clone();
                    tasks.spawn(async move {
                        abort.run_until_cancelled(connection).await;
                        drop(slot);
                    });
                }
                Err(error) => {
                    self.metrics.accept_errors.inc();
                    tracing::warn!(%error, "accept failed");
                    if shutdown.unless_requested(tokio::time::sleep(ACCEPT_RETRY)).await.is_none() {
                        break;
                    }
                }
            }
        }
        drop(listener);
        tasks.close();
        if tokio::time::timeout(drain, tasks.wait()).await.is_ok() {
            return DrainReport { aborted: 0 };
        }
        let aborted = tasks.len();
        tracing::warn!(connections = aborted, "connections did not end in time");
        abort.cancel();
        tasks.wait().await;
        DrainReport { aborted }
    }

    /// Runs one connection to its end.
    async fn connection(
        self,
        stream: TcpStream,
        client: SocketAddr,
        router: Router,
        shutdown: Shutdown,
    ) {
        let _open = OpenConnection::enter(&self.metrics.open);
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "the client left before it was served");
            return;
        }
        let activity = Activity::new(self.clock.clone());
        let context = Arc::new(ConnectionContext {
            router,
            activity: Arc::clone(&activity),
            metrics: self.metrics.clone(),
            client,
            requests: AtomicU64::new(0),
            requests_max: self.limits.requests_per_connection_max,
        });
        let service = service_fn(move |request| {
            let context = Arc::clone(&context);
            async move { Ok::<_, std::convert::Infallible>(context.handle(request).await) }
        });
        let io = TokioIo::new(ConnectionIo::new(stream, Arc::clone(&activity)));
        let mut builder = http1::Builder::new();
        // The watch below bounds heads and idle time apart; hyper has one timer for both.
        builder.header_read_timeout(None).max_buf_size(self.limits.head_bytes_max);
        let connection = std::pin::pin!(builder.serve_connection(io, service));
        self.watch(connection, &activity, &shutdown).await;
    }

    /// Drives a connection and holds it to its bounds.
    async fn watch<C: Drain>(
        &self,
        mut connection: std::pin::Pin<&mut C>,
        activity: &Activity,
        shutdown: &Shutdown,
    ) {
        let limits = PhaseLimits {
            head: self.limits.header_read_timeout,
            idle: self.limits.keep_alive_idle,
        };
        let mut end_of_life = self.limits.connection_lifetime.map(|life| {
            self.clock.deadline(jittered(life, LIFETIME_JITTER_PERCENT, &mut OsEntropy))
        });
        let mut draining = false;
        let timer = tokio::time::sleep(limits.head);
        tokio::pin!(timer);
        loop {
            tokio::select! {
                biased;
                ended = connection.as_mut() => {
                    if let Err(error) = ended {
                        tracing::debug!(%error, "connection ended");
                    }
                    return;
                }
                () = shutdown.requested(), if !draining => {
                    draining = true;
                    connection.as_mut().drain();
                }
                () = &mut timer => {
                    let wait = match activity.verdict(limits) {
                        Verdict::Wait(wait) => wait,
                        Verdict::CloseGently => {
                            connection.as_mut().drain();
                            limits.head
                        }
                        Verdict::Drop => {
                            self.metrics.dropped.inc();
                            return;
                        }
                    };
                    if end_of_life.is_some_and(|end| self.clock.remaining(end).is_zero()) {
                        end_of_life = None;
                        connection.as_mut().drain();
                    }
                    timer.as_mut().reset(tokio::time::Instant::now() + wait);
                }
            }
        }
    }
}

/// A connection that can be asked to end after the request in flight.
trait Drain: Future<Output = hyper::Result<()>> {
    fn drain(self: std::pin::Pin<&mut Self>);
}

impl<I, B, S> Drain for http1::Connection<I, S>
where
    S: hyper::service::HttpService<hyper::body::Incoming, ResBody = B>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    I: hyper::rt::Read + hyper::rt::Write + Unpin,
    B: hyper::body::Body + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    fn drain(self: std::pin::Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

/// Counts a connection as open until dropped.
struct OpenConnection<'a>(&'a IntGauge);

impl<'a> OpenConnection<'a> {
    fn enter(gauge: &'a IntGauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for OpenConnection<'_> {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Best effort: what the socket does not take at once is not worth waiting for.
fn refuse_over_cap(stream: &TcpStream) {
    if let Err(error) = stream.try_write(FULL) {
        tracing::debug!(%error, "a refused connection did not take its answer");
    }
}

/// Connections by address.
type PerIp = Arc<Mutex<HashMap<IpAddr, usize>>>;

/// Decides which connections get a slot.
#[derive(Debug, Clone)]
struct Gate {
    slots: Arc<Semaphore>,
    per_ip: PerIp,
    per_ip_max: usize,
}

/// The right to one connection, given back when dropped.
#[derive(Debug)]
struct Slot {
    _permit: OwnedSemaphorePermit,
    counted: Option<(IpAddr, PerIp)>,
}

impl Gate {
    fn new(limits: &ServerLimits) -> Self {
        Self {
            slots: Arc::new(Semaphore::new(limits.connections_max.min(Semaphore::MAX_PERMITS))),
            per_ip: Arc::default(),
            per_ip_max: limits.connections_per_ip_max,
        }
    }

    fn admit(&self, ip: IpAddr) -> Option<Slot> {
        let permit = Arc::clone(&self.slots).try_acquire_owned().ok()?;
        if ip.to_canonical().is_loopback() {
            return Some(Slot { _permit: permit, counted: None });
        }
        let mut counts = self.per_ip.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(ip).or_insert(0);
        if *count >= self.per_ip_max {
            return None;
        }
        *count += 1;
        Some(Slot { _permit: permit, counted: Some((ip, Arc::clone(&self.per_ip))) })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let Some((ip, counts)) = &self.counted else { return };
        let mut counts = counts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(ip) {
            *count -= 1;
            if *count == 0 {
                counts.remove(ip);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_bounded_in_all_and_per_address() {
        let limits = ServerLimits {
            connections_max: 4,
            connections_per_ip_max: 2,
            ..ServerLimits::client()
        };
        let gate = Gate::new(&limits);
        let one: IpAddr = [10, 0, 0, 1].into();
        let two: IpAddr = [10, 0, 0, 2].into();
        let first = gate.admit(one).unwrap();
        let _second = gate.admit(one).unwrap();
        assert!(gate.admit(one).is_none(), "too many of one address");
        drop(first);
        let _third = gate.admit(one).unwrap();
        let _fourth = gate.admit(two).unwrap();
        let local = gate.admit([127, 0, 0, 1].into()).unwrap();
        assert!(gate.admit(two).is_none(), "too many in all");
        drop(local);
        assert!(gate.admit(two).is_some());
        assert_eq!(gate.per_ip.lock().unwrap().len(), 2);
    }
}
