//! The zone pattern nearest to the previous one, for puzzles in which zones leave little slack.
//!
//! With a few zones, single exchanges cannot turn one legal pattern into another: `ABCDABCD` has
//! no position that may change alone. So the whole pattern is found at once, as the cheapest round
//! path through states "the last `spacing - 1` zones" (Viterbi's algorithm): a position costs
//! nothing in the zone it was in, a move elsewhere. Quotas enter as prices per zone, raised for
//! zones that got too much and lowered for the others, round after round. A little noise on the
//! costs keeps patterns irregular, which scatters replicas and leaves slack for the next change.
//!
//! The nodes are dealt inside their zones afterwards, so node quotas hold up to what the prices
//! missed; [`super::fill`] and [`super::repair`] settle that.

use super::board::{Board, NONE};
use super::{pick, scratch};
use crate::entropy::{Entropy, SplitMix};

/// Transitions between states at most. Beyond it there are so many zones that exchanges suffice.
const TRANSITIONS_MAX: usize = 1_024;

/// Steps through transitions that all rounds may take together, and the bounds on rounds.
const WORK_MAX: usize = 40_000_000;
const ROUNDS_MIN: usize = 8;
const ROUNDS_MAX: usize = 48;

/// Cost of a position that changes its zone, and the noise on every cost.
const MOVE_COST: i64 = 1 << 24;
const NOISE: u64 = 1 << 22;

/// One step of a path: in state `from`, the next position in `zone` leads to `to`.
#[derive(Clone, Copy)]
struct Transition {
    from: usize,
    zone: usize,
    to: usize,
}

/// The price of a zone and how far it is moved next: farther while it goes one way, half as far
/// after it went too far.
#[derive(Clone, Copy)]
struct Tariff {
    price: i64,
    step: i64,
    direction: i64,
}

impl Default for Tariff {
    fn default() -> Self {
        Self { price: 0, step: MOVE_COST / 8, direction: 0 }
    }
}

impl Tariff {
    /// Cheaper for a zone that lacks positions, dearer for one that has too many.
    fn adjust(&mut self, missing: i64) {
        let direction = -missing.signum();
        if direction * self.direction > 0 {
            self.step = (self.step + self.step / 2).min(MOVE_COST);
        } else if direction * self.direction < 0 {
            self.step = (self.step / 2).max(1);
        }
        self.direction = direction;
        self.price += direction * self.step;
    }
}

/// Tries to assign the whole board anew near its previous assignment; `None` where zones do not
/// matter or are too many.
pub(super) fn reshape<'a>(board: &Board<'a>, rng: &mut SplitMix) -> Option<Board<'a>> {
    let layout = board.layout;
    let relevant = layout.spacing > 1 && (layout.zones_distinct() || layout.zones_complete());
    let width = layout.spacing.checked_sub(2).and_then(|digits| {
        layout.zones.checked_pow(u32::try_from(digits).ok()?).filter(|width| *width <= 4_096)
    });
    let width = width.filter(|_| relevant)?;
    let transitions = transitions(board, width)?;
    let zones = pattern(board, &transitions, width, rng)?;
    let mut reshaped = board.clone();
    let order: Vec<usize> = (0..board.len()).collect();
    for (position, member) in
        scratch::deal_nodes(board, &order, &zones, rng).into_iter().enumerate()
    {
        reshaped.set(position, member);
    }
    Some(reshaped)
}

/// All legal steps. A state is a number with `spacing - 1` digits of base `zones`, the latest zone
/// last; `width` is the value of its first digit.
fn transitions(board: &Board<'_>, width: usize) -> Option<Vec<Transition>> {
    let layout = board.layout;
    let zones = layout.zones;
    let mut found = Vec::new();
    for from in 0..width.checked_mul(zones)? {
        let mut window: Vec<usize> = Vec::with_capacity(layout.spacing);
        let mut rest = from;
        for _ in 1..layout.spacing {
            window.push(rest % zones);
            rest /= zones;
        }
        for zone in 0..zones {
            let mut met = window.clone();
            met.push(zone);
            met.sort_unstable();
            met.dedup();
            if met.len() == layout.zone_spread() {
                found.push(Transition { from, zone, to: (from % width) * zones + zone });
            }
        }
        if found.len() > TRANSITIONS_MAX {
            return None;
        }
    }
    Some(found)
}

