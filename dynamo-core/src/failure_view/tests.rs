use std::time::Duration;

use super::{FailureKind, FailureView, PeerChange, PeerState};
use crate::entropy::SplitMix;
use crate::id::NodeId;
use crate::limits::{
    PATIENCE_MS_MAX, PATIENCE_MS_MIN, PEER_RECOVERY_GAP_MS, PEER_SLOW_FORGET_MS, PEER_SLOW_STRIKES,
    PROBE_BACKOFF_MS_MAX,
};
use crate::time::Mono;

const A: NodeId = NodeId(1);
const B: NodeId = NodeId(2);
const C: NodeId = NodeId(3);

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn at(time_ms: u64) -> Mono {
    Mono(time_ms * 1000)
}

/// Plays a script of one letter per step and returns the changes: `.` prompt answer, `t` timeout,
/// `s` short timeout, `r` refused, `l` connection lost, `o` overloaded, `+`/`-` probe result.
fn play(view: &mut FailureView, node: NodeId, start_ms: u64, script: &str) -> Vec<bool> {
    let mut entropy = SplitMix::new(7);
    let mut changes = Vec::new();
    for (step, letter) in script.chars().enumerate() {
        let now = at(start_ms + step as u64);
        let mut fail = |kind| view.on_failure(node, now, kind, &mut entropy);
        let change = match letter {
            't' => fail(FailureKind::Timeout { waited: ms(2000) }),
            's' => fail(FailureKind::Timeout { waited: ms(1) }),
            'r' => fail(FailureKind::Refused),
            'l' => fail(FailureKind::ConnectionLost),
            'o' => fail(FailureKind::Overloaded),
            '.' => view.on_success(node, now, ms(1)),
            '+' | '-' => view.on_probe(node, now, letter == '+', &mut entropy),
            other => panic!("no such step: {other}"),
        };
        changes.extend(change.map(|change: PeerChange| change.up));
    }
    changes
}

fn check(script: &str, changes: &[bool], state: PeerState) {
    let mut view = FailureView::new();
    assert_eq!(play(&mut view, A, 0, script), changes, "{script}");
    assert_eq!(view.state(A), state, "{script}");
    assert_eq!(view.reachable(A), state == PeerState::Up, "{script}");
}

#[test]
fn strangers_are_reachable() {
    check("", &[], PeerState::Up);
    assert_eq!(FailureView::new().patience(A), ms(PATIENCE_MS_MAX));
}

#[test]
fn failures_in_a_row_make_a_peer_down_and_an_answer_starts_over() {
    check("tt", &[], PeerState::Up);
    check("ttt", &[false], PeerState::Down);
    check("tltlt", &[false], PeerState::Down);
    check("tt.tt.tt", &[], PeerState::Up);
}

#[test]
fn a_refused_connection_is_enough() {
    check("r", &[false], PeerState::Down);
    check(".r", &[false], PeerState::Down);
}

#[test]
fn short_deadlines_and_overload_are_no_evidence_of_death() {
    check("ssssssss", &[], PeerState::Up);
    check("oooooooo", &[], PeerState::Up);
    check("ttott", &[], PeerState::Up);
}

#[test]
fn probes_lead_back_through_suspicion() {
    check("r+", &[false], PeerState::Suspect);
    check("r++", &[false, true], PeerState::Up);
    check("r+-+", &[false], PeerState::Suspect);
    check("r+-++", &[false, true], PeerState::Up);
    check("r-", &[false], PeerState::Down);
    check("++", &[], PeerState::Up);
}

#[test]
fn an_answer_to_traffic_ends_an_outage() {
    check("ttt.", &[false, true], PeerState::Up);
}

#[test]
fn a_second_recovery_waits() {
    let mut view = FailureView::new();
    assert_eq!(play(&mut view, A, 10_000, "ttt++"), [false, true]);
    assert_eq!(play(&mut view, A, 20_000, "ttt++.+"), [false]);
    assert_eq!(play(&mut view, A, 10_000 + PEER_RECOVERY_GAP_MS + 5, "+"), [true]);
}

