//! Coordinator amnesia (hazard C4): the data-loss bug of Dynamo-style stores, as a regression.
//!
//! Five nodes, four keys, N=3, W=2 (the coordinator and one more), read repair, partial
//! replication, and one node that keeps losing what it stored: in crashes, by a rollback to an
//! older state, and by records found unreadable. It is the only node that loses anything, so every
//! acknowledged write has a copy elsewhere and must survive. Of the rules for a coordinator's actor
//! only Atoll's keeps that promise; the weaker ones, all of them tried in real systems, do not.

use std::collections::{BTreeMap, BTreeSet};

use dynamo_core::actor::Actor;
use dynamo_core::clock::context::CausalContext;
use dynamo_core::clock::dot::Dot;
use dynamo_core::clock::dvv::Dvv;
use dynamo_core::clock::hlc::Hlc;
use dynamo_core::clock::record::{Record, Sibling};
use dynamo_core::entropy::{Entropy, SplitMix};
use dynamo_core::id::{ActorId, PutId};
use dynamo_core::limits::SIBLINGS_MAX;
use dynamo_core::params::Reconciliation::Siblings;
use dynamo_core::replica::{Minted, PutRefusal, coordinate_put, merge};
use dynamo_core::testing::values::{node, put, text, text_of};
use dynamo_core::time::WallMs;

const NODES: usize = 5;
const KEYS: usize = 4;
const N: usize = 3;
/// Seeds that Atoll's rules must survive; the weaker rules fail within far fewer.
const SEEDS: u64 = 2_000;
const WEAK_SEEDS: u64 = 250;
const OPS: u64 = 300;
/// The node that loses data.
const AMNESIAC: usize = 0;
const NOW: WallMs = WallMs(1_700_000_000_000);

/// When a coordinator starts over under a new epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rule {
    /// Never.
    Never,
    /// Where it finds no record of the key.
    NotFound,
    /// Where its store was not closed cleanly.
    UncleanStart,
    /// Both of these.
    NotFoundAndUncleanStart,
    /// Those of [`dynamo_core::actor`].
    Atoll,
}

struct Replica {
    actor: Actor,
    records: [Record; KEYS],
    /// What the disk held at the last checkpoint: a crash may fall back to it.
    older: [Record; KEYS],
    /// Records whose bytes have rotted; nobody knows until one is read.
    rotten: BTreeSet<usize>,
}

#[derive(Clone, Default)]
struct Seen {
    clock: Dvv,
    stamp: Hlc,
    values: BTreeSet<u128>,
}

struct Cluster {
    rng: SplitMix,
    rule: Rule,
    replicas: Vec<Replica>,
    sessions: Vec<[Option<Seen>; KEYS]>,
    acked: BTreeMap<u128, usize>,
    superseded: BTreeSet<u128>,
    next_put: u128,
}

impl Cluster {
    fn new(seed: u64, rule: Rule) -> Self {
        let replica = |number: usize| Replica {
            actor: Actor::restarted(node(number as u128), 0),
            records: Default::default(),
            older: Default::default(),
            rotten: BTreeSet::new(),
        };
        Self {
            rng: SplitMix::new(seed),
            rule,
            replicas: (0..NODES).map(replica).collect(),
            sessions: vec![Default::default(); 3],
            acked: BTreeMap::new(),
            superseded: BTreeSet::new(),
            next_put: 1,
        }
    }

    fn pick(&mut self, bound: usize) -> usize {
        usize::try_from(self.rng.below(bound as u64)).expect("below a small bound")
    }

    fn homes(key: usize) -> [usize; N] {
        std::array::from_fn(|index| (key + index) % NODES)
    }

    /// The homes of a key in random order.
    fn shuffled_homes(&mut self, key: usize) -> [usize; N] {
        let mut homes = Self::homes(key);
        for index in (1..N).rev() {
            let other = self.pick(index + 1);
            homes.swap(index, other);
        }
        homes
    }

