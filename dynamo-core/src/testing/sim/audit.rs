//! What must hold after every step, seen from outside: dots are unique (I-6), every stored record
//! is exactly what its clock says it should be (I-3, I-4 and I-5 in one), nothing knows of a write
//! that was never made (I-14), and a hint goes only when its target has it (I-12).

use std::collections::BTreeMap;

use crate::clock::dot::Dot;
use crate::clock::dvv::Dvv;
use crate::clock::record::Record;
use crate::id::{ActorId, PutId};
use crate::limits::SIBLINGS_MAX;
use crate::testing::sim::store::Key;

#[derive(Debug)]
struct Write {
    dot: Dot,
    /// What it knew, its own dot included.
    clock: Dvv,
}

/// Every write event of a run.
#[derive(Debug, Default)]
pub struct Audit {
    puts: BTreeMap<(Key, Dot), PutId>,
    writes: BTreeMap<Key, Vec<Write>>,
    highest: BTreeMap<(Key, ActorId), u64>,
}

impl Audit {
    /// Notes that a coordinator minted `dot` for `put`, and what travels for it.
    ///
    /// # Errors
    /// I-6: the dot names another put already; the counters of the actor are not contiguous.
    pub fn minted(&mut self, key: Key, dot: Dot, put: PutId, delta: &Record) -> Result<(), String> {
        let named = *self.puts.entry((key, dot)).or_insert(put);
        if named != put || self.highest.get(&(key, dot.actor)) >= Some(&dot.counter) {
            return Err(format!("I-6: dot {dot} of key {key} names {named} and {put}"));
        }
        let highest = self.highest.entry((key, dot.actor)).or_insert(0);
        // A write that was lost with its epoch leaves a gap at most where nobody ever saw it.
        if dot.counter != *highest + 1 {
            return Err(format!("dot {dot} of key {key} follows counter {highest}"));
        }
        *highest = dot.counter;
        self.writes.entry(key).or_default().push(Write { dot, clock: delta.clock().clone() });
        Ok(())
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
        if record.sibling_count() > SIBLINGS_MAX.min(writes.len()) {
            return Err(format!("I-9: key {key} has {} siblings", record.sibling_count()));
        }
        for (index, write) in writes.iter().enumerate() {
            if !record.clock().covers(&write.dot) {
                continue;
            }
            let superseded = writes
                .iter()
                .enumerate()
                .rev()
                .filter(|(other, later)| *other != index && later.clock.covers(&write.dot))
                .find(|(_, later)| record.clock().covers(&later.dot));
            let present = record.sibling(&write.dot).is_some();
            match (present, superseded) {
                (true, Some((_, later))) => {
                    return Err(format!(
                        "I-3: key {key} still has {}, superseded by {}, which it knows",
                        write.dot, later.dot
                    ));
                }
                (false, None) => {
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
}
