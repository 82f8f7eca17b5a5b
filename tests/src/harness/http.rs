//! A plain HTTP client for tests: what curl would see, with every status an answer.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use service_kit::tls::plain_client;
use tokio::runtime::Runtime;

/// One answer, read to the end.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// Headers by lower-case name; the last of repeated ones.
    pub headers: BTreeMap<String, String>,
    /// Body bytes.
    pub body: Vec<u8>,
}

impl Answer {
    /// A header's value, or "".
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    /// The causal context of the answer.
    #[must_use]
    pub fn context(&self) -> String {
        self.header("x-atoll-context").to_owned()
    }

    /// The body as JSON; null where it is none.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// A blocking client with its own runtime.
#[derive(Debug)]
pub struct Http {
    runtime: Runtime,
    client: reqwest::Client,
}

impl Default for Http {
    fn default() -> Self {
        Self::new()
    }
}

impl Http {
    /// A client that follows no redirect and waits at most 20 s.
    ///
    /// # Panics
    /// Where the runtime cannot start.
    #[must_use]
    pub fn new() -> Self {
        Self::believing(None)
    }

    /// As [`Self::new`], and servers that speak TLS are believed where their certificates come from
    /// the CAs in `ca_file`.
    ///
    /// # Panics
    /// Where the runtime cannot start or the file is of no use.
    #[must_use]
    pub fn believing(ca_file: Option<&Path>) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("a runtime for the test client");
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(plain_client(ca_file).expect("a usable CA"))
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(Duration::from_secs(20))
            .build()
            .expect("a test client");
        Self { runtime, client }
    }

    /// Sends one request. `Err` is a failure of the connection, with its text.
    ///
    /// # Errors
    /// Connection failures.
    pub fn send(
        &self,
        method: &str,
        url: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<Answer, String> {
        self.runtime.block_on(send(&self.client, method, url, headers, body))
    }

    /// Sends one request that must be answered.
    ///
    /// # Panics
    /// Where the connection fails.
    #[must_use]
    pub fn call(&self, method: &str, url: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        self.send(method, url, headers, body)
            .unwrap_or_else(|error| panic!("{method} {url}: {error}"))
    }

    /// `GET url`.
    #[must_use]
    pub fn get(&self, url: &str) -> Answer {
        self.call("GET", url, &[], b"")
    }

    /// `PUT url` with `body` and, where not empty, a context.
    #[must_use]
    pub fn put(&self, url: &str, context: &str, body: &[u8]) -> Answer {
        if context.is_empty() {
            self.call("PUT", url, &[], body)
        } else {
            self.call("PUT", url, &[("x-atoll-context", context)], body)
        }
    }

    /// The runtime and the client, for scenarios that send many requests at once.
    #[must_use]
    pub fn parts(&self) -> (&Runtime, reqwest::Client) {
        (&self.runtime, self.client.clone())
    }
}

/// Sends one request; every status is an answer.
///
/// # Errors
/// Connection failures, as text.
pub async fn send(
    client: &reqwest::Client,
    method: &str,
    url: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Result<Answer, String> {
    let method = method.parse::<reqwest::Method>().map_err(|e| e.to_string())?;
    let mut request = client.request(method, url);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    if !body.is_empty() {
        request = request.body(body.to_vec());
    }
    let response = request.send().await.map_err(|e| format!("{e:?}"))?;
    let status = response.status().as_u16();
    let headers = response
        .headers()
        .iter()
        .map(|(name, value)| {
            (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned())
        })
        .collect();
    let body = response.bytes().await.map_err(|e| format!("{e:?}"))?.to_vec();
    Ok(Answer { status, headers, body })
}
