//! One put (paper sections 4.5 and 4.6): write locally first, send to the N highest-ranked
//! reachable nodes, answer at W, and go on until every replica has its place.
//!
//! A put that cannot reach its quorum is refused before anything is written. After the coordinator
//! minted the dot, the delta goes to all others at once, beside the local fsync. (If the fsync
//! never happens and the node restarts, its epoch ends, so the dot is not reused.) A node that
//! fails is replaced within the request by the next fallback, which keeps the replica with a hint;
//! before the answer, one that exceeds its patience is replaced too, and counts again when it
//! comes late. Where no fallback is left, the coordinator owes a hint *by reference*: key and dot,
//! delivered from its own copy. At the deadline the same is owed to every place still empty.
//!
//! A coordinator that is itself a fallback (its primaries are down) keeps the replica in its main
//! store, where its counters live, and hints by reference for the primary that it stands in for.
//!
//! Invariants: nothing is sent and no hint is kept before the dot is minted; a refusal is "not
//! applied" only while nothing can have been written.

mod outcome;

use std::time::Duration;

pub use outcome::{LocalFailure, Outcome, PutFailure, PutFailureKind, PutOutcome};

use crate::id::NodeId;
use crate::params::Durability;
use crate::quorum::invariants::{are_distinct, ends_in_order};
use crate::quorum::report::{ReplicaFailure, ReplicaReport, Reported};
use crate::quorum::roster::{Roster, RosterPlan};
use crate::quorum::tally::{Filler, Open, Tally, WriteGoal};
use crate::ring::ReplicaSets;
use crate::time::Mono;

/// What a put is to do.
#[derive(Debug, Clone)]
pub struct PutPlan<'a> {
    /// The node that coordinates and writes first.
    pub me: NodeId,
    /// Replicas of the object, for the evidence.
    pub n: u8,
    /// What to wait for.
    pub w: WriteGoal,
    /// Acknowledgements of primaries to insist on; 0 for none.
    pub pw: u8,
    /// What acknowledgements must have survived.
    pub durability: Durability,
    /// Whether the sender, looking at the same ring, chose this node although it is a fallback
    /// whose primaries look reachable from here. Views of who is up are local and may differ: if
    /// nobody here has talked to the dead primary yet, refusing would mean refusing for ever.
    pub stand_in: bool,
    /// The nodes that take part.
    pub replicas: &'a ReplicaSets,
    /// When the answer is due.
    pub deadline: Mono,
}

/// What happens to a put.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PutEvent {
    /// The local store has applied the put and minted its dot; it is not durable yet.
    Minted,
    /// The local write is as durable as asked.
    LocalDone,
    /// The local write failed.
    LocalFailed(LocalFailure),
    /// A replica has stored it as durably as asked.
    Acked {
        /// Which one.
        from: NodeId,
    },
    /// A replica failed.
    Failed {
        /// Which one.
        from: NodeId,
        /// How.
        failure: ReplicaFailure,
    },
    /// The time that was set has come.
    Timer,
}

/// What the shell does for a put.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PutEffect {
    /// Apply the put to the local store.
    WriteLocal,
    /// Send the delta.
    Send {
        /// To whom.
        node: NodeId,
        /// The node for which the receiver keeps it as a hint, where it stands in.
        hint_for: Option<NodeId>,
        /// When the receiver shall acknowledge.
        durability: Durability,
    },
    /// Keep a hint by reference (key and dot, into the local store) for this node, durably before
    /// the effects behind it are performed: an answer may rest on it.
    KeepHint {
        /// The node that is owed the replica.
        for_node: NodeId,
    },
    /// Answer the client.
    Answer(PutOutcome),
    /// Refuse.
    Fail(PutFailure),
    /// Tell the failure view that `node` exceeded its patience.
    Overdue {
        /// The slow node.
        node: NodeId,
    },
    /// Send [`PutEvent::Timer`] at this time, and at no earlier one.
    SetTimer(Mono),
    /// Drop the operation. What is still on its way may arrive.
    Done,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Local {
    Writing,
    Durable,
    Failed,
}

