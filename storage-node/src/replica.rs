//! Applies the operations of other coordinators to this node's replica: merges and hints of one
//! message in one commit each, reads inline.

use dynamo_core::clock::context::CausalContext;
use dynamo_core::clock::digest::RecordDigest;
use dynamo_core::clock::record::Record;
use dynamo_core::cluster_view::{ClusterView, MemberStatus};
use dynamo_core::id::{NodeId, PutId};
use dynamo_core::key::ObjectKey;
use dynamo_core::params::Durability;
use dynamo_core::ring::RingVersion;
use dynamo_core::time::Mono;
use dynamo_core::wire::replica::{ReplicaOp, ReplicaResult};
use service_kit::http::error::ErrorCode;

use crate::limits::REPLICA_ANSWER_BYTES_MAX;
use crate::node::{Node, store_code};
use crate::store::StoreError;
use crate::store::hints::{KeepRequest, KeepWhat};
use crate::store::merge::MergeRequest;
use crate::store::writer::StoreState;

/// How one message is to be worked on.
#[derive(Debug, Clone, Copy, Default)]
pub struct Terms {
    /// The ring of its sender, where it says so.
    pub senders_ring: Option<RingVersion>,
    /// When its sender stops waiting.
    pub deadline: Option<Mono>,
    /// Whether reads see this node's own replicas alone: background work compares what is stored,
    /// and a replica kept for another node is not stored here.
    pub stored_only: bool,
}

/// What a read is to tell.
#[derive(Debug, Clone, Copy)]
struct Wanted {
    unless: Option<RecordDigest>,
    token: bool,
    put: Option<PutId>,
}

/// The operations of one message, sorted by what has to be done. Places are those in the message.
#[derive(Default)]
struct Sorted {
    merges: Vec<MergeRequest>,
    merge_places: Vec<usize>,
    hints: Vec<KeepRequest>,
    hint_places: Vec<usize>,
    merge_durability: Durability,
    hint_durability: Durability,
}

impl Node {
    /// Applies a message; the results are in the order of its operations.
    pub async fn apply(&self, ops: Vec<ReplicaOp>, terms: Terms) -> Vec<ReplicaResult> {
        let started = self.clock.mono();
        self.metrics.replica.message_ops.observe(ops.len() as f64);
        if terms.stored_only {
            self.metrics.replica.background.inc_by(ops.len() as u64);
        }
        let mut results: Vec<Option<ReplicaResult>> = vec![None; ops.len()];
        let mut sorted = Sorted {
            merge_durability: Durability::Buffered,
            hint_durability: Durability::Buffered,
            ..Sorted::default()
        };
        let view = self.view.load_full();
        let mut answered = 0usize;
        for (place, (op, result)) in ops.into_iter().zip(&mut results).enumerate() {
            *result = match op {
                ReplicaOp::Read { object, unless, token, put } => {
                    self.metrics.replica.reads.inc();
                    let wanted = Wanted { unless, token, put };
                    let found = self.read(view.as_deref(), &object, wanted, terms);
                    Some(within_message(found, &mut answered))
                }
                ReplicaOp::Merge { object, record, hint_for, durability, puts } => {
                    self.metrics.replica.merges.inc();
                    // Merges are learned from as they are made.
                    if hint_for.is_some() || !puts.is_empty() {
                        self.store.learn_puts(&object, &record, &puts);
                    }
                    let refusal = view
                        .as_deref()
                        .and_then(|v| self.refusal(v, &object, hint_for, terms.senders_ring));
                    if refusal.is_none() {
                        self.sort(&mut sorted, place, object, record, hint_for, durability);
                    }
                    refusal
                }
            };
        }
        if self.store.state() == StoreState::Full || self.hints.state() == StoreState::Full {
            refuse_values(&mut sorted, &mut results);
        }
        self.write(sorted, &mut results, terms.deadline).await;
        let results: Vec<ReplicaResult> = results
            .into_iter()
            .map(|result| result.unwrap_or_else(|| refused(ErrorCode::Internal)))
            .collect();
        let refusals = results.iter().filter(|r| matches!(r, ReplicaResult::Refused { .. }));
        self.metrics.replica.refused.inc_by(refusals.count() as u64);
        let seconds = self.clock.mono().since(started).as_secs_f64();
        self.metrics.replica.message_seconds.observe(seconds);
        results
    }

    /// Why a merge is not this node's to take, if so. A sender with a newer ring may know better
    /// than we do; any other must not leave data where nobody will look for it.
    fn refusal(
        &self,
        view: &ClusterView,
        object: &ObjectKey,
        hint_for: Option<NodeId>,
        senders_ring: Option<RingVersion>,
    ) -> Option<ReplicaResult> {
        if let Some(target) = hint_for.filter(|target| *target != self.me) {
            let gone = view.node(target).is_none_or(|n| n.status == MemberStatus::Removed);
            return gone.then(|| refused(ErrorCode::Gone));
        }
        let newer = senders_ring.is_some_and(|ring| ring.number > view.version().number);
        (!newer && !self.takes(view, object)).then(|| refused(ErrorCode::NotOwner))
    }

    /// Whether a replica of `object` belongs here: the node is to have it, or still has its
    /// partition.
    #[must_use]
    pub fn takes(&self, view: &ClusterView, object: &ObjectKey) -> bool {
        let partition = view.ring().partition_of(object.position());
        let n = view.bucket(object.bucket()).n;
        self.possession.inventory().is_some_and(|inventory| inventory.accepts(partition, n))
    }

