//! Background work yields and never starves (paper section 6.5).

use std::collections::BTreeMap;
use std::time::Duration;

use dynamo_core::admission::{Kind, Sample, SliceController, SliceQueue, Thresholds, Verdict};
use dynamo_core::limits::{SLICE_WAITERS_MAX, SLICES_MAX, SLICES_STEP_MS};
use dynamo_core::time::Mono;
use proptest::prelude::*;

const LATER: Mono = Mono(1_000_000_000);

fn at(step: u64) -> Mono {
    Mono::default().plus(Duration::from_millis(SLICES_STEP_MS * step))
}

fn slow(p99: u64) -> Sample {
    Sample { foreground_p99_ms: Some(p99), ..Sample::default() }
}

#[test]
fn samples_are_judged_by_their_worst_value() {
    let limits = Thresholds::default();
    let cases = [
        (Sample::default(), Verdict::Calm),
        (slow(35), Verdict::Calm),
        (slow(36), Verdict::Tense),
        (slow(50), Verdict::Tense),
        (slow(51), Verdict::Breach),
        (Sample { store_p99_ms: Some(51), ..slow(1) }, Verdict::Breach),
        (Sample { failures: 3, ..slow(1) }, Verdict::Calm),
        (Sample { failures: 4, ..slow(1) }, Verdict::Tense),
        (Sample { failures: 6, ..slow(1) }, Verdict::Breach),
        (Sample { queue_wait_ms: 8, ..slow(1) }, Verdict::Tense),
        (Sample { queue_wait_ms: 11, ..slow(1) }, Verdict::Breach),
    ];
    for (sample, verdict) in cases {
        assert_eq!(limits.judge(&sample), verdict, "{sample:?}");
    }
}

#[test]
fn breach_halves_calm_adds_and_between_them_nothing_changes() {
    let mut controller = SliceController::new(Thresholds::default(), SLICES_MAX);
    let steps = [
        (1, 5),
        (1, 6),
        (1, 7),
        (1, 8),
        (45, 8),
        (60, 4),
        (60, 2),
        (60, 1),
        (60, 1),
        (45, 1),
        (1, 2),
        (60, 1),
    ];
    for (index, (p99, slices)) in steps.into_iter().enumerate() {
        assert_eq!(controller.step(at(index as u64 + 1), &slow(p99)), slices, "step {index}");
    }
}

#[test]
fn one_change_must_show_before_the_next() {
    let mut controller = SliceController::new(Thresholds::default(), SLICES_MAX);
    assert_eq!(controller.step(at(1), &slow(60)), 2);
    let soon = at(1).plus(Duration::from_millis(SLICES_STEP_MS - 1));
    assert_eq!(controller.step(soon, &slow(60)), 2);
    assert_eq!(controller.step(at(2), &slow(60)), 1);
}

proptest! {
    #[test]
    fn slices_stay_within_their_bounds(
        max in 0_u32..40,
        samples in proptest::collection::vec((0_u64..200, 0_u64..20, 0_u64..30), 1..60),
    ) {
        let mut controller = SliceController::new(Thresholds::default(), max);
        for (index, (p99, failures, queue_wait_ms)) in samples.into_iter().enumerate() {
            let sample = Sample { failures, queue_wait_ms, ..slow(p99) };
            let slices = controller.step(at(index as u64), &sample);
            prop_assert!((1..=max.clamp(1, SLICES_MAX)).contains(&slices));
            prop_assert_eq!(slices, controller.slices());
        }
    }

    #[test]
    fn everybody_is_served_once_and_kinds_take_turns(
        asks in proptest::collection::vec(0_usize..Kind::ALL.len(), 1..200),
        slices in 1_u32..8,
    ) {
        let mut queue = SliceQueue::new(slices);
        let mut kinds = BTreeMap::new();
        for kind in asks {
            let kind = Kind::ALL[kind];
            if let Ok(ticket) = queue.ask(kind, LATER) {
                kinds.insert(ticket, kind);
            }
        }
        let mut order = Vec::new();
        loop {
            let granted = queue.grant();
            prop_assert!(queue.running() <= slices as usize);
            if granted.is_empty() {
                break;
            }
            for ticket in granted {
                order.push(ticket);
                queue.finish(ticket);
            }
        }
        prop_assert_eq!(order.len(), kinds.len());
        for kind in Kind::ALL {
            let own: Vec<_> = order.iter().filter(|ticket| kinds[ticket] == kind).collect();
            prop_assert!(own.is_sorted(), "oldest first");
        }
        // Until a kind has run out, it is served once while any other is served twice at most.
        let mut left: BTreeMap<Kind, usize> = BTreeMap::new();
        kinds.values().for_each(|kind| *left.entry(*kind).or_default() += 1);
        let waiting = left.len();
        let distinct: std::collections::BTreeSet<Kind> =
            order.iter().take(waiting).map(|ticket| kinds[ticket]).collect();
        prop_assert_eq!(distinct.len(), waiting, "each waiting kind comes once first");
    }
}

#[test]
fn waits_are_bounded_in_number_and_time() {
    let mut queue = SliceQueue::new(1);
    let first = queue.ask(Kind::Transfer, at(1)).unwrap();
    assert_eq!(queue.grant(), [first]);
    for _ in 0..SLICE_WAITERS_MAX {
        queue.ask(Kind::Transfer, at(2)).unwrap();
    }
    assert!(queue.ask(Kind::Transfer, at(2)).is_err());
    let other = queue.ask(Kind::Hints, at(3)).unwrap();
    assert_eq!(queue.next_deadline(), Some(at(2)));
    assert!(queue.grant().is_empty());
    assert!(queue.expire(at(1)).is_empty(), "what runs does not expire");
    assert_eq!(queue.expire(at(2)).len(), SLICE_WAITERS_MAX);
    assert_eq!((queue.waiting(Kind::Transfer), queue.waiting(Kind::Hints)), (0, 1));
    queue.finish(other);
    assert_eq!(queue.next_deadline(), None, "who waits no longer is forgotten");
    queue.finish(first);
    queue.finish(first);
    assert_eq!(queue.running(), 0);
}

#[test]
fn fewer_slices_interrupt_nobody() {
    let mut queue = SliceQueue::new(4);
    let tickets: Vec<_> = (0..6).map(|_| queue.ask(Kind::Scrub, LATER).unwrap()).collect();
    assert_eq!(queue.grant().len(), 4);
    queue.set_slices(0);
    queue.finish(tickets[0]);
    assert!(queue.grant().is_empty(), "three still run");
    tickets[1..4].iter().for_each(|ticket| queue.finish(*ticket));
    assert_eq!(queue.grant(), [tickets[4]], "one always may");
}

#[test]
fn only_workers_kinds_are_read_from_headers() {
    for kind in Kind::ALL {
        let parsed = kind.as_str().parse::<Kind>();
        assert_eq!(parsed.is_ok(), kind.may_be_asked(), "{kind}");
        assert_eq!(parsed.ok(), kind.may_be_asked().then_some(kind));
    }
    assert!("Exchange".parse::<Kind>().is_err());
}
