//! What one store has of every partition: from which depth it holds it, and whether something is
//! left over. The durable truth behind what the node advertises and what its "absent" is worth.
//!
//! A node at place i of a preference list has the keys of buckets with more than i copies: it
//! needs the partition "from" i + 1. A ring change may move it to another place, so holding is
//! not yes or no but a depth as well. Where all buckets have the same N the depth makes no
//! difference.
//!
//! Who is not an owner holds only as long as writes reach it, that is while it is among the holders
//! that stand in for pending owners. From then on its copy grows stale; if the next ring made it an
//! owner again, readers would miss what was written meanwhile. So it stops holding at that moment
//! (it *lapses*), keeps the data as left over, and would have to compare before it holds again.
//!
//! Invariant: held from h means that every key of every bucket with N >= h is there, as of the
//! view that was adopted last. (Raising N of a bucket that has keys makes them incomplete in their
//! new places until the next exchange; who reads with R = 1 then may miss them.)
//! Not here: records, and when to do which step.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::cluster_view::ClusterView;
use crate::id::{NodeId, PartitionId};
use crate::limits::REPLICAS_MAX;
use crate::ring::{PartitionSet, Partitions, Placement, Ring};

/// The version of the text form that this build reads and writes.
const FORMAT: u32 = 1;

/// A step that does not fit what the store has, or what its ring says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InventoryError {
    /// The node is not to have the partition.
    #[error("partition {0} is not wanted here")]
    NotWanted(u32),
    /// All of what is held is needed.
    #[error("partition {0} is needed here")]
    Needed(u32),
    /// Nothing is left over.
    #[error("nothing of partition {0} is left over")]
    NothingLeft(u32),
}

/// Text that is not an inventory.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseInventoryError {
    /// Not the JSON of one.
    #[error("not an inventory: {0}")]
    Json(String),
    /// A form of a newer build.
    #[error("inventory format {0} is not known to this build")]
    Format(u32),
    /// Tables that do not fit together.
    #[error("an inventory has one depth from 0 to {REPLICAS_MAX} per partition")]
    Depths,
}

/// What a new view changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Adopted {
    /// The inventory changed: store it before the view is used.
    pub changed: bool,
    /// The node is to have keys that it did not have to have before. Some of them it may once have
    /// had, coordinated and deleted, so the actor epoch must end ([`crate::actor::Actor::on_loss`])
    /// before the view is used: no counter is minted twice (hazard C4).
    pub gained: bool,
}

/// Depths and leftovers of all partitions of one store.
#[derive(Debug, Clone)]
pub struct Inventory {
    /// Per partition the depth from which the node needed it under the last view; 0 for not.
    needed: Vec<u8>,
    /// Per partition the depth from which it is held; 0 for not.
    held: Vec<u8>,
    leftover: PartitionSet,
    /// The ring adopted last in this process; not stored.
    ring: Option<Arc<Ring>>,
}

impl PartialEq for Inventory {
    fn eq(&self, other: &Self) -> bool {
        self.needed == other.needed && self.held == other.held && self.leftover == other.leftover
    }
}

impl Eq for Inventory {}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Form {
    format: u32,
    needed: String,
    held: String,
    leftover: PartitionSet,
}

impl Inventory {
    /// A store that has nothing.
    #[must_use]
    pub fn empty(partitions: Partitions) -> Self {
        let none = vec![0; partitions.len()];
        let leftover = PartitionSet::empty(partitions);
        Self { needed: none.clone(), held: none, leftover, ring: None }
    }

    /// The store of a founder: it holds what it needs, as there is nothing to hold yet.
    #[must_use]
    pub fn founding(view: &ClusterView, me: NodeId) -> Self {
        let mut inventory = Self::empty(view.partitions());
        for partition in view.partitions().iter() {
            set(&mut inventory.needed, partition, view.needs_from(me, partition));
        }
        inventory.held.clone_from(&inventory.needed);
        inventory
    }

    /// A store of which only a set of partitions is known, all of them held from 1: the form that
    /// earlier builds stored.
    #[must_use]
    pub fn holding(set: &PartitionSet) -> Self {
        let mut inventory = Self::empty(set.partitions());
        for (index, held) in inventory.held.iter_mut().enumerate() {
            let index = u32::try_from(index).unwrap_or(u32::MAX);
            *held = u8::from(set.contains(PartitionId(index)));
        }
        inventory
    }

    /// Whether anything is left over that is still to be deleted.
    #[must_use]
    pub fn has_leftover(&self) -> bool {
        !self.leftover.is_empty()
    }

    /// The least N of the buckets whose keys in `partition` are held; `None` for nothing.
    #[must_use]
    pub fn held_from(&self, partition: PartitionId) -> Option<u8> {
        depth(&self.held, partition)
    }

