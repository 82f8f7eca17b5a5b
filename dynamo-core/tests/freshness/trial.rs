//! One put and one get of the same key, by the real state machines, on replicas whose messages and
//! commits take drawn times.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use dynamo_core::clock::digest::RecordDigest;
use dynamo_core::clock::dot::Dot;
use dynamo_core::clock::dvv::Dvv;
use dynamo_core::clock::hlc::Hlc;
use dynamo_core::clock::record::{Content, Record, Sibling, Value};
use dynamo_core::entropy::{Entropy, SplitMix};
use dynamo_core::freshness::Delays;
use dynamo_core::id::{ActorId, NodeId, PutId};
use dynamo_core::params::{Durability, Reconciliation};
use dynamo_core::quorum::{
    GetEffect, GetEvent, GetOp, GetPlan, PutEffect, PutEvent, PutOp, PutPlan, ReplicaReply,
    WriteGoal,
};
use dynamo_core::ring::ReplicaSets;
use dynamo_core::time::{Mono, WallMs};

const N: u8 = 3;

/// A delay: at least so many microseconds, and on average so many more, exponentially distributed.
pub(crate) struct Delay(pub(crate) u32, pub(crate) u32);

impl Delay {
    fn draw(&self, entropy: &mut SplitMix) -> Duration {
        let uniform = (entropy.below(1 << 30) + 1) as f64 / f64::from(1 << 30);
        let more = -uniform.ln() * f64::from(self.1);
        Duration::from_micros(u64::from(self.0)) + Duration::from_secs_f64(more / 1e6)
    }
}

/// What takes how long.
pub(crate) struct Network {
    /// A request on its way.
    pub(crate) out: Delay,
    /// An acknowledgement or reply on its way back.
    pub(crate) back: Delay,
    /// A commit.
    pub(crate) commit: Delay,
}

enum Event {
    Put(PutEvent),
    BeginGet,
    /// A read reaches a replica.
    Read(NodeId, Option<RecordDigest>),
    Get(GetEvent),
}

struct Trial<'a> {
    network: &'a Network,
    entropy: &'a mut SplitMix,
    /// Coordinators of the put and of the get.
    writer: NodeId,
    reader: NodeId,
    after: Duration,
    now: Mono,
    queue: BTreeMap<(Mono, u64), Event>,
    planned: u64,
    /// When each replica shows the put to readers.
    stored: BTreeMap<NodeId, Mono>,
    acked: BTreeMap<NodeId, Mono>,
    replied: BTreeMap<NodeId, Mono>,
    begun: Mono,
    fresh: Option<bool>,
}

/// A put with `w`, and a get with `r` a time `after` its answer: how long their replicas took, and
/// whether the get saw the put.
pub(crate) fn trial(
    network: &Network,
    r: u8,
    w: u8,
    after: Duration,
    entropy: &mut SplitMix,
) -> ((Delays, Delays), bool) {
    let owners: Vec<NodeId> = (1..=u128::from(N)).map(NodeId).collect();
    let replicas = ReplicaSets { holders: owners.clone(), owners, ..ReplicaSets::default() };
    let mut any = || NodeId(u128::from(1 + entropy.below(u64::from(N))));
    let (writer, reader) = (any(), any());
    let mut trial = Trial {
        network,
        entropy,
        writer,
        reader,
        after,
        now: Mono(0),
        queue: BTreeMap::new(),
        planned: 0,
        stored: BTreeMap::new(),
        acked: BTreeMap::new(),
        replied: BTreeMap::new(),
        begun: Mono(0),
        fresh: None,
    };
    trial.run(&replicas, r, w);
    let of = |coordinator: NodeId, begun, times: &BTreeMap<NodeId, Mono>| {
        let others = replicas.owners.iter().filter(|node| **node != coordinator);
        let order = std::iter::once(&coordinator).chain(others);
        Delays::since(begun, order.map(|node| times.get(node).copied()))
    };
    let put = of(writer, Mono(0), &trial.acked);
    let get = of(reader, trial.begun, &trial.replied);
    ((put, get), trial.fresh.expect("the get was answered"))
}

