//! The naive model of versions: write events with their causal histories written out as sets.
//!
//! A replica is the set of events it knows. Nothing is compressed, nothing is merged cleverly: an
//! event is a sibling where it is known and no known event has it in its history; in a last-write-
//! wins bucket the sibling is the known event with the greatest stamp. The real thing must agree
//! with this on every reachable state (I-5).

use std::collections::{BTreeMap, BTreeSet};

use crate::clock::dot::Dot;
use crate::clock::hlc::Hlc;
use crate::clock::record::Record;
use crate::params::Reconciliation;

/// A set of write events.
pub type Events = BTreeSet<Dot>;

/// Every write event of one key, with what its writer had seen.
#[derive(Debug, Default)]
pub struct History {
    events: BTreeMap<Dot, (Events, Hlc)>,
}

impl History {
    /// Notes a write. Returns false where the dot has a history already: a dot was reused (I-6).
    #[must_use]
    pub fn write(&mut self, dot: Dot, seen: Events, stamp: Hlc) -> bool {
        self.events.insert(dot, (seen, stamp)).is_none()
    }

    /// The siblings of a replica that knows `known`.
    #[must_use]
    pub fn siblings(&self, known: &Events, reconciliation: Reconciliation) -> Events {
        let stamp = |dot: &Dot| self.events.get(dot).map(|(_, stamp)| *stamp);
        match reconciliation {
            Reconciliation::Siblings => {
                let superseded: Events = known
                    .iter()
                    .filter_map(|dot| self.events.get(dot))
                    .flat_map(|(seen, _)| seen.iter().copied())
                    .collect();
                known.difference(&superseded).copied().collect()
            }
            Reconciliation::Lww => {
                known.iter().max_by_key(|dot| (stamp(dot), **dot)).copied().into_iter().collect()
            }
        }
    }

    /// Compares a record with the set of events it ought to know. Where events have twins, the
    /// record may lack a sibling whose twin is superseded: `twins` gives the other events of the put
    /// that made one.
    ///
    /// # Errors
    /// What differs, in words.
    pub fn check(
        &self,
        record: &Record,
        known: &Events,
        reconciliation: Reconciliation,
        twins: impl Fn(&Dot) -> Vec<Dot>,
    ) -> Result<(), String> {
        let dots: Events = record.siblings().map(|sibling| sibling.dot).collect();
        let expected = self.siblings(known, reconciliation);
        let is_over = |dot: &Dot| {
            twins(dot).iter().any(|twin| known.contains(twin) && !expected.contains(twin))
        };
        let differs = |dot: &&Dot| !(expected.contains(dot) && is_over(dot));
        if dots.symmetric_difference(&expected).any(|dot| differs(&dot)) {
            return Err(format!("siblings {dots:?}, the model has {expected:?}"));
        }
        let covered = events_of(record);
        if covered != *known {
            return Err(format!("clock covers {covered:?}, the model knows {known:?}"));
        }
        match known.iter().find(|dot| !record.clock().covers(dot)) {
            Some(dot) => Err(format!("{dot} is listed but not covered")),
            None => Ok(()),
        }
    }
}

/// Every event that a record's clock covers, one by one.
#[must_use]
pub fn events_of(record: &Record) -> Events {
    let vector = record.clock().vector().map(|(actor, entry)| (actor, 1, entry.counter));
    let loose = record.clock().loose().map(|run| (run.actor, run.first, run.last));
    vector
        .chain(loose)
        .flat_map(|(actor, first, last)| (first..=last).map(move |counter| Dot { actor, counter }))
        .collect()
}
