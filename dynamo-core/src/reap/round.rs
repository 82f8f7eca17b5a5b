//! One round: some candidates of one partition, from the questions to the orders.
//!
//! First every node that may hold anything is asked; then what the answers allow is ordered, from
//! the nodes that have a copy beside the owners, to the owners, the own node last. So whatever
//! stops the round, the node that leads the next one has everything it needs to do it again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::candidate::Candidate;
use crate::cluster_view::ClusterView;
use crate::id::{ActorId, NodeId, PartitionId};
use crate::limits::REAP_KEYS_MAX;
use crate::ring::RingVersion;
use crate::time::WallMs;
use crate::wire::reap::{ReapCheckAnswer, ReapItem, ReapResult};

/// Why a round has no effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotNow {
    /// Another node leads the rounds of this partition.
    #[error("node is not the first owner of the partition")]
    NotFirstOwner,
    /// An owner does not hold the partition yet.
    #[error("an owner does not hold the partition yet")]
    Unsettled,
    /// A node did not answer.
    #[error("node {0} did not answer")]
    Unanswered(NodeId),
    /// A node works with another ring.
    #[error("node {0} works with another ring")]
    OtherRing(NodeId),
    /// The answers allow nothing.
    #[error("no candidate may go")]
    NothingAllowed,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReapEffect {
    /// Ask the node what it has of the objects; answered by [`ReapEvent::Checked`]. The questions
    /// of one round go out together.
    Check {
        /// The node; may be the own one.
        node: NodeId,
        /// The objects.
        objects: Vec<crate::key::ObjectKey>,
    },
    /// Order this at the node; answered by [`ReapEvent::Reaped`]. One order at a time.
    Reap {
        /// The node; the own one comes last.
        node: NodeId,
        /// The ring under which it was decided.
        ring: RingVersion,
        /// What is to be done.
        items: Vec<ReapItem>,
    },
    /// The round is over.
    Over(Result<ReapCounts, NotNow>),
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReapEvent {
    /// What a node has; `None` where it did not answer.
    Checked {
        /// The node.
        node: NodeId,
        /// Its answer.
        answer: Option<ReapCheckAnswer>,
    },
    /// What a node did, one result per item; `None` where it did not answer, or refused.
    Reaped {
        /// The node.
        node: NodeId,
        /// The results.
        results: Option<Vec<ReapResult>>,
    },
}

/// What a round has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ReapCounts {
    /// Candidates.
    pub candidates: usize,
    /// Of these, how many the answers allowed.
    pub allowed: usize,
    /// Records gone from every node.
    pub removed: usize,
    /// Clocks truncated on every node.
    pub truncated: usize,
}

#[derive(Debug)]
enum Step {
    Asking(BTreeSet<NodeId>),
    Ordering { current: NodeId, left: Vec<NodeId> },
    Over,
}

/// The state of one round.
#[derive(Debug)]
pub struct ReapRound {
    me: NodeId,
    view: Arc<ClusterView>,
    partition: PartitionId,
    now: WallMs,
    candidates: Vec<Candidate>,
    answers: BTreeMap<NodeId, ReapCheckAnswer>,
    items: Vec<ReapItem>,
    /// Per item the nodes that have the record.
    having: Vec<BTreeSet<NodeId>>,
    step: Step,
    counts: ReapCounts,
}

impl ReapRound {
    /// Begins a round for candidates of one partition, at most [`REAP_KEYS_MAX`]; the others are
    /// left to the next round.
    ///
    /// # Errors
    /// [`NotNow::NotFirstOwner`], [`NotNow::Unsettled`], or [`NotNow::NothingAllowed`] where there
    /// are no candidates.
    pub fn start(
        me: NodeId,
        view: Arc<ClusterView>,
        partition: PartitionId,
        candidates: Vec<Candidate>,
        now: WallMs,
    ) -> Result<(Self, Vec<ReapEffect>), NotNow> {
        let owners = view.wanting(partition);
        if owners.first() != Some(&me) {
            return Err(NotNow::NotFirstOwner);
        }
        if !owners.iter().all(|owner| view.holdings().holds(*owner, partition)) {
            return Err(NotNow::Unsettled);
        }
        let here = |candidate: &Candidate| {
            view.partitions().of(candidate.object().position()) == partition
        };
        let candidates: Vec<Candidate> =
            candidates.into_iter().filter(here).take(REAP_KEYS_MAX).collect();
        if candidates.is_empty() {
            return Err(NotNow::NothingAllowed);
        }
        let nodes: BTreeSet<NodeId> =
            view.nodes().filter(|node| node.status.may_hold()).map(|node| node.id).collect();
        let objects: Vec<_> = candidates.iter().map(|c| c.object().clone()).collect();
        let check = |node: &NodeId| ReapEffect::Check { node: *node, objects: objects.clone() };
        let effects = nodes.iter().map(check).collect();
        let counts = ReapCounts { candidates: candidates.len(), ..ReapCounts::default() };
        let round = Self {
            me,
            view,
            partition,
            now,
            candidates,
            answers: BTreeMap::new(),
            items: Vec::new(),
            having: Vec::new(),
            step: Step::Asking(nodes),
            counts,
        };
        Ok((round, effects))
    }

    /// The partition of the round.
    #[must_use]
    pub fn partition(&self) -> PartitionId {
        self.partition
    }

