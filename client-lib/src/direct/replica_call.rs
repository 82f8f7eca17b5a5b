//! One read of one replica, a batch of one over one exchange; and the word to a replica that is stale.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dynamo_core::clock::digest::RecordDigest;
use dynamo_core::cluster_view::ClusterView;
use dynamo_core::id::NodeId;
use dynamo_core::key::ObjectKey;
use dynamo_core::quorum::{ReplicaFailure, ReplicaReply};
use dynamo_core::wire::coordinate::{COORDINATE_GET_PATH, GetMessage};
use dynamo_core::wire::frame::{FrameError, encode_frame};
use dynamo_core::wire::replica::{
    REPLICA_BATCH_PATH, ReplicaOp, ReplicaResult, decode_response, encode_request,
};

use super::peer::Sender;
use super::view::RingView;
use crate::error::Problem;
use crate::transport::call::Caller;
use crate::transport::exchange::{Answer, ExchangeError, Kind};

/// Calls to the replicas of one object, under one view of the ring.
#[derive(Debug, Clone)]
pub(super) struct Replicas {
    pub(super) nodes: Arc<Caller>,
    pub(super) sender: Sender,
    pub(super) view: Arc<ClusterView>,
    pub(super) object: ObjectKey,
}

impl Replicas {
    /// Reads the replica of `node`. With a record comes the token of its context.
    pub(super) async fn read(
        &self,
        node: NodeId,
        unless: Option<RecordDigest>,
        remaining: Duration,
    ) -> Result<(ReplicaReply, Option<String>), ReplicaFailure> {
        let op = ReplicaOp::Read { object: self.object.clone(), unless, token: true, put: None };
        match self.send(node, &op, remaining).await? {
            // A record whose context cannot be told would be overwritten blindly by its reader.
            ReplicaResult::Record { token: None, .. } => {
                Err(ReplicaFailure::Refused("no_context".to_owned()))
            }
            ReplicaResult::Record { record, token, .. } => {
                Ok((ReplicaReply::Record(record), token))
            }
            ReplicaResult::Same => Ok((ReplicaReply::Same, None)),
            ReplicaResult::Absent { holds } => Ok((ReplicaReply::Absent { holds }, None)),
            ReplicaResult::Refused { code } => Err(refused(code)),
            ReplicaResult::Merged => Err(ReplicaFailure::Refused("bad_frame".to_owned())),
        }
    }

    /// Has `node`, whose replica is stale, read the object as its coordinator: it then repairs its own
    /// replica and every other that is stale. Nothing is sent that it would have to believe.
    pub(super) async fn repair(
        &self,
        node: NodeId,
        remaining: Duration,
    ) -> Result<(), ReplicaFailure> {
        let message = GetMessage {
            bucket: self.object.bucket().as_str().to_owned(),
            key: self.object.key().clone(),
            r: None,
            pr: None,
            notfound_ok: None,
            values: false,
            explain: false,
        };
        let frame = encode_frame(&message, []).map_err(frame_failed)?;
        self.exchange(node, COORDINATE_GET_PATH, frame, remaining).await.map(drop)
    }

    async fn send(
        &self,
        node: NodeId,
        op: &ReplicaOp,
        remaining: Duration,
    ) -> Result<ReplicaResult, ReplicaFailure> {
        let frame = encode_request([op]).map_err(frame_failed)?;
        let answer = self.exchange(node, REPLICA_BATCH_PATH, frame, remaining).await?;
        let results = decode_response(answer.body, 1).map_err(frame_failed)?;
        results.into_iter().next().ok_or(ReplicaFailure::Refused("bad_frame".to_owned()))
    }

    /// The answer of `node` to a frame, where it is a success.
    async fn exchange(
        &self,
        node: NodeId,
        path: &str,
        frame: Bytes,
        remaining: Duration,
    ) -> Result<Answer, ReplicaFailure> {
        let base = RingView::storage_base(&self.nodes.http, &self.view, node)
            .ok_or(ReplicaFailure::Unreachable)?;
        let mut request = self
            .sender
            .request(path, &self.view, Kind::Read)
            .map_err(|_| ReplicaFailure::Refused("bad_header".to_owned()))?;
        request.body = frame;
        let in_flight = self.nodes.endpoints.send(&base);
        let exchange = self.nodes.http.exchange(Arc::clone(&base), &request, false, remaining);
        let answer = match tokio::time::timeout(remaining, exchange).await {
            Err(_) => return Err(ReplicaFailure::Timeout),
            Ok(Ok(answer)) => answer,
            Ok(Err(ExchangeError::TooLarge | ExchangeError::Url(_))) => {
                return Err(ReplicaFailure::Refused("bad_answer".to_owned()));
            }
            Ok(Err(ExchangeError::Connect(_) | ExchangeError::Broken(_))) => {
                self.nodes.failed(&base);
                return Err(ReplicaFailure::Unreachable);
            }
        };
        in_flight.answered();
        if !answer.status.is_success() {
            return Err(refused(Problem::of(&answer).code));
        }
        Ok(answer)
    }
}

fn frame_failed(_: FrameError) -> ReplicaFailure {
    ReplicaFailure::Refused("bad_frame".to_owned())
}

fn refused(code: String) -> ReplicaFailure {
    if code == "overloaded" { ReplicaFailure::Overloaded } else { ReplicaFailure::Refused(code) }
}
