//! Plan and commit (hazard C11): what the staged changes would do, before anything is done.
//!
//! A plan is a pure function of the view: the ring that would follow, what moves, how balanced and
//! spread the result is, and what speaks against it. Its hash covers the history it was made on
//! and every change; a commit names the hash, so it does what was looked at or nothing.
//!
//! Invariants: a commit is one event with all staged changes; a plan that would leave a partition
//! without any holder of its data is refused unless the loss is accepted in so many words (I-21).

use std::collections::BTreeSet;
use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64;

use super::fold::Fold;
use super::history::{Change, Event, EventId, Joiner};
use super::registers::{StagedChange, StagedEntry};
use super::stage::check;
use super::view::{Delta, Membership};
use crate::id::{ClusterId, NodeId, PartitionId};
use crate::limits::{HISTORY_EVENTS_MAX, NODES_EVER_MAX};
use crate::params::BucketProps;
use crate::ring::{
    ClaimViolation, Holdings, PartitionSet, Partitions, Placement, Ring, RingDiff, RingVersion,
};
use crate::time::WallMs;

/// What a cluster is founded with; the same on all nodes before the founding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FoundingParams {
    /// Number of partitions, for life.
    pub partitions: Partitions,
    /// How many consecutive positions shall be on distinct nodes and zones.
    pub spacing: u8,
    /// Properties of buckets that have no own.
    pub defaults: BucketProps,
}

/// Something to know before committing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// A stable name of the kind of note.
    pub code: &'static str,
    /// What it is about, for people.
    pub detail: String,
}

impl Note {
    fn new(code: &'static str, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into() }
    }
}

/// What the staged changes would do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The history it was made on.
    pub parent: RingVersion,
    /// The changes of the event that a commit would issue. A founding has a placeholder for the
    /// cluster id.
    pub changes: Vec<Change>,
    /// Moves, shares and spread of the new ring.
    pub diff: RingDiff,
    /// The ring that would follow.
    pub ring: Arc<Ring>,
    /// Members after it.
    pub members_after: usize,
    /// Bytes to copy, as far as the size of partitions is known.
    pub bytes: Option<u64>,
    /// Reasons to think again; none of them stops a commit.
    pub warnings: Vec<Note>,
    /// Reasons for which a commit is refused.
    pub refusals: Vec<Note>,
    /// Names parent and changes.
    pub hash: u64,
}

impl Plan {
    /// Whether the commit would found the cluster.
    #[must_use]
    pub fn founds(&self) -> bool {
        matches!(self.changes.first(), Some(Change::Init { .. }))
    }

    /// The plan's name, as `If-Match` and answers show it.
    #[must_use]
    pub fn tag(&self) -> String {
        format!("{:016x}", self.hash)
    }
}

/// Why there is nothing to commit, or not this.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommitError {
    /// No changes are staged.
    #[error("nothing is staged")]
    Nothing,
    /// The named plan is not the present one: history or staged changes moved on.
    #[error("the plan is out of date; the present one is {present}")]
    Stale {
        /// Tag of the present plan.
        present: String,
    },
    /// The plan has refusals.
    #[error("the plan is refused: {0}")]
    Refused(String),
    /// This node is no longer listened to.
    #[error("this node was removed from the cluster and cannot change it")]
    Removed,
}

/// Makes the plan of all staged changes. `partition_bytes` estimates the bytes of a partition,
/// `None` where unknown.
///
/// # Errors
/// [`CommitError::Nothing`] where nothing is staged.
pub fn plan(
    view: &Membership,
    founding: FoundingParams,
    partition_bytes: impl Fn(PartitionId) -> Option<u64>,
) -> Result<Plan, CommitError> {
    if view.staged().is_empty() {
        return Err(CommitError::Nothing);
    }
    let mut refusals = Vec::new();
    let changes = changes(view, founding, &mut refusals);
    let parent = view.version();
    let (id, seq) = view.history().next_id(view.me());
    let event = Event { id, seq, issued_at: WallMs(0), parent, changes };
    let version = RingVersion { number: parent.number + 1, hash: 0 };
    let before = view.fold().map(|fold| &**fold);
    let hash = hash_of(view, &event);
    let old = before.map_or_else(|| Ring::empty(founding.partitions), |f| (*f.ring).clone());
    let Some(after) = Fold::after(before, &event, version) else {
        return Err(CommitError::Nothing);
    };
    refusals.extend(skipped(&after, id));
    refusals.extend(structural(view, &event, &after));
    let diff = RingDiff::between(&old, &after.ring, after.spacing, &after.claim_members())
        .expect("a cluster keeps its number of partitions for life");
    let mut warnings = warnings(view, &after, &diff);
    let lost = lost_partitions(view, &after);
    if let Some(first) = lost.first() {
        let detail = format!("no node would hold {} partitions, first {}", lost.len(), first.0);
        let note = Note::new("data_loss", detail);
        if data_loss_accepted(view) { warnings.push(note) } else { refusals.push(note) }
    }
    let bytes = if before.is_some() { bytes(&diff, partition_bytes) } else { Some(0) };
    let members_after = after.members.len();
    Ok(Plan {
        parent,
        changes: event.changes,
        diff,
        ring: Arc::clone(&after.ring),
        members_after,
        bytes,
        warnings,
        refusals,
        hash,
    })
}

