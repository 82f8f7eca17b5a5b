//! The steps by which a node comes to hold one partition.
//!
//! ```text
//! waiting → offered → copying: (fetch → merge → checkpoint)* → closing: compare* → hold
//!         ↘ no holder
//! ```
//! A node that holds the partition from a greater depth already goes straight to closing: most of
//! it is there, and the comparison moves the rest.

use std::collections::BTreeSet;
use std::time::Duration;

use super::holders::{Holders, source};
use super::progress::Progress;
use super::retry::Retry;
use crate::entropy::Entropy;
use crate::id::{NodeId, PartitionId, StoreId};
use crate::key::ObjectKey;
use crate::limits::TRANSFERS_PER_SOURCE_MAX;
use crate::merkle::scan_order;
use crate::ring::Partitions;
use crate::time::Mono;
use crate::wire::partition::Page;
use crate::wire::worker::TransferState;

/// What is waited for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    Idle,
    Fetch { source: NodeId },
    Merge { source: NodeId, next: Option<ObjectKey>, records: u64, bytes: u64, unreadable: u64 },
    Save { source: NodeId },
    Compare { peer: NodeId },
    Hold,
}

/// What is to be done next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    Fetch {
        source: NodeId,
        after: Option<ObjectKey>,
    },
    Compare {
        peer: NodeId,
        classes: Vec<u8>,
    },
    Hold,
    /// Nothing before these were asked what they have.
    Ask(Vec<NodeId>),
    /// Nothing for now.
    Wait,
}

/// One partition on its way here.
#[derive(Debug)]
pub(super) struct Gain {
    pub(super) progress: Progress,
    pub(super) state: TransferState,
    pub(super) step: Step,
    pub(super) retry: Retry,
    pub(super) error: Option<String>,
    pub(super) accepted_loss: bool,
    /// Holders that were found equal under the present ring.
    pub(super) agreed: BTreeSet<NodeId>,
    /// The source or peer that failed last.
    avoid: Option<NodeId>,
    /// When this process began to copy it, and what was copied before.
    begun: Option<(Mono, u64)>,
}

/// What a gain looks at.
pub(super) struct GainContext<'a, L> {
    pub(super) partition: PartitionId,
    /// The classes that are needed and not held, ascending.
    pub(super) missing: &'a [u8],
    /// Whether a part of the partition is held already.
    pub(super) is_partly_held: bool,
    pub(super) holders: &'a Holders,
    /// Partitions in work per source.
    pub(super) load: L,
}

impl Gain {
    pub(super) fn new(progress: Progress) -> Self {
        Self {
            progress,
            state: TransferState::Waiting,
            step: Step::Idle,
            retry: Retry::default(),
            error: None,
            accepted_loss: false,
            agreed: BTreeSet::new(),
            avoid: None,
            begun: None,
        }
    }

    /// The node that it is copied from or compared with now.
    pub(super) fn peer(&self) -> Option<NodeId> {
        match &self.step {
            Step::Fetch { source } | Step::Merge { source, .. } | Step::Save { source } => {
                Some(*source)
            }
            Step::Compare { peer } => Some(*peer),
            Step::Idle | Step::Hold => None,
        }
    }

    /// Decides the next step of an idle gain, and names it in [`Gain::state`].
    pub(super) fn next<L: Fn(NodeId) -> usize>(&mut self, context: &GainContext<'_, L>) -> Next {
        let GainContext { partition, missing, is_partly_held, holders, load } = context;
        if missing.is_empty() || self.accepted_loss {
            return Next::Hold;
        }
        if !holders.unasked.is_empty() {
            self.state = TransferState::Offered;
            return Next::Ask(holders.unasked.clone());
        }
        if holders.known.is_empty() {
            let nobody = holders.silent.is_empty();
            self.state = if nobody { TransferState::NoHolder } else { TransferState::Waiting };
            return Next::Wait;
        }
        if !self.progress.copied && !is_partly_held {
            let limit = TRANSFERS_PER_SOURCE_MAX;
            let Some(source) = source(holders, *partition, missing, load, limit, self.avoid) else {
                self.state = TransferState::Waiting;
                return Next::Wait;
            };
            self.state = TransferState::Copying;
            return Next::Fetch { source, after: self.progress.cursor.clone() };
        }
        self.state = TransferState::Closing;
        let open = holders.known.iter().find(|(node, _)| !self.agreed.contains(node));
        if let Some((peer, from)) = open {
            let classes = missing.iter().copied().filter(|class| class >= from).collect();
            return Next::Compare { peer: *peer, classes };
        }
        if holders.suffice(&self.agreed) { Next::Hold } else { Next::Wait }
    }

