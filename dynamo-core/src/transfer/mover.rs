//! All partitions on the move at one node: what the background worker does next.
//!
//! The worker tells what it learns ([`Mover::on_view`], [`Mover::on_own`], [`Mover::on_event`]) and
//! performs what [`Mover::poll`] returns; it polls after every event, and once a second. Work is
//! bounded: at most [`TRANSFERS_MAX`] partitions come in at a time, [`TRANSFERS_PER_SOURCE_MAX`] of
//! them from one source, and [`RELEASES_MAX`] go out. Partitions that are nearly there come first.
//!
//! Nothing moves while worker and store work with different rings.
//!
//! Not here: requests, slices of background work, the files of the progress.
//!
//! [`TRANSFERS_MAX`]: crate::limits::TRANSFERS_MAX
//! [`TRANSFERS_PER_SOURCE_MAX`]: crate::limits::TRANSFERS_PER_SOURCE_MAX
//! [`RELEASES_MAX`]: crate::limits::RELEASES_MAX

mod event;
mod poll;
mod report;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

pub use event::{AcceptLossError, MoveEffect, MoveEvent, Ticket};

use poll::{is_surplus, missing};

use super::gain::{self, Gain};
use super::give_up::{self, GiveUp};
use super::holders::Offers;
use super::progress::Progress;
use crate::cluster_view::ClusterView;
use crate::entropy::Entropy;
use crate::id::{NodeId, PartitionId};
use crate::time::Mono;
use crate::wire::partition::{PartitionInfo, PartitionsDocument};
use crate::wire::worker::TransferState;

/// How soon a partition that had to wait for others is looked at again without news.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// A partition in work, with the ticket of the step that is under way.
#[derive(Debug)]
struct Task<T> {
    work: T,
    ticket: u64,
    look_at: Mono,
}

/// All movement of one node.
#[derive(Debug)]
pub struct Mover {
    me: NodeId,
    view: Option<Arc<ClusterView>>,
    own: Option<PartitionsDocument>,
    offers: Offers,
    gains: BTreeMap<PartitionId, Task<Gain>>,
    give_ups: BTreeMap<PartitionId, Task<GiveUp>>,
    /// Durable progress of earlier lives whose partitions were not looked at yet.
    stored: BTreeMap<PartitionId, Progress>,
    forget: BTreeSet<PartitionId>,
    minted: u64,
    records: u64,
    bytes: u64,
}

impl Mover {
    /// The movement of node `me`, with the progress that was found on disk.
    #[must_use]
    pub fn new(me: NodeId, progress: impl IntoIterator<Item = (PartitionId, Progress)>) -> Self {
        Self {
            me,
            view: None,
            own: None,
            offers: Offers::default(),
            gains: BTreeMap::new(),
            give_ups: BTreeMap::new(),
            stored: progress.into_iter().collect(),
            forget: BTreeSet::new(),
            minted: 0,
            records: 0,
            bytes: 0,
        }
    }

    /// Takes a new view of the cluster.
    pub fn on_view(&mut self, view: Arc<ClusterView>) {
        let same = self.view.as_ref().is_some_and(|before| {
            before.version() == view.version() && before.classes() == view.classes()
        });
        self.view = Some(view);
        if !same {
            self.offers.clear();
            self.gains.values_mut().for_each(|task| task.work.ring_changed());
            self.give_ups.values_mut().for_each(|task| task.work.ring_changed());
        }
        self.reconcile();
    }

    /// Takes what the own storage node says it has.
    pub fn on_own(&mut self, document: PartitionsDocument) {
        if document.check().is_err() {
            return;
        }
        if self.own.as_ref().is_some_and(|before| before.store != document.store) {
            for task in self.gains.values_mut() {
                task.work.store_changed(document.store);
            }
            self.give_ups.clear();
        }
        self.own = Some(document);
        self.reconcile();
    }

    /// Whether the partition is on its way here or away from here.
    #[must_use]
    pub fn is_moving(&self, partition: PartitionId) -> bool {
        self.gains.contains_key(&partition) || self.give_ups.contains_key(&partition)
    }

    /// An operator accepts that the data of these partitions, which nobody holds, is lost.
    ///
    /// # Errors
    /// [`AcceptLossError`] where one of them is not known to be without holder; nothing changes.
    pub fn accept_loss(&mut self, partitions: &[PartitionId]) -> Result<(), AcceptLossError> {
        let lost = |task: &Task<Gain>| task.work.state == TransferState::NoHolder;
        let found = |partition: &PartitionId| self.gains.get(partition).is_some_and(lost);
        if let Some(other) = partitions.iter().find(|partition| !found(partition)) {
            return Err(AcceptLossError(other.0));
        }
        for partition in partitions {
            if let Some(task) = self.gains.get_mut(partition) {
                task.work.accepted_loss = true;
                task.look_at = Mono::default();
            }
        }
        Ok(())
    }