/// Issues the event of the present plan if that is the one named by `tag`.
///
/// # Errors
/// [`CommitError`]; nothing is changed.
pub fn commit(
    view: &Membership,
    founding: FoundingParams,
    tag: &str,
    new_cluster: ClusterId,
    wall: WallMs,
) -> Result<Delta, CommitError> {
    if view.fold().is_some_and(|fold| fold.former.contains_key(&view.me())) {
        return Err(CommitError::Removed);
    }
    let plan = plan(view, founding, |_| None)?;
    if plan.tag() != tag {
        return Err(CommitError::Stale { present: plan.tag() });
    }
    if let Some(note) = plan.refusals.first() {
        return Err(CommitError::Refused(note.detail.clone()));
    }
    let mut changes = plan.changes;
    if let Some(Change::Init { cluster, .. }) = changes.first_mut() {
        *cluster = new_cluster;
    }
    let (id, seq) = view.history().next_id(view.me());
    let event = Event { id, seq, issued_at: wall, parent: plan.parent, changes };
    let cluster = view.cluster().unwrap_or(new_cluster);
    let staged =
        StagedEntry { stamp: view.stamp(wall), cluster: Some(cluster), changes: Vec::new() };
    Ok(Delta { events: vec![event], staged: Some(staged), ..Delta::default() })
}

/// The changes of the event, from the staged ones and what the nodes say about themselves.
fn changes(view: &Membership, founding: FoundingParams, refusals: &mut Vec<Note>) -> Vec<Change> {
    let mut changes = Vec::new();
    if view.fold().is_none() {
        changes.push(Change::Init {
            cluster: ClusterId(0),
            partitions: founding.partitions,
            spacing: founding.spacing,
            defaults: founding.defaults,
        });
    }
    for staged in view.staged() {
        if let Err(error) = check(view, staged) {
            refusals.push(Note::new("impossible", format!("{}: {error}", staged.node())));
            continue;
        }
        match change(view, staged) {
            Some(change) => changes.push(change),
            None => {
                let detail = format!("nothing is known of node {} any more", staged.node());
                refusals.push(Note::new("unknown_node", detail));
            }
        }
    }
    changes
}

fn change(view: &Membership, staged: &StagedChange) -> Option<Change> {
    Some(match staged.clone() {
        StagedChange::Join { node, zone, weight } => {
            let said = joiner(view, node)?;
            let weight = weight.unwrap_or(said.weight);
            Change::Join { joiner: Joiner { zone: zone.or(said.zone.clone()), weight, ..said } }
        }
        StagedChange::Leave { node } => Change::Leave { node, forced: false },
        StagedChange::Replace { node, with } => {
            Change::Replace { node, joiner: joiner(view, with)? }
        }
        StagedChange::ForceRemove { node, .. } => Change::Leave { node, forced: true },
        StagedChange::SetWeight { node, weight } => Change::SetWeight { node, weight },
        StagedChange::SetZone { node, zone } => Change::SetZone { node, zone },
        StagedChange::SetAddress { node, addresses } => Change::SetAddress { node, addresses },
    })
}

/// A node as it describes itself.
fn joiner(view: &Membership, node: NodeId) -> Option<Joiner> {
    let state = view.states().get(node)?;
    Some(Joiner {
        node,
        name: state.name.clone(),
        zone: state.zone.clone(),
        weight: state.weight,
        addresses: state.addresses.clone(),
        store: state.store.as_ref().map(|store| store.store_id),
    })
}

/// Covers the parent, the changes and the acceptance of loss, but not who plans: the plan may be
/// committed at any node.
fn hash_of(view: &Membership, event: &Event) -> u64 {
    let covered = (view.version(), &event.changes, view.staged());
    let encoded = serde_json::to_vec(&covered)
        .expect("changes have string keys only and no failing serializer");
    xxh3_64(&encoded)
}

/// Changes that the fold would skip.
fn skipped(after: &Fold, id: EventId) -> Vec<Note> {
    let of_plan = after.skipped.iter().filter(|skipped| skipped.event == id);
    of_plan
        .map(|skipped| {
            Note::new("impossible", format!("change {}: {}", skipped.index + 1, skipped.reason))
        })
        .collect()
}

