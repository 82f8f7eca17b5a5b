//! The simulation of whole clusters (see `dynamo_core::testing::sim`), its own meta-tests, and the
//! negative tests of its checks.
//!
//! - `ATOLL_SIM_SEEDS=n`: how many random seeds to run (default: what takes about ten seconds);
//! - `ATOLL_SIM_BASE=n`: where they start (default: fixed, so that a plain test run is repeatable);
//! - `ATOLL_SIM_SEED=n`: run this one seed alone and print what it reached.

use std::collections::{BTreeMap, BTreeSet};

use dynamo_core::actor::Actor;
use dynamo_core::clock::context::CausalContext;
use dynamo_core::clock::record::Record;
use dynamo_core::id::PutId;
use dynamo_core::replica::{Minted, coordinate_put};
use dynamo_core::testing::sim::audit::Audit;
use dynamo_core::testing::sim::check;
use dynamo_core::testing::sim::history::{GetEntry, History, PutEnd, PutEntry};
use dynamo_core::testing::sim::{MUST_COVER, Mutant, SimConfig, SimReport, run};
use dynamo_core::testing::values::{context_of, node, put};
use dynamo_core::time::WallMs;

/// Seeds that once showed a bug, or lie in a corner; each runs every time.
const REGRESSIONS: &[u64] = &[0, 1, 2, 3, 10_004, 10_026, 11_327];

const SEEDS: u64 = 1_500;

/// Within how many seeds every mutant must be noticed.
const MUTANT_SEEDS: u64 = 5_000;

#[expect(clippy::disallowed_methods, reason = "switches of the test, not inputs of the core")]
fn setting(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is a number, not {text:?}")))
}

fn check_seed(seed: u64) -> SimReport {
    let mut config = SimConfig::of(seed);
    config.log = setting("ATOLL_SIM_SEED").is_some();
    let report = run(&config);
    if let Some(violation) = &report.violation {
        let log = report.log.join("\n");
        panic!(
            "{log}\nseed {seed}: {violation}\n{config:?}\nreplay: ATOLL_SIM_SEED={seed} cargo test -p \
             dynamo-core --test simulation invariants_hold -- --nocapture"
        );
    }
    report
}

#[test]
fn invariants_hold_over_random_clusters_and_faults() {
    if let Some(seed) = setting("ATOLL_SIM_SEED") {
        let report = check_seed(seed);
        println!("{}", report.log.join("\n"));
        println!("seed {seed}: {} events, trace {:016x}", report.events, report.trace);
        println!("{:#?}", report.coverage);
        return;
    }
    for seed in REGRESSIONS {
        check_seed(*seed);
    }
    let base = setting("ATOLL_SIM_BASE").unwrap_or(10_000);
    let seeds = setting("ATOLL_SIM_SEEDS").unwrap_or(SEEDS);
    println!("seeds {base}..{}", base + seeds);
    for seed in base..base + seeds / 6 {
        let config = SimConfig::harsh(seed);
        assert_eq!(run(&config).violation, None, "{config:?}");
    }
    let mut coverage: BTreeMap<&str, u64> = BTreeMap::new();
    let (mut events, mut acked, mut backwards, mut missed) = (0, 0, (0, 0), (0, 0));
    for seed in base..base + seeds {
        let report = check_seed(seed);
        for (what, count) in report.coverage {
            *coverage.entry(what).or_insert(0) += count;
        }
        let history = report.history;
        events += report.events;
        acked += history.puts.values().filter(|put| put.end == Some(PutEnd::Ok)).count();
        backwards = (backwards.0 + history.backwards.0, backwards.1 + history.backwards.1);
        let own = history.own_write_missed;
        missed = (missed.0 + own.0, missed.1 + own.1);
    }
    println!("{events} events, {acked} acknowledged puts, none lost");
    println!("I-7: {} of {} reads went backwards", backwards.0, backwards.1);
    println!("I-8: {} of {} reads missed the reader's own write", missed.0, missed.1);
    println!("{coverage:#?}");
    if seeds >= SEEDS {
        for what in MUST_COVER {
            assert!(coverage.contains_key(what), "no run of the batch reached: {what}");
        }
    }
}

/// The meta-test: a run is a function of its seed.
#[test]
fn the_same_seed_is_the_same_run() {
    let mut traces = BTreeSet::new();
    for seed in 0..20 {
        let (a, b) = (run(&SimConfig::of(seed)), run(&SimConfig::of(seed)));
        assert_eq!((a.trace, a.events, a.coverage), (b.trace, b.events, b.coverage), "seed {seed}");
        traces.insert(a.trace);
    }
    assert_eq!(traces.len(), 20, "different seeds are different runs");
}

/// F-21: a simulation that does not notice these bugs checks nothing.
#[test]
fn every_mutant_is_noticed() {
    for mutant in Mutant::ALL {
        let config = match mutant {
            Mutant::AnswerBeforeHint => SimConfig::harsh,
            _ => SimConfig::of,
        };
        let noticed = (0..MUTANT_SEEDS)
            .find_map(|seed| Some((seed, run(&config(seed).with(mutant)).violation?)));
        let (seed, violation) =
            noticed.unwrap_or_else(|| panic!("{mutant:?} survived {MUTANT_SEEDS} seeds"));
        println!("{mutant:?}: seed {seed}: {violation}");
    }
}

/// A good history: put 1, then put 2 over it, put 3 beside it by another client, all read.
fn good() -> History {
    let put = |client, body: &str, seen: &[u128], end| PutEntry {
        client,
        key: 0,
        body: Some(body.to_owned()),
        seen: seen.iter().map(|id| PutId(*id)).collect(),
        minted: 1,
        end: Some(end),
    };
    let version = |id: u128, body: &str| (PutId(id), Some(body.to_owned()));
    let get = |versions| GetEntry { client: 0, key: 0, versions, complete: true };
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

/// Every check notices the history that it is there for, and none complains of a good one.
#[test]
fn the_checks_notice_bad_histories() {
    assert_eq!(check::check(&good(), true), Ok(()));
    type Spoil = fn(&mut History);
    let version = |id: u128, body: &str| (PutId(id), Some(body.to_owned()));
    let cases: [(&str, &str, Spoil); 11] = [
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
        ("without an end", "never ended", |h| h.puts.get_mut(&PutId(1)).expect("put").end = None),
    ];
    for (name, expected, spoil) in cases {
        let mut history = good();
        spoil(&mut history);
        let found = check::check(&history, true).expect_err(name);
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
    assert_eq!(check::check(&history, true), Ok(()));
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
        audit.minted(0, minted.dot, PutId(id), &minted.delta).expect("two dots");
        audit.record(0, &minted.record).expect("a good record");
    }
    let again = audit.minted(0, second.dot, PutId(3), &second.delta);
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
