//! Who can give a partition, and whose agreement is needed before it counts as held.
//!
//! What nodes advertise says where to ask; what a store says itself, under the same ring, decides.
//! A holder that cannot be reached is not waited for as long as most holders agree: its node may
//! never come back, and a node that takes its place must be able to. What only that store has it
//! still gives to the owners when it comes back, before it gives up its copy.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::cluster_view::ClusterView;
use crate::id::{NodeId, PartitionId};
use crate::time::Mono;
use crate::wire::partition::PartitionsDocument;

/// How long an offer is good for.
const OFFER_FRESH: Duration = Duration::from_secs(10);

/// How soon a node is asked again that did not answer, or answered under another ring.
const OFFER_RETRY: Duration = Duration::from_secs(1);

/// What a node said that it has.
#[derive(Debug)]
struct Offer {
    at: Mono,
    /// `None` where it did not answer.
    document: Option<PartitionsDocument>,
}

/// What the nodes said that they have, and who is being asked.
#[derive(Debug, Default)]
pub struct Offers {
    by_node: BTreeMap<NodeId, Offer>,
    asked: BTreeSet<NodeId>,
}

/// What is known of one node and one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Said {
    /// It holds it from this depth, or not at all.
    Holds(Option<u8>),
    /// It was asked and did not answer, or works with another ring.
    Nothing,
    /// It must be asked.
    Unasked,
}

/// Who has a partition as far as it is needed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Holders {
    /// Nodes that said so, with the depth from which they hold it.
    pub known: Vec<(NodeId, u8)>,
    /// Nodes that advertise it and cannot be asked now.
    pub silent: Vec<NodeId>,
    /// Nodes that must be asked before anything can be said.
    pub unasked: Vec<NodeId>,
}

impl Holders {
    /// Whether the agreement of `agreed` is enough: everyone who can be asked, and the most of all.
    #[must_use]
    pub fn suffice(&self, agreed: &BTreeSet<NodeId>) -> bool {
        let all = self.known.len() + self.silent.len();
        let known = self.known.iter().all(|(node, _)| agreed.contains(node));
        known && self.unasked.is_empty() && self.known.len() * 2 > all
    }
}

impl Offers {
    /// Notes that `node` is being asked; false where it already is.
    pub fn ask(&mut self, node: NodeId) -> bool {
        self.asked.insert(node)
    }

    /// Takes an answer, or that there was none.
    pub fn answered(&mut self, node: NodeId, document: Option<PartitionsDocument>, now: Mono) {
        self.asked.remove(&node);
        let document = document.filter(|document| document.check().is_ok());
        self.by_node.insert(node, Offer { at: now, document });
    }

    /// Forgets what was said: the ring is another one.
    pub fn clear(&mut self) {
        self.by_node.clear();
    }

    /// Number of records that `node` said it has of `partition`.
    #[must_use]
    pub fn records(&self, node: NodeId, partition: PartitionId) -> Option<u64> {
        self.by_node.get(&node)?.document.as_ref()?.get(partition)?.records
    }

    /// What `node` said, under the present ring and not long ago, that it holds.
    #[must_use]
    pub fn said(
        &self,
        view: &ClusterView,
        node: NodeId,
        partition: PartitionId,
        now: Mono,
    ) -> Said {
        let Some(offer) = self.by_node.get(&node) else { return Said::Unasked };
        let age = now.since(offer.at);
        match offer.document.as_ref().filter(|document| document.ring == view.version()) {
            Some(document) if age < OFFER_FRESH => {
                Said::Holds(document.get(partition).and_then(|info| info.held_from))
            }
            None if age < OFFER_RETRY => Said::Nothing,
            _ => Said::Unasked,
        }
    }

    /// Who has at least one of the classes in `missing` (ascending; where it is empty, nobody is
    /// needed). Nodes that are not reachable are not asked.
    #[must_use]
    pub fn holders(
        &self,
        view: &ClusterView,
        me: NodeId,
        partition: PartitionId,
        missing: &[u8],
        now: Mono,
        reachable: &impl Fn(NodeId) -> bool,
    ) -> Holders {
        let mut holders = Holders::default();
        let Some(most) = missing.last() else { return holders };
        let advertises = |node: NodeId| view.holdings().holds(node, partition);
        let mut candidates: BTreeSet<NodeId> = view.wanting(partition).iter().copied().collect();
        candidates.extend(view.holdings().holders_of(partition));
        candidates.remove(&me);
        for node in candidates {
            match (self.said(view, node, partition, now), reachable(node)) {
                (Said::Holds(held), is_reachable) => match held.filter(|from| from <= most) {
                    Some(from) if is_reachable => holders.known.push((node, from)),
                    Some(_) => holders.silent.push(node),
                    None => {}
                },
                (Said::Unasked, true) => holders.unasked.push(node),
                // It cannot be judged now; it matters only if it claims to have the partition.
                (Said::Nothing | Said::Unasked, _) if advertises(node) => holders.silent.push(node),
                (Said::Nothing | Said::Unasked, _) => {}
            }
        }
        holders
    }
}

/// The holder to copy from: one that has everything in `missing` before one that has a part, then
/// the one with the fewest partitions in work; ties are spread by a hash. `avoid` only where no
/// other is left. `None` where all of them are busy.
#[must_use]
pub fn source(
    holders: &Holders,
    partition: PartitionId,
    missing: &[u8],
    load: impl Fn(NodeId) -> usize,
    per_source_max: usize,
    avoid: Option<NodeId>,
) -> Option<NodeId> {
    let least = missing.first().copied().unwrap_or(u8::MAX);
    let free = holders.known.iter().filter(|(node, _)| load(*node) < per_source_max);
    let place = |(node, from): &(NodeId, u8)| {
        let spread = xxh3_64_with_seed(&node.0.to_be_bytes(), u64::from(partition.0));
        (Some(*node) == avoid, (*from).max(least), load(*node), spread, *node)
    };
    free.min_by_key(|holder| place(holder)).map(|(node, _)| *node)
}
