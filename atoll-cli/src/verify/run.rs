//! The comparison of everything.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use atoll_client::Client;
use dynamo_core::cluster_view::ClusterView;
use dynamo_core::id::{NodeId, PartitionId};
use dynamo_core::key::Bucket;
use dynamo_core::limits::TREE_LEAVES_MAX;
use dynamo_core::merkle::{Leaf, Prefix};
use dynamo_core::survey::compare::{Difference, compare};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::Verify;
use super::listing::{Nodes, Stretch};
use crate::exit;
use crate::output::{Done, Failure, Output, table};

/// Pauses before what differs is looked at again: a write, with its retries, is done by then.
const LOOKS_AGAIN: [Duration; 3] =
    [Duration::from_millis(500), Duration::from_secs(2), Duration::from_secs(5)];

/// Differences that are kept for the report; all are counted.
const KEPT_MAX: usize = 10_000;

/// Differences that people are shown.
const SHOWN_MAX: usize = 50;

/// What was found.
#[derive(Debug, Default)]
struct Found {
    keys: u64,
    replicas: u64,
    /// Replicas of partitions whose owner does not hold them yet.
    pending: u64,
    different: u64,
    kept: Vec<Difference>,
    /// Partitions whose roots differ, where only those are compared.
    roots: BTreeSet<PartitionId>,
    /// Partitions of which a tree is still being built.
    building: BTreeSet<PartitionId>,
}

impl Found {
    fn add(&mut self, other: Self) {
        self.keys += other.keys;
        self.replicas += other.replicas;
        self.pending += other.pending;
        self.different += other.different;
        let room = KEPT_MAX.saturating_sub(self.kept.len());
        self.kept.extend(other.kept.into_iter().take(room));
        self.roots.extend(other.roots);
        self.building.extend(other.building);
    }
}

/// What the comparisons of all partitions share.
struct Job {
    view: ClusterView,
    nodes: Nodes,
    bucket: Option<Bucket>,
    quick: bool,
}

/// Runs `atoll verify`.
pub(crate) async fn run(args: Verify, client: &Client, output: Output) -> Done {
    let bucket: Option<Bucket> = match &args.bucket {
        Some(name) => {
            Some(name.parse().map_err(|error| Failure::new(exit::USAGE, format!("{error}")))?)
        }
        None => None,
    };
    let snapshot = client.cluster().ring().await?;
    let view = ClusterView::from_snapshot(snapshot)
        .map_err(|error| Failure::new(exit::FAILURE, error.to_string()))?;
    let partitions: Vec<PartitionId> = view.partitions().iter().collect();
    let progress = output
        .progress(Some(partitions.len() as u64), "{bar:30} {pos}/{len} partitions {elapsed} {msg}");
    let nodes = Nodes::new(client.cluster());
    let job = Arc::new(Job { view, nodes, bucket, quick: args.quick });
    let mut found = Found::default();
    let mut running: JoinSet<Found> = JoinSet::new();
    let mut next = partitions.into_iter();
    loop {
        while running.len() < usize::from(args.concurrency) {
            let Some(partition) = next.next() else { break };
            let job = Arc::clone(&job);
            running.spawn(async move { job.partition(partition).await });
        }
        let Some(ended) = running.join_next().await else { break };
        found.add(ended.map_err(|error| Failure::new(exit::FAILURE, error.to_string()))?);
        progress.inc(1);
        progress.set_message(format!("{} keys, {} differ", found.keys, found.different));
    }
    progress.finish_and_clear();
    report(&found, &job, output)
}

impl Job {
    async fn partition(&self, partition: PartitionId) -> Found {
        let mut found = Found::default();
        let classes = match &self.bucket {
            Some(bucket) => vec![self.view.bucket(bucket).n],
            None => self.view.classes().to_vec(),
        };
        for n in classes {
            let owners = self.view.ring().preference_list(partition).primaries(n);
            let holds = |node: &&NodeId| self.view.holdings().holds(**node, partition);
            let holding: BTreeSet<NodeId> = owners.iter().filter(holds).copied().collect();
            found.pending += (owners.len() - holding.len()) as u64;
            if self.quick {
                found.add(self.compare_roots(partition, n, &holding).await);
                continue;
            }
            found.replicas += holding.len() as u64;
            let leaves = Prefix::of_partition(self.view.partitions(), partition).leaves();
            for leaves in chunks(*leaves.start(), *leaves.end()) {
                let stretch = Stretch { partition, n, leaves };
                found.add(self.compare_keys(&stretch, &holding).await);
            }
        }
        found
    }

    async fn compare_keys(&self, stretch: &Stretch, owners: &BTreeSet<NodeId>) -> Found {
        let listings = self.nodes.list(owners, stretch, self.bucket.as_ref()).await;
        let (keys, mut differences) = compare(&listings);
        for pause in LOOKS_AGAIN {
            if differences.is_empty() {
                break;
            }
            tokio::time::sleep(pause).await;
            differences = self.still(stretch, owners, &differences).await;
        }
        let different = differences.len() as u64;
        differences.truncate(KEPT_MAX);
        Found { keys, different, kept: differences, ..Found::default() }
    }

