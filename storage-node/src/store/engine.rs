//! What the store needs of a storage engine: a file of ordered tables with one writer, atomic
//! commits and reads that never wait for the writer.
//!
//! Not here: what the tables hold. Keys and values are bytes at this level.

use std::fmt::Debug;
use std::ops::Bound;

use bytes::Bytes;

use super::error::EngineError;

/// One table of a file, by its place in the file's list of tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TableId(pub usize);

/// When a commit is allowed to return.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Commit {
    /// After everything committed so far has reached the disk.
    Durable,
    /// At once; the data is visible, and durable with the next durable commit.
    Buffered,
}

/// Rows in key order.
pub type Rows = Vec<(Bytes, Bytes)>;

/// The range of keys of a page.
pub type KeyRange = (Bound<Vec<u8>>, Bound<Vec<u8>>);

/// The tables as one transaction sees them: all of the same moment.
pub trait Snapshot {
    /// The value under `key`.
    ///
    /// # Errors
    /// [`EngineError`]; a write transaction must then be given up.
    fn get(&self, table: TableId, key: &[u8]) -> Result<Option<Bytes>, EngineError>;

    /// The first rows of `range`, as [`Engine::page`].
    ///
    /// # Errors
    /// As [`Self::get`].
    fn page(
        &self,
        table: TableId,
        range: KeyRange,
        rows: usize,
        bytes: usize,
    ) -> Result<Rows, EngineError>;
}

/// The tables inside one write transaction.
pub trait Tables: Snapshot {
    /// Writes `value` under `key`.
    ///
    /// # Errors
    /// As [`Snapshot::get`].
    fn put(&mut self, table: TableId, key: &[u8], value: &[u8]) -> Result<(), EngineError>;

    /// Removes `key`.
    ///
    /// # Errors
    /// As [`Snapshot::get`].
    fn remove(&mut self, table: TableId, key: &[u8]) -> Result<(), EngineError>;

    /// Removes every key of `range`.
    ///
    /// # Errors
    /// As [`Snapshot::get`].
    fn remove_range(&mut self, table: TableId, range: KeyRange) -> Result<(), EngineError>;
}

/// What is done inside a write transaction.
pub type Work<'a> = dyn FnMut(&mut dyn Tables) -> Result<(), EngineError> + 'a;

/// What is read of one moment.
pub type Look<'a> = dyn FnMut(&dyn Snapshot) -> Result<(), EngineError> + 'a;

/// One open file.
pub trait Engine: Debug + Send + Sync {
    /// The committed value under `key`.
    ///
    /// # Errors
    /// [`EngineError`].
    fn get(&self, table: TableId, key: &[u8]) -> Result<Option<Bytes>, EngineError>;

    /// The first rows of `range`, at most `rows` and about `bytes`, at least one where there is
    /// one.
    ///
    /// # Errors
    /// [`EngineError`].
    fn page(
        &self,
        table: TableId,
        range: KeyRange,
        rows: usize,
        bytes: usize,
    ) -> Result<Rows, EngineError>;

    /// Runs `look` on several tables as they are at one moment. Kept short: what is overwritten
    /// meanwhile stays on disk for it.
    ///
    /// # Errors
    /// [`EngineError`], those of `look` included.
    fn snapshot(&self, look: &mut Look<'_>) -> Result<(), EngineError>;

    /// Runs `work` in a write transaction and commits it. Where `work` or the commit fails, nothing
    /// of it is visible, though after a failed commit it may be there when the file is opened anew.
    ///
    /// # Errors
    /// [`EngineError`]; no further write may be tried before [`Self::reopen`].
    fn transact(&self, commit: Commit, work: &mut Work<'_>) -> Result<(), EngineError>;

    /// Closes the file and opens it anew, after a failure; where there is no file, an empty one.
    ///
    /// # Errors
    /// [`EngineError`]; it may be tried again.
    fn reopen(&self) -> Result<(), EngineError>;

    /// Closes the file and opens it anew where it cannot be written now, so that what it has can be
    /// read: after a write that failed it answers no more than it has in memory.
    ///
    /// # Errors
    /// [`EngineError`]; it may be tried again.
    fn reopen_for_reads(&self) -> Result<(), EngineError> {
        self.reopen()
    }

    /// Reads the whole file and compares it with its checksums. Until that has ended, other calls
    /// answer [`EngineError::Closed`].
    ///
    /// # Errors
    /// [`EngineError::Damaged`] where anything of it is not as it was written.
    fn verify(&self) -> Result<(), EngineError> {
        Ok(())
    }

    /// Number of rows of a table.
    ///
    /// # Errors
    /// [`EngineError`].
    fn rows(&self, table: TableId) -> Result<u64, EngineError>;

    /// Closes the file; later calls answer [`EngineError::Closed`].
    fn close(&self);

    /// Forgets what a closed store has outside of its file.
    fn discard(&self) {}
}
