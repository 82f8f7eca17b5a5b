//! The one place where the view changes. Whatever happens, a commit here, gossip from a peer, a
//! report of the storage node, takes the same path: decide on the present view, make the delta
//! durable, apply it, publish the new ring snapshot. Changes take turns; readers never wait for
//! the disk.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};

use bytes::Bytes;
use dynamo_core::id::NodeId;
use dynamo_core::membership::fold::Fold;
use dynamo_core::membership::gossip::{
    Gossip, GossipEffect, GossipEvent, GossipRefusal, GossipReply, seal,
};
use dynamo_core::membership::history::{Change, Event};
use dynamo_core::membership::judge::Judged;
use dynamo_core::membership::member::MemberStatus;
use dynamo_core::membership::plan::{FoundingParams, unsettled};
use dynamo_core::membership::state::Stamp;
use dynamo_core::membership::view::{Delta, Membership};
use dynamo_core::ring::ClaimViolation;
use dynamo_core::time::Mono;
use dynamo_core::wire::gossip::{GossipBody, GossipMessage};
use dynamo_core::wire::membership::NodeView;
use service_kit::peer::PeerIdentity;
use service_kit::readiness::Readiness;
use service_kit::rng::OsEntropy;
use service_kit::time::Clock;
use tokio::sync::{OwnedMutexGuard, watch};
use tokio_util::task::TaskTracker;

use crate::metrics::Metrics;
use crate::store::{Store, StoreError};

/// The condition of readiness: this process speaks for its node.
pub const IDENTITY: &str = "identity";

/// The ring snapshot as it is served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// The JSON of the snapshot.
    pub body: Bytes,
    /// Its entity tag, quoted.
    pub etag: String,
}

/// Why a change did not happen.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError<E> {
    /// It is refused.
    #[error("{0}")]
    Refused(E),
    /// A newer process speaks for this node.
    #[error("a newer process speaks for this node")]
    Fenced,
    /// It could not be made durable, and nothing changed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What an agent is made of.
#[derive(Debug)]
pub struct Parts {
    /// What is known at the start.
    pub view: Membership,
    /// Where it is kept.
    pub store: Store,
    /// What a cluster is founded with.
    pub founding: FoundingParams,
    /// Who speaks in calls to peers.
    pub identity: PeerIdentity,
    /// The readiness latch.
    pub readiness: Readiness,
    /// The metrics.
    pub metrics: Metrics,
    /// The clock.
    pub clock: Clock,
}

/// The agent. Shared by all handlers and tasks.
#[derive(Debug)]
pub struct Agent {
    view: RwLock<Membership>,
    gossip: Mutex<Gossip>,
    /// Held from deciding to applying.
    turn: Arc<tokio::sync::Mutex<()>>,
    store: Store,
    /// Work on the file, which goes on where its caller is gone.
    disk_work: TaskTracker,
    founding: FoundingParams,
    identity: PeerIdentity,
    readiness: Readiness,
    fenced: AtomicBool,
    published: watch::Sender<Option<Published>>,
    storage_heard_at: Mutex<Option<Mono>>,
    /// What it counts.
    pub metrics: Metrics,
    /// Its clock.
    pub clock: Clock,
}

impl Agent {
    /// An agent that serves what it knows already.
    #[must_use]
    pub fn new(parts: Parts) -> Arc<Self> {
        let (published, _) = watch::channel(None);
        parts.readiness.require(IDENTITY);
        parts.readiness.set(IDENTITY);
        let agent = Arc::new(Self {
            view: RwLock::new(parts.view),
            gossip: Mutex::new(Gossip::new()),
            turn: Arc::default(),
            store: parts.store,
            disk_work: TaskTracker::new(),
            founding: parts.founding,
            identity: parts.identity,
            readiness: parts.readiness,
            fenced: AtomicBool::new(false),
            published,
            storage_heard_at: Mutex::new(None),
            metrics: parts.metrics,
            clock: parts.clock,
        });
        agent.publish();
        agent
    }

    /// The present view. Never hold it over an await.
    pub fn view(&self) -> RwLockReadGuard<'_, Membership> {
        self.view.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a cluster is founded with.
    #[must_use]
    pub fn founding(&self) -> FoundingParams {
        self.founding
    }

