//! `atoll restore`.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::time::Duration;

use atoll_client::{Client, Cluster, MergedDocument};
use clap::Args;
use dynamo_core::id::PartitionId;
use indicatif::ProgressBar;
use serde_json::json;
use tokio::task::{JoinSet, block_in_place};

use super::format::{ArchiveError, Reader, Summary};
use super::journal::Journal;
use super::manifest::{FileEntry, Manifest};
use super::{CONCURRENCY_DEFAULT, CONCURRENCY_MAX};
use crate::exit;
use crate::human;
use crate::output::{Done, Failure, Output};
use crate::patience::patiently;

/// Attempts to bring one page to a majority of its replicas.
const SHORT_ATTEMPTS_MAX: u32 = 8;

/// Pause between two of them.
const SHORT_PAUSE: Duration = Duration::from_secs(2);

/// Merges a backup into the running cluster: what is there stays, what the backup has is added, and
/// versions that know of each other supersede each other as ever. May be interrupted and run again.
#[derive(Debug, Args)]
pub struct Restore {
    /// The directory of the backup.
    #[arg(value_name = "DIR")]
    pub directory: PathBuf,
    /// Check every checksum of the backup, and do nothing else. Needs no cluster.
    #[arg(long)]
    pub check: bool,
    /// Merge everything, also what an earlier run that was interrupted has merged.
    #[arg(long)]
    pub again: bool,
    /// Leave the properties of buckets alone. Otherwise buckets without properties of their own get
    /// those of the backup.
    #[arg(long)]
    pub no_buckets: bool,
    /// Partitions merged at once.
    #[arg(long, default_value_t = CONCURRENCY_DEFAULT, value_parser = clap::value_parser!(u16).range(1..=CONCURRENCY_MAX))]
    pub concurrency: u16,
}

/// Sums over all pages.
#[derive(Debug, Default, Clone, Copy)]
struct Counts {
    records: u64,
    everywhere: u64,
    quorum: u64,
}

impl Counts {
    fn add(&mut self, other: Self) {
        self.records += other.records;
        self.everywhere += other.everywhere;
        self.quorum += other.quorum;
    }
}

impl Restore {
    pub(crate) async fn run(self, client: &Client, output: Output) -> Done {
        let manifest = block_in_place(|| check(&self.directory, output))?;
        if self.check {
            return report_check(&manifest, output);
        }
        let cluster = client.cluster();
        let target = cluster.ring().await?.cluster;
        if !self.no_buckets {
            restore_buckets(&cluster, &manifest, output).await?;
        }
        let journal = Journal::open(&self.directory, target, &manifest, self.again);
        let left: Vec<FileEntry> = manifest
            .files
            .iter()
            .filter(|file| !journal.done.contains(&file.partition.0))
            .cloned()
            .collect();
        let skipped = manifest.files.len() - left.len();
        if skipped > 0 {
            output.note(format!(
                "{skipped} partitions were merged by an earlier run; --again merges them again"
            ));
        }
        let records = left.iter().map(|file| file.records).sum();
        let style = "{bar:30} {pos}/{len} records {elapsed} eta {eta}";
        let progress = output.progress(Some(records), style);
        let merged = self.merge_all(&cluster, left, journal, &progress).await;
        progress.finish_and_clear();
        report(merged?, skipped, output)
    }

    async fn merge_all(
        &self,
        cluster: &Cluster,
        files: Vec<FileEntry>,
        mut journal: Journal,
        progress: &ProgressBar,
    ) -> Result<Counts, Failure> {
        let mut sum = Counts::default();
        let mut running: JoinSet<Result<(PartitionId, Counts), Failure>> = JoinSet::new();
        let mut files = files.into_iter();
        loop {
            while running.len() < usize::from(self.concurrency) {
                let Some(file) = files.next() else { break };
                let path = self.directory.join(&file.file);
                let (cluster, progress) = (cluster.clone(), progress.clone());
                running.spawn(async move {
                    merge_file(&cluster, &path, &progress).await.map(|c| (file.partition, c))
                });
            }
            let Some(ended) = running.join_next().await else { break };
            let (partition, counts) =
                ended.map_err(|error| Failure::new(exit::FAILURE, error.to_string()))??;
            sum.add(counts);
            block_in_place(|| journal.note(partition));
        }
        journal.remove();
        Ok(sum)
    }
}

