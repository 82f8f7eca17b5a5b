//! The client: how it is built, and which way its calls take.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::AbortHandle;

use crate::cluster::Cluster;
use crate::direct::Direct;
use crate::error::Error;
use crate::kv::bucket::Bucket;
use crate::kv::get::GetResult;
use crate::kv::operation::{GetOperation, PutOperation};
use crate::kv::put::PutResult;
use crate::kv::routed;
use crate::limits::{ENDPOINTS_MAX, TIMEOUT_DEFAULT, TIMEOUT_MAX};
use crate::transport::call::{Caller, Route};
use crate::transport::endpoints::Endpoints;
use crate::transport::exchange::{Answer, Http, Request};
use crate::transport::probe::probe_suspects;

/// How endpoints begin that are spoken to over TLS.
const HTTPS: &str = "https://";

/// Which way calls on objects take (paper sections 4.5 and 6.4). Calls on the cluster and on
/// bucket properties always go to a router.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Mode {
    /// Through any router, which finds the coordinator. Needs nothing but HTTP to the routers.
    #[default]
    Routed,
    /// The client knows the ring and sends each call straight to its coordinator: one hop less.
    /// Needs a network path to the storage nodes.
    PartitionAware,
    /// As [`Mode::PartitionAware`], and gets are coordinated in the client itself: it asks the
    /// replicas, counts their answers, and has stale ones repaired.
    ClientDriven,
}

/// What a [`Client`] is built from.
#[derive(Debug, Clone)]
#[must_use = "a builder builds nothing until build() is called"]
pub struct ClientBuilder {
    endpoints: Vec<String>,
    mode: Mode,
    timeout: Duration,
    api_key: Option<String>,
    ca: Option<Vec<u8>>,
}

impl Default for ClientBuilder {
    fn default() -> Self {
        Self {
            endpoints: Vec::new(),
            mode: Mode::default(),
            timeout: TIMEOUT_DEFAULT,
            api_key: None,
            ca: None,
        }
    }
}

impl ClientBuilder {
    /// The routers: `http://host:port`, `https://host:port` or `host:port` (in clear), in any order.
    /// At least one; name several, so that calls survive the loss of a host.
    pub fn endpoints<S: Into<String>>(mut self, urls: impl IntoIterator<Item = S>) -> Self {
        self.endpoints = urls.into_iter().map(Into::into).collect();
        self
    }

    /// Which way calls take; [`Mode::Routed`] unless said otherwise.
    pub fn mode(mut self, mode: Mode) -> Self {
        self.mode = mode;
        self
    }

    /// Time for one call, retries included: 1 ms to one minute. Two seconds unless said otherwise.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// The API key to present (`Authorization: Bearer`).
    pub fn api_key(mut self, key: impl Into<String>) -> Self {
        self.api_key = Some(key.into());
        self
    }

    /// The CAs, in PEM, whose certificates `https://` routers have. Nobody else is believed. In the
    /// modes that ask storage nodes, these are spoken to in the same way, and known by the hosts of
    /// their addresses in the ring.
    pub fn ca_pem(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.ca = Some(pem.into());
        self
    }

    /// Builds the client. Nothing is sent yet; an unreachable cluster shows with the first call.
    ///
    /// # Errors
    /// [`Error::Config`]: no endpoint, one that is no HTTP URL, `https://` without a CA, a timeout
    /// out of range, or no tokio runtime to run in.
    pub fn build(self) -> Result<Client, Error> {
        let runtime = tokio::runtime::Handle::try_current()
            .map_err(|_| Error::Config("must be built within a tokio runtime".to_owned()))?;
        check_timeout(self.timeout)?;
        if self.endpoints.is_empty() || self.endpoints.len() > ENDPOINTS_MAX {
            return Err(Error::Config(format!("1 to {ENDPOINTS_MAX} endpoints are needed")));
        }
        let bases = self
            .endpoints
            .iter()
            .map(|text| base_url(text).map(Arc::from))
            .collect::<Result<Vec<Arc<str>>, Error>>()?;
        let secured = bases.iter().any(|base| base.starts_with(HTTPS));
        if self.ca.is_none() && secured {
            let reason = "https:// needs the CA of the routers, nobody else is believed";
            return Err(Error::Config(reason.to_owned()));
        }
        let http = Http::new(self.api_key.as_deref(), self.ca.as_deref(), secured)?;
        let endpoints = Arc::new(Endpoints::new(bases));
        let caller = Arc::new(Caller::new(http.clone(), Arc::clone(&endpoints)));
        let probes = probe_suspects(Arc::downgrade(&endpoints), http, caller.suspect());
        let mut tasks = vec![runtime.spawn(probes).abort_handle()];
        let direct = match self.mode {
            Mode::Routed => None,
            Mode::PartitionAware | Mode::ClientDriven => {
                let (direct, more) = Direct::start(Arc::clone(&caller), self.mode, &runtime);
                tasks.extend(more);
                Some(direct)
            }
        };
        let timeout = self.timeout;
        Ok(Client(Arc::new(Shared { caller, direct, timeout, _tasks: Tasks(tasks) })))
    }
}

/// A client of one Atoll cluster. Cheap to clone; all clones share connections, the retry budget
/// and the view of which endpoints are up.
#[derive(Debug, Clone)]
pub struct Client(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    caller: Arc<Caller>,
    direct: Option<Direct>,
    timeout: Duration,
    _tasks: Tasks,
}

/// The background tasks of a client, ended with it.
#[derive(Debug)]
struct Tasks(Vec<AbortHandle>);

