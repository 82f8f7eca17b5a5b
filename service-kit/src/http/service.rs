//! What happens around every request of a connection, before and after the router: strict checks,
//! request id, unused bodies, panics, and the finishing touches of the answer.
//!
//! One function instead of a stack of layers: each layer would box a future per request.

use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::response::{IntoResponse, Response};
use http::header::{CONNECTION, CONTENT_LENGTH, HeaderValue, TRANSFER_ENCODING};
use http::request::Parts;
use http::{Method, Request, StatusCode};
use hyper::body::{Body as _, Incoming};
use tower::Service;
use tracing::Instrument;

use super::activity::Activity;
use super::body::discard;
use super::connection::AnswerBody;
use super::error::{ErrorCode, Problem};
use super::framing::Fault;
use super::problem::Answered;
use super::request_id::{RequestId, X_REQUEST_ID};
use super::server::ServerMetrics;
use super::strict;
use crate::telemetry::trace;
use crate::tls::PeerCertificate;

/// What the requests of one connection share.
pub(super) struct ConnectionContext {
    pub(super) router: Router,
    pub(super) activity: Arc<Activity>,
    pub(super) metrics: ServerMetrics,
    pub(super) client: SocketAddr,
    pub(super) peer: Option<PeerCertificate>,
    pub(super) requests: AtomicU64,
    pub(super) requests_max: u64,
}

impl ConnectionContext {
    /// Handles one request. Infallible: whatever goes wrong is an answer.
    pub(super) async fn handle(&self, request: Request<Incoming>) -> http::Response<AnswerBody> {
        let fault = self.activity.request_begins();
        let (mut parts, incoming) = request.into_parts();
        let id = RequestId::accept_or_mint(&parts.headers);
        let mut response = match self.prepare(&mut parts, incoming, fault).await {
            Ok(body) => self.route(parts, body, &id).await,
            Err(problem) => {
                self.metrics.refused(problem.code());
                problem.into_response()
            }
        };
        finish(&mut response, &id);
        if self.requests.fetch_add(1, Ordering::Relaxed) + 1 >= self.requests_max {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        let refused_and_closed = response.headers().contains_key(CONNECTION)
            && (response.status().is_client_error() || response.status().is_server_error());
        self.activity.request_answered(refused_and_closed);
        response.map(|body| AnswerBody::new(body, Arc::clone(&self.activity)))
    }

    async fn prepare(
        &self,
        parts: &mut Parts,
        incoming: Incoming,
        fault: Option<Fault>,
    ) -> Result<Body, Problem> {
        if let Some(fault) = fault {
            return Err(fault.problem());
        }
        strict::check(parts)?;
        if incoming.is_end_stream() {
            return Ok(Body::empty());
        }
        let body = Body::new(incoming);
        if matches!(parts.method, Method::GET | Method::HEAD | Method::DELETE | Method::OPTIONS) {
            discard(&parts.headers, body).await?;
            parts.headers.remove(CONTENT_LENGTH);
            parts.headers.remove(TRANSFER_ENCODING);
            return Ok(Body::empty());
        }
        Ok(body)
    }

    async fn route(&self, mut parts: Parts, body: Body, id: &RequestId) -> Response {
        match trace::request_span(&parts.method, &mut parts.headers) {
            Some(span) => {
                let response = self.answer(parts, body, id).instrument(span.clone()).await;
                trace::end_request(&span, response.status(), id.as_str());
                response
            }
            None => self.answer(parts, body, id).await,
        }
    }

    async fn answer(&self, parts: Parts, body: Body, id: &RequestId) -> Response {
        let mut request = Request::from_parts(parts, body);
        request.extensions_mut().insert(id.clone());
        request.extensions_mut().insert(ConnectInfo(self.client));
        if let Some(peer) = &self.peer {
            request.extensions_mut().insert(peer.clone());
        }
        let mut router = self.router.clone();
        // The router is always ready; its error type is uninhabited.
        let mut answer = std::pin::pin!(router.call(request));
        let caught = std::future::poll_fn(|cx| {
            match std::panic::catch_unwind(AssertUnwindSafe(|| answer.as_mut().poll(cx))) {
                Ok(Poll::Ready(Ok(response))) => Poll::Ready(Some(response)),
                Ok(Poll::Pending) => Poll::Pending,
                Err(_) => Poll::Ready(None),
            }
        });
        match caught.await {
            Some(response) => response,
            None => {
                self.metrics.panicked();
                tracing::error!(request_id = %id, "a handler panicked");
                Problem::new(ErrorCode::Internal, "the server failed unexpectedly")
                    .close()
                    .into_response()
            }
        }
    }
}

/// Echoes the request id, also inside a problem.
fn finish(response: &mut Response, id: &RequestId) {
    if let Some(Answered(problem)) = response.extensions_mut().remove::<Answered>()
        && problem.known_request_id().is_none()
    {
        let json = Problem::clone(&problem).request_id(id.as_str()).to_json();
        response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(json.len()));
        *response.body_mut() = Body::from(json);
    }
    if response.status() == StatusCode::NO_CONTENT {
        response.headers_mut().remove(CONTENT_LENGTH);
    }
    response.headers_mut().insert(X_REQUEST_ID, id.to_header());
}
