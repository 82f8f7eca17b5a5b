//! Comparing the tree with the records that it sums (I-17). A tree that only ever adds and
//! subtracts never notices that a record vanished, and a record that nobody reads is never
//! verified; so all of it is read again, slowly, and every checksum on the way.
//!
//! One step reads records and sums of some leaves in one snapshot. What a sum lacks is added by a
//! job on the writer, which is right also if the leaf changed since (see [`super::tree`]). Where
//! the tree was complete and no unreadable record explains the difference, a record has vanished,
//! and the actor's epoch ends.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use dynamo_core::clock::digest::RecordDigest;
use dynamo_core::key::ObjectKey;
use dynamo_core::merkle::{Leaf, entry_digest};
use dynamo_core::wire::tree::TreeState;
use tokio::sync::oneshot;

use super::engine::{KeyRange, Snapshot, Tables};
use super::error::{EngineError, StoreError};
use super::tree::disk::{TreeReadError, read_head, read_sums};
use super::tree::form::{Head, LEAVES, Pass};
use super::tree::jobs::TreeChange;
use super::tree::{Suspicion, leaf_of};
use super::writer::WriteJob;
use super::{RECORDS, Shared, Store};
use crate::limits::{
    BUILD_STEP_LEAVES, SCAN_BYTES_MAX, SCAN_ROWS_MAX, SCRUB_STEP_BYTES, SCRUB_STEP_LEAVES,
};

/// What is to be scrubbed next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScrubStep {
    /// A leaf about which there are doubts, at once.
    Suspect(Leaf),
    /// The next leaves of the pass that builds the tree, at once.
    Build(Leaf),
    /// The next leaves of the regular pass, when its time has come.
    Regular(Leaf),
}

/// What one step found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScrubReport {
    /// Leaves compared.
    pub leaves: u32,
    /// Records verified.
    pub records: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Leaves whose sum was wrong, in any class.
    pub differences: usize,
    /// Whether a full pass ended with it.
    pub pass_ended: bool,
}

/// What one snapshot shows of some leaves.
#[derive(Debug)]
struct Found {
    head: Head,
    /// The last leaf that was read to its end.
    last: Leaf,
    sums: BTreeMap<(u8, Leaf), u128>,
    truth: BTreeMap<(u8, Leaf), u128>,
    /// Keys of records that cannot be read.
    unreadable: Vec<(Vec<u8>, String)>,
    records: u64,
    bytes: u64,
}

impl Store {
    /// What is to be scrubbed next; `None` while the tree has no rows yet.
    #[must_use]
    pub fn next_scrub(&self) -> Option<ScrubStep> {
        let tree = &self.shared.tree;
        let head = tree.head();
        if head.generation == 0 || !tree.is_enabled() {
            return None;
        }
        let next = if head.pass.next >= LEAVES { 0 } else { head.pass.next };
        let next = Leaf(u16::try_from(next).unwrap_or(0));
        if tree.state() == TreeState::Building {
            return Some(ScrubStep::Build(next));
        }
        Some(tree.first_suspect().map_or(ScrubStep::Regular(next), ScrubStep::Suspect))
    }

    /// Waits until there may be something to scrub out of turn.
    pub async fn scrub_wanted(&self) {
        self.shared.tree.wake.notified().await;
    }

    /// Compares the leaves of `step` and mends what differs. Reads on the calling thread; not for
    /// the async runtime.
    ///
    /// # Errors
    /// [`StoreError`]; the step is then to be tried again.
    pub fn scrub(&self, step: ScrubStep) -> Result<ScrubReport, StoreError> {
        let (first, leaves) = match step {
            ScrubStep::Suspect(leaf) => (leaf, 1),
            ScrubStep::Build(leaf) => (leaf, BUILD_STEP_LEAVES),
            ScrubStep::Regular(leaf) => (leaf, SCRUB_STEP_LEAVES),
        };
        if self.shared.tree.head().generation == 0 {
            // The first commit, which writes the tree, is still to come.
            return Err(StoreError::Unavailable);
        }
        let last = Leaf(first.0.saturating_add(leaves - 1));
        let mut explained = self.shared.tree.take_suspects(first, last);
        let clears = self.shared.tree.clears();
        let found = self.compare(first, last)?;
        // What lies beyond the leaves that were read is still to be looked at.
        explained.retain(|leaf, why| {
            let read = *leaf <= found.last;
            if !read {
                self.shared.tree.suspect(*leaf, *why);
            }
            read
        });
        for (key, why) in &found.unreadable {
            self.shared.lost(key, why);
            explained.insert(leaf_of(key), Suspicion::Unreadable);
        }
        self.remove_strays(&found);
        let differences = differences(&found);
        let vanished = found.head.built && self.judge(&differences, &explained);
        let pass = match step {
            ScrubStep::Suspect(_) => None,
            ScrubStep::Build(_) | ScrubStep::Regular(_) => {
                let started = if first == Leaf(0) {
                    self.shared.clock.wall()
                } else {
                    found.head.pass.started
                };
                Some(Pass { next: u32::from(found.last.0) + 1, started })
            }
        };
        let pass_ended = pass.is_some_and(|pass| pass.next >= LEAVES);
        let report = ScrubReport {
            leaves: u32::from(found.last.0 - first.0) + 1,
            records: found.records,
            bytes: found.bytes,
            differences: differences.len(),
            pass_ended,
        };
        self.count(&report, found.head.built);
        if !differences.is_empty() || pass.is_some() {
            let generation = found.head.generation;
            let finished = pass_ended;
            let change = TreeChange::Mend { generation, clears, differences, pass, finished };
            self.mend(change)?;
        }
        if vanished {
            // Once it is mended, or the check of the file would lead to the next one.
            self.shared.vanished.store(true, Ordering::Release);
        }
        if pass_ended {
            self.shared.tree.metrics.passes.inc();
            tracing::info!(was_built = found.head.built, "a full pass of the scrub ended");
        }
        Ok(report)
    }

