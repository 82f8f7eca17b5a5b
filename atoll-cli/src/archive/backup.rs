//! `atoll backup`.

use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use atoll_client::{Client, Cluster, RecordsRequest};
use clap::Args;
use dynamo_core::id::PartitionId;
use dynamo_core::wire::tree::ObjectDto;
use indicatif::ProgressBar;
use serde_json::json;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::task::{JoinSet, block_in_place};

use super::format::{ArchiveError, Header, Reader, Summary, Writer};
use super::manifest::{FILE, FileEntry, Manifest, ManifestError, file_name, sync_directory};
use super::{CONCURRENCY_DEFAULT, CONCURRENCY_MAX};
use crate::exit;
use crate::human;
use crate::output::{Done, Failure, Output};
use crate::patience::patiently;

/// Writes everything that is stored, with all versions and clocks, into a directory: one file per
/// partition, and a MANIFEST at the end. The cluster goes on serving.
#[derive(Debug, Args)]
pub struct Backup {
    /// Directory to write into; made where it is missing, and must be empty.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Go on with a backup that was interrupted: files that are whole are kept.
    #[arg(long)]
    pub resume: bool,
    /// Also where a majority of the nodes that hold a partition does not answer. Such a backup may
    /// lack the latest writes.
    #[arg(long)]
    pub partial: bool,
    /// Partitions read at once.
    #[arg(long, default_value_t = CONCURRENCY_DEFAULT, value_parser = clap::value_parser!(u16).range(1..=CONCURRENCY_MAX))]
    pub concurrency: u16,
}

/// What the tasks of one backup share.
struct Job {
    cluster: Cluster,
    directory: PathBuf,
    header: Header,
    partial: bool,
    unreadable: AtomicU64,
    progress: ProgressBar,
}

impl Backup {
    pub(crate) async fn run(self, client: &Client, output: Output) -> Done {
        let cluster = client.cluster();
        let ring = cluster.ring().await?;
        let began_at = now();
        prepare(&self.out, self.resume)?;
        let buckets = cluster.buckets().await?;
        let hints = cluster.hints().await.ok().and_then(|hints| hints["hints"].as_u64());
        let count = ring.partitions.get();
        let progress = output
            .progress(Some(u64::from(count)), "{bar:30} {pos}/{len} partitions {elapsed} {msg}");
        let header = Header { cluster: ring.cluster, partitions: count, partition: PartitionId(0) };
        let job = Arc::new(Job {
            cluster,
            directory: self.out.clone(),
            header,
            partial: self.partial,
            unreadable: AtomicU64::new(0),
            progress,
        });
        let written = write_all(&job, usize::from(self.concurrency)).await;
        job.progress.finish_and_clear();
        let mut files = written?;
        files.sort_by_key(|file| file.partition);
        let manifest = Manifest {
            cluster: ring.cluster,
            ring: ring.version,
            began_at,
            ended_at: now(),
            written_by: env!("CARGO_PKG_VERSION").to_owned(),
            partitions: count,
            defaults: buckets.defaults,
            buckets: buckets.buckets,
            hints,
            unreadable: job.unreadable.load(Ordering::Relaxed),
            files,
        };
        manifest.write(&self.out)?;
        report(&manifest, &self.out, output)
    }
}

fn report(manifest: &Manifest, directory: &Path, output: Output) -> Done {
    if output.is_json() {
        output.document(&json!({
            "directory": directory,
            "cluster": manifest.cluster,
            "partitions": manifest.partitions,
            "records": manifest.records(),
            "bytes": manifest.bytes(),
            "hints": manifest.hints,
            "unreadable": manifest.unreadable,
        }))?;
    } else {
        output.line(format!(
            "{} records, {}, in {}",
            manifest.records(),
            human::bytes(manifest.bytes()),
            directory.display()
        ))?;
    }
    if let Some(hints) = manifest.hints.filter(|hints| *hints > 0) {
        output.note(format!(
            "{hints} writes waited on stand-ins for their owners when the backup began; `atoll \
             hints --wait` before a backup makes sure that they are in it"
        ));
    }
    if manifest.unreadable > 0 {
        let count = manifest.unreadable;
        output
            .note(format!("{count} records were unreadable at one of their nodes: `atoll verify`"));
    }
    Ok(exit::OK)
}

