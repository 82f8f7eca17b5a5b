//! One comparison of two replicas (paper section 4.7): the roots of everything they have in common,
//! then the subtrees that differ, then the keys of the leaves that differ.
//!
//! A key that differs is looked at again after [`EXCHANGE_CONFIRM_MS`], since a write may be on
//! its way (hazard C9); what still differs is repaired both ways. What was repaired is compared
//! again from the roots, in up to [`EXCHANGE_PASSES_MAX`] passes. Where the roots are equal nothing
//! but roots is asked for, so equal replicas are quiet (I-15).
//!
//! A pass goes through the differing leaves in turns: the keys of some leaves are compared, then
//! what was found is repaired, so neither the state nor the age of a finding grows with the number
//! of differences. A key that cannot be repaired does not keep the others from their turn.
//!
//! | module | what it decides |
//! |---|---|
//! | [`descent`] | which subtrees are asked about next |
//! | [`listing`] | which keys differ, from two lists in pages |
//! | [`repair`] | whether they still do, and who lacks what |
//! | [`event`], [`outcome`] | what goes in and out |
//!
//! Not here: who is compared with whom, deadlines of requests (a request that fails is an event),
//! and how fast: the shell takes a slice before it performs an effect.

mod descent;
pub mod event;
mod listing;
pub mod outcome;
mod repair;

use std::collections::BTreeSet;
use std::time::Duration;

use crate::id::{PartitionId, StoreId};
use crate::key::ObjectKey;
use crate::limits::{
    EXCHANGE_CONFIRM_MS, EXCHANGE_KEYS_MAX, EXCHANGE_LEAVES_MAX, EXCHANGE_PASSES_MAX,
    EXCHANGE_REQUESTS_MAX, TREE_LEAVES_MAX,
};
use crate::merkle::digest::TreeDigest;
use crate::merkle::exchange::descent::{Descent, Question};
use crate::merkle::exchange::event::Sides;
use crate::merkle::exchange::listing::{Compared, Listing};
use crate::merkle::exchange::repair::{Ledger, Repairs, Suspect};
use crate::merkle::keys::KeyEntry;
use crate::ring::{Partitions, RingVersion};
use crate::time::Mono;
use crate::wire::tree::TreeState;

pub use event::{ExchangeEffect, ExchangeEvent, MergeAnswer, ReadAnswer, RecordRead, Side};
pub use outcome::{
    ClassPart, ExchangeCounts, ExchangeEnd, ExchangeFailure, ExchangeMode, ExchangePlan,
    ExchangeResult, ExchangeWitness,
};

/// What is waited for.
#[derive(Debug)]
enum Step {
    /// Nothing: something is to be chosen.
    Choose,
    /// The digests of both sides.
    Digests(Question),
    /// Pages of keys.
    Keys,
    /// The second look.
    Pause {
        until: Mono,
    },
    ReadNear,
    ReadFar,
    Merge,
    Done,
}

/// A failure of one side.
type SideFailure = (Side, ExchangeFailure);

/// The state of one exchange.
#[derive(Debug)]
pub struct Exchange {
    partitions: Partitions,
    mode: ExchangeMode,
    bytes_max: u64,
    /// What has not been found equal in this pass.
    open: BTreeSet<ClassPart>,
    descent: Descent,
    listing: Option<Listing>,
    /// Leaves whose keys were compared in this turn.
    turn_leaves: usize,
    repairs: Repairs,
    ledger: Ledger,
    stores: Sides<Option<StoreId>>,
    ring: Option<RingVersion>,
    rings_differ: bool,
    step: Step,
}

impl Exchange {
    /// Begins a comparison. With nothing in common it is over at once.
    #[must_use]
    pub fn start(plan: ExchangePlan, now: Mono) -> (Self, Vec<ExchangeEffect>) {
        let ExchangePlan { partitions, scope, mode, bytes_max } = plan;
        let mut exchange = Self {
            partitions,
            mode,
            bytes_max,
            descent: Descent::new(partitions, &scope),
            open: scope,
            listing: None,
            turn_leaves: 0,
            repairs: Repairs::new(mode),
            ledger: Ledger::default(),
            stores: Sides::default(),
            ring: None,
            rings_differ: false,
            step: Step::Choose,
        };
        exchange.ledger.counts.passes = 1;
        let mut effects = Vec::new();
        exchange.proceed(now, &mut effects);
        (exchange, effects)
    }

