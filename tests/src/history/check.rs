//! The verdict: acknowledged writes are there or superseded by someone who had seen them (I-1),
//! nothing was invented (I-2), nothing superseded or deleted came back (I-3, I-10).

use std::collections::{BTreeMap, BTreeSet};

use super::{Final, History, Outcome, ValueId, Write};

/// What is wrong with a history; empty lists are good ones.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Acknowledged values that are gone although nobody who had seen them wrote since.
    pub lost: Vec<String>,
    /// Values that nobody wrote to the key, or damaged ones.
    pub invented: Vec<String>,
    /// Values that an acknowledged write had superseded and that are there in the end.
    pub risen: Vec<String>,
}

impl Verdict {
    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_good(&self) -> bool {
        *self == Self::default()
    }
}

/// Judges `history` by what is stored in the `end`.
#[must_use]
pub fn check(history: &History, end: &Final) -> Verdict {
    let mut verdict = Verdict::default();
    let mut written: BTreeMap<&str, BTreeSet<&ValueId>> = BTreeMap::new();
    let mut superseded: BTreeMap<&str, BTreeSet<&ValueId>> = BTreeMap::new();
    let mut maybe_superseded: BTreeMap<&str, BTreeSet<&ValueId>> = BTreeMap::new();
    for write in history.writes.iter().filter(|write| write.outcome != Outcome::Failed) {
        written.entry(&write.key).or_default().extend(&write.value);
        maybe_superseded.entry(&write.key).or_default().extend(&write.covers);
        if write.outcome == Outcome::Ok {
            superseded.entry(&write.key).or_default().extend(&write.covers);
        }
    }
    let is_in = |sets: &BTreeMap<&str, BTreeSet<&ValueId>>, key: &str, id: &ValueId| {
        sets.get(key).is_some_and(|set| set.contains(id))
    };
    let read = history.reads.iter().map(|read| (&read.key, &read.bodies));
    for (key, bodies) in read.chain(end) {
        for body in bodies {
            match ValueId::of_body(body) {
                Ok(id) if is_in(&written, key, &id) => {}
                Ok(id) => verdict.invented.push(format!("{key}: {}", id.0)),
                Err(text) => verdict.invented.push(format!("{key}: damaged: {text:.80}")),
            }
        }
    }
    let stored = |key: &str| -> BTreeSet<ValueId> {
        let bodies = end.get(key).into_iter().flatten();
        bodies.filter_map(|body| ValueId::of_body(body).ok()).collect()
    };
    for (key, bodies) in end {
        for id in bodies.iter().filter_map(|body| ValueId::of_body(body).ok()) {
            if is_in(&superseded, key, &id) {
                verdict.risen.push(format!("{key}: {}", id.0));
            }
        }
    }
    let acked = |write: &&Write| write.outcome == Outcome::Ok;
    for write in history.writes.iter().filter(acked) {
        let Some(id) = &write.value else { continue };
        if !stored(&write.key).contains(id) && !is_in(&maybe_superseded, &write.key, id) {
            verdict.lost.push(format!("{}: {}", write.key, id.0));
        }
    }
    verdict
}

#[cfg(test)]
mod tests {
    use super::super::Read;
    use super::*;

    fn id(name: &str) -> ValueId {
        ValueId(name.to_owned())
    }

    fn write(name: Option<&str>, covers: &[&str], outcome: Outcome) -> Write {
        Write {
            key: "k".to_owned(),
            value: name.map(id),
            covers: covers.iter().map(|name| id(name)).collect(),
            outcome,
        }
    }

    fn ended(names: &[&str]) -> Final {
        let bodies = names.iter().map(|name| id(name).body().into_bytes()).collect();
        Final::from([("k".to_owned(), bodies)])
    }

    #[test]
    fn good_histories_pass_and_bad_ones_are_found() {
        use Outcome::{Failed, Ok, Unknown};
        let one = || write(Some("1"), &[], Ok);
        type Case = (Vec<Write>, &'static [&'static str], usize, usize, usize);
        // (writes, what is stored in the end, lost, risen, invented)
        let cases: Vec<Case> = vec![
            (vec![one()], &["1"], 0, 0, 0),
            (vec![one()], &[], 1, 0, 0),
            (vec![one(), write(Some("2"), &["1"], Ok)], &["2"], 0, 0, 0),
            (vec![one(), write(Some("2"), &["1"], Ok)], &["1", "2"], 0, 1, 0),
            (vec![one(), write(Some("2"), &["1"], Unknown)], &["2"], 0, 0, 0),
            (vec![one(), write(Some("2"), &["1"], Unknown)], &["1"], 0, 0, 0),
            (vec![one(), write(Some("2"), &["1"], Failed)], &[], 1, 0, 0),
            (vec![one(), write(Some("2"), &["1"], Failed)], &["2"], 1, 0, 1),
            (vec![one(), write(Some("2"), &[], Ok)], &["1", "2"], 0, 0, 0),
            (vec![one(), write(Some("2"), &[], Ok)], &["2"], 1, 0, 0),
            (vec![one(), write(None, &["1"], Ok)], &[], 0, 0, 0),
            (vec![one(), write(None, &["1"], Ok)], &["1"], 0, 1, 0),
            (vec![write(Some("1"), &[], Unknown)], &[], 0, 0, 0),
            (vec![one()], &["1", "9"], 0, 0, 1),
        ];
        for (index, (writes, stored, lost, risen, invented)) in cases.into_iter().enumerate() {
            let history = History { writes, ..History::default() };
            let verdict = check(&history, &ended(stored));
            let found = (verdict.lost.len(), verdict.risen.len(), verdict.invented.len());
            assert_eq!(found, (lost, risen, invented), "case {index}: {verdict:?}");
        }
    }

    #[test]
    fn a_value_of_another_key_and_a_damaged_one_are_invented() {
        let mut history =
            History { writes: vec![write(Some("1"), &[], Outcome::Ok)], ..History::default() };
        let mut damaged = id("1").body().into_bytes();
        damaged.push(b'y');
        history.reads = vec![
            Read { key: "other".to_owned(), bodies: vec![id("1").body().into_bytes()] },
            Read { key: "k".to_owned(), bodies: vec![damaged] },
        ];
        let verdict = check(&history, &ended(&["1"]));
        assert_eq!(verdict.invented.len(), 2, "{verdict:?}");
        assert!(verdict.lost.is_empty() && verdict.risen.is_empty());
    }
}
