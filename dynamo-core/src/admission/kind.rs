//! The kinds of background work: a closed set, for headers, fairness and metric labels.

use std::fmt;
use std::str::FromStr;

/// What a piece of background work is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Comparing replicas and repairing what differs.
    Exchange,
    /// Copying partitions, and deleting those given up.
    Transfer,
    /// A comparison that an operator asked for.
    Repair,
    /// Removing dead records and old clock entries.
    Reap,
    /// Checking replicas without changing them.
    Verify,
    /// Reading everything for a backup.
    Backup,
    /// Delivering hints.
    Hints,
    /// Reading all records back, to compare them with their checksums and the tree.
    Scrub,
    /// Bringing replicas up to date that a read found stale.
    ReadRepair,
}

/// Text that names no kind of background work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("background work is one of exchange, transfer, repair, reap, verify and backup")]
pub struct UnknownKind;

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 9] = [
        Self::Exchange,
        Self::Transfer,
        Self::Repair,
        Self::Reap,
        Self::Verify,
        Self::Backup,
        Self::Hints,
        Self::Scrub,
        Self::ReadRepair,
    ];

    /// Its text in headers, logs and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Exchange => "exchange",
            Self::Transfer => "transfer",
            Self::Repair => "repair",
            Self::Reap => "reap",
            Self::Verify => "verify",
            Self::Backup => "backup",
            Self::Hints => "hints",
            Self::Scrub => "scrub",
            Self::ReadRepair => "read_repair",
        }
    }

    /// Whether requests of other processes may say that they are of this kind. The others are
    /// begun by the storage node itself.
    #[must_use]
    pub fn may_be_asked(self) -> bool {
        !matches!(self, Self::Hints | Self::Scrub | Self::ReadRepair)
    }

    pub(super) fn index(self) -> usize {
        self as usize
    }
}

impl FromStr for Kind {
    type Err = UnknownKind;

    /// Reads the header of a request.
    fn from_str(text: &str) -> Result<Self, UnknownKind> {
        let named = |kind: &Self| kind.may_be_asked() && kind.as_str() == text;
        Self::ALL.into_iter().find(named).ok_or(UnknownKind)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
