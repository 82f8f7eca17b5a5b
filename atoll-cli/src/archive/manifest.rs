//! The manifest of a backup: the file that is written last, so that a directory with one is whole.
//! A line with version and checksum, then JSON.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::path::Path;

use crc32c::crc32c;
use dynamo_core::id::{ClusterId, PartitionId};
use dynamo_core::params::BucketProps;
use dynamo_core::ring::RingVersion;
use serde::{Deserialize, Serialize};

/// Its name.
pub const FILE: &str = "MANIFEST";

/// Bytes of a manifest: 65,536 partitions of a hundred bytes, and the buckets. Larger ones are
/// refused.
pub const BYTES_MAX: u64 = 64 * 1024 * 1024;

/// How the first line begins.
const MARK: &str = "atoll-backup 1 crc32c=";

/// A manifest that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// The file system says no.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// There is none: the backup was not finished, or this is none.
    #[error("there is no {FILE}: the backup was not finished, or this is none")]
    Missing,
    /// Larger than [`BYTES_MAX`].
    #[error("{FILE} is too large")]
    TooLarge,
    /// Not the mark of this version.
    #[error("{FILE} is not that of a backup of version 1")]
    Mark,
    /// The checksum does not match.
    #[error("the checksum of {FILE} does not match")]
    Checksum,
    /// Not the JSON of a manifest.
    #[error("{FILE}: {0}")]
    Json(#[from] serde_json::Error),
    /// Partitions that do not fit together.
    #[error("{FILE} does not list every partition once, under its name")]
    Partitions,
}

/// One archive file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileEntry {
    /// Its partition.
    pub partition: PartitionId,
    /// Its name in the directory.
    pub file: String,
    /// Its records.
    pub records: u64,
    /// Its size.
    pub bytes: u64,
    /// CRC32C of all of it, 8 hexadecimal digits.
    pub crc32c: String,
}

/// What belongs to a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The cluster that was backed up.
    pub cluster: ClusterId,
    /// Its ring when the backup began.
    pub ring: RingVersion,
    /// When it began, RFC 3339.
    pub began_at: String,
    /// When it ended.
    pub ended_at: String,
    /// The version of Atoll that wrote it.
    pub written_by: String,
    /// Number of partitions.
    pub partitions: u32,
    /// Properties of buckets that have no own.
    pub defaults: BucketProps,
    /// Properties of the others.
    pub buckets: BTreeMap<String, BucketProps>,
    /// Writes that waited on stand-ins for their owners when the backup began. They are in it only
    /// as far as another replica had them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hints: Option<u64>,
    /// Records that a holder could not read and left out; the other holders' copies are in it.
    pub unreadable: u64,
    /// The files, one for each partition.
    pub files: Vec<FileEntry>,
}

/// The name of a partition's file.
#[must_use]
pub fn file_name(partition: PartitionId) -> String {
    format!("p{:05}.atar", partition.0)
}

impl Manifest {
    /// All records.
    #[must_use]
    pub fn records(&self) -> u64 {
        self.files.iter().map(|file| file.records).sum()
    }

    /// The bytes of all files.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }

    /// Its text form.
    ///
    /// # Errors
    /// Where it cannot be JSON, a mistake in the program.
    pub fn encode(&self) -> Result<Vec<u8>, ManifestError> {
        let json = serde_json::to_vec_pretty(self)?;
        let mut text = format!("{MARK}{:08x}\n", crc32c(&json)).into_bytes();
        text.extend(json);
        Ok(text)
    }

    /// Reads the text form.
    ///
    /// # Errors
    /// [`ManifestError`].
    pub fn decode(text: &[u8]) -> Result<Self, ManifestError> {
        let rest = text.strip_prefix(MARK.as_bytes()).ok_or(ManifestError::Mark)?;
        let end = rest.iter().position(|byte| *byte == b'\n').ok_or(ManifestError::Mark)?;
        let (stated, json) = rest.split_at(end);
        let json = json.strip_prefix(b"\n").ok_or(ManifestError::Mark)?;
        if stated != format!("{:08x}", crc32c(json)).as_bytes() {
            return Err(ManifestError::Checksum);
        }
        let manifest: Self = serde_json::from_slice(json)?;
        let listed: BTreeSet<u32> = manifest.files.iter().map(|file| file.partition.0).collect();
        let complete = listed.len() == manifest.files.len()
            && listed.iter().copied().eq(0..manifest.partitions)
            && manifest.files.iter().all(|file| file.file == file_name(file.partition));
        if complete { Ok(manifest) } else { Err(ManifestError::Partitions) }
    }

    /// Reads that of a backup.
    ///
    /// # Errors
    /// [`ManifestError`].
    pub fn read(directory: &Path) -> Result<Self, ManifestError> {
        let path = directory.join(FILE);
        let length = match std::fs::metadata(&path) {
            Ok(metadata) => metadata.len(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(ManifestError::Missing);
            }
            Err(error) => return Err(error.into()),
        };
        if length > BYTES_MAX {
            return Err(ManifestError::TooLarge);
        }
        Self::decode(&std::fs::read(path)?)
    }

    /// Writes it: whole, or not at all.
    ///
    /// # Errors
    /// [`ManifestError`].
    pub fn write(&self, directory: &Path) -> Result<(), ManifestError> {
        let unfinished = directory.join(format!("{FILE}.tmp"));
        let mut file = std::fs::File::create(&unfinished)?;
        file.write_all(&self.encode()?)?;
        file.sync_all()?;
        drop(file);
        std::fs::rename(&unfinished, directory.join(FILE))?;
        sync_directory(directory)?;
        Ok(())
    }
}

/// Makes names in a directory durable.
pub(crate) fn sync_directory(directory: &Path) -> io::Result<()> {
    std::fs::File::open(directory)?.sync_all()
}
