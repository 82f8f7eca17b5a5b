//! A shopping cart whose deletions hold: an observed-remove map, stored as JSON.
//!
//! Every add is an event with a name of its own (actor, number). A cart remembers the events that
//! it has seen and, for each item, those that are still in force. Merging keeps an event that both
//! sides have in force, or that one side has in force and the other has never seen. So removing an
//! item takes away the adds that the remover had seen, also from siblings that still show them;
//! an add that happened meanwhile, unseen, stays: a customer's click is never lost (add wins).
//!
//! Size: one entry per add in force, and about thirty bytes per actor that ever edited the cart.
//! Keep one [`CartActor`] per process, not one per request.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

use super::seen::Seen;
use crate::error::Error;
use crate::kv::update::Update;
use crate::kv::version::Siblings;

/// Version of the JSON form.
const FORMAT: u32 = 1;

/// Who edits carts: a name that is unique and numbers that are never used twice. Make one per
/// process and share it.
#[derive(Debug)]
pub struct CartActor {
    name: String,
    next: AtomicU64,
}

impl Default for CartActor {
    fn default() -> Self {
        Self::new()
    }
}

impl CartActor {
    /// An actor with a fresh random name.
    #[must_use]
    pub fn new() -> Self {
        let name = uuid::Uuid::new_v4().simple().to_string().split_off(16);
        Self { name, next: AtomicU64::new(1) }
    }

    /// The number of its next event: above all its earlier ones.
    fn mint(&self, at_least: u64) -> u64 {
        self.next.fetch_max(at_least, Ordering::Relaxed);
        self.next.fetch_add(1, Ordering::Relaxed)
    }
}

/// An add that is in force: actor, number, quantity.
type Add = (String, u64, u64);

/// Items and their quantities.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cart {
    cart: u32,
    seen: Seen,
    items: BTreeMap<String, BTreeSet<Add>>,
}

impl Default for Cart {
    fn default() -> Self {
        Self { cart: FORMAT, seen: Seen::default(), items: BTreeMap::new() }
    }
}

impl Cart {
    /// The cart that all `versions` together make; empty where there is none.
    ///
    /// # Errors
    /// [`Error::Merge`] where a version is not a cart of a form that this build knows.
    pub fn of(versions: &Siblings) -> Result<Self, Error> {
        let mut merged = Self::default();
        for version in versions {
            let mut cart: Self = version.json()?;
            if cart.cart != FORMAT {
                return Err(Error::Merge(format!("cart format {} is not known", cart.cart)));
            }
            cart.seen = std::mem::take(&mut cart.seen).normalized();
            merged.merge(&cart);
        }
        Ok(merged)
    }

    /// Adds `quantity` of `item` to what is there. Concurrent adds add up. Zero does nothing.
    pub fn add(&mut self, actor: &CartActor, item: &str, quantity: u64) {
        if quantity == 0 {
            return;
        }
        let number = actor.mint(self.seen.highest(&actor.name) + 1);
        self.seen.insert(&actor.name, number);
        let adds = self.items.entry(item.to_owned()).or_default();
        adds.insert((actor.name.clone(), number, quantity));
    }

    /// Makes it `quantity` of `item`, in place of what this cart shows of it. An add that happened
    /// meanwhile comes on top. Zero removes the item.
    pub fn set(&mut self, actor: &CartActor, item: &str, quantity: u64) {
        self.remove(item);
        self.add(actor, item, quantity);
    }

    /// Removes `item` as far as this cart shows it. True where it was there.
    pub fn remove(&mut self, item: &str) -> bool {
        self.items.remove(item).is_some()
    }

    /// Items and quantities, sorted by item.
    pub fn items(&self) -> impl Iterator<Item = (&str, u64)> {
        self.items.iter().map(|(item, adds)| {
            let quantity = adds.iter().fold(0u64, |sum, (_, _, count)| sum.saturating_add(*count));
            (item.as_str(), quantity)
        })
    }

    /// How many of `item` there are.
    #[must_use]
    pub fn quantity(&self, item: &str) -> u64 {
        self.items().find(|(name, _)| *name == item).map_or(0, |(_, quantity)| quantity)
    }

    /// Takes in another cart: a join, so neither order nor repetition matters.
    pub fn merge(&mut self, other: &Self) {
        let names: BTreeSet<String> =
            self.items.keys().chain(other.items.keys()).cloned().collect();
        let none = BTreeSet::new();
        let mut items = BTreeMap::new();
        for item in names {
            let own = self.items.get(&item).unwrap_or(&none);
            let their = other.items.get(&item).unwrap_or(&none);
            let kept = |adds: &BTreeSet<Add>, there: &BTreeSet<Add>, seen: &Seen| {
                adds.iter()
                    .filter(|add| there.contains(*add) || !seen.contains(&add.0, add.1))
                    .cloned()
                    .collect::<BTreeSet<Add>>()
            };
            let mut adds = kept(own, their, &other.seen);
            adds.extend(kept(their, own, &self.seen));
            if !adds.is_empty() {
                items.insert(item, adds);
            }
        }
        self.items = items;
        self.seen.merge(&other.seen);
    }

    /// The cart as what an [`update`](crate::Bucket::update) writes.
    ///
    /// # Errors
    /// [`Error::Merge`]; a cart can always be written as JSON.
    pub fn into_update(self) -> Result<Update, Error> {
        Update::json(&self)
    }
}

#[cfg(test)]
#[path = "cart/tests.rs"]
mod tests;
