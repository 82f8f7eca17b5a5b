//! The engine on redb: one file, copy-on-write B-trees, one writer.
//!
//! Durability and quick repair are properties of each redb transaction, so both are set on every
//! one. A durable commit syncs; a buffered one is in memory until the next durable commit.
//! Quick repair saves the allocator's state with every durable commit, so that after a crash the
//! file opens at once instead of after a walk over it. That costs a second sync and more pages per
//! commit, so it begins at [`QUICK_REPAIR_FILE_BYTES`], below which the walk is short. Either way
//! a crash loses nothing that was acknowledged.
//!
//! redb refuses every write after a failed one until the file is opened anew, and may panic on a
//! damaged page. Both become an [`EngineError`] here; who calls decides what follows.
//! Invariant: no read transaction outlives the call that opened it, so the file does not grow
//! under long readers and can be closed at any time between calls.

use std::fmt;
use std::ops::Bound;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{PoisonError, RwLock};

use bytes::Bytes;
use redb::{
    Builder, Database, DatabaseError, Durability, ReadOnlyTable, ReadTransaction, ReadableDatabase,
    ReadableTable, ReadableTableMetadata, StorageError, Table, TableDefinition, TableError,
    WriteTransaction,
};

use super::engine::{Commit, Engine, KeyRange, Look, Rows, Snapshot, TableId, Tables, Work};
use super::error::EngineError;
use super::memory::is_empty_range;
use super::suspect::Mark;
use crate::limits::QUICK_REPAIR_FILE_BYTES;

/// What the operating system says where the disk fails to read or write.
const EIO: i32 = rustix::io::Errno::IO.raw_os_error();

/// Opens the file: at the start, and again after a failure.
pub(crate) type OpenFile = Box<dyn Fn(&Builder) -> Result<Database, DatabaseError> + Send + Sync>;

/// Tells how many bytes the file has now.
pub(crate) type FileBytes = Box<dyn Fn() -> u64 + Send + Sync>;

/// One redb file with a fixed set of tables.
pub(crate) struct RedbEngine {
    open: OpenFile,
    file_bytes: FileBytes,
    cache_bytes: usize,
    tables: &'static [&'static str],
    /// Where the file has a place of its own.
    mark: Option<Mark>,
    /// `None` while the file is closed.
    database: RwLock<Option<Database>>,
}

impl fmt::Debug for RedbEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedbEngine").field("tables", &self.tables).finish_non_exhaustive()
    }
}