/// The best zone per position found within the rounds.
fn pattern(
    board: &Board<'_>,
    transitions: &[Transition],
    width: usize,
    rng: &mut SplitMix,
) -> Option<Vec<u32>> {
    let (layout, len) = (board.layout, board.len());
    let zones = layout.zones;
    let mut wanted = vec![0_i64; zones];
    for (member, quota) in board.quotas.iter().enumerate() {
        wanted[layout.zone_of[member] as usize] += i64::from(*quota);
    }
    let (start, state) = anchor(board, transitions, width, rng)?;
    let costs = costs(board, start, rng);
    let rounds = (WORK_MAX / (len * transitions.len()).max(1)).clamp(ROUNDS_MIN, ROUNDS_MAX);
    let mut tariffs = vec![Tariff::default(); zones];
    let mut best: Option<(i64, Vec<usize>)> = None;
    for _ in 0..rounds {
        let prices: Vec<i64> = tariffs.iter().map(|tariff| tariff.price).collect();
        let path = cheapest_round_path(&costs, &prices, transitions, state, width)?;
        let mut missing = wanted.clone();
        for zone in &path {
            missing[*zone] -= 1;
        }
        let error: i64 = missing.iter().map(|count| count.abs()).sum();
        if best.as_ref().is_none_or(|(lowest, _)| error < *lowest) {
            best = Some((error, path));
        }
        if error == 0 {
            break;
        }
        for (zone, tariff) in tariffs.iter_mut().enumerate() {
            tariff.adjust(missing[zone]);
        }
    }
    let (_, path) = best?;
    let mut pattern = vec![NONE; len];
    for (step, zone) in path.iter().enumerate() {
        // The path begins after the anchored zones.
        let position = (start + layout.spacing - 1 + step) % len;
        pattern[position] = u32::try_from(*zone).unwrap_or(NONE);
    }
    Some(pattern)
}

/// Where the round path starts and ends: a place whose zones before are legal, or any legal state.
fn anchor(
    board: &Board<'_>,
    transitions: &[Transition],
    width: usize,
    rng: &mut SplitMix,
) -> Option<(usize, usize)> {
    let (layout, len) = (board.layout, board.len());
    let offset = pick(rng, len);
    for step in 0..len {
        let start = (offset + step) % len;
        let mut state = Some(0);
        for index in 0..layout.spacing - 1 {
            let owner = board.previous[(start + index) % len];
            let zone = layout.zone_of.get(owner as usize).map(|zone| *zone as usize);
            state = state.zip(zone).map(|(state, zone)| (state % width) * layout.zones + zone);
        }
        let legal = |state: &usize| {
            transitions.binary_search_by_key(state, |transition| transition.from).is_ok()
        };
        if let Some(state) = state.filter(legal) {
            return Some((start, state));
        }
    }
    transitions.get(pick(rng, transitions.len())).map(|transition| (offset, transition.from))
}

/// Cost per step and zone, without prices.
fn costs(board: &Board<'_>, start: usize, rng: &mut SplitMix) -> Vec<Vec<i64>> {
    let (layout, len) = (board.layout, board.len());
    let step_cost = |step: usize| {
        let before = board.previous[(start + layout.spacing - 1 + step) % len];
        let zone_before = layout.zone_of.get(before as usize);
        let mut cost = Vec::with_capacity(layout.zones);
        for zone in 0..layout.zones {
            let stays = zone_before.is_none_or(|before| *before as usize == zone);
            let noise = i64::try_from(rng.below(NOISE)).unwrap_or(0);
            cost.push(if stays { noise } else { MOVE_COST + noise });
        }
        cost
    };
    (0..len).map(step_cost).collect()
}

/// The cheapest zones for all steps of a path that starts and ends in `state`.
fn cheapest_round_path(
    costs: &[Vec<i64>],
    prices: &[i64],
    transitions: &[Transition],
    state: usize,
    width: usize,
) -> Option<Vec<usize>> {
    const UNREACHED: i64 = i64::MAX;
    let zones = prices.len();
    let states = width * zones;
    let mut total = vec![UNREACHED; states];
    let mut next = vec![UNREACHED; states];
    total[state] = 0;
    // Per step and state the zone that fell out of the window: it leads back to the state before.
    let mut dropped = vec![0_u16; costs.len() * states];
    for (cost, back) in costs.iter().zip(dropped.chunks_mut(states)) {
        next.fill(UNREACHED);
        for transition in transitions {
            let so_far = total[transition.from];
            if so_far == UNREACHED {
                continue;
            }
            let sum = so_far + cost[transition.zone] + prices[transition.zone];
            if sum < next[transition.to] {
                next[transition.to] = sum;
                back[transition.to] = u16::try_from(transition.from / width).unwrap_or(u16::MAX);
            }
        }
        std::mem::swap(&mut total, &mut next);
    }
    if total[state] == UNREACHED {
        return None;
    }
    let mut path = vec![0; costs.len()];
    let mut at = state;
    for (zone, back) in path.iter_mut().zip(dropped.chunks(states)).rev() {
        *zone = at % zones;
        at = usize::from(back[at]) * width + at / zones;
    }
    Some(path)
}
