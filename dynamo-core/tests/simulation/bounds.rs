//! I-9: how many siblings a key may have, in runs without any fault.

use dynamo_core::limits::SIBLINGS_MAX;
use dynamo_core::testing::sim::history::{History, PutEnd};
use dynamo_core::testing::sim::{SimConfig, SimReport, Workload, run};

fn calm_run(seed: u64, workload: Workload, clients: usize, requests: usize) -> SimReport {
    let keys = 1;
    let calm = SimConfig::calm(seed);
    let config = SimConfig { workload, clients, requests, keys, ..calm };
    let report = run(&config);
    assert_eq!(report.violation, None, "{config:?}");
    report
}

/// The siblings that each replica has in the end.
fn siblings(history: &History) -> Vec<usize> {
    history.last.values().flatten().map(Vec::len).collect()
}

/// The sibling explosion that clocks per node have: two clients take turns, and every put carries
/// the context of the client's last one.
#[test]
fn two_clients_that_take_turns_leave_two_siblings() {
    for seed in 0..20 {
        let report = calm_run(seed, Workload::Interleaved, 2, 50);
        let acked = report.history.puts.values().filter(|put| put.end == Some(PutEnd::Ok)).count();
        assert_eq!(acked, 100, "nothing stands in the way of a put");
        assert_eq!(siblings(&report.history), vec![2; 3], "seed {seed}");
    }
}

#[test]
fn blind_writers_leave_one_sibling_for_each_put() {
    for seed in 0..10 {
        let report = calm_run(seed, Workload::Blind, 3, 8);
        assert_eq!(siblings(&report.history), vec![24; 3], "seed {seed}");
    }
}

/// At the cap a put is refused and nothing changes; what was acknowledged is all there.
#[test]
fn blind_writers_meet_the_cap() {
    let report = calm_run(1, Workload::Blind, 2, 60);
    let ended = |end| report.history.puts.values().filter(|put| put.end == Some(end)).count();
    let (acked, refused) = (ended(PutEnd::Ok), ended(PutEnd::Fail));
    assert_eq!(acked + refused, 120, "every put has a clear outcome");
    assert!(refused > 0 && report.coverage.contains_key("too many siblings"));
    assert_eq!(siblings(&report.history), vec![acked; 3]);
    // Coordinators that do not know of each other's last put may each reach the cap.
    assert!((SIBLINGS_MAX..SIBLINGS_MAX + 2).contains(&acked), "{acked} siblings");
}
