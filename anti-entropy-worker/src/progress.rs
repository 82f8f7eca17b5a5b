//! The worker's file, `progress.redb`: whose it is, and how far each transfer has come, so that a
//! new process goes on where the last one was.
//!
//! Every value is behind a CRC32C. The file names its format, node and cluster: one of a
//! newer version, or of somebody else, is refused and left as it is. What is in it only saves work:
//! a damaged file is set aside, and the transfers begin anew.
//!
//! Invariant: when a write returns, it survives a crash.

use std::io::ErrorKind;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

use dynamo_core::id::{ClusterId, Incarnation, NodeId, PartitionId};
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use service_kit::config::Invalid;
use service_kit::datadir::create_private_dir;

use crate::limits::PROGRESS_CACHE_BYTES;

/// The format that this build reads and writes.
const FORMAT: u32 = 1;

/// Name of the file in the data directory.
pub const PROGRESS_FILE: &str = "progress.redb";

/// Name under which a damaged file is set aside; the next damaged one replaces it.
const DAMAGED_FILE: &str = "progress.redb.damaged";

const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");
const CHECKPOINTS: TableDefinition<'_, u32, &[u8]> = TableDefinition::new("checkpoints");

const IDENTITY_KEY: &str = "identity";

/// Why the file cannot be used or written.
#[derive(Debug, thiserror::Error)]
pub enum ProgressError {
    /// The directory belongs to something else, or to a newer version.
    #[error("data_dir {}: {reason}", path.display())]
    Foreign {
        /// The directory.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The database refuses.
    #[error("progress file: {0}")]
    Database(#[from] Box<redb::Error>),
    /// The operating system refuses.
    #[error("data_dir {}: {error}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// The refusal.
        error: std::io::Error,
    },
    /// A stored value is damaged.
    #[error("progress file: damaged {0}")]
    Damaged(&'static str),
}

impl ProgressError {
    /// Whether the settings are wrong (another data directory would do), not the machine.
    #[must_use]
    pub fn as_invalid(&self) -> Option<Invalid> {
        match self {
            Self::Foreign { .. } => Some(Invalid::new("data_dir", self.to_string())),
            _ => None,
        }
    }

    /// Whether the file itself is broken, so that a new one is the remedy.
    fn is_damage(&self) -> bool {
        match self {
            Self::Damaged(_) => true,
            Self::Database(error) => {
                let kinds = [ErrorKind::InvalidData, ErrorKind::UnexpectedEof];
                match &**error {
                    redb::Error::Corrupted(_) | redb::Error::UpgradeRequired(_) => true,
                    redb::Error::Io(error) => kinds.contains(&error.kind()),
                    _ => false,
                }
            }
            Self::Foreign { .. } | Self::Io { .. } => false,
        }
    }
}

fn database(error: impl Into<redb::Error>) -> ProgressError {
    ProgressError::Database(Box::new(error.into()))
}

/// Whose progress it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Identity {
    format: u32,
    node_id: NodeId,
    /// Unknown until a ring has been seen.
    cluster_id: Option<ClusterId>,
    /// Lives begun so far, as far as this file knows.
    incarnation: Incarnation,
}

/// The fields that every format has.
#[derive(Deserialize)]
struct AnyFormat {
    format: u32,
}

/// The open file.
#[derive(Debug)]
pub struct ProgressFile {
    database: Database,
    directory: PathBuf,
}

impl ProgressFile {
    /// Opens or creates the file of `directory`.
    ///
    /// # Errors
    /// [`ProgressError`]. A foreign or newer directory is left as it is; a damaged file is set
    /// aside and is no error.
    pub fn open(directory: &Path) -> Result<Self, ProgressError> {
        let io = |error| ProgressError::Io { path: directory.to_owned(), error };
        create_private_dir(directory).map_err(io)?;
        // redb asserts what it expects of a file: a panic is damage, too.
        let opened = catch_unwind(|| Self::open_file(directory))
            .unwrap_or(Err(ProgressError::Damaged("structure")));
        match opened {
            Err(error) if error.is_damage() => {
                tracing::warn!(%error, "the progress file is set aside; transfers begin anew");
                let file = directory.join(PROGRESS_FILE);
                std::fs::rename(file, directory.join(DAMAGED_FILE)).map_err(io)?;
                Self::open_file(directory)
            }
            opened => opened,
        }
    }