    fn sort(
        &self,
        sorted: &mut Sorted,
        place: usize,
        object: ObjectKey,
        record: Record,
        hint_for: Option<NodeId>,
        durability: Durability,
    ) {
        let durable = durability == Durability::Fsync;
        match hint_for.filter(|target| *target != self.me) {
            Some(target) => {
                let what = KeepWhat::Record(record);
                let reconciliation = self.reconciliation(object.bucket());
                sorted.hints.push(KeepRequest { object, target, what, reconciliation });
                sorted.hint_places.push(place);
                if durable {
                    sorted.hint_durability = durability;
                }
            }
            None => {
                sorted.merges.push(self.merge_of(object, record));
                sorted.merge_places.push(place);
                if durable {
                    sorted.merge_durability = durability;
                }
            }
        }
    }

    async fn write(
        &self,
        sorted: Sorted,
        results: &mut [Option<ReplicaResult>],
        deadline: Option<Mono>,
    ) {
        let targets: Vec<NodeId> = sorted.hints.iter().map(|hint| hint.target).collect();
        let merging = async {
            if sorted.merges.is_empty() {
                return Ok(());
            }
            self.store.merge(sorted.merges, sorted.merge_durability, deadline).await
        };
        let keeping = async {
            if sorted.hints.is_empty() {
                return Vec::new();
            }
            self.hints.keep(sorted.hints, sorted.hint_durability, deadline).await
        };
        let (merged, kept) = tokio::join!(merging, keeping);
        for place in sorted.merge_places {
            set(results, place, merged);
        }
        for ((place, kept), target) in sorted.hint_places.into_iter().zip(kept).zip(targets) {
            if kept.is_ok() {
                self.handoff.noted(target, self.clock.mono());
            }
            set(results, place, kept);
        }
    }

    fn read(
        &self,
        view: Option<&ClusterView>,
        object: &ObjectKey,
        wanted: Wanted,
        terms: Terms,
    ) -> ReplicaResult {
        let found = if terms.stored_only {
            self.store.read(object)
        } else {
            self.read_replica(object, self.reconciliation(object.bucket()))
        };
        let record = match found {
            Ok(None) => {
                // Asked after the read, see there.
                let holds = view.is_some_and(|view| self.holds(view, object));
                return ReplicaResult::Absent { holds };
            }
            Ok(Some(record)) => record,
            // What cannot be read any more is to be replaced by what the asker has.
            Err(StoreError::Corrupt) if terms.stored_only => {
                return ReplicaResult::Absent { holds: false };
            }
            Err(error) => return refused(store_code(error)),
        };
        if wanted.unless.is_some_and(|digest| digest == RecordDigest::of(&record)) {
            self.metrics.replica.reads_same.inc();
            return ReplicaResult::Same;
        }
        let token = if wanted.token {
            let context = CausalContext {
                clock: record.clock().clone(),
                stamp: record.latest_stamp(),
                fastest: Some(self.me),
            };
            match self.token(object, &context) {
                Ok(token) => Some(token),
                Err(error) => {
                    tracing::warn!(%error, "a context token could not be made");
                    return refused(ErrorCode::Internal);
                }
            }
        } else {
            None
        };
        let applied = wanted.put.and_then(|put| self.store.applied_put(put, object));
        ReplicaResult::Record { record, token, applied }
    }
}

/// Refuses what a full disk has no room for, so that the rest of the message can be done: what is
/// written in one commit is refused as a whole otherwise.
fn refuse_values(sorted: &mut Sorted, results: &mut [Option<ReplicaResult>]) {
    fn part<T>(
        items: &mut Vec<T>,
        places: &mut Vec<usize>,
        results: &mut [Option<ReplicaResult>],
        adds_values: impl Fn(&T) -> bool,
    ) {
        let all = std::mem::take(items).into_iter().zip(std::mem::take(places));
        for (item, place) in all {
            if adds_values(&item) {
                set(results, place, Err(StoreError::Full));
            } else {
                items.push(item);
                places.push(place);
            }
        }
    }
    part(&mut sorted.merges, &mut sorted.merge_places, results, MergeRequest::adds_values);
    part(&mut sorted.hints, &mut sorted.hint_places, results, KeepRequest::adds_values);
}

/// Refuses a record that would make the answer longer than any message may be; the asker then asks
/// for it alone.
fn within_message(result: ReplicaResult, answered: &mut usize) -> ReplicaResult {
    let ReplicaResult::Record { record, .. } = &result else { return result };
    let bytes = record.payload_bytes();
    if *answered > 0 && answered.saturating_add(bytes) > REPLICA_ANSWER_BYTES_MAX {
        return refused(ErrorCode::PayloadTooLarge);
    }
    *answered = answered.saturating_add(bytes);
    result
}

fn set(results: &mut [Option<ReplicaResult>], place: usize, done: Result<(), StoreError>) {
    if let Some(result) = results.get_mut(place) {
        *result = Some(match done {
            Ok(()) => ReplicaResult::Merged,
            Err(error) => refused(store_code(error)),
        });
    }
}

fn refused(code: ErrorCode) -> ReplicaResult {
    ReplicaResult::Refused { code: code.as_str().to_owned() }
}
