//! The API keys in use, asked by every request.
//!
//! Invariants: whether an id is known cannot be told from the answer nor from its time; a refusal has
//! one text whatever was wrong; valid keys are never refused because of somebody's failures.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::extract::ConnectInfo;
use dynamo_core::time::WallMs;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use prometheus::{IntCounterVec, Opts, Registry};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::api_key::{KeyDigest, KeyId, id_of};
use super::budget::{Budget, Rate};
use super::config::{AuthConfig, AuthMode};
use super::failures::{Failure, Failures};
use super::key_file::{KeyEntry, KeyFile, KeyVersion};
use super::reloaded::{ReloadMetrics, Reloaded};
use super::scope::{BucketPattern, Scope};
use crate::audit::{AuditLog, Event};
use crate::http::error::{ErrorCode, Problem};
use crate::launch::RunError;
use crate::shutdown::Shutdown;
use crate::time::Clock;

/// The word for the file in metrics and logs.
const FILE: &str = "api_keys";

/// The only text of a refusal.
const REFUSAL: &str = "a valid API key is required: Authorization: Bearer atoll_<id>_<secret>";

/// Who asks, and what it may do.
#[derive(Debug)]
pub struct Principal {
    id: KeyId,
    scopes: Vec<Scope>,
    buckets: Vec<BucketPattern>,
    rate: Option<Rate>,
    at_once: Option<Arc<Semaphore>>,
}

impl Principal {
    /// The id of the key.
    #[must_use]
    pub fn id(&self) -> &KeyId {
        &self.id
    }

    /// Whether it may have an effect of this kind in a bucket.
    #[must_use]
    pub fn permits(&self, scope: Scope, bucket: &str) -> bool {
        self.scopes.contains(&scope) && self.buckets.iter().any(|b| b.matches(bucket))
    }

    /// Whether it may change and inspect the cluster.
    #[must_use]
    pub fn is_admin(&self) -> bool {
        self.scopes.contains(&Scope::Admin)
    }
}

/// Why credentials are refused; for metrics and the log, never for the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Denial {
    /// None were given.
    Missing,
    /// Not a key.
    Malformed,
    /// No key has this id.
    Unknown,
    /// The id is known, the secret is not.
    Wrong,
    /// Valid until some time ago.
    Expired,
    /// Valid until it was revoked.
    Revoked,
}

impl Denial {
    /// Its word in metrics and logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Malformed => "malformed",
            Self::Unknown => "unknown",
            Self::Wrong => "wrong",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
        }
    }
}

/// Every reason that a refusal is counted under.
const REASONS: [&str; 10] = [
    Denial::Missing.as_str(),
    Denial::Malformed.as_str(),
    Denial::Unknown.as_str(),
    Denial::Wrong.as_str(),
    Denial::Expired.as_str(),
    Denial::Revoked.as_str(),
    "limited",
    "forbidden",
    "query",
    "source_limited",
];

/// One set of keys, as it was read.
pub struct KeySet {
    keys: HashMap<KeyId, (Arc<Principal>, Vec<KeyVersion>)>,
    /// What an unknown id is compared with, so that it takes as long as a known one.
    nobody: KeyDigest,
}

impl KeySet {
    fn read(path: &Path) -> Result<Self, String> {
        KeyFile::read_all(path).map(|file| Self::new(file.keys))
    }

    /// The set of these keys.
    #[must_use]
    pub fn new(entries: Vec<KeyEntry>) -> Self {
        let keys = entries.into_iter().map(|entry| {
            let principal = Principal {
                id: entry.id.clone(),
                scopes: entry.scopes,
                buckets: entry.buckets,
                rate: entry.requests_per_s.map(|per_s| Rate { burst: per_s, per_s }),
                at_once: entry.requests_at_once.map(|n| Arc::new(Semaphore::new(n as usize))),
            };
            (entry.id, (Arc::new(principal), entry.versions))
        });
        Self { keys: keys.collect(), nobody: KeyDigest::of("nobody") }
    }

