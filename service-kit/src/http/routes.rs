//! The table of all routes of a process, with what each needs of its caller: the axum router, and what
//! stands in front of it, are built from it, and tests hold the matrix of permissions against it.
//!
//! Invariant: a handler can only be given together with what it needs, so that none is served
//! unguarded.
//!
//! Not here: what a need means, and who checks it.

use axum::Router;
use axum::handler::Handler;
use axum::routing::{MethodFilter, MethodRouter};

/// What every route needs of its caller at a process that only hosts of the cluster may ask: their
/// signature, their certificate, or both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Host;

/// One route of a process with the state `S`, in a pool `P` of requests in flight; its methods need
/// `N`.
#[derive(Debug)]
pub struct Route<S, N, P> {
    /// The pattern, as axum knows it.
    pub pattern: &'static str,
    /// The methods it has, and what each needs.
    pub methods: Vec<(&'static str, N)>,
    /// The pool it belongs to.
    pub pool: P,
    handlers: MethodRouter<S>,
}

impl<S, N, P> Route<S, N, P>
where
    S: Clone + Send + Sync + 'static,
{
    /// A route without methods.
    #[must_use]
    pub fn new(pattern: &'static str, pool: P) -> Self {
        Self { pattern, methods: Vec::new(), pool, handlers: MethodRouter::new() }
    }

    /// Adds `GET`.
    #[must_use]
    pub fn get<H: Handler<T, S>, T: 'static>(self, need: N, handler: H) -> Self {
        self.with("GET", need, MethodFilter::GET, handler)
    }

    /// Adds `PUT`.
    #[must_use]
    pub fn put<H: Handler<T, S>, T: 'static>(self, need: N, handler: H) -> Self {
        self.with("PUT", need, MethodFilter::PUT, handler)
    }

    /// Adds `POST`.
    #[must_use]
    pub fn post<H: Handler<T, S>, T: 'static>(self, need: N, handler: H) -> Self {
        self.with("POST", need, MethodFilter::POST, handler)
    }

    /// Adds `DELETE`.
    #[must_use]
    pub fn delete<H: Handler<T, S>, T: 'static>(self, need: N, handler: H) -> Self {
        self.with("DELETE", need, MethodFilter::DELETE, handler)
    }

    fn with<H: Handler<T, S>, T: 'static>(
        mut self,
        method: &'static str,
        need: N,
        filter: MethodFilter,
        handler: H,
    ) -> Self {
        self.methods.push((method, need));
        self.handlers = self.handlers.on(filter, handler);
        self
    }
}

/// The routes of one pool as an axum router.
pub fn of_pool<S, N, P>(table: Vec<Route<S, N, P>>, pool: P) -> Router<S>
where
    S: Clone + Send + Sync + 'static,
    P: Copy + PartialEq,
{
    table
        .into_iter()
        .filter(|route| route.pool == pool)
        .fold(Router::new(), |router, route| router.route(route.pattern, route.handlers))
}