    /// What is to be done now. Every effect but [`MoveEffect::Forget`] is answered by one event.
    pub fn poll(&mut self, now: Mono, reachable: impl Fn(NodeId) -> bool) -> Vec<MoveEffect> {
        let mut effects: Vec<MoveEffect> = std::mem::take(&mut self.forget)
            .into_iter()
            .map(|partition| MoveEffect::Forget { partition })
            .collect();
        if let Some(view) = self.settled_view() {
            self.poll_gains(&view, now, &reachable, &mut effects);
            self.poll_give_ups(&view, now, &reachable, &mut effects);
        }
        effects
    }

    /// The view, where the own storage node works with the same ring.
    fn settled_view(&self) -> Option<Arc<ClusterView>> {
        let view = self.view.as_ref()?;
        let own = self.own.as_ref()?;
        let usable = own.ring == view.version() && !view.ring().is_empty();
        usable.then(|| Arc::clone(view))
    }

    fn info(&self, partition: PartitionId) -> (Option<u8>, bool) {
        let info = self.own.as_ref().and_then(|own| own.get(partition));
        info.map_or((None, false), |info| (info.held_from, info.leftover))
    }

    /// Brings the tasks in line with what the ring wants and the store has.
    fn reconcile(&mut self) {
        let Some(view) = self.settled_view() else { return };
        let Some(store) = self.own.as_ref().map(|own| own.store) else { return };
        for partition in view.partitions().iter() {
            let need = view.needs_from(self.me, partition);
            let (held, leftover) = self.info(partition);
            let gains =
                need.is_some() && (held.is_none() || !missing(&view, need, held).is_empty());
            let gives = !gains && (is_surplus(&view, need, held) || leftover);
            let stored = self.stored.remove(&partition);
            if gains {
                let progress = stored.filter(|progress| progress.store == store).map(|progress| {
                    Progress { restarts: progress.restarts.saturating_add(1), ..progress }
                });
                let new = || Task {
                    work: Gain::new(progress.unwrap_or_else(|| Progress::new(store))),
                    ticket: 0,
                    look_at: Mono::default(),
                };
                self.gains.entry(partition).or_insert_with(new).look_at = Mono::default();
            } else if self.gains.remove(&partition).is_some() || stored.is_some() {
                self.forget.insert(partition);
            }
            if gives {
                let new = || Task { work: GiveUp::new(), ticket: 0, look_at: Mono::default() };
                self.give_ups.entry(partition).or_insert_with(new).look_at = Mono::default();
            } else {
                self.give_ups.remove(&partition);
            }
        }
    }

    /// Takes the answer to an effect. Returns what follows from it at once; then poll. Answers to
    /// steps that are not under way any more are ignored.
    pub fn on_event(
        &mut self,
        event: MoveEvent,
        now: Mono,
        entropy: &mut impl Entropy,
    ) -> Vec<MoveEffect> {
        let ticket = match &event {
            MoveEvent::Offer { node, document } => {
                self.offers.answered(*node, document.clone(), now);
                self.gains.values_mut().for_each(|task| task.look_at = Mono::default());
                self.give_ups.values_mut().for_each(|task| task.look_at = Mono::default());
                return Vec::new();
            }
            MoveEvent::Page { ticket, .. }
            | MoveEvent::Merged { ticket }
            | MoveEvent::Saved { ticket }
            | MoveEvent::Compared { ticket, .. }
            | MoveEvent::Done { ticket }
            | MoveEvent::Dropped { ticket, .. }
            | MoveEvent::Failed { ticket, .. } => *ticket,
        };
        let is_gain = self
            .gains
            .get(&ticket.partition)
            .is_some_and(|task| task.ticket == ticket.number && task.work.step != gain::Step::Idle);
        let is_give_up = self.give_ups.get(&ticket.partition).is_some_and(|task| {
            task.ticket == ticket.number && task.work.step != give_up::Step::Idle
        });
        if is_gain {
            self.on_gain(ticket, event, now, entropy)
        } else {
            if is_give_up {
                self.on_give_up(ticket, event, now, entropy);
            } else if !self.gains.contains_key(&ticket.partition) {
                // A checkpoint that was under way may have been written after it was forgotten.
                self.forget.insert(ticket.partition);
            }
            Vec::new()
        }
    }