    /// Removes rows whose key names no object: their own record is repaired under its right key, and
    /// nothing would ever replace them.
    fn remove_strays(&self, found: &Found) {
        let is_stray = |key: &&Vec<u8>| ObjectKey::from_storage_key(key).is_err();
        let keys: Vec<_> =
            found.unreadable.iter().map(|(key, _)| key).filter(is_stray).cloned().collect();
        if !keys.is_empty() {
            let shared = Arc::clone(&self.shared);
            self.writer.submit(Box::new(StrayJob { shared, keys }));
        }
    }

    fn mend(&self, change: TreeChange) -> Result<(), StoreError> {
        let (reply, result) = oneshot::channel();
        let shared = Arc::clone(&self.shared);
        self.writer.submit(Box::new(super::TreeJob::new(shared, change, reply)));
        // Where the tree began anew or was cleared meanwhile, what was measured is void, and the
        // pass has not come further.
        result.blocking_recv().unwrap_or(Err(StoreError::Closed)).map(|_| ())
    }

    /// Ends the epoch where a record vanished from a tree that was complete; true if so.
    fn judge(
        &self,
        differences: &[(u8, Leaf, u128)],
        explained: &BTreeMap<Leaf, Suspicion>,
    ) -> bool {
        let mut vanished = false;
        for (class, leaf, _) in differences {
            let known = explained.get(leaf) == Some(&Suspicion::Unreadable);
            let unreadable = known || self.shared.tree.is_suspect(*leaf);
            tracing::error!(leaf = leaf.0, class, unreadable, "records and tree differ; mending");
            if !unreadable {
                self.shared.epochs.end(0, "records differ from the tree");
                vanished = true;
            }
        }
        vanished
    }

    fn count(&self, report: &ScrubReport, was_built: bool) {
        let metrics = &self.shared.tree.metrics;
        metrics.scrubbed_leaves.inc_by(u64::from(report.leaves));
        metrics.scrubbed_records.inc_by(report.records);
        metrics.scrubbed_bytes.inc_by(report.bytes);
        if was_built {
            metrics.mismatches.inc_by(report.differences as u64);
        }
    }

    fn compare(&self, first: Leaf, last: Leaf) -> Result<Found, StoreError> {
        let mut found = Err(TreeReadError::NoHead);
        let looked = self.engine.snapshot(&mut |snapshot| {
            found = look(snapshot, first, last);
            Ok(())
        });
        match looked.map_err(TreeReadError::from).and(found) {
            Ok(found) => Ok(found),
            Err(TreeReadError::Engine(error)) => {
                if matches!(error, EngineError::Damaged(_)) {
                    self.meet_damage(first, last);
                }
                Err(self.read_failed(&error))
            }
            Err(error) => {
                tracing::error!(%error, "the tree is unreadable and is built anew");
                self.shared.epochs.end(0, "the tree of the store is unreadable");
                self.reset_tree();
                Err(StoreError::Corrupt)
            }
        }
    }

    /// Lets the writer read these leaves: if the page is damaged indeed, the file is opened anew
    /// and in the end given up, and the node refills from its peers.
    fn meet_damage(&self, first: Leaf, last: Leaf) {
        self.writer.submit(Box::new(DamageJob(records_of(first, last))));
    }
}

