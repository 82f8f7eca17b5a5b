//! Random walks: whatever happens in whatever order, an operation concludes once, ends last,
//! answers with a quorum only, and refuses early only where no quorum can come. The quorums are
//! counted again here from the reports, by another road than the tally's.

use std::collections::BTreeSet;
use std::time::Duration;

use dynamo_core::entropy::{Entropy, SplitMix};
use dynamo_core::id::NodeId;
use dynamo_core::params::{Durability, Reconciliation};
use dynamo_core::quorum::{
    GetEffect, GetEvent, GetFailureKind, GetOp, GetPlan, LocalFailure, Outcome, PutEffect,
    PutEvent, PutOp, PutPlan, ReplicaFailure, ReplicaReply, ReplicaReport, Reported, WriteGoal,
};
use dynamo_core::ring::{ReplicaSets, Role};
use dynamo_core::time::Mono;
use proptest::test_runner::{Config, TestRunner};

use crate::record_text;
use crate::script::at_ms;

const DEADLINE_MS: u64 = 1000;
const NODES: u64 = 11;
const STEPS: u64 = 24;

fn for_seeds(walk: impl Fn(u64)) {
    let mut runner = TestRunner::new(Config { cases: 3000, ..Config::default() });
    let outcome = runner.run(&proptest::num::u64::ANY, |seed| {
        walk(seed);
        Ok(())
    });
    outcome.unwrap();
}

#[test]
fn every_get_concludes_once_and_honestly() {
    for_seeds(walk_get);
}

#[test]
fn every_put_concludes_once_and_honestly() {
    for_seeds(walk_put);
}

/// A random world: who owns and holds the partition, and who is reachable.
struct World {
    rng: SplitMix,
    me: NodeId,
    replicas: ReplicaSets,
    down: BTreeSet<NodeId>,
    slow: BTreeSet<NodeId>,
    now: Mono,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = SplitMix::new(seed);
        let mut order: Vec<NodeId> = (1..=NODES).map(|id| NodeId(id.into())).collect();
        for index in (1..order.len()).rev() {
            let other = usize::try_from(rng.below(index as u64 + 1)).unwrap();
            order.swap(index, other);
        }
        let n = usize::try_from(1 + rng.below(4)).unwrap();
        let owners: Vec<NodeId> = order.drain(..n).collect();
        let settled = rng.chance(1, 2);
        let (mut holders, pending): (Vec<_>, Vec<_>) =
            owners.iter().partition(|_| settled || rng.chance(1, 2));
        let former = usize::try_from(rng.below(pending.len() as u64 + 1)).unwrap();
        holders.extend(order.drain(..former));
        let me = NodeId((1 + rng.below(NODES)).into());
        let fallbacks = order.drain(..usize::try_from(rng.below(4)).unwrap()).collect();
        let all = 1..=NODES;
        let down = all.clone().filter(|_| rng.chance(1, 5)).map(|id| NodeId(id.into()));
        let down = down.filter(|node| *node != me).collect();
        let slow = all.filter(|_| rng.chance(1, 6)).map(|id| NodeId(id.into())).collect();
        let replicas = ReplicaSets { owners, pending, holders, fallbacks };
        Self { rng, me, replicas, down, slow, now: at_ms(0) }
    }

    fn n(&self) -> u8 {
        u8::try_from(self.replicas.owners.len()).unwrap()
    }

    fn count_to(&mut self, most: u8) -> u8 {
        u8::try_from(1 + self.rng.below(most.into())).unwrap()
    }

    fn perhaps(&mut self, most: u8) -> u8 {
        if self.rng.chance(1, 3) { self.count_to(most) } else { 0 }
    }

    fn node(&mut self) -> NodeId {
        NodeId((1 + self.rng.below(NODES)).into())
    }

    fn reachable(&self) -> impl Fn(NodeId) -> bool + use<'_> {
        |node| !self.down.contains(&node)
    }

    fn patience(&self) -> impl Fn(NodeId) -> Duration + use<'_> {
        |node| Duration::from_millis(if self.slow.contains(&node) { 0 } else { 50 })
    }

    fn wait(&mut self) {
        self.now = self.now.plus(Duration::from_millis(self.rng.below(40)));
    }

    fn failure(&mut self) -> ReplicaFailure {
        match self.rng.below(3) {
            0 => ReplicaFailure::Timeout,
            1 => ReplicaFailure::Overloaded,
            _ => ReplicaFailure::Unreachable,
        }
    }
}

