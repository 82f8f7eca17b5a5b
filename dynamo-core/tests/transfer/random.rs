//! Rings change, workers and stores die, disks are replaced, and clients write, all at random:
//! nothing is lost, no reader misses anything, and in the end everything is at its place.

use std::time::Duration;

use dynamo_core::entropy::Entropy;
use dynamo_core::limits::{TRANSFERS_MAX, TRANSFERS_PER_SOURCE_MAX};
use dynamo_core::transfer::MoveEffect;
use dynamo_core::transfer::MoveEvent;

use crate::world::{World, objects};

const HOSTS: usize = 6;
const SEEDS: u64 = 150;
const STEPS: usize = 700;

/// Four partitions, at least three distinct owners in random order.
fn owners(world: &mut World) -> Vec<usize> {
    let mut hosts: Vec<usize> = (0..HOSTS).collect();
    for index in (1..HOSTS).rev() {
        let other = world.pick(index + 1);
        hosts.swap(index, other);
    }
    let distinct = 3 + world.pick(2);
    (0..4).map(|partition| hosts[partition % distinct]).collect()
}

fn perform_one(world: &mut World) {
    if world.queue.is_empty() {
        return;
    }
    let place = world.pick(world.queue.len());
    let (at, effect) = world.queue.remove(place).unwrap();
    // A file of the own worker is deleted unless the worker dies.
    let is_local = matches!(effect, MoveEffect::Forget { .. });
    if !is_local && world.rng.chance(1, 12) {
        let failed = match &effect {
            MoveEffect::AskOffer { node } => Some(MoveEvent::Offer { node: *node, document: None }),
            MoveEffect::Forget { .. } => None,
            MoveEffect::Fetch { ticket, .. }
            | MoveEffect::Merge { ticket, .. }
            | MoveEffect::Checkpoint { ticket, .. }
            | MoveEffect::Compare { ticket, .. }
            | MoveEffect::Hold { ticket, .. }
            | MoveEffect::Release { ticket, .. }
            | MoveEffect::Drop { ticket, .. } => {
                Some(MoveEvent::Failed { ticket: *ticket, reason: "lost".to_owned() })
            }
        };
        // Half of the failures are answers that were lost: it was done all the same.
        if world.rng.chance(1, 2) {
            let _lost = world.perform(at, effect);
        }
        if let Some(event) = failed {
            world.deliver(at, event);
        }
    } else if let Some(event) = world.perform(at, effect) {
        world.deliver(at, event);
    }
}

fn check_bounds(world: &World) {
    for at in 0..HOSTS {
        let fetches: Vec<_> = world
            .queue
            .iter()
            .filter(|(host, _)| *host == at)
            .filter_map(|(_, effect)| match effect {
                MoveEffect::Fetch { source, .. } => Some(*source),
                _ => None,
            })
            .collect();
        assert!(fetches.len() <= TRANSFERS_MAX);
        for source in &fetches {
            let same = fetches.iter().filter(|other| *other == source).count();
            assert!(same <= TRANSFERS_PER_SOURCE_MAX);
        }
    }
}

fn run(seed: u64) {
    let mut world = World::new(seed, HOSTS, &[0, 1, 2, 3]);
    let objects = objects();
    let mut wiped = false;
    for _ in 0..STEPS {
        match world.rng.below(100) {
            0..=24 => {
                let at = world.pick(HOSTS);
                world.poll(at);
            }
            25..=64 => perform_one(&mut world),
            65..=79 => {
                let object = objects[world.pick(objects.len())].clone();
                world.write(&object);
            }
            80..=87 => world.pass(Duration::from_millis(700)),
            88..=90 => world.gossip(),
            91..=93 => {
                let at = world.pick(HOSTS);
                world.crash_worker(at);
            }
            94..=95 => {
                // One at a time.
                let down = world.hosts.iter().position(|host| !host.up);
                let at = down.unwrap_or_else(|| world.pick(HOSTS));
                world.hosts[at].up = down.is_some();
            }
            96 if !wiped && world.hosts.iter().all(|host| host.up) => {
                wiped = true;
                let at = world.pick(HOSTS);
                // One disk is what W = 2 survives, if anti-entropy has been round before.
                world.settle();
                world.equalize();
                world.wipe(at);
                // What it said before is not believed for long.
                world.pass(Duration::from_secs(15));
            }
            97 => {
                let owners = owners(&mut world);
                world.change(&owners);
            }
            98 => world.pass(Duration::from_secs(30)),
            _ => {}
        }
        check_bounds(&world);
        world.check_reads();
    }
    world.settle();
    world.check_settled();
}

#[test]
fn i22_i23_nothing_is_lost_and_no_reader_misses_anything() {
    for seed in 0..SEEDS {
        println!("seed {seed}");
        run(seed);
    }
}
