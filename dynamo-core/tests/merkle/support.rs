//! Two replicas in memory, with the shell that performs an exchange between them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::LazyLock;

use bytes::Bytes;
use dynamo_core::clock::digest::RecordDigest;
use dynamo_core::clock::dot::Dot;
use dynamo_core::clock::dvv::Dvv;
use dynamo_core::clock::hlc::Hlc;
use dynamo_core::clock::record::{Content, Record, Sibling, Value};
use dynamo_core::id::{ActorId, PutId, StoreId};
use dynamo_core::key::ObjectKey;
use dynamo_core::limits::{
    EXCHANGE_BATCH_BYTES, REPLICA_BATCH_MAX, TREE_KEYS_MAX, TREE_LEAVES_MAX, TREE_PREFIXES_MAX,
};
use dynamo_core::merkle::exchange::{
    ClassPart, Exchange, ExchangeEffect, ExchangeEvent, ExchangeMode, ExchangePlan, ExchangeResult,
    MergeAnswer, ReadAnswer, RecordRead, Side,
};
use dynamo_core::merkle::{KeyEntry, Leaf, Tree, scan_order};
use dynamo_core::ring::{Partitions, RingVersion};
use dynamo_core::testing::values::node;
use dynamo_core::time::{Mono, WallMs};
use dynamo_core::wire::tree::TreeState;

/// Partitions of the tests' ring.
pub(crate) const Q: u32 = 8;

/// The buckets, with as many copies as their names say.
const BUCKETS: [&str; 3] = ["n1", "n2", "n3"];

pub(crate) fn partitions() -> Partitions {
    Partitions::new(Q).unwrap()
}

pub(crate) fn object(bucket: &str, number: usize) -> ObjectKey {
    let key = Bytes::from(format!("key {number}"));
    ObjectKey::new(bucket.parse().unwrap(), key).unwrap()
}

/// The class of an object: N of its bucket.
pub(crate) fn class(object: &ObjectKey) -> u8 {
    object.bucket().as_str()[1..].parse().unwrap()
}

/// Objects of all classes: some alone in their leaf, some together with others.
pub(crate) static OBJECTS: LazyLock<Vec<ObjectKey>> = LazyLock::new(|| {
    let mut objects: Vec<ObjectKey> = (0..12).map(|i| object(BUCKETS[i % 3], i)).collect();
    let crowded: Vec<Leaf> = (0..2).map(|i| Leaf::of(objects[i].position())).collect();
    let more = (100..400_000).map(|i| object(BUCKETS[i % 2], i));
    objects.extend(more.filter(|o| crowded.contains(&Leaf::of(o.position()))).take(12));
    objects
});

/// One replica: its records and the tree that is kept along with them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Replica {
    pub(crate) records: BTreeMap<ObjectKey, Record>,
    pub(crate) tree: Tree,
}

impl Replica {
    pub(crate) fn set(&mut self, object: &ObjectKey, record: Option<Record>) {
        let new = record.as_ref().map(RecordDigest::of);
        let old = match record {
            Some(record) => self.records.insert(object.clone(), record),
            None => self.records.remove(object),
        };
        self.tree.change(class(object), object, old.as_ref().map(RecordDigest::of), new);
    }

    pub(crate) fn merge(&mut self, object: &ObjectKey, record: &Record) {
        let merged = self.records.get(object).map_or_else(|| record.clone(), |r| r.sync(record));
        self.set(object, Some(merged));
    }

    /// The tree as a scan of all records makes it.
    pub(crate) fn scanned(&self) -> Tree {
        let mut tree = Tree::new();
        for (object, record) in &self.records {
            tree.change(class(object), object, None, Some(RecordDigest::of(record)));
        }
        tree
    }

