//! The way down from the roots to the leaves that differ. Differing subtrees wait in place order
//! and are opened from the front, many in one question, so that a few differences cost a few
//! requests and a tree that differs everywhere is never open as a whole.

use std::collections::{BTreeSet, VecDeque};

use crate::limits::{EXCHANGE_PREFIXES_MAX, TREE_PREFIXES_MAX};
use crate::merkle::digest::TreeDigest;
use crate::merkle::exchange::event::Sides;
use crate::merkle::exchange::outcome::{ClassPart, ExchangeMode};
use crate::merkle::prefix::{Leaf, Prefix};
use crate::ring::Partitions;

/// Subtrees of one class that both sides are asked about.
#[derive(Debug)]
pub(super) struct Question {
    pub(super) class: u8,
    pub(super) prefixes: Vec<Prefix>,
    pub(super) are_roots: bool,
    pub(super) answers: Sides<Option<Vec<TreeDigest>>>,
}

/// Subtrees that differ and have not been looked into. At most all leaves of all classes.
#[derive(Debug, Default)]
pub(super) struct Descent {
    roots: VecDeque<(u8, Prefix)>,
    differing: VecDeque<(u8, Prefix)>,
}

impl Descent {
    /// Starts at the roots of `parts`.
    pub(super) fn new(partitions: Partitions, parts: &BTreeSet<ClassPart>) -> Self {
        let root =
            |(class, partition): &ClassPart| (*class, Prefix::of_partition(partitions, *partition));
        Self { roots: parts.iter().map(root).collect(), differing: VecDeque::new() }
    }

    /// The next subtrees to compare; `None` where leaves come first, or nothing is left.
    pub(super) fn next_question(&mut self) -> Option<Question> {
        let are_roots = !self.roots.is_empty();
        let (class, prefixes) = if are_roots {
            take_class(&mut self.roots, TREE_PREFIXES_MAX, |_| true)?
        } else {
            let inner = |prefix: Prefix| prefix.leaf().is_none();
            let (class, parents) = take_class(&mut self.differing, EXCHANGE_PREFIXES_MAX, inner)?;
            (class, parents.into_iter().flat_map(Prefix::children).collect())
        };
        Some(Question { class, prefixes, are_roots, answers: Sides::default() })
    }

    /// The next leaves that differ, of one class and at most `max`.
    pub(super) fn next_leaves(&mut self, max: usize) -> Option<(u8, Vec<Leaf>)> {
        let (class, prefixes) =
            take_class(&mut self.differing, max, |prefix| prefix.leaf().is_some())?;
        Some((class, prefixes.into_iter().filter_map(Prefix::leaf).collect()))
    }

    /// Takes the subtrees of an answered question in which the sides differ, in so far as `mode`
    /// cares, and returns those that are equal.
    pub(super) fn answered(
        &mut self,
        class: u8,
        are_roots: bool,
        compared: impl Iterator<Item = (Prefix, TreeDigest, TreeDigest)>,
        mode: ExchangeMode,
    ) -> Vec<Prefix> {
        let (mut differing, mut equal) = (Vec::new(), Vec::new());
        for (prefix, near, far) in compared {
            let nothing_to_push = mode == ExchangeMode::PushOnly && near.is_empty();
            if near == far || nothing_to_push {
                equal.push(prefix);
            } else {
                differing.push((class, prefix));
            }
        }
        if are_roots {
            self.differing.extend(differing);
        } else {
            for found in differing.into_iter().rev() {
                self.differing.push_front(found);
            }
        }
        equal
    }

    /// Whether nothing is left to look into.
    pub(super) fn is_over(&self) -> bool {
        self.roots.is_empty() && self.differing.is_empty()
    }
}

/// Takes up to `max` prefixes of one class off the front, as long as they are `wanted`.
fn take_class(
    queue: &mut VecDeque<(u8, Prefix)>,
    max: usize,
    wanted: impl Fn(Prefix) -> bool,
) -> Option<(u8, Vec<Prefix>)> {
    let (class, _) = *queue.front().filter(|(_, prefix)| wanted(*prefix))?;
    let mut taken = Vec::new();
    while taken.len() < max
        && let Some((_, prefix)) =
            queue.pop_front_if(|(other, prefix)| *other == class && wanted(*prefix))
    {
        taken.push(prefix);
    }
    Some((class, taken))
}