    fn open_file(directory: &Path) -> Result<Self, ProgressError> {
        let file = directory.join(PROGRESS_FILE);
        let opened = Database::builder().set_cache_size(PROGRESS_CACHE_BYTES).create(file);
        let opened = opened.map_err(|error| in_use(directory, error))?;
        let progress = Self { database: opened, directory: directory.to_owned() };
        let transaction = progress.database.begin_write().map_err(database)?;
        // Both tables exist from the first commit on.
        transaction.open_table(META).map_err(database)?;
        transaction.open_table(CHECKPOINTS).map_err(database)?;
        transaction.commit().map_err(database)?;
        progress.identity()?;
        Ok(progress)
    }

    /// The node that the file belongs to; `None` for a new file.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub fn node(&self) -> Result<Option<NodeId>, ProgressError> {
        Ok(self.identity()?.map(|identity| identity.node_id))
    }

    /// The cluster that the file belongs to, where that is known.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub fn cluster(&self) -> Result<Option<ClusterId>, ProgressError> {
        Ok(self.identity()?.and_then(|identity| identity.cluster_id))
    }

    /// Begins a new life of the worker of `node`, and returns its number: more than every earlier
    /// one, and at least `floor`, so that the loss of this file does not make the worker look
    /// older to its peers than it was.
    ///
    /// # Errors
    /// Where the file belongs to another node, or cannot be written.
    pub fn begin(&self, node: NodeId, floor: Incarnation) -> Result<Incarnation, ProgressError> {
        let (cluster_id, lived) = match self.identity()? {
            Some(known) if known.node_id != node => {
                let reason = format!("belongs to node {}, not {node}", known.node_id);
                return Err(self.foreign(reason));
            }
            Some(known) => (known.cluster_id, known.incarnation),
            None => (None, Incarnation(0)),
        };
        let incarnation = Incarnation(lived.0.saturating_add(1)).max(floor);
        let identity = Identity { format: FORMAT, node_id: node, cluster_id, incarnation };
        self.write_identity(&identity)?;
        Ok(incarnation)
    }

    /// States that the progress is that of `cluster`.
    ///
    /// # Errors
    /// Where it is that of another one, or cannot be written.
    pub fn join_cluster(&self, cluster: ClusterId) -> Result<(), ProgressError> {
        let Some(known) = self.identity()? else {
            return Err(ProgressError::Damaged("identity"));
        };
        match known.cluster_id {
            Some(ours) if ours == cluster => Ok(()),
            Some(ours) => {
                let reason = format!("belongs to cluster {ours}, not {cluster}");
                Err(self.foreign(reason))
            }
            None => self.write_identity(&Identity { cluster_id: Some(cluster), ..known }),
        }
    }

    /// Notes how far a partition has come.
    ///
    /// # Errors
    /// Where it cannot be written; then the earlier note stands.
    pub fn save(&self, partition: PartitionId, checkpoint: &[u8]) -> Result<(), ProgressError> {
        let transaction = self.database.begin_write().map_err(database)?;
        {
            let mut table = transaction.open_table(CHECKPOINTS).map_err(database)?;
            let sealed = seal(checkpoint);
            table.insert(partition.0, sealed.as_slice()).map_err(database)?;
        }
        transaction.commit().map_err(database)
    }

    /// Forgets a partition.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn forget(&self, partition: PartitionId) -> Result<(), ProgressError> {
        let transaction = self.database.begin_write().map_err(database)?;
        {
            let mut table = transaction.open_table(CHECKPOINTS).map_err(database)?;
            table.remove(partition.0).map_err(database)?;
        }
        transaction.commit().map_err(database)
    }

    /// All notes, by partition. A damaged one is left out: its partition begins anew.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub fn checkpoints(&self) -> Result<Vec<(PartitionId, Vec<u8>)>, ProgressError> {
        let transaction = self.database.begin_read().map_err(database)?;
        let table = transaction.open_table(CHECKPOINTS).map_err(database)?;
        let mut all = Vec::new();
        for row in table.iter().map_err(database)? {
            let (partition, sealed) = row.map_err(database)?;
            let partition = PartitionId(partition.value());
            match unseal(sealed.value(), "checkpoint") {
                Ok(checkpoint) => all.push((partition, checkpoint.to_vec())),
                Err(error) => {
                    tracing::warn!(partition = partition.0, %error, "a transfer begins anew");
                }
            }
        }
        Ok(all)
    }

    fn identity(&self) -> Result<Option<Identity>, ProgressError> {
        let transaction = self.database.begin_read().map_err(database)?;
        let meta = transaction.open_table(META).map_err(database)?;
        let Some(stored) = meta.get(IDENTITY_KEY).map_err(database)? else { return Ok(None) };
        let AnyFormat { format } = parsed(stored.value(), "identity")?;
        if format > FORMAT {
            let reason = format!("format {format}, this version reads format {FORMAT}");
            return Err(self.foreign(reason));
        }
        parsed(stored.value(), "identity").map(Some)
    }

    fn write_identity(&self, identity: &Identity) -> Result<(), ProgressError> {
        let transaction = self.database.begin_write().map_err(database)?;
        {
            let mut meta = transaction.open_table(META).map_err(database)?;
            let json = serde_json::to_vec(identity).expect("an identity is always JSON");
            meta.insert(IDENTITY_KEY, seal(&json).as_slice()).map_err(database)?;
        }
        transaction.commit().map_err(database)
    }

    fn foreign(&self, reason: String) -> ProgressError {
        ProgressError::Foreign { path: self.directory.clone(), reason }
    }
}

