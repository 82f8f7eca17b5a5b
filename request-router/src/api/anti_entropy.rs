//! `/v1/anti-entropy…`: how the comparisons of replicas stand, and having everything compared at
//! once, over the workers of all nodes.

use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::response::Response;
use bytes::Bytes;
use dynamo_core::key::Bucket;
use dynamo_core::wire::operations::{ClusterAntiEntropy, ClusterRepair};
use dynamo_core::wire::worker::{ANTI_ENTROPY_PATH, REPAIR_PATH, RepairRequest};
use http::header::LOCATION;
use http::{HeaderValue, Method, StatusCode};
use service_kit::http::error::{ErrorCode, Problem};
use uuid::Uuid;

use super::call::Call;
use super::fresh_json;
use crate::fan_out::{NodeAnswer, Question, Said, reports};
use crate::request::query::Query;
use crate::state::App;

/// Progress of anti-entropy
///
/// How far the replicas of all nodes have been compared, and how long ago all were equal.
#[utoipa::path(get, path = "/v1/anti-entropy", tag = "cluster",
    params(("summary" = Option<bool>, Query, description = "leave out partners and partitions")),
    responses((status = 200, description = "The state of all workers that answer", body = Object)))]
pub async fn anti_entropy(State(app): State<App>, request: Request) -> Response {
    let (call, _) = Call::begin(&app, request);
    let result = status(&call).await.map(fresh_json);
    call.conclude(result)
}

async fn status(call: &Call<'_>) -> Result<ClusterAntiEntropy, Problem> {
    let query = Query::parse(call.query(), &["summary"])?;
    let summary = query.switch("summary")?.unwrap_or(false);
    let ring = call.app.ring()?;
    let question = Question::workers(Method::GET, ANTI_ENTROPY_PATH);
    let mut status = ClusterAntiEntropy::of(reports(call.app.ask_all(&ring, question).await));
    // Of hundreds of nodes they are megabytes.
    for report in
        status.nodes.iter_mut().filter_map(|node| node.report.as_mut()).filter(|_| summary)
    {
        report.peers = Vec::new();
        report.partitions = Vec::new();
    }
    Ok(status)
}

/// Compare and repair at once
///
/// One partition, one bucket, or everything, out of turn, at every node.
#[utoipa::path(post, path = "/v1/anti-entropy/repair", tag = "cluster",
    request_body(content = Object, description = "{}, {\"partition\":7} or {\"bucket\":\"carts\"}"),
    responses((status = 202, description = "Taken; Location names it", body = Object),
              (status = 422, description = "Not a scope"),
              (status = 503, description = "No worker took it")))]
pub async fn repair(State(app): State<App>, request: Request) -> Response {
    let (call, body) = Call::begin(&app, request);
    let result = start(&call, body).await;
    call.conclude(result)
}

async fn start(call: &Call<'_>, body: Body) -> Result<Response, Problem> {
    call.no_parameters()?;
    let (scope, bytes) = call.json::<RepairRequest>(body).await?;
    let ring = call.app.ring()?;
    let unprocessable = |why: String| Problem::new(ErrorCode::Unprocessable, why);
    scope.check().map_err(|error| unprocessable(error.to_string()))?;
    let partitions = ring.view.partitions();
    if let Some(partition) = scope.partition.filter(|p| !partitions.contains(*p)) {
        return Err(super::no_partition(partition.0, partitions));
    }
    if let Some(bucket) = &scope.bucket {
        bucket.parse::<Bucket>().map_err(|error| unprocessable(error.to_string()))?;
    }
    let id = Uuid::new_v4().to_string();
    let answers = ask(call, Method::PUT, &id, bytes).await?;
    if let Some(problem) = none_took_it(&answers) {
        return Err(problem);
    }
    let location = HeaderValue::try_from(format!("{REPAIR_PATH}/{id}"));
    let mut response = fresh_json(ClusterRepair::of(id, reports(answers)));
    *response.status_mut() = StatusCode::ACCEPTED;
    if let Ok(location) = location {
        response.headers_mut().insert(LOCATION, location);
    }
    Ok(response)
}

/// The refusal to pass on where no worker took a repair; `None` where at least one did.
fn none_took_it(answers: &[NodeAnswer]) -> Option<Problem> {
    if answers.iter().any(|answer| matches!(answer.said, Said::Json(_))) {
        return None;
    }
    let refusal = answers.iter().find_map(|answer| match &answer.said {
        Said::Refused(problem) => Some(problem.clone()),
        Said::Json(_) | Said::Nothing => None,
    });
    let nobody = || Problem::new(ErrorCode::NotReady, "no anti-entropy worker could be reached");
    Some(refusal.unwrap_or_else(nobody))
}

/// How far is a repair?
#[utoipa::path(get, path = "/v1/anti-entropy/repair/{id}", tag = "cluster",
    params(("id" = String, Path, description = "the id of the repair")),
    responses((status = 200, description = "How far it is", body = Object),
              (status = 404, description = "No node knows it")))]
pub async fn repair_status(
    State(app): State<App>,
    Path(repair): Path<String>,
    request: Request,
) -> Response {
    let (call, _) = Call::begin(&app, request);
    let result = look(&call, &repair).await.map(fresh_json);
    call.conclude(result)
}

async fn look(call: &Call<'_>, id: &str) -> Result<ClusterRepair, Problem> {
    call.no_parameters()?;
    let unknown = || Problem::new(ErrorCode::NotFound, "no node knows this repair");
    let id = id.parse::<Uuid>().map_err(|_| unknown())?.to_string();
    let answers = ask(call, Method::GET, &id, Bytes::new()).await?;
    if answers.iter().all(|answer| matches!(answer.said, Said::Refused(_))) {
        return Err(unknown());
    }
    Ok(ClusterRepair::of(id, reports(answers)))
}

async fn ask(
    call: &Call<'_>,
    method: Method,
    id: &str,
    body: Bytes,
) -> Result<Vec<NodeAnswer>, Problem> {
    let ring = call.app.ring()?;
    let question = Question::workers(method, format!("{REPAIR_PATH}/{id}")).with_body(body);
    Ok(call.app.ask_all(&ring, question).await)
}
