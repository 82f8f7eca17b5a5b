//! Members, and changes to them: stage, plan, commit.

use axum::Json;
use axum::extract::{RawQuery, State};
use dynamo_core::id::ClusterId;
use dynamo_core::membership::plan::{self, CommitError, Plan, mean_partition_bytes};
use dynamo_core::membership::stage::{self, StageError};
use dynamo_core::membership::view::Membership;
use dynamo_core::wire::membership::{
    ClusterDocument, CommitDocument, PlanDocument, StageRequest, StagedDocument,
};
use http::HeaderMap;
use http::header::IF_MATCH;
use service_kit::http::error::{ErrorCode, Problem};
use service_kit::http::json::StrictJson;
use service_kit::rng::OsEntropy;

use super::{ApiState, no_query, problem};
use crate::agent::{Agent, describe};

/// `GET /v1/cluster`.
///
/// # Errors
/// 400 for any query parameter.
pub async fn document(
    State(state): State<ApiState>,
    RawQuery(query): RawQuery,
) -> Result<Json<ClusterDocument>, Problem> {
    no_query(query.as_deref())?;
    Ok(Json(ClusterDocument::of(&state.agent.view())))
}

/// `POST /v1/cluster/stage`.
///
/// # Errors
/// 404 for an unknown node, 409 where the change is impossible as things stand, 422 for invalid
/// values.
pub async fn stage(
    State(state): State<ApiState>,
    RawQuery(query): RawQuery,
    StrictJson(request): StrictJson<StageRequest>,
) -> Result<Json<StagedDocument>, Problem> {
    no_query(query.as_deref())?;
    let agent = &state.agent;
    let wall = agent.clock.wall();
    let staging = agent.change(|view| {
        let change = request.resolve(view)?;
        stage::stage(view, change, wall).map(Some)
    });
    staging.await.map_err(|error| problem(error, |error| refused_stage(&error)))?;
    Ok(Json(staged(&agent.view())))
}

/// `DELETE /v1/cluster/stage`.
///
/// # Errors
/// 400 for any query parameter, 503 where it cannot be made durable.
pub async fn drop_staged(
    State(state): State<ApiState>,
    RawQuery(query): RawQuery,
) -> Result<Json<StagedDocument>, Problem> {
    no_query(query.as_deref())?;
    let agent = &state.agent;
    let wall = agent.clock.wall();
    let dropping = agent.change(|view| Ok::<_, StageError>(stage::drop_staged(view, wall)));
    dropping.await.map_err(|error| problem(error, |error| refused_stage(&error)))?;
    Ok(Json(staged(&agent.view())))
}

/// `GET /v1/cluster/plan`.
///
/// # Errors
/// 409 where nothing is staged.
pub async fn plan(
    State(state): State<ApiState>,
    RawQuery(query): RawQuery,
) -> Result<Json<PlanDocument>, Problem> {
    no_query(query.as_deref())?;
    let view = state.agent.view().clone();
    let founding = state.agent.founding();
    // A claim over a large ring takes up to a second.
    let planned = tokio::task::spawn_blocking(move || {
        let plan = plan_of(&view, founding)?;
        Ok(PlanDocument::of(&plan, &view))
    });
    match planned.await {
        Ok(planned) => planned.map(Json).map_err(|error| refused_commit(&error)),
        Err(error) => Err(Problem::new(ErrorCode::Internal, error.to_string())),
    }
}

/// `POST /v1/cluster/commit` with the plan's name in `If-Match`.
///
/// # Errors
/// 400 without `If-Match`, 412 `stale_plan` where the plan is not the present one, 409 where there
/// is nothing to commit or the plan has refusals.
pub async fn commit(
    State(state): State<ApiState>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Json<CommitDocument>, Problem> {
    no_query(query.as_deref())?;
    let tag = tag_of(&headers)?;
    let agent = &state.agent;
    let (founding, wall) = (agent.founding(), agent.clock.wall());
    let new_cluster = ClusterId::random(&mut OsEntropy);
    let committing = agent.change(|view| {
        let delta = plan::commit(view, founding, &tag, new_cluster, wall)?;
        Ok(Some(delta))
    });
    committing.await.map_err(|error| problem(error, |error| refused_commit(&error)))?;
    audit(agent, &tag);
    let view = agent.view();
    let cluster = view
        .cluster()
        .ok_or_else(|| Problem::new(ErrorCode::Internal, "the commit left no cluster behind"))?;
    Ok(Json(CommitDocument { cluster, version: view.version() }))
}

fn staged(view: &Membership) -> StagedDocument {
    StagedDocument { staged: view.staged().to_vec() }
}

fn plan_of(view: &Membership, founding: plan::FoundingParams) -> Result<Plan, CommitError> {
    let bytes = mean_partition_bytes(view);
    plan::plan(view, founding, |_| bytes)
}

/// One line that says who changed what, for the audit log.
fn audit(agent: &Agent, plan: &str) {
    let view = agent.view();
    let Some(event) = view.history().events().rfind(|event| event.id.issuer == view.me()) else {
        return;
    };
    let changes: Vec<String> = event
        .changes
        .iter()
        .map(|change| {
            let (kind, node) = describe(change);
            format!("{kind} {node}")
        })
        .collect();
    tracing::info!(
        target: "audit",
        plan,
        ring = %view.version(),
        changes = changes.join(", "),
        "membership plan committed"
    );
}

/// The plan's name, with or without the quotes of an entity tag.
fn tag_of(headers: &HeaderMap) -> Result<String, Problem> {
    let missing = || {
        Problem::new(ErrorCode::BadHeader, "If-Match must name the plan, see GET /v1/cluster/plan")
    };
    let mut given = headers.get_all(IF_MATCH).iter();
    let value = given.next().ok_or_else(missing)?;
    if given.next().is_some() {
        return Err(Problem::new(ErrorCode::DuplicateHeader, "If-Match is given twice"));
    }
    let text = value.to_str().map_err(|_| missing())?.trim();
    let bare = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
    if bare.len() == 16 && bare.bytes().all(|b| b.is_ascii_hexdigit()) {
        Ok(bare.to_ascii_lowercase())
    } else {
        Err(missing())
    }
}

fn refused_stage(error: &StageError) -> Problem {
    let code = match error {
        StageError::Unknown => ErrorCode::NotFound,
        StageError::Invalid => ErrorCode::Unprocessable,
        StageError::Ambiguous
        | StageError::NotCandidate(..)
        | StageError::NotMember(..)
        | StageError::TooMany => ErrorCode::Conflict,
    };
    Problem::new(code, error.to_string())
}

fn refused_commit(error: &CommitError) -> Problem {
    let code = match error {
        CommitError::Stale { .. } => ErrorCode::StalePlan,
        CommitError::Nothing | CommitError::Refused(_) | CommitError::Removed => {
            ErrorCode::Conflict
        }
    };
    Problem::new(code, error.to_string())
}
