//! A causal past in JSON: which events of which actor have been seen, as runs of consecutive
//! numbers. Complete pasts are one run per actor, however many events there were.
//!
//! Runs, not only a highest number: two edits of one actor may start from the same read, and then
//! the later one has not seen the earlier.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Events that have been seen.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Seen(BTreeMap<String, Vec<(u64, u64)>>);

impl Seen {
    pub(super) fn contains(&self, actor: &str, event: u64) -> bool {
        self.0
            .get(actor)
            .is_some_and(|runs| runs.iter().any(|(first, last)| (*first..=*last).contains(&event)))
    }

    pub(super) fn insert(&mut self, actor: &str, event: u64) {
        let runs = self.0.entry(actor.to_owned()).or_default();
        runs.push((event, event));
        normalize(runs);
    }

    pub(super) fn merge(&mut self, other: &Self) {
        for (actor, runs) in &other.0 {
            let own = self.0.entry(actor.clone()).or_default();
            own.extend(runs);
            normalize(own);
        }
    }

    /// Puts what may have been written by hand into order.
    pub(super) fn normalized(mut self) -> Self {
        self.0.values_mut().for_each(normalize);
        self.0.retain(|_, runs| !runs.is_empty());
        self
    }

    /// The highest event of `actor` that has been seen; 0 where none.
    pub(super) fn highest(&self, actor: &str) -> u64 {
        self.0.get(actor).and_then(|runs| runs.last()).map_or(0, |(_, last)| *last)
    }
}

/// Sorts runs and joins those that touch.
fn normalize(runs: &mut Vec<(u64, u64)>) {
    runs.retain(|(first, last)| first <= last);
    runs.sort_unstable();
    let mut joined: Vec<(u64, u64)> = Vec::with_capacity(runs.len());
    for &(first, last) in runs.iter() {
        match joined.last_mut() {
            Some(run) if first <= run.1.saturating_add(1) => run.1 = run.1.max(last),
            _ => joined.push((first, last)),
        }
    }
    *runs = joined;
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn runs_are_a_set(left in prop::collection::vec(1u64..40, 0..40),
                          right in prop::collection::vec(1u64..40, 0..40)) {
            let build = |events: &[u64]| {
                let mut seen = Seen::default();
                events.iter().for_each(|event| seen.insert("a", *event));
                seen
            };
            let mut merged = build(&left);
            merged.merge(&build(&right));
            let model: BTreeSet<u64> = left.iter().chain(&right).copied().collect();
            for event in 0..42 {
                prop_assert_eq!(merged.contains("a", event), model.contains(&event));
            }
            prop_assert_eq!(merged.highest("a"), model.last().copied().unwrap_or(0));
            let mut reverse = build(&right);
            reverse.merge(&build(&left));
            prop_assert_eq!(&reverse, &merged);
        }
    }
}
