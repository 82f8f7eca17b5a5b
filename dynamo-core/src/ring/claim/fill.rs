//! Adapting the previous assignment: holes and surplus positions go to members below their quota.
//!
//! Every position that need not change keeps its owner. Positions are tried in random order, so a
//! joining node takes about the same from each other node, and a leaving node's positions go to
//! all others (paper section 4.2, H17).

use super::board::{Board, NONE};
use super::{pick, shuffle};
use crate::entropy::SplitMix;

/// Legal candidates looked at before the best of them is taken.
const CANDIDATES_LEGAL: usize = 8;

/// Makes every member's count equal its quota. May leave violated windows, as few as it can see.
pub(super) fn fill(board: &mut Board<'_>, rng: &mut SplitMix) {
    fill_holes(board, rng);
    take_surplus(board, rng);
}

/// Gives every hole to the member that fits there and lacks most.
fn fill_holes(board: &mut Board<'_>, rng: &mut SplitMix) {
    let mut holes: Vec<usize> =
        (0..board.len()).filter(|position| board.owner[*position] == NONE).collect();
    shuffle(&mut holes, rng);
    let mut hungry: Vec<usize> =
        (0..board.quotas.len()).filter(|member| board.deficit(*member) > 0).collect();
    for hole in holes {
        if hungry.is_empty() {
            return;
        }
        // From a random start, so that equals take turns.
        let start = pick(rng, hungry.len());
        let mut best: Option<(u32, u32, usize)> = None;
        for step in 0..hungry.len() {
            let index = (start + step) % hungry.len();
            let member = hungry[index];
            let cost = board.cost(hole, as_member(member));
            let rank = (cost, u32::MAX - board.deficit(member), index);
            if best.is_none_or(|(low, lack, _)| (rank.0, rank.1) < (low, lack)) {
                best = Some(rank);
            }
        }
        let Some((_, _, index)) = best else { return };
        let member = hungry[index];
        board.set(hole, as_member(member));
        if board.deficit(member) == 0 {
            hungry.swap_remove(index);
        }
    }
}

/// Moves positions from members above their quota to members below it.
fn take_surplus(board: &mut Board<'_>, rng: &mut SplitMix) {
    let mut surplus: Vec<usize> = (0..board.len())
        .filter(|position| {
            let owner = board.owner[*position];
            owner != NONE && board.counts[owner as usize] > board.quotas[owner as usize]
        })
        .collect();
    shuffle(&mut surplus, rng);
    loop {
        let lacking = (0..board.quotas.len()).max_by_key(|member| board.deficit(*member));
        let Some(member) = lacking.filter(|member| board.deficit(*member) > 0) else { return };
        surplus.retain(|position| {
            let owner = board.owner[*position] as usize;
            board.counts[owner] > board.quotas[owner]
        });
        for _ in 0..board.deficit(member) {
            let Some(index) = best_candidate(board, &surplus, member, rng) else { return };
            let position = surplus.swap_remove(index);
            board.set(position, as_member(member));
        }
    }
}

/// Where in `surplus` a position is that suits `member`: legal if there is one, and rather one
/// whose present owner violates a window.
fn best_candidate(
    board: &Board<'_>,
    surplus: &[usize],
    member: usize,
    rng: &mut SplitMix,
) -> Option<usize> {
    let start = pick(rng, surplus.len());
    let mut best: Option<(i64, usize)> = None;
    let mut legal = 0;
    for step in 0..surplus.len() {
        let index = (start + step) % surplus.len();
        let position = surplus[index];
        let owner = board.owner[position] as usize;
        if board.counts[owner] <= board.quotas[owner] {
            continue;
        }
        let cost = board.cost(position, as_member(member));
        let delta = i64::from(cost) - i64::from(board.cost_now(position));
        if best.is_none_or(|(lowest, _)| delta < lowest) {
            best = Some((delta, index));
        }
        legal += usize::from(cost == 0);
        if legal == CANDIDATES_LEGAL {
            break;
        }
    }
    best.map(|(_, index)| index)
}

/// A member index as the board stores it.
fn as_member(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(NONE)
}
