//! `node.json`: who this data directory belongs to, and which life of the store it is in.
//!
//! It is replaced as a whole and synced. `clean` is false while the process runs, so a file that
//! says `clean: true` was left by an orderly stop and everything else may have lost data.
//! A directory of another cluster, another node or a newer format is refused and left unmodified.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use dynamo_core::id::{ClusterId, Incarnation, NodeId, StoreId};
use serde::{Deserialize, Serialize};
use service_kit::datadir::write_atomic;

use crate::limits::NODE_FILE_BYTES_MAX;

/// The version of the file that this build writes. A build that writes other files of the directory
/// in a form that earlier ones cannot read raises it: those then refuse the directory, where they
/// would take the unknown form for damage.
pub const NODE_FILE_FORMAT: u32 = 1;

/// Name of the file in the data directory.
pub const NODE_FILE_NAME: &str = "node.json";

/// What the file says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeFile {
    /// Version of this form.
    pub format: u32,
    /// The ring that the data belongs to; unknown until the node has seen a ring.
    pub cluster_id: Option<ClusterId>,
    /// The node that the data belongs to.
    pub node_id: NodeId,
    /// This store: a new one for every empty directory.
    pub store_id: StoreId,
    /// The actor epoch, see [`dynamo_core::actor`].
    pub epoch: u64,
    /// Whether the store was closed in order.
    pub clean: bool,
    /// Number of this process life.
    pub incarnation: Incarnation,
}

/// Why a data directory is refused. Nothing in it was changed.
#[derive(Debug, thiserror::Error)]
pub enum NodeFileError {
    /// It cannot be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
    /// It is not the form that this build knows.
    #[error("{path} is not a node file of this program: {reason}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// It was written by a newer build.
    #[error("{path} has format {found}; this build knows up to {NODE_FILE_FORMAT}")]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u32,
    },
    /// The data belongs to somebody else.
    #[error("{path} belongs to {what} {found}, not {expected}")]
    Foreign {
        /// The file.
        path: PathBuf,
        /// `cluster` or `node`.
        what: &'static str,
        /// Whose it is.
        found: String,
        /// Who we are.
        expected: String,
    },
}

/// Where the node file of a data directory lies.
#[must_use]
pub fn node_file_path(data_dir: &Path) -> PathBuf {
    data_dir.join(NODE_FILE_NAME)
}

/// Reads the node file of `data_dir`; `None` where there is none.
///
/// # Errors
/// [`NodeFileError`]. A file that is there and cannot be understood is never taken for a missing
/// one: a new identity on old data would reuse its names.
pub fn read_node_file(data_dir: &Path) -> Result<Option<NodeFile>, NodeFileError> {
    /// The part of every version that this and later builds agree on.
    #[derive(Deserialize)]
    struct Format {
        format: u32,
    }
    let path = node_file_path(data_dir);
    let Some(text) = read_bounded(&path)? else { return Ok(None) };
    let unreadable = |error: serde_json::Error| NodeFileError::Unreadable {
        path: path.clone(),
        reason: error.to_string(),
    };
    let Format { format } = serde_json::from_slice(&text).map_err(unreadable)?;
    if format > NODE_FILE_FORMAT {
        return Err(NodeFileError::Newer { path, found: format });
    }
    serde_json::from_slice(&text).map(Some).map_err(unreadable)
}

fn read_bounded(path: &Path) -> Result<Option<Vec<u8>>, NodeFileError> {
    let io_error = |source| NodeFileError::Io { path: path.to_owned(), source };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io_error(error)),
    };
    let mut text = Vec::new();
    file.take(NODE_FILE_BYTES_MAX).read_to_end(&mut text).map_err(io_error)?;
    Ok(Some(text))
}

/// Writes and syncs the node file of `data_dir`.
///
/// # Errors
/// [`NodeFileError::Io`]; the old content is then still there.
pub fn write_node_file(data_dir: &Path, file: &NodeFile) -> Result<(), NodeFileError> {
    let path = node_file_path(data_dir);
    let write = || -> io::Result<()> {
        let mut text = serde_json::to_vec_pretty(file)?;
        text.push(b'\n');
        write_atomic(&path, &text)
    };
    write().map_err(|source| NodeFileError::Io { path: path.clone(), source })
}

impl NodeFile {
    /// Refuses a file that belongs to another node.
    ///
    /// # Errors
    /// [`NodeFileError::Foreign`].
    pub fn check_node(&self, data_dir: &Path, node: NodeId) -> Result<(), NodeFileError> {
        check(data_dir, "node", self.node_id, node)
    }

    /// Refuses a file that belongs to another cluster. One that belongs to none yet is welcome.
    ///
    /// # Errors
    /// [`NodeFileError::Foreign`].
    pub fn check_cluster(&self, data_dir: &Path, cluster: ClusterId) -> Result<(), NodeFileError> {
        self.cluster_id.map_or(Ok(()), |found| check(data_dir, "cluster", found, cluster))
    }
}

fn check<T: PartialEq + fmt::Display>(
    data_dir: &Path,
    what: &'static str,
    found: T,
    expected: T,
) -> Result<(), NodeFileError> {
    if found == expected {
        return Ok(());
    }
    Err(NodeFileError::Foreign {
        path: node_file_path(data_dir),
        what,
        found: found.to_string(),
        expected: expected.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> NodeFile {
        NodeFile {
            format: NODE_FILE_FORMAT,
            cluster_id: None,
            node_id: NodeId(1),
            store_id: StoreId(2),
            epoch: 3,
            clean: true,
            incarnation: Incarnation(4),
        }
    }

    #[test]
    fn the_form_is_the_golden_one() {
        let golden = concat!(
            "{\n  \"format\": 1,\n  \"cluster_id\": null,\n",
            "  \"node_id\": \"00000000000000000000000000000001\",\n",
            "  \"store_id\": \"00000000000000000000000000000002\",\n",
            "  \"epoch\": 3,\n  \"clean\": true,\n  \"incarnation\": 4\n}\n"
        );
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(read_node_file(dir.path()), Ok(None)));
        write_node_file(dir.path(), &sample()).unwrap();
        assert_eq!(std::fs::read_to_string(node_file_path(dir.path())).unwrap(), golden);
        assert_eq!(read_node_file(dir.path()).unwrap(), Some(sample()));
    }

    #[test]
    fn what_is_not_ours_is_refused_unmodified() {
        let newer = r#"{"format":2,"something":"else"}"#;
        let extra = r#"{"format":1,"node_id":"00000000000000000000000000000001","surprise":1}"#;
        for text in ["", "{", "[]", newer, extra] {
            let dir = tempfile::tempdir().unwrap();
            let path = node_file_path(dir.path());
            std::fs::write(&path, text).unwrap();
            let error = read_node_file(dir.path()).unwrap_err();
            assert_eq!(matches!(error, NodeFileError::Newer { .. }), text == newer, "{error}");
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        }
        let dir = Path::new("d");
        let file = NodeFile { cluster_id: Some(ClusterId(9)), ..sample() };
        assert!(file.check_node(dir, NodeId(1)).is_ok());
        assert!(file.check_node(dir, NodeId(2)).is_err());
        assert!(file.check_cluster(dir, ClusterId(9)).is_ok());
        assert!(file.check_cluster(dir, ClusterId(8)).is_err());
        assert!(sample().check_cluster(dir, ClusterId(8)).is_ok());
    }
}
