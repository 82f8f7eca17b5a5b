//! From the bytes of a client request to validated values, once, at the door. Everything here is
//! a pure function of the request head; every refusal names what it refuses.
//!
//! | module | reads |
//! |---|---|
//! | [`path`] | bucket and key from the raw path |
//! | [`query`], [`params`] | the strict query string and the knobs of a request |
//! | [`headers`], [`conditions`], [`digest`] | context, idempotency, metadata, preconditions |
//! | [`accept`] | which representations the client takes |

pub mod accept;
pub mod conditions;
pub mod digest;
pub mod headers;
pub mod params;
pub mod path;
pub mod query;

use service_kit::http::error::{ErrorCode, Problem, escape_echo};

/// The refusal of a query parameter's value.
#[must_use]
pub fn bad_parameter(name: &str, why: impl std::fmt::Display) -> Problem {
    let shown = escape_echo(name.as_bytes());
    Problem::new(ErrorCode::BadParameter, format!("parameter '{shown}': {why}"))
}

/// The refusal of a header's value.
#[must_use]
pub fn bad_header(name: &str, why: impl std::fmt::Display) -> Problem {
    let shown = escape_echo(name.as_bytes());
    Problem::new(ErrorCode::BadHeader, format!("header '{shown}': {why}"))
}