    /// Who presents `text`.
    ///
    /// # Errors
    /// Why nobody does.
    pub fn verify(&self, text: &str, now: WallMs) -> Result<&Arc<Principal>, Denial> {
        let presented = KeyDigest::of(text);
        let id = id_of(text).ok_or(Denial::Malformed)?;
        let Some((principal, versions)) = self.keys.get(&id) else {
            // The result is of no interest, the time is.
            let _ = std::hint::black_box(presented.matches(&self.nobody));
            return Err(Denial::Unknown);
        };
        let mut found = None;
        for version in versions {
            if presented.matches(&version.sha256) {
                found = Some(version);
            }
        }
        match found {
            None => Err(Denial::Wrong),
            Some(version) if version.is_active(now) => Ok(principal),
            Some(version) if version.revoked_at.is_some() => Err(Denial::Revoked),
            Some(_) => Err(Denial::Expired),
        }
    }

    fn len(&self) -> usize {
        self.keys.len()
    }
}

/// The keys in use. Clones share them.
#[derive(Clone)]
pub struct ApiKeys(Arc<Shared>);

struct Shared {
    file: Arc<Reloaded<KeySet>>,
    clock: Clock,
    failures: Mutex<Failures>,
    /// What is left of the rates of the keys that have one; they outlive a reload of the file.
    rates: Mutex<HashMap<KeyId, Budget>>,
    refused: IntCounterVec,
    audit: AuditLog,
}

/// A request that counts among those at once of its key, until dropped.
#[derive(Debug)]
pub struct Admitted(
    #[expect(dead_code, reason = "held for its drop")] Option<OwnedSemaphorePermit>,
);

impl ApiKeys {
    /// Reads the keys for the first time.
    ///
    /// # Errors
    /// Where the file is of no use, or metrics are registered already.
    pub fn load(
        path: &Path,
        clock: Clock,
        registry: &Registry,
        metrics: ReloadMetrics,
        audit: AuditLog,
    ) -> Result<Self, RunError> {
        let file = Reloaded::load(FILE, path, KeySet::read, metrics)
            .map_err(|reason| crate::config::Invalid::new("auth.keys_file", reason))?;
        if file.current().len() == 0 {
            tracing::warn!("there is no API key: nobody is let in before `atoll keys new`");
        }
        let refused = IntCounterVec::new(
            Opts::new("atoll_auth_refused_total", "Requests refused for their credentials."),
            &["reason"],
        )?;
        registry.register(Box::new(refused.clone()))?;
        // There from the start, so that the first refusal is an increase that an alert sees.
        for reason in REASONS {
            refused.with_label_values(&[reason]);
        }
        Ok(Self(Arc::new(Shared {
            file: Arc::new(file),
            clock,
            failures: Mutex::default(),
            rates: Mutex::default(),
            refused,
            audit,
        })))
    }

    /// As the settings say; `None` where nobody is asked for a key.
    ///
    /// # Errors
    /// Those of [`Self::load`].
    pub fn of_config(
        config: &AuthConfig,
        clock: Clock,
        registry: &Registry,
        metrics: ReloadMetrics,
        audit: AuditLog,
    ) -> Result<Option<Self>, RunError> {
        match (config.mode, &config.keys_file) {
            (Some(AuthMode::Keys), Some(file)) => {
                Self::load(file, clock, registry, metrics, audit).map(Some)
            }
            _ => Ok(None),
        }
    }

    /// Follows the file until the process stops.
    pub async fn follow(self, shutdown: Shutdown) {
        let changed = || {
            let action = "the file of API keys has changed".to_owned();
            self.0.audit.note(Event { action, outcome: "in use".into(), ..Event::default() });
        };
        Arc::clone(&self.0.file).follow(shutdown, changed).await;
    }

    /// Who asks, by the `Authorization` header.
    ///
    /// # Errors
    /// 401, or 429 for a source that has failed too often.
    pub fn authenticate(
        &self,
        headers: &HeaderMap,
        source: IpAddr,
    ) -> Result<Arc<Principal>, Problem> {
        let verified = bearer(headers).and_then(|text| {
            self.0.file.current().verify(text, self.0.clock.wall()).map(Arc::clone)
        });
        verified.map_err(|denial| self.denied(denial, source))
    }

