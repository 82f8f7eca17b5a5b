//! Scripts of gets. Replies: `2=ab` a record, `2=same`, `2=none` absent from a node that holds the
//! partition, `2=empty` absent from one that does not.

use dynamo_core::params::Reconciliation;
use dynamo_core::quorum::{
    GetEffect, GetEvent, GetFailure, GetFailureKind, GetOp, GetPlan, ReplicaReply,
};
use dynamo_core::time::Mono;

use crate::record_text;
use crate::script::{Operation, Plan, check, failure, node, reports_text, timer_text};

#[test]
fn gets_answer_refuse_and_repair_as_scripted() {
    check::<GetOp>(include_str!("../../testdata/quorum/get.txt"));
}

#[test]
fn gets_confirm_absence_as_scripted() {
    check::<GetOp>(include_str!("../../testdata/quorum/get_absent.txt"));
}

#[test]
fn gets_follow_moving_partitions_as_scripted() {
    check::<GetOp>(include_str!("../../testdata/quorum/get_moving.txt"));
}

impl Operation for GetOp {
    fn start(plan: &Plan, now: Mono) -> (Option<Self>, Vec<String>) {
        let replicas = plan.replicas();
        let n = u8::try_from(replicas.owners.len()).unwrap();
        let get = GetPlan {
            me: plan.me(),
            n: plan.small("n", n),
            r: plan.small("r", 2),
            pr: plan.small("pr", 0),
            notfound_ok: plan.flag("notfound_ok"),
            reconciliation: if plan.flag("lww") {
                Reconciliation::Lww
            } else {
                Reconciliation::Siblings
            },
            explain: plan.flag("explain"),
            replicas: &replicas,
            deadline: plan.deadline(),
        };
        match Self::start(&get, plan.reachable(), plan.patience(), now) {
            Ok((op, effects)) => (Some(op), effects.iter().map(effect_text).collect()),
            Err(failure) => (None, vec![format!("refused: {}", failure_text(&failure))]),
        }
    }

    fn step(&mut self, event: &str, now: Mono) -> Vec<String> {
        self.on_event(event_of(event), now).iter().map(effect_text).collect()
    }
}

fn event_of(text: &str) -> GetEvent {
    if text == "timer" {
        return GetEvent::Timer;
    }
    if let Some((from, failure)) = failure(text) {
        return GetEvent::Failed { from, failure };
    }
    let (from, reply) = text.split_once('=').expect("a reply");
    let reply = match reply {
        "same" => ReplicaReply::Same,
        "none" => ReplicaReply::Absent { holds: true },
        "empty" => ReplicaReply::Absent { holds: false },
        record => ReplicaReply::Record(record_text::parse(record)),
    };
    GetEvent::Reply { from: node(from), reply }
}

fn effect_text(effect: &GetEffect) -> String {
    match effect {
        GetEffect::Read { node, unless: None } => format!("read {}", node.0),
        GetEffect::Read { node, unless: Some(_) } => format!("read {} unless same", node.0),
        GetEffect::Answer(outcome) => {
            let record = record_text::render(&outcome.record);
            let (acks, asked) = (outcome.acks, outcome.asked);
            let fastest = outcome.fastest.map_or("-".to_owned(), |node| node.0.to_string());
            let mut text = format!(
                "answer {record} {acks}/{asked} primaries={}/{} fastest={fastest}",
                outcome.primaries, outcome.n
            );
            if !outcome.replicas.is_empty() {
                text.push(' ');
                text.push_str(&reports_text(&outcome.replicas));
            }
            text
        }
        GetEffect::Fail(failure) => format!("fail {}", failure_text(failure)),
        GetEffect::Repair { node, record } => {
            format!("repair {} {}", node.0, record_text::render(record))
        }
        GetEffect::Overdue { node } => format!("overdue {}", node.0),
        GetEffect::SetTimer(at) => timer_text(*at),
        GetEffect::Done => "done".to_owned(),
    }
}

fn failure_text(failure: &GetFailure) -> String {
    let kind = match failure.kind {
        GetFailureKind::QuorumUnavailable => "quorum_unavailable",
        GetFailureKind::AbsenceUnconfirmed => "absence_unconfirmed",
        GetFailureKind::Deadline => "deadline",
    };
    let reports = reports_text(&failure.replicas);
    format!("{kind} {}/{} {reports}", failure.got, failure.required)
}
