//! What a put removes and what it keeps: exact supersession (I-4), bounded siblings (I-9),
//! idempotent replays, lost epochs, skewed clocks and safe truncation.

use std::collections::{BTreeMap, BTreeSet};

use dynamo_core::actor::Actor;
use dynamo_core::clock::context::CausalContext;
use dynamo_core::clock::dot::Dot;
use dynamo_core::clock::dvv::Dvv;
use dynamo_core::clock::hlc::Hlc;
use dynamo_core::clock::record::{Content, Record};
use dynamo_core::clock::truncate::{truncatable, truncate};
use dynamo_core::entropy::{Entropy, SplitMix};
use dynamo_core::id::{ActorId, PutId};
use dynamo_core::limits::{
    CLOCK_ACTORS_THRESHOLD, CLOCK_SKEW_MS_MAX, CLOCK_TRUNCATE_AGE_MS, SIBLINGS_MAX,
};
use dynamo_core::params::Reconciliation;
use dynamo_core::replica::{PutRefusal, coordinate_put, merge};
use dynamo_core::testing::model::events_of;
use dynamo_core::testing::strategy;
use dynamo_core::testing::values::{context_of, node, put, text, text_of};
use dynamo_core::time::WallMs;
use proptest::prelude::{ProptestConfig, any, prop_assert, prop_assert_eq, proptest};

const NOW: WallMs = WallMs(1_700_000_000_000);

fn actor(number: u128) -> Actor {
    Actor::resumed(node(number), 1)
}

fn values(record: &Record) -> BTreeSet<String> {
    record.siblings().filter_map(|sibling| text_of(&sibling.content)).collect()
}

fn written(record: &Record, id: u128, context: Option<CausalContext>, by: &mut Actor) -> Record {
    coordinate_put(record, &put(id, context), by, NOW).expect("a legal put").record
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// I-4: a put with context c removes exactly the siblings whose dot c covers, adds its own,
    /// and leaves a record that covers what was known, the context and the new dot.
    #[test]
    fn i4_a_put_removes_exactly_what_its_context_covers(
        local in strategy::records(),
        context in proptest::option::of(strategy::contexts()),
        epoch in 0u64..4,
    ) {
        let mut by = Actor::resumed(node(0), epoch);
        let command = put(u128::MAX, context.clone());
        let mut outcome = coordinate_put(&local, &command, &mut by, NOW);
        // Real clocks take one new epoch; these also have every epoch's counters exhausted.
        for _ in 0..4 {
            if let Err(PutRefusal::Amnesia { seen }) = outcome {
                let before = by.id().epoch;
                prop_assert!(by.on_loss(seen));
                if by.id().epoch == before {
                    return Ok(()); // The last epoch of all.
                }
                outcome = coordinate_put(&local, &command, &mut by, NOW);
            }
        }
        let minted = outcome.expect("a legal put");
        let covered = |dot: &Dot| context.as_ref().is_some_and(|c| c.clock.covers(dot));
        let mut expected: BTreeSet<Dot> =
            local.siblings().map(|s| s.dot).filter(|dot| !covered(dot)).collect();
        prop_assert!(expected.insert(minted.dot), "the dot is new");
        prop_assert!(!local.clock().covers(&minted.dot) && !covered(&minted.dot));
        let left: BTreeSet<Dot> = minted.record.siblings().map(|s| s.dot).collect();
        prop_assert_eq!(left, expected);
        let mut clock = local.clock().clone();
        clock.merge(minted.delta.clock());
        prop_assert_eq!(minted.record.clock(), &clock);
        prop_assert_eq!(minted.delta.sibling_count(), 1);
        prop_assert_eq!(&local.sync(&minted.delta), &minted.record);
    }

    /// A clock is a set of dots: what it says about any dot, about other clocks and about itself
    /// is what the set would say, however the dots came in.
    #[test]
    fn a_clock_is_the_set_of_its_dots(
        runs in proptest::collection::vec((0u64..3, 1u64..14, 0u64..4), 0..12),
        more in proptest::collection::vec((0u64..3, 1u64..14, 0u64..4), 0..12),
    ) {
        let build = |runs: &[(u64, u64, u64)]| {
            let (mut clock, mut set) = (Dvv::new(), BTreeSet::new());
            for (epoch, first, length) in runs {
                let actor = ActorId { node: node(0), epoch: *epoch };
                for counter in *first..=first + length {
                    clock.insert(Dot { actor, counter }, NOW);
                    set.insert(Dot { actor, counter });
                }
            }
            (clock, set)
        };
        let ((a, set_a), (b, set_b)) = (build(&runs), build(&more));
        let dots = |clock: &Dvv| events_of(&Record::new(clock.clone(), []));
        prop_assert_eq!(&dots(&a), &set_a);
        prop_assert_eq!(a.descends(&b), set_a.is_superset(&set_b));
        prop_assert_eq!(a == b, set_a == set_b);
        let mut both = a.clone();
        both.merge(&b);
        prop_assert_eq!(dots(&both), set_a.union(&set_b).copied().collect::<BTreeSet<_>>());
        for epoch in 0..3 {
            let actor = ActorId { node: node(0), epoch };
            let highest = set_a.iter().filter(|d| d.actor == actor).map(|d| d.counter).max();
            prop_assert_eq!(a.highest(actor), highest.unwrap_or(0));
        }
        let missing = set_b.difference(&set_a).map(|dot| dot.actor.epoch).max();
        prop_assert_eq!(b.unheld_epoch(node(0), &a), missing);
        prop_assert_eq!(b.unheld_epoch(node(1), &a), None);
    }

    /// A shuffled, repeated delivery of one history of deltas ends in one record.
    #[test]
    fn deltas_commute(seed in any::<u64>()) {
        let mut rng = SplitMix::new(seed);
        let (mut by, mut record, mut deltas, mut context) = (actor(0), Record::default(), vec![], None);
        for id in 0..12 {
            let minted = coordinate_put(&record, &put(id, context.clone()), &mut by, NOW)
                .expect("a legal put");
            record = minted.record;
            deltas.push(minted.delta.clone());
            context = match rng.below(3) {
                0 => None,
                1 => Some(context_of(&minted.delta)),
                _ => Some(context_of(&record)),
            };
        }
        let mut other = Record::default();
        for _ in 0..60 {
            let index = usize::try_from(rng.below(12)).expect("small");
            other = merge(&other, &deltas[index], node(1), Reconciliation::Siblings).record;
        }
        for delta in &deltas {
            other = merge(&other, delta, node(1), Reconciliation::Siblings).record;
        }
        prop_assert_eq!(other, record);
    }
}

