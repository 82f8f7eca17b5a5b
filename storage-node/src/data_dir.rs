//! Opening a data directory: whose it is, whether its store was closed in order, and what to do
//! with files that cannot be read.
//!
//! Invariants: nothing is written before the directory is known to be ours; `node.json` says
//! "not clean" before anything is served; a store that is not the one named in `node.json` gets a
//! new name, so that the node never claims to hold what another store held.
//!
//! A start fails where somebody must act first: the directory is another node's, another cluster's
//! or a newer build's, or it is in use. A file that is damaged, cut short, empty, unreadable, of
//! another program, or that went back in time is no such case: it is set aside, and the node begins
//! empty under a new epoch and refills from its peers.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use dynamo_core::actor::Actor;
use dynamo_core::entropy::Entropy;
use dynamo_core::id::{Incarnation, NodeId, StoreId};
use dynamo_core::time::WallMs;
use dynamo_core::transfer::Inventory;

use crate::config::StoreSettings;
use crate::limits::{UNREADABLE_OPENS_MAX, UNREADABLE_PAUSE};
use crate::node_file::{
    NODE_FILE_FORMAT, NodeFile, NodeFileError, read_node_file, write_node_file,
};
use crate::store::aside::{set_aside, sync_dir};
use crate::store::engine::Engine;
use crate::store::hints::{HINTS_FILE, HintFile, open_hints};
use crate::store::seal::{Identity, identify, seal_open};
use crate::store::{EngineError, EngineKind, RECORDS_FILE, meta, open_records};

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
    /// What the store has of each partition; `None` where it has never held any.
    pub inventory: Option<Inventory>,
}

/// The main file as it was found.
#[derive(Debug)]
struct Records {
    engine: Arc<dyn Engine>,
    /// Which store it is; `None` where it is empty.
    identity: Option<Identity>,
    inventory: Option<Inventory>,
}

/// Opens `data_dir` for node `me`. Blocks.
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
    let path = data_dir.join(RECORDS_FILE);
    let before = known_node(data_dir, me, now, entropy)?;
    let open = || open_main_file(kind, data_dir, settings.cache_bytes);
    let found = open_or_set_aside(&path, now, open)?;
    let (records, was_clean) = the_stores_own(found, &before, &path, now, open)?;
    let hints_path = data_dir.join(HINTS_FILE);
    let hints = open_or_set_aside(&hints_path, now, || open_hints(kind, data_dir))?;

    let named = records.identity.map(|identity| identity.store);
    let store_id = named.unwrap_or_else(|| StoreId::random(entropy));
    let incarnation = Incarnation(before.incarnation.0 + 1);
    let error = |source| OpenError::Engine { path: path.clone(), source };
    if let Some(store) = named {
        seal_open(records.engine.as_ref(), store, incarnation).map_err(error)?;
    }
    let clean = was_clean && named.is_some();
    let actor =
        if clean { Actor::resumed(me, before.epoch) } else { Actor::restarted(me, before.epoch) };
    let epoch = actor.id().epoch;
    let file = NodeFile { store_id, epoch, clean: false, incarnation, ..before };
    write_node_file(data_dir, &file)?;
    if named.is_none() {
        meta::stamp(records.engine.as_ref(), store_id, incarnation).map_err(error)?;
        let synced = sync_dir(data_dir);
        synced.map_err(|e| error(EngineError::Io(e.to_string())))?;
    }
    if kind == EngineKind::Memory {
        tracing::warn!("the memory engine keeps nothing over a restart");
    }
    tracing::info!(store = %store_id, epoch, incarnation = incarnation.0, clean, "data opened");
    let Records { engine, inventory, .. } = records;
    Ok(OpenedDir { file, actor, records: engine, hints, inventory })
}

/// What `node.json` says. In a new directory it is written first: whatever else is found beside it
/// is then known to be ours, also after a crash.
fn known_node(
    data_dir: &Path,
    me: NodeId,
    now: WallMs,
    entropy: &mut impl Entropy,
) -> Result<NodeFile, OpenError> {
    if let Some(file) = read_node_file(data_dir)? {
        file.check_node(data_dir, me)?;
        return Ok(file);
    }
    let path = data_dir.join(RECORDS_FILE);
    if path.exists() {
        let reason = "records without a node.json: whose they are is not known".to_owned();
        return Err(OpenError::Foreign { path, reason });
    }
    // A new directory may be the successor of a lost one of the same node, whose epochs nobody here
    // remembers: it begins beyond them, since epochs end far less often than once a millisecond.
    let epoch = now.0.saturating_sub(1);
    let file = NodeFile {
        format: NODE_FILE_FORMAT,
        cluster_id: None,
        node_id: me,
        store_id: StoreId::random(entropy),
        epoch,
        clean: false,
        incarnation: Incarnation(0),
    };
    write_node_file(data_dir, &file)?;
    Ok(file)
}

/// Opens the main file. One whose facts cannot be read is as good as damaged.
fn open_main_file(
    kind: EngineKind,
    data_dir: &Path,
    cache_bytes: usize,
) -> Result<Records, EngineError> {
    let engine = open_records(kind, data_dir, cache_bytes)?;
    let identity = identify(engine.as_ref())?;
    let inventory = meta::stored_inventory(engine.as_ref())?;
    Ok(Records { engine, identity, inventory })
}

/// The file, or an empty one where it is an earlier state of the store; and whether the store was
/// closed in order.
fn the_stores_own(
    found: Records,
    before: &NodeFile,
    path: &Path,
    now: WallMs,
    open: impl Fn() -> Result<Records, EngineError>,
) -> Result<(Records, bool), OpenError> {
    let Some(Identity { store, seal }) = found.identity else {
        if before.incarnation.0 > 0 {
            tracing::error!(store = %before.store_id, "the store is gone; beginning empty");
        }
        return Ok((found, false));
    };
    if store != before.store_id {
        let reason = format!("is store {store}, and node.json names store {}", before.store_id);
        return Err(OpenError::Foreign { path: path.to_owned(), reason });
    }
    match seal.map_or(Ok(before.clean), |seal| seal.fits(before)) {
        Ok(clean) => Ok((found, clean)),
        Err(why) => {
            found.engine.close();
            put_aside(path, now, &why)?;
            let error = |source| OpenError::Engine { path: path.to_owned(), source };
            Ok((open().map_err(error)?, false))
        }
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
    let mut opened = open();
    for _ in 1..UNREADABLE_OPENS_MAX {
        if !matches!(opened, Err(EngineError::Unreadable(_))) {
            break;
        }
        pause(UNREADABLE_PAUSE);
        opened = open();
    }
    match opened {
        Ok(file) => Ok(file),
        Err(EngineError::Damaged(why) | EngineError::Unreadable(why)) => {
            put_aside(path, now, &why)?;
            open().map_err(error)
        }
        Err(source) => Err(error(source)),
    }
}

fn pause(time: Duration) {
    std::thread::sleep(time);
}

fn put_aside(path: &Path, now: WallMs, why: &str) -> Result<(), OpenError> {
    let moved = set_aside(path, now, why);
    moved.map_err(|source| OpenError::SetAside { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests;
