//! A joining node takes a partition over while something dies at each of the steps, one after the
//! other. However it went, the end is the same.

use std::time::Duration;

use dynamo_core::id::PartitionId;
use dynamo_core::transfer::MoveEffect;

use crate::world::{World, objects};

/// What happens at a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// The worker of the joining node dies before the effect is performed.
    WorkerBefore,
    /// It dies after the effect was performed and before it heard of it.
    WorkerAfter,
    /// A holder's store is away for a while.
    HolderAway,
    /// A holder's store is replaced by an empty one, after everybody had everything.
    HolderWiped,
    /// The destination's store is replaced by an empty one.
    DestinationWiped,
    /// The node leaves again, and then comes back.
    Unwanted,
    /// The ring changes elsewhere.
    OtherOwners,
}

const FAULTS: [Fault; 7] = [
    Fault::WorkerBefore,
    Fault::WorkerAfter,
    Fault::HolderAway,
    Fault::HolderWiped,
    Fault::DestinationWiped,
    Fault::Unwanted,
    Fault::OtherOwners,
];

const JOINER: usize = 4;
const BEFORE: [usize; 4] = [0, 1, 2, 3];
const AFTER: [usize; 4] = [4, 1, 2, 3];

/// Runs a join with a fault at the `point`-th effect of the joining node; returns how many effects
/// there were, and the world in the end.
fn run(fault: Option<(Fault, usize)>) -> (usize, World) {
    let mut world = World::new(7, 6, &BEFORE);
    for object in objects().iter().cycle().take(60) {
        world.write(object);
    }
    // Every holder has everything: only the fault can take something away.
    world.equalize();
    world.change(&AFTER);
    let mut performed = 0;
    for _ in 0..4_000 {
        let Some((at, effect)) = world.queue.pop_front() else {
            if world
                .hosts
                .iter()
                .all(|host| (0..4).all(|partition| !host.mover.is_moving(PartitionId(partition))))
                && performed > 0
            {
                break;
            }
            world.hosts.iter_mut().for_each(|host| host.up = true);
            world.pass(Duration::from_secs(1));
            (0..world.hosts.len()).for_each(|at| world.poll(at));
            continue;
        };
        let hit = at == JOINER && fault.is_some_and(|(_, point)| point == performed);
        performed += usize::from(at == JOINER);
        match fault.filter(|_| hit).map(|(fault, _)| fault) {
            None => {}
            Some(Fault::WorkerBefore) => {
                world.crash_worker(JOINER);
                continue;
            }
            Some(Fault::WorkerAfter) => {
                let _unheard = world.perform(at, effect);
                world.crash_worker(JOINER);
                continue;
            }
            Some(Fault::HolderAway) => world.hosts[1].up = false,
            Some(Fault::HolderWiped) => world.wipe(1),
            Some(Fault::DestinationWiped) => world.wipe(JOINER),
            Some(Fault::Unwanted) => {
                world.change(&BEFORE);
                (0..world.hosts.len()).for_each(|at| world.poll(at));
                world.change(&AFTER);
            }
            Some(Fault::OtherOwners) => world.change(&[4, 1, 5, 3]),
        }
        if let Some(event) = world.perform(at, effect) {
            world.deliver(at, event);
        }
        world.check_reads();
    }
    world.settle();
    world.check_settled();
    (performed, world)
}

#[test]
fn i23_the_end_is_the_same_whatever_dies_at_whichever_step() {
    let (steps, calm) = run(None);
    assert!(steps > 12, "copying takes several pages: {steps}");
    assert!(!calm.acked.is_empty());
    for fault in FAULTS {
        for point in 0..steps {
            println!("{fault:?} at effect {point}");
            let (_, world) = run(Some((fault, point)));
            let changed = fault == Fault::OtherOwners;
            for (host, expected) in world.hosts.iter().zip(&calm.hosts) {
                assert!(changed || host.records == expected.records, "{}", host.id);
            }
        }
    }
}

#[test]
fn what_was_copied_is_not_asked_for_again() {
    let mut world = World::new(9, 5, &BEFORE);
    for object in objects().iter().cycle().take(60) {
        world.write(object);
    }
    world.change(&AFTER);
    let mut pages = 0;
    let mut cursors = std::collections::BTreeSet::new();
    for round in 0..400 {
        if let Some((at, effect)) = world.queue.pop_front() {
            if let MoveEffect::Fetch { ticket, after, .. } = &effect {
                pages += 1;
                let cursor = after.clone();
                assert!(cursors.insert((ticket.partition, cursor)), "a page is asked for once");
            }
            let was_saved = matches!(effect, MoveEffect::Checkpoint { .. });
            if let Some(event) = world.perform(at, effect) {
                world.deliver(at, event);
            }
            // The worker dies after each checkpoint: it goes on where it was.
            if was_saved && world.hosts[at].disk.values().any(|progress| !progress.copied) {
                // Pages of other partitions that are on their way would be asked for again.
                if world.queue.iter().all(|(host, _)| *host != at) {
                    world.crash_worker(at);
                }
            }
        } else {
            world.pass(Duration::from_millis(700));
            (0..5).for_each(|at| world.poll(at));
        }
        if round == 399 {
            assert!(pages > 6, "{pages}");
        }
    }
    world.settle();
    world.check_settled();
}

#[test]
fn nobody_holds_it_until_an_operator_accepts_the_loss() {
    let mut world = World::new(3, 4, &[0, 1, 2, 0]);
    for at in 0..3 {
        world.wipe(at);
    }
    let run = |world: &mut World| {
        for _ in 0..40 {
            while let Some((at, effect)) = world.queue.pop_front() {
                if let Some(event) = world.perform(at, effect) {
                    world.deliver(at, event);
                }
            }
            world.pass(Duration::from_secs(1));
            (0..4).for_each(|at| world.poll(at));
        }
    };
    run(&mut world);
    let states = |world: &World| world.hosts[0].mover.document(false, world.now).totals;
    let no_holder = dynamo_core::wire::worker::TransferState::NoHolder;
    assert_eq!(states(&world).get(&no_holder), Some(&4), "{:?}", states(&world));
    assert!(world.hosts[0].mover.accept_loss(&[PartitionId(9)]).is_err());
    let all: Vec<PartitionId> = (0..4).map(PartitionId).collect();
    world.hosts[0].mover.accept_loss(&all).unwrap();
    assert!(world.hosts[3].mover.accept_loss(&all).is_err(), "it wants nothing");
    run(&mut world);
    world.settle();
    world.check_settled();
}