    fn page(
        &self,
        class_asked: u8,
        leaves: &[Leaf],
        after: Option<&ObjectKey>,
        size: usize,
    ) -> (Vec<KeyEntry>, Option<ObjectKey>) {
        let mut objects: Vec<&ObjectKey> = self
            .records
            .keys()
            .filter(|o| leaves.binary_search(&Leaf::of(o.position())).is_ok())
            .filter(|o| class(o) == class_asked)
            .filter(|o| after.is_none_or(|after| scan_order(after, o).is_lt()))
            .collect();
        objects.sort_by(|a, b| scan_order(a, b));
        let is_more = objects.len() > size;
        objects.truncate(size);
        let entry = |object: &&ObjectKey| KeyEntry {
            object: (*object).clone(),
            digest: RecordDigest::of(&self.records[*object]),
            dead_since: None,
        };
        let next = objects.last().filter(|_| is_more).map(|object| (*object).clone());
        (objects.iter().map(entry).collect(), next)
    }
}

/// One write and where it arrived at once.
#[derive(Debug, Clone)]
pub(crate) struct Write {
    pub(crate) object: usize,
    pub(crate) actor: u128,
    /// Which side the client read before, if any.
    pub(crate) read: Option<Side>,
    pub(crate) delete: bool,
    pub(crate) near: bool,
    pub(crate) far: bool,
}

/// What travelled between the sides and was asked of them.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    pub(crate) effects: usize,
    pub(crate) key_pages: usize,
    pub(crate) waits: usize,
    /// Records that the far side sent, and that either side got.
    pub(crate) far_sent: Vec<ObjectKey>,
    pub(crate) near_got: Vec<ObjectKey>,
    pub(crate) far_got: Vec<ObjectKey>,
}

impl Traffic {
    /// Objects of which a value moved from one side to the other.
    pub(crate) fn moved(&self) -> BTreeSet<ObjectKey> {
        let all = self.far_sent.iter().chain(&self.near_got).chain(&self.far_got);
        all.cloned().collect()
    }
}

/// Two replicas and all that can be wrong with them.
pub(crate) struct World {
    pub(crate) near: Replica,
    pub(crate) far: Replica,
    pub(crate) page_size: usize,
    /// Objects that the far side refuses to read and to merge.
    pub(crate) refused: BTreeSet<ObjectKey>,
    /// Payload bytes of one message.
    pub(crate) message_max: usize,
    pub(crate) rings: [RingVersion; 2],
    pub(crate) stores: [StoreId; 2],
    pub(crate) traffic: Traffic,
    pub(crate) counters: BTreeMap<(ObjectKey, u128), u64>,
    pub(crate) puts: u128,
}

impl Default for World {
    fn default() -> Self {
        Self {
            near: Replica::default(),
            far: Replica::default(),
            page_size: 3,
            refused: BTreeSet::new(),
            message_max: usize::MAX,
            rings: [RingVersion::default(); 2],
            stores: [StoreId(1), StoreId(2)],
            traffic: Traffic::default(),
            counters: BTreeMap::new(),
            puts: 0,
        }
    }
}

impl World {
    pub(crate) fn of(writes: &[Write]) -> Self {
        let mut world = Self::default();
        for write in writes {
            world.write(write);
        }
        world
    }

    pub(crate) fn side(&mut self, side: Side) -> &mut Replica {
        match side {
            Side::Near => &mut self.near,
            Side::Far => &mut self.far,
        }
    }

    pub(crate) fn write(&mut self, write: &Write) -> (ObjectKey, Record) {
        let object = OBJECTS[write.object % OBJECTS.len()].clone();
        let value = Content::Value(Value { bytes: "value".into(), ..Value::default() });
        let content = if write.delete { Content::Tombstone } else { value };
        let delta = self.delta(&object, write.actor, write.read, content);
        if write.near {
            self.near.merge(&object, &delta);
        }
        if write.far {
            self.far.merge(&object, &delta);
        }
        (object, delta)
    }

