//! The routes of the client port. Handlers parse, forward and answer; what they are told to answer
//! is decided by the coordinator, the membership agent, or `dynamo-core`.
//!
//! | module | routes |
//! |---|---|
//! | [`kv`] | `/v1/kv/…`: objects |
//! | [`buckets`], [`cluster`] | `/v1/buckets…`, `/v1/cluster…`: passed to the membership agent |
//! | [`ring`], [`health`], [`hints`] | `/v1/ring…`, health, `/v1/hints…` |
//! | [`load`] | what clients experience, how evenly the nodes share it, who is slow |
//! | [`transfers`], [`anti_entropy`] | what the workers of all hosts do |
//! | [`bulk`] | `/v1/admin/…`: reading and writing everything |
//! | [`later`] | routes that are documented and not served by this version: 501 |

pub mod anti_entropy;
pub mod buckets;
pub mod bulk;
pub(crate) mod call;
pub mod cluster;
pub mod health;
pub mod hints;
pub mod kv;
pub mod later;
pub mod load;
pub mod log_level;
pub mod ring;
pub mod transfers;

use axum::response::{IntoResponse, Response};
use dynamo_core::cluster_view::ClusterView;
use dynamo_core::id::NodeId;
use dynamo_core::ring::Partitions;
use service_kit::http::error::{ErrorCode, Problem, escape_echo};
use service_kit::http::json::JsonAnswer;

/// The node with this id or name.
fn resolve(view: &ClusterView, name: &str) -> Result<NodeId, Problem> {
    view.resolve(name).ok_or_else(|| {
        let shown = escape_echo(name.as_bytes());
        Problem::new(ErrorCode::NotFound, format!("no node is called '{shown}'"))
    })
}

/// The refusal of a partition that the ring does not have.
fn no_partition(asked: impl std::fmt::Display, partitions: Partitions) -> Problem {
    let (shown, count) = (asked.to_string(), partitions.get());
    let shown = escape_echo(shown.as_bytes());
    let detail = format!("there is no partition '{shown}'; there are {count}, from 0");
    Problem::new(ErrorCode::Unprocessable, detail)
}

/// An answer in JSON that may not be kept by caches.
fn fresh_json(value: impl serde::Serialize) -> Response {
    let mut response = JsonAnswer(value).into_response();
    let no_store = http::HeaderValue::from_static("no-store");
    response.headers_mut().insert(http::header::CACHE_CONTROL, no_store);
    response
}
