//! One request on the client port, as far as all routes are alike: its head and when it came, its
//! body as JSON, and how it ends.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use dynamo_core::key::Bucket;
use dynamo_core::time::Mono;
use http::request::Parts;
use http::{HeaderMap, Method};
use serde::de::DeserializeOwned;
use service_kit::auth::api_keys::Principal;
use service_kit::auth::scope::Scope;
use service_kit::http::body::{BodyLimits, BodyReader, HeldBody};
use service_kit::http::error::{ErrorCode, Outcome, Problem};
use service_kit::http::json::{parse_strict, require_json};
use service_kit::http::request_id::RequestId;

use crate::answer::refusal;
use crate::dispatch::Refused;
use crate::limits::ADMIN_BODY_BYTES_MAX;
use crate::request::query::Query;
use crate::state::App;

/// A request whose body was taken off.
pub(crate) struct Call<'a> {
    pub(crate) app: &'a App,
    id: Option<RequestId>,
    /// Who asks; `None` where nobody is asked for a key.
    principal: Option<Arc<Principal>>,
    parts: Parts,
    started: Mono,
}

impl<'a> Call<'a> {
    pub(crate) fn begin(app: &'a App, request: Request) -> (Self, Body) {
        let started = app.clock.mono();
        let (parts, body) = request.into_parts();
        let id = parts.extensions.get::<RequestId>().cloned();
        let principal = parts.extensions.get::<Arc<Principal>>().cloned();
        (Self { app, id, principal, parts, started }, body)
    }

    /// The answer.
    pub(crate) fn conclude(
        self,
        result: Result<impl IntoResponse, impl Into<Refused>>,
    ) -> Response {
        match result {
            Ok(answer) => answer.into_response(),
            Err(refused) => {
                let admin = self.principal.as_ref().is_some_and(|who| who.is_admin());
                let expose = self.app.config.expose_replicas || admin;
                refusal::respond(refused.into(), self.id.as_ref(), expose)
            }
        }
    }

    /// Asks for a scope that an effect of this request needs besides what its route needs.
    pub(super) fn permit(&self, scope: Scope, bucket: &Bucket) -> Result<(), Problem> {
        self.permit_if(scope, |who| who.permits(scope, bucket.as_str()))
    }

    /// Asks for the scope of administrators, for an effect besides what the route does.
    pub(super) fn permit_admin(&self) -> Result<(), Problem> {
        self.permit_if(Scope::Admin, Principal::is_admin)
    }

    fn permit_if(
        &self,
        scope: Scope,
        permits: impl FnOnce(&Principal) -> bool,
    ) -> Result<(), Problem> {
        let Some(keys) = &self.app.keys else { return Ok(()) };
        match &self.principal {
            Some(who) if permits(who) => Ok(()),
            Some(who) => Err(keys.forbidden(who, scope)),
            // The guard lets nobody through without a principal.
            None => Err(Problem::new(ErrorCode::Unauthorized, "a valid API key is required")),
        }
    }

    pub(crate) fn id(&self) -> Option<&RequestId> {
        self.id.as_ref()
    }

    pub(crate) fn method(&self) -> &Method {
        &self.parts.method
    }

    pub(crate) fn path(&self) -> &str {
        self.parts.uri.path()
    }

    pub(crate) fn query(&self) -> Option<&str> {
        self.parts.uri.query()
    }

    pub(crate) fn headers(&self) -> &HeaderMap {
        &self.parts.headers
    }

    /// When it came.
    pub(crate) fn started(&self) -> Mono {
        self.started
    }

    /// What is left of `timeout`, which runs since the request came.
    pub(crate) fn left(&self, timeout: Duration) -> Duration {
        self.app.clock.remaining(self.started.plus(timeout))
    }

    /// Refuses any query string: the route has no parameters.
    pub(crate) fn no_parameters(&self) -> Result<(), Problem> {
        Query::parse(self.query(), &[]).map(drop)
    }

    /// The strictly parsed JSON body of an administrative request, and its bytes.
    pub(crate) async fn json<T: DeserializeOwned>(
        &self,
        body: Body,
    ) -> Result<(T, Bytes), Problem> {
        require_json(self.headers())?;
        let held = self.body(body, ADMIN_BODY_BYTES_MAX).await?;
        let parsed = parse_strict(held.bytes())?;
        let (bytes, _reservation) = held.into_parts();
        Ok((parsed, bytes))
    }

    /// The whole body, which has at most `bytes_max` bytes.
    pub(crate) async fn body(&self, body: Body, bytes_max: usize) -> Result<HeldBody, Problem> {
        let reader = BodyReader::new(BodyLimits::up_to(bytes_max), self.app.budget.clone());
        reader.read(self.headers(), body).await
    }
}

/// What is documented and not part of this version.
pub(crate) fn not_implemented(what: &str) -> Problem {
    Problem::new(ErrorCode::NotImplemented, what).outcome(Outcome::NotApplied)
}
