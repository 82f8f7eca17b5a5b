//! Improving an assignment by exchanging the owners of two positions: counts stay as they are.
//!
//! A local search in the manner of min-conflicts with a bounded walk over plateaus. It is complete
//! in practice where the puzzle has slack; where it has none, [`super::scratch`] constructs.

use std::collections::BTreeMap;

use super::board::{Board, NONE};
use super::{pick, shuffle};
use crate::entropy::{Entropy, SplitMix};

/// Partners looked at for one position; a larger ring is sampled.
const PARTNERS_MAX: usize = 512;

/// Exchanges tried per repair at least, per violated position on top, and at most: a hopeless
/// puzzle is given up in bounded time.
const STEPS_BASE: usize = 100;
const STEPS_PER_CONFLICT: usize = 8;
const STEPS_MAX: usize = 600;

/// Partners looked at to take one move back.
const UNDO_PARTNERS_MAX: usize = 64;

/// Exchanges owners until no window is violated or the budget is used up.
pub(super) fn repair(board: &mut Board<'_>, rng: &mut SplitMix) {
    let mut conflicted = board.conflicted();
    let steps = (STEPS_BASE + STEPS_PER_CONFLICT * conflicted.len()).min(STEPS_MAX);
    let mut best = board.owner.clone();
    let mut total = i64::from(board.conflicts());
    let mut lowest = total;
    for _ in 0..steps {
        if conflicted.is_empty() {
            conflicted = board.conflicted();
            if conflicted.is_empty() {
                break;
            }
            shuffle(&mut conflicted, rng);
        }
        let Some(position) = conflicted.pop() else { break };
        if board.cost_now(position) == 0 {
            continue;
        }
        let Some((delta, partner)) = best_partner(board, position, rng) else { continue };
        // A plateau is always crossed, a ridge now and then: both lead out of local minima.
        if delta <= 0 || (delta <= 2 && rng.chance(1, 16)) {
            board.owner.swap(position, partner);
            total += delta * 2;
            conflicted.extend([position, partner]);
            if total < lowest {
                lowest = total;
                best.clone_from(&board.owner);
            }
        }
    }
    if total > lowest {
        board.owner = best;
    }
}

/// The exchange that helps `position` most: least cost, then fewest moves.
fn best_partner(board: &Board<'_>, position: usize, rng: &mut SplitMix) -> Option<(i64, usize)> {
    let len = board.len();
    let start = pick(rng, len);
    let relief = -i64::from(board.cost_now(position));
    let mut best: Option<((i64, i64), usize)> = None;
    for step in 0..len.min(PARTNERS_MAX) {
        let partner = (start + step) % len;
        if board.owner[partner] == board.owner[position] || !board.apart(position, partner) {
            continue;
        }
        let delta = board.swap_delta(position, partner);
        if best.is_none_or(|(lowest, _)| delta < lowest) {
            best = Some((delta, partner));
            if delta.0 <= relief && delta.1 < 0 {
                break;
            }
        }
    }
    best.map(|((delta, _), partner)| (delta, partner))
}

/// Takes back moves that turned out to be needless: where a position was taken from a member that
/// was given another one instead, the two are exchanged back if that violates nothing.
pub(super) fn undo_moves(board: &mut Board<'_>, rng: &mut SplitMix) {
    let gained = |board: &Board<'_>, position: usize| {
        let (owner, before) = (board.owner[position], board.previous[position]);
        owner != NONE && owner != before
    };
    let mut by_member: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
    for position in (0..board.len()).filter(|position| gained(board, *position)) {
        by_member.entry(board.owner[position]).or_default().push(position);
    }
    let mut lost: Vec<usize> = (0..board.len())
        .filter(|position| board.previous[*position] != NONE && gained(board, *position))
        .collect();
    shuffle(&mut lost, rng);
    for position in lost {
        let before = board.previous[position];
        let Some(partners) = by_member.get(&before).filter(|_| board.owner[position] != before)
        else {
            continue;
        };
        let start = pick(rng, partners.len());
        for step in 0..partners.len().min(UNDO_PARTNERS_MAX) {
            let partner = partners[(start + step) % partners.len()];
            if board.owner[partner] != before || !board.apart(position, partner) {
                continue;
            }
            let (cost, moves) = board.swap_delta(position, partner);
            if cost <= 0 && moves < 0 {
                let owner = board.owner[position];
                board.owner.swap(position, partner);
                by_member.entry(owner).or_default().push(partner);
                break;
            }
        }
    }
}
