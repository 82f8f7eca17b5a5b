//! The engine that keeps everything in memory: for caches that may be lost and for tests. A start
//! finds it empty, so it never claims to hold what an earlier life of the node held.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use bytes::Bytes;

use super::engine::{Commit, Engine, KeyRange, Look, Rows, Snapshot, TableId, Tables, Work};
use super::error::EngineError;

type Table = BTreeMap<Vec<u8>, Bytes>;

/// Tables in memory.
#[derive(Debug)]
pub(crate) struct MemoryEngine {
    tables: RwLock<Vec<Table>>,
}

impl MemoryEngine {
    /// `count` empty tables.
    pub(crate) fn new(count: usize) -> Self {
        Self { tables: RwLock::new(vec![Table::new(); count]) }
    }

    fn read(&self) -> RwLockReadGuard<'_, Vec<Table>> {
        // A panic elsewhere leaves the tables as the last whole transaction made them.
        self.tables.read().unwrap_or_else(PoisonError::into_inner)
    }
}

fn missing() -> EngineError {
    EngineError::Damaged("no such table".to_owned())
}

impl Engine for MemoryEngine {
    fn get(&self, table: TableId, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        Ok(self.read().get(table.0).ok_or_else(missing)?.get(key).cloned())
    }

    fn page(
        &self,
        table: TableId,
        range: KeyRange,
        rows: usize,
        bytes: usize,
    ) -> Result<Rows, EngineError> {
        Committed(&self.read()).page(table, range, rows, bytes)
    }

    fn snapshot(&self, look: &mut Look<'_>) -> Result<(), EngineError> {
        look(&Committed(&self.read()))
    }

    fn transact(&self, _: Commit, work: &mut Work<'_>) -> Result<(), EngineError> {
        let mut tables = self.tables.write().unwrap_or_else(PoisonError::into_inner);
        let staged = vec![BTreeMap::new(); tables.len()];
        let mut transaction = Transaction { base: &tables, staged };
        work(&mut transaction)?;
        let staged = transaction.staged;
        for (table, changes) in tables.iter_mut().zip(staged) {
            for (key, change) in changes {
                match change {
                    Some(value) => table.insert(key, value),
                    None => table.remove(&key),
                };
            }
        }
        Ok(())
    }

    fn reopen(&self) -> Result<(), EngineError> {
        Ok(())
    }

    fn rows(&self, table: TableId) -> Result<u64, EngineError> {
        Ok(self.read().get(table.0).ok_or_else(missing)?.len() as u64)
    }

    fn close(&self) {}

    fn discard(&self) {
        let mut tables = self.tables.write().unwrap_or_else(PoisonError::into_inner);
        tables.iter_mut().for_each(Table::clear);
    }
}

/// Whether no key can lie in the range; the map panics on ranges that end before they begin.
pub(crate) fn is_empty_range(range: &KeyRange) -> bool {
    match range {
        (Bound::Included(from), Bound::Included(to)) => from > to,
        (Bound::Included(from) | Bound::Excluded(from), Bound::Excluded(to))
        | (Bound::Excluded(from), Bound::Included(to)) => from >= to,
        _ => false,
    }
}

/// The tables as the last transaction left them.
struct Committed<'a>(&'a [Table]);

impl Snapshot for Committed<'_> {
    fn get(&self, table: TableId, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        Ok(self.0.get(table.0).ok_or_else(missing)?.get(key).cloned())
    }

    fn page(
        &self,
        table: TableId,
        range: KeyRange,
        rows: usize,
        bytes: usize,
    ) -> Result<Rows, EngineError> {
        let table = self.0.get(table.0).ok_or_else(missing)?;
        if is_empty_range(&range) {
            return Ok(Rows::new());
        }
        let mut page = Rows::new();
        let mut size = 0usize;
        for (key, value) in table.range(range).take(rows) {
            size = size.saturating_add(key.len() + value.len());
            if !page.is_empty() && size > bytes {
                break;
            }
            page.push((Bytes::copy_from_slice(key), value.clone()));
        }
        Ok(page)
    }
}

/// The tables with the changes of one transaction on top.
struct Transaction<'a> {
    base: &'a [Table],
    staged: Vec<BTreeMap<Vec<u8>, Option<Bytes>>>,
}

impl Transaction<'_> {
    fn stage(&mut self, table: TableId, key: &[u8], to: Option<Bytes>) -> Result<(), EngineError> {
        self.staged.get_mut(table.0).ok_or_else(missing)?.insert(key.to_vec(), to);
        Ok(())
    }
}

impl Snapshot for Transaction<'_> {
    fn get(&self, table: TableId, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        if let Some(change) = self.staged.get(table.0).ok_or_else(missing)?.get(key) {
            return Ok(change.clone());
        }
        Ok(self.base.get(table.0).ok_or_else(missing)?.get(key).cloned())
    }

    fn page(
        &self,
        table: TableId,
        range: KeyRange,
        rows: usize,
        bytes: usize,
    ) -> Result<Rows, EngineError> {
        if is_empty_range(&range) {
            return Ok(Rows::new());
        }
        let base = self.base.get(table.0).ok_or_else(missing)?.range(range.clone());
        let staged = self.staged.get(table.0).ok_or_else(missing)?.range(range);
        let mut joined: BTreeMap<&[u8], Option<&Bytes>> =
            base.map(|(key, value)| (key.as_slice(), Some(value))).collect();
        joined.extend(staged.map(|(key, change)| (key.as_slice(), change.as_ref())));
        let mut page = Rows::new();
        let mut size = 0usize;
        let found = joined.into_iter().filter_map(|(key, value)| Some((key, value?)));
        for (key, value) in found.take(rows) {
            size = size.saturating_add(key.len() + value.len());
            if !page.is_empty() && size > bytes {
                break;
            }
            page.push((Bytes::copy_from_slice(key), value.clone()));
        }
        Ok(page)
    }
}

impl Tables for Transaction<'_> {
    fn put(&mut self, table: TableId, key: &[u8], value: &[u8]) -> Result<(), EngineError> {
        self.stage(table, key, Some(Bytes::copy_from_slice(value)))
    }

    fn remove(&mut self, table: TableId, key: &[u8]) -> Result<(), EngineError> {
        self.stage(table, key, None)
    }

    fn remove_range(&mut self, table: TableId, range: KeyRange) -> Result<(), EngineError> {
        let rows = self.page(table, range, usize::MAX, usize::MAX)?;
        rows.iter().try_for_each(|(key, _)| self.stage(table, key, None))
    }
}
