//! Claim: how the members share the partitions (paper section 6.2, strategy 3; errata E15, C10).
//!
//! A pure function of its input with integers only: the same input gives the same owners on every
//! machine, whatever the order in which members are listed. Random choices, which scatter the
//! partitions so that the load of a lost node spreads over all others, draw from a generator seeded
//! by a hash of the input.
//!
//! What it promises, in this order:
//! 1. the nodes of every preference list are on as many distinct zones as there are, up to
//!    `spacing`; a node without zone is a zone of its own, as nothing is known to share its fate;
//! 2. any `spacing` consecutive positions, across the end of the ring too, are on distinct nodes
//!    (so every node serves exactly `spacing` times the keys that it owns);
//! 3. tokens are in proportion to weight, within one partition of the exact share. Where 1 and 2
//!    allow a node or a zone less than its share, the others take the rest, and it is reported;
//! 4. of the assignments that fulfil this, one near the previous is chosen.
//!
//! Where the positions cannot be spaced because their number does not divide (three zones and 1024
//! positions), the surplus positions become *echoes*: they go to the owner of the position before.
//! The walk of a preference list skips a repeated node, so all lists stay as spread as without.
//!
//! How: `quota` says how many positions each node gets. `fill` keeps every position it can and
//! gives the rest to nodes below their quota; `repair` swaps owners until no window is violated
//! and no move is needless. Where that fails, `reshape` finds the zone pattern nearest to the
//! previous one, and last `scratch` lays out the ring by construction. Zones are never given up
//! for fewer moves; a few repeated nodes, which cost nothing but balance, are.
//!
//! Not here: what a change costs in bytes and replicas ([`super::transition`]).

// Positions are below the number of positions and members below the number of members by
// construction of the board; a checked access at each of them would hide the algorithm.
#![expect(clippy::indexing_slicing, reason = "indexes come from the tables they index")]

mod board;
mod fill;
mod quota;
mod repair;
mod reshape;
mod scratch;
mod verdict;

use std::collections::BTreeMap;

use xxhash_rust::xxh3::xxh3_64;

use crate::entropy::{Entropy, SplitMix};
use crate::id::{NodeId, PartitionId};
use board::{Board, Layout, NONE};

/// Attempts to adapt the previous assignment by exchanges, and to find the nearest zone pattern,
/// before a layout from scratch is considered: with another seed a tight puzzle often falls into
/// place, and a new layout moves almost everything.
const ADAPT_ATTEMPTS: u64 = 2;
const RESHAPE_ATTEMPTS: u64 = 3;

/// A layout from scratch is not worth its moves where the conflicts of repeated nodes, in units of
/// cost, stay below one in this many positions.
const REPEATS_TOLERATED_ONE_IN: usize = 16;

/// A member of the ring as far as placement is concerned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimMember {
    /// Which node.
    pub node: NodeId,
    /// Capacity in relation to the other members; its tokens are in proportion (default 100). A
    /// member of weight 0 owns nothing, unless all have weight 0, which counts as all equal.
    pub weight: u32,
    /// Failure domain; `None` where unknown.
    pub zone: Option<String>,
}

/// What a claim is computed from.
#[derive(Debug, Clone, Copy)]
pub struct ClaimInput<'a> {
    /// Owner of every partition before; its length is the number of partitions.
    pub previous: &'a [Option<NodeId>],
    /// The members that shall own partitions; of entries with one node id the first counts.
    pub members: &'a [ClaimMember],
    /// How many consecutive positions shall be on distinct nodes and zones: the largest N that
    /// buckets normally use. 0 counts as 1.
    pub spacing: u8,
}

/// Where an assignment falls short of the ideal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClaimViolation {
    /// There are partitions but no member to own them.
    NoMembers,
    /// There are fewer members than `spacing`: every list has all of them, and no more.
    TooFewNodes {
        /// Members that can own partitions.
        nodes: u32,
        /// Distinct nodes asked for.
        wanted: u32,
    },
    /// A node occurs twice in the `spacing` positions from this one on. Its lists still have
    /// distinct nodes, as the walk skips repeats.
    NodeWindow {
        /// First position of the window.
        partition: PartitionId,
    },
    /// The first `spacing` nodes of this preference list are on fewer zones than there could be.
    ZoneWindow {
        /// The partition of the list.
        partition: PartitionId,
        /// Distinct zones of its first nodes.
        zones: u32,
        /// Distinct zones that the members would allow.
        wanted: u32,
    },
    /// A node owns fewer partitions than its weight asks for: its replicas would have met in one
    /// list, or in one zone.
    WeightCapped {
        /// The node.
        node: NodeId,
        /// Partitions it owns.
        owned: u32,
        /// Partitions in proportion to its weight, rounded down.
        share: u32,
    },
    /// A node owns more partitions than its weight asks for, in place of capped ones.
    Imbalance {
        /// The node.
        node: NodeId,
        /// Partitions it owns.
        owned: u32,
        /// Partitions in proportion to its weight, rounded down.
        share: u32,
    },
}

impl ClaimViolation {
    /// What kinds there are, by what is short.
    pub const KINDS: [&str; 4] = ["nodes", "window", "zones", "weight"];

    /// What is short: nodes for the copies, the distance of a node from itself, zones, or the
    /// balance of weights.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::NoMembers | Self::TooFewNodes { .. } => "nodes",
            Self::NodeWindow { .. } => "window",
            Self::ZoneWindow { .. } => "zones",
            Self::WeightCapped { .. } | Self::Imbalance { .. } => "weight",
        }
    }
}