    /// A new version of `object`; a dot is never used twice.
    pub(crate) fn delta(
        &mut self,
        object: &ObjectKey,
        actor: u128,
        read: Option<Side>,
        content: Content,
    ) -> Record {
        let counter = self.counters.entry((object.clone(), actor)).or_default();
        *counter += 1;
        let dot = Dot { actor: ActorId { node: node(actor), epoch: 0 }, counter: *counter };
        let record = read.and_then(|side| self.side(side).records.get(object));
        let past = record.map_or_else(Dvv::new, |record| record.clock().clone());
        self.puts += 1;
        let stamp = Hlc::at(WallMs(u64::try_from(self.puts).unwrap()));
        Record::new(past, [Sibling { dot, put_id: PutId(self.puts), stamp, content }])
    }

    /// Everything the two have in common: all classes of all partitions.
    pub(crate) fn everything() -> Vec<ClassPart> {
        let parts = |class| partitions().iter().map(move |partition| (class, partition));
        (1..=3).flat_map(parts).collect()
    }

    pub(crate) fn part(object: &ObjectKey) -> ClassPart {
        (class(object), partitions().of(object.position()))
    }

    pub(crate) fn exchange(&mut self, mode: ExchangeMode) -> ExchangeResult {
        let plan = ExchangePlan::new(partitions(), Self::everything(), mode);
        self.run(plan, |_, _| {}, |_, event| event)
    }

    /// Runs an exchange to its end. `before` sees each effect before it is performed, `change` may
    /// replace its answer.
    pub(crate) fn run(
        &mut self,
        plan: ExchangePlan,
        mut before: impl FnMut(&mut Self, &ExchangeEffect),
        mut change: impl FnMut(usize, ExchangeEvent) -> ExchangeEvent,
    ) -> ExchangeResult {
        self.traffic = Traffic::default();
        let mut now = Mono(0);
        let (mut exchange, effects) = Exchange::start(plan, now);
        let mut queue: VecDeque<ExchangeEffect> = effects.into();
        let mut result = None;
        while let Some(effect) = queue.pop_front() {
            assert!(result.is_none(), "nothing comes after the end");
            before(self, &effect);
            if let ExchangeEffect::Wait { until } = &effect {
                assert!(*until > now);
                // Too early first: it waits on.
                let again = exchange.on_event(ExchangeEvent::Timer, now);
                assert_eq!(again, [ExchangeEffect::Wait { until: *until }]);
                now = *until;
            }
            self.traffic.effects += 1;
            match effect {
                // The other side's question may be on its way still.
                ExchangeEffect::Done(done) => {
                    assert_eq!(done.counts, exchange.counts());
                    queue.clear();
                    result = Some(done);
                }
                effect => {
                    let event = change(self.traffic.effects - 1, self.perform(effect));
                    let effects = exchange.on_event(event, now);
                    // The end comes at once, whatever else was under way.
                    if let [ExchangeEffect::Done(_)] = effects.as_slice() {
                        queue.clear();
                    }
                    queue.extend(effects);
                }
            }
        }
        assert_eq!(exchange.on_event(ExchangeEvent::Timer, now), [], "it is over");
        result.expect("an exchange whose effects are answered comes to an end")
    }

    /// Performs one effect, and checks its bounds.
    pub(crate) fn perform(&mut self, effect: ExchangeEffect) -> ExchangeEvent {
        match effect {
            ExchangeEffect::AskDigests { side, class, prefixes } => {
                assert!((1..=TREE_PREFIXES_MAX).contains(&prefixes.len()));
                let index = usize::from(side == Side::Far);
                let (ring, store) = (self.rings[index], self.stores[index]);
                let tree = &self.side(side).tree;
                let digests = prefixes.iter().map(|prefix| tree.digest(class, *prefix)).collect();
                ExchangeEvent::Digests { side, ring, store, state: TreeState::Built, digests }
            }
            ExchangeEffect::AskKeys { side, class, leaves, after } => {
                assert!((1..=TREE_LEAVES_MAX).contains(&leaves.len()));
                assert!(leaves.is_sorted_by(|a, b| a < b));
                self.traffic.key_pages += 1;
                let size = self.page_size.min(TREE_KEYS_MAX);
                let (keys, next) = self.side(side).page(class, &leaves, after.as_ref(), size);
                ExchangeEvent::Keys { side, keys, next }
            }
            ExchangeEffect::Wait { .. } => {
                self.traffic.waits += 1;
                ExchangeEvent::Timer
            }
            ExchangeEffect::ReadRecords { side, reads } => self.read(side, &reads),
            ExchangeEffect::Merge { side, records } => self.take(side, records),
            ExchangeEffect::Done(_) => unreachable!("the end is not performed"),
        }
    }

