//! Which partitions take their next step now, within the bounds.

use std::collections::BTreeMap;

use super::event::{MoveEffect, Ticket};
use super::{LOOK_AGAIN, Mover, Task};
use crate::cluster_view::ClusterView;
use crate::id::{NodeId, PartitionId};
use crate::limits::{RELEASES_MAX, TRANSFERS_MAX};
use crate::merkle::exchange::ExchangeMode;
use crate::time::Mono;
use crate::transfer::gain::{self, GainContext};
use crate::transfer::give_up::{self, GiveUp, Owner};
use crate::transfer::holders::Said;

impl Mover {
    pub(super) fn poll_gains(
        &mut self,
        view: &ClusterView,
        now: Mono,
        reachable: &impl Fn(NodeId) -> bool,
        effects: &mut Vec<MoveEffect>,
    ) {
        let mut load: BTreeMap<NodeId, usize> = BTreeMap::new();
        let mut active = 0;
        let mut idle = Vec::new();
        for (partition, task) in &self.gains {
            let work = &task.work;
            if work.step != gain::Step::Idle {
                active += 1;
                if let Some(source) = work.peer().filter(|_| !work.progress.copied) {
                    *load.entry(source).or_default() += 1;
                }
            } else if task.look_at <= now && work.retry.is_due(now) {
                let begun = work.progress.records > 0;
                idle.push((!work.progress.copied, !begun, *partition));
            }
        }
        idle.sort_unstable();
        for (_, _, partition) in idle {
            if active >= TRANSFERS_MAX {
                break;
            }
            let (held, _) = self.info(partition);
            let missing = missing(view, view.needs_from(self.me, partition), held);
            let holders = self.offers.holders(view, self.me, partition, &missing, now, reachable);
            let Some(task) = self.gains.get_mut(&partition) else { continue };
            let next = task.work.next(&GainContext {
                partition,
                missing: &missing,
                is_partly_held: held.is_some(),
                holders: &holders,
                load: |node| load.get(&node).copied().unwrap_or(0),
            });
            task.work.begin(&next, now);
            self.minted += 1;
            let ticket = Ticket { partition, number: self.minted };
            match next {
                gain::Next::Fetch { source, after } => {
                    *load.entry(source).or_default() += 1;
                    effects.push(MoveEffect::Fetch { ticket, source, after });
                }
                gain::Next::Compare { peer, classes } => {
                    let mode = ExchangeMode::Both;
                    effects.push(MoveEffect::Compare { ticket, peer, classes, mode });
                }
                gain::Next::Hold => {
                    effects.push(MoveEffect::Hold { ticket, ring: view.version() });
                }
                gain::Next::Ask(nodes) => {
                    task.look_at = now.plus(LOOK_AGAIN);
                    let asked = nodes.into_iter().filter(|node| self.offers.ask(*node));
                    effects.extend(asked.map(|node| MoveEffect::AskOffer { node }));
                    continue;
                }
                gain::Next::Wait => {
                    task.look_at = now.plus(LOOK_AGAIN);
                    continue;
                }
            }
            task.ticket = ticket.number;
            active += 1;
        }
    }

    pub(super) fn poll_give_ups(
        &mut self,
        view: &ClusterView,
        now: Mono,
        reachable: &impl Fn(NodeId) -> bool,
        effects: &mut Vec<MoveEffect>,
    ) {
        let busy = |task: &&Task<GiveUp>| task.work.step != give_up::Step::Idle;
        let mut active = self.give_ups.values().filter(busy).count();
        let idle: Vec<PartitionId> = self
            .give_ups
            .iter()
            .filter(|(_, task)| {
                let is_idle = task.work.step == give_up::Step::Idle;
                is_idle && task.look_at <= now && task.work.retry.is_due(now)
            })
            .map(|(partition, _)| *partition)
            .collect();
        for partition in idle {
            if active >= RELEASES_MAX {
                break;
            }
            let (held, _) = self.info(partition);
            let need = view.needs_from(self.me, partition);
            let is_held = is_surplus(view, need, held);
            let given = held.filter(|_| is_held);
            let (owners, unasked) = self.owners(view, partition, given, now, reachable);
            let asked = unasked.into_iter().filter(|node| self.offers.ask(*node));
            effects.extend(asked.map(|node| MoveEffect::AskOffer { node }));
            let Some(task) = self.give_ups.get_mut(&partition) else { continue };
            let next = task.work.next(&owners, is_held, now);
            task.work.begin(&next);
            self.minted += 1;
            let ticket = Ticket { partition, number: self.minted };
            let ring = view.version();
            effects.push(match next {
                give_up::Next::Compare { peer, classes, mode } => {
                    MoveEffect::Compare { ticket, peer, classes, mode }
                }
                give_up::Next::Release => MoveEffect::Release { ticket, ring },
                give_up::Next::Drop => MoveEffect::Drop { ticket, ring },
                give_up::Next::Wait => {
                    task.look_at = now.plus(LOOK_AGAIN);
                    continue;
                }
            });
            task.ticket = ticket.number;
            active += 1;
        }
    }

    /// The owners of what this node does not need of a partition, each with the classes that it is
    /// to have, and those that must be asked whether they hold it. What a node advertises may be
    /// older than the ring, so only its own words under this ring count. `held_from`: only what is
    /// held; else whatever may lie there.
    fn owners(
        &self,
        view: &ClusterView,
        partition: PartitionId,
        held_from: Option<u8>,
        now: Mono,
        reachable: &impl Fn(NodeId) -> bool,
    ) -> (Vec<Owner>, Vec<NodeId>) {
        let need = view.needs_from(self.me, partition);
        let is_given =
            |n: &u8| need.is_none_or(|need| *n < need) && held_from.is_none_or(|held| *n >= held);
        let given: Vec<u8> = view.classes().iter().copied().filter(is_given).collect();
        let (mut owners, mut unasked) = (Vec::new(), Vec::new());
        for node in view.wanting(partition).iter().copied().filter(|node| *node != self.me) {
            let Some(from) = view.needs_from(node, partition) else { continue };
            let classes: Vec<u8> = given.iter().copied().filter(|n| *n >= from).collect();
            if classes.is_empty() {
                continue;
            }
            let said = self.offers.said(view, node, partition, now);
            if said == Said::Unasked && reachable(node) {
                unasked.push(node);
            }
            let holds = matches!(said, Said::Holds(Some(held)) if held <= from);
            owners.push(Owner { node, classes, holds });
        }
        (owners, unasked)
    }
}

/// The classes in use that are needed and not held, ascending.
pub(super) fn missing(view: &ClusterView, need: Option<u8>, held: Option<u8>) -> Vec<u8> {
    let is_missing =
        |n: &u8| need.is_some_and(|need| *n >= need) && held.is_none_or(|held| *n < held);
    view.classes().iter().copied().filter(is_missing).collect()
}

/// Whether something is held that is not needed: the whole partition, or a class in use.
pub(super) fn is_surplus(view: &ClusterView, need: Option<u8>, held: Option<u8>) -> bool {
    match (held, need) {
        (None, _) => false,
        (Some(_), None) => true,
        (Some(held), Some(need)) => view.classes().iter().any(|n| (held..need).contains(n)),
    }
}
