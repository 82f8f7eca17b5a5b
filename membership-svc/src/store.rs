//! The agent's file: a redb database with identity, history, registers and last known states.
//!
//! Every value is JSON behind a CRC32C. The file carries a format number and its node: a file of a
//! newer version, or of another node, is refused and left as it is. `node.json` beside it repeats
//! the identity for people and other programs; the database decides.
//!
//! Invariant: when [`Store::persist`] returns, what it was given survives a crash.

use std::path::{Path, PathBuf};

use dynamo_core::id::{Incarnation, NodeId};
use dynamo_core::membership::history::Event;
use dynamo_core::membership::registers::{BucketEntry, StagedEntry};
use dynamo_core::membership::state::NodeState;
use dynamo_core::membership::view::Delta;
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use service_kit::config::Invalid;
use service_kit::datadir::{create_private_dir, write_atomic};

/// The format that this build reads and writes.
const FORMAT: u32 = 1;

/// Name of the database in the data directory.
const DATABASE_FILE: &str = "membership.redb";

/// Name of the readable copy of the identity.
const NODE_FILE: &str = "node.json";

/// Bytes of page cache: the whole content is a few megabytes at most.
const CACHE_BYTES: usize = 4 * 1024 * 1024;

const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");
const EVENTS: TableDefinition<'_, (u64, u128), &[u8]> = TableDefinition::new("events");
const BUCKETS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("buckets");
const STATES: TableDefinition<'_, u128, &[u8]> = TableDefinition::new("states");

const IDENTITY_KEY: &str = "identity";
const STAGED_KEY: &str = "staged";

/// Why the file cannot be used or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The directory belongs to something else, or to a newer version.
    #[error("data_dir {}: {reason}", path.display())]
    Foreign {
        /// The directory.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The database refuses.
    #[error("membership database: {0}")]
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
    #[error("membership database: damaged {0}")]
    Damaged(&'static str),
}

impl StoreError {
    /// Whether the settings are wrong (another data directory would do), not the machine.
    #[must_use]
    pub fn as_invalid(&self) -> Option<Invalid> {
        match self {
            Self::Foreign { .. } => Some(Invalid::new("data_dir", self.to_string())),
            _ => None,
        }
    }
}

fn database(error: impl Into<redb::Error>) -> StoreError {
    StoreError::Database(Box::new(error.into()))
}

/// Who this agent is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// Format of the file.
    pub format: u32,
    /// The node, minted at the first start.
    pub node_id: NodeId,
    /// Lives begun so far.
    pub incarnation: Incarnation,
}

/// The fields that every format has.
#[derive(Deserialize)]
struct AnyFormat {
    format: u32,
}

/// The open file.
#[derive(Debug)]
pub struct Store {
    database: Database,
    directory: PathBuf,
}

impl Store {
    /// Opens or creates the file, begins a new life of the node and reads everything back. `mint`
    /// gives the identity of a node whose directory is empty.
    ///
    /// # Errors
    /// [`StoreError`]. A foreign or newer directory is left as it is.
    pub fn open(
        directory: &Path,
        mint: impl FnOnce() -> NodeId,
    ) -> Result<(Self, Identity, Delta), StoreError> {
        let named = read_node_file(directory)?;
        create_private_dir(directory)
            .map_err(|error| StoreError::Io { path: directory.to_owned(), error })?;
        let file = directory.join(DATABASE_FILE);
        if named.is_some() && !file.exists() {
            return Err(foreign(directory, "node.json is there, membership.redb is not"));
        }
        let database = Database::builder()
            .set_cache_size(CACHE_BYTES)
            .create(&file)
            .map_err(|error| in_use(directory, error))?;
        let store = Self { database, directory: directory.to_owned() };
        let known = store.identity()?;
        if let (Some(known), Some(named)) = (known, named)
            && known.node_id != named.node_id
        {
            let reason = format!("node.json names {}, the file {}", named.node_id, known.node_id);
            return Err(foreign(directory, &reason));
        }
        let (node_id, lived) = match known {
            Some(known) => (known.node_id, known.incarnation.0),
            None => (mint(), 0),
        };
        let identity = Identity { format: FORMAT, node_id, incarnation: Incarnation(lived + 1) };
        store.write_identity(&identity)?;
        let everything = store.read_everything()?;
        Ok((store, identity, everything))
    }

    /// Makes a delta durable, fsync included.
    ///
    /// # Errors
    /// When the database cannot write it; then nothing of it is there.
    pub fn persist(&self, delta: &Delta) -> Result<(), StoreError> {
        let transaction = self.database.begin_write().map_err(database)?;
        {
            let mut events = transaction.open_table(EVENTS).map_err(database)?;
            for event in &delta.events {
                let key = (event.id.lamport, event.id.issuer.0);
                events.insert(key, seal(event).as_slice()).map_err(database)?;
            }
            let mut meta = transaction.open_table(META).map_err(database)?;
            if let Some(staged) = &delta.staged {
                meta.insert(STAGED_KEY, seal(staged).as_slice()).map_err(database)?;
            }
            let mut buckets = transaction.open_table(BUCKETS).map_err(database)?;
            for (name, entry) in &delta.buckets {
                buckets.insert(name.as_str(), seal(entry).as_slice()).map_err(database)?;
            }
            let mut states = transaction.open_table(STATES).map_err(database)?;
            for state in &delta.states {
                states.insert(state.node.0, seal(state).as_slice()).map_err(database)?;
            }
        }
        transaction.commit().map_err(database)
    }