impl ClaimViolation {
    /// Whether the violation costs safety: replicas share a node or a zone without need.
    #[must_use]
    pub fn weakens_durability(&self) -> bool {
        matches!(self, Self::NoMembers | Self::TooFewNodes { .. } | Self::ZoneWindow { .. })
    }
}

/// A complete assignment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimOutcome {
    /// Owner of every partition; all `None` without members, none otherwise.
    pub owners: Vec<Option<NodeId>>,
    /// Where the assignment falls short of the ideal; empty for an ideal one.
    pub violations: Vec<ClaimViolation>,
    /// Partitions that had an owner before and have another one now.
    pub moved: u32,
}

/// Shares the partitions among the members. Deterministic. An ordinary change takes about a
/// millisecond for 1,024 partitions and a tenth of a second for 65,536; one that zones leave hardly
/// a solution for takes up to a fifth of a second and a few seconds.
#[must_use]
pub fn claim(input: &ClaimInput<'_>) -> ClaimOutcome {
    let members = effective_members(input.members);
    let Some(layout) = Layout::new(input.previous.len(), &members, input.spacing) else {
        return ClaimOutcome {
            owners: vec![None; input.previous.len()],
            violations: verdict::without_members(input),
            moved: count_moved(input.previous, &[]),
        };
    };
    let previous = layout.contract(input.previous);
    let quotas = quota::quotas(&layout, &previous);
    let board = Board::new(&layout, previous, quotas);
    let best = best_board(board, seed_of(input, &members));
    let owners = layout.expand(&best.owner);
    let violations = verdict::violations(&layout, &owners, input.spacing);
    let moved = count_moved(input.previous, &owners);
    ClaimOutcome { owners, violations, moved }
}

/// The first assignment without conflict, from the most conservative way to the least; without
/// one, that with the fewest conflicts, those of zones first, then the fewest moves. Everything is
/// moved for the sake of zones or of a badly skewed load, not for a few repeated nodes.
fn best_board<'a>(start: Board<'a>, seed: u64) -> Board<'a> {
    let fresh = start.owner.iter().all(|owner| *owner == NONE);
    let adaptations = if fresh { 0 } else { ADAPT_ATTEMPTS };
    let tolerated = if fresh { 0 } else { start.len() / REPEATS_TOLERATED_ONE_IN };
    let mut best: Option<((u32, u32, usize), Board<'a>)> = None;
    for attempt in 0..=adaptations + RESHAPE_ATTEMPTS {
        let mut rng = SplitMix::new(seed.wrapping_add(attempt));
        let candidate = if attempt < adaptations {
            Some(start.clone())
        } else if attempt < adaptations + RESHAPE_ATTEMPTS {
            reshape::reshape(&start, &mut rng)
        } else if best
            .as_ref()
            .is_some_and(|((harm, conflicts, _), _)| *harm == 0 && *conflicts as usize <= tolerated)
        {
            None
        } else {
            Some(scratch::lay_out(start.clone(), &mut rng))
        };
        let Some(mut candidate) = candidate else { continue };
        fill::fill(&mut candidate, &mut rng);
        repair::repair(&mut candidate, &mut rng);
        repair::undo_moves(&mut candidate, &mut rng);
        let score = (candidate.zone_conflicts(), candidate.conflicts(), candidate.moved());
        if best.as_ref().is_none_or(|(lowest, _)| score < *lowest) {
            best = Some((score, candidate));
        }
        if score.1 == 0 {
            break;
        }
    }
    best.map_or(start, |(_, board)| board)
}

/// Members that can own partitions, by node.
fn effective_members(members: &[ClaimMember]) -> BTreeMap<NodeId, (u32, Option<&str>)> {
    let mut by_node = BTreeMap::new();
    for member in members {
        by_node.entry(member.node).or_insert((member.weight, member.zone.as_deref()));
    }
    if by_node.values().any(|(weight, _)| *weight > 0) {
        by_node.retain(|_, (weight, _)| *weight > 0);
    } else {
        by_node.values_mut().for_each(|(weight, _)| *weight = 1);
    }
    by_node
}

/// A hash of everything that the outcome depends on.
fn seed_of(input: &ClaimInput<'_>, members: &BTreeMap<NodeId, (u32, Option<&str>)>) -> u64 {
    let mut bytes = Vec::with_capacity(input.previous.len() * 16 + members.len() * 40);
    bytes.push(input.spacing);
    for (node, (weight, zone)) in members {
        bytes.extend_from_slice(&node.0.to_le_bytes());
        bytes.extend_from_slice(&weight.to_le_bytes());
        bytes.extend_from_slice(zone.unwrap_or("").as_bytes());
        bytes.push(0);
    }
    for owner in input.previous {
        bytes.extend_from_slice(&owner.map_or(0, |node| node.0).to_le_bytes());
    }
    xxh3_64(&bytes)
}

/// Partitions that had an owner and have another one.
fn count_moved(previous: &[Option<NodeId>], owners: &[Option<NodeId>]) -> u32 {
    let moved = previous.iter().enumerate().filter(|(position, before)| {
        before.is_some() && owners.get(*position).copied().flatten() != **before
    });
    u32::try_from(moved.count()).unwrap_or(u32::MAX)
}

/// An index below `len`; 0 where `len` is 0.
fn pick(rng: &mut SplitMix, len: usize) -> usize {
    usize::try_from(rng.below(len as u64)).unwrap_or(0)
}

/// Fisher–Yates.
fn shuffle<T>(items: &mut [T], rng: &mut SplitMix) {
    for last in (1..items.len()).rev() {
        items.swap(last, pick(rng, last + 1));
    }
}
