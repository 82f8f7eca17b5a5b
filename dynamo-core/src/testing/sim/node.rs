//! One simulated node: the core's values that a storage node owns, and the requests on their way.

use std::collections::{BTreeMap, BTreeSet};

use crate::actor::Actor;
use crate::clock::context::CausalContext;
use crate::clock::digest::RecordDigest;
use crate::failure_view::FailureView;
use crate::handoff::HintSchedule;
use crate::id::{Incarnation, NodeId, PartitionId, StoreId};
use crate::put_memory::PutMemory;
use crate::quorum::{CatchUp, GetOp, PutOp};
use crate::replica::{Minted, PutCommand};
use crate::testing::sim::agent::Agent;
use crate::testing::sim::network::{Answer, Endpoint};
use crate::testing::sim::store::{Key, Store, Ticket};
use crate::testing::sim::work::{Job, WorkAnswer};
use crate::testing::sim::worker::Worker;
use crate::testing::sim::world::Event;
use crate::time::Mono;
use crate::transfer::{Inventory, Progress};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Life {
    Running,
    Frozen,
    Down,
}

/// What a call to a peer is for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Purpose {
    Get(u64),
    Put(u64),
    CatchUp(u64),
    Repair,
    /// A hint that is owed to `owed`, on its way to it or to an owner in its place.
    Hint {
        owed: NodeId,
        key: Key,
    },
    Probe,
    /// A step of the background worker.
    Work(Job),
}

#[derive(Debug)]
pub(super) struct Call {
    pub(super) to: Endpoint,
    pub(super) sent: Mono,
    pub(super) purpose: Purpose,
}

/// Who waits for the answer of an operation.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asker {
    pub(super) client: Endpoint,
    pub(super) request: u64,
}

#[derive(Debug)]
pub(super) struct GetRun {
    pub(super) op: GetOp,
    pub(super) key: Key,
    pub(super) asker: Asker,
    pub(super) timer: Option<Mono>,
    pub(super) began: Mono,
    /// When it began, everyone who has to have a record of the key had one.
    pub(super) is_everywhere: bool,
}

#[derive(Debug)]
pub(super) struct PutRun {
    pub(super) op: PutOp,
    pub(super) key: Key,
    pub(super) command: PutCommand,
    pub(super) asker: Asker,
    pub(super) timer: Option<Mono>,
    pub(super) minted: Option<Minted>,
    /// The last hint kept by reference: the answer rests on it.
    pub(super) hint_ticket: Ticket,
}

/// A put that asks first whether it was applied elsewhere.
#[derive(Debug)]
pub(super) struct CatchUpRun {
    pub(super) op: CatchUp,
    pub(super) asker: Asker,
    pub(super) key: Key,
    pub(super) command: PutCommand,
    pub(super) stand_in: bool,
    pub(super) deadline: Mono,
}

/// What happens when a write is durable.
#[derive(Debug)]
pub(super) enum Then {
    LocalDone(u64),
    Acknowledge {
        to: Endpoint,
        call: u64,
    },
    Answer {
        asker: Asker,
        answer: Answer,
    },
    /// A step of another node's worker is done.
    Reply {
        to: Endpoint,
        call: u64,
        answer: WorkAnswer,
    },
    /// A step of the own worker is done.
    Worked {
        job: Job,
        answer: WorkAnswer,
    },
}

/// One hint on its way.
#[derive(Debug)]
pub(super) struct HintOut {
    pub(super) sent: RecordDigest,
    pub(super) to: Vec<NodeId>,
    /// Who was sent it and has not answered yet.
    pub(super) open: usize,
    pub(super) failed: bool,
}

/// Hints of one target on their way.
pub(super) type Delivery = BTreeMap<Key, HintOut>;

