//! The live estimate of how fresh reads are (PBS): the coordinator notes when the replicas of its
//! own requests answered, and every few seconds the core makes an estimate of it.
//!
//! Only requests that went to the owners alone are noted, in the state of rest that the estimate
//! speaks of: none while an owner is pending, and none of a coordinator that stands in.
//!
//! Not here: the model, which is [`dynamo_core::freshness`].

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dynamo_core::freshness::{Delays, Freshness, Observed, Sample};
use dynamo_core::id::NodeId;
use dynamo_core::ring::ReplicaSets;
use dynamo_core::time::Mono;
use service_kit::rng::OsEntropy;
use service_kit::shutdown::Shutdown;

use crate::limits::FRESHNESS_INTERVAL;
use crate::metrics::FreshnessMetrics;
use crate::node::Node;

/// Times after the acknowledgement for which the probability is shown, in milliseconds.
pub const AFTER_MS: [u64; 8] = [0, 1, 5, 10, 50, 100, 500, 1_000];

/// Replies and acknowledgements for which it is shown, where they do not overlap: there it is 1.
const QUORUMS: [(u8, u8); 4] = [(1, 1), (1, 2), (2, 1), (2, 2)];

/// The replicas that have answered one request, and when.
#[derive(Debug)]
pub struct Answers(Vec<(NodeId, Mono)>);

impl Answers {
    /// None yet, of `n`.
    #[must_use]
    pub fn of(n: u8) -> Self {
        Self(Vec::with_capacity(usize::from(n)))
    }

    /// Notes an answer; of one replica the first counts. False where there was one.
    pub fn note(&mut self, from: NodeId, at: Mono) -> bool {
        let new = !self.0.iter().any(|(node, _)| *node == from);
        if new {
            self.0.push((from, at));
        }
        new
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// How long each owner took, the coordinator first; `None` where the request says nothing
    /// about a cluster at rest.
    #[must_use]
    pub fn delays(&self, me: NodeId, replicas: &ReplicaSets, begun: Mono) -> Option<Delays> {
        if !replicas.pending.is_empty() || !replicas.owners.contains(&me) {
            return None;
        }
        let others = replicas.owners.iter().copied().filter(|owner| *owner != me);
        let at = |owner| self.0.iter().find(|(node, _)| *node == owner).map(|(_, at)| *at);
        Some(Delays::since(begun, std::iter::once(me).chain(others).map(at)))
    }
}

/// What was noted since the last estimate.
#[derive(Debug, Default)]
pub struct Noted(Mutex<Observed>);

impl Noted {
    /// Notes a put that has come to its end.
    pub fn put(&self, delays: Option<Delays>) {
        if let Some(delays) = delays {
            self.lock().put(delays, &mut OsEntropy);
        }
    }

    /// Notes a get that has come to its end.
    pub fn get(&self, delays: Option<Delays>) {
        if let Some(delays) = delays {
            self.lock().get(delays, &mut OsEntropy);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Observed> {
        // No foreign code runs under the lock, so a poisoned one still guards a whole value.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Estimates every few seconds until `stop`.
pub async fn run(node: Arc<Node>, stop: Shutdown) {
    loop {
        tokio::select! {
            () = stop.requested() => return,
            () = tokio::time::sleep(FRESHNESS_INTERVAL) => {}
        }
        let samples = node.noted.lock().take();
        for (n, sample) in samples {
            // Some milliseconds of computing, which no request shall wait behind.
            let metrics = node.metrics.freshness.clone();
            let done = tokio::task::spawn_blocking(move || show(n, &sample, &metrics)).await;
            if let Err(error) = done {
                tracing::error!(%error, "the freshness of reads could not be estimated");
            }
        }
    }
}

fn show(n: usize, sample: &Sample, metrics: &FreshnessMetrics) {
    let (puts, gets) = (sample.puts.kept(), sample.gets.kept());
    metrics.samples(n, puts.len(), gets.len());
    for (r, w) in QUORUMS.into_iter().filter(|(r, w)| usize::from(r + w) <= n) {
        let Some(found) = Freshness::estimate(puts, gets, r, w) else { continue };
        for after in AFTER_MS {
            metrics.ratio(n, r, w, after, found.probability(Duration::from_millis(after)));
        }
        metrics.time(n, r, w, found.time_until(999));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_requests_to_the_owners_alone_say_something() {
        let nodes = |ids: &[u128]| ids.iter().copied().map(NodeId).collect::<Vec<_>>();
        let rest = |owners: &[u128], pending: &[u128]| ReplicaSets {
            owners: nodes(owners),
            pending: nodes(pending),
            holders: nodes(owners),
            fallbacks: Vec::new(),
        };
        let mut answers = Answers::of(3);
        for (node, at, new) in [(2, 30, true), (1, 10, true), (2, 40, false), (9, 5, true)] {
            assert_eq!(answers.note(NodeId(node), Mono(at)), new);
        }
        let wanted = Delays::since(Mono(0), [Some(Mono(30)), Some(Mono(10)), None]);
        let cases = [
            (2, rest(&[1, 2, 3], &[]), Some(wanted)),
            (2, rest(&[1, 2, 3], &[3]), None),
            (9, rest(&[1, 2, 3], &[]), None),
        ];
        for (me, replicas, wanted) in cases {
            assert_eq!(answers.delays(NodeId(me), &replicas, Mono(0)), wanted, "{me} {replicas:?}");
        }
    }
}
