//! What the clients of a run saw: the material of the final checks. A run can write it down, and a
//! test can write one by hand to show that a check notices what it is there for.

use std::collections::{BTreeMap, BTreeSet};

use crate::clock::hlc::Hlc;
use crate::id::PutId;
use crate::testing::sim::store::Key;
use crate::time::Mono;

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
    /// Whether what it wrote is gone after a while.
    pub expires: bool,
    /// How many coordinators made a version of it.
    pub minted: u32,
    /// Whether a process that remembered it has ended. If another coordinator made a version of it,
    /// that one may stand beside what superseded the first.
    pub forgotten: bool,
    /// The earliest and the latest stamp that a coordinator gave it.
    pub stamps: (Hlc, Hlc),
    /// Whether it was acknowledged from memory, and every copy was lost before it was flushed: the
    /// loss that a buffered bucket permits.
    pub volatile: bool,
    /// How it ended; `None` while it runs.
    pub end: Option<PutEnd>,
    /// When.
    pub ended: Mono,
}

/// One answered get.
#[derive(Debug, Clone)]
pub struct GetEntry {
    /// Who.
    pub client: usize,
    /// Where.
    pub key: Key,
    /// When its coordinator began.
    pub began: Mono,
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
    /// Whether what is dead is removed after a while.
    pub reaps: bool,
    /// Successive reads of one client that went backwards (I-7), of how many.
    pub backwards: (u64, u64),
    /// Reads that missed the reader's own acknowledged write (I-8), of how many.
    pub own_write_missed: (u64, u64),
    /// Strict reads that missed a strict write acknowledged before (I-8), of how many.
    pub strict_missed: (u64, u64),
}

impl History {
    /// Whether any put that may have happened used a context that showed `put`.
    #[must_use]
    pub fn is_superseded(&self, put: PutId) -> bool {
        self.puts.values().any(|other| {
            other.end != Some(PutEnd::Fail) && !other.volatile && other.seen.contains(&put)
        })
    }

    /// Whether what the put wrote may be gone in the end although nothing supersedes it: where what
    /// is dead is removed, a tombstone is, and a value that expires.
    #[must_use]
    pub fn may_be_reaped(&self, put: PutId) -> bool {
        let entry = self.puts.get(&put);
        self.reaps && entry.is_some_and(|put| put.body.is_none() || put.expires)
    }

    /// The latest stamp of any of these puts.
    pub fn latest<'a>(&self, puts: impl Iterator<Item = &'a PutId>) -> Hlc {
        puts.filter_map(|id| self.puts.get(id)).map(|put| put.stamps.1).max().unwrap_or_default()
    }

    /// Acknowledged puts that must be there in the end, or be superseded.
    pub fn promised(&self) -> impl Iterator<Item = (&PutId, &PutEntry)> {
        self.puts.iter().filter(|(_, put)| put.end == Some(PutEnd::Ok) && !put.volatile)
    }

    /// Acknowledged writes of a key that were over when the read began, and that it neither shows
    /// nor need not show: nothing supersedes them, and nothing that it shows is a later write.
    pub fn missed<'a>(
        &'a self,
        get: &'a GetEntry,
        last_write_wins: bool,
    ) -> impl Iterator<Item = PutId> + 'a {
        let shown = |put: &PutId| get.versions.iter().any(|(id, _)| id == put);
        let latest = self.latest(get.versions.iter().map(|(id, _)| id));
        let over = self.promised().filter(|(_, put)| put.key == get.key && put.ended <= get.began);
        over.filter(move |(id, put)| {
            let later = last_write_wins && latest >= put.stamps.0;
            !shown(id) && !later && !self.is_superseded(**id)
        })
        .map(|(id, _)| *id)
    }
}
