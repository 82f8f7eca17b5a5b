//! This node: who it is, and what its storage node reports.

use std::net::SocketAddr;

use axum::Json;
use axum::extract::{ConnectInfo, RawQuery, State};
use dynamo_core::wire::membership::{LocalStorage, NodeView};
use service_kit::http::error::{ErrorCode, Problem};
use service_kit::http::json::StrictJson;

use super::{ApiState, no_query, problem};

/// `GET /v1/node`.
///
/// # Errors
/// 400 for any query parameter.
pub async fn view(
    State(state): State<ApiState>,
    RawQuery(query): RawQuery,
) -> Result<Json<NodeView>, Problem> {
    no_query(query.as_deref())?;
    Ok(Json(state.agent.node()))
}

/// `POST /v1/local/storage`: what the storage node of this host has and holds, from then on
/// gossiped. Only a process on this host speaks for its node.
///
/// # Errors
/// 403 from another host, 422 for another node, 409 `stale_incarnation` where a newer storage
/// process has reported.
pub async fn storage(
    State(state): State<ApiState>,
    ConnectInfo(from): ConnectInfo<SocketAddr>,
    RawQuery(query): RawQuery,
    StrictJson(report): StrictJson<LocalStorage>,
) -> Result<Json<NodeView>, Problem> {
    no_query(query.as_deref())?;
    if !from.ip().to_canonical().is_loopback() {
        return Err(Problem::new(ErrorCode::Forbidden, "only a process of this host may report"));
    }
    let agent = &state.agent;
    let reporting = agent.change(|view| view.report(report));
    reporting.await.map_err(|error| problem(error, |error| error_of(&error)))?;
    agent.heard_storage();
    Ok(Json(agent.node()))
}

fn error_of(error: &dynamo_core::membership::view::ReportError) -> Problem {
    use dynamo_core::membership::view::ReportError;
    let code = match error {
        ReportError::OtherNode | ReportError::State(_) => ErrorCode::Unprocessable,
        ReportError::Stale => ErrorCode::StaleIncarnation,
    };
    Problem::new(code, error.to_string())
}
