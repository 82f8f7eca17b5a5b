//! `/v1/cluster…` as far as the membership agent answers it: who is a member, and staged changes.
//! Bodies are checked to be JSON with one meaning; what they mean is the agent's business.

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use bytes::Bytes;
use http::HeaderValue;
use http::header::IF_MATCH;
use serde_json::{Map, Value};
use service_kit::http::error::{ErrorCode, Problem};

use super::call::Call;
use crate::agent::AgentRequest;
use crate::dispatch::Refused;
use crate::request::bad_header;
use crate::state::App;

/// Changes that can be staged.
const CHANGES: [&str; 5] = ["join", "leave", "replace", "set", "force_remove"];

/// The cluster
///
/// Its id, members with state, address, zone and weight, ring version and defaults.
#[utoipa::path(get, path = "/v1/cluster", tag = "cluster",
    responses((status = 200, description = "The cluster", body = Object),
              (status = 503, description = "The membership agent does not answer")))]
pub async fn cluster(State(app): State<App>, request: Request) -> Response {
    pass(&app, request, Takes::Nothing).await
}

/// Stage a change of the membership
///
/// One of join, leave, replace, set and force_remove. Nothing happens until commit.
#[utoipa::path(post, path = "/v1/cluster/stage", tag = "cluster",
    request_body(content = Object, description = "{\"join\":{\"node\":\"host-4\"}}"),
    responses((status = 200, description = "The staged changes", body = Object),
              (status = 422, description = "Not a change")))]
pub async fn stage(State(app): State<App>, request: Request) -> Response {
    pass(&app, request, Takes::Change).await
}

/// Drop the staged changes
#[utoipa::path(delete, path = "/v1/cluster/stage", tag = "cluster",
    responses((status = 200, description = "Nothing is staged any more")))]
pub async fn unstage(State(app): State<App>, request: Request) -> Response {
    pass(&app, request, Takes::Nothing).await
}

/// What committing the staged changes would do
///
/// Moves, balance before and after, zones, warnings, and the plan's hash.
#[utoipa::path(get, path = "/v1/cluster/plan", tag = "cluster",
    responses((status = 200, description = "The plan; its hash is the ETag", body = Object)))]
pub async fn plan(State(app): State<App>, request: Request) -> Response {
    pass(&app, request, Takes::Nothing).await
}

/// Commit the staged changes
#[utoipa::path(post, path = "/v1/cluster/commit", tag = "cluster",
    params(("If-Match" = String, Header, description = "the hash of the plan that was looked at")),
    responses((status = 200, description = "Committed", body = Object),
              (status = 412, description = "The membership changed since the plan was made")))]
pub async fn commit(State(app): State<App>, request: Request) -> Response {
    pass(&app, request, Takes::Plan).await
}

/// What a route takes besides its path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Takes {
    Nothing,
    /// A change as its body.
    Change,
    /// The hash of a plan in `If-Match`; a body is not needed.
    Plan,
}

async fn pass(app: &App, request: Request, takes: Takes) -> Response {
    let (call, body) = Call::begin(app, request);
    let result = ask(&call, body, takes).await;
    call.conclude(result)
}

async fn ask(call: &Call<'_>, body: Body, takes: Takes) -> Result<Response, Refused> {
    call.no_parameters()?;
    let if_match = match takes {
        Takes::Plan => Some(plan_hash(call.headers().get(IF_MATCH))?),
        Takes::Nothing | Takes::Change => None,
    };
    let body = match takes {
        Takes::Change => change(call.json(body).await?)?,
        Takes::Nothing | Takes::Plan => Bytes::new(),
    };
    let (method, path) = (call.method().clone(), call.path());
    call.app.ask_agent(AgentRequest { method, path, body, if_match, id: call.id() }).await
}

/// A commit without the hash of a plan would commit what nobody has looked at.
fn plan_hash(value: Option<&HeaderValue>) -> Result<HeaderValue, Problem> {
    let value = value.ok_or_else(|| {
        bad_header("If-Match", "a commit names the hash of the plan that it commits")
    })?;
    if value.as_bytes() == b"*" {
        return Err(bad_header("If-Match", "'*' is not the hash of a plan"));
    }
    Ok(value.clone())
}

fn change((change, bytes): (Map<String, Value>, Bytes)) -> Result<Bytes, Problem> {
    let mut names = change.keys();
    match (names.next(), names.next()) {
        (Some(name), None) if CHANGES.contains(&name.as_str()) => Ok(bytes),
        _ => {
            let detail = format!("a change is an object with one of {}", CHANGES.join(", "));
            Err(Problem::new(ErrorCode::Unprocessable, detail))
        }
    }
}
