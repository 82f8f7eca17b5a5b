//! What one seed makes of a run. Each kind of fault is on in some runs and off in others, so that
//! combinations are met that a fixed mixture would never show.

use crate::entropy::{Entropy, SplitMix};

/// A deliberate bug of the simulated shell. The checks must notice each of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutant {
    /// A replica keeps the record with the bigger clock instead of joining the two.
    BiggerClockWins,
    /// A node that lost data goes on under its old epoch.
    NoNewEpoch,
    /// A replica acknowledges before its disk has the record.
    AckBeforeStore,
    /// A hint is dropped when it is sent, not when it is acknowledged.
    DropHintBeforeAck,
    /// The coordinator answers before the hint that makes its copy count is on disk.
    AnswerBeforeHint,
}

impl Mutant {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::BiggerClockWins,
        Self::NoNewEpoch,
        Self::AckBeforeStore,
        Self::DropHintBeforeAck,
        Self::AnswerBeforeHint,
    ];
}

/// The settings of one run.
#[derive(Debug, Clone)]
pub struct SimConfig {
    /// Everything random follows from it.
    pub seed: u64,
    /// The bug to simulate, if any.
    pub mutant: Option<Mutant>,
    /// Nodes of the cluster.
    pub nodes: usize,
    /// Replicas of each key.
    pub n: u8,
    /// Replies that gets wait for.
    pub r: u8,
    /// Acknowledgements that puts wait for; 0 stands for `w=any`.
    pub w: u8,
    /// Objects that are written.
    pub keys: usize,
    /// Clients, each with one request at a time.
    pub clients: usize,
    /// Requests of each client.
    pub requests: usize,
    /// Messages lost, of 1,000.
    pub loss: u64,
    /// Messages delivered twice, of 1,000.
    pub doubled: u64,
    /// Longest delay of a message in microseconds.
    pub delay_us: u64,
    /// Longest time of a flush in microseconds.
    pub flush_us: u64,
    /// Nodes crash, all at once too, and lose what was not flushed.
    pub crashes: bool,
    /// Nodes freeze and come back.
    pub freezes: bool,
    /// Links are cut, in one direction too.
    pub cuts: bool,
    /// One node loses records that it had flushed, or its whole disk.
    pub amnesiac: Option<usize>,
    /// Wall clocks differ by up to an hour.
    pub skew: bool,
    /// The last node joins the ring during the run; the others learn of it one by one.
    pub joins: bool,
    /// Write down what happens, for replays.
    pub log: bool,
}

impl SimConfig {
    /// The run of a seed.
    #[must_use]
    pub fn of(seed: u64) -> Self {
        let mut rng = SplitMix::new(seed ^ 0x5eed_c0f1_6000_0000);
        let nodes = 3 + usize::try_from(rng.below(4)).unwrap_or(0);
        let n = 3;
        let amnesiac = rng.chance(1, 3).then(|| rng.below(nodes as u64));
        let amnesiac = amnesiac.and_then(|node| usize::try_from(node).ok());
        // One copy of an acknowledged write must be on a node that keeps what it stored.
        let least = if amnesiac.is_some() { 2 } else { 0 };
        let w = [2, 2, 2, 1, 3, 0][usize::try_from(rng.below(6)).unwrap_or(0)].max(least);
        Self {
            seed,
            mutant: None,
            nodes,
            n,
            r: [2, 2, 2, 1, 3][usize::try_from(rng.below(5)).unwrap_or(0)],
            w,
            keys: 1 + usize::try_from(rng.below(4)).unwrap_or(0),
            clients: 2 + usize::try_from(rng.below(3)).unwrap_or(0),
            requests: 25,
            loss: [0, 0, 10, 50, 300][usize::try_from(rng.below(5)).unwrap_or(0)],
            doubled: [0, 50, 300][usize::try_from(rng.below(3)).unwrap_or(0)],
            delay_us: [500, 5_000, 50_000][usize::try_from(rng.below(3)).unwrap_or(0)],
            flush_us: [300, 5_000, 200_000][usize::try_from(rng.below(3)).unwrap_or(0)],
            crashes: rng.chance(2, 3),
            freezes: rng.chance(1, 2),
            cuts: rng.chance(2, 3),
            amnesiac,
            skew: rng.chance(1, 3),
            joins: nodes > 3 && rng.chance(1, 3),
            log: false,
        }
    }

    /// The run of a seed in which an acknowledgement often rests on a single copy, much is lost on
    /// the way and disks are slow: where a shell that is too quick to answer shows.
    #[must_use]
    pub fn harsh(seed: u64) -> Self {
        Self {
            w: 1,
            r: 1,
            loss: 300,
            flush_us: 200_000,
            crashes: true,
            cuts: true,
            amnesiac: None,
            ..Self::of(seed)
        }
    }

    /// The same run with a bug.
    #[must_use]
    pub fn with(mut self, mutant: Mutant) -> Self {
        self.mutant = Some(mutant);
        self
    }

    /// Whether the run has the bug.
    #[must_use]
    pub fn is(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }

    /// Whether anything that was stored may be lost again.
    #[must_use]
    pub fn loses_data(&self) -> bool {
        self.crashes || self.amnesiac.is_some()
    }
}
