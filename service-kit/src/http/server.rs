//! The accept loop that serves an axum router over HTTP/1.1, with every bound that
//! `axum::serve` leaves open: connections in all and per address, time for a head, idle time,
//! requests and life of a connection, size of a head; and an orderly end.
//!
//! Invariants: HTTP/2 is not spoken; at most one request of a connection runs at a time; after
//! `serve` returns no task of the server is left.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use prometheus::IntGauge;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::activity::{Activity, PhaseLimits, Verdict};
use super::connection::ConnectionIo;
pub use super::server_metrics::ServerMetrics;
use super::service::ConnectionContext;
use super::slots::Slots;
use crate::limits::{
    ACCEPT_RETRY, CLIENT_CONNECTION_LIFETIME, CLIENT_REQUESTS_PER_CONNECTION_MAX, CONNECTIONS_MAX,
    CONNECTIONS_PER_IP_MAX, HEAD_BYTES_MAX, HEADER_READ_TIMEOUT, KEEP_ALIVE_IDLE, LISTEN_BACKLOG,
    PEER_HEAD_BYTES_MAX, PEER_REQUESTS_PER_CONNECTION_MAX,
};
use crate::rng::{OsEntropy, jittered};
use crate::shutdown::Shutdown;
use crate::time::Clock;
use crate::tls::{Handshakes, PeerCertificate};

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

/// Serves one router on one listener.
#[derive(Debug, Clone)]
pub struct HttpServer {
    limits: ServerLimits,
    metrics: ServerMetrics,
    clock: Clock,
    handshakes: Option<Handshakes>,
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
        Self { limits, metrics, clock, handshakes: None }
    }

    /// The same server, on whose listener nothing but TLS is spoken.
    #[must_use]
    pub(crate) fn secured_by(self, handshakes: Handshakes) -> Self {
        Self { handshakes: Some(handshakes), ..self }
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
        let slots = Slots::new(self.limits.connections_max, self.limits.connections_per_ip_max);
        // Done once here instead of once per request.
        let router = router.with_state(());
        while let Some(accepted) = shutdown.unless_requested(listener.listener.accept()).await {
            match accepted {
                Ok((stream, client)) => {
                    let Some(slot) = slots.take(client.ip()) else {
                        self.metrics.over_cap.inc();
                        if self.handshakes.is_none() {
                            refuse_over_cap(&stream);
                        }
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
        let Some(handshakes) = &self.handshakes else {
            return self.speak(stream, (client, None), router, shutdown).await;
        };
        let handshake = handshakes.perform(stream, client);
        if let Some(Some((stream, peer))) = shutdown.unless_requested(handshake).await {
            self.speak(stream, (client, peer), router, shutdown).await;
        }
    }

    /// Speaks HTTP over a stream to its end.
    async fn speak<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: S,
        (client, peer): (SocketAddr, Option<PeerCertificate>),
        router: Router,
        shutdown: Shutdown,
    ) {
        let activity = Activity::new(self.clock.clone());
        let context = Arc::new(ConnectionContext {
            router,
            activity: Arc::clone(&activity),
            metrics: self.metrics.clone(),
            client,
            peer,
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
