//! The puzzle of a claim: a round board of positions, each owned by a member, and what it costs to
//! give a position to a member.
//!
//! [`Layout`] is the fixed part: members, spacing, which zones count, which positions are echoes.
//! [`Board`] is a (partial) assignment. Echo positions are not on the board: they are taken out
//! before and filled in from their predecessor after.
//!
//! Two kinds of puzzle: with at least `spacing` zones, a window must not repeat a zone, and nodes
//! follow from that, as every node lies in one zone; with fewer zones, a window must not repeat a
//! node and must hold every zone.

use std::collections::BTreeMap;

use crate::id::NodeId;

/// No member: a hole.
pub(super) const NONE: u32 = u32::MAX;

/// Cost of two equal nodes in a window, in units of one repeated zone.
const SAME_NODE_COST: u32 = 4;

/// Cost of a zone missing in a window. More than a repeated node, which only shifts load: the walk
/// of a preference list skips it, but does not go on to find a zone.
const MISSING_ZONE_COST: u32 = 8;

/// The fixed part of the puzzle.
pub(super) struct Layout {
    /// Members, sorted.
    pub(super) nodes: Vec<NodeId>,
    /// Weight per member, at least 1.
    pub(super) weights: Vec<u32>,
    /// Zone per member, numbered from 0.
    pub(super) zone_of: Vec<u32>,
    /// Number of zones; members without zone count as one each.
    pub(super) zones: usize,
    /// Positions in a window: the asked spacing, or less where there are too few members.
    pub(super) spacing: usize,
    /// Positions of the whole ring, with echoes.
    positions: usize,
    /// Which positions repeat their predecessor.
    echo: Vec<bool>,
    /// Positions on the board.
    pub(super) len: usize,
}

impl Layout {
    /// The layout for a ring; `None` without positions or members.
    pub(super) fn new(
        positions: usize,
        members: &BTreeMap<NodeId, (u32, Option<&str>)>,
        spacing: u8,
    ) -> Option<Self> {
        if positions == 0 || members.is_empty() {
            return None;
        }
        let spacing = usize::from(spacing.max(1)).min(members.len()).min(positions);
        let (zone_of, zones) = number_zones(members);
        let surplus = positions % spacing;
        let windows = positions / spacing;
        // Where even full quotas do not add up, or where one zone must be met in every window,
        // only a multiple of the window length can be laid out.
        let short = members.len() * windows < positions
            || (zones >= spacing && zones * windows < positions)
            || (zones > 1 && zones < spacing);
        let echoes = if short { surplus } else { 0 };
        let mut echo = vec![false; positions];
        for index in 0..echoes {
            echo[positions - 1 - 2 * index] = true;
        }
        Some(Self {
            nodes: members.keys().copied().collect(),
            weights: members.values().map(|(weight, _)| *weight).collect(),
            zone_of,
            zones,
            spacing,
            positions,
            echo,
            len: positions - echoes,
        })
    }

    /// Whether a window must not repeat a zone.
    pub(super) fn zones_distinct(&self) -> bool {
        self.zones >= self.spacing
    }

    /// Whether a window must hold every zone.
    pub(super) fn zones_complete(&self) -> bool {
        self.zones > 1 && self.zones < self.spacing
    }

    /// Distinct zones that the first `spacing` nodes of a list can have.
    pub(super) fn zone_spread(&self) -> usize {
        self.zones.min(self.spacing)
    }

    /// Full windows on the board: the most positions that a node, or a distinct zone, can have.
    pub(super) fn windows(&self) -> usize {
        self.len / self.spacing
    }

    /// Owners as member numbers, echoes taken out.
    pub(super) fn contract(&self, owners: &[Option<NodeId>]) -> Vec<u32> {
        let number = |owner: &Option<NodeId>| {
            let index = owner.as_ref().and_then(|node| self.nodes.binary_search(node).ok());
            index.and_then(|index| u32::try_from(index).ok()).unwrap_or(NONE)
        };
        let kept = owners.iter().zip(&self.echo).filter(|(_, echo)| !**echo);
        kept.map(|(owner, _)| number(owner)).collect()
    }

    /// Owners of the whole ring from those of the board.
    pub(super) fn expand(&self, board: &[u32]) -> Vec<Option<NodeId>> {
        let node = |member: u32| self.nodes.get(member as usize).copied();
        let mut owners: Vec<Option<NodeId>> = Vec::with_capacity(self.positions);
        let mut members = board.iter();
        // An echo at the start of the ring would repeat its end.
        let mut before = board.last().copied().unwrap_or(NONE);
        for echo in &self.echo {
            if !echo {
                before = members.next().copied().unwrap_or(NONE);
            }
            owners.push(node(before));
        }
        owners
    }
}

/// Zone numbers of the members and their count.
fn number_zones(members: &BTreeMap<NodeId, (u32, Option<&str>)>) -> (Vec<u32>, usize) {
    let mut names: BTreeMap<&str, u32> = BTreeMap::new();
    let mut next = 0;
    let mut fresh = || {
        next += 1;
        next - 1
    };
    let zone_of = members
        .values()
        .map(|(_, zone)| match zone {
            Some(name) => *names.entry(name).or_insert_with(&mut fresh),
            None => fresh(),
        })
        .collect();
    (zone_of, next as usize)
}

/// An assignment in the making.
#[derive(Clone)]
pub(super) struct Board<'a> {
    pub(super) layout: &'a Layout,
    /// Member per position, or [`NONE`].
    pub(super) owner: Vec<u32>,
    /// Member per position before this claim, or [`NONE`].
    pub(super) previous: Vec<u32>,
    /// Positions each member shall have.
    pub(super) quotas: Vec<u32>,
    /// Positions each member has.
    pub(super) counts: Vec<u32>,
}