/// I-9, after Riak's `sibling_explosion`: two clients that each go on from their own last answer
/// leave at most two siblings, and where they merge what they read nothing is ever missing.
#[test]
fn i9_two_interleaved_clients_leave_two_siblings() {
    // Without reading: each supersedes its own last value.
    let (mut by, mut record) = (actor(0), Record::default());
    let mut contexts = [None, None];
    for round in 0..100u128 {
        for (client, context) in contexts.iter_mut().enumerate() {
            let id = round * 2 + client as u128;
            let minted = coordinate_put(&record, &put(id, context.take()), &mut by, NOW)
                .expect("a legal put");
            *context = Some(context_of(&minted.delta));
            record = minted.record;
            assert!(record.sibling_count() <= 2);
        }
    }
    assert_eq!(values(&record), BTreeSet::from(["198".to_owned(), "199".to_owned()]));
    // Reading and writing the union, one write late: the union stays complete.
    let (mut by, mut record) = (actor(0), Record::default());
    let mut reads: [(Option<CausalContext>, BTreeSet<u128>); 2] = Default::default();
    for id in 0..200u128 {
        let (context, mut set) = reads[usize::from(id % 2 == 1)].clone();
        set.insert(id);
        let mut command = put(id, context);
        command.content = text(&set.iter().map(u128::to_string).collect::<Vec<_>>().join(" "));
        record = coordinate_put(&record, &command, &mut by, NOW).expect("a legal put").record;
        assert!(record.sibling_count() <= 2);
        let union = record
            .siblings()
            .filter_map(|sibling| text_of(&sibling.content))
            .flat_map(|text| {
                text.split(' ').map(|n| n.parse().expect("number")).collect::<Vec<_>>()
            })
            .collect::<BTreeSet<u128>>();
        assert_eq!(union.len() as u128, id + 1, "the union is complete");
        reads[usize::from(id % 2 == 1)] = (Some(context_of(&record)), union);
    }
}

