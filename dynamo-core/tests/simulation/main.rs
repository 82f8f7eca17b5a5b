//! The simulation of whole clusters (see `dynamo_core::testing::sim`), its own meta-tests, and the
//! negative tests of its checks.
//!
//! - `ATOLL_SIM_SEEDS=n`: how many random seeds to run (default: [`SEEDS`]);
//! - `ATOLL_SIM_BASE=n`: where they start (default: fixed, so that a plain test run is repeatable);
//! - `ATOLL_SIM_SEED=n`: run this one seed alone and print what happened and what it reached.

#![allow(clippy::print_stdout, reason = "what a batch reached is part of its result")]

mod bounds;
mod checks;

use std::collections::{BTreeMap, BTreeSet};

use dynamo_core::testing::sim::history::{History, PutEnd};
use dynamo_core::testing::sim::{
    MUST_COVER, Mutant, REAPING_MUST_COVER, SimConfig, SimReport, run,
};

/// Seeds that once showed a bug, or lie in a corner; each runs every time.
const REGRESSIONS: &[u64] = &[0, 1, 15, 213, 10_188];

/// Random seeds of a plain test run; a sixth as many of each harder kind.
const SEEDS: u64 = 1_000;

/// Within how many seeds every mutant must be noticed.
const MUTANT_SEEDS: u64 = 5_000;

/// The kinds of runs, with the test that replays them.
const BUFFERED: Kind = Kind { name: "buffered", of: SimConfig::buffered };
const HARSH: Kind = Kind { name: "harsh", of: SimConfig::harsh };
const MOVING: Kind = Kind { name: "moving", of: SimConfig::moving };
const REAPING: Kind = Kind { name: "reaping", of: SimConfig::reaping };
const RANDOM: Kind = Kind { name: "random", of: SimConfig::of };

struct Kind {
    name: &'static str,
    of: fn(u64) -> SimConfig,
}

#[expect(clippy::disallowed_methods, reason = "switches of the test, not inputs of the core")]
fn setting(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is a number, not {text:?}")))
}

/// What a batch of runs reached and saw.
#[derive(Default)]
struct Batch {
    coverage: BTreeMap<&'static str, u64>,
    events: u64,
    acked: usize,
    backwards: (u64, u64),
    own_missed: (u64, u64),
    strict_missed: (u64, u64),
}

impl Batch {
    fn add(&mut self, report: SimReport) {
        for (what, count) in report.coverage {
            *self.coverage.entry(what).or_insert(0) += count;
        }
        let sum = |a: &mut (u64, u64), b: (u64, u64)| *a = (a.0 + b.0, a.1 + b.1);
        let History { puts, backwards, own_write_missed, strict_missed, .. } = report.history;
        self.events += report.events;
        self.acked += puts.values().filter(|put| put.end == Some(PutEnd::Ok)).count();
        sum(&mut self.backwards, backwards);
        sum(&mut self.own_missed, own_write_missed);
        sum(&mut self.strict_missed, strict_missed);
    }

    fn print(&self) {
        let of = |(missed, all): (u64, u64)| format!("{missed} of {all}");
        println!("{} events, {} acknowledged puts, none lost", self.events, self.acked);
        println!("I-7: {} reads went backwards", of(self.backwards));
        println!("I-8: {} reads missed the reader's own write", of(self.own_missed));
        println!("I-8: {} strict reads missed a strict write", of(self.strict_missed));
        println!("{:#?}", self.coverage);
    }
}

/// Runs one seed, or panics with all that is needed to run it again.
fn check_seed(kind: &Kind, seed: u64) -> SimReport {
    let config = (kind.of)(seed);
    let report = run(&config);
    if let Some(violation) = &report.violation {
        let name = kind.name;
        panic!(
            "seed {seed}: {violation}\n{config:?}\nreplay: ATOLL_SIM_SEED={seed} cargo test -p \
             dynamo-core --test simulation {name} -- --nocapture"
        );
    }
    report
}

/// Prints everything of one seed. True where the environment asks for that.
fn replays(kind: &Kind) -> bool {
    let Some(seed) = setting("ATOLL_SIM_SEED") else { return false };
    let mut config = (kind.of)(seed);
    config.log = true;
    let report = run(&config);
    println!("{}\n{config:#?}\n{:#?}", report.log.join("\n"), report.coverage);
    println!("seed {seed}: {} events, trace {:016x}", report.events, report.trace);
    assert_eq!(report.violation, None);
    true
}

fn check_batch(kind: &Kind, seeds: u64) -> Batch {
    let base = setting("ATOLL_SIM_BASE").unwrap_or(10_000);
    println!("{} seeds {base}..{}", kind.name, base + seeds);
    let mut batch = Batch::default();
    for seed in REGRESSIONS.iter().copied().chain(base..base + seeds) {
        batch.add(check_seed(kind, seed));
    }
    batch.print();
    batch
}

fn seeds() -> u64 {
    setting("ATOLL_SIM_SEEDS").unwrap_or(SEEDS)
}

#[test]
fn invariants_hold_in_random_runs() {
    if replays(&RANDOM) {
        return;
    }
    let batch = check_batch(&RANDOM, seeds());
    if seeds() >= SEEDS {
        for what in MUST_COVER {
            assert!(batch.coverage.contains_key(what), "no run of the batch reached: {what}");
        }
    }
}

#[test]
fn invariants_hold_in_harsh_runs() {
    if !replays(&HARSH) {
        check_batch(&HARSH, seeds() / 6);
    }
}

#[test]
fn invariants_hold_in_buffered_runs() {
    if replays(&BUFFERED) {
        return;
    }
    let batch = check_batch(&BUFFERED, seeds() / 6);
    if seeds() >= SEEDS {
        // The loss that buffering permits, and the checks tell from any other.
        assert!(batch.coverage.contains_key("buffered write lost with all its copies"));
    }
}

#[test]
fn invariants_hold_in_moving_runs() {
    if !replays(&MOVING) {
        check_batch(&MOVING, seeds() / 6);
    }
}

#[test]
fn invariants_hold_in_reaping_runs() {
    if replays(&REAPING) {
        return;
    }
    let batch = check_batch(&REAPING, seeds() / 6);
    if seeds() >= SEEDS {
        for what in REAPING_MUST_COVER {
            assert!(batch.coverage.contains_key(what), "no run of the batch reached: {what}");
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
        let noticed =
            (0..MUTANT_SEEDS).find_map(|seed| Some((seed, run(&mutant.run_of(seed)).violation?)));
        let (seed, violation) =
            noticed.unwrap_or_else(|| panic!("{mutant:?} survived {MUTANT_SEEDS} seeds"));
        println!("{mutant:?}: seed {seed}: {violation}");
    }
}

/// A node that learned of a removal and of the removed node's state in one message kept the state
/// for good, and gossiped it to everyone who had dropped it: agents never agreed again (I-20).
#[test]
fn a_removed_node_is_not_remembered_by_those_who_hear_of_it_last() {
    let report = check_seed(&RANDOM, 10_188);
    assert!(report.coverage.contains_key("node removed"), "the run still is what it was");
}
