//! One keep-alive connection to a router, as cheap as the generator can make it.

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{AUTHORIZATION, HOST};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use crate::driver::BenchError;
use crate::tls::Tls;

/// An answer, reduced to what a benchmark looks at.
#[derive(Debug, Clone)]
pub struct Reply {
    /// Status code.
    pub status: StatusCode,
    /// The causal context, where there is one.
    pub context: Option<String>,
    /// Number of siblings that the answer reports.
    pub siblings: u32,
    /// Bytes of the body.
    pub bytes: usize,
}

/// A connection that reopens itself after a failure.
#[derive(Debug)]
pub struct Connection {
    target: String,
    authorization: Option<String>,
    tls: Option<Tls>,
    sender: Option<SendRequest<Full<Bytes>>>,
}

impl Connection {
    /// A connection to `target` that presents `api_key`, over `tls` where given, opened at the first
    /// request.
    #[must_use]
    pub fn new(target: &str, api_key: Option<&str>, tls: Option<Tls>) -> Self {
        let authorization = api_key.map(|key| format!("Bearer {key}"));
        Self { target: target.to_owned(), authorization, tls, sender: None }
    }

    /// Sends one request and reads the whole answer.
    ///
    /// # Errors
    /// [`BenchError::Connection`]; the next call opens a new connection.
    pub async fn call(
        &mut self,
        method: Method,
        path: &str,
        context: Option<&str>,
        body: Bytes,
    ) -> Result<Reply, BenchError> {
        let outcome = self.exchange(method, path, context, body).await;
        if outcome.is_err() {
            self.sender = None;
        }
        outcome
    }

    async fn exchange(
        &mut self,
        method: Method,
        path: &str,
        context: Option<&str>,
        body: Bytes,
    ) -> Result<Reply, BenchError> {
        let mut request = Request::builder().method(method).uri(path).header(HOST, &self.target);
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        if let Some(context) = context {
            request = request.header("x-atoll-context", context);
        }
        let request = request.body(Full::new(body)).map_err(BenchError::connection)?;
        let sender = self.open().await?;
        sender.ready().await.map_err(BenchError::connection)?;
        let response = sender.send_request(request).await.map_err(BenchError::connection)?;
        let status = response.status();
        let text = |name| response.headers().get(name).and_then(|v| v.to_str().ok());
        let context = text("x-atoll-context").map(str::to_owned);
        let siblings = text("x-atoll-siblings").and_then(|n| n.parse().ok()).unwrap_or(0);
        let body = response.into_body().collect().await.map_err(BenchError::connection)?;
        Ok(Reply { status, context, siblings, bytes: body.to_bytes().len() })
    }

    async fn open(&mut self) -> Result<&mut SendRequest<Full<Bytes>>, BenchError> {
        if self.sender.as_ref().is_none_or(SendRequest::is_closed) {
            let stream = TcpStream::connect(&self.target).await.map_err(BenchError::connection)?;
            stream.set_nodelay(true).map_err(BenchError::connection)?;
            self.sender = Some(match &self.tls {
                None => speak(stream).await?,
                Some(tls) => speak(tls.secure(&self.target, stream).await?).await?,
            });
        }
        self.sender.as_mut().ok_or_else(|| BenchError::Connection("no connection".to_owned()))
    }
}

/// Begins to speak HTTP.
async fn speak<S>(stream: S) -> Result<SendRequest<Full<Bytes>>, BenchError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) =
        handshake(TokioIo::new(stream)).await.map_err(BenchError::connection)?;
    // The task ends with the connection; its error reaches us through the sender.
    tokio::spawn(connection);
    Ok(sender)
}
