//! One get (paper section 4.5): ask the first N reachable, answer at R, repair who is stale.
//!
//! The coordinator's own replica is read first, as that is cheap, and the others are asked for
//! their record *unless* it equals the local one, so that equal replicas answer "same".
//!
//! What counts: a record from whoever was asked fills its place. "Absent" fills a place when it
//! comes from a holder of the partition that says so itself. From a fallback it proves nothing
//! (hazard C6): it is a reply of the sloppy quorum where somebody else found a record, and no
//! confirmation where nobody did. From a node that is still being filled it never counts. So an
//! absent key is answered as absent at R confirmations and not before. Where those cannot come, the
//! answer is a refusal, or "absent" all the same if the request said that this is good enough.
//!
//! Places are the holders; where fewer than N nodes hold the partition, pending owners fill the
//! gap with the records they have, but never confirm absence and never count as primaries. Other
//! pending owners are asked too, and what they have is merged, but their replies count for nothing.
//!
//! Invariants: the repair is the join of the replies and creates no version (I-14); stand-ins and
//! pending owners are never repaired.

mod event;
mod outcome;

use std::time::Duration;

pub use event::{GetEffect, GetEvent, ReplicaReply};
pub use outcome::{GetFailure, GetFailureKind, GetOutcome};

use crate::clock::digest::RecordDigest;
use crate::clock::record::Record;
use crate::id::NodeId;
use crate::limits::READ_REPAIR_WAIT_MS;
use crate::params::Reconciliation;
use crate::quorum::invariants::{adds_no_dots, are_distinct, ends_in_order};
use crate::quorum::report::{ReplicaFailure, ReplicaReport, Reported};
use crate::quorum::roster::{Roster, RosterPlan};
use crate::quorum::tally::{Filler, Open, Tally};
use crate::replica::{joined, reconciled};
use crate::ring::ReplicaSets;
use crate::time::Mono;

/// What a get is to do.
#[derive(Debug, Clone)]
pub struct GetPlan<'a> {
    /// The node that coordinates. Need not be a replica; a client library that coordinates its own
    /// reads passes an id that no node has.
    pub me: NodeId,
    /// Replicas of the object, for the evidence.
    pub n: u8,
    /// Replies to wait for, from 1 to N.
    pub r: u8,
    /// Replies of primaries to insist on; 0 for none.
    pub pr: u8,
    /// Whether "absent" may be answered without confirmation.
    pub notfound_ok: bool,
    /// Who reconciles concurrent versions.
    pub reconciliation: Reconciliation,
    /// Whether the answer shall wait for every replica that is within its patience, to tell what
    /// each of them has.
    pub explain: bool,
    /// The nodes that take part.
    pub replicas: &'a ReplicaSets,
    /// When the answer is due.
    pub deadline: Mono,
}

