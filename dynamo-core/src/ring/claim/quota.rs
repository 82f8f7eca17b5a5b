//! How many positions each member gets: in proportion to weight by largest remainder, within what
//! spacing allows.
//!
//! Of equally fair results the one that lets present holders keep most is chosen: any member may
//! get its exact share rounded down or up, and the roundings up go first to those that already
//! have that many.

use super::board::{Layout, NONE};

/// One party in an apportionment.
#[derive(Debug, Clone, Copy)]
struct Party {
    weight: u64,
    /// Fewest positions it must get.
    lower: u64,
    /// Most positions it can get.
    upper: u64,
    /// Positions it has at present.
    held: u64,
}

/// Positions per member. They add up to the positions of the board.
pub(super) fn quotas(layout: &Layout, previous: &[u32]) -> Vec<u32> {
    let mut held = vec![0_u64; layout.nodes.len()];
    for owner in previous.iter().filter(|owner| **owner != NONE) {
        held[*owner as usize] += 1;
    }
    let cap = layout.windows() as u64;
    let member = |index: usize| Party {
        weight: u64::from(layout.weights[index]),
        lower: 0,
        upper: cap,
        held: held[index],
    };
    let everyone: Vec<Party> = (0..layout.nodes.len()).map(member).collect();
    let zones = zone_parties(layout, &everyone);
    let total = layout.len as u64;
    for keep_holders in [true, false] {
        let flat = apportion(total, &everyone, keep_holders);
        if within_zones(layout, &flat, &zones) {
            return narrow(&flat);
        }
    }
    let per_zone = apportion(total, &zones, true);
    let mut result = vec![0; everyone.len()];
    for (zone, zone_total) in per_zone.iter().enumerate() {
        let inside: Vec<usize> =
            (0..everyone.len()).filter(|index| layout.zone_of[*index] as usize == zone).collect();
        let parties: Vec<Party> = inside.iter().map(|index| everyone[*index]).collect();
        for (index, quota) in inside.iter().zip(apportion(*zone_total, &parties, true)) {
            result[*index] = quota;
        }
    }
    narrow(&result)
}

/// The zones as parties: with enough zones none may be twice in a window, with fewer each must be
/// in every window.
fn zone_parties(layout: &Layout, members: &[Party]) -> Vec<Party> {
    let cap = layout.windows() as u64;
    let lower = if layout.zones_complete() { cap } else { 0 };
    let others = lower * (layout.zones as u64 - 1);
    let mut zones = vec![Party { weight: 0, lower, upper: 0, held: 0 }; layout.zones];
    for (index, member) in members.iter().enumerate() {
        let zone = &mut zones[layout.zone_of[index] as usize];
        zone.weight += member.weight;
        zone.upper += member.upper;
        zone.held += member.held;
    }
    let most =
        if layout.zones_distinct() { cap } else { (layout.len as u64).saturating_sub(others) };
    for zone in &mut zones {
        zone.upper = zone.upper.min(most);
    }
    zones
}

/// Whether the sums per zone keep the bounds of the zones.
fn within_zones(layout: &Layout, quotas: &[u64], zones: &[Party]) -> bool {
    let mut sums = vec![0_u64; zones.len()];
    for (index, quota) in quotas.iter().enumerate() {
        sums[layout.zone_of[index] as usize] += quota;
    }
    sums.iter().zip(zones).all(|(sum, zone)| (zone.lower..=zone.upper).contains(sum))
}

/// Splits `total` in proportion to weight within the bounds: parties whose share lies outside are
/// set to their bound, the others share the rest; then largest remainder.
fn apportion(total: u64, parties: &[Party], keep_holders: bool) -> Vec<u64> {
    let mut fixed: Vec<Option<u64>> = vec![None; parties.len()];
    let (mut rest, mut weight);
    loop {
        let free = || parties.iter().zip(&fixed).filter(|(_, bound)| bound.is_none());
        rest = total.saturating_sub(fixed.iter().flatten().sum());
        weight = free().map(|(party, _)| u128::from(party.weight)).sum::<u128>();
        // Shares are compared times the total weight, so nothing is rounded.
        let (mut above, mut below) = (0_u128, 0_u128);
        for (party, _) in free() {
            let share = u128::from(rest) * u128::from(party.weight);
            above += share.saturating_sub(u128::from(party.upper) * weight);
            below += (u128::from(party.lower) * weight).saturating_sub(share);
        }
        if above == 0 && below == 0 {
            break;
        }
        for (party, bound) in parties.iter().zip(&mut fixed).filter(|(_, bound)| bound.is_none()) {
            let share = u128::from(rest) * u128::from(party.weight);
            if above >= below && share > u128::from(party.upper) * weight {
                *bound = Some(party.upper);
            } else if above < below && share < u128::from(party.lower) * weight {
                *bound = Some(party.lower);
            }
        }
    }
    round(rest, weight, parties, fixed, keep_holders)
}

/// Rounds the shares of the parties without fixed number so that they add up to `rest`.
fn round(
    rest: u64,
    weight: u128,
    parties: &[Party],
    fixed: Vec<Option<u64>>,
    keep_holders: bool,
) -> Vec<u64> {
    let mut result = vec![0; parties.len()];
    let mut ups = Vec::new();
    let mut given = 0;
    for (index, party) in parties.iter().enumerate() {
        if let Some(bound) = fixed[index] {
            result[index] = bound;
            continue;
        }
        let share = u128::from(rest) * u128::from(party.weight);
        let (down, remainder) = (share.checked_div(weight), share.checked_rem(weight));
        result[index] = u64::try_from(down.unwrap_or(0)).unwrap_or(u64::MAX);
        given += result[index];
        let keeps = keep_holders && party.held > result[index];
        ups.push((keeps, remainder.unwrap_or(0), index));
    }
    // Holders first where they may keep, then by remainder; an exact share is rounded up last.
    ups.sort_unstable_by(|one, other| {
        let rank = |up: &(bool, u128, usize)| (up.1 > 0, up.0, up.1);
        rank(other).cmp(&rank(one)).then(one.2.cmp(&other.2))
    });
    let missing = usize::try_from(rest.saturating_sub(given)).unwrap_or(usize::MAX);
    for (_, _, index) in ups.iter().take(missing) {
        result[*index] += 1;
    }
    result
}

/// Quotas as the board counts them.
fn narrow(quotas: &[u64]) -> Vec<u32> {
    quotas.iter().map(|quota| u32::try_from(*quota).unwrap_or(u32::MAX)).collect()
}
