//! How far a restore has come.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use dynamo_core::id::{ClusterId, PartitionId};

use super::manifest::Manifest;

/// The partitions that are merged already, beside the backup, for an interrupted restore. Where it
/// cannot be written (the backup may be on a medium that is read only) a further run starts over,
/// which is slower and harmless.
pub(super) struct Journal {
    path: PathBuf,
    /// The partitions that an earlier run has merged.
    pub(super) done: BTreeSet<u32>,
    file: Option<File>,
}

impl Journal {
    /// The journal of merging this backup into `target`; an empty one where all shall be merged
    /// `again`.
    pub(super) fn open(
        directory: &Path,
        target: ClusterId,
        manifest: &Manifest,
        again: bool,
    ) -> Self {
        let path = directory.join(format!("restore-{target}.journal"));
        let mut text = std::fs::read_to_string(&path).unwrap_or_default();
        // A line that was cut off is dropped: it would become another number with the next one.
        text.truncate(if again { 0 } else { text.rfind('\n').map_or(0, |end| end + 1) });
        let done = text
            .lines()
            .filter_map(|line| line.parse().ok())
            .filter(|partition| *partition < manifest.partitions)
            .collect();
        let file = File::options().create(true).append(true).open(&path);
        let cut = file.and_then(|file| file.set_len(text.len() as u64).map(|()| file));
        Self { path, done, file: cut.ok() }
    }

    pub(super) fn note(&mut self, partition: PartitionId) {
        let Some(file) = &mut self.file else { return };
        let line = format!("{}\n", partition.0);
        if file.write_all(line.as_bytes()).and_then(|()| file.sync_data()).is_err() {
            self.file = None;
        }
    }

    /// Everything is merged: a further restore starts from the beginning.
    pub(super) fn remove(self) {
        if self.file.is_some() {
            // Left behind, it would only make a further restore skip what is there already.
            drop(std::fs::remove_file(&self.path));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> Manifest {
        Manifest {
            cluster: ClusterId(1),
            ring: dynamo_core::ring::RingVersion::default(),
            began_at: String::new(),
            ended_at: String::new(),
            written_by: String::new(),
            partitions: 8,
            defaults: dynamo_core::params::BucketProps::default(),
            buckets: std::collections::BTreeMap::new(),
            hints: None,
            unreadable: 0,
            files: Vec::new(),
        }
    }

    #[test]
    fn the_journal_survives_a_cut() {
        let directory = tempfile::tempdir().unwrap();
        let at = |cluster, again| {
            Journal::open(directory.path(), ClusterId(cluster), &manifest(), again)
        };
        let open = |cluster| at(cluster, false);
        let mut journal = open(5);
        assert!(journal.done.is_empty());
        for partition in [3, 7] {
            journal.note(PartitionId(partition));
        }
        let path = journal.path.clone();
        let mut text = std::fs::read(&path).unwrap();
        // A partition that the ring does not have, and a line that was cut off.
        text.extend(b"99\n4");
        std::fs::write(&path, text).unwrap();
        let mut journal = open(5);
        assert_eq!(journal.done, BTreeSet::from([3, 7]));
        journal.note(PartitionId(2));
        assert_eq!(open(5).done, BTreeSet::from([2, 3, 7]));
        assert!(open(6).done.is_empty(), "another cluster has merged nothing");
        open(5).remove();
        assert!(open(5).done.is_empty());
        open(5).note(PartitionId(1));
        assert!(at(5, true).done.is_empty());
        assert!(open(5).done.is_empty(), "what was done before is forgotten");
    }
}
