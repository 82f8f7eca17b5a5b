//! What one seed makes of a run. Each kind of fault is on in some runs and off in others, so that
//! combinations are met that a fixed mixture would never show.

use std::time::Duration;

use crate::entropy::{Entropy, SplitMix};
use crate::params::{Durability, Reconciliation};
use crate::testing::sim::mutant::Mutant;

/// The grace of reaping runs.
const REAP_GRACE: Duration = Duration::from_secs(7);

/// How clients use contexts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Workload {
    /// Reads, updates, deletes, and a blind write now and then.
    Mixed,
    /// Updates, each with the context of the client's last answer: as many siblings as clients.
    Interleaved,
    /// Blind writes: every one leaves a sibling, up to the cap.
    Blind,
    /// Reads, updates, and as many deletes.
    Deleting,
}

/// The settings of one run.
#[derive(Debug, Clone)]
pub struct SimConfig {
    /// Everything random follows from it.
    pub seed: u64,
    /// The bug to simulate, if any.
    pub mutant: Option<Mutant>,
    /// Founders of the cluster.
    pub nodes: usize,
    /// Further nodes, which look for the cluster and may join it.
    pub candidates: usize,
    /// Membership changes that are committed during the run.
    pub changes: usize,
    /// Time between two gossip rounds of a node.
    pub gossip: Duration,
    /// A founder whose processes start late.
    pub late: Option<usize>,
    /// Replicas of each key.
    pub n: u8,
    /// Replies that gets wait for.
    pub r: u8,
    /// Acknowledgements that puts wait for; 0 stands for `w=any`.
    pub w: u8,
    /// Requests insist on R and W primaries: no sloppy quorum.
    pub strict: bool,
    /// Who reconciles concurrent versions.
    pub reconciliation: Reconciliation,
    /// What an acknowledgement has survived.
    pub durability: Durability,
    /// Objects that are written.
    pub keys: usize,
    /// Clients, each with one request at a time.
    pub clients: usize,
    /// Requests of each client.
    pub requests: usize,
    /// How clients use contexts.
    pub workload: Workload,
    /// Messages lost, of 1,000.
    pub loss: u64,
    /// Messages delivered twice, of 1,000.
    pub doubled: u64,
    /// Longest delay of a message in microseconds.
    pub delay_us: u64,
    /// Longest time of a flush in microseconds.
    pub flush_us: u64,
    /// Nodes are stopped in good order and start again.
    pub restarts: bool,
    /// Nodes crash, all at once too, and lose what was not flushed.
    pub crashes: bool,
    /// All nodes crash at once, again and again.
    pub blackouts: bool,
    /// Nodes freeze and come back.
    pub freezes: bool,
    /// Links are cut, in one direction too.
    pub cuts: bool,
    /// One node loses records that it had flushed, or its whole disk.
    pub amnesiac: Option<usize>,
    /// Wall clocks differ by up to an hour.
    pub skew: bool,
    /// Dead records are removed after this grace. It is longer than anything is on its way: the
    /// longest freeze, a call and a flush.
    pub reap: Option<Duration>,
    /// Some values expire soon.
    pub expiry: bool,
    /// Copies that a node keeps for others, at most.
    pub hints_max: Option<usize>,
    /// Longest pause of a client between two requests, in milliseconds.
    pub pause_ms: u64,
    /// Write down what happens, for replays.
    pub log: bool,
}

/// One of several values; those that occur more often are drawn more often.
fn one_of<T: Copy>(rng: &mut SplitMix, values: &[T]) -> T {
    values[index(rng, values.len())]
}

fn index(rng: &mut SplitMix, below: usize) -> usize {
    usize::try_from(rng.below(below as u64)).unwrap_or(0)
}