    /// Takes one event. Returns what to do; nothing while another answer is waited for, and
    /// nothing once the exchange is over. An answer that nobody waits for is ignored.
    pub fn on_event(&mut self, event: ExchangeEvent, now: Mono) -> Vec<ExchangeEffect> {
        let mut effects = Vec::new();
        if matches!(self.step, Step::Done) {
            return effects;
        }
        match self.take(event, now, &mut effects) {
            Ok(()) => self.proceed(now, &mut effects),
            Err((side, failure)) => {
                self.finish(ExchangeEnd::Failed { side, failure }, &mut effects)
            }
        }
        effects
    }

    /// What it has done so far.
    #[must_use]
    pub fn counts(&self) -> ExchangeCounts {
        self.ledger.counts
    }

    fn take(
        &mut self,
        event: ExchangeEvent,
        now: Mono,
        effects: &mut Vec<ExchangeEffect>,
    ) -> Result<(), SideFailure> {
        match event {
            ExchangeEvent::Digests { side, ring, store, state, digests } => {
                self.on_digests(side, (ring, store, state), digests)
            }
            ExchangeEvent::Keys { side, keys, next } => match &mut self.listing {
                Some(listing) if listing.expects(side) => {
                    listing.take(side, keys, next).map_err(|failure| (side, failure))
                }
                _ => Ok(()),
            },
            ExchangeEvent::Timer => {
                if let Step::Pause { until } = self.step {
                    if now < until {
                        effects.push(ExchangeEffect::Wait { until });
                    } else {
                        self.read_near(effects);
                    }
                }
                Ok(())
            }
            ExchangeEvent::Records { side, answers } => self.on_records(side, answers, effects),
            ExchangeEvent::Merged { side, answers } => {
                if self.repairs.expects_merged(side) {
                    let merged = self.repairs.merged(side, &answers, &mut self.ledger);
                    merged.map_err(|failure| (side, failure))?;
                }
                Ok(())
            }
            ExchangeEvent::TooLarge { side } => self.on_too_large(side, effects),
            ExchangeEvent::Failed { side, reason } => {
                Err((side, ExchangeFailure::Unanswered(reason)))
            }
        }
    }

    fn on_digests(
        &mut self,
        side: Side,
        (ring, store, state): (RingVersion, StoreId, TreeState),
        digests: Vec<TreeDigest>,
    ) -> Result<(), SideFailure> {
        let Step::Digests(question) = &mut self.step else { return Ok(()) };
        if question.answers.get(side).is_some() {
            return Ok(());
        }
        if state == TreeState::Building {
            return Err((side, ExchangeFailure::Building));
        }
        if digests.len() != question.prefixes.len() {
            return Err((side, ExchangeFailure::Malformed("another number of digests")));
        }
        *question.answers.get_mut(side) = Some(digests);
        if *self.stores.get_mut(side).get_or_insert(store) != store {
            return Err((side, ExchangeFailure::StoreReplaced));
        }
        self.rings_differ |= *self.ring.get_or_insert(ring) != ring;
        Ok(())
    }

    fn on_records(
        &mut self,
        side: Side,
        answers: Vec<ReadAnswer>,
        effects: &mut Vec<ExchangeEffect>,
    ) -> Result<(), SideFailure> {
        match (&self.step, side) {
            (Step::ReadNear, Side::Near) => {
                let reads = self.repairs.read_far(answers, &mut self.ledger);
                let reads = reads.map_err(|failure| (side, failure))?;
                if reads.is_empty() {
                    self.read_near(effects);
                } else {
                    self.step = Step::ReadFar;
                    self.ask(ExchangeEffect::ReadRecords { side: Side::Far, reads }, effects);
                }
            }
            (Step::ReadFar, Side::Far) => {
                let judged = self.repairs.judge(answers, &mut self.ledger);
                judged.map_err(|failure| (side, failure))?;
                self.step = Step::Merge;
            }
            _ => {}
        }
        Ok(())
    }

