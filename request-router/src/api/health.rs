//! `/v1/cluster/health` and `/v1/cluster/safe-to-stop`: what the nodes that can be reached right
//! now can serve. Every node is asked (the same question as `/v1/hints`, at most once a second).

use std::collections::BTreeSet;

use axum::extract::{Request, State};
use axum::response::Response;
use dynamo_core::id::NodeId;
use dynamo_core::ring::ReplicaSets;
use dynamo_core::routing::health::{PartitionHealth, at_risk_without};
use serde::Serialize;
use service_kit::http::error::{ErrorCode, Problem, escape_echo};
use service_kit::http::request_id::RequestId;

use super::{finish, fresh_json, no_parameters};
use crate::dispatch::Refused;
use crate::fan_out::Answers;
use crate::request::bad_parameter;
use crate::request::query::Query;
use crate::ring_view::RingView;
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
    /// Replicas of partitions that are still to be copied to their new owners.
    pending_moves: u32,
    /// Hints that the reachable nodes keep for others.
    hints: u64,
}

/// The health of the cluster
#[utoipa::path(get, path = "/v1/cluster/health", tag = "cluster",
    responses((status = 200, description = "Its health as this router sees it", body = Health)))]
pub async fn health(State(app): State<App>, request: Request) -> Response {
    let id = request.extensions().get::<RequestId>().cloned();
    let result = check(&app, request.uri().query()).await.map(fresh_json);
    finish(&app, id.as_ref(), result.map_err(Refused::from))
}

async fn check(app: &App, query: Option<&str>) -> Result<Health, Problem> {
    no_parameters(query)?;
    let ring = app.ring()?;
    let answers = app.ask_for_hints(&ring).await;
    let reachable = reachable(&answers);
    let members: BTreeSet<NodeId> = ring.view.members().map(|info| info.id).collect();
    let health = PartitionHealth::of(replica_sets(&ring), ring.view.defaults().n, |node| {
        reachable.contains(&node)
    });
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

/// Whether a node may stop.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct SafeToStop {
    /// The node.
    node: String,
    /// Its name.
    name: Option<String>,
    /// Whether every partition keeps a reachable quorum of primaries without it.
    safe: bool,
    /// Partitions that would not.
    partitions_at_risk: u32,
}

/// Would any partition lose its quorum if this node stopped?
#[utoipa::path(get, path = "/v1/cluster/safe-to-stop", tag = "cluster",
    params(("node" = String, Query, description = "id or name")),
    responses((status = 200, description = "Whether it is safe", body = SafeToStop),
              (status = 404, description = "No such node")))]
pub async fn safe_to_stop(State(app): State<App>, request: Request) -> Response {
    let id = request.extensions().get::<RequestId>().cloned();
    let result = judge(&app, request.uri().query()).await.map(fresh_json);
    finish(&app, id.as_ref(), result.map_err(Refused::from))
}

async fn judge(app: &App, query: Option<&str>) -> Result<SafeToStop, Problem> {
    let query = Query::parse(query, &["node"])?;
    let name = query.text("node")?.ok_or_else(|| bad_parameter("node", "is required"))?;
    let ring = app.ring()?;
    let node = ring.view.resolve(name).ok_or_else(|| {
        let shown = escape_echo(name.as_bytes());
        Problem::new(ErrorCode::NotFound, format!("no node is called '{shown}'"))
    })?;
    let answers = app.ask_for_hints(&ring).await;
    let reachable = reachable(&answers);
    let n = ring.view.defaults().n;
    let at_risk = at_risk_without(node, replica_sets(&ring), n, |node| reachable.contains(&node));
    Ok(SafeToStop {
        node: node.to_string(),
        name: ring.view.node(node).map(|info| info.name.clone()),
        safe: at_risk == 0,
        partitions_at_risk: at_risk,
    })
}

fn reachable(answers: &Answers) -> BTreeSet<NodeId> {
    answers.iter().filter(|answer| answer.is_reachable()).map(|answer| answer.node).collect()
}

/// The replica sets of every partition at the default N; none while the ring is empty.
fn replica_sets(ring: &RingView) -> impl Iterator<Item = ReplicaSets> {
    let n = ring.view.defaults().n;
    let founded = !ring.view.ring().is_empty();
    let partitions = ring.view.partitions().iter().filter(move |_| founded);
    partitions.map(move |partition| ring.view.placement().replica_sets(partition, n))
}