    /// Those of the differences that are there at another look.
    async fn still(
        &self,
        stretch: &Stretch,
        owners: &BTreeSet<NodeId>,
        differences: &[Difference],
    ) -> Vec<Difference> {
        let names: BTreeSet<_> = differences.iter().map(|d| d.object.storage_key()).collect();
        let leaves: BTreeSet<u16> =
            differences.iter().map(|d| Leaf::of(d.object.position()).0).collect();
        let mut still = Vec::new();
        for leaf in leaves {
            let stretch = Stretch { leaves: leaf..=leaf, ..stretch.clone() };
            let listings = self.nodes.list(owners, &stretch, self.bucket.as_ref()).await;
            let (_, again) = compare(&listings);
            still.extend(again.into_iter().filter(|d| names.contains(&d.object.storage_key())));
        }
        still
    }

    async fn compare_roots(
        &self,
        partition: PartitionId,
        n: u8,
        owners: &BTreeSet<NodeId>,
    ) -> Found {
        let mut found = Found { replicas: owners.len() as u64, ..Found::default() };
        let mut pauses = LOOKS_AGAIN.into_iter();
        loop {
            let roots = self.nodes.roots(owners, partition, n).await;
            if roots.values().any(Option::is_none) {
                found.building.insert(partition);
                return found;
            }
            let distinct: BTreeSet<_> = roots.values().copied().map(|d| d.map(|d| d.0)).collect();
            if distinct.len() <= 1 {
                return found;
            }
            match pauses.next() {
                Some(pause) => tokio::time::sleep(pause).await,
                None => {
                    found.roots.insert(partition);
                    return found;
                }
            }
        }
    }
}

/// Stretches of as many leaves as one request takes.
fn chunks(first: u16, last: u16) -> impl Iterator<Item = std::ops::RangeInclusive<u16>> {
    let step = u32::try_from(TREE_LEAVES_MAX).unwrap_or(u32::MAX);
    let mut next = u32::from(first);
    std::iter::from_fn(move || {
        let start = u16::try_from(next).ok().filter(|start| *start <= last)?;
        let end = u16::try_from(next + step - 1).unwrap_or(u16::MAX).min(last);
        next += step;
        Some(start..=end)
    })
}

fn report(found: &Found, job: &Job, output: Output) -> Done {
    let silent: BTreeMap<String, String> = job
        .nodes
        .silent()
        .into_iter()
        .map(|(node, error)| (name(&job.view, node), error))
        .collect();
    if output.is_json() {
        output.document(&document(found, &silent, job))?;
    } else {
        print(found, job, output)?;
        for (node, error) in &silent {
            output.note(format!("{node} could not be read: {error}"));
        }
        if found.pending > 0 {
            let count = found.pending;
            output.note(format!("{count} replicas of partitions are still on their way"));
        }
        if !found.building.is_empty() {
            let count = found.building.len();
            output.note(format!("the trees of {count} partitions are still being built"));
        }
    }
    let different = found.different + found.roots.len() as u64;
    Ok(if different > 0 {
        exit::FAILURE
    } else if !silent.is_empty() || found.pending > 0 || !found.building.is_empty() {
        exit::UNAVAILABLE
    } else {
        exit::OK
    })
}

fn print(found: &Found, job: &Job, output: Output) -> std::io::Result<()> {
    if job.quick {
        let count = found.roots.len();
        output.line(format!("{} roots compared, {count} partitions differ", found.replicas))?;
        for partition in &found.roots {
            output.line(format!("partition {}", partition.0))?;
        }
        return Ok(());
    }
    output.line(format!("{} keys compared, {} differ", found.keys, found.different))?;
    if found.kept.is_empty() {
        return Ok(());
    }
    let mut rows = table(vec!["BUCKET", "KEY", "REPLICAS"]);
    for difference in found.kept.iter().take(SHOWN_MAX) {
        let replicas: Vec<String> = difference
            .replicas
            .iter()
            .map(|(node, digest)| {
                let digest = digest.map_or_else(
                    || "absent".to_owned(),
                    |digest| digest.to_string().chars().take(8).collect(),
                );
                format!("{}={digest}", name(&job.view, *node))
            })
            .collect();
        rows.add_row(vec![
            difference.object.bucket().to_string(),
            difference.object.key_text(),
            replicas.join(" "),
        ]);
    }
    output.table(&rows)?;
    let hidden = found.different.saturating_sub(SHOWN_MAX as u64);
    if hidden > 0 {
        output.note(format!("and {hidden} more; --json lists up to {KEPT_MAX}"));
    }
    Ok(())
}

fn document(found: &Found, silent: &BTreeMap<String, String>, job: &Job) -> Value {
    let differences: Vec<Value> = found
        .kept
        .iter()
        .map(|difference| {
            let replicas: BTreeMap<String, Option<String>> = difference
                .replicas
                .iter()
                .map(|(node, digest)| (name(&job.view, *node), digest.map(|d| d.to_string())))
                .collect();
            json!({
                "bucket": difference.object.bucket().as_str(),
                "key": difference.object.key_text(),
                "replicas": replicas,
            })
        })
        .collect();
    json!({
        "keys": found.keys,
        "replicas": found.replicas,
        "different": found.different,
        "differences": differences,
        "partitions_different": found.roots,
        "partitions_building": found.building,
        "pending": found.pending,
        "silent": silent,
    })
}

fn name(view: &ClusterView, node: NodeId) -> String {
    view.node(node).map_or_else(|| node.to_string(), |info| info.name.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stretches_cover_every_leaf_once() {
        for (first, last) in [(0, 0), (0, 255), (0, 256), (1024, 2047), (65_000, 65_535)] {
            let covered: Vec<u16> = chunks(first, last).flatten().collect();
            assert_eq!(covered, (first..=last).collect::<Vec<_>>());
            assert!(chunks(first, last).all(|leaves| leaves.count() <= TREE_LEAVES_MAX));
        }
    }
}
