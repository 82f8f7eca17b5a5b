//! Hosts with stores in memory, each with a mover that is driven effect by effect. All stores learn
//! of a ring at once; what they advertise is heard later ([`World::gossip`]), and workers lag.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use dynamo_core::actor::{Actor, Custody};
use dynamo_core::clock::dot::Dot;
use dynamo_core::clock::record::Record;
use dynamo_core::cluster_view::{Addresses, ClusterView, MemberStatus, NodeInfo, RingSnapshot};
use dynamo_core::entropy::{Entropy, SplitMix};
use dynamo_core::id::{ClusterId, Incarnation, NodeId, PartitionId, StoreId};
use dynamo_core::key::ObjectKey;
use dynamo_core::merkle::exchange::{ExchangeMode, ExchangeWitness};
use dynamo_core::params::{BucketProps, Reconciliation};
use dynamo_core::put_memory::PutsOf;
use dynamo_core::replica::{coordinate_put_in, merge_in};
use dynamo_core::ring::{Partitions, RingVersion};
use dynamo_core::testing::values::{node, put};
use dynamo_core::time::{Mono, WallMs};
use dynamo_core::transfer::{Inventory, MoveEffect, MoveEvent, Mover, Progress};
use dynamo_core::wire::partition::{Page, PartitionInfo, PartitionsDocument};
use dynamo_core::wire::ring::RING_FORMAT;
use dynamo_core::wire::tree::TreeState;

pub(crate) const Q: u32 = 4;
pub(crate) const W: usize = 2;
const PAGE: usize = 2;
const WALL: WallMs = WallMs(1_700_000_000_000);

pub(crate) struct Host {
    pub(crate) id: NodeId,
    pub(crate) store: StoreId,
    pub(crate) inventory: Inventory,
    pub(crate) records: BTreeMap<ObjectKey, Record>,
    actor: Actor,
    pub(crate) up: bool,
    pub(crate) mover: Mover,
    pub(crate) disk: BTreeMap<PartitionId, Progress>,
}

pub(crate) struct World {
    pub(crate) rng: SplitMix,
    pub(crate) hosts: Vec<Host>,
    /// Owner of each partition as an index into the hosts.
    pub(crate) owners: Vec<usize>,
    pub(crate) view: Arc<ClusterView>,
    number: u64,
    buckets: BTreeMap<String, BucketProps>,
    pub(crate) queue: VecDeque<(usize, MoveEffect)>,
    pub(crate) now: Mono,
    heard_at: Mono,
    pub(crate) acked: BTreeMap<ObjectKey, BTreeSet<Dot>>,
    next_put: u128,
}

pub(crate) fn partitions() -> Partitions {
    Partitions::new(Q).unwrap()
}

fn props(n: u8) -> BucketProps {
    let quorum = u8::from(n > 1) + 1;
    BucketProps { n, r: quorum.into(), w: quorum.into(), ..BucketProps::default() }
}

impl World {
    /// `count` hosts, of which those in `owners` founded the cluster. Two buckets: `three` with
    /// three copies, `two` with two.
    pub(crate) fn new(seed: u64, count: usize, owners: &[usize]) -> Self {
        let id = |index: usize| node(index as u128);
        let hosts = (0..count).map(|index| Host {
            id: id(index),
            store: StoreId(index as u128 + 1),
            inventory: Inventory::empty(partitions()),
            records: BTreeMap::new(),
            actor: Actor::restarted(id(index), 0),
            up: true,
            mover: Mover::new(id(index), []),
            disk: BTreeMap::new(),
        });
        let hosts: Vec<Host> = hosts.collect();
        let buckets = BTreeMap::from([("two".to_owned(), props(2))]);
        let view = Arc::new(view_of(&hosts, owners, 1, &buckets));
        let mut world = Self {
            rng: SplitMix::new(seed),
            hosts,
            owners: owners.to_vec(),
            view,
            number: 1,
            buckets,
            queue: VecDeque::new(),
            now: Mono::default().plus(Duration::from_secs(1)),
            heard_at: Mono::default(),
            acked: BTreeMap::new(),
            next_put: 1,
        };
        for host in &mut world.hosts {
            host.inventory = Inventory::founding(&world.view, host.id);
        }
        world.gossip();
        world
    }

    pub(crate) fn pick(&mut self, bound: usize) -> usize {
        usize::try_from(self.rng.below(bound as u64)).unwrap()
    }