    fn on_too_large(
        &mut self,
        side: Side,
        effects: &mut Vec<ExchangeEffect>,
    ) -> Result<(), SideFailure> {
        match (&self.step, side) {
            (Step::ReadNear, Side::Near) | (Step::ReadFar, Side::Far) => {
                self.repairs.read_too_large(&mut self.ledger);
                self.read_near(effects);
                Ok(())
            }
            (Step::Merge, _) => {
                self.repairs.merge_too_large(side, &mut self.ledger);
                Ok(())
            }
            // Digests and keys are bounded by their number; this side does not keep to it.
            _ => Err((side, ExchangeFailure::Malformed("an answer larger than a message"))),
        }
    }

    /// Moves on as far as possible.
    fn proceed(&mut self, now: Mono, effects: &mut Vec<ExchangeEffect>) {
        self.conclude_digests();
        if matches!(self.step, Step::Keys) {
            self.step = Step::Choose;
        }
        if matches!(self.step, Step::Merge) && !self.is_merging() {
            self.merge(effects);
        }
        while matches!(self.step, Step::Choose) {
            self.choose(now, effects);
        }
    }

    /// What comes next where nothing is waited for: the rest of the keys, further leaves, then a
    /// second look at what was found.
    fn choose(&mut self, now: Mono, effects: &mut Vec<ExchangeEffect>) {
        if self.ledger.counts.requests >= EXCHANGE_REQUESTS_MAX {
            return self.finish(ExchangeEnd::DifferencesLeft, effects);
        }
        let has_room = self.repairs.suspects() < EXCHANGE_KEYS_MAX;
        if has_room && self.listing.is_some() {
            return self.compare_keys(effects);
        }
        if has_room && self.turn_leaves < EXCHANGE_LEAVES_MAX {
            if let Some(question) = self.descent.next_question() {
                return self.ask_digests(question, effects);
            }
            let room = TREE_LEAVES_MAX.min(EXCHANGE_LEAVES_MAX - self.turn_leaves);
            if let Some((class, leaves)) = self.descent.next_leaves(room) {
                self.turn_leaves += leaves.len();
                self.ledger.counts.leaves += u64::try_from(leaves.len()).unwrap_or(u64::MAX);
                self.listing = Some(Listing::new(class, leaves));
                return;
            }
        }
        self.turn_leaves = 0;
        if self.repairs.suspects() > 0 {
            let until = now.plus(Duration::from_millis(EXCHANGE_CONFIRM_MS));
            self.step = Step::Pause { until };
            effects.push(ExchangeEffect::Wait { until });
        } else if self.listing.is_none() && self.descent.is_over() {
            self.end_pass(effects);
        }
    }

    fn ask_digests(&mut self, question: Question, effects: &mut Vec<ExchangeEffect>) {
        for side in Side::BOTH {
            let (class, prefixes) = (question.class, question.prefixes.clone());
            self.ask(ExchangeEffect::AskDigests { side, class, prefixes }, effects);
        }
        self.step = Step::Digests(question);
    }

    fn conclude_digests(&mut self) {
        let Step::Digests(question) = &mut self.step else { return };
        let Sides { near, far } = &mut question.answers;
        if near.is_none() || far.is_none() {
            return;
        }
        let (near, far) = (near.take().unwrap_or_default(), far.take().unwrap_or_default());
        let (class, are_roots) = (question.class, question.are_roots);
        let prefixes = std::mem::take(&mut question.prefixes);
        self.ledger.counts.prefixes += u64::try_from(prefixes.len()).unwrap_or(u64::MAX);
        let compared = prefixes.into_iter().zip(near).zip(far).map(|((p, n), f)| (p, n, f));
        let equal = self.descent.answered(class, are_roots, compared, self.mode);
        if are_roots {
            for root in equal {
                self.open.remove(&(class, PartitionId(root.index())));
            }
        }
        self.step = Step::Choose;
    }

