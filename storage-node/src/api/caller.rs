//! Who asks: a process of the cluster, by the signature of its message and the certificate of its
//! connection, or a client, by its API key.
//! What each route needs stands in the table of routes; what depends on the message is asked for by
//! the handler, through [`Caller::permit`].
//!
//! Invariants: a client is never taken for a node, whatever its headers say, so it cannot bring
//! records, remove them, take slices of background work, or fence a node; nothing is looked up or
//! counted in a pool of requests before its key is known to be valid.

use std::collections::HashMap;
use std::sync::Arc;

use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use service_kit::auth::api_keys::{Admitted, ApiKeys, Principal, source_of};
use service_kit::auth::scope::Scope;
use service_kit::http::error::{ErrorCode, Problem};
use service_kit::peer::gate::{PeerContext, PeerGate, require_peer};

use super::routes::{Need, Route};

/// Who sent a request; an extension of every one.
#[derive(Debug, Clone)]
pub struct Caller {
    peer: PeerContext,
    client: Option<(ApiKeys, Arc<Principal>)>,
}

impl Caller {
    /// What the message states of its sender; of a client, that it is no node.
    #[must_use]
    pub fn peer(&self) -> &PeerContext {
        &self.peer
    }

    /// Whether it is a client, which may do what its key permits.
    #[must_use]
    pub fn is_client(&self) -> bool {
        self.client.is_some()
    }

    /// Asks for what an effect in a bucket needs.
    ///
    /// # Errors
    /// 403 where a client's key does not have it.
    pub fn permit(&self, scope: Scope, bucket: &str) -> Result<(), Problem> {
        self.permit_if(scope, |who| who.permits(scope, bucket))
    }

    /// Asks for what shows hosts.
    ///
    /// # Errors
    /// 403 where a client's key does not have it.
    pub fn permit_admin(&self) -> Result<(), Problem> {
        self.permit_if(Scope::Admin, Principal::is_admin)
    }

    /// A refusal as the caller may see it: what each replica answered is for administrators.
    #[must_use]
    pub fn shown(&self, problem: Problem) -> Problem {
        match &self.client {
            Some((_, who)) if !who.is_admin() => problem.replicas(Vec::new()),
            _ => problem,
        }
    }

    fn permit_if(
        &self,
        scope: Scope,
        permits: impl FnOnce(&Principal) -> bool,
    ) -> Result<(), Problem> {
        match &self.client {
            Some((keys, who)) if !permits(who) => Err(keys.forbidden(who, scope)),
            _ => Ok(()),
        }
    }
}

/// The door of the API.
#[derive(Debug, Clone)]
pub struct Door {
    gate: PeerGate,
    keys: Option<ApiKeys>,
    needs: Arc<HashMap<(&'static str, &'static str), Need>>,
}

impl Door {
    /// A door to `routes`; clients pass where there are `keys`.
    #[must_use]
    pub fn new(gate: PeerGate, keys: Option<ApiKeys>, routes: &[Route]) -> Self {
        let needs = routes.iter().flat_map(|route| {
            let pattern = route.pattern;
            route.methods.iter().map(move |(method, need)| ((pattern, *method), *need))
        });
        Self { gate, keys, needs: Arc::new(needs.collect()) }
    }

    /// The keys that a request is to be judged by; `None` where it is a matter between hosts.
    fn keys_for(&self, request: &Request) -> Option<&ApiKeys> {
        let keys = self.keys.as_ref()?;
        if self.gate.is_claimed(request) {
            return None;
        }
        let pattern = request.extensions().get::<MatchedPath>()?;
        match self.needs.get(&(pattern.as_str(), request.method().as_str()))? {
            Need::Host => None,
            Need::Known | Need::Permitted => Some(keys),
        }
    }

    fn admit(&self, keys: &ApiKeys, request: &Request) -> Result<(Caller, Admitted), Problem> {
        let principal = keys.authenticate(request.headers(), source_of(request))?;
        let admitted = keys.admit(&principal)?;
        let peer = self.gate.check_client(request.headers())?;
        Ok((Caller { peer, client: Some((keys.clone(), principal)) }, admitted))
    }
}

/// The axum middleware of a [`Door`]. The handlers find the [`Caller`] among the extensions.
pub async fn require_caller(
    State(door): State<Door>,
    mut request: Request,
    next: Next,
) -> Response {
    let Some(keys) = door.keys_for(&request) else {
        return require_peer(State(door.gate), request, next).await;
    };
    match door.admit(keys, &request) {
        Ok((caller, _in_flight)) => {
            request.extensions_mut().insert(caller.peer);
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(problem) => problem.into_response(),
    }
}

/// What the door found, or what the gate of the hosts did.
impl<S: Sync> axum::extract::FromRequestParts<S> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(
        parts: &mut http::request::Parts,
        _state: &S,
    ) -> Result<Self, Problem> {
        if let Some(caller) = parts.extensions.get::<Self>() {
            return Ok(caller.clone());
        }
        let peer = parts.extensions.get::<PeerContext>().copied();
        peer.map(|peer| Self { peer, client: None }).ok_or_else(|| {
            tracing::error!("a route is not behind the door");
            Problem::new(ErrorCode::Internal, "who asks is not known")
        })
    }
}