    fn read(&mut self, side: Side, reads: &[RecordRead]) -> ExchangeEvent {
        assert!((1..=REPLICA_BATCH_MAX).contains(&reads.len()));
        let (mut answers, mut sent, mut bytes) = (Vec::new(), Vec::new(), 0);
        for RecordRead { object, unless } in reads {
            let record = self.side(side).records.get(object).cloned();
            answers.push(match record {
                _ if side == Side::Far && self.refused.contains(object) => ReadAnswer::Refused,
                None => ReadAnswer::Absent,
                Some(record) if *unless == Some(RecordDigest::of(&record)) => ReadAnswer::Same,
                Some(record) => {
                    bytes += record.payload_bytes();
                    sent.push(object.clone());
                    ReadAnswer::Record(record)
                }
            });
        }
        if bytes > self.message_max {
            return ExchangeEvent::TooLarge { side };
        }
        if side == Side::Far {
            self.traffic.far_sent.extend(sent);
        }
        ExchangeEvent::Records { side, answers }
    }

    fn take(&mut self, side: Side, records: Vec<(ObjectKey, Record)>) -> ExchangeEvent {
        assert!((1..=REPLICA_BATCH_MAX).contains(&records.len()));
        let bytes: usize = records.iter().map(|(_, record)| record.payload_bytes()).sum();
        assert!(records.len() == 1 || bytes <= EXCHANGE_BATCH_BYTES);
        if bytes > self.message_max {
            return ExchangeEvent::TooLarge { side };
        }
        let mut answers = Vec::new();
        for (object, record) in records {
            if side == Side::Far && self.refused.contains(&object) {
                answers.push(MergeAnswer::Refused);
                continue;
            }
            self.side(side).merge(&object, &record);
            answers.push(MergeAnswer::Merged);
            match side {
                Side::Near => self.traffic.near_got.push(object),
                Side::Far => self.traffic.far_got.push(object),
            }
        }
        ExchangeEvent::Merged { side, answers }
    }

    /// Objects whose records differ between the sides.
    pub(crate) fn differing(&self) -> BTreeSet<ObjectKey> {
        let all = self.near.records.keys().chain(self.far.records.keys());
        let digest = |replica: &Replica, object| replica.records.get(object).map(RecordDigest::of);
        all.filter(|object| digest(&self.near, object) != digest(&self.far, object))
            .cloned()
            .collect()
    }

    /// The trees tell the truth about the records.
    pub(crate) fn check_trees(&self) {
        assert_eq!(self.near.tree, self.near.scanned(), "I-16");
        assert_eq!(self.far.tree, self.far.scanned(), "I-16");
    }

    /// A further exchange finds both sides equal, asks for roots alone and moves nothing (I-15).
    pub(crate) fn check_quiet(&mut self) {
        let result = self.exchange(ExchangeMode::Both);
        assert_eq!(result.end, dynamo_core::merkle::exchange::ExchangeEnd::Agreed);
        let quiet = (self.traffic.key_pages, self.traffic.waits, self.traffic.moved().len());
        assert_eq!(quiet, (0, 0, 0));
        assert_eq!(self.traffic.effects, 7, "the roots of three classes on two sides, and the end");
        assert_eq!(result.counts.prefixes, u64::from(Q) * 3);
        assert_eq!(result.counts.bytes_moved(), 0);
    }
}