    /// The published snapshot and its successors; `None` before the founding.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<Option<Published>> {
        self.published.subscribe()
    }

    /// Whether a newer process speaks for this node.
    #[must_use]
    pub fn is_fenced(&self) -> bool {
        self.fenced.load(Ordering::Acquire)
    }

    /// The node and the state of its agent.
    #[must_use]
    pub fn node(&self) -> NodeView {
        let view = self.view();
        let state = view.my_state();
        NodeView {
            node: state.node,
            name: state.name.clone(),
            incarnation: state.stamp.incarnation,
            cluster: view.cluster(),
            status: view.status(state.node).unwrap_or(MemberStatus::Candidate),
            fenced: self.is_fenced(),
            version: view.version(),
        }
    }

    /// Notes that the storage node of this host has reported.
    pub fn heard_storage(&self) {
        let mut heard = self.storage_heard_at.lock().unwrap_or_else(PoisonError::into_inner);
        *heard = Some(self.clock.mono());
    }

    /// Changes the view by what `decide` makes of the present one. Returns whether anything
    /// changed.
    ///
    /// # Errors
    /// [`ChangeError`]; then nothing changed.
    pub async fn change<E>(
        self: &Arc<Self>,
        decide: impl FnOnce(&Membership) -> Result<Option<Delta>, E>,
    ) -> Result<bool, ChangeError<E>> {
        if self.is_fenced() {
            return Err(ChangeError::Fenced);
        }
        let turn = Arc::clone(&self.turn).lock_owned().await;
        let decided = decide(&self.view()).map_err(ChangeError::Refused)?;
        let Some(delta) = decided else { return Ok(false) };
        self.take(turn, delta).await?;
        Ok(true)
    }

    /// Lets gossip decide, with the turn where it may bring a delta.
    ///
    /// # Errors
    /// The refusal, or where the delta could not be made durable.
    pub async fn on_request(
        self: &Arc<Self>,
        message: GossipMessage,
    ) -> Result<GossipMessage, ChangeError<GossipRefusal>> {
        if self.is_fenced() {
            return Err(ChangeError::Fenced);
        }
        let carries = matches!(message.body, GossipBody::Push { .. });
        let turn = if carries { Some(Arc::clone(&self.turn).lock_owned().await) } else { None };
        let (now, wall) = (self.clock.mono(), self.clock.wall());
        let reply: GossipReply = {
            let view = self.view();
            let mut gossip = self.gossip.lock().unwrap_or_else(PoisonError::into_inner);
            gossip.on_request(&view, message, now, wall).map_err(ChangeError::Refused)?
        };
        if let Some(turn) = turn {
            self.accept(turn, reply.judged).await?;
        }
        Ok(seal(&self.view(), reply.body))
    }

    /// Advances an own round. Returns the effects that are left to perform.
    ///
    /// # Errors
    /// Where a delta could not be made durable; it will come again.
    pub async fn on_event(
        self: &Arc<Self>,
        event: GossipEvent,
    ) -> Result<Vec<GossipEffect>, StoreError> {
        let turn = Arc::clone(&self.turn).lock_owned().await;
        let (now, wall) = (self.clock.mono(), self.clock.wall());
        let effects = {
            let view = self.view();
            let mut gossip = self.gossip.lock().unwrap_or_else(PoisonError::into_inner);
            gossip.on_event(&view, event, now, wall, &mut OsEntropy)
        };
        let mut left = Vec::new();
        let mut accepted = Vec::new();
        for effect in effects {
            match effect {
                GossipEffect::Accept(judged) => accepted.push(judged),
                other => left.push(other),
            }
        }
        // A round brings at most one delta.
        if let Some(judged) = accepted.pop() {
            self.accept(turn, judged).await?;
        }
        Ok(left)
    }

    /// What has to be done now and then: saying that this node is there, forgetting those that
    /// are not, and looking at the rates.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub async fn maintain(self: &Arc<Self>) -> Result<(), StoreError> {
        let now = self.clock.mono();
        let refreshed = self.change(|view| Ok::<_, NodeId>(view.refresh(now))).await;
        if let Err(ChangeError::Store(error)) = refreshed {
            return Err(error);
        }
        let forgotten = {
            let _turn = self.turn.lock().await;
            self.view.write().unwrap_or_else(PoisonError::into_inner).forget_silent(now)
        };
        if forgotten > 0 {
            tracing::info!(forgotten, "silent nodes that are no members were forgotten");
            let agent = Arc::clone(self);
            self.blocking(move || {
                let known: Vec<NodeId> =
                    agent.view().states().iter().map(|state| state.node).collect();
                agent.publish();
                agent.store.forget(&|node| known.contains(&node))
            })
            .await?;
        }
        self.observe(now);
        Ok(())
    }

    /// Stops speaking for the node: a newer process does (I-24).
    pub async fn fence(self: &Arc<Self>, newer: Option<Stamp>) {
        if self.fenced.swap(true, Ordering::AcqRel) {
            return;
        }
        let incarnation = newer.map(|stamp| stamp.incarnation);
        tracing::error!(
            node = %self.identity.node(),
            mine = self.identity.incarnation().0,
            newer = incarnation.map(|incarnation| incarnation.0),
            "a newer process speaks for this node: this one is fenced until it is restarted"
        );
        self.metrics.fenced.set(1);
        self.readiness.clear(IDENTITY, "a newer process speaks for this node");
        if let Some(incarnation) = incarnation {
            let agent = Arc::clone(self);
            let outlived = self.blocking(move || agent.store.outlive(incarnation)).await;
            if let Err(error) = outlived {
                tracing::error!(%error, "the newer incarnation could not be recorded");
            }
        }
    }

    async fn accept(
        self: &Arc<Self>,
        turn: OwnedMutexGuard<()>,
        judged: Judged,
    ) -> Result<(), StoreError> {
        self.metrics.known_parts.inc_by(u64::from(judged.known));
        self.metrics.refused_parts.inc_by(judged.refused.len() as u64);
        if let Some(refusal) = judged.refused.first() {
            tracing::warn!(count = judged.refused.len(), first = %refusal, "gossip was refused");
        }
        if let Some(newer) = judged.fenced {
            drop(turn);
            self.fence(Some(newer)).await;
            return Ok(());
        }
        if judged.accept.is_empty() {
            return Ok(());
        }
        self.take(turn, judged.accept).await
    }

    /// Makes a delta durable, applies and publishes it. Runs to its end even where the caller is
    /// gone, so that disk and memory never differ.
    async fn take(
        self: &Arc<Self>,
        turn: OwnedMutexGuard<()>,
        delta: Delta,
    ) -> Result<(), StoreError> {
        let agent = Arc::clone(self);
        self.blocking(move || {
            agent.store.persist(&delta)?;
            agent.apply(delta);
            agent.publish();
            drop(turn);
            Ok(())
        })
        .await
    }

    /// Runs disk work off the runtime's threads, to its end.
    async fn blocking(
        &self,
        work: impl FnOnce() -> Result<(), StoreError> + Send + 'static,
    ) -> Result<(), StoreError> {
        match self.disk_work.spawn_blocking(work).await {
            Ok(done) => done,
            Err(_) => Err(StoreError::Damaged("task: it panicked or the process is stopping")),
        }
    }

    /// Ends the agent once nobody else has it: waits for what is under way on the disk, and closes
    /// the file, so that whoever comes next may open it.
    pub async fn close(self: Arc<Self>) {
        self.disk_work.close();
        self.disk_work.wait().await;
        if Arc::into_inner(self).is_none() {
            tracing::error!("the membership file stays open: a task has not ended");
        }
    }

    fn apply(&self, delta: Delta) {
        let events = delta.events.clone();
        let mut view = self.view.write().unwrap_or_else(PoisonError::into_inner);
        let applied = view.apply(delta, self.clock.mono());
        let (version, cluster) = (view.version(), view.cluster());
        let fold = view.fold().cloned();
        drop(view);
        if let Err(error) = applied {
            // Judged deltas always fit; what is left out here comes again with the next round.
            tracing::error!(%error, "an accepted event could not be applied");
        }
        if let Some(cluster) = cluster
            && self.identity.cluster() != Some(cluster)
        {
            tracing::info!(%cluster, "this node belongs to the cluster");
            self.identity.set_cluster(cluster);
        }
        for event in &events {
            log_event(event, fold.as_deref(), version);
        }
    }

    /// Publishes the snapshot where it changed.
    fn publish(&self) {
        let (snapshot, pending) = {
            let view = self.view();
            self.count_nodes(&view);
            (view.snapshot(), unsettled(&view))
        };
        self.metrics.partitions_pending.set(i64::try_from(pending).unwrap_or(i64::MAX));
        let Some(snapshot) = snapshot else { return };
        let body = serde_json::to_vec(&snapshot)
            .expect("a snapshot has string keys only and no failing serializer");
        let etag = snapshot.etag(&body);
        self.published.send_if_modified(|published| {
            let changed = published.as_ref().is_none_or(|published| published.etag != etag);
            if changed {
                *published = Some(Published { body: body.into(), etag });
            }
            changed
        });
    }

    fn count_nodes(&self, view: &Membership) {
        let gauge = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
        self.metrics.history_events.set(gauge(view.history().len()));
        self.metrics.staged.set(gauge(view.staged().len()));
        let members = view.fold().map_or(0, |fold| fold.members.len());
        let violations = view.fold().map_or(&[][..], |fold| &fold.violations);
        for kind in ClaimViolation::KINDS {
            let number = violations.iter().filter(|violation| violation.kind() == kind).count();
            self.metrics.violations.with_label_values(&[kind]).set(gauge(number));
        }
        let count = |status: MemberStatus| {
            let states = view.states().iter();
            states.filter(|state| view.status(state.node) == Some(status)).count()
        };
        for (status, number) in [
            (MemberStatus::Member, members),
            (MemberStatus::Candidate, count(MemberStatus::Candidate)),
            (MemberStatus::Leaving, count(MemberStatus::Leaving)),
        ] {
            self.metrics.nodes.with_label_values(&[status.as_str()]).set(gauge(number));
        }
    }

    fn observe(&self, now: Mono) {
        let (alarm, age) = {
            let gossip = self.gossip.lock().unwrap_or_else(PoisonError::into_inner);
            (gossip.rate_alarm(now), gossip.age(now))
        };
        if alarm && self.metrics.rate_alarm.get() == 0 {
            tracing::error!("more gossip arrives than a healthy cluster sends");
        }
        self.metrics.rate_alarm.set(i64::from(alarm));
        self.metrics.convergence_age.set(age.map_or(-1.0, |age| age.as_secs_f64()));
        let heard = *self.storage_heard_at.lock().unwrap_or_else(PoisonError::into_inner);
        let age = heard.map_or(-1.0, |at| now.since(at).as_secs_f64());
        self.metrics.storage_report_age.set(age);
    }
}

