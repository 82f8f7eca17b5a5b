//! Twins: versions of one put that several coordinators have minted, each without knowing of the
//! other. While both are there, readers see them as one. Whoever supersedes one of them has seen
//! the put, so the other is superseded as well, although nothing that its clock says shows it.
//!
//! These rules only ever take siblings out of a record whose clock goes on covering them, as a put
//! that supersedes them would. So a record still grows in the order of [`Record::sync`], what one
//! replica drops is dropped by all that it meets, and it does not matter that replicas learn of
//! twins in different order. A sibling is taken out only where a version that supersedes its put
//! is among those left, so none is ever the last.
//!
//! Not for last-write-wins records, whose siblings go for the stamp of another: there, each of two
//! replicas could drop what the other keeps.

use crate::clock::dot::Dot;
use crate::clock::dvv::Dvv;
use crate::clock::record::{Record, Sibling};
use crate::put_memory::{PutsOf, fingerprint};

/// Joins two records, and takes out the twins of what one of them supersedes in the other.
#[must_use]
pub fn join(a: &Record, b: &Record) -> Record {
    let joined = a.sync(b);
    if joined.sibling_count() < 2 {
        return joined;
    }
    let superseded: Vec<&Sibling> = a
        .siblings()
        .chain(b.siblings())
        .filter(|sibling| joined.sibling(&sibling.dot).is_none())
        .collect();
    joined.without(|alive| superseded.iter().any(|gone| are_twins(gone, alive)))
}

/// Takes out the twins of what is remembered to have been there, and is superseded.
#[must_use]
pub fn settle(record: Record, puts: PutsOf<'_>) -> Record {
    if record.sibling_count() < 2 {
        return record;
    }
    let clock = record.clock().clone();
    let known: Vec<_> = record.siblings().map(|sibling| sibling.dot).collect();
    record.without(|alive| {
        remembered_twin(alive, puts, |dot| clock.covers(dot) && !known.contains(dot))
    })
}

/// The siblings of a record whose put a client with the causal past `past` has seen, though not by
/// this dot of it.
#[must_use]
pub fn seen_by_twin<'r>(record: &'r Record, past: &Dvv, puts: PutsOf<'_>) -> Vec<&'r Sibling> {
    let is_seen = |alive: &&Sibling| {
        let seen = |other: &Sibling| past.covers(&other.dot) && are_twins(other, alive);
        !past.covers(&alive.dot)
            && (record.siblings().any(seen) || remembered_twin(alive, puts, |dot| past.covers(dot)))
    };
    record.siblings().filter(is_seen).collect()
}

/// A put id that a client has used for two different objects is two puts.
fn are_twins(one: &Sibling, other: &Sibling) -> bool {
    one.dot != other.dot && one.put_id == other.put_id && one.content.is_same_object(&other.content)
}

fn remembered_twin(alive: &Sibling, puts: PutsOf<'_>, is_gone: impl Fn(&Dot) -> bool) -> bool {
    puts.get(alive.put_id).is_some_and(|applied| {
        applied.dot != alive.dot
            && is_gone(&applied.dot)
            && applied.content == fingerprint(&alive.content)
    })
}
