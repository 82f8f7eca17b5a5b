//! What the schedule knows of hints that nobody noted, and of deliveries that never answer.

use std::time::Duration;

use dynamo_core::actor::Actor;
use dynamo_core::clock::record::{Content, Record};
use dynamo_core::handoff::hint::{BatchEnd, HintWork};
use dynamo_core::id::{NodeId, PutId};
use dynamo_core::key::ObjectKey;
use dynamo_core::params::{Durability, Reconciliation};
use dynamo_core::replica::{PutCommand, coordinate_put};
use dynamo_core::time::{Mono, WallMs};
use prometheus::Registry;
use service_kit::time::Clock;

use super::Handoff;
use super::running::Running;
use crate::metrics::Metrics;
use crate::store::EngineKind;
use crate::store::hints::{HintCaps, HintStore, KeepRequest, KeepWhat, open_hints};

const TARGET: NodeId = NodeId(9);
const OTHER: NodeId = NodeId(8);

/// Long enough for any backoff.
const LATER: Duration = Duration::from_secs(3600);

/// What is due at `now` while everybody is reachable and in the ring.
fn due(handoff: &Handoff, now: Mono) -> Vec<HintWork> {
    handoff.lock().due(now, usize::MAX, |_| true, |_| true)
}

fn hint_store(dir: &std::path::Path) -> HintStore {
    let metrics = Metrics::register(&Registry::new()).unwrap();
    let file = open_hints(EngineKind::Memory, dir).unwrap();
    let caps = HintCaps { hints: 10, bytes: 1_000_000 };
    let home = crate::store::tests::no_home(&metrics);
    HintStore::start(file, home, caps, Clock::system(), metrics.hints, metrics.hints_file).unwrap()
}

fn hint() -> KeepRequest {
    let reconciliation = Reconciliation::Siblings;
    let command =
        PutCommand { put_id: PutId(1), context: None, content: Content::Tombstone, reconciliation };
    let mut actor = Actor::resumed(NodeId(2), 1);
    let minted = coordinate_put(&Record::default(), &command, &mut actor, WallMs(1)).unwrap();
    let object = ObjectKey::parse("b", "k").unwrap();
    KeepRequest { object, target: TARGET, what: KeepWhat::Record(minted.record), reconciliation }
}

#[tokio::test]
async fn a_hint_whose_sender_gave_up_is_taken_up() {
    let dir = tempfile::tempdir().unwrap();
    let (hints, handoff) = (hint_store(dir.path()), Handoff::default());
    // The sender asks for the hint and goes away before it hears that it is stored, so whoever
    // would note it never does. What was submitted is stored all the same.
    {
        let keeping = hints.keep(vec![hint()], Durability::Fsync, None);
        tokio::pin!(keeping);
        let polled = std::future::poll_fn(|cx| std::task::Poll::Ready(keeping.as_mut().poll(cx)));
        // It may even be stored by now; nobody notes it either way.
        drop(polled.await);
    }
    tokio::time::timeout(Duration::from_secs(30), async {
        while hints.totals().is_empty() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await
    .expect("the hint is stored");
    let now = Mono(0).plus(LATER);
    assert_eq!(due(&handoff, now), [], "nobody noted it");
    handoff.note_stored(hints.totals().into_keys(), Mono(0));
    assert_eq!(due(&handoff, now), [HintWork::Deliver(TARGET)]);
}

#[test]
fn what_is_scheduled_already_stays_as_it_is() {
    let handoff = Handoff::default();
    handoff.note_stored([TARGET].into_iter(), Mono(0));
    let first = Mono(0).plus(LATER);
    assert_eq!(due(&handoff, first), [HintWork::Deliver(TARGET)]);
    // A look at the file while the delivery runs finds the hints that are being delivered. That
    // neither starts a second delivery nor counts as new hints.
    handoff.note_stored([TARGET, OTHER].into_iter(), first);
    let second = first.plus(LATER);
    assert_eq!(due(&handoff, second), [HintWork::Deliver(OTHER)]);
    handoff.finished(TARGET, second, BatchEnd::Drained);
    assert!(!handoff.lock().is_owed(TARGET));
    // One stored without a note during that delivery shows at the next look.
    handoff.note_stored([TARGET].into_iter(), second);
    assert_eq!(due(&handoff, second.plus(LATER)), [HintWork::Deliver(TARGET)]);
}

#[tokio::test]
async fn a_delivery_that_panics_has_failed_and_is_tried_again() {
    let (handoff, mut running) = (Handoff::default(), Running::default());
    assert_eq!(running.next().await, None);
    for target in [TARGET, OTHER] {
        handoff.noted(target, Mono(0));
    }
    let first = Mono(0).plus(LATER);
    assert_eq!(due(&handoff, first).len(), 2);
    running.start(TARGET, async { panic!("on purpose") });
    running.start(OTHER, async { BatchEnd::More });
    assert_eq!(running.len(), 2);
    let mut ends = Vec::new();
    while let Some((target, end)) = running.next().await {
        handoff.finished(target, first, end);
        ends.push((target, end));
    }
    ends.sort_by_key(|(target, _)| *target);
    assert_eq!(ends, [(OTHER, BatchEnd::More), (TARGET, BatchEnd::Failed)]);
    assert_eq!(running.len(), 0);
    assert_eq!(due(&handoff, first), [HintWork::Deliver(OTHER)], "a failure backs off");
    assert_eq!(due(&handoff, first.plus(LATER)), [HintWork::Deliver(TARGET)], "then it is due");
}

#[tokio::test]
async fn a_stop_gives_up_what_is_on_its_way() {
    let mut running = Running::default();
    running.start(TARGET, std::future::pending());
    running.shutdown().await;
    assert_eq!((running.len(), running.next().await), (0, None));
}
