//! Opening a data directory: whose it is, whether its store was closed in order, and what to do
//! with files that cannot be read.
//!
//! Invariants: nothing is written before the directory is known to be ours; `node.json` says
//! "not clean" before anything is served; a store that is not the one named in `node.json` gets a
//! new name, so that the node never claims to hold what another store held.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use dynamo_core::actor::Actor;
use dynamo_core::entropy::Entropy;
use dynamo_core::id::{Incarnation, NodeId, StoreId};
use dynamo_core::ring::PartitionSet;
use dynamo_core::time::WallMs;
use service_kit::datadir::write_atomic;

use crate::config::StoreSettings;
use crate::node_file::{
    NODE_FILE_FORMAT, NodeFile, NodeFileError, read_node_file, write_node_file,
};
use crate::store::engine::Engine;
use crate::store::hints::{HINTS_FILE, HintFile, open_hints};
use crate::store::{EngineError, EngineKind, RECORDS_FILE, meta, open_records};

/// Marks a main file that was found damaged while the node ran.
const CONDEMNED_FILE: &str = "records.damaged";

/// Why a data directory is not used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Its `node.json` is not ours. Nothing was changed.
    #[error(transparent)]
    NodeFile(#[from] NodeFileError),
    /// Its files are not those that `node.json` names. Nothing was changed.
    #[error("{path}: {reason}")]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What does not fit.
        reason: String,
    },
    /// A file cannot be opened.
    #[error("{path}: {source}")]
    Engine {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: EngineError,
    },
    /// A damaged file could not be set aside.
    #[error("{path} is damaged and could not be set aside: {source}")]
    SetAside {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
}

impl OpenError {
    /// Whether an operator must act first: no restart will help.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::NodeFile(error) => !matches!(error, NodeFileError::Io { .. }),
            Self::Foreign { .. } => true,
            Self::Engine { source, .. } => matches!(source, EngineError::Format(_)),
            Self::SetAside { .. } => false,
        }
    }
}

/// An open data directory.
#[derive(Debug)]
pub struct OpenedDir {
    /// What `node.json` says now: not clean, a new incarnation.
    pub file: NodeFile,
    /// The actor to mint under.
    pub actor: Actor,
    /// The main file.
    pub records: Arc<dyn Engine>,
    /// The hint file.
    pub hints: HintFile,
    /// The partitions that the store holds completely; `None` where it has never held any.
    pub held: Option<PartitionSet>,
}

/// Opens `data_dir` for node `me`.
///
/// # Errors
/// [`OpenError`].
pub fn open_data_dir(
    data_dir: &Path,
    me: NodeId,
    settings: &StoreSettings,
    now: WallMs,
    entropy: &mut impl Entropy,
) -> Result<OpenedDir, OpenError> {
    let kind = settings.engine;
    let before = read_node_file(data_dir)?;
    let records_path = data_dir.join(RECORDS_FILE);
    match &before {
        Some(file) => file.check_node(data_dir, me)?,
        None if records_path.exists() => {
            let reason = "records without a node.json: whose they are is not known".to_owned();
            return Err(OpenError::Foreign { path: records_path, reason });
        }
        None => {}
    }
    let condemned = data_dir.join(CONDEMNED_FILE);
    if condemned.exists() && records_path.exists() {
        set_aside(&records_path, now, "it was damaged when the node ran last")?;
    }
    let open = || {
        let records = open_records(kind, data_dir, settings.cache_bytes)?;
        // A file whose facts cannot be read is as good as damaged.
        meta::stored_id(records.as_ref())?;
        meta::stored_held(records.as_ref())?;
        Ok(records)
    };
    let records = open_or_set_aside(&records_path, now, open)?;
    remove_if_there(&condemned)?;
    let engine_error = |path: &Path| {
        let path = path.to_owned();
        move |source| OpenError::Engine { path, source }
    };
    let named = meta::stored_id(records.as_ref()).map_err(engine_error(&records_path))?;
    let known = before.as_ref().map(|file| file.store_id);
    if let (Some(found), Some(expected)) = (named, known)
        && found != expected
    {
        let reason = format!("is store {found}, and node.json names store {expected}");
        return Err(OpenError::Foreign { path: records_path, reason });
    }
    let hints_path = data_dir.join(HINTS_FILE);
    let hints = open_or_set_aside(&hints_path, now, || open_hints(kind, data_dir))?;

    let store_id = named.unwrap_or_else(|| StoreId::random(entropy));
    let clean = named.is_some() && before.as_ref().is_some_and(|file| file.clean);
    let epoch = before.as_ref().map_or(0, |file| file.epoch);
    let actor = if clean { Actor::resumed(me, epoch) } else { Actor::restarted(me, epoch) };
    let file = NodeFile {
        format: NODE_FILE_FORMAT,
        cluster_id: before.as_ref().and_then(|file| file.cluster_id),
        node_id: me,
        store_id,
        epoch: actor.id().epoch,
        clean: false,
        incarnation: Incarnation(before.as_ref().map_or(0, |file| file.incarnation.0) + 1),
    };
    write_node_file(data_dir, &file)?;
    if named.is_none() {
        meta::stamp(records.as_ref(), store_id).map_err(engine_error(&records_path))?;
    }
    let held = meta::stored_held(records.as_ref()).map_err(engine_error(&records_path))?;
    if kind == EngineKind::Memory {
        tracing::warn!("the memory engine keeps nothing over a restart");
    }
    tracing::info!(
        store = %store_id,
        epoch = file.epoch,
        incarnation = file.incarnation.0,
        clean,
        "data directory opened"
    );
    Ok(OpenedDir { file, actor, records, hints, held })
}

