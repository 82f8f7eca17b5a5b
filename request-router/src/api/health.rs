//! `/v1/cluster/health` and `/v1/cluster/safe-to-stop`: what the nodes that can be reached right
//! now can serve. Every node is asked (the same question as `/v1/hints`, at most once a second).

use std::collections::BTreeSet;

use axum::extract::{Request, State};
use axum::response::Response;
use dynamo_core::id::NodeId;
use dynamo_core::routing::health::PartitionHealth;
use dynamo_core::routing::stopping::{StopRisk, stopping};
use dynamo_core::wire::operations::{SafeToStop, StopReasonView};
use serde::Serialize;
use service_kit::http::error::Problem;

use super::call::Call;
use super::{fresh_json, resolve};
use crate::fan_out::Answers;
use crate::request::bad_parameter;
use crate::request::query::Query;
use crate::state::App;

/// The health of the cluster.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Health {
    /// `healthy`, `degraded` or `unavailable`.
    status: &'static str,
    /// Members of the ring.
    nodes: usize,
    /// Members whose storage process answered just now.
    nodes_reachable: usize,
    /// Partitions of the ring.
    partitions: u32,
    /// Partitions whose replicas are all in place and reachable.
    partitions_all_ok: u32,
    /// Partitions with a reachable quorum of primaries.
    partitions_quorum_ok: u32,
    /// Nodes that are to have a partition and do not hold it yet, summed over the partitions.
    pending_moves: u32,
    /// Hints that the reachable nodes keep for others.
    hints: u64,
}

/// The health of the cluster
#[utoipa::path(get, path = "/v1/cluster/health", tag = "cluster",
    responses((status = 200, description = "Its health as this router sees it", body = Health)))]
pub async fn health(State(app): State<App>, request: Request) -> Response {
    let (call, _) = Call::begin(&app, request);
    let result = check(&call).await.map(fresh_json);
    call.conclude(result)
}

async fn check(call: &Call<'_>) -> Result<Health, Problem> {
    call.no_parameters()?;
    let ring = call.app.ring()?;
    let answers = call.app.ask_for_hints(&ring).await;
    let reachable = reachable(&answers);
    let members: BTreeSet<NodeId> = ring.view.members().map(|info| info.id).collect();
    let health = PartitionHealth::of_cluster(&ring.view, |node| reachable.contains(&node));
    Ok(Health {
        status: health.status().as_str(),
        nodes: members.len(),
        nodes_reachable: members.intersection(&reachable).count(),
        partitions: health.partitions,
        partitions_all_ok: health.all_ok,
        partitions_quorum_ok: health.quorum_ok,
        pending_moves: health.pending_moves,
        hints: answers.iter().filter_map(|answer| answer.number("hints")).sum(),
    })
}

/// Would any partition lose its quorum if this node stopped?
///
/// Judged by who can be reached now, who holds what, and what is still on its way.
#[utoipa::path(get, path = "/v1/cluster/safe-to-stop", tag = "cluster",
    params(("node" = String, Query, description = "id or name")),
    responses((status = 200, description = "Whether it is safe, and why not", body = Object),
              (status = 404, description = "No such node")))]
pub async fn safe_to_stop(State(app): State<App>, request: Request) -> Response {
    let (call, _) = Call::begin(&app, request);
    let result = judge(&call).await.map(fresh_json);
    call.conclude(result)
}

async fn judge(call: &Call<'_>) -> Result<SafeToStop, Problem> {
    let query = Query::parse(call.query(), &["node"])?;
    let name = query.text("node")?.ok_or_else(|| bad_parameter("node", "is required"))?;
    let ring = call.app.ring()?;
    let node = resolve(&ring.view, name)?;
    let answers = call.app.ask_for_hints(&ring).await;
    let reachable = reachable(&answers);
    let verdict = stopping(&ring.view, node, |node| reachable.contains(&node));
    let silent = answers.iter().filter(|answer| !answer.is_reachable()).map(|answer| answer.node);
    let own = answers.iter().find(|answer| answer.node == node);
    let warn = |n: &u8| {
        format!("objects of buckets with n={n} lose their quorum whenever one of their nodes stops")
    };
    Ok(SafeToStop {
        node,
        name: ring.view.node(node).map(|info| info.name.clone()),
        safe: verdict.partitions_at_risk == 0,
        partitions_at_risk: verdict.partitions_at_risk,
        reasons: verdict.risks.iter().map(reason).collect(),
        moves_delayed: verdict.moves_delayed,
        hints_kept: own.and_then(|answer| answer.number("hints")),
        unreachable: silent.collect(),
        warnings: verdict.always_short.iter().map(warn).collect(),
    })
}

fn reason(risk: &StopRisk) -> StopReasonView {
    StopReasonView {
        reason: risk.reason.as_str().to_owned(),
        n: risk.n,
        partitions: risk.partitions,
        first: risk.first,
        already: risk.already,
    }
}

fn reachable(answers: &Answers) -> BTreeSet<NodeId> {
    answers.iter().filter(|answer| answer.is_reachable()).map(|answer| answer.node).collect()
}
