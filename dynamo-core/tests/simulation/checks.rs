//! Negative tests of the checks: each is fed with what it is there to notice.

use std::collections::BTreeMap;

use dynamo_core::actor::Actor;
use dynamo_core::clock::context::CausalContext;
use dynamo_core::clock::hlc::Hlc;
use dynamo_core::clock::record::Record;
use dynamo_core::id::PutId;
use dynamo_core::params::Reconciliation;
use dynamo_core::replica::{Minted, coordinate_put};
use dynamo_core::testing::sim::audit::Audit;
use dynamo_core::testing::sim::check::{self, Promises};
use dynamo_core::testing::sim::history::{GetEntry, History, PutEnd, PutEntry};
use dynamo_core::testing::values::{context_of, node, put};
use dynamo_core::time::{Mono, WallMs};

/// Everything that a run may promise of siblings.
const ALL: Promises = Promises { rule: Reconciliation::Siblings, lossless: true, strict: true };

/// A good history: put 1, then put 2 over it, put 3 beside it by another client, all read.
fn good() -> History {
    let put = |client, body: &str, seen: &[u128], end| PutEntry {
        client,
        key: 0,
        body: Some(body.to_owned()),
        seen: seen.iter().map(|id| PutId(*id)).collect(),
        expires: false,
        minted: 1,
        forgotten: false,
        stamps: (Hlc(0), Hlc(0)),
        volatile: false,
        end: Some(end),
        ended: Mono(10),
    };
    let version = |id: u128, body: &str| (PutId(id), Some(body.to_owned()));
    let get = |versions| GetEntry { client: 0, key: 0, began: Mono(5), versions, complete: true };
    let last = vec![version(2, "two"), version(3, "three")];
    History {
        puts: BTreeMap::from([
            (PutId(1), put(0, "one", &[], PutEnd::Ok)),
            (PutId(2), put(0, "two", &[1], PutEnd::Ok)),
            (PutId(3), put(1, "three", &[], PutEnd::Info)),
            (PutId(4), put(1, "four", &[1], PutEnd::Fail)),
        ]),
        gets: vec![get(vec![version(1, "one")]), get(last.clone())],
        last: BTreeMap::from([(0, vec![last.clone(), last.clone(), last])]),
        ..History::default()
    }
}

type Spoil = fn(&mut History);

/// What spoils the good history, and the invariant that it breaks then.
fn bad() -> [(&'static str, &'static str, Spoil); 14] {
    [
        ("lost everywhere", "I-1", |h| {
            h.gets.clear();
            h.last
                .get_mut(&0)
                .expect("key")
                .iter_mut()
                .for_each(|one| one.retain(|v| v.0 != PutId(2)));
        }),
        ("superseded by a refused put only", "I-1", |h| {
            h.puts.get_mut(&PutId(2)).expect("put").seen.clear();
        }),
        ("superseded and back", "I-3", |h| {
            let back = (PutId(1), Some("one".to_owned()));
            h.last.get_mut(&0).expect("key").iter_mut().for_each(|one| one.push(back.clone()));
        }),
        ("superseded, back by a retry that was remembered", "I-3", |h| {
            h.puts.get_mut(&PutId(1)).expect("put").minted = 2;
            let back = (PutId(1), Some("one".to_owned()));
            h.last.get_mut(&0).expect("key").iter_mut().for_each(|one| one.push(back.clone()));
        }),
        ("wrong bytes", "I-2", |h| h.gets[0].versions[0].1 = Some("other".to_owned())),
        ("a delete read as a value", "I-2", |h| {
            h.puts.get_mut(&PutId(3)).expect("put").body = None
        }),
        ("never put", "I-2", |h| h.gets[0].versions[0].0 = PutId(99)),
        ("of another key", "I-2", |h| h.gets[0].key = 1),
        ("shown and vanished", "I-4", |h| {
            h.last
                .get_mut(&0)
                .expect("key")
                .iter_mut()
                .for_each(|one| one.retain(|v| v.0 != PutId(3)));
        }),
        ("refused and there", "refused as not applied", |h| {
            let there = (PutId(4), Some("four".to_owned()));
            h.gets[1].versions.push(there);
        }),
        ("replicas differ", "I-15", |h| {
            h.last.get_mut(&0).expect("key")[1].pop();
        }),
        ("missed by a later read", "I-8", |h| {
            h.gets[0].began = Mono(20);
            h.gets[0].versions.clear();
        }),
        ("lost from memory, and something else with it", "I-1", |h| {
            h.puts.get_mut(&PutId(2)).expect("put").volatile = true;
            h.gets.clear();
            h.last.get_mut(&0).expect("key").iter_mut().for_each(Vec::clear);
        }),
        ("without an end", "never ended", |h| h.puts.get_mut(&PutId(1)).expect("put").end = None),
    ]
}

