//! I-5: records, deltas and puts against the naive model of versions (sets of events with written
//! out histories), on random runs of a few replicas of one key, in both kinds of buckets. Every
//! run also checks the merge laws on the states it reached, and that a dot is never reused (I-6).

use std::collections::BTreeMap;

use dynamo_core::actor::Actor;
use dynamo_core::clock::context::CausalContext;
use dynamo_core::clock::dot::Dot;
use dynamo_core::clock::record::Record;
use dynamo_core::entropy::{Entropy, SplitMix};
use dynamo_core::id::NodeId;
use dynamo_core::params::Reconciliation;
use dynamo_core::replica::{PutCommand, PutRefusal, coordinate_put, merge, reconciled};
use dynamo_core::testing::model::{Events, History, events_of};
use dynamo_core::testing::values::{node, put};
use dynamo_core::time::WallMs;

/// Every step of every run is one case: the 100,000 of I-5.
const RUNS: u64 = 5_000;
const OPS_PER_RUN: u64 = 24;

#[derive(Clone)]
struct Replica {
    id: NodeId,
    actor: Actor,
    record: Record,
    known: Events,
}

/// Something that travels: a record with the events it stands for.
#[derive(Clone)]
struct Parcel {
    record: Record,
    known: Events,
}

#[derive(Clone, Default)]
struct Seen {
    context: CausalContext,
    events: Events,
}

struct Run {
    rng: SplitMix,
    rule: Reconciliation,
    history: History,
    replicas: Vec<Replica>,
    parcels: Vec<Parcel>,
    contexts: Vec<Seen>,
    puts: Vec<(PutCommand, Events)>,
    owners: BTreeMap<Dot, u128>,
    now: u64,
}

impl Run {
    fn new(seed: u64) -> Self {
        let mut rng = SplitMix::new(seed);
        let count = u128::from(2 + rng.below(3));
        let rule = if rng.chance(1, 4) { Reconciliation::Lww } else { Reconciliation::Siblings };
        let replicas = (0..count)
            .map(|number| Replica {
                id: node(number),
                actor: Actor::restarted(node(number), 0),
                record: Record::default(),
                known: Events::new(),
            })
            .collect();
        Self {
            rng,
            rule,
            history: History::default(),
            replicas,
            parcels: vec![],
            contexts: vec![],
            puts: vec![],
            owners: BTreeMap::new(),
            now: 1_000_000,
        }
    }

    fn index(&mut self, length: usize) -> usize {
        usize::try_from(self.rng.below(length as u64)).expect("below a length")
    }

    fn step(&mut self) {
        // Clocks of different coordinators may run backwards within the tolerated skew.
        self.now = self.now + self.rng.below(40) - 15;
        match self.rng.below(20) {
            0..=6 => self.put(),
            7..=9 => self.read(),
            10..=12 => self.ship_record(),
            13..=16 => self.deliver(),
            17 => self.retry(),
            18 => self.join_contexts(),
            _ => self.lose(),
        }
    }

    fn put(&mut self) {
        let seen = if self.contexts.is_empty() || self.rng.chance(1, 4) {
            None
        } else {
            let index = self.index(self.contexts.len());
            Some(self.contexts[index].clone())
        };
        let events = seen.as_ref().map(|seen| seen.events.clone()).unwrap_or_default();
        let mut command = put(self.puts.len() as u128, seen.map(|seen| seen.context));
        command.reconciliation = self.rule;
        self.puts.push((command.clone(), events.clone()));
        self.apply(&command, events);
    }

    /// Applies a put at a random replica, there and in the model.
    fn apply(&mut self, command: &PutCommand, seen: Events) {
        let index = self.index(self.replicas.len());
        let now = WallMs(self.now);
        let replica = &mut self.replicas[index];
        let before = replica.record.clone();
        let minted = match coordinate_put(&before, command, &mut replica.actor, now) {
            Err(PutRefusal::Amnesia { seen }) => {
                assert!(replica.actor.on_loss(seen), "the epoch ends");
                coordinate_put(&before, command, &mut replica.actor, now)
            }
            other => other,
        }
        .expect("a put is refused for amnesia once at most");
        if minted.replayed {
            assert_eq!(minted.record, before, "a replay changes nothing");
            assert_eq!(self.owners.get(&minted.dot), Some(&command.put_id.0));
            let parcel = Parcel { record: minted.delta, known: replica.known.clone() };
            self.parcels.push(parcel);
            return;
        }
        assert_eq!(self.owners.insert(minted.dot, command.put_id.0), None, "I-6: dot reused");
        let sibling = minted.delta.sibling(&minted.dot).expect("the delta carries its sibling");
        // Beyond what the client saw, the put follows twins of it.
        let delta = events_of(&minted.delta);
        let owner = |dot: &Dot| self.owners.get(dot);
        for extra in delta.difference(&seen).filter(|dot| **dot != minted.dot) {
            assert!(seen.iter().any(|dot| owner(dot) == owner(extra)), "{extra} was not seen");
        }
        assert!(seen.is_subset(&delta));
        let past = delta.iter().copied().filter(|dot| *dot != minted.dot).collect();
        assert!(self.history.write(minted.dot, past, sibling.stamp));
        replica.known.extend(delta.iter().copied());
        replica.record = minted.record;
        // The context that the put's answer carries: what the client saw and its own write.
        let context = CausalContext {
            clock: minted.delta.clock().clone(),
            stamp: sibling.stamp,
            fastest: None,
        };
        self.contexts.push(Seen { context, events: delta.clone() });
        self.parcels.push(Parcel { record: minted.delta, known: delta });
    }