#[derive(Debug)]
enum Answer {
    Record(Record),
    /// The local record.
    Same,
    Absent {
        holds: bool,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Not answered yet.
    Open,
    /// Answered; late replies are waited for until then.
    Answered {
        until: Mono,
    },
    /// Refused.
    Failed,
    Done,
}

enum Verdict {
    Answer,
    Fail(GetFailureKind),
}

/// The state of one get.
#[derive(Debug)]
pub struct GetOp {
    me: NodeId,
    n: u8,
    r: u8,
    notfound_ok: bool,
    explain: bool,
    reconciliation: Reconciliation,
    deadline: Mono,
    holders: Vec<NodeId>,
    roster: Roster<Answer>,
    /// Places filled by records and confirmed absence.
    tally: Tally,
    /// Those, and places whose stand-in replied that it has nothing.
    found: Tally,
    /// Places filled by any reply at all.
    replied: Tally,
    /// Whether the other replicas are asked, not the local one alone.
    asks_all: bool,
    /// Digest of the local record, once read.
    local: Option<RecordDigest>,
    /// Who was asked with the digest of the local record.
    asked_unless: Vec<NodeId>,
    merged: Record,
    fastest: Option<NodeId>,
    phase: Phase,
    timer: Option<Mono>,
}

impl GetOp {
    /// Plans a get. The local replica is read first, if it is one of the places.
    ///
    /// # Errors
    /// [`GetFailure`] where too few replicas are reachable, or the deadline has passed: nobody was
    /// asked then.
    pub fn start(
        plan: &GetPlan<'_>,
        reachable: impl Fn(NodeId) -> bool,
        patience: impl Fn(NodeId) -> Duration,
        now: Mono,
    ) -> Result<(Self, Vec<GetEffect>), GetFailure> {
        let places = plan.replicas.read_targets();
        debug_assert!(are_distinct(&places), "replica sets name no node twice");
        let backed = plan.replicas.owners.len();
        let fallbacks = &plan.replicas.fallbacks;
        let roster_plan = RosterPlan { me: plan.me, places, backed, fallbacks };
        let mut roster = Roster::new(roster_plan, reachable, patience);
        roster.replace_unreachable();
        let counted = roster.backed_places().to_vec();
        let op = Self {
            me: plan.me,
            n: plan.n,
            r: plan.r,
            notfound_ok: plan.notfound_ok,
            explain: plan.explain,
            reconciliation: plan.reconciliation,
            deadline: plan.deadline,
            holders: plan.replicas.holders.clone(),
            tally: Tally::of_read(counted.clone(), plan.r, plan.pr),
            found: Tally::of_read(counted.clone(), plan.r, plan.pr),
            replied: Tally::of_read(counted, plan.r, plan.pr),
            asks_all: !roster.places().contains(&plan.me),
            roster,
            local: None,
            asked_unless: Vec::new(),
            merged: Record::default(),
            fastest: None,
            phase: Phase::Open,
            timer: None,
        };
        op.begin(now)
    }

    /// Takes one event. Returns what to do, in order; nothing once the operation is done.
    pub fn on_event(&mut self, event: GetEvent, now: Mono) -> Vec<GetEffect> {
        if self.phase == Phase::Done {
            return Vec::new();
        }
        match event {
            GetEvent::Reply { from, reply } => self.on_reply(from, reply),
            GetEvent::Failed { from, failure } => self.on_failure(from, failure),
            GetEvent::Timer => {}
        }
        let mut effects = Vec::new();
        self.proceed(now, &mut effects);
        effects
    }

    fn begin(mut self, now: Mono) -> Result<(Self, Vec<GetEffect>), GetFailure> {
        if now >= self.deadline {
            return Err(self.failure(GetFailureKind::Deadline));
        }
        if !self.tally.is_possible(|place| self.open(place)) {
            let (required, got) = self.tally.prospects(|place| self.open(place));
            let failure = self.failure(GetFailureKind::QuorumUnavailable);
            return Err(GetFailure { required, got, ..failure });
        }
        let mut effects = Vec::new();
        if !self.asks_all {
            self.roster.begin(self.me, now);
            effects.push(GetEffect::Read { node: self.me, unless: None });
        }
        self.proceed(now, &mut effects);
        Ok((self, effects))
    }

    fn on_reply(&mut self, from: NodeId, reply: ReplicaReply) {
        let answer = match reply {
            ReplicaReply::Record(record) if record.is_empty() => Answer::Absent { holds: false },
            ReplicaReply::Record(record) => Answer::Record(record),
            ReplicaReply::Absent { holds } => Answer::Absent { holds },
            ReplicaReply::Same if self.asked_unless.contains(&from) => Answer::Same,
            ReplicaReply::Same => {
                // Equal to a record that was never named: a broken peer.
                let failure = ReplicaFailure::Refused("bad_reply".to_owned());
                return self.on_failure(from, failure);
            }
        };
        let Some(place) = self.roster.expects(from) else { return };
        if let Answer::Record(record) = &answer {
            if self.merged.is_empty() {
                self.merged = record.clone();
            } else if self.merged.sibling_count() > 1 || !self.merged.contains(record) {
                self.merged = joined(&self.merged, record, self.reconciliation);
            }
            if from == self.me {
                self.local = Some(RecordDigest::of(record));
            }
        }
        let absent = matches!(answer, Answer::Absent { .. });
        let full_member = from == place && self.holders.contains(&from);
        let counts = !absent || (full_member && matches!(answer, Answer::Absent { holds: true }));
        self.roster.answer(from, answer);
        let filler = if full_member && counts { Filler::Itself } else { Filler::StandIn };
        self.replied.fill(place, filler);
        if counts || from != place {
            self.found.fill(place, filler);
        }
        if counts {
            self.tally.fill(place, filler);
            if full_member && self.fastest.is_none() {
                self.fastest = Some(from);
            }
        } else if from == place {
            // A place whose own node cannot speak for it: perhaps a stand-in has a hint.
            self.replace(place);
        }
    }

