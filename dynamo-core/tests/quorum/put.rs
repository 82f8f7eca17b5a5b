//! Scripts of puts. Events: `minted`, `durable` (the local write), `local! code`, `refused` (the
//! local replica refuses the put), `2 ack`, `2! timeout`, `timer`.

use dynamo_core::params::Durability;
use dynamo_core::quorum::{
    LocalFailure, Outcome, PutEffect, PutEvent, PutFailure, PutFailureKind, PutOp, PutPlan,
    WriteGoal,
};
use dynamo_core::replica::PutRefusal;
use dynamo_core::time::Mono;

use crate::script::{Operation, Plan, check, failure, node, reports_text, timer_text};

#[test]
fn puts_answer_and_refuse_as_scripted() {
    check::<PutOp>(include_str!("../../testdata/quorum/put.txt"));
}

#[test]
fn puts_are_handed_over_as_scripted() {
    check::<PutOp>(include_str!("../../testdata/quorum/put_handoff.txt"));
}

#[test]
fn puts_follow_moving_partitions_as_scripted() {
    check::<PutOp>(include_str!("../../testdata/quorum/put_moving.txt"));
}

impl Operation for PutOp {
    fn start(plan: &Plan, now: Mono) -> (Option<Self>, Vec<String>) {
        let replicas = plan.replicas();
        let n = u8::try_from(replicas.owners.len()).unwrap();
        let w = match plan.text("w") {
            Some("any") => WriteGoal::Any,
            _ => WriteGoal::Count(plan.small("w", 2)),
        };
        let buffered = plan.flag("buffered");
        let put = PutPlan {
            me: plan.me(),
            n: plan.small("n", n),
            w,
            pw: plan.small("pw", 0),
            durability: if buffered { Durability::Buffered } else { Durability::Fsync },
            stand_in: plan.flag("stand_in"),
            replicas: &replicas,
            deadline: plan.deadline(),
        };
        match Self::start(&put, plan.reachable(), plan.patience(), now) {
            Ok((op, effects)) => {
                let text = |effect| effect_text(effect, buffered);
                (Some(op), effects.iter().map(text).collect())
            }
            Err(failure) => (None, vec![format!("refused: {}", failure_text(&failure))]),
        }
    }

    fn step(&mut self, event: &str, now: Mono) -> Vec<String> {
        let effects = self.on_event(event_of(event), now);
        let buffered = effects.iter().any(|effect| {
            matches!(effect, PutEffect::Send { durability: Durability::Buffered, .. })
        });
        effects.iter().map(|effect| effect_text(effect, buffered)).collect()
    }
}

fn event_of(text: &str) -> PutEvent {
    match text {
        "timer" => return PutEvent::Timer,
        "minted" => return PutEvent::Minted,
        "durable" => return PutEvent::LocalDone,
        "refused" => {
            return PutEvent::LocalFailed(LocalFailure::Refused(PutRefusal::IdempotencyMismatch));
        }
        _ => {}
    }
    if let Some(code) = text.strip_prefix("local! ") {
        return PutEvent::LocalFailed(LocalFailure::Store { code: code.to_owned() });
    }
    if let Some((from, failure)) = failure(text) {
        return PutEvent::Failed { from, failure };
    }
    PutEvent::Acked { from: node(text.strip_suffix(" ack").expect("an event")) }
}

/// Durability is shown where it is not the plan's.
fn effect_text(effect: &PutEffect, buffered: bool) -> String {
    match effect {
        PutEffect::WriteLocal => "write".to_owned(),
        PutEffect::Send { node, hint_for, durability } => {
            let hint = hint_for.map_or(String::new(), |target| format!(" for {}", target.0));
            let sync = if buffered && *durability == Durability::Fsync { " fsync" } else { "" };
            format!("send {}{hint}{sync}", node.0)
        }
        PutEffect::KeepHint { for_node } => format!("hint {}", for_node.0),
        PutEffect::Answer(outcome) => format!(
            "answer {}/{} primaries={}/{} hinted={}",
            outcome.acks, outcome.asked, outcome.primaries, outcome.n, outcome.hinted
        ),
        PutEffect::Fail(failure) => format!("fail {}", failure_text(failure)),
        PutEffect::Overdue { node } => format!("overdue {}", node.0),
        PutEffect::SetTimer(at) => timer_text(*at),
        PutEffect::Done => "done".to_owned(),
    }
}

fn failure_text(failure: &PutFailure) -> String {
    let kind = match &failure.kind {
        PutFailureKind::NotOwner => "not_owner",
        PutFailureKind::QuorumUnavailable => "quorum_unavailable",
        PutFailureKind::Deadline => "deadline",
        PutFailureKind::Local(LocalFailure::Refused(_)) => "refused",
        PutFailureKind::Local(LocalFailure::Store { code }) => code,
    };
    let outcome = match failure.outcome {
        Outcome::NotApplied => "not_applied",
        Outcome::Unknown => "unknown",
    };
    let reports = reports_text(&failure.replicas);
    format!("{kind} {outcome} {}/{} {reports}", failure.got, failure.required)
}