/// Reads the manifest, and every file to its end, against it.
fn check(directory: &Path, output: Output) -> Result<Manifest, Failure> {
    let manifest = Manifest::read(directory)?;
    let progress =
        output.progress(Some(manifest.bytes()), "checking {bar:30} {bytes}/{total_bytes} {eta}");
    for file in &manifest.files {
        let path = directory.join(&file.file);
        let wrong = |why: String| Failure::new(exit::FAILURE, format!("{}: {why}", path.display()));
        let summary = check_file(&path, &manifest, file).map_err(|e| wrong(e.to_string()))?;
        let stated = (file.records, file.bytes, file.crc32c.as_str());
        let crc32c = format!("{:08x}", summary.crc32c);
        if (summary.records, summary.bytes, crc32c.as_str()) != stated {
            return Err(wrong("not the file that the manifest lists".to_owned()));
        }
        progress.inc(file.bytes);
    }
    progress.finish_and_clear();
    Ok(manifest)
}

fn check_file(path: &Path, manifest: &Manifest, file: &FileEntry) -> Result<Summary, ArchiveError> {
    let reader = open(path)?;
    let header = reader.header();
    let own = header.partition == file.partition
        && header.cluster == manifest.cluster
        && header.partitions == manifest.partitions;
    if own { reader.summary() } else { Err(ArchiveError::Magic) }
}

fn open(path: &Path) -> Result<Reader<BufReader<File>>, ArchiveError> {
    Reader::open(BufReader::with_capacity(1 << 18, File::open(path)?))
}

/// Gives buckets that have no properties of their own those of the backup.
async fn restore_buckets(
    cluster: &Cluster,
    manifest: &Manifest,
    output: Output,
) -> Result<(), Failure> {
    let present = cluster.buckets().await?;
    for (bucket, props) in &manifest.buckets {
        match present.buckets.get(bucket) {
            Some(own) if own == props => {}
            Some(_) => {
                output.note(format!("bucket {bucket} keeps the properties that it has here"))
            }
            None => drop(cluster.set_bucket_props(bucket, props).await?),
        }
    }
    if present.defaults != manifest.defaults {
        output.note("the defaults of buckets differ from those of the backup, and stay");
    }
    Ok(())
}

/// Merges one file, page after page.
async fn merge_file(
    cluster: &Cluster,
    path: &Path,
    progress: &ProgressBar,
) -> Result<Counts, Failure> {
    let failed =
        |error: ArchiveError| Failure::new(exit::FAILURE, format!("{}: {error}", path.display()));
    let mut reader = open(path).map_err(failed)?;
    let mut counts = Counts::default();
    while let Some(page) = block_in_place(|| reader.page()).map_err(failed)? {
        let mut attempt = 1;
        let merged = loop {
            let merged = patiently(|| cluster.merge(&page)).await?;
            if merged.short == 0 {
                break merged;
            }
            if attempt == SHORT_ATTEMPTS_MAX {
                return Err(short(&merged));
            }
            attempt += 1;
            tokio::time::sleep(SHORT_PAUSE).await;
        };
        counts.add(Counts {
            records: merged.records,
            everywhere: merged.everywhere,
            quorum: merged.quorum,
        });
        progress.inc(merged.records);
    }
    Ok(counts)
}

fn short(merged: &MergedDocument) -> Failure {
    let failing: Vec<String> = merged
        .nodes
        .iter()
        .filter(|node| node.failed > 0)
        .map(|node| {
            let name = node.name.clone().unwrap_or_else(|| node.node.to_string());
            format!("{name}: {}", node.error.as_deref().unwrap_or("refused"))
        })
        .collect();
    let message = format!(
        "{} records did not reach a majority of their replicas ({}); run the restore again",
        merged.short,
        failing.join(", ")
    );
    Failure::new(exit::UNAVAILABLE, message)
}

fn report_check(manifest: &Manifest, output: Output) -> Done {
    if output.is_json() {
        output.document(&json!({
            "cluster": manifest.cluster,
            "began_at": manifest.began_at,
            "partitions": manifest.partitions,
            "records": manifest.records(),
            "bytes": manifest.bytes(),
            "whole": true,
        }))?;
    } else {
        output.line(format!(
            "whole: {} records, {}, of cluster {}, begun {}",
            manifest.records(),
            human::bytes(manifest.bytes()),
            manifest.cluster,
            manifest.began_at
        ))?;
    }
    Ok(exit::OK)
}

fn report(merged: Counts, skipped: usize, output: Output) -> Done {
    if output.is_json() {
        output.document(&json!({
            "records": merged.records,
            "everywhere": merged.everywhere,
            "quorum": merged.quorum,
            "partitions_skipped": skipped,
        }))?;
    } else {
        output.line(format!("{} records merged", merged.records))?;
    }
    if merged.quorum > 0 {
        let count = merged.quorum;
        output.note(format!(
            "{count} of them reached a majority of their replicas; anti-entropy brings them to the rest"
        ));
    }
    Ok(exit::OK)
}