    fn step(&mut self) {
        match self.rng.below(100) {
            0..=49 => self.put(),
            50..=84 => self.read(),
            85..=89 => self.exchange(),
            90..=92 => self.replicas[AMNESIAC].older = self.replicas[AMNESIAC].records.clone(),
            93..=95 => self.crash(),
            _ => {
                let key = self.pick(KEYS);
                self.replicas[AMNESIAC].rotten.insert(key);
            }
        }
    }

    /// Reads a record from its store. One that has rotted is found unreadable and is gone; under
    /// Atoll's rules the epoch ends with it, at once.
    fn load(&mut self, at: usize, key: usize) -> Record {
        let replica = &mut self.replicas[at];
        if replica.rotten.remove(&key) {
            replica.records[key] = Record::default();
            if self.rule == Rule::Atoll {
                let _changed = replica.actor.on_loss(0);
            }
        }
        replica.records[key].clone()
    }

    fn put(&mut self) {
        let (key, session) = (self.pick(KEYS), self.pick(3));
        let blind = self.rng.chance(1, 5);
        let seen = self.sessions[session][key].clone().filter(|_| !blind);
        let homes = self.shuffled_homes(key);
        let id = self.next_put;
        self.next_put += 1;
        let Some(minted) = self.mint(homes[0], key, id, seen.as_ref()) else { return };
        self.superseded.extend(seen.iter().flat_map(|seen| seen.values.iter().copied()));
        let mut acks = 1;
        for home in homes.into_iter().skip(1) {
            if self.rng.chance(3, 5) {
                self.receive(home, key, &minted.delta);
                acks += 1;
            }
        }
        if acks >= 2 {
            self.acked.insert(id, key);
            let mut seen = seen.unwrap_or_default();
            seen.clock = minted.delta.clock().clone();
            seen.stamp = minted.delta.latest_stamp();
            seen.values.insert(id);
            self.sessions[session][key] = Some(seen);
        }
    }

    /// Coordinates a put under the rule.
    fn mint(&mut self, at: usize, key: usize, id: u128, seen: Option<&Seen>) -> Option<Minted> {
        let local = self.load(at, key);
        let replica = &mut self.replicas[at];
        let minted = if self.rule == Rule::Atoll {
            let context = seen.map(|seen| CausalContext {
                clock: seen.clock.clone(),
                stamp: seen.stamp,
                fastest: None,
            });
            let command = put(id, context);
            let first = coordinate_put(&local, &command, &mut replica.actor, NOW);
            let outcome = match first {
                Err(PutRefusal::Amnesia { seen }) => {
                    assert!(replica.actor.on_loss(seen), "the epoch ends");
                    coordinate_put(&local, &command, &mut replica.actor, NOW)
                }
                other => other,
            };
            match outcome {
                Ok(minted) => minted,
                Err(PutRefusal::TooManySiblings { .. }) => return None,
                Err(refusal) => panic!("unexpected refusal: {refusal}"),
            }
        } else {
            let renews = matches!(self.rule, Rule::NotFound | Rule::NotFoundAndUncleanStart);
            if renews && local.is_empty() {
                replica.actor = Actor::restarted(replica.actor.id().node, replica.actor.id().epoch);
            }
            if local.sibling_count() >= SIBLINGS_MAX {
                return None;
            }
            mint_unchecked(&local, replica.actor.id(), id, seen)
        };
        self.replicas[at].records[key] = minted.record.clone();
        Some(minted)
    }

    /// A replica merges what another sent.
    fn receive(&mut self, at: usize, key: usize, incoming: &Record) {
        let local = self.load(at, key);
        let replica = &mut self.replicas[at];
        let merged = merge(&local, incoming, replica.actor.id().node, Siblings);
        if self.rule == Rule::Atoll
            && let Some(seen) = merged.lost_epoch
        {
            let _changed = replica.actor.on_loss(seen);
        }
        replica.records[key] = merged.record;
    }