/// A peer that was frozen is back, and only then the requests of before time out: they are no second
/// outage.
#[test]
fn requests_sent_into_an_outage_are_no_evidence_after_it() {
    let mut view = FailureView::new();
    let mut entropy = SplitMix::new(7);
    assert_eq!(play(&mut view, A, 10_000, "ttt++"), [false, true]);
    let mut timeout = |time_ms| {
        let kind = FailureKind::Timeout { waited: ms(2000) };
        view.on_failure(A, at(time_ms), kind, &mut entropy)
    };
    assert!((0..9).all(|late| timeout(11_000 + late).is_none()));
    let now = (0..3).map(|new| timeout(13_000 + new).is_some()).collect::<Vec<_>>();
    assert_eq!(now, [false, false, true], "what is sent after it counts");
}

/// An operator who restarts a host twice in a minute is not kept waiting: the failures say that the
/// process went away, not that the network is bad.
#[test]
fn a_process_that_was_started_again_is_back_at_once() {
    check("r++r++r++", &[false, true, false, true, false, true], PeerState::Up);
    check("lll++lll.", &[false, true, false, true], PeerState::Up);
    // Nor does it use up the prompt recovery of a network that fails for the first time.
    let mut view = FailureView::new();
    assert_eq!(play(&mut view, A, 10_000, "r++"), [false, true]);
    assert_eq!(play(&mut view, A, 20_000, "ttt++"), [false, true]);
}

/// F-11: a peer whose probes succeed while its traffic is not answered, for ten minutes.
#[test]
fn a_flapping_peer_changes_at_most_twice_a_minute() {
    let mut view = FailureView::new();
    let mut entropy = SplitMix::new(1);
    let mut changes = Vec::new();
    for time_ms in (0..600_000u64).step_by(10) {
        let now = at(time_ms);
        for node in view.due_probes(now, &mut entropy) {
            changes.extend(view.on_probe(node, now, true, &mut entropy).map(|_| time_ms));
        }
        if view.reachable(A) {
            let kind = FailureKind::Timeout { waited: ms(2000) };
            changes.extend(view.on_failure(A, now, kind, &mut entropy).map(|_| time_ms));
        }
    }
    // The first outage comes on top: going down is never delayed.
    let later: Vec<u64> = changes.iter().skip(1).copied().collect();
    for start in &later {
        let in_window = later.iter().filter(|t| (*start..*start + 60_000).contains(t)).count();
        assert!(in_window <= 2, "{in_window} changes in the minute from {start} ms");
    }
    assert!(changes.len() > 10, "it does get its chances: {}", changes.len());
}

/// F-11 proper: nothing gets through in one direction, so nothing succeeds.
#[test]
fn a_one_way_cut_is_one_change() {
    let mut view = FailureView::new();
    let mut entropy = SplitMix::new(1);
    let mut changes = 0;
    let mut probes = 0;
    for time_ms in (0..300_000u64).step_by(50) {
        let now = at(time_ms);
        if view.reachable(A) {
            let kind = FailureKind::Timeout { waited: ms(2000) };
            changes += usize::from(view.on_failure(A, now, kind, &mut entropy).is_some());
        }
        for node in view.due_probes(now, &mut entropy) {
            probes += 1;
            changes += usize::from(view.on_probe(node, now, false, &mut entropy).is_some());
        }
    }
    assert_eq!(changes, 1);
    // Pauses between a half and the whole of five seconds.
    assert!((60..140).contains(&probes), "{probes} probes in five minutes");
}