impl RedbEngine {
    /// Opens the file, creating it and its tables where they are missing. One that is marked as
    /// suspect is checked first.
    pub(crate) fn open(
        open: OpenFile,
        file_bytes: FileBytes,
        cache_bytes: usize,
        tables: &'static [&'static str],
        mark: Option<Mark>,
    ) -> Result<Self, EngineError> {
        let database = RwLock::new(None);
        let engine = Self { open, file_bytes, cache_bytes, tables, mark, database };
        let database = engine.guarded(|| {
            let database = engine.open_database()?;
            match engine.make_tables(&database) {
                // A full disk is no reason not to read what is there; the next write finds it out.
                Err(EngineError::Full(_)) if engine.has_tables(&database).is_ok() => {}
                made => made?,
            }
            Ok(database)
        })?;
        *engine.database.write().unwrap_or_else(PoisonError::into_inner) = Some(database);
        if engine.mark.as_ref().is_some_and(Mark::is_made) {
            tracing::warn!("the engine panicked over this file; it is checked");
            if let Err(error) = engine.verify() {
                engine.close();
                return Err(error);
            }
        }
        Ok(engine)
    }

    fn open_database(&self) -> Result<Database, EngineError> {
        let mut builder = Builder::new();
        builder.set_cache_size(self.cache_bytes);
        (self.open)(&builder).map_err(open_error)
    }

    /// Readers open tables that exist; so they are made here, durably.
    fn make_tables(&self, database: &Database) -> Result<(), EngineError> {
        let transaction = self.begin(database, Commit::Durable)?;
        for name in self.tables {
            transaction.open_table(definition(name)).map_err(table_error)?;
        }
        commit(transaction)
    }

    fn has_tables(&self, database: &Database) -> Result<(), EngineError> {
        (0..self.tables.len())
            .try_for_each(|table| self.read_table(database, TableId(table)).map(drop))
    }

    /// Closes the file and opens it anew; it is in use where `check` passes.
    fn replace(
        &self,
        check: impl FnOnce(&Database) -> Result<(), EngineError>,
    ) -> Result<(), EngineError> {
        let mut slot = self.database.write().unwrap_or_else(PoisonError::into_inner);
        // The old handle holds the file's lock, so it goes first, whatever becomes of the new one.
        // Closing a damaged file may panic too.
        let old = slot.take();
        self.guarded(|| {
            drop(old);
            Ok(())
        })?;
        let database = self.guarded(|| {
            let database = self.open_database()?;
            check(&database)?;
            Ok(database)
        })?;
        *slot = Some(database);
        Ok(())
    }

    fn definition(&self, table: TableId) -> Result<Definition, EngineError> {
        self.tables
            .get(table.0)
            .map(|name| definition(name))
            .ok_or_else(|| EngineError::Damaged("no such table".to_owned()))
    }

    /// Runs `work` on the open file, with panics of the engine turned into errors.
    fn with<T>(
        &self,
        work: impl FnOnce(&Database) -> Result<T, EngineError>,
    ) -> Result<T, EngineError> {
        // Only reopening takes the lock for writing, and holds it for long: do not wait for it.
        let guard = match self.database.try_read() {
            Ok(guard) => guard,
            Err(std::sync::TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(std::sync::TryLockError::WouldBlock) => return Err(EngineError::Closed),
        };
        let database = guard.as_ref().ok_or(EngineError::Closed)?;
        self.guarded(|| work(database))
    }

    /// Runs `work`; a panic inside the engine means that it met a page it cannot make sense of.
    fn guarded<T>(&self, work: impl FnOnce() -> Result<T, EngineError>) -> Result<T, EngineError> {
        let caught = || catch_unwind(AssertUnwindSafe(work));
        let ended = match &self.mark {
            Some(mark) => mark.watch(caught),
            None => caught(),
        };
        ended.unwrap_or_else(|_| Err(EngineError::Damaged("the engine panicked".to_owned())))
    }

    fn begin(&self, database: &Database, commit: Commit) -> Result<WriteTransaction, EngineError> {
        let mut transaction = database.begin_write().map_err(|error| transaction_error(&error))?;
        let durability = match commit {
            Commit::Durable => Durability::Immediate,
            Commit::Buffered => Durability::None,
        };
        transaction
            .set_durability(durability)
            .map_err(|error| EngineError::Io(format!("durability refused: {error}")))?;
        let quick = commit == Commit::Durable && (self.file_bytes)() >= QUICK_REPAIR_FILE_BYTES;
        transaction.set_quick_repair(quick);
        Ok(transaction)
    }

    fn read_table(
        &self,
        database: &Database,
        table: TableId,
    ) -> Result<ReadOnlyTable<&'static [u8], &'static [u8]>, EngineError> {
        let transaction: ReadTransaction =
            database.begin_read().map_err(|error| transaction_error(&error))?;
        transaction.open_table(self.definition(table)?).map_err(table_error)
    }
}

type Definition = TableDefinition<'static, &'static [u8], &'static [u8]>;

fn definition(name: &'static str) -> Definition {
    TableDefinition::new(name)
}

fn commit(transaction: WriteTransaction) -> Result<(), EngineError> {
    transaction.commit().map_err(|error| match error {
        redb::CommitError::Storage(error) => storage_error(&error),
        other => EngineError::Io(other.to_string()),
    })
}

fn storage_error(error: &StorageError) -> EngineError {
    use std::io::ErrorKind;
    match error {
        StorageError::Corrupted(what) => EngineError::Damaged(what.clone()),
        StorageError::DatabaseClosed => EngineError::Closed,
        StorageError::Io(error)
            if matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded) =>
        {
            EngineError::Full(error.to_string())
        }
        other => EngineError::Io(other.to_string()),
    }
}

fn transaction_error(error: &redb::TransactionError) -> EngineError {
    match error {
        redb::TransactionError::Storage(error) => storage_error(error),
        other => EngineError::Io(other.to_string()),
    }
}

