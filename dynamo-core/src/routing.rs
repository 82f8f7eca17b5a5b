//! Where a request enters the ring: which nodes may coordinate it, in which order they are tried
//! (paper sections 4.5, 5 and 6.4), and what the reachable nodes still can serve as a whole.
//!
//! A put is coordinated by a node of the key's active list, as it mints the version; a get by any
//! of its replicas. Among them the fastest reader named by the client's context goes first, unless
//! it is overloaded (hazard C17: the fastest reader herds all clients onto one replica); else the
//! better of two picked at random, by requests in flight and latency.
//!
//! Not here: how reachability, requests in flight and latency are measured; sending and retrying.

pub mod evenness;
pub mod health;
pub mod stopping;

use std::time::Duration;

use crate::entropy::Entropy;
use crate::id::NodeId;
use crate::limits::COORDINATOR_HERD_MIN;
use crate::ring::ReplicaSets;

/// What a request does, as far as the choice of its coordinator goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// A get: every replica that holds the key's partition is as good as the next.
    Read,
    /// A put or delete: only a node that shall store the key may mint a version.
    Write,
}

/// One process's judgement of one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeLoad {
    /// Whether it answers at all, as far as is known.
    pub reachable: bool,
    /// Whether it is known to be much slower than usual: it is tried after the others.
    pub slow: bool,
    /// Requests of this process that it has not answered yet.
    pub in_flight: u32,
    /// Its usual time for an answer in microseconds; 0 where nothing is known.
    pub latency_us: u64,
}

impl NodeLoad {
    /// Expected wait of one more request, in an arbitrary unit. A node about which nothing is
    /// known looks fast, so it is tried and becomes known. Latencies count by powers of two:
    /// nodes that are nearly as fast share the load.
    fn score(self) -> u64 {
        let latency = self.latency_us.clamp(1, 1 << 40).next_power_of_two();
        latency.saturating_mul(u64::from(self.in_flight) + 1)
    }

    /// Whether one more request here would wait for a crowd that `other` does not have.
    fn is_herded(self, other: Self) -> bool {
        self.in_flight >= COORDINATOR_HERD_MIN
            && u64::from(self.in_flight) > 2 * u64::from(other.in_flight)
    }
}

/// The latency in microseconds that counts of a node whose last answer is `since_answer` ago: it
/// halves every two seconds of silence. Without that, a node that was slow once would never be
/// chosen, and so never be seen to be fast again.
#[must_use]
pub fn aged_latency(latency: Duration, since_answer: Duration) -> u64 {
    let latency_us = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
    let halvings = u32::try_from(since_answer.as_secs() / 2).unwrap_or(u32::MAX);
    latency_us.checked_shr(halvings).unwrap_or(0)
}

/// Why the first coordinator of an order is the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ChoiceReason {
    /// The context names it as the fastest reader.
    Fastest,
    /// It is the better of two.
    BetterOfTwo,
    /// It is the only reachable primary.
    OnlyPrimary,
    /// No primary is reachable; it stands in.
    Fallback,
    /// Nothing is known to be reachable; perhaps the knowledge is out of date.
    LastResort,
}

impl ChoiceReason {
    /// Every reason, for metrics.
    pub const ALL: [Self; 5] =
        [Self::Fastest, Self::BetterOfTwo, Self::OnlyPrimary, Self::Fallback, Self::LastResort];

    /// Its word in metrics and explanations.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fastest => "fastest_reader",
            Self::BetterOfTwo => "better_of_two",
            Self::OnlyPrimary => "only_primary",
            Self::Fallback => "fallback",
            Self::LastResort => "last_resort",
        }
    }
}

/// The coordinators of one request in the order in which they are tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CoordinatorOrder {
    /// Distinct nodes; empty only where the ring is.
    pub nodes: Vec<NodeId>,
    /// Why the first is the first.
    pub reason: ChoiceReason,
}