#[derive(Debug)]
pub(super) struct Node {
    pub(super) id: NodeId,
    pub(super) agent: Agent,
    pub(super) life: Life,
    /// Number of the process life; events of an earlier one come to nothing.
    pub(super) generation: u64,
    /// What reached a frozen process.
    pub(super) inbox: Vec<Event>,
    pub(super) actor: Actor,
    /// The epoch and the mark of a clean stop, as on disk.
    pub(super) epoch: u64,
    pub(super) clean: bool,
    pub(super) incarnation: Incarnation,
    pub(super) store_id: StoreId,
    /// What it has of every partition, as on disk; `None` before it knows a ring.
    pub(super) inventory: Option<Inventory>,
    /// How far the copying of each partition has come, as on disk.
    pub(super) progress: BTreeMap<PartitionId, Progress>,
    pub(super) worker: Worker,
    pub(super) store: Store,
    pub(super) flush_at: Mono,
    pub(super) durable: Ticket,
    pub(super) waiting: Vec<(Ticket, Then)>,
    pub(super) view: FailureView,
    pub(super) schedule: HintSchedule,
    pub(super) deliveries: BTreeMap<NodeId, Delivery>,
    pub(super) calls: BTreeMap<u64, Call>,
    pub(super) gets: BTreeMap<u64, GetRun>,
    pub(super) puts: BTreeMap<u64, PutRun>,
    pub(super) catch_ups: BTreeMap<u64, CatchUpRun>,
    pub(super) memory: PutMemory,
    /// Hints that were acknowledged: owed to, key, what.
    pub(super) taken: BTreeSet<(NodeId, Key, RecordDigest)>,
    /// Milliseconds by which the wall clock leads, as a sum with a large offset.
    pub(super) skew_ms: u64,
}

impl Node {
    pub(super) fn new(id: NodeId, store_id: StoreId, agent: Agent, skew_ms: u64) -> Self {
        Self {
            id,
            agent,
            life: Life::Running,
            generation: 0,
            inbox: Vec::new(),
            actor: Actor::restarted(id, 0),
            epoch: 1,
            clean: false,
            incarnation: Incarnation(1),
            store_id,
            inventory: None,
            progress: BTreeMap::new(),
            worker: Worker::new(id, [], 0),
            store: Store::default(),
            flush_at: Mono(0),
            durable: 0,
            waiting: Vec::new(),
            view: FailureView::new(),
            schedule: HintSchedule::new(),
            deliveries: BTreeMap::new(),
            calls: BTreeMap::new(),
            gets: BTreeMap::new(),
            puts: BTreeMap::new(),
            catch_ups: BTreeMap::new(),
            memory: PutMemory::default(),
            taken: BTreeSet::new(),
            skew_ms,
        }
    }

    /// The processes are gone: everything but the disks is lost.
    pub(super) fn stop(&mut self) {
        self.life = Life::Down;
        self.generation += 1;
        self.inbox.clear();
        self.durable = self.store.last_ticket();
        self.waiting.clear();
        self.view = FailureView::new();
        self.schedule = HintSchedule::new();
        self.deliveries.clear();
        self.calls.clear();
        self.gets.clear();
        self.puts.clear();
        self.catch_ups.clear();
        self.agent.stop();
        self.restart_worker();
    }

    /// The worker dies, and another begins with what is on the disk.
    pub(super) fn restart_worker(&mut self) {
        self.worker = Worker::new(self.id, self.progress.clone(), self.worker.life + 1);
    }

    /// A new process on the same store.
    pub(super) fn start(&mut self, now: Mono, keeps_epoch: bool) {
        self.life = Life::Running;
        self.actor = if self.clean || keeps_epoch {
            Actor::resumed(self.id, self.epoch)
        } else {
            Actor::restarted(self.id, self.epoch)
        };
        self.epoch = self.actor.id().epoch;
        self.clean = false;
        self.incarnation = Incarnation(self.incarnation.0 + 1);
        let form = self.inventory.take().map(|inventory| inventory.encode());
        self.inventory = form
            .map(|form| Inventory::decode(&form).expect("what this build has written it can read"));
        let owed: Vec<NodeId> = self.store.hints().map(|(target, _)| target).collect();
        for target in owed {
            self.schedule.noted(target, now);
        }
    }

    /// A new, empty disk under the storage process, which must be down. The agent's disk, and with
    /// it the id of the node, is another one and stays; the epoch is lost with the disk, so the
    /// store begins beyond any that an earlier one can have used.
    pub(super) fn wipe(&mut self, store_id: StoreId, epoch: u64) {
        self.store.wipe();
        self.store_id = store_id;
        self.incarnation = Incarnation(0);
        self.inventory = None;
        self.clean = false;
        self.epoch = epoch;
    }
}

/// The context that the put's client presented.
pub(super) fn before(run: &PutRun) -> Option<&CausalContext> {
    run.command.context.as_ref()
}