/// The state of one put.
#[derive(Debug)]
pub struct PutOp {
    me: NodeId,
    n: u8,
    w: WriteGoal,
    pw: u8,
    durability: Durability,
    deadline: Mono,
    holders: Vec<NodeId>,
    roster: Roster<()>,
    tally: Tally,
    local: Local,
    minted: bool,
    /// Places for which a hint by reference is kept.
    kept: Vec<NodeId>,
    concluded: bool,
    done: bool,
    timer: Option<Mono>,
}

impl PutOp {
    /// Plans a put.
    ///
    /// # Errors
    /// [`PutFailure`], with nothing written anywhere: this node is not to coordinate it, too few
    /// replicas are reachable, or the deadline has passed.
    pub fn start(
        plan: &PutPlan<'_>,
        reachable: impl Fn(NodeId) -> bool,
        patience: impl Fn(NodeId) -> Duration,
        now: Mono,
    ) -> Result<(Self, Vec<PutEffect>), PutFailure> {
        let places = plan.replicas.write_targets();
        debug_assert!(are_distinct(&places), "replica sets name no node twice");
        let backed = places.len();
        let fallbacks = &plan.replicas.fallbacks;
        let is_fallback = fallbacks.contains(&plan.me);
        let roster_plan = RosterPlan { me: plan.me, places, backed, fallbacks };
        let mut roster = Roster::new(roster_plan, reachable, patience);
        let is_place = roster.places().contains(&plan.me);
        let is_active = is_place || (is_fallback && roster.lacks_any()) || plan.stand_in;
        if !is_place {
            // The copy that is written here anyway is the first to stand in.
            roster.prefer_stand_in(plan.me);
        }
        roster.replace_unreachable();
        let op = Self {
            me: plan.me,
            n: plan.n,
            w: plan.w,
            pw: plan.pw,
            durability: plan.durability,
            deadline: plan.deadline,
            holders: plan.replicas.holders.clone(),
            tally: Tally::of_write(plan.replicas, plan.w, plan.pw),
            roster,
            local: Local::Writing,
            minted: false,
            kept: Vec::new(),
            concluded: false,
            done: false,
            timer: None,
        };
        if is_active { op.begin(now) } else { Err(op.refusal(PutFailureKind::NotOwner)) }
    }

    /// Takes one event. Returns what to do, in order; nothing once the operation is done.
    pub fn on_event(&mut self, event: PutEvent, now: Mono) -> Vec<PutEffect> {
        let mut effects = Vec::new();
        if self.done {
            return effects;
        }
        match event {
            PutEvent::Minted => self.minted = true,
            PutEvent::LocalDone => self.on_local_done(),
            PutEvent::LocalFailed(failure) => self.on_local_failure(failure, &mut effects),
            PutEvent::Acked { from } => self.on_ack(from),
            PutEvent::Failed { from, failure } => self.on_failure(from, failure),
            PutEvent::Timer => {}
        }
        if !self.done {
            self.proceed(now, &mut effects);
        }
        effects
    }

    fn begin(mut self, now: Mono) -> Result<(Self, Vec<PutEffect>), PutFailure> {
        if now >= self.deadline {
            return Err(self.refusal(PutFailureKind::Deadline));
        }
        if !self.is_possible() {
            return Err(self.refusal(PutFailureKind::QuorumUnavailable));
        }
        let mut effects = vec![PutEffect::WriteLocal];
        self.roster.begin(self.me, now);
        self.set_timer(&mut effects);
        Ok((self, effects))
    }

    fn on_local_done(&mut self) {
        // A write that is durable was minted, whether or not the shell said so first.
        self.minted = true;
        if self.local != Local::Writing {
            return;
        }
        self.local = Local::Durable;
        match self.roster.place_of(self.me) {
            Some(_) => self.on_ack(self.me),
            None => self.tally.fill_none(),
        }
    }

