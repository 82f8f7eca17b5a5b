//! The client side of calls between processes: HTTP/1.1 over pooled keep-alive connections, a
//! deadline on every call, a cap on every answer, and no redirect ever followed.
//!
//! Invariant: a call fails with [`PeerError::NotSent`] only if no byte of it can have been acted
//! upon by the peer; everything else leaves the outcome unknown.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use dynamo_core::limits::{DEADLINE_HOP_MS, PEER_MESSAGE_BYTES_MAX};
use dynamo_core::time::Mono;
use http::header::{CONNECTION, CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use http::{HeaderValue, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body as _, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, Opts, Registry};
use tokio::time::Instant;

use super::auth::BodyHash;
use super::call::{NotSentReason, PeerError, PeerRequest, PeerResponse};
use super::connector::{Connector, TcpConnector};
use super::identity::{PeerIdentity, X_ATOLL_DEADLINE_MS};
use super::pool::Pool;
use crate::limits::{
    PEER_ADDRESSES_MAX, PEER_CONNECT_TIMEOUT, PEER_CONNECTION_AGE_MAX,
    PEER_CONNECTIONS_PER_PEER_MAX, PEER_IDLE_PER_PEER_MAX, PEER_IDLE_TIMEOUT,
};
use crate::metrics::{LATENCY_BUCKETS, MetricsError};
use crate::time::Clock;

/// Room for the headers of the identity, the deadline and the host, so that a map grows once.
const HEADERS_ADDED: usize = 9;

/// Bounds of a client. The reasons are with the constants in [`crate::limits`].
#[derive(Debug, Clone)]
pub struct PeerConfig {
    /// Time for a new connection, within the deadline of the call.
    pub connect_timeout: Duration,
    /// Idle connections kept per address.
    pub idle_max: usize,
    /// Connections in use at once per address.
    pub connections_max: usize,
    /// Time an idle connection is kept.
    pub idle_timeout: Duration,
    /// Age at which a connection is replaced.
    pub connection_age_max: Duration,
    /// Bytes of an answer.
    pub response_bytes_max: usize,
}

impl Default for PeerConfig {
    fn default() -> Self {
        Self {
            connect_timeout: PEER_CONNECT_TIMEOUT,
            idle_max: PEER_IDLE_PER_PEER_MAX,
            connections_max: PEER_CONNECTIONS_PER_PEER_MAX,
            idle_timeout: PEER_IDLE_TIMEOUT,
            connection_age_max: PEER_CONNECTION_AGE_MAX,
            response_bytes_max: PEER_MESSAGE_BYTES_MAX,
        }
    }
}

/// Metrics of all calls of a process.
#[derive(Debug, Clone)]
pub struct PeerMetrics {
    ok: IntCounter,
    failed: IntCounterVec,
    seconds: Histogram,
    connects: IntCounter,
    retries: IntCounter,
}

impl PeerMetrics {
    /// Registers them.
    ///
    /// # Errors
    /// When they are registered already.
    pub fn register(registry: &Registry) -> Result<Self, MetricsError> {
        let calls = IntCounterVec::new(
            Opts::new("atoll_peer_calls_total", "Calls to peers by how they ended."),
            &["result"],
        )?;
        registry.register(Box::new(calls.clone()))?;
        let seconds = Histogram::with_opts(
            HistogramOpts::new("atoll_peer_call_seconds", "Duration of answered calls to peers.")
                .buckets(LATENCY_BUCKETS.to_vec()),
        )?;
        registry.register(Box::new(seconds.clone()))?;
        let counter = |name: &str, help: &str| -> Result<IntCounter, MetricsError> {
            let counter = IntCounter::new(name, help)?;
            registry.register(Box::new(counter.clone()))?;
            Ok(counter)
        };
        Ok(Self {
            ok: calls.with_label_values(&["answered"]),
            failed: calls,
            seconds,
            connects: counter("atoll_peer_connects_total", "Connections opened to peers.")?,
            retries: counter(
                "atoll_peer_stale_retries_total",
                "Calls sent again because a pooled connection was dead.",
            )?,
        })
    }
}

/// Calls peers. Clones share the pools.
pub struct PeerClient<C: Connector = TcpConnector> {
    shared: Arc<Shared<C>>,
}

impl<C: Connector> Clone for PeerClient<C> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

struct Shared<C> {
    config: PeerConfig,
    identity: PeerIdentity,
    clock: Clock,
    metrics: PeerMetrics,
    connector: C,
    pools: RwLock<HashMap<String, Arc<Pool>>>,
}

/// How far a call got, for what its end means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Waiting,
    Connecting,
    Sent,
}

