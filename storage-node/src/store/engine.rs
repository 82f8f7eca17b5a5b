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

/// The tables inside one write transaction.
pub trait Tables {
    /// The value under `key` as this transaction sees it.
    ///
    /// # Errors
    /// [`EngineError`]; the transaction must then be given up.
    fn get(&self, table: TableId, key: &[u8]) -> Result<Option<Bytes>, EngineError>;

    /// Writes `value` under `key`.
    ///
    /// # Errors
    /// As [`Self::get`].
    fn put(&mut self, table: TableId, key: &[u8], value: &[u8]) -> Result<(), EngineError>;

    /// Removes `key`.
    ///
    /// # Errors
    /// As [`Self::get`].
    fn remove(&mut self, table: TableId, key: &[u8]) -> Result<(), EngineError>;
}

/// What is done inside a write transaction.
pub type Work<'a> = dyn FnMut(&mut dyn Tables) -> Result<(), EngineError> + 'a;

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

    /// Runs `work` in a write transaction and commits it. Where `work` or the commit fails, nothing
    /// of it is visible, though after a failed commit it may be there when the file is opened anew.
    ///
    /// # Errors
    /// [`EngineError`]; no further write may be tried before [`Self::reopen`].
    fn transact(&self, commit: Commit, work: &mut Work<'_>) -> Result<(), EngineError>;

    /// Closes the file and opens it anew, after a failure.
    ///
    /// # Errors
    /// [`EngineError`]; it may be tried again.
    fn reopen(&self) -> Result<(), EngineError>;

    /// Number of rows of a table.
    ///
    /// # Errors
    /// [`EngineError`].
    fn rows(&self, table: TableId) -> Result<u64, EngineError>;

    /// Closes the file for good; later calls answer [`EngineError::Closed`].
    fn close(&self);
}