fn in_use(directory: &Path, error: redb::DatabaseError) -> ProgressError {
    match error {
        redb::DatabaseError::DatabaseAlreadyOpen => ProgressError::Foreign {
            path: directory.to_owned(),
            reason: "another process has it open".to_owned(),
        },
        other => database(other),
    }
}

/// Bytes behind their checksum.
fn seal(content: &[u8]) -> Vec<u8> {
    let mut sealed = crc32c::crc32c(content).to_be_bytes().to_vec();
    sealed.extend_from_slice(content);
    sealed
}

fn unseal<'a>(sealed: &'a [u8], what: &'static str) -> Result<&'a [u8], ProgressError> {
    let (sum, content) = sealed.split_first_chunk::<4>().ok_or(ProgressError::Damaged(what))?;
    if u32::from_be_bytes(*sum) == crc32c::crc32c(content) {
        Ok(content)
    } else {
        Err(ProgressError::Damaged(what))
    }
}

fn parsed<T: DeserializeOwned>(sealed: &[u8], what: &'static str) -> Result<T, ProgressError> {
    let json = unseal(sealed, what)?;
    serde_json::from_slice(json).map_err(|_| ProgressError::Damaged(what))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(directory: &Path) -> ProgressFile {
        ProgressFile::open(directory).unwrap()
    }

    #[test]
    fn lives_are_counted_and_notes_survive() {
        let dir = tempfile::tempdir().unwrap();
        {
            let progress = open(dir.path());
            assert_eq!(progress.node().unwrap(), None);
            assert_eq!(progress.begin(NodeId(7), Incarnation(0)).unwrap(), Incarnation(1));
            progress.join_cluster(ClusterId(1)).unwrap();
            progress.save(PartitionId(3), b"half").unwrap();
            progress.save(PartitionId(3), b"more").unwrap();
            progress.save(PartitionId(9), b"a bit").unwrap();
            progress.forget(PartitionId(9)).unwrap();
        }
        let progress = open(dir.path());
        assert_eq!(progress.begin(NodeId(7), Incarnation(0)).unwrap(), Incarnation(2));
        assert_eq!(progress.begin(NodeId(7), Incarnation(99)).unwrap(), Incarnation(99));
        assert_eq!(progress.cluster().unwrap(), Some(ClusterId(1)));
        let notes = progress.checkpoints().unwrap();
        assert_eq!(notes, [(PartitionId(3), b"more".to_vec())]);
    }

    #[test]
    fn what_is_not_ours_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let progress = open(dir.path());
        progress.begin(NodeId(7), Incarnation(0)).unwrap();
        progress.join_cluster(ClusterId(1)).unwrap();
        assert!(progress.begin(NodeId(8), Incarnation(0)).unwrap_err().as_invalid().is_some());
        assert!(progress.join_cluster(ClusterId(2)).unwrap_err().as_invalid().is_some());
        let second = ProgressFile::open(dir.path()).unwrap_err();
        assert!(second.as_invalid().is_some(), "two processes on one directory: {second}");
        let newer = Identity {
            format: FORMAT + 1,
            node_id: NodeId(7),
            cluster_id: None,
            incarnation: Incarnation(1),
        };
        progress.write_identity(&newer).unwrap();
        drop(progress);
        assert!(ProgressFile::open(dir.path()).unwrap_err().as_invalid().is_some());
    }

    #[test]
    fn a_damaged_file_is_set_aside() {
        let dir = tempfile::tempdir().unwrap();
        drop(open(dir.path()));
        let file = dir.path().join(PROGRESS_FILE);
        for damage in [&b"not a database"[..], &[0u8; 8192]] {
            std::fs::write(&file, damage).unwrap();
            let progress = open(dir.path());
            assert_eq!(progress.node().unwrap(), None);
            assert_eq!(std::fs::read(dir.path().join(DAMAGED_FILE)).unwrap(), damage);
        }
    }
}