/// Why one attempt failed.
enum Attempt {
    /// The pooled connection was dead. With the request where it provably was not written.
    Stale {
        request: Option<Box<Request<Full<Bytes>>>>,
        error: String,
    },
    Failed(PeerError),
}

impl PeerClient<TcpConnector> {
    /// A client over TCP, in clear.
    #[must_use]
    pub fn new(
        config: PeerConfig,
        identity: PeerIdentity,
        clock: Clock,
        metrics: PeerMetrics,
    ) -> Self {
        Self::with_connector(config, identity, clock, metrics, TcpConnector::default())
    }
}

impl<C: Connector> PeerClient<C> {
    /// A client over connections of another kind.
    pub fn with_connector(
        config: PeerConfig,
        identity: PeerIdentity,
        clock: Clock,
        metrics: PeerMetrics,
        connector: C,
    ) -> Self {
        let pools = RwLock::default();
        Self { shared: Arc::new(Shared { config, identity, clock, metrics, connector, pools }) }
    }

    /// The identity that calls carry.
    #[must_use]
    pub fn identity(&self) -> &PeerIdentity {
        &self.shared.identity
    }

    /// Idle connections to `address`.
    #[must_use]
    pub fn idle_connections(&self, address: &str) -> usize {
        let pools = self.shared.pools.read().unwrap_or_else(PoisonError::into_inner);
        pools.get(address).map_or(0, |pool| pool.idle_len())
    }

    /// Calls a peer and reads its whole answer. Any status but a redirect is an answer.
    ///
    /// # Errors
    /// What went wrong, and thereby what is known of the outcome ([`PeerError::outcome`]).
    pub async fn call(&self, request: PeerRequest<'_>) -> Result<PeerResponse, PeerError> {
        let shared = &self.shared;
        let started = shared.clock.mono();
        let deadline = Instant::now() + request.timeout;
        let mut stage = Stage::Waiting;
        let call = shared.call(request, started, &mut stage);
        let result = match tokio::time::timeout_at(deadline, call).await {
            Ok(result) => result,
            Err(_) => Err(match stage {
                Stage::Waiting => PeerError::NotSent(NotSentReason::Deadline),
                Stage::Connecting => PeerError::NotSent(NotSentReason::ConnectTimeout),
                Stage::Sent => PeerError::Deadline,
            }),
        };
        match &result {
            Ok(_) => {
                shared.metrics.ok.inc();
                shared.metrics.seconds.observe(shared.clock.mono().since(started).as_secs_f64());
            }
            Err(error) => shared.metrics.failed.with_label_values(&[error.kind()]).inc(),
        }
        result
    }
}

impl<C: Connector> Shared<C> {
    async fn call(
        &self,
        request: PeerRequest<'_>,
        started: Mono,
        stage: &mut Stage,
    ) -> Result<PeerResponse, PeerError> {
        let pool = self.pool(request.address)?;
        let hash = self.identity.auth().hash(&request.body);
        let signed_for = pool.stream.receiver();
        let response = self.exchange(&request, &pool, hash.as_ref(), started, stage).await?;
        if hash.is_some() && pool.stream.learn(signed_for, response.status, &response.headers) {
            // Refused unread by a process that we did not know yet.
            *stage = Stage::Waiting;
            return self.exchange(&request, &pool, hash.as_ref(), started, stage).await;
        }
        Ok(response)
    }

