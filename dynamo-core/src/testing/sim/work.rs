//! What background workers ask of a simulated storage node, be it their own or a peer's: what it
//! has of the partitions, pages of them, digests, keys and records, and merges.

use crate::actor::Custody;
use crate::clock::digest::RecordDigest;
use crate::clock::record::Record;
use crate::id::{NodeId, PartitionId, StoreId};
use crate::key::ObjectKey;
use crate::merkle::exchange::{MergeAnswer, ReadAnswer, RecordRead, Side};
use crate::merkle::{KeyEntry, Leaf, Prefix, TreeDigest, scan_order};
use crate::params::Durability;
use crate::reap::candidate::dead_since;
use crate::ring::RingVersion;
use crate::testing::sim::founding::{CLASS, PARTITIONS, key_of, object, partition_of};
use crate::testing::sim::network::{Endpoint, Reply};
use crate::testing::sim::node::{Node, Then};
use crate::testing::sim::store::{Key, Ticket};
use crate::testing::sim::world::World;
use crate::transfer::Ticket as MoveTicket;
use crate::wire::partition::{Page, PartitionInfo, PartitionsDocument};
use crate::wire::reap::{ReapCheckAnswer, ReapItem, ReapResult};
use crate::wire::tree::TreeState;

/// Keys in one page of keys; small, so that there are several.
const KEYS_PAGE: usize = 2;

/// Records in one page of a partition.
const RECORDS_PAGE: usize = 1;

/// A request of a worker.
#[derive(Debug, Clone)]
pub(super) enum Work {
    Document,
    Page { partition: PartitionId, for_node: NodeId, after: Option<ObjectKey> },
    Digests { class: u8, prefixes: Vec<Prefix> },
    Keys { class: u8, leaves: Vec<Leaf>, after: Option<ObjectKey> },
    Records(Vec<RecordRead>),
    Merge { records: Vec<(ObjectKey, Record)>, ring: RingVersion },
    ReapCheck(Vec<ObjectKey>),
    Reap { ring: RingVersion, items: Vec<ReapItem> },
}

#[derive(Debug, Clone)]
pub(super) enum WorkAnswer {
    Document(Box<PartitionsDocument>),
    Page(Box<Page>),
    Digests {
        ring: RingVersion,
        store: StoreId,
        digests: Vec<TreeDigest>,
    },
    Keys {
        keys: Vec<KeyEntry>,
        next: Option<ObjectKey>,
    },
    Records(Vec<ReadAnswer>),
    Merged(Vec<MergeAnswer>),
    Checked(ReapCheckAnswer),
    Reaped(Vec<ReapResult>),
    /// It was not done, or nobody answered.
    Refused,
}

/// What a worker asked for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Job {
    /// What a peer has; `life`: that of the worker.
    Offer { life: u64, node: NodeId },
    /// A step of a partition on the move.
    Move { life: u64, ticket: MoveTicket },
    /// A step of an exchange.
    Exchange { id: u64, side: Side },
    /// A step of a round of reaping, at a node.
    Reap { id: u64, node: NodeId },
}

impl Node {
    /// Whether a record of `key` belongs here.
    pub(super) fn accepts(&self, key: Key) -> bool {
        let inventory = self.inventory.as_ref();
        inventory.is_some_and(|inventory| inventory.accepts(partition_of(key), CLASS))
    }

    /// Whether everything of the partition of `key` is here.
    pub(super) fn confirms(&self, key: Key) -> bool {
        let inventory = self.inventory.as_ref();
        inventory.is_some_and(|inventory| inventory.confirms(partition_of(key), CLASS))
    }

    /// Whether the partition of `key` is being given up.
    pub(super) fn gives_up(&self, key: Key) -> bool {
        let inventory = self.inventory.as_ref();
        let leftover = inventory.is_some_and(|inventory| inventory.is_leftover(partition_of(key)));
        leftover && !self.accepts(key)
    }

    pub(super) fn custody(&self, key: Key) -> Custody {
        if self.confirms(key) { Custody::Held } else { Custody::Arriving }
    }

    /// Whether something is here that others are to get.
    pub(super) fn has_leftovers(&self) -> bool {
        let inventory = self.inventory.as_ref();
        let left = inventory.is_some_and(|i| PARTITIONS.iter().any(|p| i.is_leftover(p)));
        left || self.store.hints().next().is_some()
    }

    /// What it says of its partitions, if it knows a ring.
    pub(super) fn document(&self) -> Option<PartitionsDocument> {
        let (view, inventory) = (self.agent.view.as_ref()?, self.inventory.as_ref()?);
        let info = |partition| PartitionInfo {
            partition,
            wanted: view.wants(self.id, partition),
            held_from: inventory.held_from(partition),
            leftover: inventory.is_leftover(partition),
            records: None,
        };
        let some = |info: &PartitionInfo| info.wanted || info.held_from.is_some() || info.leftover;
        Some(PartitionsDocument {
            ring: view.version(),
            store: self.store_id,
            epoch: self.actor.id().epoch,
            tree: TreeState::Built,
            partitions: PARTITIONS.iter().map(info).filter(some).collect(),
        })
    }
}

impl World {
    pub(super) fn serve_work(&mut self, at: usize, from: Endpoint, call: u64, work: Work) {
        match self.do_work(at, work) {
            (answer, None) => self.reply(at, from, call, Reply::Work(answer)),
            (answer, Some(ticket)) => {
                self.when_durable(at, ticket, Then::Reply { to: from, call, answer });
            }
        }
    }