    /// Notes that the step has begun.
    pub(super) fn begin(&mut self, next: &Next, now: Mono) {
        self.step = match next {
            Next::Fetch { source, .. } => {
                self.begun.get_or_insert((now, self.progress.records));
                if self.progress.source.is_some_and(|before| before != *source) {
                    self.progress.restarts = self.progress.restarts.saturating_add(1);
                }
                self.progress.source = Some(*source);
                Step::Fetch { source: *source }
            }
            Next::Compare { peer, .. } => Step::Compare { peer: *peer },
            Next::Hold => Step::Hold,
            Next::Ask(_) | Next::Wait => Step::Idle,
        };
    }

    /// A page came: whether it continues the copy. It is to be merged then.
    ///
    /// # Errors
    /// Why it does not.
    pub(super) fn paged(
        &mut self,
        partitions: Partitions,
        partition: PartitionId,
        page: &Page,
    ) -> Result<(), &'static str> {
        let Step::Fetch { source } = self.step else { return Err("no page was asked for") };
        let mut last = self.progress.cursor.as_ref();
        for (object, _) in &page.records {
            if partitions.of(object.position()) != partition {
                return Err("the page has an object of another partition");
            }
            if last.is_some_and(|last| scan_order(last, object).is_ge()) {
                return Err("the page is out of order");
            }
            last = Some(object);
        }
        if let Some(next) = &page.next {
            let onward = last.is_none_or(|last| scan_order(last, next).is_le());
            let moves = self.progress.cursor.as_ref() != Some(next);
            if !onward || !moves {
                return Err("the page does not lead on");
            }
        }
        let bytes = page.records.iter().map(|(_, record)| record.payload_bytes()).sum::<usize>();
        self.step = Step::Merge {
            source,
            next: page.next.clone(),
            records: count(page.records.len()),
            bytes: count(bytes),
            unreadable: page.unreadable,
        };
        Ok(())
    }

    /// The page is merged durably: the progress to be stored. `None` where none was on its way.
    pub(super) fn merged(&mut self) -> Option<&Progress> {
        let Step::Merge { source, next, records, bytes, unreadable } =
            std::mem::replace(&mut self.step, Step::Idle)
        else {
            return None;
        };
        let progress = &mut self.progress;
        progress.records = progress.records.saturating_add(records);
        progress.bytes = progress.bytes.saturating_add(bytes);
        progress.unreadable = progress.unreadable.saturating_add(unreadable);
        progress.copied = next.is_none();
        if next.is_some() {
            progress.cursor = next;
        }
        self.step = Step::Save { source };
        Some(&self.progress)
    }

    /// A step succeeded.
    pub(super) fn succeeded(&mut self) {
        self.step = Step::Idle;
        self.retry.succeeded();
        self.avoid = None;
        self.error = None;
    }

    /// The step failed: another source is preferred when it is tried again.
    pub(super) fn failed(&mut self, reason: String, now: Mono, entropy: &mut impl Entropy) {
        self.avoid = self.peer();
        self.step = Step::Idle;
        self.state = TransferState::Waiting;
        self.error = Some(reason);
        self.retry.failed(now, entropy);
        self.progress.restarts = self.progress.restarts.saturating_add(1);
    }

    /// The ring changed: what was agreed under the old one counts no more.
    pub(super) fn ring_changed(&mut self) {
        self.agreed.clear();
        self.accepted_loss = false;
        if matches!(self.step, Step::Compare { .. } | Step::Hold) {
            self.step = Step::Idle;
        }
    }

    /// The own store is another one: nothing of it is here.
    pub(super) fn store_changed(&mut self, store: StoreId) {
        *self = Self::new(Progress { restarts: self.progress.restarts, ..Progress::new(store) });
    }

    /// Estimated time until everything is copied, from the rate since this process began.
    pub(super) fn eta(&self, total: Option<u64>, now: Mono) -> Option<Duration> {
        let (at, before) = self.begun.filter(|_| !self.progress.copied)?;
        let done = self.progress.records.checked_sub(before).filter(|done| *done > 0)?;
        let left = total?.saturating_sub(self.progress.records);
        let millis = u64::try_from(now.since(at).as_millis()).ok()?;
        Some(Duration::from_millis(millis.saturating_mul(left) / done))
    }
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}
