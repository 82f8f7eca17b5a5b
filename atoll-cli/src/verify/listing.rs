//! What one node lists of one stretch of the hash space.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::sync::{Mutex, PoisonError};

use atoll_client::{Cluster, Error, ListRequest, RootRequest};
use dynamo_core::id::{NodeId, PartitionId};
use dynamo_core::key::Bucket;
use dynamo_core::merkle::{KeyEntry, TreeDigest};
use dynamo_core::wire::tree::{ObjectDto, TreeState};

use crate::patience::patiently;

/// One stretch: leaves of one partition, in one class of buckets.
#[derive(Debug, Clone)]
pub(super) struct Stretch {
    pub(super) partition: PartitionId,
    pub(super) n: u8,
    pub(super) leaves: RangeInclusive<u16>,
}

/// Asks nodes, and remembers those that do not answer: they are not asked again, or a dead node
/// would be waited for at every partition.
pub(super) struct Nodes {
    pub(super) cluster: Cluster,
    silent: Mutex<BTreeMap<NodeId, String>>,
}

impl Nodes {
    pub(super) fn new(cluster: Cluster) -> Self {
        Self { cluster, silent: Mutex::default() }
    }

    /// The nodes that did not answer, and what was the matter.
    pub(super) fn silent(&self) -> BTreeMap<NodeId, String> {
        self.silent.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note<T>(&self, node: NodeId, asked: Result<T, Error>) -> Option<T> {
        asked
            .map_err(|error| {
                let mut silent = self.silent.lock().unwrap_or_else(PoisonError::into_inner);
                silent.entry(node).or_insert_with(|| error.to_string());
            })
            .ok()
    }

    fn is_silent(&self, node: NodeId) -> bool {
        self.silent.lock().unwrap_or_else(PoisonError::into_inner).contains_key(&node)
    }

    /// What each of these nodes has of a stretch, as far as they answer.
    pub(super) async fn list(
        &self,
        owners: &BTreeSet<NodeId>,
        stretch: &Stretch,
        only: Option<&Bucket>,
    ) -> BTreeMap<NodeId, Vec<KeyEntry>> {
        let mut listings = BTreeMap::new();
        for node in owners.iter().filter(|node| !self.is_silent(**node)) {
            let listed = self.list_one(*node, stretch, only).await;
            if let Some(entries) = self.note(*node, listed) {
                listings.insert(*node, entries);
            }
        }
        listings
    }

    async fn list_one(
        &self,
        node: NodeId,
        stretch: &Stretch,
        only: Option<&Bucket>,
    ) -> Result<Vec<KeyEntry>, Error> {
        let mut request = ListRequest {
            node: node.to_string(),
            n: stretch.n,
            first: *stretch.leaves.start(),
            last: *stretch.leaves.end(),
            after: None,
        };
        let mut entries = Vec::new();
        loop {
            let page = patiently(|| self.cluster.keys_at(stretch.partition, &request)).await?;
            let (keys, next) = page.parse().map_err(|error| Error::BadAnswer {
                reason: error.to_string(),
                outcome: atoll_client::Outcome::NotApplied,
            })?;
            entries.extend(
                keys.into_iter()
                    .filter(|entry| only.is_none_or(|bucket| entry.object.bucket() == bucket)),
            );
            match next {
                Some(next) => request.after = Some(ObjectDto::from(&next)),
                None => return Ok(entries),
            }
        }
    }

    /// The roots of these nodes for one partition; `None` where a tree is still being built.
    pub(super) async fn roots(
        &self,
        owners: &BTreeSet<NodeId>,
        partition: PartitionId,
        n: u8,
    ) -> BTreeMap<NodeId, Option<TreeDigest>> {
        let mut roots = BTreeMap::new();
        for node in owners.iter().filter(|node| !self.is_silent(**node)) {
            let request = RootRequest { node: node.to_string(), n };
            let asked = patiently(|| self.cluster.digest_at(partition, &request)).await;
            if let Some(root) = self.note(*node, asked) {
                let digest = root.digest.filter(|_| root.state == TreeState::Built);
                roots.insert(*node, digest);
            }
        }
        roots
    }
}
