//! `/v1/stats`, `/v1/cluster/load` and `/v1/cluster/peers`: what the clients of this router
//! experience, how evenly the storage nodes share the load, and which of them is slow.

use axum::extract::{Request, State};
use axum::response::Response;
use dynamo_core::wire::load::{ClusterLoad, LOAD_PATH};
use dynamo_core::wire::peers::{ClusterPeers, PEERS_PATH};
use http::Method;
use service_kit::http::error::Problem;

use super::call::Call;
use super::fresh_json;
use crate::fan_out::{Question, reports};
use crate::state::App;
use crate::stats::Stats;

/// Rate and latency of the last seconds
///
/// Of the requests for objects that this router answered, by operation.
#[utoipa::path(get, path = "/v1/stats", tag = "cluster",
    responses((status = 200, description = "The last ten seconds", body = Stats)))]
pub async fn stats(State(app): State<App>, request: Request) -> Response {
    let (call, _) = Call::begin(&app, request);
    let result = call.no_parameters().map(|()| fresh_json(call.app.requests.stats()));
    call.conclude(result)
}

/// How evenly the nodes share the load
///
/// Operations of every member over a minute and over half an hour, compared with its fair share by
/// weight. A node that deviates by 15 % or more is out of balance.
#[utoipa::path(get, path = "/v1/cluster/load", tag = "cluster",
    responses((status = 200, description = "The load of all members that answer", body = Object)))]
pub async fn load(State(app): State<App>, request: Request) -> Response {
    let (call, _) = Call::begin(&app, request);
    let result = compare(&call).await.map(fresh_json);
    call.conclude(result)
}

async fn compare(call: &Call<'_>) -> Result<ClusterLoad, Problem> {
    call.no_parameters()?;
    let ring = call.app.ring()?;
    let answers = call.app.ask_all(&ring, Question::storage(Method::GET, LOAD_PATH)).await;
    let weight =
        |node| ring.view.members().find(|info| info.id == node).map(|member| member.weight);
    Ok(ClusterLoad::of(&reports(answers), weight))
}

/// How the nodes see each other
///
/// What the peers of every node measured of it over half a minute: how many find it slow or do not
/// reach it, and how long its answers took for the peer that sees it best. `slow` where that
/// stands out against the other nodes.
#[utoipa::path(get, path = "/v1/cluster/peers", tag = "cluster",
    responses((status = 200, description = "What all members that answer say", body = Object)))]
pub async fn peers(State(app): State<App>, request: Request) -> Response {
    let (call, _) = Call::begin(&app, request);
    let result = see(&call).await.map(fresh_json);
    call.conclude(result)
}

async fn see(call: &Call<'_>) -> Result<ClusterPeers, Problem> {
    call.no_parameters()?;
    let ring = call.app.ring()?;
    let answers = call.app.ask_all(&ring, Question::storage(Method::GET, PEERS_PATH)).await;
    Ok(ClusterPeers::of(&reports(answers)))
}
