//! The receiving side of gossip.

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use dynamo_core::membership::gossip::GossipRefusal;
use dynamo_core::wire::gossip::{GOSSIP_PROTOCOL, GossipDecodeError, GossipMessage};
use http::HeaderValue;
use http::header::CONTENT_TYPE;
use service_kit::http::error::{ErrorCode, Problem};
use service_kit::http::json::require_json;
use service_kit::peer::X_ATOLL_INCARNATION;
use service_kit::tls::PeerCertificate;

use super::{ApiState, problem};

/// `POST /v1/gossip`.
///
/// # Errors
/// 400 for what is not a message or was damaged, 401 where its certificate is of another node, 409 `wrong_cluster` or `stale_incarnation`, 426
/// for another protocol, 503 where too much arrives. Nothing was taken from the message then.
pub async fn receive(State(state): State<ApiState>, request: Request) -> Result<Response, Problem> {
    let received = read(&state, request).await;
    let answered = match received {
        Ok(message) => {
            let handled = state.agent.on_request(message).await;
            handled.map_err(|error| problem(error, refused))
        }
        Err(refusal) => Err(refusal),
    };
    let answer = match answered {
        Ok(answer) => answer.encode(),
        Err(refusal) => {
            state.agent.metrics.refused.with_label_values(&[refusal.code().as_str()]).inc();
            return Err(refusal);
        }
    };
    state.agent.metrics.bytes_sent.inc_by(answer.len() as u64);
    let mut response = Body::from(answer).into_response();
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}

async fn read(state: &ApiState, request: Request) -> Result<GossipMessage, Problem> {
    let (parts, body) = request.into_parts();
    require_json(&parts.headers)?;
    let held = state.bodies.read(&parts.headers, body).await?;
    state.agent.metrics.bytes_received.inc_by(held.bytes().len() as u64);
    let decoded = GossipMessage::decode(held.bytes()).map_err(|error| match error {
        GossipDecodeError::Json(_) => Problem::new(ErrorCode::BadJson, error.to_string()),
        GossipDecodeError::Checksum => Problem::new(ErrorCode::DigestMismatch, error.to_string()),
        GossipDecodeError::Protocol(_) => {
            Problem::new(ErrorCode::ProtocolVersion, error.to_string())
                .versions(GOSSIP_PROTOCOL, GOSSIP_PROTOCOL)
        }
    });
    let message = decoded?;
    if let Some(shown) = parts.extensions.get::<PeerCertificate>() {
        shown.check(message.from)?;
    }
    Ok(message)
}

fn refused(refusal: GossipRefusal) -> Problem {
    let detail = refusal.to_string();
    match refusal {
        GossipRefusal::WrongCluster { mine, theirs } => {
            tracing::warn!(%mine, %theirs, "gossip of another cluster was refused");
            Problem::new(ErrorCode::WrongCluster, detail)
        }
        GossipRefusal::StaleIncarnation { newer } => {
            tracing::warn!(newer = newer.incarnation.0, "gossip of an older process was refused");
            Problem::new(ErrorCode::StaleIncarnation, detail)
                .header(X_ATOLL_INCARNATION, HeaderValue::from(newer.incarnation.0))
        }
        GossipRefusal::Stranger | GossipRefusal::Itself | GossipRefusal::OutOfTurn => {
            Problem::new(ErrorCode::Conflict, detail)
        }
        GossipRefusal::Overloaded => Problem::new(ErrorCode::Overloaded, detail).retry_after_s(1),
    }
}
