//! The keys of some leaves on both sides, page by page, side by side. What came is compared as far
//! as both lists reach; at most one page of each side is held.

use std::cmp::Ordering;
use std::collections::VecDeque;

use crate::key::ObjectKey;
use crate::limits::TREE_KEYS_MAX;
use crate::merkle::exchange::event::{ExchangeEffect, Side, Sides};
use crate::merkle::exchange::outcome::ExchangeFailure;
use crate::merkle::keys::{KeyEntry, scan_order};
use crate::merkle::prefix::Leaf;

/// What one side has listed.
#[derive(Debug, Default)]
struct List {
    page: VecDeque<KeyEntry>,
    after: Option<ObjectKey>,
    is_whole: bool,
    is_asked: bool,
}

impl List {
    /// Whether nothing can be said before another page has come.
    fn is_short(&self) -> bool {
        self.page.is_empty() && !self.is_whole
    }
}

/// What the comparison came to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Compared {
    /// The next key: what each side has of it.
    Key(Option<KeyEntry>, Option<KeyEntry>),
    /// More pages are needed.
    Short,
    /// Both lists are at their end.
    Over,
}

/// The lists of both sides.
#[derive(Debug)]
pub(super) struct Listing {
    class: u8,
    leaves: Vec<Leaf>,
    lists: Sides<List>,
}

impl Listing {
    pub(super) fn new(class: u8, leaves: Vec<Leaf>) -> Self {
        Self { class, leaves, lists: Sides::default() }
    }

    pub(super) fn class(&self) -> u8 {
        self.class
    }

    /// Takes the next key off both lists, as far as they reach.
    pub(super) fn compare(&mut self) -> Compared {
        let Sides { near, far } = &mut self.lists;
        if near.is_short() || far.is_short() {
            return Compared::Short;
        }
        let order = match (near.page.front(), far.page.front()) {
            (None, None) => return Compared::Over,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(near), Some(far)) => scan_order(&near.object, &far.object),
        };
        let near = if order.is_le() { near.page.pop_front() } else { None };
        let far = if order.is_ge() { far.page.pop_front() } else { None };
        Compared::Key(near, far)
    }

    /// Asks for the pages that are needed.
    pub(super) fn ask(&mut self, effects: &mut Vec<ExchangeEffect>) {
        for side in Side::BOTH {
            let list = self.lists.get_mut(side);
            if list.is_short() && !list.is_asked {
                list.is_asked = true;
                effects.push(ExchangeEffect::AskKeys {
                    side,
                    class: self.class,
                    leaves: self.leaves.clone(),
                    after: list.after.clone(),
                });
            }
        }
    }

    /// Whether a page of `side` is waited for.
    pub(super) fn expects(&self, side: Side) -> bool {
        self.lists.get(side).is_asked
    }

    /// Takes a page.
    ///
    /// # Errors
    /// Where it does not continue the list, holds keys of other leaves, or is too long.
    pub(super) fn take(
        &mut self,
        side: Side,
        keys: Vec<KeyEntry>,
        next: Option<ObjectKey>,
    ) -> Result<(), ExchangeFailure> {
        let list = self.lists.get_mut(side);
        if keys.len() > TREE_KEYS_MAX {
            return Err(ExchangeFailure::Malformed("too many keys"));
        }
        let mut last = list.after.as_ref();
        for KeyEntry { object, .. } in &keys {
            if self.leaves.binary_search(&Leaf::of(object.position())).is_err() {
                return Err(ExchangeFailure::Malformed("a key of another leaf"));
            }
            if last.is_some_and(|last| scan_order(last, object).is_ge()) {
                return Err(ExchangeFailure::Malformed("keys out of order"));
            }
            last = Some(object);
        }
        if let Some(next) = &next {
            // The cursor may be the last key itself, and must be beyond the one before.
            let is_behind = last.is_some_and(|last| scan_order(last, next).is_gt());
            let stands_still = list.after.as_ref() == Some(next);
            if is_behind || stands_still {
                return Err(ExchangeFailure::Malformed("a cursor that goes back"));
            }
        }
        list.is_asked = false;
        list.is_whole = next.is_none();
        list.after = next;
        list.page.extend(keys);
        Ok(())
    }
}