    fn on_local_failure(&mut self, failure: LocalFailure, effects: &mut Vec<PutEffect>) {
        if self.local != Local::Writing {
            return;
        }
        self.local = Local::Failed;
        if self.minted {
            self.roster.drop_stand_in(self.me);
            let code = match failure {
                LocalFailure::Store { code } => code,
                LocalFailure::Refused(_) => "refused".to_owned(),
            };
            return self.on_failure(self.me, ReplicaFailure::Refused(code));
        }
        if !self.concluded {
            effects.push(PutEffect::Fail(self.refusal(PutFailureKind::Local(failure))));
            self.concluded = true;
        }
        self.end(effects);
    }

    fn on_ack(&mut self, from: NodeId) {
        if let Some(place) = self.roster.answer(from, ()) {
            let filler = if from == place { Filler::Itself } else { Filler::StandIn };
            self.tally.fill(place, filler);
        }
    }

    fn on_failure(&mut self, from: NodeId, failure: ReplicaFailure) {
        let Some(place) = self.roster.fail(from, failure) else { return };
        if !self.tally.is_filled(place) && !self.roster.is_place_open(place) {
            self.roster.stand_in(place);
        }
    }

    /// Moves on as far as possible. All branching about the end is here.
    fn proceed(&mut self, now: Mono, effects: &mut Vec<PutEffect>) {
        if self.minted {
            self.send_planned(now, effects);
            self.note_overdue(now, effects);
            self.send_planned(now, effects);
            self.keep_hints(now, effects);
        }
        self.conclude(now, effects);
        let late = now >= self.deadline;
        let placed = self.roster.places().iter().all(|place| self.is_settled(*place));
        if self.concluded && (late || (placed && self.local != Local::Writing)) {
            self.end(effects);
        } else {
            self.set_timer(effects);
        }
    }

    fn end(&mut self, effects: &mut Vec<PutEffect>) {
        effects.push(PutEffect::Done);
        self.done = true;
        debug_assert!(ends_in_order(self.concluded, self.done));
    }

    fn send_planned(&mut self, now: Mono, effects: &mut Vec<PutEffect>) {
        let planned = self.roster.planned();
        let durable_one = self.one_durable(&planned);
        for node in planned {
            self.roster.begin(node, now);
            if node == self.me {
                if self.local == Local::Durable {
                    self.on_ack(node);
                }
                continue;
            }
            let hint_for = self.roster.place_of(node).filter(|place| *place != node);
            let durable = durable_one == Some(node);
            let durability = if durable { Durability::Fsync } else { self.durability };
            effects.push(PutEffect::Send { node, hint_for, durability });
        }
    }

    /// Of the first sends of a buffered put, the one that shall be durable all the same: the last
    /// primary, as the answer rarely waits for it (paper section 6.1).
    fn one_durable(&self, planned: &[NodeId]) -> Option<NodeId> {
        let buffered = self.durability == Durability::Buffered;
        let mut remote = planned.iter().rev().filter(|node| **node != self.me);
        remote.find(|node| buffered && self.roster.place_of(**node) == Some(**node)).copied()
    }

    fn note_overdue(&mut self, now: Mono, effects: &mut Vec<PutEffect>) {
        for overdue in self.roster.take_overdue(now) {
            if overdue.was_given_time && overdue.node != self.me {
                effects.push(PutEffect::Overdue { node: overdue.node });
            }
            // Once answered, a slow replica is waited for: more copies would only add load.
            let wanted = !self.concluded && !self.tally.is_filled(overdue.place);
            if wanted && !self.roster.is_stand_in_open(overdue.place) {
                self.roster.stand_in(overdue.place);
            }
        }
    }