    fn index(&self, id: NodeId) -> usize {
        self.hosts.iter().position(|host| host.id == id).unwrap()
    }

    /// Everybody hears what everybody holds.
    pub(crate) fn gossip(&mut self) {
        self.heard_at = self.now;
        self.see();
    }

    fn see(&mut self) {
        self.view = Arc::new(view_of(&self.hosts, &self.owners, self.number, &self.buckets));
        for host in &mut self.hosts {
            let adopted = host.inventory.adopt(&self.view, host.id);
            if adopted.gained {
                let _ended = host.actor.on_loss(0);
            }
        }
    }

    /// The ring changes.
    pub(crate) fn change(&mut self, owners: &[usize]) {
        self.owners = owners.to_vec();
        self.number += 1;
        self.see();
    }

    /// Time passes; gossip is never later than five seconds.
    pub(crate) fn pass(&mut self, time: Duration) {
        self.now = self.now.plus(time);
        if self.now.since(self.heard_at) >= Duration::from_secs(5) {
            self.gossip();
        }
    }

    pub(crate) fn document(&self, at: usize) -> PartitionsDocument {
        let host = &self.hosts[at];
        let info = |partition: PartitionId| PartitionInfo {
            partition,
            wanted: self.view.wants(host.id, partition),
            held_from: host.inventory.held_from(partition),
            leftover: host.inventory.is_leftover(partition),
            records: None,
        };
        let has = |info: &PartitionInfo| info.wanted || info.held_from.is_some() || info.leftover;
        PartitionsDocument {
            ring: self.view.version(),
            store: host.store,
            epoch: host.actor.id().epoch,
            tree: TreeState::Built,
            partitions: partitions().iter().map(info).filter(has).collect(),
        }
    }

    /// A worker looks around and says what it does next.
    pub(crate) fn poll(&mut self, at: usize) {
        let document = self.hosts[at].up.then(|| self.document(at));
        let up: BTreeSet<NodeId> =
            self.hosts.iter().filter(|host| host.up).map(|host| host.id).collect();
        let host = &mut self.hosts[at];
        host.mover.on_view(Arc::clone(&self.view));
        if let Some(document) = document {
            host.mover.on_own(document);
        }
        let effects = host.mover.poll(self.now, |node| up.contains(&node));
        self.queue.extend(effects.into_iter().map(|effect| (at, effect)));
    }

    /// The answer reaches the worker.
    pub(crate) fn deliver(&mut self, at: usize, event: MoveEvent) {
        let effects = self.hosts[at].mover.on_event(event, self.now, &mut self.rng);
        self.queue.extend(effects.into_iter().map(|effect| (at, effect)));
    }

    /// The worker dies and comes back with what is on its disk.
    pub(crate) fn crash_worker(&mut self, at: usize) {
        self.queue.retain(|(host, _)| *host != at);
        let host = &mut self.hosts[at];
        host.mover = Mover::new(host.id, host.disk.clone());
    }

    /// The store is replaced by an empty one.
    pub(crate) fn wipe(&mut self, at: usize) {
        let host = &mut self.hosts[at];
        host.store = StoreId(host.store.0 + 1_000);
        host.records.clear();
        host.inventory = Inventory::empty(partitions());
        let _adopted = host.inventory.adopt(&self.view, host.id);
        host.actor = Actor::restarted(host.id, host.actor.id().epoch);
        self.gossip();
    }

    /// Anti-entropy between all owners.
    pub(crate) fn equalize(&mut self) {
        for object in self.acked.keys().cloned().collect::<Vec<_>>() {
            let partition = partitions().of(object.position());
            let all = self.hosts.iter().filter_map(|host| host.records.get(&object));
            let all = all.fold(Record::default(), |all, record| all.sync(record));
            for at in 0..self.hosts.len() {
                if self.view.needs(self.hosts[at].id, partition, object.bucket()) {
                    assert!(self.merge(at, &object, &all), "it needs it");
                }
            }
        }
    }

