//! What this node has of each partition: taking over a new ring, holding, releasing, dropping. The
//! decisions are those of [`Inventory`]; here they become durable before they are used.
//!
//! Invariant: one change at a time, so that what is in memory is what was written last.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwapOption;
use dynamo_core::cluster_view::ClusterView;
use dynamo_core::id::PartitionId;
use dynamo_core::key::ObjectKey;
use dynamo_core::ring::RingVersion;
use dynamo_core::transfer::{Inventory, InventoryError};
use dynamo_core::wire::partition::{DropAnswer, PartitionInfo};
use service_kit::http::error::{ErrorCode, Problem};
use tokio::sync::{Mutex, Notify};

use crate::node::{Node, store_problem};
use crate::store::StoreError;
use crate::store::partitions::DropPage;

/// How far the deletion of a partition has come, in memory: after a restart it begins anew.
#[derive(Debug, Clone, Default)]
struct DropProgress {
    below: Option<u8>,
    cursor: Option<Vec<u8>>,
    /// Whether a record had to stay, since a hint still refers to it.
    spared: bool,
}

/// What a store has, as long as it is the same store.
#[derive(Debug)]
struct Known {
    /// The life of the store, see [`crate::store::Store::life`].
    life: u64,
    inventory: Arc<Inventory>,
}

/// The inventory of this node.
#[derive(Debug)]
pub struct Possession {
    inventory: ArcSwapOption<Known>,
    /// The life of the store now: of an earlier one nothing is left.
    life: Arc<AtomicU64>,
    /// Taken for every change.
    dropping: Mutex<BTreeMap<PartitionId, DropProgress>>,
    /// Rings when there is something new to advertise.
    pub changed: Arc<Notify>,
}

impl Possession {
    /// Takes over what was stored. `life` counts the times that the store began empty.
    #[must_use]
    pub fn new(stored: Option<Inventory>, life: Arc<AtomicU64>) -> Self {
        let now = life.load(Ordering::Acquire);
        let known = stored.map(|stored| Known { life: now, inventory: Arc::new(stored) });
        Self {
            inventory: ArcSwapOption::from(known.map(Arc::new)),
            life,
            dropping: Mutex::default(),
            changed: Arc::default(),
        }
    }

    /// What the node has; `None` before it knows a ring for the first time, and after the store
    /// began empty until that is noted.
    #[must_use]
    pub fn inventory(&self) -> Option<Arc<Inventory>> {
        let known = self.inventory.load();
        let known = known.as_ref().filter(|known| known.life == self.life());
        known.map(|known| Arc::clone(&known.inventory))
    }

    fn life(&self) -> u64 {
        self.life.load(Ordering::Acquire)
    }

    /// Uses what was made durable in `life` of the store.
    fn keep(&self, inventory: Inventory, life: u64) {
        self.inventory.store(Some(Arc::new(Known { life, inventory: Arc::new(inventory) })));
    }
}

impl Node {
    /// Whether the store holds the keys of the object's bucket in its partition completely, so that
    /// "nothing here" is evidence of absence. To be asked after the store: it may have begun empty
    /// in between.
    #[must_use]
    pub fn holds(&self, view: &ClusterView, object: &ObjectKey) -> bool {
        let partition = view.ring().partition_of(object.position());
        let n = view.bucket(object.bucket()).n;
        let known = self.possession.inventory.load();
        let now = self.possession.life();
        known
            .as_ref()
            .is_some_and(|known| known.life == now && known.inventory.confirms(partition, n))
    }

    /// Whether the object's partition is being given up, and the object is none of those that stay.
    #[must_use]
    pub fn gives_up(&self, view: &ClusterView, object: &ObjectKey) -> bool {
        let partition = view.ring().partition_of(object.position());
        let inventory = self.possession.inventory();
        inventory.is_some_and(|inventory| inventory.is_leftover(partition))
            && !self.takes(view, object)
    }

    /// Makes what the node has fit a new ring, before the ring is used.
    ///
    /// # Errors
    /// [`StoreError`]; the ring must not be used then.
    pub async fn adopt_inventory(&self, view: &ClusterView) -> Result<(), StoreError> {
        let mut dropping = self.possession.dropping.lock().await;
        let life = self.possession.life();
        let known = self.possession.inventory();
        let founds = view.is_founding_store(self.me, self.epochs.file().store_id);
        let mut inventory = match &known {
            Some(inventory) => inventory.as_ref().clone(),
            // There is nothing yet that a founder could lack.
            None if founds => Inventory::founding(view, self.me),
            None => Inventory::empty(view.partitions()),
        };
        let adopted = inventory.adopt(view, self.me);
        if adopted.gained {
            // Among the keys that come here may be some that were here before, and under which
            // this epoch has minted dots.
            self.epochs.end(0, "keys come to this node");
        }
        if known.is_none() || adopted.changed {
            self.store.set_inventory(&inventory, life).await?;
            // What may be dropped is judged anew.
            dropping.clear();
        }
        self.show_inventory(view, &inventory);
        self.possession.keep(inventory, life);
        Ok(())
    }

    /// The worker says that these partitions are complete.
    ///
    /// # Errors
    /// 409 where one is not wanted or the ring is another one; then none is held.
    pub async fn hold(&self, ring: RingVersion, all: &[PartitionId]) -> Result<(), Problem> {
        self.change_inventory(ring, all, Inventory::hold).await
    }