fn table_error(error: TableError) -> EngineError {
    match error {
        TableError::Storage(error) => storage_error(&error),
        other => EngineError::Damaged(other.to_string()),
    }
}

fn open_error(error: DatabaseError) -> EngineError {
    use std::io::ErrorKind;
    match error {
        DatabaseError::DatabaseAlreadyOpen => EngineError::Locked,
        // No build of ours ever wrote an old form, so the byte that says so is damaged.
        DatabaseError::UpgradeRequired(version) => {
            EngineError::Damaged(format!("form {version} of the file was never written here"))
        }
        // Where the header makes no sense redb says so as invalid data of the file; and a file that
        // is shorter than its header says ends early.
        DatabaseError::Storage(StorageError::Io(error))
            if matches!(error.kind(), ErrorKind::InvalidData | ErrorKind::UnexpectedEof) =>
        {
            EngineError::Damaged(error.to_string())
        }
        DatabaseError::Storage(StorageError::Io(error)) if error.raw_os_error() == Some(EIO) => {
            EngineError::Unreadable(error.to_string())
        }
        DatabaseError::Storage(error) => storage_error(&error),
        DatabaseError::RepairAborted => EngineError::Damaged("repair was not possible".to_owned()),
        other => EngineError::Io(other.to_string()),
    }
}

impl Engine for RedbEngine {
    fn get(&self, table: TableId, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        self.with(|database| value_of(&self.read_table(database, table)?, key))
    }

    fn page(
        &self,
        table: TableId,
        range: KeyRange,
        rows: usize,
        bytes: usize,
    ) -> Result<Rows, EngineError> {
        self.with(|database| page_of(&self.read_table(database, table)?, &range, rows, bytes))
    }

    fn snapshot(&self, look: &mut Look<'_>) -> Result<(), EngineError> {
        self.with(|database| {
            let begun = database.begin_read().map_err(|error| transaction_error(&error))?;
            let mut tables = Vec::with_capacity(self.tables.len());
            for name in self.tables {
                tables.push(begun.open_table(definition(name)).map_err(table_error)?);
            }
            look(&ReadTables { tables })
        })
    }

    fn transact(&self, how: Commit, work: &mut Work<'_>) -> Result<(), EngineError> {
        self.with(|database| {
            let transaction = self.begin(database, how)?;
            {
                let mut open = OpenTables { tables: Vec::with_capacity(self.tables.len()) };
                for name in self.tables {
                    let table = transaction.open_table(definition(name));
                    open.tables.push(table.map_err(table_error)?);
                }
                work(&mut open)?;
            }
            commit(transaction)
        })
    }

    fn reopen(&self) -> Result<(), EngineError> {
        // Making the tables also shows that the file takes writes.
        self.replace(|database| self.make_tables(database))
    }

    fn reopen_for_reads(&self) -> Result<(), EngineError> {
        self.replace(|database| self.has_tables(database))
    }

    fn verify(&self) -> Result<(), EngineError> {
        let mut slot = self.database.write().unwrap_or_else(PoisonError::into_inner);
        let database = slot.as_mut().ok_or(EngineError::Closed)?;
        match self.guarded(|| database.check_integrity().map_err(open_error)) {
            Ok(true) => {
                if let Some(Err(error)) = self.mark.as_ref().map(Mark::remove) {
                    tracing::warn!(%error, "a checked file is still marked as suspect");
                }
                Ok(())
            }
            // It was mended, but what is missing nobody knows.
            Ok(false) => Err(EngineError::Damaged("the file is not as it was written".to_owned())),
            Err(error) => Err(error),
        }
    }

    fn rows(&self, table: TableId) -> Result<u64, EngineError> {
        self.with(|database| {
            let table = self.read_table(database, table)?;
            table.len().map_err(|error| storage_error(&error))
        })
    }

    fn close(&self) {
        let old = self.database.write().unwrap_or_else(PoisonError::into_inner).take();
        let closed = self.guarded(|| {
            drop(old);
            Ok(())
        });
        if let Err(error) = closed {
            tracing::error!(%error, "the store file could not be closed in order");
        }
    }
}

impl Drop for RedbEngine {
    fn drop(&mut self) {
        // redb writes when it closes, and may panic on a damaged file then as well.
        self.close();
    }
}