/// Reads records and sums of the leaves from `first`, up to `last` or as many as fit one step.
fn look(snapshot: &dyn Snapshot, first: Leaf, last: Leaf) -> Result<Found, TreeReadError> {
    let head = read_head(snapshot)?.ok_or(TreeReadError::NoHead)?;
    let mut found = Found {
        head,
        last: first,
        sums: BTreeMap::new(),
        truth: BTreeMap::new(),
        unreadable: Vec::new(),
        records: 0,
        bytes: 0,
    };
    for leaf in (first.0..=last.0).map(Leaf) {
        add_leaf(snapshot, leaf, &mut found)?;
        found.last = leaf;
        if found.bytes >= SCRUB_STEP_BYTES {
            break;
        }
    }
    found.sums = read_sums(snapshot, first, found.last)?;
    Ok(found)
}

fn add_leaf(snapshot: &dyn Snapshot, leaf: Leaf, found: &mut Found) -> Result<(), EngineError> {
    let (mut from, to) = records_of(leaf, leaf);
    loop {
        let range = (from, to.clone());
        let rows = snapshot.page(RECORDS, range, SCAN_ROWS_MAX, SCAN_BYTES_MAX)?;
        let Some((end, _)) = rows.last() else { return Ok(()) };
        from = Bound::Excluded(end.to_vec());
        for (key, stored) in rows {
            found.records += 1;
            found.bytes += (key.len() + stored.len()) as u64;
            let read = ObjectKey::from_storage_key(&key).and_then(|object| {
                let record = dynamo_core::codec::record::decode_record(&key, stored)?;
                Ok((object, RecordDigest::of(&record)))
            });
            match read {
                Ok((object, digest)) => {
                    let class = found.head.classes.of(object.bucket().as_str());
                    let sum = found.truth.entry((class, leaf)).or_default();
                    *sum = sum.wrapping_add(entry_digest(&key, digest));
                }
                Err(error) => found.unreadable.push((key.to_vec(), error.to_string())),
            }
        }
    }
}

/// What each sum lacks.
fn differences(found: &Found) -> Vec<(u8, Leaf, u128)> {
    let places = found.sums.keys().chain(found.truth.keys());
    let places: std::collections::BTreeSet<_> = places.copied().collect();
    let lacks = |(class, leaf): (u8, Leaf)| {
        let of = |sums: &BTreeMap<(u8, Leaf), u128>| sums.get(&(class, leaf)).copied();
        let lack = of(&found.truth).unwrap_or(0).wrapping_sub(of(&found.sums).unwrap_or(0));
        (lack != 0).then_some((class, leaf, lack))
    };
    places.into_iter().filter_map(lacks).collect()
}

/// The keys of the records of some leaves.
pub(crate) fn records_of(first: Leaf, last: Leaf) -> KeyRange {
    let from = Bound::Included(first.range().0.0.to_be_bytes().to_vec());
    let to = match last.range().1.0.checked_add(1) {
        Some(end) => Bound::Excluded(end.to_be_bytes().to_vec()),
        None => Bound::Unbounded,
    };
    (from, to)
}

/// Removes rows whose key names no object.
struct StrayJob {
    shared: Arc<Shared>,
    keys: Vec<Vec<u8>>,
}

impl WriteJob for StrayJob {
    fn bytes(&self) -> usize {
        0
    }

    fn is_durable(&self) -> bool {
        true
    }

    fn apply(&mut self, tables: &mut dyn Tables) -> Result<(), EngineError> {
        self.keys.iter().try_for_each(|key| tables.remove(RECORDS, key))
    }

    fn finish(self: Box<Self>, committed: Result<(), StoreError>) {
        match committed {
            Ok(()) => {
                self.keys.iter().for_each(|key| self.shared.corrupt.heal(key));
                self.shared.metrics.corrupt_keys.set(self.shared.corrupt.len() as i64);
                tracing::warn!(rows = self.keys.len(), "rows with damaged keys were removed");
            }
            Err(error) => tracing::warn!(%error, "rows with damaged keys could not be removed"),
        }
    }
}

/// Reads a range in the writer's transaction, which fails where a page is damaged.
struct DamageJob(KeyRange);

impl WriteJob for DamageJob {
    fn bytes(&self) -> usize {
        0
    }

    fn is_durable(&self) -> bool {
        true
    }

    fn apply(&mut self, tables: &mut dyn Tables) -> Result<(), EngineError> {
        let (mut from, to) = self.0.clone();
        loop {
            let range = (from, to.clone());
            let rows = tables.page(RECORDS, range, SCAN_ROWS_MAX, SCAN_BYTES_MAX)?;
            let Some((last, _)) = rows.last() else { return Ok(()) };
            from = Bound::Excluded(last.to_vec());
        }
    }

    fn finish(self: Box<Self>, committed: Result<(), StoreError>) {
        if let Err(error) = committed {
            tracing::error!(%error, "part of the records cannot be read");
        }
    }
}