/// The directory to write into.
fn prepare(directory: &Path, resume: bool) -> Result<(), Failure> {
    std::fs::create_dir_all(directory)?;
    if directory.join(FILE).exists() {
        let message = format!("{} has a complete backup already", directory.display());
        return Err(Failure::new(exit::USAGE, message));
    }
    if !resume && std::fs::read_dir(directory)?.next().is_some() {
        let message = format!(
            "{} is not empty; --resume goes on with an interrupted backup",
            directory.display()
        );
        return Err(Failure::new(exit::USAGE, message));
    }
    Ok(())
}

/// Writes the files of all partitions, some at a time.
async fn write_all(job: &Arc<Job>, concurrency: usize) -> Result<Vec<FileEntry>, Failure> {
    let mut files = Vec::new();
    let mut running: JoinSet<Result<FileEntry, Failure>> = JoinSet::new();
    for partition in (0..job.header.partitions).map(PartitionId) {
        while running.len() >= concurrency {
            take(&mut running, &mut files, job).await?;
        }
        let job = Arc::clone(job);
        running.spawn(async move { job.write(partition).await });
    }
    while !running.is_empty() {
        take(&mut running, &mut files, job).await?;
    }
    Ok(files)
}

async fn take(
    running: &mut JoinSet<Result<FileEntry, Failure>>,
    files: &mut Vec<FileEntry>,
    job: &Job,
) -> Result<(), Failure> {
    if let Some(ended) = running.join_next().await {
        let entry = ended.map_err(|error| Failure::new(exit::FAILURE, error.to_string()))??;
        job.progress.inc(1);
        files.push(entry);
        let bytes: u64 = files.iter().map(|file| file.bytes).sum();
        job.progress.set_message(human::bytes(bytes));
    }
    Ok(())
}

impl Job {
    /// Writes the file of one partition, or keeps a whole one.
    async fn write(&self, partition: PartitionId) -> Result<FileEntry, Failure> {
        let header = Header { partition, ..self.header };
        let name = file_name(partition);
        let path = self.directory.join(&name);
        let entry = |summary: Summary| FileEntry {
            partition,
            file: name.clone(),
            records: summary.records,
            bytes: summary.bytes,
            crc32c: format!("{:08x}", summary.crc32c),
        };
        if path.exists() {
            let kept = block_in_place(|| whole(&path, header));
            return kept.map(entry).map_err(|error| {
                let message = format!("{}: {error}; remove it and resume", path.display());
                Failure::new(exit::FAILURE, message)
            });
        }
        let unfinished = self.directory.join(format!("{name}.tmp"));
        let failed = |error: ArchiveError| {
            Failure::new(exit::FAILURE, format!("{}: {error}", unfinished.display()))
        };
        let file = BufWriter::with_capacity(1 << 18, File::create(&unfinished)?);
        let mut writer = Writer::new(file, header).map_err(failed)?;
        let mut request = RecordsRequest { after: None, partial: self.partial };
        loop {
            let page = patiently(|| self.cluster.records(partition, &request)).await?;
            self.unreadable.fetch_add(page.unreadable, Ordering::Relaxed);
            block_in_place(|| writer.page(&page)).map_err(failed)?;
            match &page.next {
                Some(next) => request.after = Some(ObjectDto::from(next)),
                None => break,
            }
        }
        let (file, summary) = writer.finish().map_err(failed)?;
        block_in_place(|| -> std::io::Result<()> {
            file.into_inner().map_err(std::io::IntoInnerError::into_error)?.sync_all()?;
            std::fs::rename(&unfinished, &path)?;
            sync_directory(&self.directory)
        })?;
        Ok(entry(summary))
    }
}

/// Checks a file that an earlier run has left.
fn whole(path: &Path, expected: Header) -> Result<Summary, ArchiveError> {
    let reader = Reader::open(std::io::BufReader::with_capacity(1 << 18, File::open(path)?))?;
    if reader.header() != expected {
        return Err(ArchiveError::Magic);
    }
    reader.summary()
}

impl From<ManifestError> for Failure {
    fn from(error: ManifestError) -> Self {
        Self::new(exit::FAILURE, error.to_string())
    }
}

fn now() -> String {
    let now = OffsetDateTime::now_utc();
    now.format(&Rfc3339).unwrap_or_else(|_| now.unix_timestamp().to_string())
}