impl Drop for Tasks {
    fn drop(&mut self) {
        for task in &self.0 {
            task.abort();
        }
    }
}

impl Client {
    /// Starts building a client.
    ///
    /// ```no_run
    /// # async fn example() -> Result<(), atoll_client::Error> {
    /// use std::time::Duration;
    /// use atoll_client::{Client, Mode};
    ///
    /// let client = Client::builder()
    ///     .endpoints(["http://127.0.0.1:7700", "http://127.0.0.1:7800"])
    ///     .mode(Mode::Routed)
    ///     .timeout(Duration::from_secs(1))
    ///     .build()?;
    /// let carts = client.bucket("carts");
    /// # Ok(()) }
    /// ```
    pub fn builder() -> ClientBuilder {
        ClientBuilder::default()
    }

    /// The bucket `name`. The name is checked with the first call.
    #[must_use]
    pub fn bucket(&self, name: impl Into<String>) -> Bucket {
        Bucket::new(self.clone(), name.into())
    }

    /// The cluster: its members, ring, plans and health.
    #[must_use]
    pub fn cluster(&self) -> Cluster {
        Cluster::new(self.clone())
    }

    /// Which way calls take.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.0.direct.as_ref().map_or(Mode::Routed, Direct::mode)
    }

    /// The client's timeout, or the checked one of a call.
    pub(crate) fn timeout_or(&self, of_call: Option<Duration>) -> Result<Duration, Error> {
        match of_call {
            None => Ok(self.0.timeout),
            Some(timeout) => check_timeout(timeout).map(|()| timeout),
        }
    }

    /// Waits the jittered pause before retry number `retry`.
    pub(crate) async fn pause(&self, retry: usize) {
        tokio::time::sleep(self.0.caller.dice.pause(retry)).await;
    }

    pub(crate) async fn get(&self, operation: GetOperation) -> Result<GetResult, Error> {
        if let Some(direct) = &self.0.direct {
            return direct.get(operation).await;
        }
        let request = routed::get_request(&operation)?;
        let answer = self.routed(&request, operation.timeout).await?;
        routed::get_result(&answer)
    }

    pub(crate) async fn put(&self, operation: PutOperation) -> Result<PutResult, Error> {
        if let Some(direct) = &self.0.direct {
            return direct.put(operation).await;
        }
        let request = routed::put_request(&operation)?;
        let answer = self.routed(&request, operation.timeout).await?;
        routed::put_result(&answer)
    }

    /// Sends a request to any router.
    pub(crate) async fn routed(
        &self,
        request: &Request,
        timeout: Duration,
    ) -> Result<Answer, Error> {
        self.0.caller.call(request, &AnyRouter(&self.0.caller), timeout).await
    }
}

/// Any trusted router will do.
pub(crate) struct AnyRouter<'a>(pub(crate) &'a Caller);

impl Route for AnyRouter<'_> {
    fn next(&self, tried: &[Arc<str>]) -> Option<Arc<str>> {
        self.0.endpoints.pick(tried, &self.0.dice)
    }
}

fn check_timeout(timeout: Duration) -> Result<(), Error> {
    if (Duration::from_millis(1)..=TIMEOUT_MAX).contains(&timeout) {
        return Ok(());
    }
    Err(Error::Config(format!("the timeout must be 1 ms to {} s", TIMEOUT_MAX.as_secs())))
}

/// `http://host:port` or `https://host:port` of an endpoint as people write it.
fn base_url(text: &str) -> Result<String, Error> {
    let bad = |reason: &str| Error::Config(format!("endpoint \"{text}\" {reason}"));
    let full = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    let url = reqwest::Url::parse(&full).map_err(|_| bad("is not a URL"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(bad("must start with http:// or https://"));
    }
    if url.host_str().is_none_or(str::is_empty) {
        return Err(bad("has no host"));
    }
    if url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
        return Err(bad("must not have a path"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(bad("must not carry credentials; use an API key"));
    }
    Ok(url.as_str().trim_end_matches('/').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_written_in_several_ways() {
        let good = [
            ("127.0.0.1:7700", "http://127.0.0.1:7700"),
            ("http://127.0.0.1:7700/", "http://127.0.0.1:7700"),
            ("http://atoll", "http://atoll"),
            ("localhost:7700", "http://localhost:7700"),
            ("[::1]:7700", "http://[::1]:7700"),
            ("https://atoll:7700", "https://atoll:7700"),
        ];
        for (text, base) in good {
            assert_eq!(base_url(text).unwrap(), base);
        }
        for text in ["", "ws://a:1", "http://", "http://a/b", "http://u:p@a", "ftp://a", "a b"] {
            assert!(matches!(base_url(text), Err(Error::Config(_))), "{text}");
        }
    }

    #[tokio::test]
    async fn a_builder_refuses_what_cannot_work() {
        let none: [&str; 0] = [];
        assert!(Client::builder().endpoints(none).build().is_err());
        let long = Client::builder().endpoints(["a:1"]).timeout(Duration::from_secs(61));
        assert!(long.build().is_err());
        assert!(Client::builder().endpoints(["https://a:1"]).build().is_err(), "without a CA");
        assert!(Client::builder().endpoints(["a:1"]).build().is_ok());
    }

    #[test]
    fn a_builder_outside_a_runtime_says_so() {
        let built = Client::builder().endpoints(["a:1"]).build();
        assert!(matches!(built, Err(Error::Config(text)) if text.contains("runtime")));
    }
}
