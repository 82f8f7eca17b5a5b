//! One HTTP exchange with one address: what is sent, what comes back, what can go wrong. No
//! retries here, and no meaning.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::{Bytes, BytesMut};
use dynamo_core::time::WallMs;
use dynamo_core::wire::headers;
use reqwest::header::{CONTENT_LENGTH, HeaderMap, HeaderValue};
use reqwest::{Method, StatusCode};

use crate::error::Error;
use crate::limits::{ANSWER_BYTES_MAX, CONNECT_TIMEOUT, IDLE_CONNECTIONS_MAX, IDLE_TIMEOUT};
use crate::transport::tls;

/// What a request asks for, as far as repeating it is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Changes nothing: any refusal and any lost answer is as if it had never been sent.
    Read,
    /// Changes something, and names the change so that a repetition is applied once.
    NamedWrite,
    /// Changes something, and a repetition might change it again: repeated only when it certainly
    /// did not arrive.
    Write,
}

/// Which deadline header the receiver reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DeadlineHeader {
    /// A router: `X-Atoll-Timeout-Ms`.
    Client,
    /// A storage node: `X-Atoll-Deadline-Ms`.
    Peer,
    /// The route takes none.
    None,
}

/// A request that can be sent to any address, any number of times.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) method: Method,
    /// Path and query, percent-encoded.
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) kind: Kind,
    pub(crate) deadline: DeadlineHeader,
}

impl Request {
    /// A request without headers and body.
    pub(crate) fn new(method: Method, path: impl Into<String>, kind: Kind) -> Self {
        Self {
            method,
            path: path.into(),
            headers: HeaderMap::new(),
            body: Bytes::new(),
            kind,
            deadline: DeadlineHeader::None,
        }
    }

    /// Adds the header `name`.
    ///
    /// # Errors
    /// [`Error::Parameter`] where `value` cannot be a header value.
    pub(crate) fn header(&mut self, name: &'static str, value: &str) -> Result<(), Error> {
        let value = HeaderValue::from_str(value).map_err(|_| Error::Parameter {
            name: name.to_owned(),
            reason: "has characters that a header cannot carry".to_owned(),
        })?;
        self.headers.insert(name, value);
        Ok(())
    }
}

/// What the wall clock says.
pub(crate) fn wall_now() -> WallMs {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    WallMs(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// A complete answer.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    /// The text of a header; `None` where it is missing or not text.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ExchangeError {
    /// No connection: the request certainly did not arrive.
    #[error("cannot connect")]
    Connect(#[source] reqwest::Error),
    /// The connection broke after it was made: the request may have arrived.
    #[error("connection lost")]
    Broken(#[source] reqwest::Error),
    /// More bytes than an answer may have.
    #[error("the answer is longer than {ANSWER_BYTES_MAX} bytes")]
    TooLarge,
    /// The address and path are not a URL.
    #[error("not a valid URL")]
    Url(#[source] reqwest::Error),
}

/// Connections to all addresses.
#[derive(Debug, Clone)]
pub(crate) struct Http {
    pool: reqwest::Client,
    /// Whether hosts that are not named by URL are spoken to over TLS.
    secured: bool,
}

impl Http {
    /// An empty pool. Proxies of the environment are ignored, redirects are not followed: neither
    /// has a place between a store and its clients. `secured` where anything is said over TLS: then
    /// the key and the values go nowhere in clear.
    ///
    /// # Errors
    /// [`Error::Config`] where the CAs of `ca` are none, or the HTTP library does not start.
    pub(crate) fn new(
        bearer: Option<&str>,
        ca: Option<&[u8]>,
        secured: bool,
    ) -> Result<Self, Error> {
        let mut default_headers = HeaderMap::new();
        if let Some(token) = bearer {
            let mut value = HeaderValue::from_str(&format!("Bearer {token}"))
                .map_err(|_| Error::Config("the API key has invalid characters".to_owned()))?;
            value.set_sensitive(true);
            default_headers.insert(reqwest::header::AUTHORIZATION, value);
        }
        reqwest::Client::builder()
            .user_agent(concat!("atoll-client/", env!("CARGO_PKG_VERSION")))
            .default_headers(default_headers)
            .tls_backend_preconfigured(tls::config(ca)?)
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .tcp_nodelay(true)
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(IDLE_CONNECTIONS_MAX)
            .http1_only()
            .build()
            .map(|pool| Self { pool, secured })
            .map_err(|error| Error::Config(format!("the HTTP client does not start: {error}")))
    }

    /// The base URL of a host that the ring knows by `address` (`host:port`).
    pub(crate) fn base_of(&self, address: &str) -> Arc<str> {
        let scheme = if self.secured { "https" } else { "http" };
        format!("{scheme}://{address}").into()
    }

    /// Sends `request` to `base` (`http://host:port` or `https://host:port`) and reads the whole answer. `remaining` is
    /// what is left of the deadline; keeping to it is the caller's part.
    ///
    /// # Errors
    /// [`ExchangeError`].
    pub(crate) async fn exchange(
        &self,
        base: Arc<str>,
        request: &Request,
        repeated: bool,
        remaining: Duration,
    ) -> Result<Answer, ExchangeError> {
        let url = format!("{base}{}", request.path);
        let mut builder =
            self.pool.request(request.method.clone(), url).headers(request.headers.clone());
        // A deadline below one millisecond is still a deadline, not "none".
        let remaining_ms = u64::try_from(remaining.as_millis()).unwrap_or(u64::MAX).max(1);
        match request.deadline {
            DeadlineHeader::Client => builder = builder.header(headers::TIMEOUT_MS, remaining_ms),
            DeadlineHeader::Peer => {
                builder = builder
                    .header(headers::DEADLINE_MS, remaining_ms)
                    .header(headers::SENT, wall_now().0);
            }
            DeadlineHeader::None => {}
        }
        if repeated {
            builder = builder.header(headers::REPEATED, "true");
        }
        if !request.body.is_empty() {
            builder = builder.body(request.body.clone());
        } else if matches!(request.method, Method::PUT | Method::POST) {
            // An empty value is a value: say that its length is 0 rather than nothing.
            builder = builder.header(CONTENT_LENGTH, 0);
        }
        let mut response = builder.send().await.map_err(classify)?;
        let announced = response.content_length().unwrap_or(0);
        if announced > ANSWER_BYTES_MAX as u64 {
            return Err(ExchangeError::TooLarge);
        }
        let status = response.status();
        let headers = std::mem::take(response.headers_mut());
        // Most bodies are one chunk, which then is the answer's body without a copy. The body is
        // always read to its end, so that the connection can be used again.
        let mut body = Bytes::new();
        let mut joined = BytesMut::new();
        while let Some(chunk) = response.chunk().await.map_err(ExchangeError::Broken)? {
            if body.len() + joined.len() + chunk.len() > ANSWER_BYTES_MAX {
                return Err(ExchangeError::TooLarge);
            }
            if body.is_empty() && joined.is_empty() {
                body = chunk;
            } else {
                joined.extend_from_slice(&std::mem::take(&mut body));
                joined.extend_from_slice(&chunk);
            }
        }
        if !joined.is_empty() {
            body = joined.freeze();
        }
        Ok(Answer { status, headers, body })
    }
}

fn classify(error: reqwest::Error) -> ExchangeError {
    if error.is_builder() {
        ExchangeError::Url(error)
    } else if error.is_connect() {
        ExchangeError::Connect(error)
    } else {
        ExchangeError::Broken(error)
    }
}
