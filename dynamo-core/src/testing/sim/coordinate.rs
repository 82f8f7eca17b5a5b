//! The coordinator of a simulated node: it performs the effects of gets and puts.

use std::collections::VecDeque;

use crate::clock::record::Record;
use crate::id::NodeId;
use crate::params::Durability;
use crate::quorum::{
    GetEffect, GetEvent, GetFailureKind, GetOp, GetPlan, LocalFailure, Outcome, PutEffect,
    PutEvent, PutFailure, PutFailureKind, PutOp, PutPlan, ReplicaFailure, WriteGoal,
};
use crate::replica::{Minted, PutCommand, PutRefusal, coordinate_put_in, settled};
use crate::testing::sim::founding::object;
use crate::testing::sim::mutant::Mutant;
use crate::testing::sim::network::{Answer, Merge, Request};
use crate::testing::sim::node::{Asker, GetRun, Node, Purpose, PutRun, Then, before};
use crate::testing::sim::serve::{shown, versions_of};
use crate::testing::sim::store::{Key, Ticket};
use crate::testing::sim::world::{Event, World};
use crate::time::Mono;
use crate::versions::{read_context, write_context};

/// Gets.
impl World {
    pub(super) fn start_get(&mut self, at: usize, asker: Asker, key: Key, deadline: Mono) {
        let is_everywhere = self.is_everywhere(key);
        let node = &self.nodes[at];
        let plan = GetPlan {
            me: node.id,
            n: self.config.n,
            r: self.config.r,
            pr: if self.config.strict { self.config.r } else { 0 },
            notfound_ok: false,
            reconciliation: self.config.reconciliation,
            explain: false,
            replicas: self.sets(at, key),
            deadline,
        };
        let (reachable, patience) =
            (|peer| node.view.reachable(peer), |peer| node.view.patience(peer));
        match GetOp::start(&plan, reachable, patience, self.now) {
            Err(_) => {
                let outcome = Outcome::NotApplied;
                self.answer(at, asker, Answer::Failed { outcome, not_owner: false });
            }
            Ok((op, effects)) => {
                if !self.sets(at, key).pending.is_empty() {
                    self.covered("read with a pending owner");
                }
                let (id, began) = (self.number(), self.now);
                let run = GetRun { op, key, asker, timer: None, began, is_everywhere };
                self.drive_get(at, id, run, effects);
            }
        }
    }

    pub(super) fn get_event(&mut self, at: usize, id: u64, event: GetEvent) {
        let Some(mut run) = self.nodes[at].gets.remove(&id) else { return };
        let effects = run.op.on_event(event, self.now);
        self.drive_get(at, id, run, effects);
    }

    pub(super) fn get_timer(&mut self, at: usize, id: u64, due: Mono) {
        if self.nodes[at].gets.get(&id).is_some_and(|run| run.timer == Some(due)) {
            self.get_event(at, id, GetEvent::Timer);
        }
    }

    pub(super) fn drive_get(
        &mut self,
        at: usize,
        id: u64,
        mut run: GetRun,
        effects: Vec<GetEffect>,
    ) {
        let (me, now, key) = (self.nodes[at].id, self.now, run.key);
        let mut effects = VecDeque::from(effects);
        while let Some(effect) = effects.pop_front() {
            match effect {
                GetEffect::Read { node, .. } if node == me => {
                    let event = match self.read(at, key) {
                        Ok(reply) => GetEvent::Reply { from: me, reply },
                        Err(()) => {
                            let failure = ReplicaFailure::Refused("corrupt".to_owned());
                            GetEvent::Failed { from: me, failure }
                        }
                    };
                    effects.extend(run.op.on_event(event, now));
                }
                GetEffect::Read { node, unless } => {
                    self.call(at, node, Request::Read { key, unless }, Purpose::Get(id));
                }
                GetEffect::Answer(mut outcome) => {
                    let puts = self.nodes[at].memory.of(object(key).position());
                    let rule = self.config.reconciliation;
                    outcome.record = settled(outcome.record, rule, puts);
                    if outcome.record.is_empty() && run.is_everywhere {
                        self.violate(format!(
                            "I-22: node {at} answers that key {key} is absent, and everyone had it"
                        ));
                    }
                    self.demand(self.audit.record(key, &outcome.record));
                    let answer = Answer::Got {
                        versions: versions_of(&outcome.record),
                        context: read_context(&outcome.record, outcome.fastest),
                        primaries: outcome.primaries,
                        began: run.began,
                    };
                    self.answer(at, run.asker, answer);
                }
                GetEffect::Fail(failure) => {
                    if failure.kind == GetFailureKind::AbsenceUnconfirmed {
                        self.covered("absence unconfirmed");
                    }
                    let outcome = Outcome::NotApplied;
                    self.answer(at, run.asker, Answer::Failed { outcome, not_owner: false });
                }
                GetEffect::Repair { node, record } => {
                    self.covered("read repair");
                    self.demand(self.audit.record(key, &record));
                    if node == me {
                        self.merge(at, key, &record, Durability::Fsync);
                    } else {
                        let merge = self.merge_request(at, key, record, None, Durability::Fsync);
                        self.call(at, node, Request::Merge(merge), Purpose::Repair);
                    }
                }
                GetEffect::Overdue { node } => self.nodes[at].view.on_overdue(node, now),
                GetEffect::SetTimer(due) => {
                    run.timer = Some(due);
                    let generation = self.nodes[at].generation;
                    self.at(due, Event::GetTimer { node: at, generation, op: id, at: due });
                }
                GetEffect::Done => return,
            }
        }
        self.nodes[at].gets.insert(id, run);
    }
}

