//! `/v1/admin/log-level`: what the logs of all processes tell, and changing it while they run.

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use bytes::Bytes;
use dynamo_core::cluster_view::NodeInfo;
use dynamo_core::wire::log_level::{
    ClusterLogLevels, LOG_LEVEL_PATH, LogLevelChange, LogLevelDocument, ProcessLogLevel,
    ProcessName,
};
use dynamo_core::wire::operations::NodeReport;
use http::Method;
use service_kit::http::error::{ErrorCode, Problem};
use service_kit::http::log_level;
use service_kit::telemetry::level::log_level as own_level;

use super::call::Call;
use super::{fresh_json, resolve};
use crate::fan_out::{Process, Question, reports};
use crate::limits::FAN_OUT_TIMEOUT;
use crate::state::App;

/// Log levels
///
/// Of this router, and of the other processes of all nodes.
#[utoipa::path(get, path = "/v1/admin/log-level", tag = "admin",
    responses((status = 200, description = "The level of each process", body = Object)))]
pub async fn read(State(app): State<App>, request: Request) -> Response {
    let (call, _) = Call::begin(&app, request);
    let result = async {
        call.no_parameters()?;
        ask(&call, Method::GET, &LogLevelChange::default(), own_level).await
    };
    let result = result.await.map(fresh_json);
    call.conclude(result)
}

/// Change log levels
///
/// Until the process ends: the next start follows the settings again.
#[utoipa::path(put, path = "/v1/admin/log-level", tag = "admin",
    request_body(content = Object, description = "level (absent: that of the settings), and which \
        processes: node, process (absent: all)"),
    responses((status = 200, description = "The level of each process that was meant", body = Object),
              (status = 422, description = "Not a level, or no such node")))]
pub async fn change(State(app): State<App>, request: Request) -> Response {
    let (call, body) = Call::begin(&app, request);
    let result = set(&call, body).await.map(fresh_json);
    call.conclude(result)
}

async fn set(call: &Call<'_>, body: Body) -> Result<ClusterLogLevels, Problem> {
    call.no_parameters()?;
    let (change, _) = call.json::<LogLevelChange>(body).await?;
    // Refused here for all, rather than by each of them.
    change.level.as_deref().map(log_level::checked).transpose()?;
    ask(call, Method::PUT, &change, || log_level::apply(change.level.as_deref())).await
}

/// Asks the processes that are meant; this router answers by `own`.
async fn ask(
    call: &Call<'_>,
    method: Method,
    meant: &LogLevelChange,
    own: impl FnOnce() -> Result<LogLevelDocument, Problem>,
) -> Result<ClusterLogLevels, Problem> {
    let is_meant = |process| meant.process.is_none_or(|one| one == process);
    let mut processes = Vec::new();
    if is_meant(ProcessName::RequestRouter) && meant.node.is_none() {
        processes.push(of_this_router(own()));
    }
    let others = [
        (ProcessName::StorageNode, Process::Storage),
        (ProcessName::MembershipSvc, Process::Membership),
        (ProcessName::AntiEntropyWorker, Process::Worker),
    ];
    let others: Vec<_> = others.into_iter().filter(|(name, _)| is_meant(*name)).collect();
    if others.is_empty() {
        return Ok(ClusterLogLevels { processes });
    }
    let ring = call.app.ring()?;
    let node = meant.node.as_deref().map(|name| resolve(&ring.view, name)).transpose()?;
    let body = body_of(&method, meant)?;
    for (name, process) in others {
        let path = LOG_LEVEL_PATH.to_owned();
        let (method, body, timeout) = (method.clone(), body.clone(), FAN_OUT_TIMEOUT);
        let question = Question { process, method, path, body, timeout };
        let chosen =
            |info: &&NodeInfo| info.status.may_hold() && node.is_none_or(|node| node == info.id);
        let asked = ring.view.nodes().filter(chosen).map(|info| (info, question.clone()));
        let answers = reports(call.app.ask_each(asked).await);
        processes.extend(answers.into_iter().map(|answer| of_node(name, answer)));
    }
    Ok(ClusterLogLevels { processes })
}

/// Who is meant is for this router; the others are told the level alone.
fn body_of(method: &Method, change: &LogLevelChange) -> Result<Bytes, Problem> {
    if method == Method::GET {
        return Ok(Bytes::new());
    }
    let told = LogLevelChange { level: change.level.clone(), ..LogLevelChange::default() };
    serde_json::to_vec(&told).map(Bytes::from).map_err(|error| {
        tracing::error!(%error, "a log level could not be encoded");
        Problem::new(ErrorCode::Internal, "the level could not be passed on")
    })
}

fn of_this_router(answer: Result<LogLevelDocument, Problem>) -> ProcessLogLevel {
    let refused = answer.as_ref().err().map(|problem| problem.code().as_str().to_owned());
    let process = ProcessName::RequestRouter;
    ProcessLogLevel {
        process,
        node: None,
        name: None,
        reachable: true,
        refused,
        report: answer.ok(),
    }
}

fn of_node(process: ProcessName, answer: NodeReport<LogLevelDocument>) -> ProcessLogLevel {
    let NodeReport { node, name, reachable, refused, report } = answer;
    ProcessLogLevel { process, node: Some(node), name: Some(name), reachable, refused, report }
}
