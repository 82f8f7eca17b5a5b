//! One operation on one replica: a batch of one, over one exchange.

use std::sync::Arc;
use std::time::Duration;

use dynamo_core::clock::digest::RecordDigest;
use dynamo_core::clock::record::Record;
use dynamo_core::cluster_view::ClusterView;
use dynamo_core::id::NodeId;
use dynamo_core::key::ObjectKey;
use dynamo_core::params::Durability;
use dynamo_core::quorum::{ReplicaFailure, ReplicaReply};
use dynamo_core::wire::replica::{
    REPLICA_BATCH_PATH, ReplicaOp, ReplicaResult, decode_response, encode_request,
};

use super::peer::Sender;
use super::view::RingView;
use crate::error::Problem;
use crate::transport::call::Caller;
use crate::transport::exchange::{ExchangeError, Kind};

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
        match self.send(node, &op, Kind::Read, remaining).await? {
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

    /// Merges `record` into the replica of `node`.
    pub(super) async fn repair(
        &self,
        node: NodeId,
        record: Record,
        remaining: Duration,
    ) -> Result<(), ReplicaFailure> {
        let op = ReplicaOp::Merge {
            object: self.object.clone(),
            record,
            hint_for: None,
            durability: Durability::Buffered,
            puts: Vec::new(),
        };
        match self.send(node, &op, Kind::NamedWrite, remaining).await? {
            ReplicaResult::Merged => Ok(()),
            ReplicaResult::Refused { code } => Err(refused(code)),
            _ => Err(ReplicaFailure::Refused("bad_frame".to_owned())),
        }
    }

    async fn send(
        &self,
        node: NodeId,
        op: &ReplicaOp,
        kind: Kind,
        remaining: Duration,
    ) -> Result<ReplicaResult, ReplicaFailure> {
        let frame_failed = |_| ReplicaFailure::Refused("bad_frame".to_owned());
        let base = RingView::storage_base(&self.view, node).ok_or(ReplicaFailure::Unreachable)?;
        let mut request = self
            .sender
            .request(REPLICA_BATCH_PATH, &self.view, kind)
            .map_err(|_| ReplicaFailure::Refused("bad_header".to_owned()))?;
        request.body = encode_request([op]).map_err(frame_failed)?;
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
        let results = decode_response(answer.body, 1).map_err(frame_failed)?;
        results.into_iter().next().ok_or(ReplicaFailure::Refused("bad_frame".to_owned()))
    }
}

fn refused(code: String) -> ReplicaFailure {
    if code == "overloaded" { ReplicaFailure::Overloaded } else { ReplicaFailure::Refused(code) }
}
