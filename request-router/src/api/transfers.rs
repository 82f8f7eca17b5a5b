//! `/v1/transfers…`: partitions on the move, over the workers of all nodes. A node that did not
//! answer is said, and not counted.

use std::collections::{BTreeMap, BTreeSet};

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use bytes::Bytes;
use dynamo_core::id::{NodeId, PartitionId};
use dynamo_core::wire::operations::{ClusterTransfers, LossAccepted, NodeReport};
use dynamo_core::wire::worker::{
    ACCEPT_LOSS_PATH, AcceptLossRequest, TRANSFERS_PATH, TransferState, TransfersDocument,
};
use http::Method;
use service_kit::http::error::{ErrorCode, Problem};

use super::call::Call;
use super::fresh_json;
use crate::fan_out::{Question, reports};
use crate::state::App;

/// Partitions on the move
///
/// What every worker copies, compares and gives up, with totals and an estimate of the time left.
#[utoipa::path(get, path = "/v1/transfers", tag = "cluster",
    responses((status = 200, description = "The movements of all nodes that answer", body = Object)))]
pub async fn transfers(State(app): State<App>, request: Request) -> Response {
    let (call, _) = Call::begin(&app, request);
    let result = all(&call).await.map(|nodes| fresh_json(ClusterTransfers::of(nodes)));
    call.conclude(result)
}

async fn all(call: &Call<'_>) -> Result<Vec<NodeReport<TransfersDocument>>, Problem> {
    call.no_parameters()?;
    let ring = call.app.ring()?;
    let question = Question::workers(Method::GET, TRANSFERS_PATH);
    Ok(reports(call.app.ask_all(&ring, question).await))
}

/// Accept that what nobody holds is lost
///
/// Every node that waits for one of these partitions starts over without its data. Refused unless
/// each of them is in the state no_holder at some node.
#[utoipa::path(post, path = "/v1/transfers/accept-loss", tag = "cluster",
    request_body(content = Object, description = "{\"partitions\":[7]}"),
    responses((status = 200, description = "Accepted, and by which nodes", body = Object),
              (status = 409, description = "Not known to be without holder"),
              (status = 422, description = "Nothing is named")))]
pub async fn accept_loss(State(app): State<App>, request: Request) -> Response {
    let (call, body) = Call::begin(&app, request);
    let result = accept(&call, body).await.map(fresh_json);
    call.conclude(result)
}

async fn accept(call: &Call<'_>, body: Body) -> Result<LossAccepted, Problem> {
    let (request, _) = call.json::<AcceptLossRequest>(body).await?;
    request.check().map_err(|error| Problem::new(ErrorCode::Unprocessable, error.to_string()))?;
    let named: BTreeSet<PartitionId> = request.partitions.iter().copied().collect();
    let waiting = waiting_for(&all(call).await?, &named);
    let waited: BTreeSet<PartitionId> = waiting.values().flatten().copied().collect();
    if let Some(partition) = named.difference(&waited).next() {
        let detail = format!(
            "partition {} is not known to be without holder at any node that answers",
            partition.0
        );
        return Err(Problem::new(ErrorCode::Conflict, detail));
    }
    let ring = call.app.ring()?;
    let questions = waiting.into_iter().filter_map(|(node, partitions)| {
        // Encoding numbers cannot fail; a node that were left out here would be asked again.
        let body = serde_json::to_vec(&AcceptLossRequest { partitions }).ok()?;
        let question = Question::workers(Method::POST, ACCEPT_LOSS_PATH);
        Some((ring.view.node(node)?, question.with_body(Bytes::from(body))))
    });
    let nodes = reports(call.app.ask_each(questions).await);
    tracing::warn!(target: "audit", partitions = named.len(), "the loss of partitions was accepted");
    Ok(LossAccepted { partitions: named.into_iter().collect(), nodes })
}

/// Per node those of the `named` partitions of which it knows no holder.
fn waiting_for(
    nodes: &[NodeReport<TransfersDocument>],
    named: &BTreeSet<PartitionId>,
) -> BTreeMap<NodeId, Vec<PartitionId>> {
    let mut waiting = BTreeMap::new();
    for node in nodes {
        let views = node.report.iter().flat_map(|report| &report.partitions);
        let without = views.filter(|view| {
            view.state == TransferState::NoHolder && named.contains(&view.partition)
        });
        let without: Vec<PartitionId> = without.map(|view| view.partition).collect();
        if !without.is_empty() {
            waiting.insert(node.node, without);
        }
    }
    waiting
}