    /// Takes an answer. An answer that nobody waits for is ignored.
    pub fn on_event(&mut self, event: ReapEvent) -> Vec<ReapEffect> {
        match (event, &mut self.step) {
            (ReapEvent::Checked { node, answer }, Step::Asking(open)) => {
                if !open.remove(&node) {
                    return Vec::new();
                }
                let open_is_empty = open.is_empty();
                match answer.filter(|answer| answer.check(self.candidates.len()).is_ok()) {
                    None => self.over(Err(NotNow::Unanswered(node))),
                    Some(answer) if answer.ring != self.view.version() => {
                        self.over(Err(NotNow::OtherRing(node)))
                    }
                    Some(answer) => {
                        self.answers.insert(node, answer);
                        if open_is_empty { self.decide() } else { Vec::new() }
                    }
                }
            }
            (ReapEvent::Reaped { node, results }, Step::Ordering { current, .. })
                if *current == node =>
            {
                self.on_reaped(node, results)
            }
            _ => Vec::new(),
        }
    }

    /// All have answered: what may go, and who is told in which order.
    fn decide(&mut self) -> Vec<ReapEffect> {
        let current: BTreeSet<ActorId> = self
            .answers
            .iter()
            .map(|(node, answer)| ActorId { node: *node, epoch: answer.epoch })
            .collect();
        for (index, candidate) in self.candidates.iter().enumerate() {
            let Some(having) = self.evidence(index, candidate) else { continue };
            let Some(action) = candidate.action(&current, self.now) else { continue };
            let (object, digest) = (candidate.object().clone(), candidate.digest());
            self.items.push(ReapItem { object, digest, action });
            self.having.push(having);
        }
        self.counts.allowed = self.items.len();
        let all: BTreeSet<NodeId> = self.having.iter().flatten().copied().collect();
        let owners = self.view.wanting(self.partition);
        let place = |node: &NodeId| owners.iter().position(|owner| owner == node);
        let mut order: Vec<NodeId> = all.into_iter().collect();
        // Taken from the end: the own node is the first owner and goes last.
        order.sort_by_key(|node| (place(node).unwrap_or(usize::MAX), *node));
        debug_assert!(order.is_empty() || order.first() == Some(&self.me));
        self.order_next(order)
    }

    /// The nodes that have the candidate's record, if every owner has it, nobody has another one,
    /// and nobody has a hint.
    fn evidence(&self, index: usize, candidate: &Candidate) -> Option<BTreeSet<NodeId>> {
        let n = self.view.bucket(candidate.object().bucket()).n;
        let owners = self.view.ring().preference_list(self.partition).primaries(n);
        let mut having = BTreeSet::new();
        for (node, answer) in &self.answers {
            let presence = answer.presence.get(index)?;
            if presence.hint {
                return None;
            }
            match presence.digest {
                Some(digest) if digest == candidate.digest() => {
                    having.insert(*node);
                }
                Some(_) => return None,
                None if owners.contains(node) => return None,
                None => {}
            }
        }
        owners.iter().all(|owner| having.contains(owner)).then_some(having)
    }

    fn on_reaped(&mut self, node: NodeId, results: Option<Vec<ReapResult>>) -> Vec<ReapEffect> {
        let asked = self.indexes_for(node);
        let Some(results) = results.filter(|results| results.len() == asked.len()) else {
            return self.over(Err(NotNow::Unanswered(node)));
        };
        // A record that changed meanwhile stays with all the others.
        let changed: BTreeSet<usize> = asked
            .iter()
            .zip(&results)
            .filter(|(_, result)| **result == ReapResult::Changed)
            .map(|(index, _)| *index)
            .collect();
        let mut index = 0;
        self.having.retain(|_| {
            index += 1;
            !changed.contains(&(index - 1))
        });
        index = 0;
        self.items.retain(|_| {
            index += 1;
            !changed.contains(&(index - 1))
        });
        let left = match &mut self.step {
            Step::Ordering { left, .. } => std::mem::take(left),
            Step::Asking(_) | Step::Over => Vec::new(),
        };
        self.order_next(left)
    }

    /// Places of the items that concern `node`.
    fn indexes_for(&self, node: NodeId) -> Vec<usize> {
        let concerns = |(_, having): &(usize, &BTreeSet<NodeId>)| having.contains(&node);
        self.having.iter().enumerate().filter(concerns).map(|(index, _)| index).collect()
    }

    fn order_next(&mut self, mut left: Vec<NodeId>) -> Vec<ReapEffect> {
        while let Some(node) = left.pop() {
            let indexes = self.indexes_for(node);
            let items: Vec<ReapItem> =
                indexes.iter().filter_map(|index| self.items.get(*index).cloned()).collect();
            if items.is_empty() {
                continue;
            }
            self.step = Step::Ordering { current: node, left };
            return vec![ReapEffect::Reap { node, ring: self.view.version(), items }];
        }
        let removes =
            |item: &&ReapItem| matches!(item.action, crate::wire::reap::ReapAction::Remove);
        self.counts.removed = self.items.iter().filter(removes).count();
        self.counts.truncated = self.items.len() - self.counts.removed;
        let none = self.counts.allowed == 0;
        self.over(if none { Err(NotNow::NothingAllowed) } else { Ok(self.counts) })
    }

    fn over(&mut self, result: Result<ReapCounts, NotNow>) -> Vec<ReapEffect> {
        self.step = Step::Over;
        vec![ReapEffect::Over(result)]
    }
}