/// Puts.
impl World {
    pub(super) fn start_put(
        &mut self,
        at: usize,
        asker: Asker,
        (key, command): (Key, PutCommand),
        stand_in: bool,
        deadline: Mono,
    ) {
        let node = &self.nodes[at];
        if node.gives_up(key) {
            self.covered("put refused where the partition is given up");
            let failed = Answer::Failed { outcome: Outcome::NotApplied, not_owner: true };
            return self.answer(at, asker, failed);
        }
        let plan = PutPlan {
            me: node.id,
            n: self.config.n,
            w: if self.config.w == 0 { WriteGoal::Any } else { WriteGoal::Count(self.config.w) },
            pw: if self.config.strict { self.config.w } else { 0 },
            durability: self.config.durability,
            stand_in,
            replicas: self.sets(at, key),
            deadline,
        };
        let (reachable, patience) =
            (|peer| node.view.reachable(peer), |peer| node.view.patience(peer));
        match PutOp::start(&plan, reachable, patience, self.now) {
            Err(failure) => self.put_refused(at, asker, &failure),
            Ok((op, effects)) => {
                let sets = self.sets(at, key);
                if sets.fallbacks.contains(&node.id) {
                    self.covered("fallback coordinates");
                } else if !sets.pending.is_empty() {
                    self.covered("two active sets");
                }
                let id = self.number();
                let minted = None;
                let run = PutRun { op, key, command, asker, timer: None, minted, hint_ticket: 0 };
                self.drive_put(at, id, run, effects);
            }
        }
    }

    pub(super) fn put_event(&mut self, at: usize, id: u64, event: PutEvent) {
        let Some(mut run) = self.nodes[at].puts.remove(&id) else { return };
        let effects = run.op.on_event(event, self.now);
        self.drive_put(at, id, run, effects);
    }

    pub(super) fn put_timer(&mut self, at: usize, id: u64, due: Mono) {
        if self.nodes[at].puts.get(&id).is_some_and(|run| run.timer == Some(due)) {
            self.put_event(at, id, PutEvent::Timer);
        }
    }

    pub(super) fn put_refused(&mut self, at: usize, asker: Asker, failure: &PutFailure) {
        let not_owner = failure.kind == PutFailureKind::NotOwner;
        self.answer(at, asker, Answer::Failed { outcome: failure.outcome, not_owner });
    }

    pub(super) fn drive_put(
        &mut self,
        at: usize,
        id: u64,
        mut run: PutRun,
        effects: Vec<PutEffect>,
    ) {
        let (me, now, key) = (self.nodes[at].id, self.now, run.key);
        let mut effects = VecDeque::from(effects);
        while let Some(effect) = effects.pop_front() {
            match effect {
                PutEffect::WriteLocal => match self.coordinate(at, key, &run.command) {
                    Ok((minted, ticket)) => {
                        run.minted = Some(minted);
                        effects.extend(run.op.on_event(PutEvent::Minted, now));
                        let early = self.config.is(Mutant::AckBeforeStore)
                            || self.config.durability == Durability::Buffered;
                        if early || ticket <= self.nodes[at].durable {
                            effects.extend(run.op.on_event(PutEvent::LocalDone, now));
                        } else {
                            self.nodes[at].waiting.push((ticket, Then::LocalDone(id)));
                        }
                    }
                    Err(failure) => {
                        effects.extend(run.op.on_event(PutEvent::LocalFailed(failure), now));
                    }
                },
                PutEffect::Send { node, hint_for, durability } => {
                    let Some(minted) = &run.minted else {
                        self.violate("a put is sent before it was minted".to_owned());
                        return;
                    };
                    let record = minted.delta.clone();
                    let merge = self.merge_request(at, key, record, hint_for, durability);
                    self.call(at, node, Request::Merge(merge), Purpose::Put(id));
                }
                PutEffect::KeepHint { for_node } => {
                    run.hint_ticket = self.keep_reference(at, for_node, key);
                }
                PutEffect::Answer(_) => self.put_answered(at, &run),
                PutEffect::Fail(failure) => self.put_refused(at, run.asker, &failure),
                PutEffect::Overdue { node } => self.nodes[at].view.on_overdue(node, now),
                PutEffect::SetTimer(due) => {
                    run.timer = Some(due);
                    let generation = self.nodes[at].generation;
                    self.at(due, Event::PutTimer { node: at, generation, op: id, at: due });
                }
                PutEffect::Done => return,
            }
        }
        debug_assert_eq!(me, self.nodes[at].id);
        self.nodes[at].puts.insert(id, run);
    }