impl SimConfig {
    /// The run of a seed.
    #[must_use]
    pub fn of(seed: u64) -> Self {
        let mut rng = SplitMix::new(seed ^ 0x5eed_c0f1_6000_0000);
        let nodes = 3 + index(&mut rng, 4);
        let amnesiac = rng.chance(1, 3).then(|| index(&mut rng, nodes));
        // One copy of an acknowledged write must be on a node that keeps what it stored.
        let least = if amnesiac.is_some() { 2 } else { 0 };
        let changes = one_of(&mut rng, &[0, 0, 1, 2, 3]);
        let candidates = if changes > 0 { index(&mut rng, 3) } else { 0 };
        let strict = rng.chance(1, 4);
        let w = one_of(&mut rng, &[2, 2, 2, 1, 3, 0]).max(least).max(u8::from(strict));
        Self {
            seed,
            mutant: None,
            nodes,
            candidates,
            changes,
            gossip: Duration::from_millis(one_of(&mut rng, &[150, 400, 1_000])),
            late: (changes > 0 && rng.chance(1, 4)).then(|| index(&mut rng, nodes)),
            n: 3,
            r: one_of(&mut rng, &[2, 2, 2, 1, 3]),
            w,
            strict,
            reconciliation: one_of(
                &mut rng,
                &[Reconciliation::Siblings, Reconciliation::Siblings, Reconciliation::Lww],
            ),
            durability: one_of(
                &mut rng,
                &[Durability::Fsync, Durability::Fsync, Durability::Fsync, Durability::Buffered],
            ),
            keys: 1 + index(&mut rng, 4),
            clients: 2 + index(&mut rng, 3),
            requests: 25,
            workload: one_of(
                &mut rng,
                &[Workload::Mixed, Workload::Mixed, Workload::Mixed, Workload::Interleaved],
            ),
            loss: one_of(&mut rng, &[0, 0, 10, 50, 300]),
            doubled: one_of(&mut rng, &[0, 50, 300]),
            delay_us: one_of(&mut rng, &[500, 5_000, 50_000]),
            flush_us: one_of(&mut rng, &[300, 5_000, 200_000]),
            restarts: true,
            crashes: rng.chance(2, 3),
            blackouts: false,
            freezes: rng.chance(1, 2),
            cuts: rng.chance(2, 3),
            amnesiac,
            skew: rng.chance(1, 3),
            reap: None,
            expiry: false,
            hints_max: None,
            pause_ms: 150,
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
            strict: false,
            durability: Durability::Fsync,
            loss: 300,
            flush_us: 200_000,
            crashes: true,
            cuts: true,
            amnesiac: None,
            ..Self::of(seed)
        }
    }

    /// The run of a seed without any fault, change or delay.
    #[must_use]
    pub fn calm(seed: u64) -> Self {
        Self {
            reconciliation: Reconciliation::Siblings,
            durability: Durability::Fsync,
            loss: 0,
            doubled: 0,
            restarts: false,
            crashes: false,
            freezes: false,
            cuts: false,
            amnesiac: None,
            skew: false,
            w: 2,
            r: 2,
            ..Self::of(seed).settled()
        }
    }

    /// The same run under one ring.
    #[must_use]
    pub fn settled(self) -> Self {
        Self { candidates: 0, changes: 0, late: None, ..self }
    }

    /// The run of a seed in which the ring changes all the time.
    #[must_use]
    pub fn moving(seed: u64) -> Self {
        Self { candidates: 2, changes: 4, ..Self::of(seed) }
    }

    /// The run of a seed in which acknowledgements come from memory, and the power fails often.
    #[must_use]
    pub fn buffered(seed: u64) -> Self {
        Self {
            durability: Durability::Buffered,
            strict: false,
            flush_us: 200_000,
            crashes: true,
            blackouts: true,
            ..Self::of(seed)
        }
    }

    /// The run of a seed in which much is deleted or expires, what is dead is removed soon, and
    /// nodes keep few hints. Its clocks agree: the grace is longer than they may differ.
    #[must_use]
    pub fn reaping(seed: u64) -> Self {
        Self {
            reconciliation: Reconciliation::Siblings,
            durability: Durability::Fsync,
            workload: Workload::Deleting,
            strict: false,
            skew: false,
            keys: 2,
            loss: 10,
            delay_us: 5_000,
            flush_us: 5_000,
            reap: Some(REAP_GRACE),
            expiry: true,
            hints_max: Some(2),
            requests: 15,
            pause_ms: 4_000,
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

    /// Whether a strict read must show every strict write that was acknowledged before it (I-8):
    /// the two quorums overlap, all look at the same ring, and nobody loses what was flushed.
    #[must_use]
    pub fn reads_its_writes(&self) -> bool {
        self.strict
            && self.r + self.w > self.n
            && self.durability == Durability::Fsync
            && self.amnesiac.is_none()
            && self.changes == 0
    }
}
