//! What an exchange is to compare, and how it ends.

use std::collections::BTreeSet;

use crate::id::{PartitionId, StoreId};
use crate::limits::EXCHANGE_BYTES_MAX;
use crate::merkle::exchange::event::Side;
use crate::merkle::prefix::Prefix;
use crate::ring::{Partitions, RingVersion};

/// The keys of one class in one partition: what two nodes have or have not in common.
pub type ClassPart = (u8, PartitionId);

/// Which way differences are mended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExchangeMode {
    /// Both sides end equal.
    Both,
    /// The far side ends with everything that the near side has; the near side takes nothing. For
    /// a node that gives its copy up.
    PushOnly,
}

/// What an exchange compares.
#[derive(Debug, Clone)]
pub struct ExchangePlan {
    pub(super) partitions: Partitions,
    pub(super) scope: BTreeSet<ClassPart>,
    pub(super) mode: ExchangeMode,
    pub(super) bytes_max: u64,
}

impl ExchangePlan {
    /// Compares what the two nodes have in common, within [`EXCHANGE_BYTES_MAX`]. A partition
    /// beyond the count is taken modulo the count.
    #[must_use]
    pub fn new(
        partitions: Partitions,
        common: impl IntoIterator<Item = ClassPart>,
        mode: ExchangeMode,
    ) -> Self {
        let part = |(class, partition)| {
            (class, PartitionId(Prefix::of_partition(partitions, partition).index()))
        };
        let scope = common.into_iter().map(part).collect();
        Self { partitions, scope, mode, bytes_max: EXCHANGE_BYTES_MAX }
    }

    /// The same with another bound of the bytes of records that may move. Beyond it the exchange
    /// ends with differences left.
    #[must_use]
    pub fn with_bytes_max(self, bytes_max: u64) -> Self {
        Self { bytes_max, ..self }
    }
}

/// What an exchange has done so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ExchangeCounts {
    /// Comparisons of everything that is not known to be equal, from the roots down.
    pub passes: u32,
    /// Requests to either side.
    pub requests: u64,
    /// Subtrees whose digests were compared, partitions included.
    pub prefixes: u64,
    /// Leaves that differed, whose keys were compared.
    pub leaves: u64,
    /// Keys whose digests were compared.
    pub keys: u64,
    /// Keys that differed at first sight.
    pub differing: u64,
    /// Of these, keys that no longer differed when they were looked at again: writes on their way.
    pub settled: u64,
    /// Keys whose record the far side got.
    pub pushed: u64,
    /// Keys whose record the near side got.
    pub pulled: u64,
    /// Keys that differ and could not be read or merged.
    pub refused: u64,
    /// Bytes of records sent to the far side, about.
    pub bytes_pushed: u64,
    /// Bytes of records that the far side sent, about.
    pub bytes_pulled: u64,
}

impl ExchangeCounts {
    /// Bytes of records that went from one side to the other, about.
    #[must_use]
    pub fn bytes_moved(&self) -> u64 {
        self.bytes_pushed.saturating_add(self.bytes_pulled)
    }
}

/// Why an exchange cannot go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExchangeFailure {
    /// The side did not answer.
    #[error("no answer: {0}")]
    Unanswered(String),
    /// Its tree is still being built, so its digests are no evidence.
    #[error("its tree is being built")]
    Building,
    /// Its store was replaced under way.
    #[error("its store was replaced")]
    StoreReplaced,
    /// Its answer does not fit the question.
    #[error("malformed answer: {0}")]
    Malformed(&'static str),
}

/// How an exchange ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExchangeEnd {
    /// Everything was found equal: the roots, or every key in which they differed. (In a
    /// partition that is written to, roots are hardly ever equal at one instant.)
    Agreed,
    /// A bound was reached, or keys could not be repaired. The next exchange goes on.
    DifferencesLeft,
    /// One side failed.
    Failed {
        /// Which side.
        side: Side,
        /// Why.
        failure: ExchangeFailure,
    },
}

/// Under what the two sides were compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExchangeWitness {
    /// The one ring that both sides worked with throughout.
    pub ring: RingVersion,
    /// The near store.
    pub near: StoreId,
    /// The far store.
    pub far: StoreId,
}

/// The result of an exchange.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExchangeResult {
    /// How it ended.
    pub end: ExchangeEnd,
    /// What is not known to be equal; empty where it ended in agreement. All else of the plan is.
    pub left: BTreeSet<ClassPart>,
    /// Absent where the rings differed or changed, or nothing was compared.
    pub witness: Option<ExchangeWitness>,
    /// What it took.
    pub counts: ExchangeCounts,
}