    fn on_failure(&mut self, from: NodeId, failure: ReplicaFailure) {
        if let Some(place) = self.roster.fail(from, failure) {
            self.replace(place);
        }
    }

    /// Asks the next fallback for a place that is neither filled nor waited for.
    fn replace(&mut self, place: NodeId) {
        let wanted = self.phase == Phase::Open && !self.tally.is_filled(place);
        if wanted && !self.roster.is_place_open(place) {
            self.roster.stand_in(place);
        }
    }

    /// Moves on as far as possible. All branching about the end is here.
    fn proceed(&mut self, now: Mono, effects: &mut Vec<GetEffect>) {
        self.note_overdue(now, effects);
        self.conclude(now, effects);
        self.ask_planned(now, effects);
        if self.phase == Phase::Open {
            // Those who were just asked may be known to be slow: their stand-ins go along.
            self.note_overdue(now, effects);
            self.ask_planned(now, effects);
        }
        self.finish(now, effects);
        self.set_timer(effects);
    }

    fn note_overdue(&mut self, now: Mono, effects: &mut Vec<GetEffect>) {
        for overdue in self.roster.take_overdue(now) {
            if overdue.node == self.me {
                self.asks_all = true;
            } else if overdue.was_given_time {
                effects.push(GetEffect::Overdue { node: overdue.node });
            }
            let wanted = self.phase == Phase::Open && !self.tally.is_filled(overdue.place);
            if wanted && !self.roster.is_stand_in_open(overdue.place) {
                self.roster.stand_in(overdue.place);
            }
        }
        if !self.roster.is_node_open(self.me) {
            self.asks_all = true;
        }
    }

    fn ask_planned(&mut self, now: Mono, effects: &mut Vec<GetEffect>) {
        if !self.asks_all || matches!(self.phase, Phase::Failed | Phase::Done) {
            return;
        }
        for node in self.roster.planned() {
            self.roster.begin(node, now);
            let unless = self.local.filter(|_| node != self.me);
            if unless.is_some() {
                self.asked_unless.push(node);
            }
            effects.push(GetEffect::Read { node, unless });
        }
    }

    fn conclude(&mut self, now: Mono, effects: &mut Vec<GetEffect>) {
        if self.phase != Phase::Open {
            return;
        }
        match self.verdict(now) {
            Some(Verdict::Answer) => {
                let wait = Duration::from_millis(READ_REPAIR_WAIT_MS);
                self.phase = Phase::Answered { until: now.plus(wait).min(self.deadline) };
                effects.push(GetEffect::Answer(self.outcome()));
            }
            Some(Verdict::Fail(kind)) => {
                self.phase = Phase::Failed;
                effects.push(GetEffect::Fail(self.failure(kind)));
            }
            None => {}
        }
    }

    fn verdict(&self, now: Mono) -> Option<Verdict> {
        let late = now >= self.deadline;
        if self.explain && !late && self.roster.is_waiting_patiently() {
            return None;
        }
        let counted = self.counted();
        if counted.is_reached() {
            return Some(Verdict::Answer);
        }
        let possible = counted.is_possible(|place| self.open(place));
        if !self.merged.is_empty() {
            return match (possible, late) {
                (false, _) => Some(Verdict::Fail(GetFailureKind::QuorumUnavailable)),
                (true, true) => Some(Verdict::Fail(GetFailureKind::Deadline)),
                (true, false) => None,
            };
        }
        let replied = self.replied.is_reached();
        if self.notfound_ok && replied && (late || !self.roster.is_waiting_patiently()) {
            return Some(Verdict::Answer);
        }
        let may_reply = self.replied.is_possible(|place| self.open(place));
        if late {
            let kind = match (replied, may_reply) {
                (true, _) => GetFailureKind::AbsenceUnconfirmed,
                (false, true) => GetFailureKind::Deadline,
                (false, false) => GetFailureKind::QuorumUnavailable,
            };
            return Some(Verdict::Fail(kind));
        }
        if possible || (self.notfound_ok && may_reply) {
            return None;
        }
        let unconfirmed = GetFailureKind::AbsenceUnconfirmed;
        let kind = if may_reply { unconfirmed } else { GetFailureKind::QuorumUnavailable };
        Some(Verdict::Fail(kind))
    }