/// The first rows of `range` in a table, see [`Engine::page`].
fn page_of(
    table: &impl ReadableTable<&'static [u8], &'static [u8]>,
    range: &KeyRange,
    rows: usize,
    bytes: usize,
) -> Result<Rows, EngineError> {
    let mut page = Rows::new();
    if is_empty_range(range) {
        return Ok(page);
    }
    let found = table.range::<&[u8]>(bounds(range)).map_err(|error| storage_error(&error))?;
    let mut size = 0usize;
    for row in found.take(rows) {
        let (key, value) = row.map_err(|error| storage_error(&error))?;
        // The file's own checksums are not read again with every page. A damaged key out of its
        // order would send whoever goes on after it round and round.
        let is_next = match page.last() {
            Some((last, _)) => last.as_ref() < key.value(),
            None => starts_with(range, key.value()),
        };
        if !is_next {
            return Err(EngineError::Damaged("keys are not in order".to_owned()));
        }
        size = size.saturating_add(key.value().len() + value.value().len());
        if !page.is_empty() && size > bytes {
            break;
        }
        let copy = Bytes::copy_from_slice;
        page.push((copy(key.value()), copy(value.value())));
    }
    Ok(page)
}

/// Whether `key` may be the first of `range`.
fn starts_with(range: &KeyRange, key: &[u8]) -> bool {
    match &range.0 {
        Bound::Included(from) => from.as_slice() <= key,
        Bound::Excluded(from) => from.as_slice() < key,
        Bound::Unbounded => true,
    }
}

fn value_of(
    table: &impl ReadableTable<&'static [u8], &'static [u8]>,
    key: &[u8],
) -> Result<Option<Bytes>, EngineError> {
    let value = table.get(key).map_err(|error| storage_error(&error))?;
    Ok(value.map(|value| Bytes::copy_from_slice(value.value())))
}

fn bounds(range: &KeyRange) -> (Bound<&[u8]>, Bound<&[u8]>) {
    (range.0.as_ref().map(Vec::as_slice), range.1.as_ref().map(Vec::as_slice))
}

fn no_table() -> EngineError {
    EngineError::Damaged("no such table".to_owned())
}

/// All tables in one read transaction.
struct ReadTables {
    tables: Vec<ReadOnlyTable<&'static [u8], &'static [u8]>>,
}

impl Snapshot for ReadTables {
    fn get(&self, table: TableId, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        value_of(self.tables.get(table.0).ok_or_else(no_table)?, key)
    }

    fn page(
        &self,
        table: TableId,
        range: KeyRange,
        rows: usize,
        bytes: usize,
    ) -> Result<Rows, EngineError> {
        page_of(self.tables.get(table.0).ok_or_else(no_table)?, &range, rows, bytes)
    }
}

struct OpenTables<'txn> {
    tables: Vec<Table<'txn, &'static [u8], &'static [u8]>>,
}

impl Snapshot for OpenTables<'_> {
    fn get(&self, table: TableId, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        value_of(self.tables.get(table.0).ok_or_else(no_table)?, key)
    }

    fn page(
        &self,
        table: TableId,
        range: KeyRange,
        rows: usize,
        bytes: usize,
    ) -> Result<Rows, EngineError> {
        page_of(self.tables.get(table.0).ok_or_else(no_table)?, &range, rows, bytes)
    }
}

impl Tables for OpenTables<'_> {
    fn put(&mut self, table: TableId, key: &[u8], value: &[u8]) -> Result<(), EngineError> {
        let table = self.tables.get_mut(table.0).ok_or_else(no_table)?;
        table.insert(key, value).map_err(|error| storage_error(&error))?;
        Ok(())
    }

    fn remove(&mut self, table: TableId, key: &[u8]) -> Result<(), EngineError> {
        let table = self.tables.get_mut(table.0).ok_or_else(no_table)?;
        table.remove(key).map_err(|error| storage_error(&error))?;
        Ok(())
    }

    fn remove_range(&mut self, table: TableId, range: KeyRange) -> Result<(), EngineError> {
        if is_empty_range(&range) {
            return Ok(());
        }
        let table = self.tables.get_mut(table.0).ok_or_else(no_table)?;
        let removed = table.retain_in::<&[u8], _>(bounds(&range), |_, _| false);
        removed.map_err(|error| storage_error(&error))
    }
}