/// One line per change.
fn log_event(event: &Event, fold: Option<&Fold>, ring: dynamo_core::ring::RingVersion) {
    let skipped = |index: usize| {
        fold.and_then(|fold| {
            fold.skipped.iter().find(|skip| skip.event == event.id && skip.index == index)
        })
    };
    for (index, change) in event.changes.iter().enumerate() {
        let (kind, node) = describe(change);
        let issuer = event.id.issuer;
        match skipped(index) {
            None => tracing::info!(kind, node, %issuer, %ring, "membership changed"),
            Some(skip) => {
                tracing::warn!(kind, node, %issuer, %ring, reason = %skip.reason, "change skipped");
            }
        }
    }
}

/// The kind of a change and the node it is about.
#[must_use]
pub fn describe(change: &Change) -> (&'static str, String) {
    match change {
        Change::Init { cluster, .. } => ("init", cluster.to_string()),
        Change::Join { joiner } => ("join", joiner.node.to_string()),
        Change::Leave { node, forced: false } => ("leave", node.to_string()),
        Change::Leave { node, forced: true } => ("force_remove", node.to_string()),
        Change::Replace { node, .. } => ("replace", node.to_string()),
        Change::SetWeight { node, .. } => ("set_weight", node.to_string()),
        Change::SetZone { node, .. } => ("set_zone", node.to_string()),
        Change::SetAddress { node, .. } => ("set_address", node.to_string()),
    }
}