    /// Compares the listed keys until there are enough suspects, or more pages are needed.
    fn compare_keys(&mut self, effects: &mut Vec<ExchangeEffect>) {
        let Some(listing) = &mut self.listing else { return };
        let class = listing.class();
        while self.repairs.suspects() < EXCHANGE_KEYS_MAX {
            match listing.compare() {
                Compared::Key(near, far) => {
                    self.ledger.counts.keys += 1;
                    if let Some(suspect) = suspect(self.mode, near, far, |object| {
                        (class, self.partitions.of(object.position()))
                    }) {
                        self.ledger.counts.differing += 1;
                        self.repairs.add(suspect);
                    }
                }
                Compared::Short => {
                    let before = effects.len();
                    listing.ask(effects);
                    let asked = u64::try_from(effects.len() - before).unwrap_or(u64::MAX);
                    self.ledger.counts.requests += asked;
                    self.step = Step::Keys;
                    return;
                }
                Compared::Over => {
                    self.listing = None;
                    return;
                }
            }
        }
    }

    /// The next batch of suspects, or on with the pass where none are left.
    fn read_near(&mut self, effects: &mut Vec<ExchangeEffect>) {
        if self.ledger.counts.bytes_moved() >= self.bytes_max {
            return self.finish(ExchangeEnd::DifferencesLeft, effects);
        }
        let reads = self.repairs.read_near();
        if reads.is_empty() {
            self.step = Step::Choose;
        } else {
            self.step = Step::ReadNear;
            self.ask(ExchangeEffect::ReadRecords { side: Side::Near, reads }, effects);
        }
    }

    fn is_merging(&self) -> bool {
        Side::BOTH.iter().any(|side| self.repairs.expects_merged(*side))
    }

    /// The next merges of the batch; the next batch where none are left.
    fn merge(&mut self, effects: &mut Vec<ExchangeEffect>) {
        for side in Side::BOTH {
            let records = self.repairs.merge(side, &mut self.ledger);
            if !records.is_empty() {
                self.ask(ExchangeEffect::Merge { side, records }, effects);
            }
        }
        if !self.is_merging() {
            self.read_near(effects);
        }
    }

    fn end_pass(&mut self, effects: &mut Vec<ExchangeEffect>) {
        let again = std::mem::take(&mut self.ledger.again);
        let repaired = std::mem::take(&mut self.ledger.repaired);
        self.open = again;
        if self.open.is_empty() {
            return self.finish(ExchangeEnd::Agreed, effects);
        }
        // Where nothing could be repaired another look finds the same.
        if !repaired || self.ledger.counts.passes >= EXCHANGE_PASSES_MAX {
            return self.finish(ExchangeEnd::DifferencesLeft, effects);
        }
        self.ledger.counts.passes += 1;
        self.descent = Descent::new(self.partitions, &self.open);
    }

    fn ask(&mut self, effect: ExchangeEffect, effects: &mut Vec<ExchangeEffect>) {
        self.ledger.counts.requests += 1;
        effects.push(effect);
    }

    fn finish(&mut self, end: ExchangeEnd, effects: &mut Vec<ExchangeEffect>) {
        let mut left = std::mem::take(&mut self.open);
        left.append(&mut self.ledger.again);
        let witness = match (self.ring, self.stores.near, self.stores.far) {
            (Some(ring), Some(near), Some(far)) if !self.rings_differ => {
                Some(ExchangeWitness { ring, near, far })
            }
            _ => None,
        };
        let counts = self.ledger.counts;
        effects.push(ExchangeEffect::Done(ExchangeResult { end, left, witness, counts }));
        self.step = Step::Done;
    }
}

/// The key as one to be looked at again, where the lists differ in it and `mode` cares.
fn suspect(
    mode: ExchangeMode,
    near: Option<KeyEntry>,
    far: Option<KeyEntry>,
    part: impl Fn(&ObjectKey) -> ClassPart,
) -> Option<Suspect> {
    let digest = |entry: &Option<KeyEntry>| entry.as_ref().map(|entry| entry.digest);
    let (near_digest, far_digest) = (digest(&near), digest(&far));
    if near_digest == far_digest || (mode == ExchangeMode::PushOnly && near.is_none()) {
        return None;
    }
    let object = near.or(far)?.object;
    Some(Suspect { part: part(&object), object, far: far_digest })
}