    /// The replies that count: once something was found those of stand-ins that have nothing too,
    /// as a sloppy quorum asks; until then only those that confirm absence.
    fn counted(&self) -> &Tally {
        if self.merged.is_empty() { &self.tally } else { &self.found }
    }

    fn open(&self, place: NodeId) -> Open {
        Open {
            itself: self.roster.is_node_open(place) && self.holders.contains(&place),
            stand_in: self.roster.is_place_open(place),
        }
    }

    fn finish(&mut self, now: Mono, effects: &mut Vec<GetEffect>) {
        let over = match self.phase {
            Phase::Open | Phase::Done => false,
            Phase::Failed => true,
            Phase::Answered { until } => now >= until || !self.roster.is_waiting(),
        };
        if !over {
            return;
        }
        self.repair(effects);
        effects.push(GetEffect::Done);
        debug_assert!(ends_in_order(self.phase != Phase::Open, true));
        self.phase = Phase::Done;
    }

    fn repair(&self, effects: &mut Vec<GetEffect>) {
        if self.merged.is_empty() {
            return;
        }
        let newest = reconciled(self.merged.clone(), self.reconciliation);
        debug_assert!(
            adds_no_dots(&newest, || self
                .roster
                .answers()
                .filter_map(|(_, _, answer)| self.record_of(answer))),
            "repair only adds causality"
        );
        for (node, place, answer) in self.roster.answers() {
            let is_current = self.record_of(answer).is_some_and(|held| held.contains(&newest));
            if node == place && self.roster.is_backed(place) && !is_current {
                effects.push(GetEffect::Repair { node, record: newest.clone() });
            }
        }
    }

    fn record_of<'a>(&'a self, answer: &'a Answer) -> Option<&'a Record> {
        match answer {
            Answer::Record(record) => Some(record),
            Answer::Same => self.roster.answers().find_map(|(node, _, local)| match local {
                Answer::Record(record) if node == self.me => Some(record),
                _ => None,
            }),
            Answer::Absent { .. } => None,
        }
    }

    fn set_timer(&mut self, effects: &mut Vec<GetEffect>) {
        let next = match self.phase {
            Phase::Open => {
                self.roster.next_overdue().map_or(self.deadline, |at| at.min(self.deadline))
            }
            Phase::Answered { until } => until,
            Phase::Failed | Phase::Done => return,
        };
        if self.timer != Some(next) {
            self.timer = Some(next);
            effects.push(GetEffect::SetTimer(next));
        }
    }

    fn outcome(&self) -> GetOutcome {
        // Where absence is answered without confirmation, the unconfirmed replies are the evidence.
        let counted = if self.counted().is_reached() { self.counted() } else { &self.replied };
        GetOutcome {
            record: reconciled(self.merged.clone(), self.reconciliation),
            acks: counted.acks(),
            asked: self.r,
            primaries: counted.primaries(),
            n: self.n,
            fastest: self.fastest,
            replicas: if self.explain { self.reports() } else { Vec::new() },
        }
    }

    fn failure(&self, kind: GetFailureKind) -> GetFailure {
        let (required, got) = self.counted().prospects(|_| Open::default());
        GetFailure { kind, required, got, replicas: self.reports() }
    }

    fn reports(&self) -> Vec<ReplicaReport> {
        self.roster.reports(
            |node| self.holders.contains(&node),
            |answer| match (answer, self.record_of(answer)) {
                (_, Some(record)) => Reported::record(record),
                (Answer::Absent { holds }, None) => Reported::Absent { holds: *holds },
                (Answer::Record(_) | Answer::Same, None) => Reported::Absent { holds: false },
            },
        )
    }
}
