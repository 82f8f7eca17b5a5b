//! Everything that the requests of one node share, and the two things that every part of it asks:
//! which ring is in use, and what this node's own replica of an object is.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use dynamo_core::actor::Custody;
use dynamo_core::clock::context::{CausalContext, ContextError, ContextKeys};
use dynamo_core::clock::record::Record;
use dynamo_core::cluster_view::ClusterView;
use dynamo_core::id::NodeId;
use dynamo_core::key::{Bucket, ObjectKey};
use dynamo_core::params::Reconciliation;
use dynamo_core::replica::{joined, reconciled};
use service_kit::http::error::{ErrorCode, Problem};
use service_kit::time::Clock;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

use crate::background::Slices;
use crate::background::load::RecentLoad;
use crate::epoch::EpochKeeper;
use crate::freshness::Noted;
use crate::handoff::Handoff;
use crate::metrics::Metrics;
use crate::peers::health::PeerHealth;
use crate::peers::sender::Peers;
use crate::possession::Possession;
use crate::store::hints::HintStore;
use crate::store::merge::MergeRequest;
use crate::store::{Store, StoreError};

/// One storage node.
#[derive(Debug)]
pub struct Node {
    /// Its identity.
    pub me: NodeId,
    /// The clock.
    pub clock: Clock,
    /// The ring in use; `None` until one is known.
    pub view: Arc<ArcSwapOption<ClusterView>>,
    /// What the store has of each partition.
    pub possession: Possession,
    /// The records.
    pub store: Store,
    /// The hints.
    pub hints: HintStore,
    /// The actor.
    pub epochs: Arc<EpochKeeper>,
    /// The keys that sign contexts.
    pub contexts: ContextKeys,
    /// The way to the other nodes.
    pub peers: Peers,
    /// What is thought of them.
    pub health: Arc<PeerHealth>,
    /// When hints are delivered.
    pub handoff: Handoff,
    /// What requests say about the freshness of reads.
    pub noted: Noted,
    /// The metrics.
    pub metrics: Metrics,
    /// Bytes of one value at most.
    pub value_bytes_max: usize,
    /// Bounds the repairs on their way.
    pub repairs: Arc<Semaphore>,
    /// What runs beside requests, and how much of it.
    pub slices: Arc<Slices>,
    /// How many operations it had lately.
    pub load: RecentLoad,
    /// The rest of requests that were answered already.
    pub background: TaskTracker,
}

impl Node {
    /// The ring in use.
    ///
    /// # Errors
    /// `not_ready` where none is known yet.
    pub fn ring(&self) -> Result<Arc<ClusterView>, Problem> {
        self.view
            .load_full()
            .ok_or_else(|| Problem::new(ErrorCode::NotReady, "the ring is not known yet"))
    }

    /// Who reconciles in `bucket`, under the ring in use.
    #[must_use]
    pub fn reconciliation(&self, bucket: &Bucket) -> Reconciliation {
        self.view
            .load()
            .as_deref()
            .map_or(Reconciliation::default(), |view| view.bucket(bucket).reconciliation)
    }

    /// The merge of what another replica knows of `object`, under the ring in use.
    #[must_use]
    pub fn merge_of(&self, object: ObjectKey, record: Record) -> MergeRequest {
        let held = self.view.load().as_deref().is_some_and(|view| self.holds(view, &object));
        let custody = if held { Custody::Held } else { Custody::Arriving };
        let reconciliation = self.reconciliation(object.bucket());
        MergeRequest { object, record, reconciliation, custody }
    }

    /// This node's own replica of `object`, the hints that it keeps for others included: they
    /// answer reads while their owners are away (paper section 4.6).
    ///
    /// # Errors
    /// [`StoreError`]; the replica has then failed, which is not the same as being empty.
    pub fn read_replica(
        &self,
        object: &ObjectKey,
        reconciliation: Reconciliation,
    ) -> Result<Option<Record>, StoreError> {
        let stored = self.store.read(object)?;
        let hints = self.hints.for_object(object)?;
        if hints.is_empty() {
            return Ok(stored);
        }
        let join = |all: Record, hint: &Record| joined(&all, hint, reconciliation);
        let all = hints.iter().fold(stored.unwrap_or_default(), join);
        Ok(Some(reconciled(all, reconciliation)))
    }

    /// The token of a context.
    ///
    /// # Errors
    /// [`ContextError::TooLong`].
    pub fn token(
        &self,
        object: &ObjectKey,
        context: &CausalContext,
    ) -> Result<String, ContextError> {
        self.contexts.encode(object, context)
    }
}

/// The problem behind a failed operation of the store.
#[must_use]
pub fn store_problem(error: StoreError) -> Problem {
    use service_kit::http::error::Outcome;
    let outcome = if error.may_have_happened() { Outcome::Unknown } else { Outcome::NotApplied };
    Problem::new(store_code(error), error.to_string()).outcome(outcome)
}

/// The code of a failed operation of the store.
#[must_use]
pub fn store_code(error: StoreError) -> ErrorCode {
    match error {
        StoreError::Overloaded => ErrorCode::Overloaded,
        StoreError::Expired => ErrorCode::DeadlineExceeded,
        StoreError::Closed => ErrorCode::NotReady,
        StoreError::Full => ErrorCode::StoreFull,
        StoreError::Unavailable
        | StoreError::Corrupt
        | StoreError::CommitFailed
        | StoreError::HintsFull => ErrorCode::StoreUnavailable,
    }
}