    /// Does what a worker asks. With a ticket, the answer waits until that is durable.
    pub(super) fn do_work(&mut self, at: usize, work: Work) -> (WorkAnswer, Option<Ticket>) {
        let Some(document) = self.nodes[at].document() else {
            return (WorkAnswer::Refused, None);
        };
        let answer = match work {
            Work::Document => WorkAnswer::Document(Box::new(document)),
            Work::Page { partition, for_node, after } => {
                let page = self.page(at, partition, for_node, after.as_ref());
                WorkAnswer::Page(Box::new(page))
            }
            Work::Digests { class, prefixes } => {
                let tree = self.nodes[at].store.tree();
                let digests = prefixes.iter().map(|prefix| tree.digest(class, *prefix)).collect();
                WorkAnswer::Digests { ring: document.ring, store: document.store, digests }
            }
            Work::Keys { class, leaves, after } => {
                let is_asked = |object: &ObjectKey| {
                    class == CLASS && leaves.contains(&Leaf::of(object.position()))
                };
                let (keys, next) = self.scan(at, is_asked, after.as_ref(), KEYS_PAGE);
                WorkAnswer::Keys { keys, next }
            }
            Work::Records(reads) => {
                let answers = reads.iter().map(|read| self.read_stored(at, read)).collect();
                WorkAnswer::Records(answers)
            }
            Work::ReapCheck(objects) => self.reap_check(at, &objects),
            Work::Reap { ring, items } => {
                let answer = self.reap_items(at, ring, &items);
                return (answer, Some(self.nodes[at].store.last_ticket()));
            }
            Work::Merge { records, ring } => {
                let answers = self.merge_all(at, records, ring);
                return (WorkAnswer::Merged(answers), Some(self.nodes[at].store.last_ticket()));
            }
        };
        (answer, None)
    }

    /// The readable keys of the records that are asked for, in the order of a scan.
    fn scan(
        &mut self,
        at: usize,
        is_asked: impl Fn(&ObjectKey) -> bool,
        after: Option<&ObjectKey>,
        most: usize,
    ) -> (Vec<KeyEntry>, Option<ObjectKey>) {
        let is_after = |object: &ObjectKey| after.is_none_or(|a| scan_order(a, object).is_lt());
        let mut keys: Vec<Key> = self.nodes[at].store.keys().collect();
        keys.retain(|key| is_asked(object(*key)) && is_after(object(*key)));
        keys.sort_by(|a, b| scan_order(object(*a), object(*b)));
        let next = keys.get(most.saturating_sub(1)).filter(|_| keys.len() > most);
        let next = next.map(|key| object(*key).clone());
        keys.truncate(most);
        let now = self.wall(at);
        let mut entries = Vec::with_capacity(keys.len());
        for key in keys {
            if let Ok(record) = self.load(at, key) {
                entries.push(KeyEntry {
                    object: object(key).clone(),
                    digest: RecordDigest::of(&record),
                    dead_since: dead_since(&record, now),
                });
            }
        }
        (entries, next)
    }

    fn page(
        &mut self,
        at: usize,
        partition: PartitionId,
        for_node: NodeId,
        after: Option<&ObjectKey>,
    ) -> Page {
        let view = self.nodes[at].agent.view.clone();
        let is_asked = |object: &ObjectKey| {
            PARTITIONS.of(object.position()) == partition
                && view.as_ref().is_some_and(|v| v.needs(for_node, partition, object.bucket()))
        };
        let (keys, next) = self.scan(at, is_asked, after, RECORDS_PAGE);
        let node = &self.nodes[at];
        let record = |entry: KeyEntry| {
            let record = node.store.peek(key_of(&entry.object)?);
            Some((entry.object, record))
        };
        Page {
            ring: node.agent.version(),
            store: node.store_id,
            records: keys.into_iter().filter_map(record).collect(),
            unreadable: 0,
            next,
        }
    }

    /// Hints kept for others do not count.
    fn read_stored(&mut self, at: usize, read: &RecordRead) -> ReadAnswer {
        let Some(key) = key_of(&read.object) else { return ReadAnswer::Absent };
        match self.load(at, key) {
            Err(()) => ReadAnswer::Refused,
            Ok(record) if record.is_empty() => ReadAnswer::Absent,
            Ok(record) if read.unless == Some(RecordDigest::of(&record)) => ReadAnswer::Same,
            Ok(record) => ReadAnswer::Record(record),
        }
    }

    fn merge_all(
        &mut self,
        at: usize,
        records: Vec<(ObjectKey, Record)>,
        ring: RingVersion,
    ) -> Vec<MergeAnswer> {
        let mut answers = Vec::with_capacity(records.len());
        for (object, record) in records {
            let key = key_of(&object).filter(|key| self.takes(at, *key, ring));
            answers.push(match key {
                Some(key) => {
                    self.merge(at, key, &record, Durability::Fsync);
                    MergeAnswer::Merged
                }
                None => MergeAnswer::Refused,
            });
        }
        answers
    }

    /// Whether a replica of `key` is this node's to take (I-27). A sender with a newer ring may know
    /// better; any other must not leave data where nobody will look for it.
    pub(super) fn takes(&self, at: usize, key: Key, senders: RingVersion) -> bool {
        let node = &self.nodes[at];
        senders.number > node.agent.version().number || node.accepts(key)
    }
}