/// How many of `places` the reports fill, by anyone and by the place's own node, if every report
/// that satisfies `counts` fills its place.
fn recount(
    places: &[NodeId],
    reports: &[ReplicaReport],
    counts: impl Fn(&ReplicaReport) -> bool,
    is_full: impl Fn(NodeId) -> bool,
) -> (usize, usize) {
    let mut any = BTreeSet::new();
    let mut own = BTreeSet::new();
    for report in reports.iter().filter(|report| counts(report)) {
        match report.role {
            Role::Primary => {
                any.insert(report.node);
                if is_full(report.node) {
                    own.insert(report.node);
                }
            }
            Role::Fallback { for_node } => {
                any.insert(for_node);
            }
        }
    }
    let within = |set: &BTreeSet<NodeId>| places.iter().filter(|p| set.contains(p)).count();
    (within(&any), within(&own))
}

fn is_open(report: &ReplicaReport) -> bool {
    matches!(report.reported, Reported::Waiting | Reported::NotAsked)
}

/// Whether a get's reply fills its place, given whether anybody found a record: then a stand-in that
/// has nothing is a reply of the sloppy quorum.
fn fills(report: &ReplicaReport, found: bool) -> bool {
    let stand_in = matches!(report.role, Role::Fallback { .. });
    let nothing = matches!(report.reported, Reported::Absent { .. });
    says_something(report) || (found && stand_in && nothing)
}

fn found_any(reports: &[ReplicaReport]) -> bool {
    reports.iter().any(|report| matches!(report.reported, Reported::Record { .. }))
}

/// Whether a get's reply fills its place while nobody found a record.
fn says_something(report: &ReplicaReport) -> bool {
    match report.reported {
        Reported::Record { .. } => true,
        Reported::Absent { holds } => holds && report.holds && report.role == Role::Primary,
        _ => false,
    }
}

fn walk_get(seed: u64) {
    let mut world = World::new(seed);
    let n = world.n();
    let (r, pr) = (world.count_to(n), world.perhaps(n));
    let (notfound_ok, explain) = (world.rng.chance(1, 3), world.rng.chance(1, 2));
    let replicas = world.replicas.clone();
    let plan = GetPlan {
        me: world.me,
        n,
        r,
        pr,
        notfound_ok,
        reconciliation: Reconciliation::Siblings,
        explain,
        replicas: &replicas,
        deadline: at_ms(DEADLINE_MS),
    };
    let mut log = GetLog { plan: plan.clone(), concluded: false, done: false, asked: Vec::new() };
    let mut op = match GetOp::start(&plan, world.reachable(), world.patience(), world.now) {
        Ok((op, effects)) => {
            log.note(&world, &effects);
            op
        }
        Err(failure) => {
            assert_eq!(failure.kind, GetFailureKind::QuorumUnavailable);
            log.check_impossible(&failure.replicas, true);
            return;
        }
    };
    for _ in 0..STEPS {
        world.wait();
        let event = get_event(&mut world);
        log.note(&world, &op.on_event(event, world.now));
    }
    world.now = world.now.max(at_ms(DEADLINE_MS));
    log.note(&world, &op.on_event(GetEvent::Timer, world.now));
    assert!(log.concluded && log.done, "the deadline ends every get");
    assert!(op.on_event(GetEvent::Timer, world.now).is_empty());
}

fn get_event(world: &mut World) -> GetEvent {
    let from = world.node();
    let record = ["a", "b", "ab", "c/a", "x/ab"][usize::try_from(world.rng.below(5)).unwrap()];
    match world.rng.below(8) {
        0 => GetEvent::Timer,
        1 => GetEvent::Failed { from, failure: world.failure() },
        2 => GetEvent::Reply { from, reply: ReplicaReply::Absent { holds: false } },
        3 | 4 => GetEvent::Reply { from, reply: ReplicaReply::Absent { holds: true } },
        5 => GetEvent::Reply { from, reply: ReplicaReply::Same },
        _ => GetEvent::Reply { from, reply: ReplicaReply::Record(record_text::parse(record)) },
    }
}

struct GetLog<'a> {
    plan: GetPlan<'a>,
    concluded: bool,
    done: bool,
    asked: Vec<NodeId>,
}

