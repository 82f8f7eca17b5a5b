//! Who takes part in one request: which node is asked for which place, how far it got, and who is
//! left to stand in. Shared by gets and puts; it decides nothing about quorums.
//!
//! Invariant: a node is asked at most once in a request, for one place.

use std::collections::VecDeque;
use std::time::Duration;

use crate::id::NodeId;
use crate::quorum::report::{ReplicaFailure, ReplicaReport, Reported};
use crate::ring::Role;
use crate::time::Mono;

/// The nodes of a request as its plan names them.
pub(super) struct RosterPlan<'a> {
    /// The node that coordinates; always reachable for itself.
    pub(super) me: NodeId,
    /// The nodes that shall take part, in order.
    pub(super) places: Vec<NodeId>,
    /// How many places, from the first, get a stand-in where their node fails.
    pub(super) backed: usize,
    /// Who may stand in, in order.
    pub(super) fallbacks: &'a [NodeId],
}

#[derive(Debug)]
enum Progress<T> {
    /// To be asked.
    Planned,
    /// Asked, and not heard from yet.
    Waiting,
    /// It did what it was asked.
    Answered(T),
    /// It did not; it may yet.
    Failed(ReplicaFailure),
}

#[derive(Debug)]
struct Ask<T> {
    node: NodeId,
    place: NodeId,
    patience: Duration,
    /// When it counts as slow; `None` before it is asked and once it is known to be slow.
    overdue_at: Option<Mono>,
    progress: Progress<T>,
}

impl<T> Ask<T> {
    fn is_open(&self) -> bool {
        matches!(self.progress, Progress::Planned | Progress::Waiting)
    }
}

/// The state of all participants.
#[derive(Debug)]
pub(super) struct Roster<T> {
    asks: Vec<Ask<T>>,
    places: Vec<NodeId>,
    backed: usize,
    spare: VecDeque<(NodeId, Duration)>,
    /// Nodes of places that were known to be unreachable from the start.
    unreachable: Vec<NodeId>,
}

/// A participant that has just exceeded its patience.
#[derive(Debug, Clone, Copy)]
pub(super) struct Overdue {
    pub(super) node: NodeId,
    pub(super) place: NodeId,
    /// Whether it was given any time at all: a node known to be slow is not.
    pub(super) was_given_time: bool,
}

impl<T> Roster<T> {
    /// Plans to ask the node of every place, and a fallback where that node is unreachable.
    pub(super) fn new(
        plan: RosterPlan<'_>,
        reachable: impl Fn(NodeId) -> bool,
        patience: impl Fn(NodeId) -> Duration,
    ) -> Self {
        let up = |node: &NodeId| *node == plan.me || reachable(*node);
        let spare = plan.fallbacks.iter().copied().filter(|node| !plan.places.contains(node));
        let spare = spare.filter(up).map(|node| (node, patience(node))).collect();
        let mut roster = Self {
            asks: Vec::with_capacity(plan.places.len()),
            places: plan.places,
            backed: plan.backed,
            spare,
            unreachable: Vec::new(),
        };
        for place in roster.places.clone() {
            if up(&place) {
                roster.plan(place, place, patience(place));
            } else {
                roster.unreachable.push(place);
            }
        }
        roster
    }

    /// Puts `node` at the head of those who may stand in.
    pub(super) fn prefer_stand_in(&mut self, node: NodeId) {
        self.drop_stand_in(node);
        self.spare.push_front((node, Duration::MAX));
    }

    /// Strikes `node` from those who may stand in.
    pub(super) fn drop_stand_in(&mut self, node: NodeId) {
        self.spare.retain(|(other, _)| *other != node);
    }

    /// Plans to ask the next fallback for every place whose node is known to be unreachable.
    pub(super) fn replace_unreachable(&mut self) {
        for place in self.unreachable.clone() {
            self.stand_in(place);
        }
    }

    /// Plans to ask the next fallback for `place`, unless the place gets none, or none is left.
    pub(super) fn stand_in(&mut self, place: NodeId) -> Option<NodeId> {
        if !self.is_backed(place) {
            return None;
        }
        let (node, patience) = self.spare.pop_front()?;
        self.plan(node, place, patience);
        Some(node)
    }

    /// The places in order.
    pub(super) fn places(&self) -> &[NodeId] {
        &self.places
    }

    /// The places that get stand-ins, in order.
    pub(super) fn backed_places(&self) -> &[NodeId] {
        self.places.get(..self.backed).unwrap_or(&self.places)
    }

    /// Whether the place gets stand-ins.
    pub(super) fn is_backed(&self, place: NodeId) -> bool {
        self.backed_places().contains(&place)
    }

    /// Whether any place's node was known to be unreachable from the start.
    pub(super) fn lacks_any(&self) -> bool {
        !self.unreachable.is_empty()
    }

    /// The nodes that are to be asked and were not yet, in order.
    pub(super) fn planned(&self) -> Vec<NodeId> {
        let planned = |ask: &&Ask<T>| matches!(ask.progress, Progress::Planned);
        self.asks.iter().filter(planned).map(|ask| ask.node).collect()
    }