/// Every check notices the history that it is there for, and none complains of a good one.
#[test]
fn the_checks_notice_bad_histories() {
    assert_eq!(check::check(&good(), ALL), Ok(()));
    let version = |id: u128, body: &str| (PutId(id), Some(body.to_owned()));
    for (name, expected, spoil) in bad() {
        let mut history = good();
        spoil(&mut history);
        let found = check::check(&history, ALL).expect_err(name);
        assert!(found.contains(expected), "{name}: {found}");
    }
    // What may have happened supersedes; what certainly did not, does not.
    let mut history = good();
    history.puts.insert(
        PutId(5),
        PutEntry {
            seen: [PutId(3)].into(),
            end: Some(PutEnd::Info),
            ..history.puts[&PutId(3)].clone()
        },
    );
    history.puts.get_mut(&PutId(5)).expect("put").body = Some("five".to_owned());
    history.last.get_mut(&0).expect("key").iter_mut().for_each(|one| {
        one.retain(|v| v.0 != PutId(3));
        one.push(version(5, "five"));
    });
    assert_eq!(check::check(&history, ALL), Ok(()));
}

/// The audit of stored records notices what it is there for.
#[test]
fn the_audit_notices_bad_records() {
    let (mut by, mut audit) = (Actor::resumed(node(0), 1), Audit::default());
    let mut mint = |record: &Record, id: u128, context: Option<CausalContext>| {
        coordinate_put(record, &put(id, context), &mut by, WallMs(1_000)).expect("a legal put")
    };
    let first = mint(&Record::default(), 1, None);
    let second = mint(&first.record, 2, Some(context_of(&first.record)));
    for (minted, id) in [(&first, 1), (&second, 2)] {
        audit.minted(0, PutId(id), minted, 0).expect("two dots");
        audit.record(0, &minted.record).expect("a good record");
    }
    let again = audit.minted(0, PutId(3), &second, 0);
    assert!(again.expect_err("twice").contains("I-6"));
    let third = mint(&second.record, 3, None);
    let unknown = audit.record(0, &third.record).expect_err("nobody noted the third");
    assert!(unknown.contains("I-14"), "{unknown}");
    let sibling = |minted: &Minted| minted.delta.siblings().next().expect("one").clone();
    let clock = second.record.clock().clone();
    let both = Record::new(clock.clone(), [sibling(&first), sibling(&second)]);
    let back = audit.record(0, &both).expect_err("superseded and there");
    assert!(back.contains("I-3"), "{back}");
    let neither = Record::new(clock.clone(), []);
    assert!(audit.record(0, &neither).expect_err("lost").contains("I-4"));
    let mut renamed = sibling(&second);
    renamed.put_id = PutId(9);
    let renamed = Record::new(clock, [renamed]);
    assert!(audit.record(0, &renamed).expect_err("another put").contains("I-2"));
    assert!(Audit::hint_dropped(0, &second.record, &second.record).is_ok());
    let dropped = Audit::hint_dropped(0, &second.record, &first.record);
    assert!(dropped.expect_err("not there").contains("I-12"));
}