    /// Does what the worker asks for; `None` for what is not answered.
    pub(crate) fn perform(&mut self, at: usize, effect: MoveEffect) -> Option<MoveEvent> {
        let up = self.hosts[at].up;
        let failed = |ticket| MoveEvent::Failed { ticket, reason: "no answer".to_owned() };
        Some(match effect {
            MoveEffect::AskOffer { node } => {
                let peer = self.index(node);
                let document = self.hosts[peer].up.then(|| self.document(peer));
                MoveEvent::Offer { node, document }
            }
            MoveEffect::Fetch { ticket, source, after } => {
                let peer = self.index(source);
                if !self.hosts[peer].up {
                    return Some(failed(ticket));
                }
                let page = self.page(peer, at, ticket.partition, after.as_ref());
                MoveEvent::Page { ticket, page }
            }
            MoveEffect::Merge { ticket, records } => {
                if !up || !self.view.wants(self.hosts[at].id, ticket.partition) {
                    return Some(failed(ticket));
                }
                let mut merged = true;
                for (object, record) in records {
                    merged &= self.merge(at, &object, &record);
                }
                if merged { MoveEvent::Merged { ticket } } else { failed(ticket) }
            }
            MoveEffect::Checkpoint { ticket, progress } => {
                let stored = Progress::decode(&progress.encode()).unwrap();
                self.hosts[at].disk.insert(ticket.partition, stored);
                MoveEvent::Saved { ticket }
            }
            MoveEffect::Compare { ticket, peer, classes, mode } => {
                let peer = self.index(peer);
                if !up || !self.hosts[peer].up {
                    return Some(failed(ticket));
                }
                let equal = self.compare(at, peer, ticket.partition, &classes, mode);
                let witness = ExchangeWitness {
                    ring: self.view.version(),
                    near: self.hosts[at].store,
                    far: self.hosts[peer].store,
                };
                MoveEvent::Compared { ticket, agreed: equal.then_some(witness) }
            }
            MoveEffect::Hold { ticket, ring } => {
                let done = up
                    && ring == self.view.version()
                    && self.hosts[at].inventory.hold(ticket.partition).is_ok();
                if done { MoveEvent::Done { ticket } } else { failed(ticket) }
            }
            MoveEffect::Release { ticket, ring } => {
                let done = up
                    && ring == self.view.version()
                    && self.hosts[at].inventory.release(ticket.partition).is_ok();
                if done { MoveEvent::Done { ticket } } else { failed(ticket) }
            }
            MoveEffect::Drop { ticket, ring } => {
                if !up || ring != self.view.version() {
                    return Some(failed(ticket));
                }
                match self.drop_page(at, ticket.partition) {
                    Some((done, dropped)) => MoveEvent::Dropped { ticket, done, dropped },
                    None => failed(ticket),
                }
            }
            MoveEffect::Forget { partition } => {
                self.hosts[at].disk.remove(&partition);
                return None;
            }
        })
    }

    fn n(&self, object: &ObjectKey) -> u8 {
        self.view.bucket(object.bucket()).n
    }

    fn keys(&self, at: usize, partition: PartitionId) -> Vec<ObjectKey> {
        let here = |object: &&ObjectKey| partitions().of(object.position()) == partition;
        self.hosts[at].records.keys().filter(here).cloned().collect()
    }

    fn page(
        &self,
        source: usize,
        target: usize,
        partition: PartitionId,
        after: Option<&ObjectKey>,
    ) -> Page {
        let mut keys = self.keys(source, partition);
        keys.sort_by(dynamo_core::merkle::scan_order);
        keys.retain(|key| {
            after.is_none_or(|after| dynamo_core::merkle::scan_order(after, key).is_lt())
        });
        let next = keys.get(PAGE - 1).filter(|_| keys.len() > PAGE).cloned();
        keys.truncate(PAGE);
        let target = self.hosts[target].id;
        keys.retain(|key| self.view.needs(target, partition, key.bucket()));
        let host = &self.hosts[source];
        let records = keys.iter().map(|key| (key.clone(), host.records[key].clone())).collect();
        Page { ring: self.view.version(), store: host.store, records, unreadable: 0, next }
    }

    /// False where it is refused.
    fn merge(&mut self, at: usize, object: &ObjectKey, incoming: &Record) -> bool {
        let n = self.n(object);
        let host = &mut self.hosts[at];
        let partition = partitions().of(object.position());
        if !host.inventory.accepts(partition, n) {
            return false;
        }
        let held = host.inventory.confirms(partition, n);
        let custody = if held { Custody::Held } else { Custody::Arriving };
        let local = host.records.get(object).cloned().unwrap_or_default();
        let siblings = Reconciliation::Siblings;
        let merged =
            merge_in(&local, incoming, host.actor.id(), custody, siblings, PutsOf::default(), WALL);
        assert_eq!(merged.lost_epoch, None, "nothing was lost, whatever moved");
        host.records.insert(object.clone(), merged.record);
        true
    }