    /// The worker says that every owner has what is held of these partitions and not needed.
    ///
    /// # Errors
    /// 409 where all of one is needed or the ring is another one; then none is released.
    pub async fn release(&self, ring: RingVersion, all: &[PartitionId]) -> Result<(), Problem> {
        self.change_inventory(ring, all, Inventory::release).await
    }

    async fn change_inventory(
        &self,
        ring: RingVersion,
        all: &[PartitionId],
        change: fn(&mut Inventory, PartitionId) -> Result<bool, InventoryError>,
    ) -> Result<(), Problem> {
        let _one_at_a_time = self.possession.dropping.lock().await;
        let life = self.possession.life();
        let (view, mut inventory) = self.under(ring)?;
        let mut news = false;
        for partition in all {
            news |= change(&mut inventory, *partition).map_err(conflict)?;
        }
        if news {
            self.store.set_inventory(&inventory, life).await.map_err(store_problem)?;
            self.show_inventory(&view, &inventory);
            self.possession.keep(inventory, life);
            self.possession.changed.notify_one();
        }
        Ok(())
    }

    /// Deletes a page of what is left over of a partition. Records to which a hint still refers stay
    /// until the hint is delivered.
    ///
    /// # Errors
    /// 409 where nothing is left over or the ring is another one.
    pub async fn drop_page(
        self: &Arc<Self>,
        ring: RingVersion,
        partition: PartitionId,
    ) -> Result<DropAnswer, Problem> {
        let mut dropping = self.possession.dropping.lock().await;
        let life = self.possession.life();
        let (view, mut inventory) = self.under(ring)?;
        let below = inventory.may_drop(partition).map_err(conflict)?;
        let mut progress = dropping.remove(&partition).unwrap_or_default();
        if progress.below != below {
            progress = DropProgress { below, ..DropProgress::default() };
        }
        let (node, cursor) = (Arc::clone(self), progress.cursor.take());
        let partitions = view.partitions();
        let reading = tokio::task::spawn_blocking(move || {
            let (all, next) = node.store.droppable(partitions, partition, below, cursor)?;
            let count = all.len();
            let mut objects = Vec::with_capacity(count);
            for object in all {
                if !node.hints.owes(&object)? {
                    objects.push(object);
                }
            }
            let spared = objects.len() < count;
            Ok::<_, StoreError>((objects, spared, next))
        });
        let (objects, spared, next) = reading
            .await
            .map_err(|error| Problem::new(ErrorCode::Internal, error.to_string()))?
            .map_err(store_problem)?;
        progress.spared |= spared;
        let ends = next.is_none() && !progress.spared;
        inventory.dropped(partition);
        let last = ends.then(|| inventory.clone());
        let page = DropPage { partition, partitions, below, objects, life, last };
        let dropped = self.store.drop_page(page).await.map_err(store_problem)?;
        self.metrics.store.partitions.dropped.inc_by(dropped.records);
        if dropped.done {
            self.show_inventory(&view, &inventory);
            self.possession.keep(inventory, life);
        } else {
            // At the end it begins anew, for what was spared or came meanwhile.
            progress.spared &= next.is_some();
            progress.cursor = next;
            dropping.insert(partition, progress);
        }
        Ok(DropAnswer { done: dropped.done, dropped: dropped.records })
    }

    /// What the node has of every partition of which it has or is to have something.
    ///
    /// # Errors
    /// `not_ready` before a ring is known.
    pub fn partition_infos(&self) -> Result<(Arc<ClusterView>, Vec<PartitionInfo>), Problem> {
        let view = self.ring()?;
        let inventory = self.possession.inventory().ok_or_else(unknown)?;
        let info = |partition: PartitionId| PartitionInfo {
            partition,
            wanted: view.wants(self.me, partition),
            held_from: inventory.held_from(partition),
            leftover: inventory.is_leftover(partition),
            records: None,
        };
        let infos = view.partitions().iter().map(info);
        let some = |info: &PartitionInfo| info.wanted || info.held_from.is_some() || info.leftover;
        let infos = infos.filter(some).collect();
        Ok((view, infos))
    }

    /// Checks that a request was made under the ring in use.
    ///
    /// # Errors
    /// 409 where it was not.
    pub fn same_ring(&self, ring: RingVersion) -> Result<Arc<ClusterView>, Problem> {
        let view = self.ring()?;
        if view.version() == ring {
            return Ok(view);
        }
        let detail = format!("the ring here is {}, not {ring}", view.version());
        Err(Problem::new(ErrorCode::Conflict, detail).retryable(true))
    }

    fn under(&self, ring: RingVersion) -> Result<(Arc<ClusterView>, Inventory), Problem> {
        let view = self.same_ring(ring)?;
        let inventory = self.possession.inventory().ok_or_else(unknown)?;
        Ok((view, inventory.as_ref().clone()))
    }

    fn show_inventory(&self, view: &ClusterView, inventory: &Inventory) {
        let count = |of: &dyn Fn(PartitionId) -> bool| {
            let number = view.partitions().iter().filter(|partition| of(*partition)).count();
            i64::try_from(number).unwrap_or(i64::MAX)
        };
        let held = inventory.advertised();
        self.metrics.partitions_held.set(count(&|partition| held.contains(partition)));
        let partitions = &self.metrics.store.partitions;
        partitions.wanted.set(count(&|partition| view.wants(self.me, partition)));
        partitions.leftover.set(count(&|partition| inventory.is_leftover(partition)));
    }
}

fn unknown() -> Problem {
    Problem::new(ErrorCode::NotReady, "the ring is not known yet")
}

fn conflict(error: InventoryError) -> Problem {
    Problem::new(ErrorCode::Conflict, error.to_string())
}