/// Notes that the main file is damaged, for the next start to set it aside. Opening it may well
/// succeed: a damaged page is found only when it is met.
pub fn condemn_records(data_dir: &Path) {
    let path = data_dir.join(CONDEMNED_FILE);
    if let Err(error) = write_atomic(&path, b"") {
        tracing::error!(%error, "the damaged file could not be marked; it may be opened again");
    }
}

/// Opens a file. One that is damaged beyond reading is set aside, and an empty one takes its
/// place: the node refills from its peers, which is better than never starting again.
fn open_or_set_aside<T>(
    path: &Path,
    now: WallMs,
    open: impl Fn() -> Result<T, EngineError>,
) -> Result<T, OpenError> {
    let error = |source| OpenError::Engine { path: path.to_owned(), source };
    match open() {
        Ok(file) => Ok(file),
        Err(EngineError::Damaged(why)) => {
            set_aside(path, now, &why)?;
            open().map_err(error)
        }
        Err(source) => Err(error(source)),
    }
}

fn set_aside(path: &Path, now: WallMs, why: &str) -> Result<(), OpenError> {
    let mut aside = path.as_os_str().to_owned();
    aside.push(format!(".damaged-{}", now.0));
    let moved = std::fs::rename(path, &aside);
    moved.map_err(|source| OpenError::SetAside { path: path.to_owned(), source })?;
    tracing::error!(why, ?aside, "a damaged file was set aside; starting empty");
    Ok(())
}

fn remove_if_there(path: &Path) -> Result<(), OpenError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(OpenError::SetAside { path: path.to_owned(), source: error })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use dynamo_core::entropy::SplitMix;

    use super::*;

    const ME: NodeId = NodeId(1);

    fn open(dir: &Path, engine: EngineKind, seed: u64) -> Result<OpenedDir, OpenError> {
        let settings = StoreSettings { engine, ..StoreSettings::default() };
        open_data_dir(dir, ME, &settings, WallMs(1), &mut SplitMix::new(seed))
    }

    fn mark_clean(dir: &Path) {
        let file = read_node_file(dir).unwrap().unwrap();
        write_node_file(dir, &NodeFile { clean: true, ..file }).unwrap();
    }

    #[test]
    fn each_life_counts_and_only_an_unclean_one_costs_an_epoch() {
        let dir = tempfile::tempdir().unwrap();
        let first = open(dir.path(), EngineKind::Redb, 1).unwrap();
        assert_eq!((first.file.epoch, first.file.incarnation.0, first.held), (1, 1, None));
        drop((first.records, first.hints));
        mark_clean(dir.path());
        let second = open(dir.path(), EngineKind::Redb, 2).unwrap();
        assert_eq!((second.file.epoch, second.file.incarnation.0), (1, 2));
        assert_eq!((second.file.store_id, second.file.clean), (first.file.store_id, false));
        drop((second.records, second.hints));
        let third = open(dir.path(), EngineKind::Redb, 3).unwrap();
        assert_eq!((third.file.epoch, third.file.incarnation.0), (2, 3));
    }

    #[test]
    fn a_directory_in_use_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let held = open(dir.path(), EngineKind::Redb, 1).unwrap();
        let before = read_node_file(dir.path()).unwrap();
        let refused = open(dir.path(), EngineKind::Redb, 2).unwrap_err();
        assert!(matches!(refused, OpenError::Engine { source: EngineError::Locked, .. }));
        assert!(!refused.is_refusal(), "it may be free a moment later");
        assert_eq!(read_node_file(dir.path()).unwrap(), before);
        drop(held);
    }

    #[test]
    fn a_condemned_file_is_set_aside_once() {
        let dir = tempfile::tempdir().unwrap();
        let first = open(dir.path(), EngineKind::Redb, 1).unwrap().file;
        mark_clean(dir.path());
        condemn_records(dir.path());
        let second = open(dir.path(), EngineKind::Redb, 2).unwrap().file;
        assert_ne!(second.store_id, first.store_id);
        assert_eq!(second.epoch, first.epoch + 1, "clean or not, the data is gone");
        let third = open(dir.path(), EngineKind::Redb, 3).unwrap().file;
        assert_eq!(third.store_id, second.store_id);
    }

    #[test]
    fn memory_is_a_new_store_each_time_also_after_a_clean_end() {
        let dir = tempfile::tempdir().unwrap();
        let first = open(dir.path(), EngineKind::Memory, 1).unwrap();
        mark_clean(dir.path());
        let second = open(dir.path(), EngineKind::Memory, 2).unwrap();
        assert_ne!(first.file.store_id, second.file.store_id);
        assert_eq!(second.file.epoch, first.file.epoch + 1);
    }

    #[test]
    fn another_nodes_directory_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        drop(open(dir.path(), EngineKind::Redb, 1).unwrap());
        let before = read_node_file(dir.path()).unwrap();
        let settings = StoreSettings::default();
        let stranger = NodeId(2);
        let mut entropy = SplitMix::new(2);
        let refused =
            open_data_dir(dir.path(), stranger, &settings, WallMs(1), &mut entropy).unwrap_err();
        assert!(refused.is_refusal());
        assert_eq!(read_node_file(dir.path()).unwrap(), before);
    }
}