/// What makes an event impossible as a whole.
fn structural(view: &Membership, event: &Event, after: &Fold) -> Vec<Note> {
    let mut notes = Vec::new();
    if after.members.is_empty() {
        notes.push(Note::new("no_members", "a cluster has at least one member: stage a join"));
    }
    if view.history().len() >= HISTORY_EVENTS_MAX {
        notes.push(Note::new("history_full", "the history has as many events as it may have"));
    } else if !event.changes.is_empty()
        && let Err(error) = event.check()
    {
        notes.push(Note::new("impossible", error.to_string()));
    }
    if event.founds() {
        for change in &event.changes {
            if let Change::Join { joiner } = change
                && joiner.store.is_none()
            {
                let detail = format!(
                    "the storage node of {} has not reported its store to its agent yet",
                    joiner.name
                );
                notes.push(Note::new("store_unknown", detail));
            }
        }
    }
    if after.members.len() + after.former.len() >= NODES_EVER_MAX {
        notes.push(Note::new("too_many_nodes", "too many nodes were ever members"));
    }
    notes
}

fn warnings(view: &Membership, after: &Fold, diff: &RingDiff) -> Vec<Note> {
    let mut notes: Vec<Note> = Vec::new();
    let mut windows = 0_usize;
    for violation in &after.violations {
        match violation {
            ClaimViolation::NoMembers => {}
            ClaimViolation::TooFewNodes { nodes, wanted } => notes.push(Note::new(
                "too_few_nodes",
                format!("{nodes} nodes for {wanted} replicas: keys have {nodes} copies"),
            )),
            // Lists skip a repeated node, so their nodes are distinct all the same.
            ClaimViolation::NodeWindow { .. } => {}
            ClaimViolation::ZoneWindow { .. } => windows += 1,
            ClaimViolation::WeightCapped { node, owned, share } => notes.push(Note::new(
                "weight_capped",
                format!("{node} owns {owned} of {share} partitions due: zones or spacing forbid"),
            )),
            ClaimViolation::Imbalance { node, owned, share } => notes.push(Note::new(
                "imbalance",
                format!("{node} owns {owned} partitions for {share} due"),
            )),
        }
    }
    if windows > 0 {
        let detail = format!("{windows} partitions have replicas that share a zone without need");
        notes.push(Note::new("zones_short", detail));
    }
    if diff.spread.zones > 1 && diff.spread.zones < u32::from(after.spacing) {
        let detail = format!("{} zones for {} replicas", diff.spread.zones, after.spacing);
        notes.push(Note::new("few_zones", detail));
    }
    let unsettled = unsettled(view);
    if unsettled > 0 {
        let detail = format!("{unsettled} partitions of earlier changes are still being moved");
        notes.push(Note::new("moves_pending", detail));
    }
    notes
}

/// Partitions of which an owner does not hold the data yet.
#[must_use]
pub fn unsettled(view: &Membership) -> usize {
    let Some(fold) = view.fold() else { return 0 };
    let placement = Placement::new(fold.ring.clone(), holdings(view, fold));
    let open = |partition: &PartitionId| !placement.is_settled(*partition, fold.spacing);
    fold.partitions().iter().filter(open).count()
}

/// What may be read from whom, were `fold` in force.
fn holdings(view: &Membership, fold: &Fold) -> Holdings {
    let may = |node: NodeId| {
        fold.members.contains_key(&node) || fold.former.get(&node).is_some_and(|f| !f.forced)
    };
    let held = |state: &super::state::NodeState| -> Option<(NodeId, PartitionSet)> {
        Some((state.node, state.store.as_ref()?.holds.clone()?))
    };
    view.states().iter().filter(|state| may(state.node)).filter_map(held).collect()
}

/// Partitions that some node holds now and none would hold after it.
fn lost_partitions(view: &Membership, after: &Fold) -> Vec<PartitionId> {
    let Some(before) = view.fold() else { return Vec::new() };
    let covered = |holdings: &Holdings| -> BTreeSet<PartitionId> {
        holdings.iter().flat_map(|(_, held)| held.iter().collect::<Vec<_>>()).collect()
    };
    let now = covered(&holdings(view, before));
    let then = covered(&holdings(view, after));
    now.difference(&then).copied().collect()
}

fn data_loss_accepted(view: &Membership) -> bool {
    view.staged()
        .iter()
        .any(|change| matches!(change, StagedChange::ForceRemove { accept_data_loss: true, .. }))
}

/// The sum over all moves; `None` as soon as one size is unknown.
fn bytes(diff: &RingDiff, of: impl Fn(PartitionId) -> Option<u64>) -> Option<u64> {
    diff.moves.iter().try_fold(0_u64, |sum, step| Some(sum.saturating_add(of(step.partition)?)))
}

/// An estimate of the bytes of one partition from what the members report: their stored bytes over
/// the partitions they hold; `None` where no member reports.
#[must_use]
pub fn mean_partition_bytes(view: &Membership) -> Option<u64> {
    let (mut bytes, mut held) = (0_u64, 0_u64);
    for store in view.states().iter().filter_map(|state| state.store.as_ref()) {
        if let (Some(stored), Some(holds)) = (store.bytes, &store.holds) {
            bytes = bytes.saturating_add(stored);
            held += holds.len() as u64;
        }
    }
    (held > 0).then(|| bytes.checked_div(held).unwrap_or(0))
}
