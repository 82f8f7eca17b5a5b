//! The cluster of a run as it is founded: one event with all founders, each of which holds its
//! share of nothing. Also the names and places of things in a run.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use bytes::Bytes;

use crate::id::{ClusterId, Incarnation, NodeId, PartitionId, StoreId};
use crate::key::ObjectKey;
use crate::limits::REPLICAS_DEFAULT;
use crate::membership::fold::Fold;
use crate::membership::history::{Change, Event, History, Joiner};
use crate::membership::member::Addresses;
use crate::membership::plan::FoundingParams;
use crate::membership::state::{NodeState, Stamp, StoreState};
use crate::membership::view::{Delta, Membership};
use crate::params::BucketProps;
use crate::ring::{PartitionSet, Partitions};
use crate::testing::sim::config::SimConfig;
use crate::testing::sim::store::Key;
use crate::testing::sim::world::{WALL_START_MS, id_of};
use crate::time::{Mono, WallMs};

/// Partitions of the simulated ring.
pub(super) const PARTITIONS: Partitions = match Partitions::new(16) {
    Ok(partitions) => partitions,
    Err(_) => panic!("16 is a power of two"),
};

/// Replicas that the ring spreads.
const SPACING: u8 = 3;

/// What the cluster is founded with.
pub(super) fn params() -> FoundingParams {
    FoundingParams { partitions: PARTITIONS, spacing: SPACING, defaults: BucketProps::default() }
}

/// Where the agent of a node listens.
pub(super) fn address(node: usize) -> String {
    format!("n{node}:7720")
}

/// Who listens at an address.
pub(super) fn endpoint_of(address: &str) -> Option<usize> {
    address.strip_prefix('n')?.strip_suffix(":7720")?.parse().ok()
}

/// N of every bucket of a run.
pub(super) const CLASS: u8 = REPLICAS_DEFAULT;

/// More than the keys of any run.
const KEYS: usize = 64;

/// The objects of all keys.
static OBJECTS: LazyLock<Vec<ObjectKey>> = LazyLock::new(|| {
    let object = |key: usize| {
        let bucket = "sim".parse().expect("a legal name");
        ObjectKey::new(bucket, Bytes::from(format!("key {key}"))).expect("a legal key")
    };
    (0..KEYS).map(object).collect()
});

/// The object of a key.
pub(super) fn object(key: Key) -> &'static ObjectKey {
    &OBJECTS[key]
}

/// The key of an object.
pub(super) fn key_of(object: &ObjectKey) -> Option<Key> {
    OBJECTS.iter().position(|known| known == object)
}

/// The partition of a key.
pub(super) fn partition_of(key: Key) -> PartitionId {
    PARTITIONS.of(object(key).position())
}

/// The first store of a node.
pub(super) fn first_store(node: usize) -> StoreId {
    StoreId(0xd15c_0000 + node as u128)
}

/// What the founding said of who holds what: the truth that no later view may contradict.
#[derive(Debug)]
pub(super) struct Founding {
    event: Event,
    shares: BTreeMap<NodeId, PartitionSet>,
}

impl Founding {
    pub(super) fn new(config: &SimConfig) -> Self {
        let params = params();
        let joins = (0..config.nodes).map(|index| {
            let state = state(index, None);
            let joiner = Joiner {
                node: state.node,
                name: state.name,
                zone: state.zone,
                weight: state.weight,
                addresses: state.addresses,
                store: Some(first_store(index)),
            };
            Change::Join { joiner }
        });
        let init = Change::Init {
            cluster: ClusterId(7),
            partitions: params.partitions,
            spacing: params.spacing,
            defaults: params.defaults,
        };
        let (id, seq) = History::new().next_id(id_of(0));
        let event = Event {
            id,
            seq,
            issued_at: WallMs(WALL_START_MS),
            parent: History::new().version(),
            changes: std::iter::once(init).chain(joins).collect(),
        };
        let mut history = History::new();
        history.insert(event.clone()).expect("a founding event opens a history");
        let fold = Fold::after(None, &event, history.version()).expect("the event founds");
        let shares = (0..config.nodes)
            .map(|index| {
                let mut share = PartitionSet::empty(PARTITIONS);
                for partition in PARTITIONS.iter() {
                    let list = fold.ring.preference_list(partition);
                    if list.is_primary(id_of(index), SPACING.max(config.n)) {
                        share.insert(partition);
                    }
                }
                (id_of(index), share)
            })
            .collect();
        Self { event, shares }
    }

    /// The partitions of which a node was a replica at the founding.
    pub(super) fn share_of(&self, node: NodeId) -> PartitionSet {
        self.shares.get(&node).cloned().unwrap_or_else(|| PartitionSet::empty(PARTITIONS))
    }

    /// What the agent of a node knows at the start: founders everything but what a late founder
    /// has not said yet, candidates nothing.
    pub(super) fn membership(&self, index: usize, config: &SimConfig) -> Membership {
        let state_of = |index: usize| {
            let share = self.share_of(id_of(index));
            let here = index < config.nodes && config.late != Some(index);
            state(index, here.then_some(share))
        };
        let mut membership = Membership::new(state_of(index), Mono(0));
        if index < config.nodes {
            let states = (0..config.nodes).map(state_of).collect();
            let delta = Delta { events: vec![self.event.clone()], states, ..Delta::default() };
            membership.apply(delta, Mono(0)).expect("a founding event fits an empty history");
        }
        membership
    }
}

fn state(index: usize, holds: Option<PartitionSet>) -> NodeState {
    let membership = Some(address(index));
    NodeState {
        node: id_of(index),
        stamp: Stamp { incarnation: Incarnation(1), life: index as u64, version: 1 },
        name: format!("n{index}"),
        zone: None,
        weight: 100,
        addresses: Addresses { membership, ..Addresses::default() },
        store: Some(StoreState {
            store_id: first_store(index),
            epoch: 1,
            incarnation: Incarnation(1),
            holds,
            leftover: false,
            bytes: None,
        }),
    }
}
