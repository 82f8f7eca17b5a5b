//! What clients did and saw, and whether the store kept its promises.
//!
//! | module | what |
//! |---|---|
//! | [`check`] | the verdict on a history and on what is stored in the end |
//!
//! Every write carries a value of its own, so that what is read names the write behind it. An
//! operation whose outcome is unknown may or may not have happened: its value is never missed, and
//! what it covers may be gone.
//!
//! Not here: making histories ([`crate::workload`]).

pub mod check;

use std::collections::{BTreeMap, BTreeSet};

/// Names one write: the writing client and its running number.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ValueId(pub String);

impl ValueId {
    /// The bytes that the write stores: the name and padding that follows from it, so that a
    /// reader can tell a damaged value from a whole one.
    #[must_use]
    pub fn body(&self) -> String {
        let sum: usize = self.0.bytes().map(usize::from).sum();
        format!("{}|{}", self.0, "x".repeat(sum % 400))
    }

    /// The write behind a value that was read.
    ///
    /// # Errors
    /// The text, where it is not what any write stores.
    pub fn of_body(body: &[u8]) -> Result<Self, String> {
        let text = String::from_utf8_lossy(body);
        let id = Self(text.split('|').next().unwrap_or_default().to_owned());
        if id.body().as_bytes() == body { Ok(id) } else { Err(text.into_owned()) }
    }
}

/// How an operation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Acknowledged.
    Ok,
    /// Refused, and certainly not applied.
    Failed,
    /// Nobody knows.
    Unknown,
}

/// One write or delete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// The key.
    pub key: String,
    /// The value; `None` for a delete.
    pub value: Option<ValueId>,
    /// The values that the writer had seen in the context that it wrote with.
    pub covers: BTreeSet<ValueId>,
    /// How it ended.
    pub outcome: Outcome,
}

/// One successful read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Read {
    /// The key.
    pub key: String,
    /// The bodies that were returned.
    pub bodies: Vec<Vec<u8>>,
}

/// Everything that the clients of one run did.
#[derive(Debug, Clone, Default)]
pub struct History {
    /// Writes and deletes, in any order.
    pub writes: Vec<Write>,
    /// Reads, in any order.
    pub reads: Vec<Read>,
    /// Operations that did not succeed, as the client library saw them.
    pub errors: Vec<String>,
}

impl History {
    /// Adds what another client saw.
    pub fn extend(&mut self, other: Self) {
        self.writes.extend(other.writes);
        self.reads.extend(other.reads);
        self.errors.extend(other.errors);
    }
}

/// What every key holds after the faults are over and the replicas are equal.
pub type Final = BTreeMap<String, Vec<Vec<u8>>>;
