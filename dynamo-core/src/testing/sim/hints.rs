//! Hints of a simulated node on their way to those they are owed to, or, where those have left the
//! ring, to the present owners.

use crate::clock::digest::RecordDigest;
use crate::entropy::Entropy;
use crate::handoff::{BatchEnd, HintWork, may_delete};
use crate::id::NodeId;
use crate::membership::member::MemberStatus;
use crate::params::Durability;
use crate::testing::sim::audit::Audit;
use crate::testing::sim::founding::object;
use crate::testing::sim::mutant::Mutant;
use crate::testing::sim::network::Request;
use crate::testing::sim::node::{Delivery, HintOut, Purpose};
use crate::testing::sim::store::Key;
use crate::testing::sim::world::{World, index_of};

/// Hints of one delivery.
const HINT_BATCH: usize = 4;

/// Targets that one node delivers to at once.
const DELIVERIES: usize = 2;

impl World {
    pub(super) fn deliver_due(&mut self, at: usize) {
        let now = self.now;
        let node = &mut self.nodes[at];
        let Some(ring) = node.agent.view.clone() else { return };
        let room = DELIVERIES.saturating_sub(node.deliveries.len());
        let is_target =
            |peer: NodeId| ring.node(peer).is_some_and(|info| info.status != MemberStatus::Removed);
        let work = node.schedule.due(now, room, |peer| node.view.reachable(peer), is_target);
        for work in work {
            self.deliver(at, work);
        }
    }

    fn deliver(&mut self, at: usize, work: HintWork) {
        let (HintWork::Deliver(owed) | HintWork::Retarget(owed)) = work;
        let of_target = self.nodes[at].store.hints().filter(|(target, _)| *target == owed);
        let keys: Vec<Key> = of_target.map(|(_, key)| key).take(HINT_BATCH).collect();
        if keys.is_empty() {
            return self.delivered(at, owed, BatchEnd::Drained);
        }
        self.nodes[at].deliveries.insert(owed, Delivery::new());
        for key in keys {
            let to = self.sets(at, key).hint_receivers(owed);
            if to != [owed] {
                self.covered("hint given to the present owners");
            }
            self.deliver_hint(at, owed, key, &to);
        }
        self.end_delivery(at, owed);
    }

    fn deliver_hint(&mut self, at: usize, owed: NodeId, key: Key, to: &[NodeId]) {
        let Some(record) = self.nodes[at].store.hinted(owed, key) else { return };
        // A hint by reference to a record that was lost has nothing left to deliver.
        if record.is_empty() {
            return self.forget_hint(at, owed, key, &[]);
        }
        let sent = RecordDigest::of(&record);
        if self.config.is(Mutant::DropHintBeforeAck) {
            self.forget_hint(at, owed, key, to);
        }
        let me = self.nodes[at].id;
        let others: Vec<NodeId> = to.iter().copied().filter(|node| *node != me).collect();
        if others.len() < to.len() {
            self.merge(at, key, &record, Durability::Fsync);
        }
        if others.is_empty() {
            // Flushes keep their order: the hint is gone only after its record is here.
            return self.forget_hint(at, owed, key, to);
        }
        let out = HintOut { sent, to: others.clone(), open: others.len(), failed: false };
        if let Some(delivery) = self.nodes[at].deliveries.get_mut(&owed) {
            delivery.insert(key, out);
        }
        for node in others {
            let mut merge = self.merge_request(at, key, record.clone(), None, Durability::Fsync);
            let puts = self.nodes[at].memory.of(object(key).position());
            merge.puts = puts.superseded(&record);
            self.call(at, node, Request::Merge(merge), Purpose::Hint { owed, key });
        }
    }

    /// One of those whom a hint was sent to has it on its disk, or did not take it.
    pub(super) fn hint_answered(&mut self, at: usize, owed: NodeId, key: Key, taken: bool) {
        let delivery = self.nodes[at].deliveries.get_mut(&owed);
        let Some(out) = delivery.and_then(|delivery| delivery.get_mut(&key)) else { return };
        out.open = out.open.saturating_sub(1);
        out.failed |= !taken;
        if out.open == 0 && !out.failed {
            let (sent, to) = (out.sent, out.to.clone());
            self.hint_taken(at, owed, key, sent, &to);
        }
        self.end_delivery(at, owed);
    }

    fn hint_taken(&mut self, at: usize, owed: NodeId, key: Key, sent: RecordDigest, to: &[NodeId]) {
        self.covered("hint delivered");
        if !self.nodes[at].taken.insert((owed, key, sent)) {
            self.covered("hint delivered again");
        }
        let stored = self.nodes[at].store.hinted(owed, key).map(|r| RecordDigest::of(&r));
        let forgets = self.config.is(Mutant::DropChangedHint);
        if stored.is_some() && stored != Some(sent) {
            self.covered("hint changed while it was on its way");
        }
        if !may_delete(sent, stored) && !forgets {
            return;
        }
        self.forget_hint(at, owed, key, to);
        self.clear_away(at, key, sent);
        if self.config.crashes && !self.healed && self.rng.chance(1, 30) {
            self.covered("sender killed between acknowledgement and removal");
            self.crash(at);
        }
    }

    /// Removes an own record that does not belong here and was kept for a hint alone: left here, it
    /// would keep the others from ever removing theirs. Only as it was delivered.
    fn clear_away(&mut self, at: usize, key: Key, sent: RecordDigest) {
        let node = &self.nodes[at];
        let owed = node.store.hints().any(|(_, other)| other == key);
        let same = RecordDigest::of(&node.store.peek(key)) == sent;
        if same && !owed && !node.accepts(key) {
            self.covered("record kept for a hint alone cleared away");
            self.remove_record(at, key);
        }
    }

    /// Removes a hint. Everyone whom it was sent to has to have what it says, on its disk.
    fn forget_hint(&mut self, at: usize, owed: NodeId, key: Key, to: &[NodeId]) {
        let Some(record) = self.nodes[at].store.hinted(owed, key) else { return };
        self.note(|| format!("node {at} key {key}: hint for {owed} dropped"));
        for target in to.iter().map(|node| index_of(*node)).filter(|target| *target != at) {
            let reliable = self.config.amnesiac != Some(target) && self.config.amnesiac != Some(at);
            if reliable && !self.config.is(Mutant::LeaverDropsAll) {
                let on_disk = self.nodes[target].store.on_disk(key);
                self.demand(Audit::hint_dropped(key, &record, &on_disk));
            }
        }
        let ticket = self.nodes[at].store.drop_hint(owed, key);
        self.flush_soon(at, ticket, Durability::Fsync);
    }

    /// Ends the delivery to a target once everyone has answered.
    fn end_delivery(&mut self, at: usize, owed: NodeId) {
        let Some(delivery) = self.nodes[at].deliveries.get(&owed) else { return };
        if delivery.values().any(|out| out.open > 0) {
            return;
        }
        let failed = delivery.values().any(|out| out.failed);
        let left = self.nodes[at].store.hints().any(|(target, _)| target == owed);
        let end = match (failed, left) {
            (true, _) => BatchEnd::Failed,
            (false, true) => BatchEnd::More,
            (false, false) => BatchEnd::Drained,
        };
        self.delivered(at, owed, end);
    }

    fn delivered(&mut self, at: usize, owed: NodeId, end: BatchEnd) {
        let (now, rng) = (self.now, &mut self.rng);
        let node = &mut self.nodes[at];
        node.deliveries.remove(&owed);
        node.schedule.finished(owed, now, end, rng);
    }
}