    /// Drops the states of nodes that were forgotten.
    ///
    /// # Errors
    /// When the database cannot write.
    pub fn forget(&self, keep: &dyn Fn(NodeId) -> bool) -> Result<(), StoreError> {
        let transaction = self.database.begin_write().map_err(database)?;
        {
            let mut states = transaction.open_table(STATES).map_err(database)?;
            states.retain(|node, _| keep(NodeId(node))).map_err(database)?;
        }
        transaction.commit().map_err(database)
    }

    /// Records that lives up to `incarnation` were seen elsewhere, so that the next start of this
    /// node is newer than all of them.
    ///
    /// # Errors
    /// When the database cannot write.
    pub fn outlive(&self, incarnation: Incarnation) -> Result<(), StoreError> {
        let Some(mut identity) = self.identity()? else {
            return Err(StoreError::Damaged("identity"));
        };
        if identity.incarnation < incarnation {
            identity.incarnation = incarnation;
            self.write_identity(&identity)?;
        }
        Ok(())
    }

    fn identity(&self) -> Result<Option<Identity>, StoreError> {
        let transaction = self.database.begin_read().map_err(database)?;
        let meta = match transaction.open_table(META) {
            Ok(meta) => meta,
            Err(redb::TableError::TableDoesNotExist(_)) => return Ok(None),
            Err(error) => return Err(database(error)),
        };
        let Some(stored) = meta.get(IDENTITY_KEY).map_err(database)? else { return Ok(None) };
        let AnyFormat { format } = unseal(stored.value(), "identity")?;
        if format != FORMAT {
            return Err(newer(&self.directory, format));
        }
        unseal(stored.value(), "identity").map(Some)
    }

    fn write_identity(&self, identity: &Identity) -> Result<(), StoreError> {
        let transaction = self.database.begin_write().map_err(database)?;
        {
            let mut meta = transaction.open_table(META).map_err(database)?;
            meta.insert(IDENTITY_KEY, seal(identity).as_slice()).map_err(database)?;
            // All tables exist from the first commit on.
            transaction.open_table(EVENTS).map_err(database)?;
            transaction.open_table(BUCKETS).map_err(database)?;
            transaction.open_table(STATES).map_err(database)?;
        }
        transaction.commit().map_err(database)?;
        let path = self.directory.join(NODE_FILE);
        let text =
            serde_json::to_vec_pretty(identity).expect("an identity has no failing serializer");
        write_atomic(&path, &text).map_err(|error| StoreError::Io { path, error })
    }

    fn read_everything(&self) -> Result<Delta, StoreError> {
        let transaction = self.database.begin_read().map_err(database)?;
        let mut delta = Delta::default();
        let events = transaction.open_table(EVENTS).map_err(database)?;
        for row in events.iter().map_err(database)? {
            let (_, value) = row.map_err(database)?;
            delta.events.push(unseal::<Event>(value.value(), "event")?);
        }
        let meta = transaction.open_table(META).map_err(database)?;
        if let Some(staged) = meta.get(STAGED_KEY).map_err(database)? {
            delta.staged = Some(unseal::<StagedEntry>(staged.value(), "staged changes")?);
        }
        let buckets = transaction.open_table(BUCKETS).map_err(database)?;
        for row in buckets.iter().map_err(database)? {
            let (name, value) = row.map_err(database)?;
            let entry = unseal::<BucketEntry>(value.value(), "bucket")?;
            delta.buckets.insert(name.value().to_owned(), entry);
        }
        let states = transaction.open_table(STATES).map_err(database)?;
        for row in states.iter().map_err(database)? {
            let (_, value) = row.map_err(database)?;
            delta.states.push(unseal::<NodeState>(value.value(), "node state")?);
        }
        Ok(delta)
    }
}

/// The identity in `node.json`, where there is one. Read before anything is touched, so that the
/// directory of a newer version stays as it is.
fn read_node_file(directory: &Path) -> Result<Option<Identity>, StoreError> {
    let path = directory.join(NODE_FILE);
    let text = match std::fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(StoreError::Io { path, error }),
    };
    let unreadable = |_| foreign(directory, "node.json is not that of a membership agent");
    let AnyFormat { format } = serde_json::from_slice(&text).map_err(unreadable)?;
    if format != FORMAT {
        return Err(newer(directory, format));
    }
    serde_json::from_slice(&text).map(Some).map_err(unreadable)
}

fn foreign(directory: &Path, reason: &str) -> StoreError {
    StoreError::Foreign { path: directory.to_owned(), reason: reason.to_owned() }
}

fn newer(directory: &Path, format: u32) -> StoreError {
    foreign(directory, &format!("format {format}, this version reads format {FORMAT}"))
}

fn in_use(directory: &Path, error: redb::DatabaseError) -> StoreError {
    match error {
        redb::DatabaseError::DatabaseAlreadyOpen => {
            foreign(directory, "another process has it open")
        }
        other => database(other),
    }
}

/// JSON behind its checksum.
fn seal(value: &impl Serialize) -> Vec<u8> {
    let json = serde_json::to_vec(value).expect("stored values have string keys only");
    let mut sealed = crc32c::crc32c(&json).to_be_bytes().to_vec();
    sealed.extend_from_slice(&json);
    sealed
}

fn unseal<T: DeserializeOwned>(sealed: &[u8], what: &'static str) -> Result<T, StoreError> {
    let (sum, json) = sealed.split_first_chunk::<4>().ok_or(StoreError::Damaged(what))?;
    if u32::from_be_bytes(*sum) != crc32c::crc32c(json) {
        return Err(StoreError::Damaged(what));
    }
    serde_json::from_slice(json).map_err(|_| StoreError::Damaged(what))
}

#[cfg(test)]
mod tests;
