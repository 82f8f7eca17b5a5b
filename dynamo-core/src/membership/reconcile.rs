//! What two agents tell each other in one round: hashes, then digests of the parts that differ, then
//! what each lacks (hazard C15: never the full table).
//!
//! Invariants: a delta holds at most [`GOSSIP_DELTA_BYTES_MAX`] bytes, or one item; the rest
//! follows in later rounds. Registers are compared within one cluster only.

use std::collections::BTreeMap;

use super::registers::Registers;
use super::state::{STATE_RANGES, range_of};
use super::view::{Delta, Membership};
use crate::id::NodeId;
use crate::limits::GOSSIP_DELTA_BYTES_MAX;
use crate::wire::gossip::{Digest, Summary, Want};

/// Hashes of everything this agent knows.
pub(super) fn summary(view: &Membership) -> Summary {
    let cluster = view.cluster();
    let staged = view.registers().staged.as_ref().filter(|entry| entry.cluster == cluster);
    Summary {
        history: view.version(),
        states: *view.states().ranges(),
        buckets: view.registers().buckets_hash(),
        staged: staged.map(|entry| entry.stamp),
    }
}

/// What this agent knows of all that differs. Registers are compared within one cluster only.
pub(super) fn digest(view: &Membership, theirs: &Summary, shared: bool) -> Digest {
    let mine = summary(view);
    let differing = (0..STATE_RANGES).filter(|r| mine.states.get(*r) != theirs.states.get(*r));
    let stamps = |registers: &Registers| {
        registers.buckets.iter().map(|(name, entry)| (name.clone(), entry.stamp)).collect()
    };
    Digest {
        history: (mine.history != theirs.history).then(|| view.history().digest()),
        states: differing.map(|range| (range, view.states().stamps(range).collect())).collect(),
        buckets: (shared && mine.buckets != theirs.buckets).then(|| stamps(view.registers())),
        staged: (shared && mine.staged != theirs.staged).then(|| mine.staged.into_iter().collect()),
    }
}

/// From a peer's digest: what it lacks, and what this agent lacks.
pub(super) fn compare(view: &Membership, theirs: &Digest, shared: bool) -> (Delta, Want) {
    let mut parcel = Parcel::new();
    let mut want = Want::default();
    if let Some(history) = &theirs.history {
        parcel.events(view, history);
        if view.history().lacks(history) {
            want.history = Some(view.history().digest());
        }
    }
    if let Some(staged) = theirs.staged.as_ref().filter(|_| shared) {
        let theirs = staged.first().copied();
        let mine = summary(view).staged;
        if mine > theirs {
            parcel.staged(view);
        }
        want.staged = mine < theirs;
    }
    if let Some(buckets) = theirs.buckets.as_ref().filter(|_| shared) {
        let mine = &view.registers().buckets;
        for (name, entry) in mine {
            if buckets.get(name).is_none_or(|theirs| *theirs < entry.stamp) {
                parcel.bucket(view, name);
            }
        }
        let newer = buckets
            .iter()
            .filter(|(name, theirs)| mine.get(*name).is_none_or(|mine| mine.stamp < **theirs));
        want.buckets = newer.map(|(name, _)| name.clone()).collect();
    }
    for (range, stamps) in &theirs.states {
        for (node, mine) in view.states().stamps(*range) {
            if stamps.get(&node).is_none_or(|theirs| *theirs < mine) {
                parcel.state(view, node);
            }
        }
        let newer = stamps.iter().filter(|(node, theirs)| {
            let mine = view.states().get(**node).map(|state| state.stamp);
            range_of(**node) == *range && mine.is_none_or(|mine| mine < **theirs)
        });
        want.states.extend(newer.map(|(node, _)| *node));
    }
    (parcel.delta, want)
}

/// What a peer asked for.
pub(super) fn give(view: &Membership, want: &Want) -> Delta {
    let mut parcel = Parcel::new();
    if let Some(history) = &want.history {
        parcel.events(view, history);
    }
    if want.staged {
        parcel.staged(view);
    }
    for name in &want.buckets {
        parcel.bucket(view, name);
    }
    for node in &want.states {
        parcel.state(view, *node);
    }
    parcel.delta
}

/// A delta within its byte budget: items are added while they fit, the first one always, so that
/// even one large item gets through. Events are added in order and stop at the first that does
/// not fit, so the receiver can insert all of them.
struct Parcel {
    delta: Delta,
    left: usize,
    empty: bool,
}

impl Parcel {
    fn new() -> Self {
        Self { delta: Delta::default(), left: GOSSIP_DELTA_BYTES_MAX, empty: true }
    }

    fn fits(&mut self, bytes: usize) -> bool {
        let fits = bytes <= self.left || self.empty;
        if fits {
            self.left = self.left.saturating_sub(bytes);
            self.empty = false;
        }
        fits
    }

    fn events(&mut self, view: &Membership, known: &BTreeMap<NodeId, u64>) {
        for event in view.history().missing(known) {
            if !self.fits(event.encode().len()) {
                break;
            }
            self.delta.events.push((**event).clone());
        }
    }

    fn staged(&mut self, view: &Membership) {
        let Some(entry) = &view.registers().staged else { return };
        let bytes = serde_json::to_vec(entry).map_or(usize::MAX, |encoded| encoded.len());
        if self.fits(bytes) {
            self.delta.staged = Some(entry.clone());
        }
    }

    fn bucket(&mut self, view: &Membership, name: &str) {
        let Some(entry) = view.registers().buckets.get(name) else { return };
        let bytes = serde_json::to_vec(entry).map_or(usize::MAX, |encoded| encoded.len());
        if self.fits(bytes + name.len()) {
            self.delta.buckets.insert(name.to_owned(), *entry);
        }
    }

    fn state(&mut self, view: &Membership, node: NodeId) {
        let Some(state) = view.states().get(node) else { return };
        if self.left > 0 && self.fits(view.states().bytes(node)) {
            self.delta.states.push(state.clone());
        }
    }
}