    /// Answers, once the hints by reference that the answer rests on are durable too: the copy of
    /// a coordinator that is no primary would otherwise never find its way home.
    pub(super) fn put_answered(&mut self, at: usize, run: &PutRun) {
        let Some(minted) = &run.minted else {
            return self.violate("a put is acknowledged before it was minted".to_owned());
        };
        let context = write_context(before(run), minted, self.nodes[at].id);
        let (asker, answer) = (run.asker, Answer::Stored { context });
        if self.config.is(Mutant::AnswerBeforeHint) || self.config.is(Mutant::AckBeforeStore) {
            return self.answer(at, asker, answer);
        }
        self.when_durable(at, run.hint_ticket, Then::Answer { asker, answer });
    }

    /// Applies a put to the local store, ending the epoch where it must end first.
    pub(super) fn coordinate(
        &mut self,
        at: usize,
        key: Key,
        command: &PutCommand,
    ) -> Result<(Minted, Ticket), LocalFailure> {
        let unreadable = |()| LocalFailure::Store { code: "corrupt".to_owned() };
        let local = self.load(at, key).map_err(unreadable)?;
        let now = self.wall(at);
        let custody = self.nodes[at].custody(key);
        let apply = |node: &mut Node| {
            let puts = node.memory.of(object(key).position());
            coordinate_put_in(&local, command, &mut node.actor, custody, puts, now)
        };
        let mut outcome = apply(&mut self.nodes[at]);
        if let Err(PutRefusal::Amnesia { seen }) = outcome {
            self.end_epoch(at, seen, "epoch ended: a context shows a lost dot");
            outcome = apply(&mut self.nodes[at]);
        }
        let minted = outcome.map_err(|refusal| {
            match refusal {
                PutRefusal::TooManySiblings { .. } => self.covered("too many siblings"),
                PutRefusal::ClockSkew => self.covered("clock skew refused"),
                _ => {}
            }
            LocalFailure::Refused(refusal)
        })?;
        if minted.replayed {
            self.covered("put replayed");
            return Ok((minted, self.nodes[at].store.last_ticket()));
        }
        self.note_minted(command, &minted);
        self.remember_own(at, key, command, &minted);
        if local.is_empty() && self.reaped.contains(&key) {
            self.covered("put made anew after the reap");
        }
        let noted = self.audit.minted(key, command.put_id, &minted, local.sibling_count());
        self.demand(noted);
        self.demand(self.audit.record(key, &minted.record));
        self.note(|| format!("node {at} key {key}: put makes {}", shown(&minted.record)));
        self.demand_bound(key, &minted.record);
        let ticket = self.nodes[at].store.put(key, minted.record.clone());
        self.flush_soon(at, ticket, self.config.durability);
        Ok((minted, ticket))
    }

    fn note_minted(&mut self, command: &PutCommand, minted: &Minted) {
        let stamp = minted.delta.sibling(&minted.dot).map(|sibling| sibling.stamp);
        let Some(entry) = self.history.puts.get_mut(&command.put_id) else { return };
        entry.minted += 1;
        if let Some(stamp) = stamp {
            entry.stamps = (entry.stamps.0.min(stamp), entry.stamps.1.max(stamp));
        }
        if entry.minted > 1 {
            self.covered("retry made a second version");
        }
    }

    /// A record on its way to another replica.
    pub(super) fn merge_request(
        &self,
        at: usize,
        key: Key,
        record: Record,
        hint_for: Option<NodeId>,
        durability: Durability,
    ) -> Merge {
        let (puts, ring) = (Vec::new(), self.nodes[at].agent.version());
        Merge { key, record, hint_for, durability, puts, ring }
    }
}