    fn compare(
        &mut self,
        near: usize,
        far: usize,
        partition: PartitionId,
        classes: &[u8],
        mode: ExchangeMode,
    ) -> bool {
        let mut equal = true;
        let mut all: BTreeSet<ObjectKey> =
            [near, far].iter().flat_map(|at| self.keys(*at, partition)).collect();
        all.retain(|object| classes.contains(&self.n(object)));
        for object in all {
            let of = |at: usize| self.hosts[at].records.get(&object).cloned();
            let (mine, theirs) = (of(near), of(far));
            if let Some(mine) = mine {
                equal &= self.merge(far, &object, &mine);
            }
            if let Some(theirs) = theirs.filter(|_| mode == ExchangeMode::Both) {
                equal &= self.merge(near, &object, &theirs);
            }
        }
        equal
    }

    fn drop_page(&mut self, at: usize, partition: PartitionId) -> Option<(bool, u64)> {
        let below = self.hosts[at].inventory.may_drop(partition).ok()?;
        // I-23: whoever is to have it holds it, in its own words, before anything is deleted.
        for owner in self.view.wanting(partition) {
            if *owner != self.hosts[at].id {
                let need = self.view.needs_from(*owner, partition).unwrap();
                let concerns = |n: &u8| *n >= need && below.is_none_or(|below| *n < below);
                if !self.view.classes().iter().any(concerns) {
                    continue;
                }
                let held = self.hosts[self.index(*owner)].inventory.held_from(partition);
                assert!(held.is_some_and(|held| held <= need), "{owner} does not hold it");
            }
        }
        let mut keys = self.keys(at, partition);
        keys.retain(|key| below.is_none_or(|below| self.n(key) < below));
        let done = keys.len() <= PAGE;
        keys.truncate(PAGE);
        for key in &keys {
            self.hosts[at].records.remove(key);
        }
        if done {
            self.hosts[at].inventory.dropped(partition);
        }
        Some((done, keys.len() as u64))
    }

    /// A blind put; what is acknowledged is written down.
    pub(crate) fn write(&mut self, object: &ObjectKey) {
        let partition = partitions().of(object.position());
        let sets = self.view.replica_sets(object.position(), self.n(object));
        let targets: Vec<usize> =
            sets.write_targets().into_iter().map(|node| self.index(node)).collect();
        let live: Vec<usize> = targets.into_iter().filter(|at| self.hosts[*at].up).collect();
        let coordinators: Vec<usize> =
            live.iter().copied().filter(|at| sets.owners.contains(&self.hosts[*at].id)).collect();
        if coordinators.is_empty() {
            return;
        }
        let coordinator = coordinators[self.pick(coordinators.len())];
        let command = put(self.next_put, None);
        self.next_put += 1;
        let n = self.n(object);
        let host = &mut self.hosts[coordinator];
        let held = host.inventory.confirms(partition, n);
        let custody = if held { Custody::Held } else { Custody::Arriving };
        let local = host.records.get(object).cloned().unwrap_or_default();
        if local.sibling_count() > 60 {
            return;
        }
        let minted =
            coordinate_put_in(&local, &command, &mut host.actor, custody, PutsOf::default(), WALL)
                .unwrap();
        host.records.insert(object.clone(), minted.record);
        let mut got = BTreeSet::from([self.hosts[coordinator].id]);
        for at in live.into_iter().filter(|at| *at != coordinator) {
            if self.rng.chance(2, 3) && self.merge(at, object, &minted.delta) {
                got.insert(self.hosts[at].id);
            }
        }
        let reached = |set: &Vec<NodeId>| {
            set.len() >= W && set.iter().filter(|node| got.contains(node)).count() >= W
        };
        if sets.write_sets().iter().all(reached) {
            self.acked.entry(object.clone()).or_default().insert(minted.dot);
        }
    }