impl GetLog<'_> {
    fn note(&mut self, world: &World, effects: &[GetEffect]) {
        for effect in effects {
            assert!(!self.done, "nothing after the end");
            match effect {
                GetEffect::Read { node, .. } => {
                    assert!(!self.asked.contains(node), "a node is asked once");
                    assert!(!world.down.contains(node), "only the reachable are asked");
                    self.asked.push(*node);
                }
                GetEffect::Answer(outcome) => {
                    self.conclude();
                    self.check_answer(&outcome.replicas, outcome.record.is_empty());
                    assert!(self.plan.notfound_ok || outcome.acks >= self.plan.r);
                }
                GetEffect::Fail(failure) => {
                    self.conclude();
                    let late = world.now >= self.plan.deadline;
                    assert!(late || failure.kind != GetFailureKind::Deadline);
                    if !late {
                        self.check_impossible(&failure.replicas, false);
                    }
                }
                GetEffect::Repair { node, record } => {
                    assert!(self.concluded && self.asked.contains(node) && !record.is_empty());
                    assert!(self.plan.replicas.read_targets().contains(node), "primaries only");
                }
                GetEffect::Overdue { node } => assert!(self.asked.contains(node)),
                GetEffect::SetTimer(at) => assert!(*at <= self.plan.deadline),
                GetEffect::Done => self.done = true,
            }
        }
    }

    fn conclude(&mut self) {
        assert!(!self.concluded, "one conclusion");
        self.concluded = true;
    }

    fn places(&self) -> Vec<NodeId> {
        let mut places = self.plan.replicas.read_targets();
        places.truncate(self.plan.replicas.owners.len());
        places
    }

    fn holds(&self, node: NodeId) -> bool {
        self.plan.replicas.holders.contains(&node)
    }

    fn check_answer(&self, reports: &[ReplicaReport], is_absent: bool) {
        if !self.plan.explain || (is_absent && self.plan.notfound_ok) {
            return;
        }
        let found = found_any(reports);
        let counts = |report: &ReplicaReport| fills(report, found);
        let (any, own) = recount(&self.places(), reports, counts, |node| self.holds(node));
        assert!(any >= self.plan.r.into() && own >= self.plan.pr.into());
        let confirm = |report: &ReplicaReport| {
            says_something(report) && matches!(report.reported, Reported::Absent { .. })
        };
        let confirmed = recount(&self.places(), reports, confirm, |_| true).0;
        assert!(!is_absent || confirmed >= self.plan.r.into(), "absence is confirmed R times");
    }

    fn check_impossible(&self, reports: &[ReplicaReport], at_start: bool) {
        let found = found_any(reports);
        let counts = |report: &ReplicaReport| is_open(report) || fills(report, found);
        let (any, own) = recount(&self.places(), reports, counts, |node| self.holds(node));
        let short = any < self.plan.r.into() || own < self.plan.pr.into();
        assert!(short, "refused early, at the start: {at_start}, though it was possible");
    }
}

fn walk_put(seed: u64) {
    let mut world = World::new(seed);
    let n = world.n();
    let w =
        if world.rng.chance(1, 5) { WriteGoal::Any } else { WriteGoal::Count(world.count_to(n)) };
    let pw = world.perhaps(n);
    let buffered = world.rng.chance(1, 4);
    let replicas = world.replicas.clone();
    let plan = PutPlan {
        me: world.me,
        n,
        w,
        pw,
        durability: if buffered { Durability::Buffered } else { Durability::Fsync },
        stand_in: world.rng.chance(1, 2),
        replicas: &replicas,
        deadline: at_ms(DEADLINE_MS),
    };
    let started = PutOp::start(&plan, world.reachable(), world.patience(), world.now);
    let mut log = PutLog::new(plan);
    let mut op = match started {
        Ok((op, effects)) => {
            log.note(&world, &effects);
            op
        }
        Err(failure) => {
            assert_eq!(failure.outcome, Outcome::NotApplied);
            return;
        }
    };
    for _ in 0..STEPS {
        world.wait();
        let event = log.event(&mut world);
        let effects = op.on_event(event, world.now);
        log.note(&world, &effects);
    }
    world.now = world.now.max(at_ms(DEADLINE_MS));
    log.note(&world, &op.on_event(PutEvent::Timer, world.now));
    assert!(log.conclusions == 1 && log.done, "the deadline ends every put");
    log.check_placed();
    assert!(op.on_event(PutEvent::LocalDone, world.now).is_empty());
}

struct PutLog<'a> {
    plan: PutPlan<'a>,
    minted: bool,
    durable: bool,
    local_failed: bool,
    conclusions: usize,
    done: bool,
    /// Node, place.
    sent: Vec<(NodeId, NodeId)>,
    acked: BTreeSet<NodeId>,
    hinted: BTreeSet<NodeId>,
}