    /// Notes that `node` is being asked.
    pub(super) fn begin(&mut self, node: NodeId, now: Mono) {
        if let Some(ask) = self.ask_mut(node) {
            ask.progress = Progress::Waiting;
            ask.overdue_at = Some(now.plus(ask.patience));
        }
    }

    /// The place of a node whose answer is awaited, or would be welcome after a failure.
    pub(super) fn expects(&self, node: NodeId) -> Option<NodeId> {
        let ask = self.asks.iter().find(|ask| ask.node == node)?;
        let welcome = matches!(ask.progress, Progress::Waiting | Progress::Failed(_));
        welcome.then_some(ask.place)
    }

    /// The place for which `node` is asked.
    pub(super) fn place_of(&self, node: NodeId) -> Option<NodeId> {
        self.asks.iter().find(|ask| ask.node == node).map(|ask| ask.place)
    }

    /// Notes an answer and returns its place; `None` for a stranger or a second answer. An answer
    /// after a failure counts: it was late, not wrong.
    pub(super) fn answer(&mut self, node: NodeId, answer: T) -> Option<NodeId> {
        self.expects(node)?;
        let ask = self.ask_mut(node)?;
        ask.progress = Progress::Answered(answer);
        ask.overdue_at = None;
        Some(ask.place)
    }

    /// Notes a failure and returns its place; `None` unless the node was being asked.
    pub(super) fn fail(&mut self, node: NodeId, failure: ReplicaFailure) -> Option<NodeId> {
        let ask = self.ask_mut(node)?;
        if !matches!(ask.progress, Progress::Waiting) {
            return None;
        }
        ask.progress = Progress::Failed(failure);
        ask.overdue_at = None;
        Some(ask.place)
    }

    /// The participants that exceeded their patience since the last call.
    pub(super) fn take_overdue(&mut self, now: Mono) -> Vec<Overdue> {
        let mut overdue = Vec::new();
        for ask in &mut self.asks {
            if ask.overdue_at.is_some_and(|at| at <= now) {
                ask.overdue_at = None;
                overdue.push(Overdue {
                    node: ask.node,
                    place: ask.place,
                    was_given_time: !ask.patience.is_zero(),
                });
            }
        }
        overdue
    }

    /// When the next participant exceeds its patience.
    pub(super) fn next_overdue(&self) -> Option<Mono> {
        self.asks.iter().filter_map(|ask| ask.overdue_at).min()
    }

    /// Whether anyone was not heard from yet.
    pub(super) fn is_waiting(&self) -> bool {
        self.asks.iter().any(Ask::is_open)
    }

    /// Whether anyone was not heard from yet that is still within its patience.
    pub(super) fn is_waiting_patiently(&self) -> bool {
        self.asks.iter().any(|ask| {
            matches!(ask.progress, Progress::Planned) || (ask.is_open() && ask.overdue_at.is_some())
        })
    }

    /// Whether anyone asked for `place` was not heard from yet.
    pub(super) fn is_place_open(&self, place: NodeId) -> bool {
        self.asks.iter().any(|ask| ask.place == place && ask.is_open())
    }

    /// Whether the node itself was not heard from yet.
    pub(super) fn is_node_open(&self, node: NodeId) -> bool {
        self.asks.iter().any(|ask| ask.node == node && ask.is_open())
    }

    /// Whether a stand-in for `place` was not heard from yet.
    pub(super) fn is_stand_in_open(&self, place: NodeId) -> bool {
        self.asks.iter().any(|ask| ask.place == place && ask.node != place && ask.is_open())
    }

    /// The answers so far: node, place, answer.
    pub(super) fn answers(&self) -> impl Iterator<Item = (NodeId, NodeId, &T)> + '_ {
        self.asks.iter().filter_map(|ask| match &ask.progress {
            Progress::Answered(answer) => Some((ask.node, ask.place, answer)),
            _ => None,
        })
    }

    /// What is known of everyone now.
    pub(super) fn reports(
        &self,
        holds: impl Fn(NodeId) -> bool,
        answered: impl Fn(&T) -> Reported,
    ) -> Vec<ReplicaReport> {
        let unreachable = self.unreachable.iter().map(|node| ReplicaReport {
            node: *node,
            role: Role::Primary,
            holds: holds(*node),
            reported: Reported::Failed(ReplicaFailure::Unreachable),
        });
        let asked = self.asks.iter().map(|ask| ReplicaReport {
            node: ask.node,
            role: if ask.node == ask.place {
                Role::Primary
            } else {
                Role::Fallback { for_node: ask.place }
            },
            holds: holds(ask.node),
            reported: match &ask.progress {
                Progress::Planned => Reported::NotAsked,
                Progress::Waiting => Reported::Waiting,
                Progress::Answered(answer) => answered(answer),
                Progress::Failed(failure) => Reported::Failed(failure.clone()),
            },
        });
        asked.chain(unreachable).collect()
    }

    fn plan(&mut self, node: NodeId, place: NodeId, patience: Duration) {
        debug_assert!(self.place_of(node).is_none(), "a node is asked for one place");
        let progress = Progress::Planned;
        self.asks.push(Ask { node, place, patience, overdue_at: None, progress });
    }

    fn ask_mut(&mut self, node: NodeId) -> Option<&mut Ask<T>> {
        self.asks.iter_mut().find(|ask| ask.node == node)
    }
}
