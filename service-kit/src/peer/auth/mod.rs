//! How processes of a cluster prove to each other that they belong to it: each message carries an
//! HMAC-SHA256, made with a key that all hosts share, over everything that gives it meaning.
//!
//! | module | what it gives |
//! |---|---|
//! | [`keyring`] | up to three keys from a file: all are believed, the first signs |
//! | [`signature`] | the header `x-atoll-auth`, and what is under the signature |
//! | [`replay`] | every signed message is taken once |
//! | [`signing`] | the sending side: what a client remembers of each receiver |
//! | [`body`] | a body that is checked while it is read |
//!
//! A receiver has a random number of its own for its life, which senders learn from its first refusal
//! and sign: a message for one process is of no use at another, nor after a restart.
//!
//! Invariant: a handler behind a gate with keys never sees a message, nor the end of a body, whose
//! signature was not checked; a message that is refused here was not acted upon.
//!
//! Not here: secrecy, and proof that an answer is the peer's, which are [`crate::tls`]. Whoever has a key
//! may speak for any node.

mod body;
mod keyring;
mod replay;
mod signature;
mod signing;

pub(crate) use body::BodyForged;
pub use keyring::PeerKeyring;
pub(super) use signature::BodyHash;
pub(super) use signing::Stream;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::Request;
use bytes::Bytes;
use dynamo_core::entropy::Entropy;
use http::{HeaderMap, HeaderName, HeaderValue};
use prometheus::{IntCounterVec, Opts, Registry};
use serde::{Deserialize, Serialize};

use crate::auth::reloaded::{ReloadMetrics, Reloaded};
use crate::config::{Invalid, Validate};
use crate::http::error::{ErrorCode, Problem};
use crate::launch::{Protection, RunError};
use crate::limits::PEER_SKEW_MAX;
use crate::rng::OsEntropy;
use crate::shutdown::Shutdown;
use crate::time::Clock;
use crate::tls::config::TlsConfig;

use body::VerifiedBody;
use replay::{Replays, Verdict};
use signature::{Claim, X_ATOLL_AUTH};

/// The number of the life of a receiver, in its refusals.
pub(super) const X_ATOLL_RECEIVER: HeaderName = HeaderName::from_static("x-atoll-receiver");

/// The word for the file in metrics and logs.
const FILE: &str = "peer_keys";

/// How peers are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PeerAuthMode {
    /// They are not: whoever connects is believed.
    None,
    /// By a key that all hosts of the cluster share.
    Hmac,
}

/// The `[peer_auth]` table of every service. Where nothing is said nobody is known, and only this
/// host may connect.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PeerAuthConfig {
    /// `hmac`, or `none` for a network that only hosts of the cluster can reach.
    pub mode: Option<PeerAuthMode>,
    /// File with one to three keys, one a line; the first signs.
    pub keys_file: Option<PathBuf>,
}

impl PeerAuthConfig {
    /// What a listener that is opened to others is protected by: signatures, or the certificates
    /// that `tls` asks for.
    #[must_use]
    pub fn protection(&self, tls: &TlsConfig) -> Protection {
        let signed = self.mode.map(|mode| mode == PeerAuthMode::Hmac);
        let on = if tls.is_mutual() { Some(true) } else { signed };
        Protection { setting: "peer_auth.mode", on }
    }
}

impl Validate for PeerAuthConfig {
    fn validate(&self) -> Result<(), Invalid> {
        match (self.mode, &self.keys_file) {
            (Some(PeerAuthMode::Hmac), None) => {
                let reason = "is needed where peer_auth.mode is \"hmac\"";
                Err(Invalid::new("peer_auth.keys_file", reason))
            }
            (Some(PeerAuthMode::None) | None, Some(_)) => {
                let reason = "must be \"hmac\" where peer_auth.keys_file is given: the keys would \
                              protect nothing";
                Err(Invalid::new("peer_auth.mode", reason))
            }
            _ => Ok(()),
        }
    }
}

/// Signs what is sent and checks what comes; or neither, where peers are not authenticated. Clones
/// share keys and memory.
#[derive(Clone, Default)]
pub struct PeerAuth(Option<Arc<Shared>>);

struct Shared {
    keys: Arc<Reloaded<PeerKeyring>>,
    clock: Clock,
    /// The number of this life as a receiver.
    receiver: u64,
    replays: Mutex<Replays>,
    refused: IntCounterVec,
}

/// Why a message is refused; a word for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Distrust {
    Missing,
    Malformed,
    UnknownKey,
    OtherReceiver,
    BadSignature,
    ClockSkew,
    Replayed,
    TooManyStreams,
    Body,
}

impl Distrust {
    fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Malformed => "malformed",
            Self::UnknownKey => "unknown_key",
            Self::OtherReceiver => "other_receiver",
            Self::BadSignature => "bad_signature",
            Self::ClockSkew => "clock_skew",
            Self::Replayed => "replayed",
            Self::TooManyStreams => "too_many_streams",
            Self::Body => "body",
        }
    }

    /// The answer. It tells a stranger nothing of keys or of what was wrong, except that the number
    /// of our life, which is no secret, is missing.
    fn problem(self) -> Problem {
        match self {
            Self::ClockSkew => {
                let detail = "the clocks of both hosts differ by more than a minute";
                Problem::new(ErrorCode::ClockSkew, detail)
            }
            Self::TooManyStreams => {
                Problem::new(ErrorCode::Overloaded, "too many processes speak at once")
            }
            _ => {
                Problem::new(ErrorCode::Unauthorized, "only processes of the cluster may ask this")
            }
        }
    }
}

