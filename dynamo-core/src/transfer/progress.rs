//! How far the copying of one partition has come: one durable record per partition. It is the
//! confirmation round of the paper (section 4.9): pages that were merged are not asked for again,
//! whoever dies meanwhile.
//!
//! A page is merged durably first, then the record is written. So a record never claims what is
//! not there, and a crash in between costs one page.

use serde::{Deserialize, Serialize};

use crate::id::{NodeId, StoreId};
use crate::key::ObjectKey;
use crate::limits::PROGRESS_BYTES_MAX;
use crate::wire::tree::ObjectDto;

/// The version of the form that this build reads and writes.
pub const PROGRESS_FORMAT: u32 = 1;

/// A stored record that is no progress. The partition starts over.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProgressError {
    /// Longer than [`PROGRESS_BYTES_MAX`].
    #[error("progress of more than {PROGRESS_BYTES_MAX} bytes")]
    TooLong,
    /// Not the JSON of one.
    #[error("not progress: {0}")]
    Json(String),
    /// A form of a newer build.
    #[error("progress format {0} is not known to this build")]
    Format(u32),
    /// A cursor that is no object.
    #[error("the cursor is not the name of an object")]
    Cursor,
}

/// How far the copying of one partition has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// The store that it was copied into. Another one has nothing of it.
    pub store: StoreId,
    /// The node that gave the last page.
    pub source: Option<NodeId>,
    /// Everything up to here is copied.
    pub cursor: Option<ObjectKey>,
    /// Whether the end was reached.
    pub copied: bool,
    /// Records copied.
    pub records: u64,
    /// Bytes of their values.
    pub bytes: u64,
    /// Records that a source could not read; the comparison fetches them from others.
    pub unreadable: u64,
    /// How often it went on after a failure, a restart or with another source.
    pub restarts: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Form {
    format: u32,
    store: StoreId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    source: Option<NodeId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cursor: Option<ObjectDto>,
    copied: bool,
    records: u64,
    bytes: u64,
    unreadable: u64,
    restarts: u32,
}

impl Progress {
    /// Nothing copied into `store` yet.
    #[must_use]
    pub fn new(store: StoreId) -> Self {
        Self {
            store,
            source: None,
            cursor: None,
            copied: false,
            records: 0,
            bytes: 0,
            unreadable: 0,
            restarts: 0,
        }
    }

    /// The form that is stored; at most [`PROGRESS_BYTES_MAX`] bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let form = Form {
            format: PROGRESS_FORMAT,
            store: self.store,
            source: self.source,
            cursor: self.cursor.as_ref().map(ObjectDto::from),
            copied: self.copied,
            records: self.records,
            bytes: self.bytes,
            unreadable: self.unreadable,
            restarts: self.restarts,
        };
        serde_json::to_vec(&form).expect("strings and numbers are always JSON")
    }

    /// Reads what [`Progress::encode`] wrote.
    ///
    /// # Errors
    /// [`ProgressError`].
    pub fn decode(stored: &[u8]) -> Result<Self, ProgressError> {
        if stored.len() > PROGRESS_BYTES_MAX {
            return Err(ProgressError::TooLong);
        }
        let form: Form = serde_json::from_slice(stored)
            .map_err(|error| ProgressError::Json(error.to_string()))?;
        if form.format != PROGRESS_FORMAT {
            return Err(ProgressError::Format(form.format));
        }
        let cursor = form.cursor.as_ref().map(ObjectKey::try_from).transpose();
        Ok(Self {
            store: form.store,
            source: form.source,
            cursor: cursor.map_err(|_| ProgressError::Cursor)?,
            copied: form.copied,
            records: form.records,
            bytes: form.bytes,
            unreadable: form.unreadable,
            restarts: form.restarts,
        })
    }
}