/// I-9: blind writers are refused at the cap, with everything left as it was and the way out named.
#[test]
fn i9_blind_writers_are_capped() {
    let (mut by, mut record) = (actor(0), Record::default());
    for id in 0..SIBLINGS_MAX as u128 {
        record = written(&record, id, None, &mut by);
    }
    assert_eq!(record.sibling_count(), SIBLINGS_MAX);
    let Err(PutRefusal::TooManySiblings { record: refused }) =
        coordinate_put(&record, &put(1_000, None), &mut by, NOW)
    else {
        panic!("the cap holds");
    };
    assert_eq!(refused, record, "the stored data is unchanged");
    // A put that supersedes one and adds one is no worse than before; one with all resolves all.
    let first = record.siblings().next().expect("full").dot;
    let mut one = CausalContext::default();
    one.clock.insert(first, NOW);
    assert_eq!(written(&record, 1_001, Some(one), &mut by).sibling_count(), SIBLINGS_MAX);
    let resolved = written(&record, 1_002, Some(context_of(&refused)), &mut by);
    assert_eq!(values(&resolved), BTreeSet::from(["1002".to_owned()]));
    // Beyond the cap (merged from several coordinators), each put that shrinks it is welcome.
    let mut other = actor(1);
    let second = written(&Record::default(), 2_000, None, &mut other);
    let over = record.sync(&second);
    assert_eq!(over.sibling_count(), SIBLINGS_MAX + 1);
    assert!(matches!(
        coordinate_put(&over, &put(3_000, None), &mut by, NOW),
        Err(PutRefusal::TooManySiblings { .. })
    ));
    let some = Record::new(Dvv::new(), over.siblings().take(5).cloned());
    let fewer = written(&over, 3_001, Some(context_of(&some)), &mut by);
    assert_eq!(fewer.sibling_count(), SIBLINGS_MAX - 3);
}

#[test]
fn a_replayed_put_keeps_its_dot() {
    let mut by = actor(0);
    let command = put(7, None);
    let first = coordinate_put(&Record::default(), &command, &mut by, NOW).expect("put");
    let again = coordinate_put(&first.record, &command, &mut by, NOW).expect("replay");
    assert!(again.replayed && !first.replayed);
    assert_eq!((again.dot, &again.record), (first.dot, &first.record));
    // The same id with another value is an error of the caller, not a second version.
    let mut other = command.clone();
    other.content = Content::Tombstone;
    assert_eq!(
        coordinate_put(&first.record, &other, &mut by, NOW),
        Err(PutRefusal::IdempotencyMismatch)
    );
    // Through another coordinator it may become a second dot, which readers see as one put, and
    // whose context covers both.
    let elsewhere = coordinate_put(&Record::default(), &command, &mut actor(1), NOW).expect("put");
    let both = first.record.sync(&elsewhere.record);
    assert_eq!((both.sibling_count(), both.visible(NOW).len()), (2, 1));
    let resolved = written(&both, 8, Some(context_of(&both)), &mut by);
    assert_eq!(resolved.sibling_count(), 1);
}

/// Rule (c) in a put: a context that shows a lost dot ends the epoch once, and the put succeeds.
#[test]
fn a_context_that_shows_a_lost_dot_ends_the_epoch_once() {
    let mut by = actor(0);
    let lost = written(&Record::default(), 1, None, &mut by);
    let command = put(2, Some(context_of(&lost)));
    let refused = coordinate_put(&Record::default(), &command, &mut by, NOW);
    assert_eq!(refused, Err(PutRefusal::Amnesia { seen: 1 }));
    assert!(by.on_loss(1));
    let minted = coordinate_put(&Record::default(), &command, &mut by, NOW).expect("second try");
    assert_eq!((minted.dot.actor.epoch, minted.dot.counter), (2, 1));
    assert_eq!(values(&lost.sync(&minted.delta)), BTreeSet::from(["2".to_owned()]));
    // The next put of that key is business as usual.
    written(&minted.record, 3, Some(context_of(&minted.record)), &mut by);
    assert_eq!(by.id().epoch, 2);
    // The same shown again for another key: the epoch is in use now, so it ends again.
    let refused = coordinate_put(&Record::default(), &command, &mut by, NOW);
    assert_eq!(refused, Err(PutRefusal::Amnesia { seen: 1 }));
}

/// A clock with a counter that was never minted (no client can sign one) costs an epoch, no write.
#[test]
fn a_forged_counter_covers_no_later_write() {
    let forged_counter = 1u64 << 63;
    let mut victim = actor(0);
    let mut forged = CausalContext::default();
    forged.clock.insert_up_to(victim.id(), forged_counter, NOW);
    let poisoned = coordinate_put(&Record::default(), &put(1, Some(forged)), &mut actor(1), NOW)
        .expect("another node cannot know");
    let before = written(&Record::default(), 2, None, &mut victim);
    let merged = merge(&before, &poisoned.delta, victim.id().node, Reconciliation::Siblings);
    let seen = merged.lost_epoch.expect("the victim sees dots that it never minted");
    assert!(victim.on_loss(seen));
    let after = written(&merged.record, 3, None, &mut victim);
    assert!(values(&after).contains("3"));
    assert!(values(&after.sync(&poisoned.record)).contains("3"), "and it stays");
}

