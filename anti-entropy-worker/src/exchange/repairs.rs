//! Comparisons that somebody asked for, out of turn: one after the other, each with every partner
//! that its scope has in common with this node. They are remembered in memory; a new process has
//! forgotten them, and asking again costs nothing where nothing differs.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dynamo_core::id::NodeId;
use dynamo_core::merkle::exchange::{ClassPart, ExchangeCounts, ExchangeEnd};
use dynamo_core::merkle::{partners, within};
use dynamo_core::time::WallMs;
use dynamo_core::wire::worker::{RepairDocument, RepairRequest, RepairState};
use service_kit::shutdown::Shutdown;
use tokio::sync::Notify;
use uuid::Uuid;

use super::rounds::{Rounds, has_repaired};
use super::run::Runner;
use crate::limits::REPAIRS_MAX;

/// As many repairs as are remembered are still waiting or under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{REPAIRS_MAX} repairs are waiting already")]
pub struct TooManyRepairs;

/// The repairs of this process.
#[derive(Debug, Default)]
pub struct Repairs {
    all: Mutex<VecDeque<RepairDocument>>,
    asked: Notify,
}

impl Repairs {
    /// Takes a request.
    ///
    /// # Errors
    /// [`TooManyRepairs`].
    pub fn ask(
        &self,
        id: Uuid,
        scope: RepairRequest,
        now: WallMs,
    ) -> Result<RepairDocument, TooManyRepairs> {
        let mut all = self.all();
        if all.len() >= REPAIRS_MAX {
            let oldest = all.iter().position(|repair| repair.ended_at.is_some());
            all.remove(oldest.ok_or(TooManyRepairs)?);
        }
        let repair = RepairDocument {
            id: id.to_string(),
            scope,
            state: RepairState::Queued,
            asked_at: now,
            ended_at: None,
            keys_compared: 0,
            keys_repaired: 0,
            error: None,
        };
        all.push_back(repair.clone());
        drop(all);
        self.asked.notify_one();
        Ok(repair)
    }

    /// One repair, as it stands.
    #[must_use]
    pub fn get(&self, id: &str) -> Option<RepairDocument> {
        self.all().iter().find(|repair| repair.id == id).cloned()
    }

    /// Performs what is asked for, until the stop.
    pub async fn run(self: Arc<Self>, rounds: Arc<Rounds>, runner: Runner, shutdown: Shutdown) {
        loop {
            let Some(repair) = self.next() else {
                match shutdown.unless_requested(self.asked.notified()).await {
                    Some(()) => continue,
                    None => return,
                }
            };
            let repairing = self.repair(&rounds, &runner, &repair);
            let Some(ended) = shutdown.unless_requested(repairing).await else { return };
            let now = runner.clock.wall();
            self.change(&repair.id, |repair| {
                repair.state = if ended.is_ok() { RepairState::Done } else { RepairState::Failed };
                repair.error = ended.err();
                repair.ended_at = Some(now);
            });
        }
    }

    async fn repair(
        &self,
        rounds: &Arc<Rounds>,
        runner: &Runner,
        repair: &RepairDocument,
    ) -> Result<(), String> {
        let view = rounds.view.load_full().ok_or("no ring is known yet")?;
        let mut failures = Vec::new();
        let me = runner.stores.caller().me();
        for (node, common) in partners(&view, me) {
            let scope = within(&view, &common, &repair.scope);
            if let Err(error) = self.repair_with(rounds, runner, (&repair.id, node), &scope).await {
                failures.push(format!("{node}: {error}"));
            }
        }
        if failures.is_empty() { Ok(()) } else { Err(failures.join("; ")) }
    }

    /// Compares with one partner, again and again while that mends something.
    async fn repair_with(
        &self,
        rounds: &Arc<Rounds>,
        runner: &Runner,
        (id, node): (&str, NodeId),
        scope: &BTreeSet<ClassPart>,
    ) -> Result<(), String> {
        if scope.is_empty() {
            return Ok(());
        }
        loop {
            let turn = rounds.turn(node).await;
            let before = self.get(id).map_or((0, 0), |r| (r.keys_compared, r.keys_repaired));
            let note = |counts: ExchangeCounts| {
                self.change(id, |repair| {
                    let repaired = counts.pulled.saturating_add(counts.pushed);
                    repair.keys_compared = before.0.saturating_add(counts.keys);
                    repair.keys_repaired = before.1.saturating_add(repaired);
                });
            };
            let result = rounds.compare(runner, node, scope, note).await;
            drop(turn);
            let result = result.ok_or("no ring is known any more")?;
            match result.end {
                ExchangeEnd::Agreed => return Ok(()),
                ExchangeEnd::DifferencesLeft if has_repaired(&result.counts) => {}
                ExchangeEnd::DifferencesLeft => {
                    return Err(format!("{} keys could not be repaired", result.counts.refused));
                }
                ExchangeEnd::Failed { side, failure } => {
                    return Err(format!("{side:?}: {failure}"));
                }
            }
        }
    }

    fn next(&self) -> Option<RepairDocument> {
        let mut all = self.all();
        let next = all.iter_mut().find(|repair| repair.state == RepairState::Queued)?;
        next.state = RepairState::Running;
        Some(next.clone())
    }

    fn change(&self, id: &str, edit: impl FnOnce(&mut RepairDocument)) {
        if let Some(repair) = self.all().iter_mut().find(|repair| repair.id == id) {
            edit(repair);
        }
    }

    fn all(&self) -> MutexGuard<'_, VecDeque<RepairDocument>> {
        // No foreign code runs under the lock, so a poisoned one still guards whole values.
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn the_oldest_finished_repair_makes_room() {
        let repairs = Repairs::default();
        let ask = |number: u128| {
            repairs.ask(Uuid::from_u128(number), RepairRequest::default(), WallMs(1))
        };
        let ids: BTreeMap<u128, String> =
            (0..REPAIRS_MAX as u128).map(|n| (n, ask(n).unwrap().id)).collect();
        assert_eq!(ask(1000), Err(TooManyRepairs));
        assert_eq!(repairs.next().unwrap().id, ids[&0]);
        assert_eq!(repairs.next().unwrap().id, ids[&1], "a running one is not begun again");
        repairs.change(&ids[&1], |repair| repair.ended_at = Some(WallMs(2)));
        ask(1000).unwrap();
        assert_eq!(repairs.get(&ids[&1]), None);
        assert_eq!(repairs.get(&ids[&0]).unwrap().state, RepairState::Running);
    }
}