    /// Whether records may be there that are neither needed nor held.
    #[must_use]
    pub fn is_leftover(&self, partition: PartitionId) -> bool {
        self.leftover.contains(partition)
    }

    /// Whether "absent" for a key of a bucket with `n` copies is evidence of absence.
    #[must_use]
    pub fn confirms(&self, partition: PartitionId, n: u8) -> bool {
        self.held_from(partition).is_some_and(|from| from <= n)
    }

    /// Whether records of a bucket with `n` copies belong here: they are needed, or held still.
    /// Others are refused (`not_owner`, I-27), or they would lie about without anybody knowing.
    #[must_use]
    pub fn accepts(&self, partition: PartitionId, n: u8) -> bool {
        let needed = depth(&self.needed, partition).is_some_and(|from| from <= n);
        needed || self.confirms(partition, n)
    }

    /// What the node says it holds: partitions that it holds as far as it needs them, and those
    /// that it does not need any more and has not given up.
    #[must_use]
    pub fn advertised(&self) -> PartitionSet {
        let partitions = self.leftover.partitions();
        let mut set = PartitionSet::empty(partitions);
        for partition in partitions.iter() {
            let needed = depth(&self.needed, partition);
            if let Some(held) = self.held_from(partition)
                && needed.is_none_or(|needed| held <= needed)
            {
                set.insert(partition);
            }
        }
        set
    }

