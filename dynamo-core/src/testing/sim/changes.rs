//! Membership changes that an administrator makes during a run, at any node: staged, planned and
//! committed as the real ones are.

use std::time::Duration;

use crate::entropy::Entropy;
use crate::id::{ClusterId, NodeId};
use crate::membership::member::MemberStatus;
use crate::membership::plan::{self, CommitError};
use crate::membership::registers::StagedChange;
use crate::membership::stage;
use crate::membership::view::Membership;
use crate::testing::sim::faults::Fault;
use crate::testing::sim::founding::params;
use crate::testing::sim::node::Life;
use crate::testing::sim::world::{Event, World, id_of, index_of};

impl World {
    pub(super) fn plan_changes(&mut self) {
        for _ in 0..self.config.changes {
            let pause = Duration::from_millis(200 + self.rng.below(3_500));
            self.after(pause, Event::Fault(Fault::Change));
        }
    }

    /// One change at a random node that runs and knows the cluster.
    pub(super) fn change_membership(&mut self) {
        let at = usize::try_from(self.rng.below(self.nodes.len() as u64)).unwrap_or(0);
        let ready = self.nodes[at].life == Life::Running && self.nodes[at].agent.view.is_some();
        if self.healed || !ready {
            return;
        }
        if let Some(change) = self.choose_change(at) {
            self.commit(at, change);
        }
    }

    fn choose_change(&mut self, at: usize) -> Option<StagedChange> {
        let membership = &self.nodes[at].agent.membership;
        let with = |status| nodes_with(membership, status);
        let (members, candidates) = (with(MemberStatus::Member), with(MemberStatus::Candidate));
        let spare = members.len() > usize::from(self.config.n);
        let joining = pick(&candidates, &mut self.rng);
        let leaving = pick(&members, &mut self.rng).filter(|_| spare);
        let amnesiac = self.config.amnesiac.map(id_of).filter(|node| members.contains(node));
        match self.rng.below(8) {
            0..=2 => Some(StagedChange::Join { node: joining?, zone: None, weight: None }),
            3 | 4 => Some(StagedChange::Leave { node: leaving? }),
            5 => {
                Some(StagedChange::Replace { node: pick(&members, &mut self.rng)?, with: joining? })
            }
            // Its data is given up, so it must be a node on whose copies nothing rests.
            6 if spare && amnesiac.is_some() => {
                Some(StagedChange::ForceRemove { node: amnesiac?, accept_data_loss: false })
            }
            _ => {
                let weight = [25, 50, 200, 400][usize::try_from(self.rng.below(4)).unwrap_or(0)];
                Some(StagedChange::SetWeight { node: pick(&members, &mut self.rng)?, weight })
            }
        }
    }

    /// Stages a change and commits everything that is staged.
    pub(super) fn commit(&mut self, at: usize, change: StagedChange) {
        self.note(|| format!("node {at}: {change:?}"));
        let wall = self.wall(at);
        let what = match &change {
            StagedChange::Join { .. } => "node joined",
            StagedChange::Leave { .. } => "node left",
            StagedChange::Replace { .. } => "node replaced",
            StagedChange::ForceRemove { .. } => "node removed",
            _ => "weight set",
        };
        match stage::stage(&self.nodes[at].agent.membership, change, wall) {
            Ok(delta) => self.learn(at, delta),
            Err(error) => return self.violate(format!("node {at} cannot stage: {error}")),
        }
        let membership = &self.nodes[at].agent.membership;
        let tag = plan::plan(membership, params(), |_| None).map(|plan| plan.tag());
        let cluster = ClusterId(0);
        let committed = tag.and_then(|tag| plan::commit(membership, params(), &tag, cluster, wall));
        match committed {
            Ok(delta) => {
                self.commits += 1;
                self.covered(what);
                self.learn(at, delta);
            }
            Err(CommitError::Refused(_) | CommitError::Removed) => {
                self.covered("plan refused");
                let dropped = stage::drop_staged(&self.nodes[at].agent.membership, wall);
                self.learn(at, dropped.unwrap_or_default());
            }
            Err(error) => self.violate(format!("node {at} cannot commit: {error}")),
        }
    }

    /// What no correct node does (a bug, see [`super::mutant::Mutant::DeadIsRemoved`]).
    pub(super) fn remove_dead(&mut self, at: usize, peer: NodeId) {
        let membership = &self.nodes[at].agent.membership;
        if membership.status(peer) == Some(MemberStatus::Member) {
            self.commit(at, StagedChange::Leave { node: peer });
            self.commits = self.commits.saturating_sub(1);
        }
    }

    /// Whether the history of any node has removed it for good: nobody listens to it any more.
    pub(super) fn is_given_up(&self, at: usize) -> bool {
        self.given_up.contains(&at)
    }

    pub(super) fn note_given_up(&mut self, at: usize) {
        let Some(fold) = self.nodes[at].agent.membership.fold() else { return };
        let forced = fold.former.iter().filter(|(_, former)| former.forced);
        let nodes: Vec<usize> = forced.map(|(node, _)| index_of(*node)).collect();
        self.given_up.extend(nodes);
    }
}

fn nodes_with(membership: &Membership, status: MemberStatus) -> Vec<NodeId> {
    let states = membership.states().iter().map(|state| state.node);
    let members = membership.fold().into_iter().flat_map(|fold| fold.members.keys().copied());
    let mut nodes: Vec<NodeId> =
        states.chain(members).filter(|node| membership.status(*node) == Some(status)).collect();
    nodes.sort_unstable();
    nodes.dedup();
    nodes
}

fn pick(nodes: &[NodeId], entropy: &mut impl Entropy) -> Option<NodeId> {
    let index = usize::try_from(entropy.below(nodes.len() as u64)).ok()?;
    nodes.get(index).copied()
}
