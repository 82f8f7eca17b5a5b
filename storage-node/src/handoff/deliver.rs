//! One batch of hints to one target, or, where the target has no part in a key any more, to the
//! nodes that own it now.

use std::sync::Arc;

use dynamo_core::admission::Kind;
use dynamo_core::clock::digest::RecordDigest;
use dynamo_core::clock::record::Record;
use dynamo_core::cluster_view::ClusterView;
use dynamo_core::handoff::hint::{BatchEnd, HintBatchBudget, HintWork};
use dynamo_core::id::NodeId;
use dynamo_core::key::ObjectKey;
use dynamo_core::params::Durability;
use dynamo_core::replica::reconciled;
use dynamo_core::wire::replica::{ReplicaOp, ReplicaResult};
use tokio::sync::oneshot;

use crate::limits::{HINT_DELIVERY_TIMEOUT, HINT_SLICE_WAIT};
use crate::node::Node;
use crate::store::StoreError;
use crate::store::hints::StoredHint;

/// What is known of one hint's delivery.
enum Delivery {
    /// Nothing has to be sent any more.
    Nothing,
    /// Sent, and the answers are awaited.
    Sent(Vec<oneshot::Receiver<bool>>, Option<RecordDigest>),
    /// It could not even be read.
    Unreadable,
}

/// Delivers one batch and removes what was acknowledged.
pub async fn batch(node: &Arc<Node>, view: &ClusterView, work: HintWork) -> BatchEnd {
    let (HintWork::Deliver(target) | HintWork::Retarget(target)) = work;
    let _slice = match node.slices.take(Kind::Hints, HINT_SLICE_WAIT).await {
        Ok(slice) => slice,
        Err(refused) => return failed(node, target, &refused.to_string()),
    };
    let page = match node.hints.page(target, None) {
        Ok(page) => page,
        Err(error) => return failed(node, target, &error.to_string()),
    };
    let mut budget = HintBatchBudget::new();
    let mut more = page.next.is_some();
    let mut batch = Vec::with_capacity(page.hints.len());
    for hint in page.hints {
        if !budget.admit(usize::try_from(hint.bytes).unwrap_or(usize::MAX)) {
            more = true;
            break;
        }
        batch.push(hint);
    }
    if batch.is_empty() {
        // A page whose rows were all unreadable is gone by the next look.
        return if more { BatchEnd::More } else { BatchEnd::Drained };
    }
    let mut sent = Vec::with_capacity(batch.len());
    for hint in batch {
        let n = view.bucket(hint.object.bucket()).n;
        let to = view.replica_sets(hint.object.position(), n).hint_receivers(target);
        let delivery = deliver(node, &hint, &to).await;
        sent.push((hint, delivery));
    }
    let (mut delivered, mut own) = (Vec::with_capacity(sent.len()), Vec::new());
    let mut all = true;
    for (hint, delivery) in sent {
        let done = match delivery {
            Delivery::Nothing => true,
            Delivery::Unreadable => false,
            Delivery::Sent(answers, of) => {
                let mut done = true;
                for answer in answers {
                    done &= answer.await.unwrap_or(false);
                }
                own.extend(of.filter(|_| done).map(|digest| (hint.object.clone(), digest)));
                done
            }
        };
        all &= done;
        if done {
            delivered.push(hint);
        }
    }
    match node.hints.remove_delivered(target, delivered).await {
        Ok(removed) => node.metrics.hints.delivered.inc_by(removed),
        Err(error) => return failed(node, target, &error.to_string()),
    }
    clear_away(node, view, own).await;
    match (all, more) {
        (false, _) => failed(node, target, "not all hints were taken"),
        // Hints that changed meanwhile are still there, so only an empty page is the end.
        (true, _) => BatchEnd::More,
    }
}

/// Removes own records that this node was not to have and kept for a hint alone: left here, they
/// would keep the others from ever removing theirs. Only as they were delivered: what was written
/// since is owed again.
async fn clear_away(node: &Node, view: &ClusterView, own: Vec<(ObjectKey, RecordDigest)>) {
    let strange = |object: &ObjectKey| {
        // A hint that cannot be looked for may be there.
        !node.takes(view, object) && !node.hints.owes(object).unwrap_or(true)
    };
    let records: Vec<_> = own.into_iter().filter(|(object, _)| strange(object)).collect();
    if records.is_empty() {
        return;
    }
    match node.store.clear_away(records).await {
        Ok(removed) => node.metrics.store.partitions.dropped.inc_by(removed),
        Err(error) => tracing::debug!(%error, "delivered records were not cleared away"),
    }
}

fn failed(node: &Node, target: NodeId, why: &str) -> BatchEnd {
    node.metrics.hints.delivery_failures.inc();
    tracing::debug!(%target, why, "a delivery of hints failed");
    BatchEnd::Failed
}

/// Sends one hint to `to`. A hint by reference is our own record as it is now.
async fn deliver(node: &Arc<Node>, stored: &StoredHint, to: &[NodeId]) -> Delivery {
    let reconciliation = node.reconciliation(stored.object.bucket());
    let mut record = stored.hint.record.clone().unwrap_or_default();
    let mut digest = None;
    if stored.hint.reference {
        match node.store.read(&stored.object) {
            Ok(own) => {
                digest = own.as_ref().map(RecordDigest::of);
                record = reconciled(record.sync(&own.unwrap_or_default()), reconciliation);
            }
            // What we cannot read any more the others repair from each other.
            Err(StoreError::Corrupt) => {}
            Err(error) => {
                tracing::debug!(%error, "an own record could not be read for delivery");
                return Delivery::Unreadable;
            }
        }
    }
    if record.is_empty() {
        return Delivery::Nothing;
    }
    let mut answers = Vec::with_capacity(to.len());
    for target in to {
        if *target == node.me {
            let merge = node.merge_of(stored.object.clone(), record.clone());
            if node.store.merge(vec![merge], Durability::Fsync, None).await.is_err() {
                return Delivery::Unreadable;
            }
            continue;
        }
        answers.push(send(node, stored, &record, *target));
    }
    Delivery::Sent(answers, digest)
}

fn send(
    node: &Node,
    stored: &StoredHint,
    record: &Record,
    target: NodeId,
) -> oneshot::Receiver<bool> {
    let (acked, answer) = oneshot::channel();
    let op = ReplicaOp::Merge {
        object: stored.object.clone(),
        record: record.clone(),
        hint_for: None,
        durability: Durability::Fsync,
        // Those that were away when they came and went.
        puts: node.store.superseded_puts(&stored.object, record),
    };
    let deadline = node.clock.deadline(HINT_DELIVERY_TIMEOUT);
    let reply = Box::new(move |result| {
        // Nobody waits when the process stops; the hint stays and is delivered later.
        acked.send(matches!(result, Ok(ReplicaResult::Merged))).ok();
    });
    node.peers.send(target, op, deadline, reply);
    answer
}