    /// A read at two of the homes, and a repair that may not reach everyone.
    fn read(&mut self) {
        let (key, session) = (self.pick(KEYS), self.pick(3));
        let homes = self.shuffled_homes(key);
        let answer = self.load(homes[0], key).sync(&self.load(homes[1], key));
        for home in homes {
            if self.rng.chance(1, 2) {
                self.receive(home, key, &answer);
            }
        }
        self.sessions[session][key] = Some(Seen {
            clock: answer.clock().clone(),
            stamp: answer.latest_stamp(),
            values: values_of(&answer),
        });
    }

    /// One replica sends its record to another.
    fn exchange(&mut self) {
        let key = self.pick(KEYS);
        let [from, to, _] = self.shuffled_homes(key);
        let record = self.load(from, key);
        self.receive(to, key, &record);
    }

    /// The amnesiac crashes: each record survives, falls back to an older state, or is gone.
    fn crash(&mut self) {
        for key in 0..KEYS {
            let fate = self.rng.below(3);
            let replica = &mut self.replicas[AMNESIAC];
            match fate {
                0 => {}
                1 => replica.records[key] = replica.older[key].clone(),
                _ => replica.records[key] = Record::default(),
            }
        }
        let replica = &mut self.replicas[AMNESIAC];
        let ActorId { node, epoch } = replica.actor.id();
        replica.actor = match self.rule {
            Rule::Never | Rule::NotFound => Actor::resumed(node, epoch),
            _ => Actor::restarted(node, epoch),
        };
    }

    /// Heals everything and counts the acknowledged writes that are neither there nor superseded.
    fn lost(mut self) -> usize {
        let mut lost = 0;
        for key in 0..KEYS {
            let records: Vec<Record> =
                Self::homes(key).iter().map(|home| self.load(*home, key)).collect();
            let all = records.iter().fold(Record::default(), |all, one| all.sync(one));
            let present = values_of(&all);
            lost += self
                .acked
                .iter()
                .filter(|(id, at)| **at == key && !present.contains(id))
                .filter(|(id, _)| !self.superseded.contains(id))
                .count();
        }
        lost
    }
}

fn values_of(record: &Record) -> BTreeSet<u128> {
    record
        .siblings()
        .filter_map(|sibling| text_of(&sibling.content))
        .map(|text| text.parse().expect("values are numbers"))
        .collect()
}

/// What a coordinator does that knows of no amnesia: the next counter of its record, no questions.
fn mint_unchecked(local: &Record, actor: ActorId, id: u128, seen: Option<&Seen>) -> Minted {
    let past = seen.map(|seen| seen.clock.clone()).unwrap_or_default();
    let dot = Dot { actor, counter: local.clock().highest(actor) + 1 };
    let sibling =
        Sibling { dot, put_id: PutId(id), stamp: Hlc::at(NOW), content: text(&id.to_string()) };
    let delta = Record::new(past, [sibling]);
    Minted { record: local.sync(&delta), delta, dot, replayed: false }
}

/// Seeds with a loss and acknowledged writes lost over the first `count` seeds, and the first
/// failing seed.
fn losses(rule: Rule, count: u64) -> (u64, usize, Option<u64>) {
    let (mut seeds, mut lost, mut first) = (0, 0, None);
    for seed in 0..count {
        let mut cluster = Cluster::new(seed, rule);
        for _ in 0..OPS {
            cluster.step();
        }
        let count = cluster.lost();
        if count > 0 {
            seeds += 1;
            first.get_or_insert(seed);
        }
        lost += count;
    }
    (seeds, lost, first)
}

#[test]
fn c4_only_atolls_rules_lose_nothing() {
    let table = [
        (Rule::Never, true),
        (Rule::NotFound, true),
        (Rule::UncleanStart, true),
        (Rule::NotFoundAndUncleanStart, true),
        (Rule::Atoll, false),
    ];
    for (rule, loses) in table {
        let count = if loses { WEAK_SEEDS } else { SEEDS };
        let (seeds, lost, first) = losses(rule, count);
        println!("{rule:?}: {lost} acknowledged writes lost in {seeds} of {count} seeds");
        assert_eq!(lost > 0, loses, "{rule:?}: {lost} lost, first at seed {first:?}");
    }
}
