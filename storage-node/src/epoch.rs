//! Keeps the actor epoch of this node where it survives a crash, and hands out the right to mint.
//!
//! Invariant: nobody mints under an epoch that is not on disk. Where an epoch has ended and the new
//! one cannot be written, minting is refused until it can; a crash would else start under an epoch
//! that was used already.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use dynamo_core::actor::Actor;
use dynamo_core::id::{ActorId, ClusterId, StoreId};
use prometheus::{IntCounter, IntGauge};

use crate::node_file::{NodeFile, NodeFileError, write_node_file};

/// The new epoch could not be written, so nothing can be minted now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the actor epoch cannot be written")]
pub struct EpochUnwritten;

/// The actor of this node with its file.
#[derive(Debug)]
pub struct EpochKeeper {
    data_dir: PathBuf,
    inner: Mutex<Inner>,
    epoch: IntGauge,
    ended: IntCounter,
}

#[derive(Debug)]
struct Inner {
    actor: Actor,
    file: NodeFile,
    /// Whether the file on disk lacks the actor's epoch.
    unwritten: bool,
}

impl EpochKeeper {
    /// Takes over the actor of a store whose file is `file`, already on disk and marked unclean.
    #[must_use]
    pub fn new(
        data_dir: &Path,
        actor: Actor,
        file: NodeFile,
        epoch: IntGauge,
        ended: IntCounter,
    ) -> Self {
        epoch.set(i64::try_from(actor.id().epoch).unwrap_or(i64::MAX));
        let inner = Mutex::new(Inner { actor, file, unwritten: false });
        Self { data_dir: data_dir.to_owned(), inner, epoch, ended }
    }

    /// Lends the actor to mint with. An epoch that `mint` ends is written when it returns; to mint
    /// under the new one, borrow again.
    ///
    /// # Errors
    /// [`EpochUnwritten`], before `mint` is called.
    pub fn mint<T>(&self, mint: impl FnOnce(&mut Actor) -> T) -> Result<T, EpochUnwritten> {
        let mut inner = self.lock();
        self.write_if_needed(&mut inner)?;
        Ok(mint(&mut inner.actor))
    }

    /// Ends the epoch because data was lost; `seen` is the highest own epoch known of. A failure
    /// to write it is logged and stops minting.
    pub fn end(&self, seen: u64, why: &str) {
        let mut inner = self.lock();
        let before = inner.actor.id();
        if !inner.actor.on_loss(seen) {
            return;
        }
        inner.unwritten = true;
        self.ended.inc();
        let epoch = inner.actor.id().epoch;
        tracing::warn!(before = before.epoch, epoch, why, "the actor epoch ended");
        if let Err(error) = self.write_if_needed(&mut inner) {
            tracing::error!(%error, epoch, "puts are refused until the new epoch is written");
        }
    }

    /// The data is lost as a whole, and an empty store called `store` follows: its name and the end
    /// of the epoch are written at once.
    ///
    /// # Errors
    /// [`NodeFileError::Io`]; nothing can be minted then, and it is to be tried again.
    pub fn renew(&self, store: StoreId) -> Result<(), NodeFileError> {
        let mut inner = self.lock();
        if inner.actor.on_loss(0) {
            inner.unwritten = true;
            self.ended.inc();
        }
        let epoch = inner.actor.id().epoch;
        let file = NodeFile { store_id: store, epoch, ..inner.file };
        write_node_file(&self.data_dir, &file)?;
        tracing::warn!(before = %inner.file.store_id, %store, epoch, "the store begins empty");
        inner.file = file;
        inner.unwritten = false;
        self.epoch.set(i64::try_from(epoch).unwrap_or(i64::MAX));
        Ok(())
    }

    /// The actor of now.
    #[must_use]
    pub fn actor(&self) -> ActorId {
        self.lock().actor.id()
    }

    /// What the node file says.
    #[must_use]
    pub fn file(&self) -> NodeFile {
        self.lock().file
    }

