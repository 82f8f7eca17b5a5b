//! Asks the other replicas about a put of which another attempt may have been applied: thin, see
//! [`dynamo_core::quorum::catch_up`].

use std::sync::Arc;
use std::time::Duration;

use dynamo_core::id::PutId;
use dynamo_core::limits::CATCH_UP_MS;
use dynamo_core::params::Durability;
use dynamo_core::quorum::CatchUp;
use dynamo_core::quorum::catch_up::is_late;
use dynamo_core::time::WallMs;
use dynamo_core::wire::headers::{REPEATED, SENT};
use dynamo_core::wire::replica::{ReplicaOp, ReplicaResult};
use http::HeaderMap;
use tokio::sync::mpsc;

use super::request::Request;
use crate::node::Node;

/// Whether another attempt of a put with these headers may have been applied.
#[must_use]
pub fn may_be_applied(headers: &HeaderMap, now: WallMs) -> bool {
    let sent = headers.get(SENT).and_then(|sent| sent.to_str().ok()?.parse().ok());
    headers.contains_key(REPEATED) || sent.is_some_and(|sent| is_late(WallMs(sent), now))
}

/// Merges what the other replicas of the object have into this node's, and remembers of the put
/// what they do, as far as they answer in time. Nothing depends on its success.
pub async fn catch_up(node: &Arc<Node>, request: &Request, put: PutId) {
    node.metrics.coordinator.repeated.inc();
    let deadline = node.clock.deadline(Duration::from_millis(CATCH_UP_MS)).min(request.deadline);
    let mut op = node
        .health
        .with(|health| CatchUp::start(node.me, &request.replicas, |peer| health.reachable(peer)));
    let others: Vec<_> = op.open().collect();
    let (answered, mut answers) = mpsc::channel(others.len().max(1));
    for other in others {
        let object = request.object.clone();
        let read = ReplicaOp::Read { object, unless: None, token: false, put: Some(put) };
        let answered = answered.clone();
        let reply = Box::new(move |result| {
            // Full or closed: nobody waits for it any more.
            answered.try_send((other, result)).ok();
        });
        node.peers.send(other, read, deadline, reply);
    }
    drop(answered);
    let gather = async {
        while !op.is_over() {
            match answers.recv().await {
                Some((from, Ok(ReplicaResult::Record { record, applied, .. }))) => {
                    op.on_answer(from, &record, applied);
                }
                Some((from, _)) => op.on_silence(from),
                None => break,
            }
        }
    };
    if tokio::time::timeout(node.clock.remaining(deadline), gather).await.is_err() {
        tracing::debug!("not all replicas told a repeated put what they have");
    }
    let (found, applied) = op.finish();
    if let Some(applied) = applied {
        node.store.remember_put(put, &request.object, applied);
    }
    if found.is_empty() {
        return;
    }
    let merge = node.merge_of(request.object.clone(), found);
    let merged = node.store.merge(vec![merge], Durability::Buffered, Some(request.deadline)).await;
    if let Err(error) = merged {
        tracing::debug!(%error, "a repeated put could not be caught up with");
    }
}