    /// I-22: whichever two holders (R = 2) a reader asks, it sees every acknowledged write, or one of them
    /// says that it cannot tell.
    pub(crate) fn check_reads(&self) {
        for (object, dots) in &self.acked {
            let partition = partitions().of(object.position());
            let n = self.n(object);
            let sets = self.view.replica_sets(object.position(), n);
            assert!(!sets.owners.is_empty(), "I-21");
            let holders: Vec<usize> = sets.holders.iter().map(|node| self.index(*node)).collect();
            for (place, first) in holders.iter().enumerate() {
                for second in &holders[place + 1..] {
                    let asked = [*first, *second];
                    let knows = |at: &usize| self.hosts[*at].inventory.confirms(partition, n);
                    if !asked.iter().all(knows) {
                        continue;
                    }
                    let seen = asked.iter().fold(Record::default(), |all, at| {
                        all.sync(&self.hosts[*at].records.get(object).cloned().unwrap_or_default())
                    });
                    for dot in dots {
                        assert!(
                            seen.sibling(dot).is_some(),
                            "{dot} of {object:?} ({partition:?}, n {n}) missed by {asked:?}"
                        );
                    }
                }
            }
        }
    }

    /// Runs without faults until nobody has anything to do.
    pub(crate) fn settle(&mut self) {
        self.hosts.iter_mut().for_each(|host| host.up = true);
        for _ in 0..2_000 {
            while let Some((at, effect)) = self.queue.pop_front() {
                if let Some(event) = self.perform(at, effect) {
                    self.deliver(at, event);
                }
            }
            self.pass(Duration::from_secs(1));
            (0..self.hosts.len()).for_each(|at| self.poll(at));
            let moving = self
                .hosts
                .iter()
                .any(|host| partitions().iter().any(|partition| host.mover.is_moving(partition)));
            if self.queue.is_empty() && !moving {
                return;
            }
        }
        let documents: Vec<_> =
            self.hosts.iter().map(|host| host.mover.document(false, self.now)).collect();
        panic!("still moving: {documents:#?}");
    }

    /// What must hold when everything is at its place.
    pub(crate) fn check_settled(&mut self) {
        self.gossip();
        self.check_reads();
        for host in &self.hosts {
            for partition in partitions().iter() {
                let need = self.view.needs_from(host.id, partition);
                assert_eq!(host.inventory.held_from(partition).is_some(), need.is_some());
                assert!(!host.inventory.is_leftover(partition));
                assert!(host.disk.is_empty(), "progress is forgotten when it is over");
            }
            for object in host.records.keys() {
                let partition = partitions().of(object.position());
                assert!(
                    self.view.needs(host.id, partition, object.bucket()),
                    "{} keeps {object:?}, which it does not need",
                    host.id
                );
            }
        }
        for (object, dots) in &self.acked {
            let partition = partitions().of(object.position());
            let owners = self.view.ring().preference_list(partition).primaries(self.n(object));
            let all = owners.iter().fold(Record::default(), |all, owner| {
                let host = &self.hosts[self.index(*owner)];
                all.sync(&host.records.get(object).cloned().unwrap_or_default())
            });
            for dot in dots {
                assert!(all.sibling(dot).is_some(), "{dot} of {object:?} is lost");
            }
        }
    }
}

fn view_of(
    hosts: &[Host],
    owners: &[usize],
    number: u64,
    buckets: &BTreeMap<String, BucketProps>,
) -> ClusterView {
    let info = |(index, host): (usize, &Host)| {
        let advertised = host.inventory.advertised();
        let is_member = owners.contains(&index);
        let status = if is_member { MemberStatus::Member } else { MemberStatus::Leaving };
        NodeInfo {
            id: host.id,
            name: format!("n{index}"),
            zone: None,
            weight: 100,
            addresses: Addresses::default(),
            status,
            incarnation: Incarnation(1),
            holds: (!advertised.is_empty()).then_some(advertised),
            store_id: Some(host.store),
            founding_store: None,
            epoch: 1,
        }
    };
    let index = |owner: &usize| Some(u32::try_from(*owner).unwrap());
    ClusterView::from_snapshot(RingSnapshot {
        format: RING_FORMAT,
        cluster: ClusterId(1),
        version: RingVersion { number, hash: number },
        partitions: partitions(),
        spacing: 3,
        nodes: hosts.iter().enumerate().map(info).collect(),
        owners: owners.iter().map(index).collect(),
        defaults: props(3),
        buckets: buckets.clone(),
    })
    .unwrap()
}

/// Objects of both buckets, several in each partition.
pub(crate) fn objects() -> Vec<ObjectKey> {
    let mut objects = Vec::new();
    for bucket in ["three", "two"] {
        objects.extend((0..12).map(|key| ObjectKey::parse(bucket, &format!("k{key}")).unwrap()));
    }
    objects
}
