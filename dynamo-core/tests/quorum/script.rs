//! Script files: cases of one title line (`## …`), one `plan` line of `name=value` words, and
//! steps `@ms event -> effect; effect`. The first step's event is `start`. A case passes when the
//! effects of every step are exactly those written; a failure prints the case as it ran.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use dynamo_core::id::NodeId;
use dynamo_core::quorum::{ReplicaFailure, ReplicaReport};
use dynamo_core::ring::{ReplicaSets, Role};
use dynamo_core::time::Mono;

/// The words of a plan line.
pub(crate) struct Plan(BTreeMap<String, String>);

impl Plan {
    fn parse(line: &str) -> Self {
        let words = line.strip_prefix("plan ").expect("a plan line").split_whitespace();
        let pairs = words.map(|word| word.split_once('=').expect("name=value"));
        Self(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }

    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    pub(crate) fn flag(&self, name: &str) -> bool {
        self.text(name) == Some("yes")
    }

    pub(crate) fn number(&self, name: &str, default: u64) -> u64 {
        self.text(name).map_or(default, |text| text.parse().expect("a number"))
    }

    pub(crate) fn small(&self, name: &str, default: u8) -> u8 {
        u8::try_from(self.number(name, default.into())).expect("a small number")
    }

    pub(crate) fn nodes(&self, name: &str) -> Option<Vec<NodeId>> {
        let text = self.text(name)?;
        Some(text.split(',').filter(|id| !id.is_empty()).map(node).collect())
    }

    pub(crate) fn me(&self) -> NodeId {
        node(self.text("me").expect("me"))
    }

    pub(crate) fn deadline(&self) -> Mono {
        at_ms(self.number("deadline", 1000))
    }

    pub(crate) fn replicas(&self) -> ReplicaSets {
        let owners = self.nodes("owners").unwrap_or_else(|| vec![NodeId(1), NodeId(2), NodeId(3)]);
        let holders = self.nodes("holders").unwrap_or_else(|| owners.clone());
        let pending = owners.iter().copied().filter(|node| !holders.contains(node)).collect();
        let fallbacks = self.nodes("fallbacks").unwrap_or_default();
        ReplicaSets { owners, pending, holders, fallbacks }
    }

    pub(crate) fn reachable(&self) -> impl Fn(NodeId) -> bool {
        let down = self.nodes("down").unwrap_or_default();
        move |node| !down.contains(&node)
    }

    pub(crate) fn patience(&self) -> impl Fn(NodeId) -> Duration {
        let slow = self.nodes("slow").unwrap_or_default();
        let patience = Duration::from_millis(self.number("patience", 50));
        move |node| if slow.contains(&node) { Duration::ZERO } else { patience }
    }
}

/// One operation under test: `start` gives the effects of the start, `step` those of one event.
pub(crate) trait Operation: Sized {
    fn start(plan: &Plan, now: Mono) -> (Option<Self>, Vec<String>);
    fn step(&mut self, event: &str, now: Mono) -> Vec<String>;
}

/// Runs all cases of a script file.
pub(crate) fn check<O: Operation>(file: &str) {
    let mut failures = String::new();
    let cases = file.split("## ").skip(1);
    let mut count = 0;
    for case in cases {
        count += 1;
        let ran = run::<O>(case);
        let wanted: Vec<&str> = case.lines().map(str::trim_end).filter(|l| !l.is_empty()).collect();
        if ran.lines().collect::<Vec<_>>() != wanted {
            write!(failures, "--- wanted\n## {}\n--- ran\n## {ran}\n", wanted.join("\n")).unwrap();
        }
    }
    assert!(count > 0, "a script file without a case");
    assert!(failures.is_empty(), "{failures}");
}

fn run<O: Operation>(case: &str) -> String {
    let mut ran = String::new();
    let mut plan = None;
    let mut operation: Option<O> = None;
    for (index, line) in case.lines().map(str::trim_end).filter(|l| !l.is_empty()).enumerate() {
        if index == 0 || line.starts_with("plan ") {
            writeln!(ran, "{line}").unwrap();
            if index > 0 {
                plan = Some(Plan::parse(line));
            }
            continue;
        }
        let event = line.split(" ->").next().unwrap_or(line);
        let (time, what) = event.split_once(' ').expect("@ms event");
        let now = at_ms(time.strip_prefix('@').expect("@ms").parse().expect("milliseconds"));
        let effects = if what == "start" {
            let plan = plan.as_ref().expect("a plan before the start");
            let (started, effects) = O::start(plan, now);
            operation = started;
            effects
        } else {
            operation.as_mut().expect("an operation that started").step(what, now)
        };
        let text = if effects.is_empty() { "nothing".to_owned() } else { effects.join("; ") };
        writeln!(ran, "{event} -> {text}").unwrap();
    }
    ran.trim_end().to_owned()
}

pub(crate) fn node(text: &str) -> NodeId {
    NodeId(text.parse().expect("a node number"))
}

pub(crate) fn at_ms(ms: u64) -> Mono {
    Mono(ms * 1000)
}

pub(crate) fn timer_text(at: Mono) -> String {
    format!("timer {}", at.0 / 1000)
}

/// `2! timeout` and the like: the node and how it failed.
pub(crate) fn failure(event: &str) -> Option<(NodeId, ReplicaFailure)> {
    let (who, how) = event.split_once("! ")?;
    let failure = match how {
        "timeout" => ReplicaFailure::Timeout,
        "unreachable" => ReplicaFailure::Unreachable,
        "overloaded" => ReplicaFailure::Overloaded,
        code => ReplicaFailure::Refused(code.to_owned()),
    };
    Some((node(who), failure))
}

pub(crate) fn reports_text(reports: &[ReplicaReport]) -> String {
    let one = |report: &ReplicaReport| {
        let role = match report.role {
            Role::Primary => String::new(),
            Role::Fallback { for_node } => format!(" for {}", for_node.0),
        };
        format!("{}{role} {}", report.node.0, report.result_text())
    };
    format!("[{}]", reports.iter().map(one).collect::<Vec<_>>().join(", "))
}