#[test]
fn probes_back_off_and_none_overlap() {
    let mut view = FailureView::new();
    let mut entropy = SplitMix::new(3);
    view.on_failure(A, at(0), FailureKind::Refused, &mut entropy);
    assert!(view.due_probes(at(100), &mut entropy).is_empty(), "not before half the backoff");
    assert_eq!(view.due_probes(at(250), &mut entropy), [A]);
    assert!(view.due_probes(at(260), &mut entropy).is_empty(), "one at a time");
    // Without a result the probe counts as failed after its timeout.
    assert_eq!(view.next_probe(), Some(at(2250)));
    assert!(view.due_probes(at(2250), &mut entropy).is_empty());
    let mut now = 2250;
    let mut longest = Duration::ZERO;
    for _ in 0..12 {
        let next = view.next_probe().unwrap();
        longest = longest.max(next.since(at(now)));
        now = next.0.div_ceil(1000);
        assert_eq!(view.due_probes(at(now), &mut entropy), [A]);
        view.on_probe(A, at(now), false, &mut entropy);
    }
    assert!(longest > ms(PROBE_BACKOFF_MS_MAX / 2) && longest <= ms(PROBE_BACKOFF_MS_MAX));
}

/// A and B answer within a millisecond.
fn with_prompt_peers() -> FailureView {
    let mut view = FailureView::new();
    for node in [A, B] {
        view.on_success(node, at(0), ms(1));
    }
    view
}

#[test]
fn a_slow_peer_gets_no_patience_and_is_not_preferred_but_stays_reachable() {
    let mut view = with_prompt_peers();
    for strike in 0..PEER_SLOW_STRIKES {
        assert!(view.routable(C), "after {strike} strikes");
        view.on_success(C, at(1), ms(400));
    }
    assert!(view.reachable(C) && !view.routable(C));
    assert_eq!(view.patience(C), Duration::ZERO);
    for _ in 0..PEER_SLOW_STRIKES {
        assert!(!view.routable(C));
        view.on_success(C, at(2), ms(1));
    }
    assert!(view.routable(C) && view.patience(C) > Duration::ZERO);
}

#[test]
fn overload_and_silence_are_strikes_too() {
    let mut view = with_prompt_peers();
    for strike in 0..PEER_SLOW_STRIKES {
        if strike % 2 == 0 {
            view.on_overdue(C, at(1));
        } else {
            view.on_failure(C, at(1), FailureKind::Overloaded, &mut SplitMix::new(1));
        }
    }
    assert!(!view.routable(C) && view.reachable(C));
}

#[test]
fn slowness_is_forgotten_after_a_while() {
    let mut view = with_prompt_peers();
    for _ in 0..PEER_SLOW_STRIKES {
        view.on_success(C, at(0), ms(400));
    }
    assert_eq!(view.next_probe(), Some(at(PEER_SLOW_FORGET_MS)));
    view.due_probes(at(PEER_SLOW_FORGET_MS - 1), &mut SplitMix::new(1));
    assert!(!view.routable(C));
    view.due_probes(at(PEER_SLOW_FORGET_MS), &mut SplitMix::new(1));
    assert!(view.routable(C) && view.next_probe().is_none());
}

#[test]
fn when_all_are_slow_nobody_is() {
    let mut view = FailureView::new();
    for _ in 0..3 * PEER_SLOW_STRIKES {
        for node in [A, B, C] {
            view.on_success(node, at(1), ms(400));
            view.on_overdue(node, at(1));
        }
    }
    assert!([A, B, C].into_iter().all(|node| view.routable(node)));
}

#[test]
fn patience_follows_the_latency_within_its_bounds() {
    let mut view = FailureView::new();
    for _ in 0..50 {
        view.on_success(A, at(0), ms(1));
        view.on_success(B, at(0), ms(60));
        view.on_success(C, at(0), ms(5000));
    }
    assert_eq!(view.patience(A), ms(PATIENCE_MS_MIN));
    assert!((ms(60)..ms(70)).contains(&view.patience(B)), "{:?}", view.patience(B));
    assert_eq!(view.latency(A), Some(ms(1)));
    assert!(view.latency(NodeId(9)).is_none());
}

#[test]
fn who_left_is_forgotten() {
    let mut view = FailureView::new();
    view.on_failure(A, at(0), FailureKind::Refused, &mut SplitMix::new(1));
    view.retain(|node| node != A);
    assert!(view.reachable(A) && view.next_probe().is_none());
}
