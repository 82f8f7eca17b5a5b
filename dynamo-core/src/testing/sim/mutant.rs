//! Deliberate bugs of the simulated shell (F-21). The checks must notice each of them: a simulation
//! that does not checks nothing.

use crate::testing::sim::config::SimConfig;

/// A bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutant {
    /// A replica keeps the record with the bigger clock instead of joining the two.
    BiggerClockWins,
    /// A node that lost data goes on under its old epoch.
    NoNewEpoch,
    /// The store of a new disk counts its epochs from one again.
    NewDiskOldEpoch,
    /// A replica acknowledges before its disk has the record.
    AckBeforeStore,
    /// A hint is dropped when it is sent, not when it is acknowledged.
    DropHintBeforeAck,
    /// A hint is dropped although more was merged into it while it was on its way.
    DropChangedHint,
    /// The coordinator answers before the hint that makes its copy count is on disk.
    AnswerBeforeHint,
    /// A last-write-wins replica keeps what arrived last instead of what was written last.
    LastArrivalWins,
    /// A node that joins says that it holds a partition that it never copied.
    IgnoredPartition,
    /// A node removes a peer that does not answer.
    DeadIsRemoved,
    /// A node that left the ring forgets its data at once.
    LeaverDropsAll,
}

impl Mutant {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::BiggerClockWins,
        Self::NoNewEpoch,
        Self::NewDiskOldEpoch,
        Self::AckBeforeStore,
        Self::DropHintBeforeAck,
        Self::DropChangedHint,
        Self::AnswerBeforeHint,
        Self::LastArrivalWins,
        Self::IgnoredPartition,
        Self::DeadIsRemoved,
        Self::LeaverDropsAll,
    ];

    /// The run of a seed in which the bug can show.
    #[must_use]
    pub fn run_of(self, seed: u64) -> SimConfig {
        let config = match self {
            Self::AnswerBeforeHint | Self::DropChangedHint => SimConfig::harsh(seed).settled(),
            Self::LeaverDropsAll => SimConfig::moving(seed),
            // Quick reads trust whoever says that it holds the partition.
            Self::IgnoredPartition => SimConfig { r: 1, strict: false, ..SimConfig::moving(seed) },
            _ => SimConfig::of(seed),
        };
        config.with(self)
    }
}