    /// Stamps the cluster into the file, once.
    ///
    /// # Errors
    /// [`NodeFileError::Foreign`] where another cluster is stamped already, [`NodeFileError::Io`].
    pub fn join_cluster(&self, cluster: ClusterId) -> Result<(), NodeFileError> {
        let mut inner = self.lock();
        inner.file.check_cluster(&self.data_dir, cluster)?;
        if inner.file.cluster_id.is_some() {
            return Ok(());
        }
        let file = NodeFile { cluster_id: Some(cluster), ..inner.file };
        write_node_file(&self.data_dir, &file)?;
        inner.file = file;
        Ok(())
    }

    /// Notes that the store was closed in order. The last thing that a process does.
    ///
    /// # Errors
    /// [`NodeFileError::Io`]; the next start then begins a new epoch, which is safe.
    pub fn close_clean(&self) -> Result<(), NodeFileError> {
        let mut inner = self.lock();
        let epoch = inner.actor.id().epoch;
        let file = NodeFile { clean: true, epoch, ..inner.file };
        write_node_file(&self.data_dir, &file)?;
        inner.file = file;
        Ok(())
    }

    fn write_if_needed(&self, inner: &mut Inner) -> Result<(), EpochUnwritten> {
        let epoch = inner.actor.id().epoch;
        if !inner.unwritten {
            return Ok(());
        }
        let file = NodeFile { epoch, ..inner.file };
        write_node_file(&self.data_dir, &file).map_err(|error| {
            tracing::error!(%error, "the node file could not be written");
            EpochUnwritten
        })?;
        inner.file = file;
        inner.unwritten = false;
        self.epoch.set(i64::try_from(epoch).unwrap_or(i64::MAX));
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Actor and file are replaced as whole values, so a panic between leaves them valid.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use dynamo_core::id::{Incarnation, NodeId};

    use super::*;
    use crate::node_file::{NODE_FILE_FORMAT, read_node_file};

    fn keeper(dir: &Path, actor: Actor) -> EpochKeeper {
        let file = NodeFile {
            format: NODE_FILE_FORMAT,
            cluster_id: None,
            node_id: NodeId(1),
            store_id: StoreId(2),
            epoch: actor.id().epoch,
            clean: false,
            incarnation: Incarnation(1),
        };
        let gauge = IntGauge::new("g", "g").unwrap();
        EpochKeeper::new(dir, actor, file, gauge, IntCounter::new("c", "c").unwrap())
    }

    #[test]
    fn an_ended_epoch_is_on_disk_before_it_is_used() {
        let dir = tempfile::tempdir().unwrap();
        let keeper = keeper(dir.path(), Actor::resumed(NodeId(1), 4));
        keeper.end(9, "test");
        assert_eq!(read_node_file(dir.path()).unwrap().unwrap().epoch, 10);
        assert_eq!(keeper.mint(|actor| actor.id().epoch), Ok(10));
        keeper.end(3, "test");
        assert_eq!(keeper.actor().epoch, 10, "nothing was minted under 10, so it stays");
        keeper.join_cluster(ClusterId(7)).unwrap();
        assert!(keeper.join_cluster(ClusterId(8)).is_err());
        keeper.close_clean().unwrap();
        let file = read_node_file(dir.path()).unwrap().unwrap();
        assert_eq!((file.clean, file.epoch, file.cluster_id), (true, 10, Some(ClusterId(7))));
    }

    #[test]
    fn nothing_is_minted_while_the_epoch_cannot_be_written() {
        let dir = tempfile::tempdir().unwrap();
        let gone = dir.path().join("gone");
        let keeper = keeper(&gone, Actor::resumed(NodeId(1), 4));
        keeper.end(4, "test");
        assert_eq!(keeper.mint(|actor| actor.id()), Err(EpochUnwritten));
        std::fs::create_dir(&gone).unwrap();
        assert_eq!(keeper.mint(|actor| actor.id().epoch), Ok(5));
        assert_eq!(read_node_file(&gone).unwrap().unwrap().epoch, 5);
    }
}