impl<'a> Board<'a> {
    /// A board on which every member still has what it had before.
    pub(super) fn new(layout: &'a Layout, previous: Vec<u32>, quotas: Vec<u32>) -> Self {
        let mut counts = vec![0; layout.nodes.len()];
        for owner in previous.iter().filter(|owner| **owner != NONE) {
            counts[*owner as usize] += 1;
        }
        Self { layout, owner: previous.clone(), previous, quotas, counts }
    }

    /// Positions on the board.
    pub(super) fn len(&self) -> usize {
        self.owner.len()
    }

    /// Gives `position` to `member`.
    pub(super) fn set(&mut self, position: usize, member: u32) {
        let before = std::mem::replace(&mut self.owner[position], member);
        if before != NONE {
            self.counts[before as usize] -= 1;
        }
        if member != NONE {
            self.counts[member as usize] += 1;
        }
    }

    /// Positions that `member` lacks.
    pub(super) fn deficit(&self, member: usize) -> u32 {
        self.quotas[member].saturating_sub(self.counts[member])
    }

    /// The position `steps` after `position`.
    fn after(&self, position: usize, steps: usize) -> usize {
        let index = position + steps;
        if index >= self.len() { index - self.len() } else { index }
    }

    /// The position `steps` before `position`.
    fn before(&self, position: usize, steps: usize) -> usize {
        if position >= steps { position - steps } else { position + self.len() - steps }
    }

    /// Whether no window holds both positions.
    pub(super) fn apart(&self, one: usize, other: usize) -> bool {
        let distance = one.abs_diff(other);
        distance >= self.layout.spacing && self.len() - distance >= self.layout.spacing
    }

    /// What is wrong in the windows around `position` if `member` owns it; 0 is legal.
    pub(super) fn cost(&self, position: usize, member: u32) -> u32 {
        let zone_of = &self.layout.zone_of;
        let distinct = self.layout.zones_distinct();
        let zone = zone_of[member as usize];
        let mut cost = 0;
        for steps in 1..self.layout.spacing {
            for other in [self.before(position, steps), self.after(position, steps)] {
                let owner = self.owner[other];
                if owner == member {
                    cost += SAME_NODE_COST;
                } else if distinct && owner != NONE && zone_of[owner as usize] == zone {
                    cost += 1;
                }
            }
        }
        if self.layout.zones_complete() { cost + self.zones_missing(position, zone) } else { cost }
    }

    /// Cost of the zones missing from the windows that hold `position`, if it were in `zone`. A
    /// hole may still become any zone.
    fn zones_missing(&self, position: usize, zone: u32) -> u32 {
        let spacing = self.layout.spacing;
        let mut missing = 0;
        for back in 0..spacing {
            let start = self.before(position, back);
            // Fewer zones than `spacing`, which is a u8: but masks stay small only below 64.
            let mut met = 1_u64 << (zone % 64);
            let mut holes = 0;
            for step in (0..spacing).filter(|step| *step != back) {
                match self.owner[self.after(start, step)] {
                    NONE => holes += 1,
                    owner => met |= 1_u64 << (self.layout.zone_of[owner as usize] % 64),
                }
            }
            let present = met.count_ones() + holes;
            let wanted = u32::try_from(self.layout.zones).unwrap_or(u32::MAX);
            missing += wanted.saturating_sub(present);
        }
        missing * MISSING_ZONE_COST
    }

    /// [`Board::cost`] of a position with its present owner; 0 for a hole.
    pub(super) fn cost_now(&self, position: usize) -> u32 {
        match self.owner[position] {
            NONE => 0,
            owner => self.cost(position, owner),
        }
    }

    /// Everything that is wrong, counted once per position involved.
    pub(super) fn conflicts(&self) -> u32 {
        (0..self.len()).map(|position| self.cost_now(position)).fold(0, u32::saturating_add)
    }

    /// The part of [`Board::conflicts`] that weakens replication: zones repeated or missing. A
    /// repeated node is skipped by the walk of a list and only shifts load.
    pub(super) fn zone_conflicts(&self) -> u32 {
        let repeats = |position: usize| {
            let steps = 1..self.layout.spacing;
            let near = steps.flat_map(|by| [self.before(position, by), self.after(position, by)]);
            near.filter(|other| self.owner[*other] == self.owner[position]).count()
        };
        let repeated: usize = (0..self.len()).map(repeats).sum();
        let repeated = u32::try_from(repeated).unwrap_or(u32::MAX);
        self.conflicts().saturating_sub(repeated.saturating_mul(SAME_NODE_COST))
    }

    /// The positions that are part of a violation.
    pub(super) fn conflicted(&self) -> Vec<usize> {
        (0..self.len()).filter(|position| self.cost_now(*position) > 0).collect()
    }

    /// Positions that have another owner than before.
    pub(super) fn moved(&self) -> usize {
        let pairs = self.owner.iter().zip(&self.previous);
        pairs.filter(|(owner, before)| **before != NONE && owner != before).count()
    }

    /// 1 where `member` at `position` is not what was there before.
    fn is_move(&self, position: usize, member: u32) -> i64 {
        i64::from(self.previous[position] != NONE && self.previous[position] != member)
    }

    /// How cost and moves change if two positions [`Board::apart`] exchange their owners.
    pub(super) fn swap_delta(&self, one: usize, other: usize) -> (i64, i64) {
        let (first, second) = (self.owner[one], self.owner[other]);
        let before = self.cost(one, first) + self.cost(other, second);
        let after = self.cost(one, second) + self.cost(other, first);
        let moves = self.is_move(one, second) + self.is_move(other, first)
            - self.is_move(one, first)
            - self.is_move(other, second);
        (i64::from(after) - i64::from(before), moves)
    }
}