impl<'a> PutLog<'a> {
    fn new(plan: PutPlan<'a>) -> Self {
        Self {
            plan,
            minted: false,
            durable: false,
            local_failed: false,
            conclusions: 0,
            done: false,
            sent: Vec::new(),
            acked: BTreeSet::new(),
            hinted: BTreeSet::new(),
        }
    }

    /// A random event, local ones in an order in which a store can report them.
    fn event(&mut self, world: &mut World) -> PutEvent {
        let from = world.node();
        let open = !self.durable && !self.local_failed && !self.done;
        match world.rng.below(10) {
            0..=2 if open && !self.minted => {
                self.minted = true;
                PutEvent::Minted
            }
            0 | 1 if open && self.minted => {
                self.durable = true;
                PutEvent::LocalDone
            }
            3 if open && world.rng.chance(1, 3) => {
                self.local_failed = true;
                PutEvent::LocalFailed(LocalFailure::Store { code: "store_failed".to_owned() })
            }
            4 | 5 if from != self.plan.me => PutEvent::Failed { from, failure: world.failure() },
            6..=8 if from != self.plan.me => {
                if !self.done && self.sent.iter().any(|(node, _)| *node == from) {
                    self.acked.insert(from);
                }
                PutEvent::Acked { from }
            }
            _ => PutEvent::Timer,
        }
    }

    fn note(&mut self, world: &World, effects: &[PutEffect]) {
        let late = world.now >= self.plan.deadline;
        for effect in effects {
            assert!(!self.done, "nothing after the end");
            match effect {
                PutEffect::WriteLocal | PutEffect::Overdue { .. } => {}
                PutEffect::SetTimer(at) => assert!(*at <= self.plan.deadline),
                PutEffect::Send { node, hint_for, .. } => {
                    assert!(self.minted, "nothing is sent before the dot is minted");
                    assert!(*node != self.plan.me && !world.down.contains(node));
                    assert!(self.sent.iter().all(|(other, _)| other != node), "sent once");
                    self.sent.push((*node, hint_for.unwrap_or(*node)));
                }
                PutEffect::KeepHint { for_node } => {
                    assert!(self.minted && !self.local_failed && (self.durable || late));
                    assert!(*for_node != self.plan.me && self.hinted.insert(*for_node));
                }
                PutEffect::Answer(outcome) => {
                    self.conclusions += 1;
                    assert!(self.minted);
                    let acked = |report: &ReplicaReport| report.reported == Reported::Acked;
                    let extra = self.durable || outcome.acks > 0;
                    assert!(self.is_enough(&outcome.replicas, acked) && extra);
                }
                PutEffect::Fail(failure) => {
                    self.conclusions += 1;
                    let applied = self.minted || late;
                    let unknown = failure.outcome == Outcome::Unknown;
                    assert_eq!(unknown, applied, "not_applied is never said of a write");
                    let counts = |report: &ReplicaReport| {
                        is_open(report) || report.reported == Reported::Acked
                    };
                    let own_copy = self.plan.w == WriteGoal::Any && !self.local_failed;
                    let possible = self.is_enough(&failure.replicas, counts);
                    assert!(late || !applied || !possible || (self.is_any() && !own_copy));
                }
                PutEffect::Done => {
                    assert_eq!(self.conclusions, 1, "the end comes after the conclusion");
                    self.done = true;
                }
            }
        }
    }

    fn is_any(&self) -> bool {
        self.plan.w == WriteGoal::Any
    }

    fn is_enough(
        &self,
        reports: &[ReplicaReport],
        counts: impl Fn(&ReplicaReport) -> bool,
    ) -> bool {
        let sets = self.plan.replicas.write_sets();
        sets.iter().enumerate().all(|(index, set)| {
            let (any, own) = recount(set, reports, &counts, |_| true);
            let most = if index == 0 { usize::MAX } else { set.len() };
            let w = if self.is_any() { 0 } else { usize::from(self.plan.w.count()) };
            any >= w.min(most) && own >= usize::from(self.plan.pw).min(most)
        })
    }

    /// Once written, every place has the replica, or somebody owes it, or nobody can.
    fn check_placed(&self) {
        if !self.minted || !self.durable {
            return;
        }
        for place in self.plan.replicas.write_targets() {
            let stored = self.sent.iter().any(|(n, p)| *p == place && self.acked.contains(n));
            let placed = place == self.plan.me || stored || self.hinted.contains(&place);
            assert!(placed, "{place} is owed its replica by nobody");
        }
    }
}
