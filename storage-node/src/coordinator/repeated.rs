//! What a repeated put asks before it is applied.
//!
//! An earlier attempt may have reached another coordinator, which minted a dot and was then too
//! slow, or cut off, to say so. Minting a second dot for the same put is harmless while both
//! versions are there, as readers see them as one; but whoever supersedes the one he saw leaves the
//! other to rise. So the coordinator first fetches what the other replicas have of the key. If the
//! put is among it, it is answered with the dot that it has.
//!
//! Not here: finding the put in the record ([`dynamo_core::replica::coordinate_put`]).

use std::sync::Arc;

use dynamo_core::clock::digest::RecordDigest;
use dynamo_core::clock::record::Record;
use dynamo_core::params::Durability;
use dynamo_core::wire::replica::{ReplicaOp, ReplicaResult};
use tokio::sync::mpsc;

use super::request::Request;
use crate::limits::CATCH_UP_TIME;
use crate::node::Node;

/// Merges what the other replicas of the object have into this node's, as far as they answer in
/// time. Nothing depends on its success.
pub async fn catch_up(node: &Arc<Node>, request: &Request) {
    let deadline = node.clock.deadline(CATCH_UP_TIME).min(request.deadline);
    let unless = node.store.read(&request.object).ok().flatten().map(|own| RecordDigest::of(&own));
    let others: Vec<_> = request
        .replicas
        .write_targets()
        .into_iter()
        .filter(|other| *other != node.me && node.health.with(|health| health.reachable(*other)))
        .collect();
    let (answered, mut answers) = mpsc::channel(others.len().max(1));
    for other in others {
        let object = request.object.clone();
        let op = ReplicaOp::Read { object, unless, token: false };
        let answered = answered.clone();
        let reply = Box::new(move |result| {
            // Full or closed: nobody waits for it any more.
            answered.try_send(result).ok();
        });
        node.peers.send(other, op, deadline, reply);
    }
    drop(answered);
    let mut found = Record::default();
    let gather = async {
        while let Some(answer) = answers.recv().await {
            if let Ok(ReplicaResult::Record { record, .. }) = answer {
                found = found.sync(&record);
            }
        }
    };
    if tokio::time::timeout(node.clock.remaining(deadline), gather).await.is_err() {
        tracing::debug!("not all replicas told a repeated put what they have");
    }
    node.metrics.coordinator.repeated.inc();
    if found.is_empty() {
        return;
    }
    let merge = node.merge_of(request.object.clone(), found);
    let merged = node.store.merge(vec![merge], Durability::Buffered, Some(request.deadline)).await;
    if let Err(error) = merged {
        tracing::debug!(%error, "a repeated put could not be caught up with");
    }
}