    /// Whether nothing is held and nothing left over: a leaving node is done then.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.leftover.is_empty() && self.held.iter().all(|held| *held == 0)
    }

    /// Takes a new view of the cluster. The result says what must be durable before the view is
    /// used for anything. A view of another ring size is ignored: no cluster changes it.
    #[must_use = "the inventory must be stored, and the epoch may have to end, before the view is used"]
    pub fn adopt(&mut self, view: &ClusterView, me: NodeId) -> Adopted {
        let before = self.clone();
        let mut gained = false;
        if view.partitions() != self.leftover.partitions() {
            return Adopted::default();
        }
        // What the others hold by now decides, under the old ring, whether writes still came here.
        if let Some(ring) = self.ring.take() {
            self.lapse(&Placement::new(ring, view.holdings().clone()), view.classes(), me);
        }
        for partition in view.partitions().iter() {
            let needed = view.needs_from(me, partition);
            gained |= self.adopt_one(view, partition, needed);
        }
        self.lapse(view.placement(), view.classes(), me);
        self.ring = Some(Arc::clone(view.placement().ring()));
        Adopted { changed: *self != before, gained }
    }

    /// Stops holding what is not needed and not written to any more.
    ///
    /// Advertisements do not tell depths, so which nodes stand in is exact for the largest N in use
    /// only. For smaller ones a copy lapses when every owner holds the partition.
    fn lapse(&mut self, placement: &Placement, classes: &[u8], me: NodeId) {
        for partition in self.leftover.partitions().iter() {
            let Some(held) = self.held_from(partition) else { continue };
            let needed = depth(&self.needed, partition);
            let surplus = |n: &u8| *n >= held && needed.is_none_or(|needed| *n < needed);
            let is_cut_off = |n: &u8| {
                let is_exact = classes.last() == Some(n);
                placement.is_settled(partition, *n)
                    || (is_exact && !placement.replica_sets(partition, *n).holders.contains(&me))
            };
            let last = classes.iter().copied().filter(surplus).rfind(is_cut_off);
            if let Some(last) = last {
                let rest = classes.iter().copied().find(|n| *n > last);
                set(&mut self.held, partition, rest.map(|_| last.saturating_add(1)));
                self.leftover.insert(partition);
            }
        }
    }

    /// Takes the new depth of one partition. True where keys are needed that were not before, and
    /// are not held.
    fn adopt_one(
        &mut self,
        view: &ClusterView,
        partition: PartitionId,
        needed: Option<u8>,
    ) -> bool {
        let in_use = |from: u8, to: u8| view.classes().iter().any(|n| (from..to).contains(n));
        let before = depth(&self.needed, partition);
        let mut held = self.held_from(partition);
        if let (Some(from), Some(need)) = (held, needed)
            && !in_use(from.min(need), from.max(need))
        {
            // No bucket tells the two depths apart.
            held = Some(need);
        }
        // What was on its way here and is not needed any more lies about from now on.
        let complete_from = held.unwrap_or(u8::MAX);
        let partial_from = before.unwrap_or(u8::MAX);
        let needed_from = needed.unwrap_or(u8::MAX);
        if partial_from < complete_from.min(needed_from) {
            self.leftover.insert(partition);
        }
        // What is needed again is brought up to date, not deleted: fresh writes lie beside it. What
        // lies below the new depth is left over still.
        if needed_from < complete_from && !in_use(0, needed_from) {
            self.leftover.remove(partition);
        }
        set(&mut self.needed, partition, needed);
        set(&mut self.held, partition, held);
        needed_from < partial_from && needed_from < complete_from
    }

    /// The worker says that a partition is complete. True where that is news.
    ///
    /// # Errors
    /// [`InventoryError::NotWanted`].
    pub fn hold(&mut self, partition: PartitionId) -> Result<bool, InventoryError> {
        let needed = depth(&self.needed, partition);
        let needed = needed.ok_or(InventoryError::NotWanted(partition.0))?;
        if self.held_from(partition).is_some_and(|held| held <= needed) {
            return Ok(false);
        }
        set(&mut self.held, partition, Some(needed));
        Ok(true)
    }

    /// The worker says that every owner has what is held here and not needed. It is left over from
    /// now on. True where that is news.
    ///
    /// # Errors
    /// [`InventoryError::Needed`] where nothing is held that is not needed.
    pub fn release(&mut self, partition: PartitionId) -> Result<bool, InventoryError> {
        let needed = depth(&self.needed, partition);
        match self.held_from(partition) {
            Some(held) if needed.is_none_or(|needed| held < needed) => {
                set(&mut self.held, partition, needed);
                self.leftover.insert(partition);
                Ok(true)
            }
            _ if self.is_leftover(partition) => Ok(false),
            _ => Err(InventoryError::Needed(partition.0)),
        }
    }

    /// The records that may be deleted: those of buckets with fewer copies than this. `None` for
    /// all of the partition.
    ///
    /// # Errors
    /// [`InventoryError::NothingLeft`]: none may.
    pub fn may_drop(&self, partition: PartitionId) -> Result<Option<u8>, InventoryError> {
        if !self.is_leftover(partition) {
            return Err(InventoryError::NothingLeft(partition.0));
        }
        let floors = [depth(&self.needed, partition), self.held_from(partition)];
        Ok(floors.into_iter().flatten().min())
    }

    /// A record of a bucket with `n` copies was found that does not belong here, and that no hint
    /// refers to: a coordinator that stood in kept it, and its hints were never needed, or it died
    /// before it cleared it away. It is left over from now on: compared with the owners, then
    /// deleted. Else it would keep what is dead from being removed anywhere, for good. True where
    /// that is news.
    pub fn found_stray(&mut self, partition: PartitionId, n: u8) -> bool {
        let is_news = !self.accepts(partition, n) && !self.is_leftover(partition);
        if is_news {
            self.leftover.insert(partition);
        }
        is_news
    }

    /// Everything that [`Inventory::may_drop`] allows has been deleted.
    pub fn dropped(&mut self, partition: PartitionId) {
        self.leftover.remove(partition);
    }

    /// The form that is stored.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let text = |depths: &[u8]| depths.iter().map(|depth| char::from(b'0' + depth)).collect();
        let form = Form {
            format: FORMAT,
            needed: text(&self.needed),
            held: text(&self.held),
            leftover: self.leftover.clone(),
        };
        serde_json::to_vec(&form).expect("strings and numbers are always JSON")
    }

    /// Reads what [`Inventory::encode`] wrote.
    ///
    /// # Errors
    /// [`ParseInventoryError`].
    pub fn decode(stored: &[u8]) -> Result<Self, ParseInventoryError> {
        let form: Form = serde_json::from_slice(stored)
            .map_err(|error| ParseInventoryError::Json(error.to_string()))?;
        if form.format != FORMAT {
            return Err(ParseInventoryError::Format(form.format));
        }
        let partitions = form.leftover.partitions().len();
        let depths = |text: &str| -> Result<Vec<u8>, ParseInventoryError> {
            let digit = |byte: u8| byte.checked_sub(b'0').filter(|depth| *depth <= REPLICAS_MAX);
            let depths: Option<Vec<u8>> = text.bytes().map(digit).collect();
            depths.filter(|all| all.len() == partitions).ok_or(ParseInventoryError::Depths)
        };
        Ok(Self {
            needed: depths(&form.needed)?,
            held: depths(&form.held)?,
            leftover: form.leftover,
            ring: None,
        })
    }
}

fn depth(depths: &[u8], partition: PartitionId) -> Option<u8> {
    depths.get(partition.0 as usize).copied().filter(|depth| *depth > 0)
}

fn set(depths: &mut [u8], partition: PartitionId, depth: Option<u8>) {
    if let Some(place) = depths.get_mut(partition.0 as usize) {
        *place = depth.unwrap_or(0);
    }
}