impl Trial<'_> {
    fn run(&mut self, replicas: &ReplicaSets, r: u8, w: u8) {
        let deadline = Mono(0).plus(Duration::from_secs(60));
        let patience = |_| Duration::from_secs(60);
        let plan = PutPlan {
            me: self.writer,
            n: N,
            w: WriteGoal::Count(w),
            pw: 0,
            durability: Durability::Fsync,
            stand_in: false,
            replicas,
            deadline,
        };
        let (mut put, effects) =
            PutOp::start(&plan, |_| true, patience, self.now).expect("all are reachable");
        self.perform_put(effects);
        let mut get = None;
        while let Some(((now, _), event)) = self.queue.pop_first() {
            self.now = now;
            match event {
                Event::Put(event) => {
                    match &event {
                        PutEvent::LocalDone => drop(self.acked.insert(self.writer, now)),
                        PutEvent::Acked { from } => drop(self.acked.insert(*from, now)),
                        _ => {}
                    }
                    let effects = put.on_event(event, now);
                    self.perform_put(effects);
                }
                Event::BeginGet => {
                    self.begun = now;
                    let plan = GetPlan {
                        me: self.reader,
                        n: N,
                        r,
                        pr: 0,
                        notfound_ok: false,
                        explain: false,
                        reconciliation: Reconciliation::Siblings,
                        replicas,
                        deadline,
                    };
                    let (op, effects) =
                        GetOp::start(&plan, |_| true, patience, now).expect("all are reachable");
                    get = Some(op);
                    self.perform_get(effects);
                }
                Event::Read(node, unless) => self.read(node, unless),
                Event::Get(event) => {
                    if let GetEvent::Reply { from, .. } = &event {
                        self.replied.insert(*from, now);
                    }
                    let effects = get.as_mut().expect("a get that has begun").on_event(event, now);
                    self.perform_get(effects);
                }
            }
        }
    }

    fn at(&mut self, at: Mono, event: Event) {
        // Events of one time happen in the order in which they were planned.
        self.planned += 1;
        self.queue.insert((at, self.planned), event);
    }

    fn perform_put(&mut self, effects: Vec<PutEffect>) {
        for effect in effects {
            match effect {
                PutEffect::WriteLocal => {
                    self.at(self.now, Event::Put(PutEvent::Minted));
                    let done = self.now.plus(self.network.commit.draw(self.entropy));
                    self.stored.insert(self.writer, done);
                    self.at(done, Event::Put(PutEvent::LocalDone));
                }
                PutEffect::Send { node, .. } => {
                    let arrives = self.now.plus(self.network.out.draw(self.entropy));
                    let stored = arrives.plus(self.network.commit.draw(self.entropy));
                    self.stored.insert(node, stored);
                    let back = stored.plus(self.network.back.draw(self.entropy));
                    self.at(back, Event::Put(PutEvent::Acked { from: node }));
                }
                PutEffect::Answer(_) => self.at(self.now.plus(self.after), Event::BeginGet),
                PutEffect::SetTimer(_) | PutEffect::Done => {}
                other => panic!("nothing fails here: {other:?}"),
            }
        }
    }

    fn perform_get(&mut self, effects: Vec<GetEffect>) {
        for effect in effects {
            match effect {
                GetEffect::Read { node, unless } if node == self.reader => {
                    self.at(self.now, Event::Read(node, unless))
                }
                GetEffect::Read { node, unless } => {
                    let arrives = self.now.plus(self.network.out.draw(self.entropy));
                    self.at(arrives, Event::Read(node, unless));
                }
                GetEffect::Answer(outcome) => {
                    self.fresh = Some(outcome.record.contains(&record(true)))
                }
                GetEffect::SetTimer(_) | GetEffect::Repair { .. } | GetEffect::Done => {}
                other => panic!("nothing fails here: {other:?}"),
            }
        }
    }

    /// A replica answers a read with what it has now.
    fn read(&mut self, from: NodeId, unless: Option<RecordDigest>) {
        let here = record(self.stored.get(&from).is_some_and(|at| *at <= self.now));
        let same = unless.is_some_and(|digest| digest == RecordDigest::of(&here));
        let reply = if same { ReplicaReply::Same } else { ReplicaReply::Record(here) };
        let way =
            if from == self.reader { Duration::ZERO } else { self.network.back.draw(self.entropy) };
        self.at(self.now.plus(way), Event::Get(GetEvent::Reply { from, reply }));
    }
}

/// The key as it was before the put, or after it.
fn record(after: bool) -> Record {
    let dot = |counter| Dot { actor: ActorId { node: NodeId(9), epoch: 1 }, counter };
    let stamp = |counter| Hlc::at(WallMs(counter));
    let counter = if after { 2 } else { 1 };
    let mut clock = Dvv::new();
    for seen in 1..counter {
        clock.insert(dot(seen), stamp(seen).wall());
    }
    let content = Content::Value(Value { bytes: Bytes::from_static(b"v"), ..Value::default() });
    let sibling = Sibling {
        dot: dot(counter),
        put_id: PutId(u128::from(counter)),
        stamp: stamp(counter),
        content,
    };
    Record::new(clock, [sibling])
}