    /// Counts a request towards the limits of its key.
    ///
    /// # Errors
    /// 429 where it is over one of them.
    pub fn admit(&self, principal: &Principal) -> Result<Admitted, Problem> {
        let over = |wait_s: u32, detail: &str| {
            self.count("limited");
            Problem::new(ErrorCode::TooManyRequests, detail).retry_after_s(wait_s)
        };
        if let Some(rate) = principal.rate {
            let now = self.0.clock.mono();
            let mut rates = lock(&self.0.rates);
            let budget =
                rates.entry(principal.id.clone()).or_insert_with(|| Budget::full(rate, now));
            if !budget.take(rate, now) {
                return Err(over(budget.wait_s(rate), "the API key is over its rate of requests"));
            }
        }
        let Some(at_once) = &principal.at_once else { return Ok(Admitted(None)) };
        match Arc::clone(at_once).try_acquire_owned() {
            Ok(permit) => Ok(Admitted(Some(permit))),
            Err(_) => Err(over(1, "the API key has as many requests in flight as it may")),
        }
    }

    /// The refusal of something that `principal` may not do. It says nothing of what there is.
    #[must_use]
    pub fn forbidden(&self, principal: &Principal, scope: Scope) -> Problem {
        self.count("forbidden");
        tracing::debug!(key = %principal.id, %scope, "a request was not permitted");
        Problem::new(ErrorCode::Forbidden, format!("the API key does not permit '{scope}' here"))
    }

    /// The refusal of credentials in a URL, where logs and histories keep them.
    #[must_use]
    pub fn in_query(&self) -> Problem {
        self.count("query");
        let detail = "credentials belong in the Authorization header; treat these as lost";
        Problem::new(ErrorCode::BadRequest, detail)
    }

    fn denied(&self, denial: Denial, source: IpAddr) -> Problem {
        self.count(denial.as_str());
        let failure = lock(&self.0.failures).count(source, self.0.clock.mono());
        match failure {
            Failure::First => {
                tracing::warn!(%source, reason = denial.as_str(), "credentials were refused");
                self.0.audit.note(Event {
                    source: source.to_string(),
                    action: "present credentials".to_owned(),
                    outcome: denial.as_str().to_owned(),
                    ..Event::default()
                });
            }
            Failure::Counted => {}
            Failure::TooMany(wait_s) => {
                self.count("source_limited");
                let detail = "too many requests without valid credentials";
                return Problem::new(ErrorCode::TooManyRequests, detail).retry_after_s(wait_s);
            }
        }
        Problem::new(ErrorCode::Unauthorized, REFUSAL)
    }

    fn count(&self, reason: &str) {
        self.0.refused.with_label_values(&[reason]).inc();
    }
}

impl std::fmt::Debug for ApiKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ApiKeys")
            .field("keys", &self.0.file.current().len())
            .finish_non_exhaustive()
    }
}

/// Where a request comes from; nowhere in particular where that is not known.
#[must_use]
pub fn source_of<B>(request: &http::Request<B>) -> IpAddr {
    let from = request.extensions().get::<ConnectInfo<SocketAddr>>();
    from.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |from| from.0.ip())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The token of `Authorization: Bearer …`; the scheme in any case (RFC 9110).
fn bearer(headers: &HeaderMap) -> Result<&str, Denial> {
    let value = headers.get(AUTHORIZATION).ok_or(Denial::Missing)?;
    let text = value.to_str().map_err(|_| Denial::Malformed)?;
    let (scheme, token) = text.split_once(' ').ok_or(Denial::Malformed)?;
    if scheme.eq_ignore_ascii_case("bearer") { Ok(token.trim()) } else { Err(Denial::Malformed) }
}

#[cfg(test)]
#[path = "api_keys/tests.rs"]
mod tests;
