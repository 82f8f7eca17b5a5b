//! Who may do what on the client port. The table of routes says what each method needs at least; what
//! depends on a parameter or a header is asked for by the handler, through
//! [`permit`](crate::api): a needed scope belongs to an effect, not to a route.
//!
//! Invariants: nothing is looked up, waited for or counted in a pool of requests before the key is
//! known to be valid; a method that the table does not have is not served.

use std::collections::HashMap;
use std::sync::Arc;

use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::Method;
use service_kit::auth::api_keys::{ApiKeys, Principal, source_of};
use service_kit::auth::scope::Scope;
use service_kit::http::error::Problem;

use crate::request::{path, query};
use crate::routes;

/// What a method of a route needs at least.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// No key: a page for people, which tells nothing.
    Nothing,
    /// Any valid key: it tells nothing of what is stored.
    Known,
    /// This scope in the bucket that the path names.
    InBucket(Scope),
    /// The scope of administrators.
    Admin,
}

/// What each method of each route needs.
#[derive(Debug, Clone)]
pub struct Needs(Arc<HashMap<&'static str, Vec<(&'static str, Need)>>>);

impl Needs {
    /// Those of the table of routes.
    #[must_use]
    pub fn of_all_routes() -> Self {
        let needs = routes::table().into_iter().map(|route| {
            let page = route.page.then_some(("GET", Need::Nothing));
            (route.pattern, route.methods.into_iter().chain(page).collect())
        });
        Self(Arc::new(needs.collect()))
    }

    /// What a request needs; `None` where there is no such route or method.
    #[must_use]
    pub fn of(&self, request: &Request) -> Option<Need> {
        let pattern = request.extensions().get::<MatchedPath>()?;
        let methods = self.0.get(pattern.as_str())?;
        let of = |name: &str| methods.iter().find(|(method, _)| *method == name);
        // axum answers HEAD where there is GET.
        let head = (request.method() == Method::HEAD).then(|| of("GET")).flatten();
        of(request.method().as_str()).or(head).map(|(_, need)| *need)
    }
}

/// The guard of the client port.
#[derive(Debug, Clone)]
pub struct Guard {
    keys: ApiKeys,
    needs: Needs,
}

impl Guard {
    /// A guard of all routes.
    #[must_use]
    pub fn new(keys: ApiKeys) -> Self {
        Self { keys, needs: Needs::of_all_routes() }
    }

    /// Who asks, where the request is to be served; `None` where it does not matter.
    fn check(&self, request: &Request) -> Result<Option<Arc<Principal>>, Problem> {
        if request.uri().query().is_some_and(query::has_credentials) {
            return Err(self.keys.in_query());
        }
        let need = self.needs.of(request);
        if need == Some(Need::Nothing) {
            return Ok(None);
        }
        let principal = self.keys.authenticate(request.headers(), source_of(request))?;
        match need {
            Some(Need::InBucket(scope)) => {
                // A path that names no bucket is refused by the handler, which reads it the same way.
                if let Ok(bucket) = path::bucket_of(request.uri().path())
                    && !principal.permits(scope, bucket.as_str())
                {
                    return Err(self.keys.forbidden(&principal, scope));
                }
            }
            Some(Need::Admin) if !principal.is_admin() => {
                return Err(self.keys.forbidden(&principal, Scope::Admin));
            }
            // No route, or no such method: the answer says so, to whoever has a key.
            Some(Need::Nothing | Need::Known | Need::Admin) | None => {}
        }
        Ok(Some(principal))
    }
}

/// The axum middleware of a [`Guard`]. The handlers find the [`Principal`] among the extensions.
pub async fn require_key(State(guard): State<Guard>, mut request: Request, next: Next) -> Response {
    let admitted = guard.check(&request).and_then(|principal| {
        let in_flight = principal.as_ref().map(|who| guard.keys.admit(who)).transpose()?;
        Ok((in_flight, principal))
    });
    match admitted {
        Ok((_in_flight, principal)) => {
            if let Some(principal) = principal {
                request.extensions_mut().insert(principal);
            }
            next.run(request).await
        }
        Err(problem) => problem.into_response(),
    }
}
