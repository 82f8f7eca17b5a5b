//! `/v1/hints…`: writes that wait for a node to come back, over all storage nodes, and a way to
//! wait until those of now have been delivered. What a node did not answer is said.

use axum::extract::{Path, Request, State};
use axum::response::Response;
use bytes::Bytes;
use dynamo_core::id::PutId;
use http::header::LOCATION;
use http::{HeaderValue, Method, StatusCode};
use serde::Serialize;
use service_kit::http::error::{ErrorCode, Problem};
use service_kit::rng::OsEntropy;

use super::call::Call;
use super::fresh_json;
use crate::fan_out::{NodeAnswer, Question, Said};
use crate::state::App;

/// The route of sync points, here and at storage nodes.
const SYNC_POINT: &str = "/v1/hints/sync-point";

/// Hints of all nodes.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Hints {
    /// Hints that the reachable nodes keep.
    hints: u64,
    /// Their bytes.
    bytes: u64,
    /// Nodes that did not answer; what they keep is not counted.
    unreachable: usize,
    /// What each node said.
    nodes: Vec<NodeHints>,
}

/// Hints of one node.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct NodeHints {
    /// The node.
    node: String,
    /// Its name.
    name: String,
    /// Whether it answered.
    reachable: bool,
    /// Why it has no report although it answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    refused: Option<&'static str>,
    /// Its own report.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    report: Option<serde_json::Value>,
}

/// Writes that wait for a node to come back
#[utoipa::path(get, path = "/v1/hints", tag = "cluster",
    responses((status = 200, description = "The hints of all reachable nodes", body = Hints)))]
pub async fn hints(State(app): State<App>, request: Request) -> Response {
    let (call, _) = Call::begin(&app, request);
    let result = all(&call).await.map(fresh_json);
    call.conclude(result)
}

async fn all(call: &Call<'_>) -> Result<Hints, Problem> {
    call.no_parameters()?;
    let ring = call.app.ring()?;
    Ok(summary(&call.app.ask_for_hints(&ring).await))
}

fn summary(answers: &[NodeAnswer]) -> Hints {
    let sum = |field: &str| answers.iter().filter_map(|answer| answer.number(field)).sum();
    Hints {
        hints: sum("hints"),
        bytes: sum("bytes"),
        unreachable: answers.iter().filter(|answer| !answer.is_reachable()).count(),
        nodes: answers.iter().map(node_hints).collect(),
    }
}

fn node_hints(answer: &NodeAnswer) -> NodeHints {
    let (refused, report) = match &answer.said {
        Said::Json(json) => (None, Some(json.clone())),
        Said::Refused(problem) => (Some(problem.code().as_str()), None),
        Said::Nothing => (None, None),
    };
    NodeHints {
        node: answer.node.to_string(),
        name: answer.name.clone(),
        reachable: answer.is_reachable(),
        refused,
        report,
    }
}

/// A point in time up to which hints are to be delivered.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct SyncPoint {
    /// Its id, for `GET /v1/hints/sync-point/{id}`.
    id: String,
    /// Whether every node has delivered all hints of before the point.
    done: bool,
    /// Hints of before the point that wait still, as far as nodes answered.
    hints: u64,
    /// Each node's part.
    nodes: Vec<NodePoint>,
}

/// One node's part of a sync point.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct NodePoint {
    /// The node.
    node: String,
    /// Its name.
    name: String,
    /// `drained`, `draining`, `unreachable`, or `unknown` where the node does not know the point
    /// (it was not reachable when it was set, or has restarted since).
    state: &'static str,
    /// Hints that wait still.
    hints: Option<u64>,
}

/// Mark the hints of now
///
/// Every reachable node remembers which hints it has; the answer names the mark.
#[utoipa::path(post, path = "/v1/hints/sync-point", tag = "cluster",
    responses((status = 201, description = "The point; Location names it", body = SyncPoint),
              (status = 503, description = "No storage node took it")))]
pub async fn set_sync_point(State(app): State<App>, request: Request) -> Response {
    let (call, _) = Call::begin(&app, request);
    let result = set(&call).await;
    call.conclude(result)
}

async fn set(call: &Call<'_>) -> Result<Response, Problem> {
    call.no_parameters()?;
    let ring = call.app.ring()?;
    let id = PutId::random(&mut OsEntropy).to_string();
    let body = Bytes::from(format!("{{\"id\":\"{id}\"}}"));
    let question = Question::storage(Method::POST, SYNC_POINT).with_body(body);
    let answers = call.app.ask_all(&ring, question).await;
    if !answers.iter().any(|answer| matches!(answer.said, Said::Json(_))) {
        let detail = "no storage node could be reached to set a sync point";
        return Err(Problem::new(ErrorCode::NotReady, detail));
    }
    let location = HeaderValue::try_from(format!("{SYNC_POINT}/{id}"));
    let mut response = fresh_json(point(id, &answers));
    *response.status_mut() = StatusCode::CREATED;
    if let Ok(location) = location {
        response.headers_mut().insert(LOCATION, location);
    }
    Ok(response)
}

/// Have the hints of the mark been delivered?
#[utoipa::path(get, path = "/v1/hints/sync-point/{id}", tag = "cluster",
    params(("id" = String, Path, description = "the id of the point")),
    responses((status = 200, description = "How far it is", body = SyncPoint),
              (status = 404, description = "No node knows it")))]
pub async fn sync_point(
    State(app): State<App>,
    Path(point_id): Path<String>,
    request: Request,
) -> Response {
    let (call, _) = Call::begin(&app, request);
    let result = look(&call, &point_id).await.map(fresh_json);
    call.conclude(result)
}

async fn look(call: &Call<'_>, id: &str) -> Result<SyncPoint, Problem> {
    call.no_parameters()?;
    let unknown = || Problem::new(ErrorCode::NotFound, "no node knows this sync point");
    let id: PutId = id.parse().map_err(|_| unknown())?;
    let ring = call.app.ring()?;
    let question = Question::storage(Method::GET, format!("{SYNC_POINT}/{id}"));
    let answers = call.app.ask_all(&ring, question).await;
    let all_unknown = answers.iter().all(|answer| matches!(answer.said, Said::Refused(_)));
    if all_unknown {
        return Err(unknown());
    }
    Ok(point(id.to_string(), &answers))
}

fn point(id: String, answers: &[NodeAnswer]) -> SyncPoint {
    let nodes: Vec<NodePoint> = answers
        .iter()
        .map(|answer| {
            let done = match &answer.said {
                Said::Json(json) => json.get("done").and_then(serde_json::Value::as_bool),
                Said::Refused(_) | Said::Nothing => None,
            };
            let state = match (&answer.said, done) {
                (Said::Nothing, _) => "unreachable",
                (_, Some(true)) => "drained",
                (_, Some(false)) => "draining",
                (_, None) => "unknown",
            };
            NodePoint {
                node: answer.node.to_string(),
                name: answer.name.clone(),
                state,
                hints: answer.number("hints"),
            }
        })
        .collect();
    SyncPoint {
        id,
        done: nodes.iter().all(|node| node.state == "drained"),
        hints: nodes.iter().filter_map(|node| node.hints).sum(),
        nodes,
    }
}