impl PeerAuth {
    /// Nobody is authenticated.
    #[must_use]
    pub fn off() -> Self {
        Self(None)
    }

    /// As the settings say; reads the keys for the first time.
    ///
    /// # Errors
    /// Where the file is of no use, or metrics are registered already.
    pub fn load(
        config: &PeerAuthConfig,
        clock: Clock,
        registry: &Registry,
        metrics: ReloadMetrics,
    ) -> Result<Self, RunError> {
        config.validate()?;
        let (Some(PeerAuthMode::Hmac), Some(path)) = (config.mode, &config.keys_file) else {
            return Ok(Self::off());
        };
        let keys = Reloaded::load(FILE, path, PeerKeyring::read, metrics)
            .map_err(|reason| Invalid::new("peer_auth.keys_file", reason))?;
        let refused = IntCounterVec::new(
            Opts::new(
                "atoll_peer_auth_refused_total",
                "Messages refused because their sender did not prove to be of the cluster.",
            ),
            &["reason"],
        )?;
        registry.register(Box::new(refused.clone()))?;
        Ok(Self(Some(Arc::new(Shared {
            keys: Arc::new(keys),
            clock,
            receiver: OsEntropy.next_u64().max(1),
            replays: Mutex::default(),
            refused,
        }))))
    }

    /// Whether messages are signed and checked.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Whether a message says that it is one of a host, which [`Self::check`] will tell.
    pub(super) fn is_claimed(headers: &HeaderMap) -> bool {
        headers.contains_key(X_ATOLL_AUTH)
    }

    /// Follows the file of the keys until the process stops.
    pub async fn follow(self, shutdown: Shutdown) {
        if let Some(shared) = self.0 {
            Arc::clone(&shared.keys).follow(shutdown, || {}).await;
        }
    }

    /// The hash of a body, where messages are signed; taken once however often it is sent.
    pub(super) fn hash(&self, body: &Bytes) -> Option<BodyHash> {
        self.0.as_ref().map(|_| BodyHash::of(body))
    }

    /// Signs a message as the next of `stream`. Must come right before it is sent: messages of a
    /// stream may overtake each other only a little.
    pub(super) fn sign<B>(
        &self,
        message: &mut http::Request<B>,
        body: Option<&BodyHash>,
        stream: &Stream,
    ) {
        let (Some(shared), Some(body)) = (&self.0, body) else { return };
        let claim = Claim {
            time: shared.clock.wall(),
            stream: stream.id,
            number: stream.next(),
            receiver: stream.receiver(),
        };
        let keys = shared.keys.current();
        let (method, uri, headers) = (message.method(), message.uri(), message.headers());
        let value = claim.sign(keys.first(), method, uri, headers, body);
        message.headers_mut().insert(X_ATOLL_AUTH, value);
    }

    /// Checks the signature of a message. Its body is checked while it is read.
    ///
    /// # Errors
    /// 401, 409 `clock_skew`, or 503 where too many processes speak.
    pub(super) fn check(&self, request: Request) -> Result<Request, Problem> {
        let Some(shared) = &self.0 else { return Ok(request) };
        let checked = shared.check(&request);
        let (parts, body) = request.into_parts();
        let forged = || shared.refused.with_label_values(&[Distrust::Body.as_str()]);
        let checked =
            checked.and_then(|hash| VerifiedBody::new(body, hash, forged).ok_or(Distrust::Body));
        match checked {
            Ok(body) => Ok(Request::from_parts(parts, body)),
            Err(distrust) => {
                shared.refused.with_label_values(&[distrust.as_str()]).inc();
                tracing::debug!(reason = distrust.as_str(), "a message was not believed");
                let receiver = HeaderValue::from(shared.receiver);
                Err(distrust.problem().header(X_ATOLL_RECEIVER, receiver))
            }
        }
    }
}

impl Shared {
    fn check(&self, request: &Request) -> Result<BodyHash, Distrust> {
        let value = request.headers().get(X_ATOLL_AUTH).ok_or(Distrust::Missing)?;
        let presented = signature::Presented::parse(value).ok_or(Distrust::Malformed)?;
        let keys = self.keys.current();
        let key = keys.find(presented.key).ok_or(Distrust::UnknownKey)?;
        if !presented.verify(key, request.method(), request.uri(), request.headers()) {
            return Err(Distrust::BadSignature);
        }
        let Claim { time, stream, number, receiver } = presented.claim;
        if receiver != self.receiver {
            return Err(Distrust::OtherReceiver);
        }
        let now = self.clock.wall();
        if now.since(time).max(time.since(now)) > PEER_SKEW_MAX {
            return Err(Distrust::ClockSkew);
        }
        let mut replays = self.replays.lock().unwrap_or_else(PoisonError::into_inner);
        match replays.take(stream, number, self.clock.mono()) {
            Verdict::New => Ok(presented.body),
            Verdict::Seen => Err(Distrust::Replayed),
            Verdict::Full => Err(Distrust::TooManyStreams),
        }
    }
}

impl std::fmt::Debug for PeerAuth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.is_on() { "PeerAuth(hmac)" } else { "PeerAuth(off)" })
    }
}

#[cfg(test)]
mod tests;
