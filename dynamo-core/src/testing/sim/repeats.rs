//! Puts of which another attempt may have been applied: a simulated node asks the others first.

use std::time::Duration;

use crate::clock::record::Record;
use crate::id::{NodeId, PutId};
use crate::limits::CATCH_UP_MS;
use crate::params::Durability;
use crate::put_memory::{AppliedPut, fingerprint};
use crate::quorum::{CatchUp, ReplicaReply};
use crate::replica::{Minted, PutCommand};
use crate::testing::sim::founding::object;
use crate::testing::sim::mutant::Mutant;
use crate::testing::sim::network::{Reply, Request};
use crate::testing::sim::node::{Asker, CatchUpRun, Purpose};
use crate::testing::sim::store::Key;
use crate::testing::sim::world::{Event, World};
use crate::time::Mono;

impl World {
    /// Asks the other replicas what they have of the key and know of the put, and then puts.
    pub(super) fn catch_up(
        &mut self,
        at: usize,
        asker: Asker,
        (key, command): (Key, PutCommand),
        stand_in: bool,
        deadline: Mono,
    ) {
        let (id, put) = (self.number(), command.put_id);
        let node = &self.nodes[at];
        let op = CatchUp::start(node.id, self.sets(at, key), |peer| node.view.reachable(peer));
        let others: Vec<NodeId> = op.open().collect();
        let run = CatchUpRun { op, asker, key, command, stand_in, deadline };
        self.nodes[at].catch_ups.insert(id, run);
        for other in &others {
            self.call(at, *other, Request::FindPut { key, put }, Purpose::CatchUp(id));
        }
        if others.is_empty() {
            return self.caught_up(at, id);
        }
        let generation = self.nodes[at].generation;
        let wait = Duration::from_millis(CATCH_UP_MS);
        self.after(wait, Event::CatchUpTimer { node: at, generation, op: id });
    }

    pub(super) fn catch_up_answered(
        &mut self,
        at: usize,
        id: u64,
        from: NodeId,
        found: Option<(Record, Option<AppliedPut>)>,
    ) {
        let Some(run) = self.nodes[at].catch_ups.get_mut(&id) else { return };
        match found {
            Some((record, applied)) => run.op.on_answer(from, &record, applied),
            None => run.op.on_silence(from),
        }
        if run.op.is_over() {
            self.caught_up(at, id);
        }
    }

    /// Merges what was found, if the put still waits for it, and goes on with the put.
    pub(super) fn caught_up(&mut self, at: usize, id: u64) {
        let Some(run) = self.nodes[at].catch_ups.remove(&id) else { return };
        let CatchUpRun { op, asker, key, command, stand_in, deadline } = run;
        let (record, applied) = op.finish();
        if let Some(applied) = applied {
            self.covered("put found elsewhere");
            let (key, now) = (object(key).position(), self.now);
            self.nodes[at].memory.insert(command.put_id, key, applied, now);
        }
        if !record.is_empty() {
            self.merge(at, key, &record, Durability::Buffered);
        }
        self.start_put(at, asker, (key, command), stand_in, deadline);
    }

    pub(super) fn find_put(&mut self, at: usize, key: Key, put: PutId) -> Reply {
        let applied = self.nodes[at].memory.of(object(key).position()).get(put);
        match self.read(at, key) {
            Err(()) => Reply::Failed,
            Ok(ReplicaReply::Record(record)) => Reply::Found { record, applied },
            Ok(_) => Reply::Found { record: Record::default(), applied },
        }
    }

    /// The process is gone, and with it what it remembered.
    pub(super) fn forget_puts(&mut self, at: usize) {
        let forgotten = std::mem::take(&mut self.nodes[at].memory);
        for put in forgotten.puts() {
            if let Some(entry) = self.history.puts.get_mut(&put) {
                entry.forgotten = true;
            }
        }
    }

    /// The node remembers the puts of what another replica sent, and those it has told of.
    pub(super) fn remember(
        &mut self,
        at: usize,
        key: Key,
        incoming: &Record,
        told: &[(PutId, AppliedPut)],
    ) {
        let now = self.now;
        if !self.config.is(Mutant::PutsForgotten) {
            self.nodes[at].memory.learn(object(key).position(), incoming, told, now);
        }
    }

    /// The node remembers a put that it has minted a dot for.
    pub(super) fn remember_own(
        &mut self,
        at: usize,
        key: Key,
        command: &PutCommand,
        minted: &Minted,
    ) {
        let applied = AppliedPut { dot: minted.dot, content: fingerprint(&command.content) };
        let (key, now) = (object(key).position(), self.now);
        if !self.config.is(Mutant::PutsForgotten) {
            self.nodes[at].memory.insert(command.put_id, key, applied, now);
        }
    }
}
