//! Laying out the ring by construction, for an empty ring and for puzzles without slack.
//!
//! Cut the board into `Q / spacing` blocks and fill it row by row: the first position of every
//! block, then the second of every block, and so on. A party with at most one position per block
//! then never meets itself within a block length, which is the spacing. The parties are zones
//! where there are enough of them (nodes inside a zone are then free to be shuffled), else nodes.
//! The result is regular; random legal exchanges scatter it afterwards.

use super::board::{Board, NONE};
use super::{pick, shuffle};
use crate::entropy::SplitMix;

/// Random exchanges tried per position to scatter a regular layout.
const MIXING_FACTOR: usize = 8;

/// A complete assignment with the board's quotas.
pub(super) fn lay_out<'a>(mut board: Board<'a>, rng: &mut SplitMix) -> Board<'a> {
    let order = row_order(&board);
    let assignment = if board.layout.zones_distinct() {
        let zones = place_zones(&board, &order);
        deal_nodes(&board, &order, &zones, rng)
    } else {
        let mut owner = vec![NONE; board.len()];
        for (position, member) in order.iter().zip(rows_of_nodes(&board)) {
            owner[*position] = member;
        }
        owner
    };
    for (position, member) in assignment.into_iter().enumerate() {
        board.set(position, member);
    }
    scatter(&mut board, rng);
    board
}

/// The positions row by row through the blocks. Longer blocks come first, so that the last, partial
/// row goes on where a full row would.
fn row_order(board: &Board<'_>) -> Vec<usize> {
    let blocks = board.layout.windows();
    let (length, longer) = (board.len() / blocks, board.len() % blocks);
    let mut order = Vec::with_capacity(board.len());
    for row in 0..=length {
        for block in 0..if row < length { blocks } else { longer } {
            order.push(block * length + block.min(longer) + row);
        }
    }
    order
}

/// Zone per position: large zones first, so that a zone in every block fills whole rows. Of those,
/// each gets the row in which it already has most.
fn place_zones(board: &Board<'_>, order: &[usize]) -> Vec<u32> {
    let layout = board.layout;
    let blocks = layout.windows();
    let mut sizes = vec![0_usize; layout.zones];
    for (member, quota) in board.quotas.iter().enumerate() {
        sizes[layout.zone_of[member] as usize] += *quota as usize;
    }
    let mut sequence: Vec<usize> = (0..layout.zones).collect();
    sequence.sort_by_key(|zone| (usize::MAX - sizes[*zone], *zone));
    let full = sequence.iter().take_while(|zone| sizes[**zone] == blocks).count();
    for row in 0..full {
        let positions = &order[row * blocks..(row + 1) * blocks];
        let present = |zone: usize| {
            let owners = positions.iter().map(|position| board.previous[*position]);
            owners
                .filter(|owner| *owner != NONE && layout.zone_of[*owner as usize] as usize == zone)
                .count()
        };
        let best = (row..full).max_by_key(|index| (present(sequence[*index]), full - index));
        sequence.swap(row, best.unwrap_or(row));
    }
    let mut zones = vec![NONE; board.len()];
    let dealt = sequence.iter().flat_map(|zone| std::iter::repeat_n(*zone, sizes[*zone]));
    for (position, zone) in order.iter().zip(dealt) {
        zones[*position] = u32::try_from(zone).unwrap_or(NONE);
    }
    zones
}

/// Node per position, given the zones: who was there stays while its quota lasts, the others of
/// the zone come in random order.
pub(super) fn deal_nodes(
    board: &Board<'_>,
    order: &[usize],
    zones: &[u32],
    rng: &mut SplitMix,
) -> Vec<u32> {
    let zone_of = &board.layout.zone_of;
    let mut left = board.quotas.clone();
    let mut owner = vec![NONE; board.len()];
    let mut open = order.to_vec();
    shuffle(&mut open, rng);
    open.retain(|position| {
        let before = board.previous[*position];
        let stays = before != NONE
            && zone_of[before as usize] == zones[*position]
            && left[before as usize] > 0;
        if stays {
            left[before as usize] -= 1;
            owner[*position] = before;
        }
        !stays
    });
    let mut hands: Vec<Vec<u32>> = vec![Vec::new(); board.layout.zones];
    for (member, count) in (0_u32..).zip(&left) {
        let hand = &mut hands[zone_of[member as usize] as usize];
        hand.extend(std::iter::repeat_n(member, *count as usize));
    }
    hands.iter_mut().for_each(|hand| shuffle(hand, rng));
    for position in open {
        if let Some(hand) = hands.get_mut(zones[position] as usize) {
            owner[position] = hand.pop().unwrap_or(NONE);
        }
    }
    owner
}

/// Nodes row by row with fewer zones than rows: one row for every zone, then the rest, large
/// quotas first.
fn rows_of_nodes(board: &Board<'_>) -> Vec<u32> {
    let layout = board.layout;
    let blocks = layout.windows();
    let mut members: Vec<usize> = (0..board.quotas.len()).collect();
    members.sort_by_key(|member| (u32::MAX - board.quotas[*member], *member));
    let mut left = board.quotas.clone();
    let mut rows: Vec<u32> = Vec::with_capacity(board.len());
    let mut take = |member: usize, most: usize, rows: &mut Vec<u32>| {
        let count = most.min(left[member] as usize);
        left[member] -= u32::try_from(count).unwrap_or(u32::MAX);
        rows.extend(std::iter::repeat_n(u32::try_from(member).unwrap_or(NONE), count));
    };
    if layout.zones_complete() {
        for zone in 0..layout.zones {
            let end = (zone + 1) * blocks;
            let inside = |member: &&usize| layout.zone_of[**member] as usize == zone;
            for member in members.iter().filter(inside) {
                take(*member, end.saturating_sub(rows.len()), &mut rows);
            }
        }
    }
    for member in members {
        take(member, usize::MAX, &mut rows);
    }
    rows
}

/// Random exchanges that violate nothing: afterwards a node's neighbours are many.
fn scatter(board: &mut Board<'_>, rng: &mut SplitMix) {
    let len = board.len();
    for _ in 0..len * MIXING_FACTOR {
        let (one, other) = (pick(rng, len), pick(rng, len));
        if board.owner[one] == board.owner[other]
            || board.owner[one] == NONE
            || board.owner[other] == NONE
            || !board.apart(one, other)
        {
            continue;
        }
        let (cost, moves) = board.swap_delta(one, other);
        if cost <= 0 && moves <= 0 {
            board.owner.swap(one, other);
        }
    }
}