    async fn exchange(
        &self,
        request: &PeerRequest<'_>,
        pool: &Pool,
        hash: Option<&BodyHash>,
        started: Mono,
        stage: &mut Stage,
    ) -> Result<PeerResponse, PeerError> {
        let mut message = self.message(request, pool, started)?;
        // Closing the semaphore is not possible: nobody has a handle that does.
        let _slot = pool.slots.acquire().await.map_err(|e| PeerError::Unknown(e.to_string()))?;
        let mut maybe_sent = false;
        if let Some(idle) = pool.take(&self.clock, &self.config) {
            *stage = Stage::Sent;
            match self.attempt(pool, idle.sender, idle.opened, (message, hash), true).await {
                Ok(response) => return Ok(response),
                Err(Attempt::Failed(error)) => return Err(error),
                Err(Attempt::Stale { request: unsent, error }) => {
                    maybe_sent = unsent.is_none();
                    message = match unsent {
                        Some(unsent) => *unsent,
                        None if request.idempotent => self.message(request, pool, started)?,
                        None => return Err(PeerError::Unknown(error)),
                    };
                    self.metrics.retries.inc();
                }
            }
        }
        // A message that is sent again may already have been acted upon: failing to connect now
        // does not make it "not sent" unless it provably never left.
        if !maybe_sent {
            *stage = Stage::Connecting;
        }
        let (sender, opened) = self.connect(request.address).await.map_err(|error| {
            if maybe_sent { PeerError::Unknown(error.to_string()) } else { error }
        })?;
        *stage = Stage::Sent;
        let left = request.timeout.saturating_sub(self.clock.mono().since(started));
        message.headers_mut().insert(X_ATOLL_DEADLINE_MS, remaining(left));
        let sent = self.attempt(pool, sender, opened, (message, hash), false).await;
        sent.map_err(|attempt| match attempt {
            Attempt::Failed(error) => error,
            Attempt::Stale { error, .. } => PeerError::Unknown(error),
        })
    }

    fn message(
        &self,
        request: &PeerRequest<'_>,
        pool: &Pool,
        started: Mono,
    ) -> Result<Request<Full<Bytes>>, PeerError> {
        let invalid = |text: String| PeerError::NotSent(NotSentReason::Invalid(text));
        let uri: Uri = request.path.parse().map_err(|_| invalid("path".to_owned()))?;
        let mut message = Request::new(Full::new(request.body.clone()));
        *message.method_mut() = request.method.clone();
        *message.uri_mut() = uri;
        let headers = message.headers_mut();
        headers.reserve(request.headers.len() + HEADERS_ADDED);
        // What frames this message is decided here, also where headers are passed on.
        let frames = [CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING];
        for (name, value) in request.headers.iter().filter(|(name, _)| !frames.contains(name)) {
            headers.append(name.clone(), value.clone());
        }
        headers.insert(HOST, pool.host.clone());
        let left = request.timeout.saturating_sub(self.clock.mono().since(started));
        headers.insert(X_ATOLL_DEADLINE_MS, remaining(left));
        self.identity.stamp(headers);
        Ok(message)
    }

    async fn attempt(
        &self,
        pool: &Pool,
        mut sender: SendRequest<Full<Bytes>>,
        opened: Mono,
        (mut message, hash): (Request<Full<Bytes>>, Option<&BodyHash>),
        pooled: bool,
    ) -> Result<PeerResponse, Attempt> {
        if pooled && let Err(error) = sender.ready().await {
            return Err(Attempt::Stale {
                request: Some(Box::new(message)),
                error: error.to_string(),
            });
        }
        self.identity.auth().sign(&mut message, hash, &pool.stream);
        let response = match sender.try_send_request(message).await {
            Ok(response) => response,
            Err(mut failed) => {
                let request = failed.take_message().map(Box::new);
                let error = chain(failed.error());
                // Never written, or written to a connection that the peer had closed meanwhile.
                if pooled && (request.is_some() || is_closed(failed.error())) {
                    return Err(Attempt::Stale { request, error });
                }
                let error = match request {
                    Some(_) => PeerError::NotSent(NotSentReason::Connect(error)),
                    None => PeerError::Unknown(error),
                };
                return Err(Attempt::Failed(error));
            }
        };
        let answer = self.read(response).await.map_err(Attempt::Failed)?;
        pool.put(sender, opened, &self.clock, &self.config);
        Ok(answer)
    }

