//! Partitions that do not get on: for how long a transfer that could run has made no progress.
//! Waiting for one's turn, for owners or for time to pass is no stall.

use std::collections::BTreeMap;
use std::time::Duration;

use dynamo_core::id::PartitionId;
use dynamo_core::time::Mono;
use dynamo_core::transfer::MoveEvent;
use dynamo_core::wire::worker::{TransferState, TransferView, TransfersDocument};

/// When each partition on the move last made progress.
#[derive(Debug, Default)]
pub struct Stall {
    since: BTreeMap<PartitionId, Mono>,
    warned: bool,
}

impl Stall {
    /// A partition got on.
    pub fn touch(&mut self, partition: PartitionId, now: Mono) {
        if let Some(since) = self.since.get_mut(&partition) {
            *since = (*since).max(now);
        }
    }

    /// The running transfer that has made no progress for longest. `touched` says when comparisons
    /// got on.
    pub fn look<'a>(
        &mut self,
        document: &'a TransfersDocument,
        touched: &BTreeMap<PartitionId, Mono>,
        now: Mono,
    ) -> Option<(&'a TransferView, Duration)> {
        if document.paused {
            self.since.clear();
        }
        let running: Vec<&TransferView> = document
            .partitions
            .iter()
            .filter(|view| !document.paused && is_running(view))
            .collect();
        self.since.retain(|partition, _| running.iter().any(|view| view.partition == *partition));
        for view in &running {
            self.since.entry(view.partition).or_insert(now);
            if let Some(at) = touched.get(&view.partition) {
                self.touch(view.partition, *at);
            }
        }
        let since = |view: &TransferView| self.since.get(&view.partition).copied().unwrap_or(now);
        let longest = running.into_iter().min_by_key(|view| since(view));
        let longest = longest.map(|view| (view, now.since(since(view))));
        if longest.is_none_or(|(_, time)| time < crate::limits::STALL_WARN_AFTER) {
            self.warned = false;
        }
        longest
    }

    /// True once per stall.
    pub fn warn_once(&mut self) -> bool {
        !std::mem::replace(&mut self.warned, true)
    }
}

/// The partition that an event brought further.
#[must_use]
pub fn progressed(event: &MoveEvent) -> Option<PartitionId> {
    let ticket = match event {
        MoveEvent::Saved { ticket }
        | MoveEvent::Compared { ticket, agreed: Some(_) }
        | MoveEvent::Done { ticket }
        | MoveEvent::Dropped { ticket, .. } => ticket,
        _ => return None,
    };
    Some(ticket.partition)
}

fn is_running(view: &TransferView) -> bool {
    match view.state {
        TransferState::Offered
        | TransferState::Copying
        | TransferState::Closing
        | TransferState::Releasing
        | TransferState::Pushing
        | TransferState::Dropping => true,
        // A step failed, and is tried again after a pause.
        TransferState::Waiting | TransferState::WaitingForOwners => view.error.is_some(),
        TransferState::NoHolder | TransferState::Held | TransferState::Grace => false,
    }
}

#[cfg(test)]
mod tests {
    use dynamo_core::id::NodeId;
    use dynamo_core::transfer::Ticket;

    use super::*;

    fn view(partition: u32, state: TransferState, error: Option<&str>) -> TransferView {
        TransferView {
            partition: PartitionId(partition),
            state,
            peer: None,
            records: 0,
            bytes: 0,
            records_total: None,
            eta_ms: None,
            restarts: 0,
            error: error.map(str::to_owned),
        }
    }

    fn document(partitions: Vec<TransferView>) -> TransfersDocument {
        TransfersDocument {
            node: NodeId(1),
            ring: None,
            paused: false,
            totals: BTreeMap::new(),
            records: 0,
            bytes: 0,
            partitions,
        }
    }

    fn at(seconds: u64) -> Mono {
        Mono(0).plus(Duration::from_secs(seconds))
    }

    #[test]
    fn only_what_could_get_on_stalls() {
        let cases = [
            (TransferState::Waiting, None, false),
            (TransferState::Waiting, Some("refused"), true),
            (TransferState::NoHolder, None, false),
            (TransferState::Copying, None, true),
            (TransferState::Closing, None, true),
            (TransferState::WaitingForOwners, None, false),
            (TransferState::Grace, None, false),
            (TransferState::Dropping, None, true),
        ];
        for (state, error, stalls) in cases {
            let mut stall = Stall::default();
            let document = document(vec![view(3, state, error)]);
            stall.look(&document, &BTreeMap::new(), at(0));
            let found = stall.look(&document, &BTreeMap::new(), at(9)).map(|(_, time)| time);
            assert_eq!(found, stalls.then_some(Duration::from_secs(9)), "{state:?} {error:?}");
        }
    }

    #[test]
    fn progress_ends_a_stall_and_each_is_told_once() {
        let mut stall = Stall::default();
        let mut moving = document(vec![
            view(1, TransferState::Copying, None),
            view(2, TransferState::Closing, None),
        ]);
        let nothing = BTreeMap::new();
        stall.look(&moving, &nothing, at(0));
        let ticket = Ticket { partition: PartitionId(1), number: 1 };
        let saved = MoveEvent::Saved { ticket };
        stall.touch(progressed(&saved).unwrap(), at(100));
        assert_eq!(progressed(&MoveEvent::Merged { ticket }), None, "not durable yet");
        let (longest, time) = stall.look(&moving, &nothing, at(100)).unwrap();
        assert_eq!((longest.partition, time), (PartitionId(2), Duration::from_secs(100)));
        assert!(stall.warn_once() && !stall.warn_once());
        let touched = BTreeMap::from([(PartitionId(2), at(101))]);
        let (_, time) = stall.look(&moving, &touched, at(102)).unwrap();
        assert_eq!(time, Duration::from_secs(2));
        assert!(stall.warn_once(), "the next stall is told anew");
        moving.paused = true;
        assert!(stall.look(&moving, &nothing, at(500)).is_none());
    }
}