#[test]
fn an_exhausted_counter_ends_the_epoch() {
    let mut by = actor(0);
    let mut clock = Dvv::new();
    clock.insert_up_to(by.id(), u64::MAX, NOW);
    let local = Record::new(clock, []);
    assert_eq!(
        coordinate_put(&local, &put(1, None), &mut by, NOW),
        Err(PutRefusal::Amnesia { seen: 1 })
    );
    assert!(by.on_loss(1));
    let minted = coordinate_put(&local, &put(1, None), &mut by, NOW).expect("a new epoch");
    assert_eq!((minted.dot.actor.epoch, minted.dot.counter), (2, 1));
}

#[test]
fn an_unused_epoch_is_kept() {
    let mut fresh = Actor::restarted(node(0), 4);
    assert_eq!(fresh.id().epoch, 5);
    assert!(!fresh.on_loss(4), "nothing minted, nothing lost");
    assert!(fresh.on_loss(5), "its own epoch was seen: it must end");
    assert_eq!(fresh.id().epoch, 6);
    assert!(fresh.on_loss(9));
    assert_eq!(fresh.id().epoch, 10);
    let mut resumed = Actor::resumed(node(0), 4);
    assert!(resumed.on_loss(0), "an epoch of an earlier life counts as used");
    assert_eq!(resumed.id().epoch, 5);
}

/// F-15: a wall clock that ran ahead is no reason to refuse a put where siblings are kept. In a
/// last-write-wins bucket a put that would lose and vanish is refused instead of acknowledged.
#[test]
fn a_skewed_clock_refuses_no_put_with_siblings_and_loses_none_with_lww() {
    let ahead = NOW.0 + CLOCK_SKEW_MS_MAX + 60_000;
    for (reconciliation, refused) in
        [(Reconciliation::Siblings, false), (Reconciliation::Lww, true)]
    {
        let mut command = put(1, None);
        command.reconciliation = reconciliation;
        let skewed = coordinate_put(&Record::default(), &command, &mut actor(0), WallMs(ahead))
            .expect("its own clock");
        for context in [None, Some(context_of(&skewed.record))] {
            let mut next = put(2, context.clone());
            next.reconciliation = reconciliation;
            let outcome = coordinate_put(&skewed.record, &next, &mut actor(1), NOW);
            if refused {
                assert_eq!(outcome, Err(PutRefusal::ClockSkew));
                continue;
            }
            let minted = outcome.expect("never refused");
            assert!(values(&minted.record).contains("2"));
            let stamp = minted.delta.latest_stamp();
            assert_eq!(context.is_some(), stamp > Hlc::at(WallMs(ahead)), "follows what it saw");
        }
    }
}

/// Within the tolerance the stamp of a later write is the greater one whatever the wall clocks say.
#[test]
fn lww_the_causally_later_write_wins() {
    let (mut fast, mut slow) = (actor(0), actor(1));
    let mut first = put(1, None);
    first.reconciliation = Reconciliation::Lww;
    let first =
        coordinate_put(&Record::default(), &first, &mut fast, WallMs(NOW.0 + 25_000)).expect("put");
    let mut second = put(2, Some(context_of(&first.record)));
    second.reconciliation = Reconciliation::Lww;
    let second = coordinate_put(&Record::default(), &second, &mut slow, WallMs(NOW.0 - 25_000))
        .expect("put");
    for order in [[&first.delta, &second.delta], [&second.delta, &first.delta]] {
        let mut record = Record::default();
        for delta in order {
            record = merge(&record, delta, node(5), Reconciliation::Lww).record;
        }
        assert_eq!(values(&record), BTreeSet::from(["2".to_owned()]));
    }
}

const OLD: WallMs = WallMs(NOW.0 - CLOCK_TRUNCATE_AGE_MS - 1);

/// A record with `count` actors, each entry as old as given, and a live sibling of actor 0.
fn crowded(count: u64, at: impl Fn(u64) -> WallMs) -> Record {
    let mut clock = Dvv::new();
    for number in 0..count {
        clock.insert_up_to(actor(u128::from(number)).id(), 3, at(number));
    }
    let mut by = actor(0);
    let local = Record::new(clock, []);
    let command = put(1, Some(context_of(&local)));
    coordinate_put(&local, &command, &mut by, OLD).expect("put").record
}