    async fn read(&self, response: Response<Incoming>) -> Result<PeerResponse, PeerError> {
        let limit = self.config.response_bytes_max;
        let (parts, mut body) = response.into_parts();
        if is_redirect(parts.status) || parts.status.is_informational() {
            return Err(PeerError::BadResponse(format!("status {}", parts.status.as_u16())));
        }
        let announced = body.size_hint().lower();
        if announced > limit as u64 {
            return Err(PeerError::TooLarge { limit });
        }
        let mut first = Bytes::new();
        let mut rest = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| PeerError::Unknown(chain(&error)))?;
            let Ok(data) = frame.into_data() else { continue };
            let received = first.len() + rest.len();
            if received + data.len() > limit {
                return Err(PeerError::TooLarge { limit });
            }
            if received == 0 {
                first = data;
                continue;
            }
            if rest.is_empty() {
                let expected = usize::try_from(announced).unwrap_or(0);
                rest.reserve(expected.max(first.len() + data.len()));
                rest.extend_from_slice(&first);
                first = Bytes::new();
            }
            rest.extend_from_slice(&data);
        }
        let body = if rest.is_empty() { first } else { rest.freeze() };
        Ok(PeerResponse { status: parts.status, headers: parts.headers, body })
    }

    async fn connect(&self, address: &str) -> Result<(SendRequest<Full<Bytes>>, Mono), PeerError> {
        let not_sent = |text: String| PeerError::NotSent(NotSentReason::Connect(text));
        let connecting = self.connector.connect(address);
        let stream = match tokio::time::timeout(self.config.connect_timeout, connecting).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Err(not_sent(error.to_string())),
            Err(_) => return Err(PeerError::NotSent(NotSentReason::ConnectTimeout)),
        };
        let (sender, connection) =
            http1::handshake(stream).await.map_err(|error| not_sent(error.to_string()))?;
        self.metrics.connects.inc();
        // Ends when the sender is dropped or the peer closes; bounded by the pool's slots.
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to a peer ended");
            }
        });
        Ok((sender, self.clock.mono()))
    }

    fn pool(&self, address: &str) -> Result<Arc<Pool>, PeerError> {
        {
            let pools = self.pools.read().unwrap_or_else(PoisonError::into_inner);
            if let Some(pool) = pools.get(address) {
                return Ok(Arc::clone(pool));
            }
        }
        let host = HeaderValue::from_str(address)
            .map_err(|_| PeerError::NotSent(NotSentReason::Invalid("address".to_owned())))?;
        let mut pools = self.pools.write().unwrap_or_else(PoisonError::into_inner);
        if pools.len() >= PEER_ADDRESSES_MAX {
            pools.retain(|_, pool| !pool.sweep(&self.clock, &self.config));
        }
        let pool = pools
            .entry(address.to_owned())
            .or_insert_with(|| Arc::new(Pool::new(host, &self.config)));
        Ok(Arc::clone(pool))
    }
}

/// What the peer is told: the remaining time less what this hop keeps for itself.
fn remaining(left: Duration) -> HeaderValue {
    let ms = u64::try_from(left.as_millis()).unwrap_or(u64::MAX);
    HeaderValue::from(ms.saturating_sub(DEADLINE_HOP_MS))
}

fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 305 | 306 | 307 | 308)
}

/// The peer closed the connection before the first byte of an answer.
fn is_closed(error: &hyper::Error) -> bool {
    if error.is_closed() || error.is_canceled() || error.is_incomplete_message() {
        return true;
    }
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        if let Some(io) = cause.downcast_ref::<std::io::Error>() {
            use std::io::ErrorKind::{
                BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof,
            };
            return matches!(
                io.kind(),
                BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof
            );
        }
        source = cause.source();
    }
    false
}

/// An error with its causes, on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