    fn on_gain(
        &mut self,
        ticket: Ticket,
        event: MoveEvent,
        now: Mono,
        entropy: &mut impl Entropy,
    ) -> Vec<MoveEffect> {
        let partition = ticket.partition;
        let (Some(view), Some(own)) = (&self.view, &self.own) else { return Vec::new() };
        let Some(task) = self.gains.get_mut(&partition) else { return Vec::new() };
        let work = &mut task.work;
        match (event, work.step.clone()) {
            (MoveEvent::Page { page, .. }, gain::Step::Fetch { .. }) => {
                match work.paged(view.partitions(), partition, &page) {
                    Ok(()) => return vec![MoveEffect::Merge { ticket, records: page.records }],
                    Err(reason) => work.failed(reason.to_owned(), now, entropy),
                }
            }
            (MoveEvent::Merged { .. }, gain::Step::Merge { records, bytes, .. }) => {
                self.records = self.records.saturating_add(records);
                self.bytes = self.bytes.saturating_add(bytes);
                if let Some(progress) = work.merged().cloned() {
                    return vec![MoveEffect::Checkpoint { ticket, progress }];
                }
            }
            (MoveEvent::Saved { .. }, gain::Step::Save { .. }) => work.succeeded(),
            (MoveEvent::Compared { agreed, .. }, gain::Step::Compare { peer }) => {
                let fits = |ring, near| ring == view.version() && near == own.store;
                if agreed.is_some_and(|witness| fits(witness.ring, witness.near)) {
                    work.succeeded();
                    work.agreed.insert(peer);
                } else {
                    work.failed("the comparison left differences".to_owned(), now, entropy);
                }
            }
            (MoveEvent::Done { .. }, gain::Step::Hold) => {
                self.gains.remove(&partition);
                self.forget.insert(partition);
                let held_from = view.needs_from(self.me, partition);
                self.note_own(partition, |info| info.held_from = held_from);
            }
            (MoveEvent::Failed { reason, .. }, _) => work.failed(reason, now, entropy),
            // The shell answers effects in kind; anything else is as good as no answer.
            _ => work.failed("an answer that does not fit the step".to_owned(), now, entropy),
        }
        Vec::new()
    }

    fn on_give_up(
        &mut self,
        ticket: Ticket,
        event: MoveEvent,
        now: Mono,
        entropy: &mut impl Entropy,
    ) {
        let partition = ticket.partition;
        let (Some(view), Some(own)) = (&self.view, &self.own) else { return };
        let need = view.needs_from(self.me, partition);
        let Some(task) = self.give_ups.get_mut(&partition) else { return };
        let work = &mut task.work;
        match (event, work.step) {
            (MoveEvent::Compared { agreed, .. }, give_up::Step::Compare { peer }) => {
                let fits = |ring, near| ring == view.version() && near == own.store;
                if agreed.is_some_and(|witness| fits(witness.ring, witness.near)) {
                    work.agreed(peer);
                } else {
                    work.failed("the comparison left differences".to_owned(), now, entropy);
                }
            }
            (MoveEvent::Done { .. }, give_up::Step::Release) => {
                work.released(now);
                self.note_own(partition, |info| {
                    info.held_from = need;
                    info.leftover = true;
                });
            }
            (MoveEvent::Dropped { done, dropped, .. }, give_up::Step::Drop) => {
                work.dropped = work.dropped.saturating_add(dropped);
                work.succeeded();
                if done {
                    self.note_own(partition, |info| info.leftover = false);
                    self.give_ups.remove(&partition);
                }
            }
            (MoveEvent::Failed { reason, .. }, _) => work.failed(reason, now, entropy),
            _ => work.failed("an answer that does not fit the step".to_owned(), now, entropy),
        }
    }

    /// Notes what the own store has just done, until it says so itself.
    fn note_own(&mut self, partition: PartitionId, change: impl FnOnce(&mut PartitionInfo)) {
        let Some(own) = &mut self.own else { return };
        let found = own.partitions.binary_search_by_key(&partition, |info| info.partition);
        let index = found.unwrap_or_else(|index| {
            let info = PartitionInfo {
                partition,
                wanted: true,
                held_from: None,
                leftover: false,
                records: None,
            };
            own.partitions.insert(index, info);
            index
        });
        if let Some(info) = own.partitions.get_mut(index) {
            change(info);
        }
    }
}
