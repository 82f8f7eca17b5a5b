//! The estimate of the freshness of reads against reads that were really stale: the protocol's own
//! machines on three simulated replicas with drawn delays. The estimate sees what a coordinator
//! sees, round trips; the measured share comes from the one-way delays behind them.

mod trial;

use std::time::Duration;

use dynamo_core::entropy::SplitMix;
use dynamo_core::freshness::{Freshness, Observed};
use dynamo_core::limits::FRESHNESS_PUTS_MAX;

use crate::trial::{Delay, Network, trial};

/// How far estimate and measurement may be apart where a message takes as long out as back. The
/// measurement alone has a standard error of 0.8 points (4,000 reads), the estimate one of 2 points
/// (512 puts) where half the reads are stale.
const EVEN: f64 = 0.05;

/// The same where one way takes ten times as long as the other, which the estimate cannot see.
const UNEVEN: f64 = 0.3;

/// Reads measured per time.
const READS: u32 = 4_000;

const AFTER_MS: [u64; 6] = [0, 1, 2, 5, 10, 50];

/// Name, tolerance, delays of messages and of commits in microseconds.
const NETWORKS: [(&str, f64, Network); 5] = [
    ("commits vary", EVEN, network(Delay(200, 0), Delay(200, 0), Delay(500, 4_000))),
    ("messages vary", EVEN, network(Delay(100, 2_000), Delay(100, 2_000), Delay(300, 300))),
    ("all is quick", EVEN, network(Delay(50, 20), Delay(50, 20), Delay(50, 50))),
    ("slow out", UNEVEN, network(Delay(3_000, 1_000), Delay(200, 100), Delay(500, 2_000))),
    ("slow back", UNEVEN, network(Delay(200, 100), Delay(3_000, 1_000), Delay(500, 2_000))),
];

const fn network(out: Delay, back: Delay, commit: Delay) -> Network {
    Network { out, back, commit }
}

/// The estimate from puts and gets that do not meet.
fn estimate(network: &Network, r: u8, w: u8, entropy: &mut SplitMix) -> Freshness {
    let mut observed = Observed::default();
    for _ in 0..2 * FRESHNESS_PUTS_MAX {
        let (seen, _) = trial(network, 3, 3, Duration::from_secs(1), entropy);
        let (put, get) = seen;
        observed.put(put, entropy);
        observed.get(get, entropy);
    }
    let (n, sample) = observed.take().pop().expect("a sample that suffices");
    assert_eq!(n, 3);
    Freshness::estimate(sample.puts.kept(), sample.gets.kept(), r, w).expect("an estimate")
}

fn measure(network: &Network, r: u8, w: u8, after: Duration, entropy: &mut SplitMix) -> f64 {
    let fresh = (0..READS).filter(|_| trial(network, r, w, after, entropy).1).count();
    f64::from(u32::try_from(fresh).unwrap_or(READS)) / f64::from(READS)
}

#[test]
fn the_estimate_agrees_with_the_reads_that_are_stale() {
    let (mut stale_somewhere, mut apart) = (false, Vec::new());
    for (index, (name, tolerance, network)) in NETWORKS.iter().enumerate() {
        for (r, w) in [(1, 1), (1, 2), (2, 1)] {
            let seed = 100 * index as u64 + 10 * u64::from(r) + u64::from(w);
            let mut entropy = SplitMix::new(seed);
            let found = estimate(network, r, w, &mut entropy);
            for after in AFTER_MS.map(Duration::from_millis) {
                let expected = found.probability(after);
                let measured = measure(network, r, w, after, &mut entropy);
                let line = format!(
                    "{name}, r={r} w={w}, {after:?}: estimated {expected:.3}, measured {measured:.3}"
                );
                println!("{line}");
                stale_somewhere |= measured < 0.7;
                if (expected - measured).abs() > *tolerance {
                    apart.push(format!("{line} (seed {seed})"));
                }
            }
        }
    }
    assert!(apart.is_empty(), "too far apart:\n{}", apart.join("\n"));
    assert!(stale_somewhere, "nothing was stale, so nothing was tested");
}

#[test]
fn quorums_that_overlap_are_fresh_in_both() {
    for (name, _, network) in &NETWORKS {
        let mut entropy = SplitMix::new(5);
        for (r, w) in [(2, 2), (1, 3), (3, 1)] {
            let found = estimate(network, r, w, &mut entropy);
            assert_eq!(found.probability(Duration::ZERO), 1.0, "{name} r={r} w={w}");
            assert_eq!(
                measure(network, r, w, Duration::ZERO, &mut entropy),
                1.0,
                "{name} r={r} w={w}"
            );
            assert_eq!(found.time_until(999), Some(Duration::ZERO));
        }
    }
}