#[test]
fn c3_truncation_drops_only_what_is_safe() {
    let id = |number: u64| actor(u128::from(number)).id();
    let threshold = CLOCK_ACTORS_THRESHOLD as u64;
    let age = |number: u64| WallMs(OLD.0 - 100 * (100 - number));
    let nobody = BTreeSet::new();
    assert!(truncatable(&crowded(threshold, age), &nobody, NOW).is_empty(), "at the threshold");
    // Actor 0 is the oldest but live; 1 and 2 go, oldest first.
    let record = crowded(threshold + 2, age);
    assert_eq!(truncatable(&record, &nobody, NOW), [id(1), id(2)]);
    let primaries = BTreeSet::from([id(1), id(3)]);
    assert_eq!(truncatable(&record, &primaries, NOW), [id(2), id(4)], "never of a primary");
    assert!(truncatable(&crowded(threshold + 2, |_| NOW), &nobody, NOW).is_empty(), "too young");
    let just = WallMs(NOW.0 - CLOCK_TRUNCATE_AGE_MS);
    assert!(truncatable(&crowded(threshold + 2, |_| just), &nobody, NOW).is_empty());
    let tie = truncatable(&crowded(threshold + 2, |_| OLD), &nobody, NOW);
    assert_eq!(tie, [id(1), id(2)], "equal ages go in the order of actors");
    let mut loose = Dvv::new();
    loose.insert(Dot { actor: id(1), counter: 9 }, OLD);
    let gap = record.sync(&Record::new(loose, []));
    assert_eq!(truncatable(&gap, &nobody, NOW), [id(2), id(3)], "never with a gap above it");
}

/// Truncated replicas and one that was not go on to hold the same siblings, whatever is put next,
/// and the one that was late to truncate brings nothing back.
#[test]
fn c3_truncation_changes_no_sibling() {
    for seed in 0..500 {
        let mut rng = SplitMix::new(seed);
        let record = crowded(16, |number| WallMs(OLD.0 - number));
        let primaries = BTreeSet::from([0, 1, 2].map(|number| actor(number).id()));
        let drop = truncatable(&record, &primaries, NOW);
        assert_eq!(drop.len(), 6);
        let mut actors: BTreeMap<usize, Actor> = (0..3).map(|n| (n, actor(n as u128))).collect();
        let mut truncated = [record.clone(), record.clone(), record.clone()];
        let mut whole = truncated.clone();
        truncated[..2].iter_mut().for_each(|record| truncate(record, &drop));
        for id in 100..120 {
            let at = usize::try_from(rng.below(3)).expect("small");
            let to = usize::try_from(rng.below(3)).expect("small");
            if rng.chance(1, 2) {
                let from = usize::try_from(rng.below(3)).expect("small");
                let context = [None, Some(context_of(&truncated[from]))]
                    [usize::from(rng.chance(3, 4))]
                .clone();
                // The twins must mint the same dots: both under a copy of the same actor.
                let by = actors.get_mut(&at).expect("one of three");
                let mut twin = *by;
                let command = put(id, context);
                let minted = coordinate_put(&truncated[at], &command, by, NOW).expect("put");
                truncated[at] = minted.record;
                let minted = coordinate_put(&whole[at], &command, &mut twin, NOW).expect("put");
                whole[at] = minted.record;
            } else {
                truncated[to] = truncated[to].sync(&truncated[at]);
                whole[to] = whole[to].sync(&whole[at]);
            }
            for index in 0..3 {
                assert_eq!(values(&truncated[index]), values(&whole[index]), "seed {seed}");
            }
        }
    }
}

#[test]
fn a_value_expires_and_a_tombstone_stays_a_version() {
    let mut by = actor(0);
    let mut command = put(1, None);
    if let Content::Value(value) = &mut command.content {
        value.expires_at = Some(WallMs(NOW.0 + 10));
    }
    let record = coordinate_put(&Record::default(), &command, &mut by, NOW).expect("put").record;
    assert_eq!((record.visible(NOW).len(), record.is_deleted(NOW)), (1, false));
    let then = WallMs(NOW.0 + 10);
    assert_eq!((record.visible(then).len(), record.is_deleted(then)), (0, true));
    assert!(!Record::default().is_deleted(NOW));
    let mut delete = put(2, Some(context_of(&record)));
    (delete.content, delete.put_id) = (Content::Tombstone, PutId(2));
    let deleted = coordinate_put(&record, &delete, &mut by, NOW).expect("delete").record;
    assert!(deleted.is_deleted(NOW) && deleted.sibling_count() == 1);
    let concurrent = record.sync(&written(&record, 3, None, &mut actor(1)));
    let after = deleted.sync(&concurrent);
    assert_eq!(values(&after), BTreeSet::from(["3".to_owned()]), "a concurrent put survives");
}
