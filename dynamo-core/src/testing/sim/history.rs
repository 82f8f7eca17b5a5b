//! What the clients of a run saw: the material of the final checks. A run can write it down, and a
//! test can write one by hand to show that a check notices what it is there for.

use std::collections::{BTreeMap, BTreeSet};

use crate::id::PutId;
use crate::testing::sim::store::Key;

/// How a put ended for its client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PutEnd {
    /// Acknowledged.
    Ok,
    /// Refused, and said not to have happened.
    Fail,
    /// Nobody knows.
    Info,
}

/// One put or delete.
#[derive(Debug, Clone)]
pub struct PutEntry {
    /// Who.
    pub client: usize,
    /// Where.
    pub key: Key,
    /// What, unless it was a delete: the bytes follow from the put's id and what was seen.
    pub body: Option<String>,
    /// The puts whose versions its context came from answers showing.
    pub seen: BTreeSet<PutId>,
    /// How many coordinators made a version of it. A retry through another coordinator may make a
    /// second one, and if the first was superseded meanwhile, that one is beside its successor: the
    /// put was still running, so it may count as having happened after it.
    pub minted: u32,
    /// How it ended; `None` while it runs.
    pub end: Option<PutEnd>,
}

/// One answered get.
#[derive(Debug, Clone)]
pub struct GetEntry {
    /// Who.
    pub client: usize,
    /// Where.
    pub key: Key,
    /// Every version with its put and its bytes (`None` for a tombstone).
    pub versions: Vec<(PutId, Option<String>)>,
    /// Whether all N primaries answered it.
    pub complete: bool,
}

/// What a replica holds in the end: the puts of its siblings.
pub type Versions = Vec<(PutId, Option<String>)>;

/// A whole run as its clients saw it, and what the replicas held in the end.
#[derive(Debug, Clone, Default)]
pub struct History {
    /// Every attempted put.
    pub puts: BTreeMap<PutId, PutEntry>,
    /// Every answered get, in order of the answers.
    pub gets: Vec<GetEntry>,
    /// Per key, what each primary holds after everything has healed.
    pub last: BTreeMap<Key, Vec<Versions>>,
    /// Successive reads of one client that went backwards (I-7), of how many.
    pub backwards: (u64, u64),
    /// Reads that missed the reader's own acknowledged write (I-8), of how many.
    pub own_write_missed: (u64, u64),
}

impl History {
    /// Whether any put that may have happened used a context that showed `put`.
    #[must_use]
    pub fn is_superseded(&self, put: PutId) -> bool {
        self.puts.values().any(|other| other.end != Some(PutEnd::Fail) && other.seen.contains(&put))
    }
}
