//! The handshake of an accepted connection: so many at once, so much time, counted by how it ends,
//! and a log line about failures now and then.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use dynamo_core::time::Mono;
use prometheus::{IntCounter, IntCounterVec, Opts, Registry};
use rustls::{AlertDescription, CertificateError, Error, PeerIncompatible};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::{PeerCertificate, Tls};
use crate::limits::{TLS_FAILURES_LOG_INTERVAL, TLS_HANDSHAKE_TIMEOUT, TLS_HANDSHAKES_MAX};
use crate::metrics::MetricsError;
use crate::time::Clock;

/// Why a handshake failed; a word for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Failure {
    TooMany,
    Timeout,
    Left,
    NotTls,
    Version,
    NoCertificate,
    Expired,
    Certificate,
    Refused,
    Other,
}

impl Failure {
    const ALL: [Self; 10] = [
        Self::TooMany,
        Self::Timeout,
        Self::Left,
        Self::NotTls,
        Self::Version,
        Self::NoCertificate,
        Self::Expired,
        Self::Certificate,
        Self::Refused,
        Self::Other,
    ];

    fn as_str(self) -> &'static str {
        match self {
            Self::TooMany => "too_many",
            Self::Timeout => "timeout",
            Self::Left => "left",
            Self::NotTls => "not_tls",
            Self::Version => "version",
            Self::NoCertificate => "no_certificate",
            Self::Expired => "expired",
            Self::Certificate => "certificate",
            Self::Refused => "refused",
            Self::Other => "other",
        }
    }

    fn of(error: &io::Error) -> Self {
        let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) else {
            return Self::Left;
        };
        match tls {
            Error::InvalidMessage(_) => Self::NotTls,
            Error::PeerIncompatible(
                PeerIncompatible::Tls12NotOffered
                | PeerIncompatible::Tls12NotOfferedOrEnabled
                | PeerIncompatible::SupportedVersionsExtensionRequired
                | PeerIncompatible::Tls13RequiredForQuic,
            )
            | Error::AlertReceived(AlertDescription::ProtocolVersion) => Self::Version,
            Error::NoCertificatesPresented => Self::NoCertificate,
            Error::InvalidCertificate(
                CertificateError::Expired
                | CertificateError::ExpiredContext { .. }
                | CertificateError::NotValidYet
                | CertificateError::NotValidYetContext { .. },
            ) => Self::Expired,
            Error::InvalidCertificate(_) => Self::Certificate,
            // The other side does not believe our certificate.
            Error::AlertReceived(_) => Self::Refused,
            _ => Self::Other,
        }
    }
}

/// Handshakes of one listener by how they ended.
#[derive(Debug, Clone)]
pub(crate) struct HandshakeMetrics {
    ok: IntCounter,
    failed: IntCounterVec,
}

impl HandshakeMetrics {
    /// Registers them for the listener called `listener`.
    ///
    /// # Errors
    /// When the registry already has them.
    pub(crate) fn register(registry: &Registry, listener: &str) -> Result<Self, MetricsError> {
        let ok = IntCounter::with_opts(
            Opts::new("atoll_tls_handshakes_total", "TLS handshakes that succeeded.")
                .const_label("listener", listener),
        )?;
        let failed = IntCounterVec::new(
            Opts::new("atoll_tls_handshakes_failed_total", "TLS handshakes that failed.")
                .const_label("listener", listener),
            &["reason"],
        )?;
        registry.register(Box::new(ok.clone()))?;
        registry.register(Box::new(failed.clone()))?;
        // There from the start, so that the first failure is an increase that an alert sees.
        for reason in Failure::ALL {
            failed.with_label_values(&[reason.as_str()]);
        }
        Ok(Self { ok, failed })
    }
}

/// Performs the handshakes of one listener. Clones share the bound and the log.
#[derive(Debug, Clone)]
pub(crate) struct Handshakes {
    tls: Tls,
    metrics: HandshakeMetrics,
    free: Arc<Semaphore>,
    log: Arc<FailureLog>,
}

impl Handshakes {
    pub(crate) fn new(tls: Tls, metrics: HandshakeMetrics, clock: Clock) -> Self {
        let log = FailureLog { clock, last: Mutex::new(None), unsaid: AtomicU64::new(0) };
        let free = Arc::new(Semaphore::new(TLS_HANDSHAKES_MAX));
        Self { tls, metrics, free, log: Arc::new(log) }
    }

    /// The secured stream and who is at its other end; `None` where there is none, which is counted
    /// and told already.
    pub(crate) async fn perform(
        &self,
        stream: TcpStream,
        client: SocketAddr,
    ) -> Option<(TlsStream<TcpStream>, Option<PeerCertificate>)> {
        let config = self.tls.server()?;
        let (failure, error) = match self.free.try_acquire() {
            Err(_) => (Failure::TooMany, "too many handshakes at once".to_owned()),
            Ok(_one) => {
                let accepting = TlsAcceptor::from(config).accept(stream);
                match tokio::time::timeout(TLS_HANDSHAKE_TIMEOUT, accepting).await {
                    Ok(Ok(stream)) => {
                        self.metrics.ok.inc();
                        let peer = self.tls.peer(stream.get_ref().1.peer_certificates());
                        return Some((stream, peer));
                    }
                    Ok(Err(error)) => (Failure::of(&error), error.to_string()),
                    Err(_) => (Failure::Timeout, "no handshake in time".to_owned()),
                }
            }
        };
        self.metrics.failed.with_label_values(&[failure.as_str()]).inc();
        self.log.failed(client, failure, &error);
        None
    }
}

/// Tells of failures, but not of each.
#[derive(Debug)]
struct FailureLog {
    clock: Clock,
    last: Mutex<Option<Mono>>,
    /// Failures since the last line.
    unsaid: AtomicU64,
}

impl FailureLog {
    fn failed(&self, client: SocketAddr, failure: Failure, error: &str) {
        let now = self.clock.mono();
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.is_some_and(|last| now.since(last) < TLS_FAILURES_LOG_INTERVAL) {
            self.unsaid.fetch_add(1, Ordering::Relaxed);
            return;
        }
        *last = Some(now);
        let others = self.unsaid.swap(0, Ordering::Relaxed);
        let reason = failure.as_str();
        tracing::warn!(%client, reason, %error, others, "a TLS handshake failed");
    }
}