    fn retry(&mut self) {
        if !self.puts.is_empty() {
            let index = self.index(self.puts.len());
            let (command, seen) = self.puts[index].clone();
            self.apply(&command, seen);
        }
    }

    fn read(&mut self) {
        let index = self.index(self.replicas.len());
        let replica = &self.replicas[index];
        let context = CausalContext {
            clock: replica.record.clock().clone(),
            stamp: replica.record.latest_stamp(),
            fastest: None,
        };
        self.contexts.push(Seen { context, events: replica.known.clone() });
    }

    fn join_contexts(&mut self) {
        if self.contexts.len() < 2 {
            return;
        }
        let (a, b) = (self.index(self.contexts.len()), self.index(self.contexts.len()));
        let (mut a, b) = (self.contexts[a].clone(), self.contexts[b].clone());
        a.context.clock.merge(&b.context.clock);
        a.context.stamp = a.context.stamp.max(b.context.stamp);
        a.events.extend(b.events);
        self.contexts.push(a);
    }

    fn ship_record(&mut self) {
        let index = self.index(self.replicas.len());
        let Replica { record, known, .. } = self.replicas[index].clone();
        self.parcels.push(Parcel { record, known });
    }

    fn deliver(&mut self) {
        if self.parcels.is_empty() {
            return;
        }
        let (parcel, to) = (self.index(self.parcels.len()), self.index(self.replicas.len()));
        let parcel = self.parcels[parcel].clone();
        let replica = &mut self.replicas[to];
        let merged = merge(&replica.record, &parcel.record, replica.id, self.rule);
        let unheld = parcel.known.difference(&replica.known).map(|dot| dot.actor);
        let lost = unheld.filter(|actor| actor.node == replica.id).map(|actor| actor.epoch).max();
        assert_eq!(merged.lost_epoch, lost, "rule (c)");
        if let Some(seen) = merged.lost_epoch {
            let _changed = replica.actor.on_loss(seen);
            assert!(replica.actor.is_fresh_after(seen));
        }
        assert_eq!(merged.changed, merged.record != replica.record);
        assert!(merged.record.contains(&replica.record), "monotone");
        replica.known.extend(parcel.known.iter().copied());
        replica.record = merged.record;
        let again = merge(&replica.record, &parcel.record, replica.id, self.rule);
        assert!(!again.changed && again.lost_epoch.is_none(), "idempotent");
    }

    /// A replica loses its record and notices.
    fn lose(&mut self) {
        let index = self.index(self.replicas.len());
        let replica = &mut self.replicas[index];
        replica.actor = Actor::restarted(replica.id, replica.actor.id().epoch);
        replica.record = Record::default();
        replica.known.clear();
    }

    fn check(&mut self) {
        for replica in &self.replicas {
            let twins = |dot: &Dot| {
                let put = self.owners.get(dot);
                let of_put = self.owners.iter().filter(|(_, other)| Some(*other) == put);
                of_put.map(|(twin, _)| *twin).filter(|twin| twin != dot).collect()
            };
            let compared = self.history.check(&replica.record, &replica.known, self.rule, twins);
            compared.expect("the record agrees with the model");
        }
        let mut any = || {
            let pool = self.parcels.len() + self.replicas.len();
            let index = usize::try_from(self.rng.below(pool as u64)).expect("below a length");
            match self.parcels.get(index) {
                Some(parcel) => parcel.record.clone(),
                None => self.replicas[index - self.parcels.len()].record.clone(),
            }
        };
        let (a, b, c) = (any(), any(), any());
        check_laws(&a, &b, &c, self.rule);
    }
}

fn check_laws(a: &Record, b: &Record, c: &Record, rule: Reconciliation) {
    let join = |x: &Record, y: &Record| reconciled(x.sync(y), rule);
    let ab = join(a, b);
    assert_eq!(ab, join(b, a), "commutative");
    assert_eq!(join(&ab, c), join(a, &join(b, c)), "associative");
    assert_eq!(join(a, a), *a, "idempotent");
    assert!(ab.contains(a) && ab.contains(b), "monotone");
    assert!(ab.clock().descends(a.clock()) && ab.clock().descends(b.clock()));
    assert_eq!(a.contains(b), a.sync(b) == *a, "`contains` means that sync changes nothing");
    assert_eq!(a.clock().descends(b.clock()), events_of(a).is_superset(&events_of(b)));
    for sibling in ab.siblings() {
        assert!(ab.clock().covers(&sibling.dot), "a clock covers its siblings");
    }
}

fn check_run(seed: u64) {
    let mut run = Run::new(seed);
    for _ in 0..OPS_PER_RUN {
        run.step();
        run.check();
    }
}

#[test]
fn i5_records_agree_with_the_naive_model() {
    for seed in 0..RUNS {
        let outcome = std::panic::catch_unwind(|| check_run(seed));
        if let Err(panic) = outcome {
            eprintln!("failed at seed {seed} of the reference model");
            std::panic::resume_unwind(panic);
        }
    }
}
