//! Changes of the cluster in the audit log: each is entered before it is passed on, and again with what
//! became of it.
//!
//! Invariant: a change that cannot be entered is not made. Changes of objects are not entered.

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::Method;
use service_kit::audit::{AuditLog, Event};
use service_kit::auth::api_keys::{Principal, source_of};
use service_kit::http::error::{ErrorCode, Problem, escape_echo};
use service_kit::http::request_id::RequestId;
use std::sync::Arc;

use crate::guard::{Need, Needs};

/// Knows which requests are changes, and where they are entered.
#[derive(Debug, Clone)]
pub struct Changes {
    log: AuditLog,
    needs: Needs,
}

impl Changes {
    /// Those of all routes, entered in `log`.
    #[must_use]
    pub fn new(log: AuditLog) -> Self {
        Self { log, needs: Needs::of_all_routes() }
    }

    /// The entry of a request; `None` where it changes nothing of the cluster.
    fn event(&self, request: &Request) -> Option<Event> {
        let reads = matches!(*request.method(), Method::GET | Method::HEAD);
        if reads || self.needs.of(request) != Some(Need::Admin) {
            return None;
        }
        let extensions = request.extensions();
        let principal = extensions.get::<Arc<Principal>>();
        let id = extensions.get::<RequestId>();
        let path = escape_echo(request.uri().path().as_bytes());
        Some(Event {
            principal: principal.map_or(String::new(), |who| who.id().to_string()),
            source: source_of(request).to_string(),
            action: format!("{} {path}", request.method()),
            outcome: "asked".to_owned(),
            request_id: id.map_or(String::new(), |id| id.as_str().to_owned()),
        })
    }
}

/// The axum middleware of [`Changes`]. Goes behind the guard, which knows who asks.
pub async fn enter_changes(
    State(changes): State<Changes>,
    request: Request,
    next: Next,
) -> Response {
    let Some(event) = changes.event(&request) else { return next.run(request).await };
    if let Err(error) = changes.log.record(event.clone()).await {
        tracing::error!(%error, "the audit log cannot be written: a change is refused");
        let detail = "the change could not be entered in the audit log";
        return Problem::new(ErrorCode::StoreUnavailable, detail).into_response();
    }
    let response = next.run(request).await;
    let outcome = response.status().as_u16().to_string();
    if let Err(error) = changes.log.record(Event { outcome, ..event }).await {
        tracing::error!(%error, "the outcome of a change could not be entered in the audit log");
    }
    response
}
