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
    /// A node holds a partition before it has been compared with the holders.
    HoldBeforeAgreement,
    /// A node deletes what it is not to have any more as soon as it hears of the ring.
    DropBeforeConfirmed,
    /// A node goes on under its epoch after it removed a record that it wrote, or is to have keys
    /// again that it once had.
    KeepsEpochOnRemoval,
    /// The tree does not hear of records that are removed.
    TreeForgetsRemoval,
    /// Nobody remembers which puts were applied.
    PutsForgotten,
    /// A node removes what is dead when the grace is over, without asking anybody.
    ReapWithoutEvidence,
}

impl Mutant {
    /// All of them.
    pub const ALL: [Self; 17] = [
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
        Self::HoldBeforeAgreement,
        Self::DropBeforeConfirmed,
        Self::KeepsEpochOnRemoval,
        Self::TreeForgetsRemoval,
        Self::PutsForgotten,
        Self::ReapWithoutEvidence,
    ];

    /// The run of a seed in which the bug can show.
    #[must_use]
    pub fn run_of(self, seed: u64) -> SimConfig {
        let config = match self {
            Self::AnswerBeforeHint | Self::DropChangedHint => {
                SimConfig { blackouts: true, ..SimConfig::harsh(seed).settled() }
            }
            Self::DropBeforeConfirmed
            | Self::HoldBeforeAgreement
            | Self::IgnoredPartition
            | Self::KeepsEpochOnRemoval
            | Self::LeaverDropsAll
            | Self::TreeForgetsRemoval => SimConfig::moving(seed),
            Self::ReapWithoutEvidence => SimConfig::reaping(seed),
            _ => SimConfig::of(seed),
        };
        config.with(self)
    }
}
