//! What must hold after every step, seen from outside: dots are unique (I-6), every stored record
//! is exactly what its clock says it should be (I-3, I-4, I-5 and I-9 in one), nothing knows of a
//! write that was never made (I-14), and a hint goes only when its target has it (I-12).

use std::collections::{BTreeMap, BTreeSet};

use crate::clock::dot::Dot;
use crate::clock::dvv::Dvv;
use crate::clock::hlc::Hlc;
use crate::clock::record::Record;
use crate::id::{ActorId, PutId};
use crate::limits::SIBLINGS_MAX;
use crate::params::Reconciliation;
use crate::replica::Minted;
use crate::testing::sim::store::Key;

#[derive(Debug)]
struct Write {
    dot: Dot,
    stamp: Hlc,
    /// What it knew, its own dot included.
    clock: Dvv,
}

/// Every write event of a run.
#[derive(Debug, Default)]
pub struct Audit {
    rule: Reconciliation,
    puts: BTreeMap<(Key, Dot), PutId>,
    writes: BTreeMap<Key, Vec<Write>>,
    highest: BTreeMap<(Key, ActorId), u64>,
    durable: BTreeSet<(Key, Dot)>,
}

impl Audit {
    /// The audit of objects under one rule of reconciliation.
    #[must_use]
    pub fn new(rule: Reconciliation) -> Self {
        Self { rule, ..Self::default() }
    }

    /// Notes that a coordinator minted a version for `put`, whose record had `before` siblings.
    ///
    /// # Errors
    /// I-6: the dot names another put already; the counters of the actor are not contiguous. I-9:
    /// siblings beyond the cap.
    pub fn minted(
        &mut self,
        key: Key,
        put: PutId,
        minted: &Minted,
        before: usize,
    ) -> Result<(), String> {
        let dot = minted.dot;
        let named = *self.puts.entry((key, dot)).or_insert(put);
        if named != put || self.highest.get(&(key, dot.actor)) >= Some(&dot.counter) {
            return Err(format!("I-6: dot {dot} of key {key} names {named} and {put}"));
        }
        let highest = self.highest.entry((key, dot.actor)).or_insert(0);
        // A write that was lost with its epoch leaves a gap at most where nobody ever saw it.
        if dot.counter != *highest + 1 {
            return Err(format!("I-6: dot {dot} of key {key} follows counter {highest}"));
        }
        *highest = dot.counter;
        if minted.record.sibling_count() > SIBLINGS_MAX.max(before) {
            let count = minted.record.sibling_count();
            return Err(format!("I-9: a put leaves {count} siblings of key {key}"));
        }
        let stamp = minted.delta.sibling(&dot).map(|sibling| sibling.stamp).unwrap_or_default();
        let clock = minted.delta.clock().clone();
        self.writes.entry(key).or_default().push(Write { dot, stamp, clock });
        Ok(())
    }

    /// Notes that a record has reached a disk that loses nothing.
    pub fn stored(&mut self, key: Key, record: &Record) {
        let writes = self.writes.get(&key).map(Vec::as_slice).unwrap_or_default();
        let known = writes.iter().filter(|write| record.clock().covers(&write.dot));
        self.durable.extend(known.map(|write| (key, write.dot)));
    }

    /// Whether any version of `put` has ever reached a disk that loses nothing.
    #[must_use]
    pub fn is_durable(&self, key: Key, put: PutId) -> bool {
        self.dots_of(key, put).any(|dot| self.durable.contains(&(key, dot)))
    }

    fn dots_of(&self, key: Key, put: PutId) -> impl Iterator<Item = Dot> + '_ {
        let of_key =
            self.puts.iter().filter(move |((other, _), named)| *other == key && **named == put);
        of_key.map(|((_, dot), _)| *dot)
    }

    /// Checks a record that was stored or is about to be sent.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn record(&self, key: Key, record: &Record) -> Result<(), String> {
        let known = |actor: ActorId| self.highest.get(&(key, actor)).copied().unwrap_or(0);
        let vector = record.clock().vector().map(|(actor, entry)| (actor, entry.counter));
        let loose = record.clock().loose().map(|run| (run.actor, run.last));
        for (actor, counter) in vector.chain(loose) {
            if counter > known(actor) {
                return Err(format!("I-14: key {key} knows of {actor}:{counter}, never minted"));
            }
        }
        for sibling in record.siblings() {
            if self.puts.get(&(key, sibling.dot)) != Some(&sibling.put_id) {
                return Err(format!("I-2: dot {} does not name {}", sibling.dot, sibling.put_id));
            }
        }
        let writes = self.writes.get(&key).map(Vec::as_slice).unwrap_or_default();
        let known: Vec<&Write> =
            writes.iter().filter(|write| record.clock().covers(&write.dot)).collect();
        match self.rule {
            Reconciliation::Siblings => self.siblings(key, record, &known),
            Reconciliation::Lww => last_write(key, record, &known),
        }
    }

    /// Checks that the target of a hint has what the hint held, before it is dropped.
    ///
    /// # Errors
    /// I-12: it has not.
    pub fn hint_dropped(key: Key, hint: &Record, on_disk: &Record) -> Result<(), String> {
        if on_disk.contains(hint) {
            return Ok(());
        }
        Err(format!("I-12: a hint of key {key} was dropped, and its target does not have it"))
    }

    /// Every known write is there unless another known write superseded it, or superseded another
    /// version of the same put.
    fn siblings(&self, key: Key, record: &Record, known: &[&Write]) -> Result<(), String> {
        let is_over = |dot: &Dot| {
            known.iter().rev().find(|other| other.dot != *dot && other.clock.covers(dot))
        };
        for write in known {
            match (record.sibling(&write.dot), is_over(&write.dot)) {
                (Some(_), Some(later)) => {
                    return Err(format!(
                        "I-3: key {key} still has {}, superseded by {}, which it knows",
                        write.dot, later.dot
                    ));
                }
                (None, None)
                    if !self.twins(key, &write.dot).any(|twin| is_over(&twin).is_some()) =>
                {
                    return Err(format!(
                        "I-4: key {key} knows {} and lost it, and nothing supersedes it",
                        write.dot
                    ));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// The dots of the put that `dot` names.
    fn twins(&self, key: Key, dot: &Dot) -> impl Iterator<Item = Dot> + '_ {
        let put = self.puts.get(&(key, *dot)).copied();
        put.into_iter().flat_map(move |put| self.dots_of(key, put))
    }
}

/// Of all known writes the one with the greatest stamp is there, and nothing else.
fn last_write(key: Key, record: &Record, known: &[&Write]) -> Result<(), String> {
    let last = known.iter().max_by_key(|write| (write.stamp, write.dot)).map(|write| write.dot);
    let there: Vec<Dot> = record.siblings().map(|sibling| sibling.dot).collect();
    if there == Vec::from_iter(last) {
        return Ok(());
    }
    Err(format!("I-5: key {key} has {there:?}, and the last write that it knows is {last:?}"))
}