/// Orders the nodes that may coordinate a request.
///
/// First the reachable nodes that have the key's data (for a write, that also own the key), then
/// pending owners, then fallbacks in preference-list order, and at the end, for want of better,
/// the nodes that are thought to be unreachable. `preferred` is the fastest reader of the client's
/// context.
pub fn coordinator_order(
    sets: &ReplicaSets,
    purpose: Purpose,
    preferred: Option<NodeId>,
    load: impl Fn(NodeId) -> NodeLoad,
    entropy: &mut impl Entropy,
) -> CoordinatorOrder {
    let mut best: Vec<(NodeId, NodeLoad)> = first_choice(sets, purpose)
        .map(|node| (node, load(node)))
        .filter(|(_, load)| load.reachable)
        .collect();
    let mut reason = rank(&mut best, preferred, entropy);
    let mut nodes: Vec<NodeId> = best.into_iter().map(|(node, _)| node).collect();
    let had_primary = !nodes.is_empty();
    // A former holder may serve reads as well as an owner; to a write it is the last to ask.
    let (second, third) = match purpose {
        Purpose::Read => (&sets.holders, &sets.fallbacks),
        Purpose::Write => (&sets.fallbacks, &sets.holders),
    };
    for wanted in [true, false] {
        for node in sets.owners.iter().chain(second).chain(third) {
            if !nodes.contains(node) && load(*node).reachable == wanted {
                nodes.push(*node);
            }
        }
        if wanted && !had_primary {
            reason =
                if nodes.is_empty() { ChoiceReason::LastResort } else { ChoiceReason::Fallback };
        }
    }
    CoordinatorOrder { nodes, reason }
}

/// The nodes that are best placed to coordinate.
fn first_choice(sets: &ReplicaSets, purpose: Purpose) -> impl Iterator<Item = NodeId> {
    let holding = move |node: &&NodeId| match purpose {
        Purpose::Read => true,
        Purpose::Write => !sets.pending.contains(node),
    };
    let candidates = match purpose {
        Purpose::Read if !sets.holders.is_empty() => &sets.holders,
        _ => &sets.owners,
    };
    // Where no owner holds the partition, all of them are as good.
    let all = !candidates.iter().any(|node| holding(&node));
    candidates.iter().filter(move |node| all || holding(node)).copied()
}

/// Puts the coordinator of choice first and the others behind it by expected wait.
fn rank(
    nodes: &mut [(NodeId, NodeLoad)],
    preferred: Option<NodeId>,
    entropy: &mut impl Entropy,
) -> ChoiceReason {
    if nodes.len() < 2 {
        return ChoiceReason::OnlyPrimary;
    }
    nodes.sort_by_key(|(_, load)| (load.slow, load.score()));
    // Slow nodes are a choice only among themselves.
    let prompt = nodes.iter().filter(|(_, load)| !load.slow).count();
    let choices = if prompt == 0 { nodes.len() } else { prompt };
    let (first, second) = two_of(choices, entropy);
    let load = |index: usize| nodes.get(index).map(|(_, load)| *load);
    let fastest = nodes.iter().take(choices).position(|(node, _)| Some(*node) == preferred);
    let (chosen, reason) = match fastest.and_then(|at| Some((at, load(at)?))) {
        Some((at, of_fastest)) => {
            let other = if first == at { second } else { first };
            if load(other).is_some_and(|of_other| of_fastest.is_herded(of_other)) {
                (other, ChoiceReason::BetterOfTwo)
            } else {
                (at, ChoiceReason::Fastest)
            }
        }
        None => {
            let wait = |index| load(index).map(NodeLoad::score);
            let better = if wait(second) < wait(first) { second } else { first };
            (better, ChoiceReason::BetterOfTwo)
        }
    };
    if let Some(front) = nodes.get_mut(..=chosen) {
        front.rotate_right(1);
    }
    reason
}

/// Two distinct indexes below `count`, uniformly drawn; twice the same where there is only one.
fn two_of(count: usize, entropy: &mut impl Entropy) -> (usize, usize) {
    if count < 2 {
        return (0, 0);
    }
    let draw = |bound: usize, entropy: &mut _| {
        usize::try_from(Entropy::below(entropy, bound as u64)).unwrap_or(0)
    };
    let first = draw(count, entropy);
    let second = draw(count - 1, entropy);
    (first, if second >= first { second + 1 } else { second })
}

#[cfg(test)]
mod tests;