    /// Keeps a hint by reference for every place that nobody else will fill, as soon as there is
    /// something durable to refer to; at the deadline, for every place that is still empty.
    fn keep_hints(&mut self, now: Mono, effects: &mut Vec<PutEffect>) {
        let late = now >= self.deadline;
        if self.local == Local::Failed || (self.local == Local::Writing && !late) {
            return;
        }
        let mine = self.roster.place_of(self.me);
        for place in self.roster.places().to_vec() {
            let filled = self.tally.is_filled(place);
            let stands_in = mine == Some(place) && !self.tally.by_itself(place);
            let lost = !filled && (late || !self.roster.is_place_open(place));
            if place != self.me && (stands_in || lost) && !self.kept.contains(&place) {
                self.kept.push(place);
                effects.push(PutEffect::KeepHint { for_node: place });
            }
        }
    }

    fn conclude(&mut self, now: Mono, effects: &mut Vec<PutEffect>) {
        if self.concluded {
            return;
        }
        let kind = if self.minted && self.tally.is_reached() {
            effects.push(PutEffect::Answer(self.outcome()));
            self.concluded = true;
            return;
        } else if !self.is_possible() {
            PutFailureKind::QuorumUnavailable
        } else if now >= self.deadline {
            PutFailureKind::Deadline
        } else {
            return;
        };
        self.concluded = true;
        // The local write was ordered, so it may happen even where it was not reported yet.
        effects.push(PutEffect::Fail(self.failure(kind, Outcome::Unknown)));
    }

    fn is_possible(&self) -> bool {
        let own_copy = self.w == WriteGoal::Any && self.pw == 0 && self.local == Local::Writing;
        own_copy || self.tally.is_possible(|place| self.open(place))
    }

    fn open(&self, place: NodeId) -> Open {
        Open {
            itself: self.roster.is_node_open(place),
            stand_in: self.roster.is_stand_in_open(place),
        }
    }

    /// Whether nothing more is to be done for the place.
    fn is_settled(&self, place: NodeId) -> bool {
        let open = self.roster.is_place_open(place);
        let hopeless = !open && (place == self.me || self.local == Local::Failed);
        self.tally.is_filled(place) || self.kept.contains(&place) || hopeless
    }

    fn set_timer(&mut self, effects: &mut Vec<PutEffect>) {
        let overdue = self.roster.next_overdue().filter(|_| self.minted);
        let next = overdue.map_or(self.deadline, |at| at.min(self.deadline));
        if self.timer != Some(next) {
            self.timer = Some(next);
            effects.push(PutEffect::SetTimer(next));
        }
    }

    fn outcome(&self) -> PutOutcome {
        let hinted = self.roster.places().iter().filter(|place| {
            let by_stand_in = self.tally.is_filled(**place) && !self.tally.by_itself(**place);
            by_stand_in || (self.kept.contains(place) && !self.tally.is_filled(**place))
        });
        PutOutcome {
            acks: self.tally.acks(),
            asked: self.w.count(),
            primaries: self.tally.primaries(),
            n: self.n,
            hinted: u8::try_from(hinted.count()).unwrap_or(u8::MAX),
            replicas: self.reports(),
        }
    }

    /// A refusal before anything was written. Where too few are reachable, `got` says how many are.
    fn refusal(&self, kind: PutFailureKind) -> PutFailure {
        let failure = self.failure(kind, Outcome::NotApplied);
        if failure.kind != PutFailureKind::QuorumUnavailable {
            return failure;
        }
        let (required, got) = self.tally.prospects(|place| self.open(place));
        PutFailure { required, got, ..failure }
    }

    fn failure(&self, kind: PutFailureKind, outcome: Outcome) -> PutFailure {
        let (required, got) = self.tally.prospects(|_| Open::default());
        PutFailure { kind, outcome, required, got, replicas: self.reports() }
    }

    fn reports(&self) -> Vec<ReplicaReport> {
        self.roster.reports(|node| self.holders.contains(&node), |()| Reported::Acked)
    }
}
