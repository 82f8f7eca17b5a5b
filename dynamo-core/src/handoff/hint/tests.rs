use std::time::Duration;

use super::{BatchEnd, HintBatchBudget, HintSchedule, HintUsage, HintWork, is_expired, may_delete};
use crate::clock::digest::RecordDigest;
use crate::entropy::SplitMix;
use crate::id::NodeId;
use crate::limits::{
    HINT_AGE_MS_MAX, HINT_BACKOFF_MS_MAX, HINT_BACKOFF_MS_MIN, HINT_BATCH_BYTES_MAX,
    HINT_BATCH_MAX, HINT_BYTES_MAX, HINTS_MAX,
};
use crate::time::{Mono, WallMs};

const A: NodeId = NodeId(1);
const B: NodeId = NodeId(2);
const C: NodeId = NodeId(3);
const SOON: u64 = HINT_BACKOFF_MS_MIN;

fn at(ms: u64) -> Mono {
    Mono(ms * 1000)
}

fn due(schedule: &mut HintSchedule, ms: u64) -> Vec<HintWork> {
    schedule.due(at(ms), 10, |_| true, |_| true)
}

fn finish(schedule: &mut HintSchedule, target: NodeId, ms: u64, end: BatchEnd) {
    schedule.finished(target, at(ms), end, &mut SplitMix::new(1));
}

#[test]
fn a_target_is_due_once_at_a_time() {
    let mut schedule = HintSchedule::new();
    schedule.noted(A, at(0));
    assert!(due(&mut schedule, SOON - 1).is_empty());
    assert_eq!(due(&mut schedule, SOON), [HintWork::Deliver(A)]);
    assert!(due(&mut schedule, 99_999).is_empty(), "it is running");
    assert!(schedule.next_due(|_| true).is_none());
    finish(&mut schedule, A, SOON + 1, BatchEnd::More);
    assert_eq!(due(&mut schedule, SOON + 1), [HintWork::Deliver(A)]);
    finish(&mut schedule, A, SOON + 2, BatchEnd::Drained);
    assert!(!schedule.is_owed(A));
}

#[test]
fn a_hint_stored_during_the_last_batch_is_not_forgotten() {
    let mut schedule = HintSchedule::new();
    schedule.noted(A, at(0));
    due(&mut schedule, SOON);
    schedule.noted(A, at(SOON));
    finish(&mut schedule, A, SOON + 1, BatchEnd::Drained);
    assert_eq!(due(&mut schedule, SOON + 1), [HintWork::Deliver(A)]);
    finish(&mut schedule, A, SOON + 2, BatchEnd::Drained);
    assert_eq!(schedule.targets().count(), 0);
}

#[test]
fn the_unreachable_wait_and_recovery_makes_them_due() {
    let mut schedule = HintSchedule::new();
    schedule.noted(A, at(0));
    assert!(schedule.due(at(SOON), 10, |_| false, |_| true).is_empty());
    due(&mut schedule, SOON);
    finish(&mut schedule, A, SOON, BatchEnd::Failed);
    schedule.on_recovered(A, at(SOON + 1));
    schedule.on_recovered(B, at(SOON + 1));
    assert_eq!(due(&mut schedule, SOON + 1), [HintWork::Deliver(A)]);
}

#[test]
fn failures_back_off_with_a_ceiling() {
    let mut schedule = HintSchedule::new();
    schedule.noted(A, at(0));
    let mut now = at(SOON);
    let mut pauses = Vec::new();
    for _ in 0..10 {
        assert_eq!(schedule.due(now, 10, |_| true, |_| true), [HintWork::Deliver(A)]);
        schedule.finished(A, now, BatchEnd::Failed, &mut SplitMix::new(1));
        let next = schedule.next_due(|_| true).unwrap();
        pauses.push(next.since(now));
        now = next;
    }
    let (least, most) = (HINT_BACKOFF_MS_MIN, HINT_BACKOFF_MS_MAX);
    assert!(pauses.first().unwrap() <= &Duration::from_millis(least));
    assert!(pauses.iter().all(|pause| *pause >= Duration::from_millis(least / 2)));
    assert!(pauses.last().unwrap() > &Duration::from_millis(most / 2));
    assert!(pauses.last().unwrap() <= &Duration::from_millis(most));
}

#[test]
fn the_longest_due_go_first_within_the_room() {
    let mut schedule = HintSchedule::new();
    for (node, ms) in [(B, 0), (A, 2), (C, 1)] {
        schedule.noted(node, at(ms));
    }
    let first = schedule.due(at(SOON + 9), 2, |_| true, |_| true);
    assert_eq!(first, [HintWork::Deliver(B), HintWork::Deliver(C)]);
    assert_eq!(due(&mut schedule, SOON + 9), [HintWork::Deliver(A)]);
}

#[test]
fn hints_of_those_who_left_go_elsewhere() {
    let mut schedule = HintSchedule::new();
    schedule.noted(A, at(0));
    let work = schedule.due(at(SOON), 10, |_| false, |node| node != A);
    assert_eq!(work, [HintWork::Retarget(A)]);
}

#[test]
fn a_batch_has_room_for_so_many_and_so_much() {
    let mut many = HintBatchBudget::new();
    let taken = (0..2 * HINT_BATCH_MAX).filter(|_| many.admit(1)).count();
    assert_eq!(taken, HINT_BATCH_MAX);
    let mut large = HintBatchBudget::new();
    assert!(large.admit(2 * HINT_BATCH_BYTES_MAX), "the first goes alone");
    assert!(!large.admit(1) && large.admit(0));
    let mut exact = HintBatchBudget::new();
    assert!(exact.admit(HINT_BATCH_BYTES_MAX - 1) && exact.admit(1) && !exact.admit(1));
}

#[test]
fn only_what_was_sent_is_deleted() {
    let (sent, newer) = (RecordDigest(1), RecordDigest(2));
    assert!(may_delete(sent, Some(sent)));
    assert!(!may_delete(sent, Some(newer)));
    assert!(!may_delete(sent, None));
}

#[test]
fn the_hint_file_has_its_caps() {
    let full = HintUsage { hints: HINTS_MAX, bytes: 0 };
    assert!(!full.admits(0));
    let almost = HintUsage { hints: HINTS_MAX - 1, bytes: HINT_BYTES_MAX - 10 };
    assert!(almost.admits(10) && !almost.admits(11) && !almost.admits(u64::MAX));
}

#[test]
fn hints_age_by_the_wall_clock_and_never_backwards() {
    let stored = WallMs(HINT_AGE_MS_MAX);
    assert!(!is_expired(stored, WallMs(0)));
    assert!(!is_expired(stored, WallMs(2 * HINT_AGE_MS_MAX)));
    assert!(is_expired(stored, WallMs(2 * HINT_AGE_MS_MAX + 1)));
}
