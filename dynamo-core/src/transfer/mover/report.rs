//! What operators see of the movement.

use std::collections::BTreeMap;

use super::Mover;
use crate::id::PartitionId;
use crate::time::Mono;
use crate::wire::worker::{TransferState, TransferView, TransfersDocument};

impl Mover {
    /// The state of all movement.
    #[must_use]
    pub fn document(&self, paused: bool, now: Mono) -> TransfersDocument {
        let mut partitions: BTreeMap<PartitionId, TransferView> = BTreeMap::new();
        for (partition, task) in &self.give_ups {
            let work = &task.work;
            let view = TransferView {
                partition: *partition,
                state: work.state,
                peer: work.peer(),
                records: work.dropped,
                bytes: 0,
                records_total: None,
                eta_ms: None,
                restarts: work.restarts,
                error: work.error.clone(),
            };
            partitions.insert(*partition, view);
        }
        for (partition, task) in &self.gains {
            let work = &task.work;
            let source = work.progress.source;
            let total = source.and_then(|source| self.offers.records(source, *partition));
            let eta = work.eta(total, now);
            let view = TransferView {
                partition: *partition,
                state: work.state,
                peer: work.peer(),
                records: work.progress.records,
                bytes: work.progress.bytes,
                records_total: total,
                eta_ms: eta.map(|eta| u64::try_from(eta.as_millis()).unwrap_or(u64::MAX)),
                restarts: work.progress.restarts,
                error: work.error.clone(),
            };
            partitions.insert(*partition, view);
        }
        let mut totals: BTreeMap<TransferState, usize> = BTreeMap::new();
        for view in partitions.values() {
            *totals.entry(view.state).or_default() += 1;
        }
        let held =
            self.own.iter().flat_map(|own| &own.partitions).filter(|info| {
                info.held_from.is_some() && !partitions.contains_key(&info.partition)
            });
        let held = held.count();
        if held > 0 {
            totals.insert(TransferState::Held, held);
        }
        TransfersDocument {
            node: self.me,
            ring: self.view.as_ref().map(|view| view.version()),
            paused,
            totals,
            records: self.records,
            bytes: self.bytes,
            partitions: partitions.into_values().collect(),
        }
    }
}
