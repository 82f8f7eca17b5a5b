//! When what was last found equal: per partner and part, in memory. A new process knows nothing
//! until its first rounds have ended; nothing but reaping and the shown lag depends on it.

use std::collections::{BTreeMap, BTreeSet};

use dynamo_core::id::{NodeId, PartitionId};
use dynamo_core::merkle::exchange::{ClassPart, ExchangeEnd, ExchangeResult};
use dynamo_core::time::WallMs;

/// Why something in common is not known to be equal, the worse first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Apart {
    /// The last comparison left it different.
    Differs,
    /// It failed or did not come about.
    NotCompared,
}

/// How one partner stands.
#[derive(Debug, Clone, Default)]
pub struct Standing {
    /// What is in common, with the time at which it was last found equal.
    pub parts: BTreeMap<ClassPart, Option<WallMs>>,
    /// What the last comparison did not find equal. Before the first one that is nothing.
    pub apart: BTreeMap<ClassPart, Apart>,
    /// When everything in common was last found equal in one round.
    pub agreed_at: Option<WallMs>,
    /// When the last round ended.
    pub ended_at: Option<WallMs>,
    /// Whether a round is under way.
    pub running: bool,
    /// Why the last round failed.
    pub error: Option<String>,
    /// Keys compared one by one.
    pub keys_compared: u64,
    /// Keys repaired, in either direction.
    pub keys_repaired: u64,
    /// Bytes of records moved.
    pub bytes: u64,
    /// Keys that the last round found different and did not repair.
    pub keys_behind: u64,
}

/// How all partners stand.
#[derive(Debug, Clone, Default)]
pub struct Agreement {
    partners: BTreeMap<NodeId, Standing>,
}

impl Agreement {
    /// What there is in common with whom. What was known of the rest is forgotten.
    pub fn set_partners(&mut self, partners: &BTreeMap<NodeId, BTreeSet<ClassPart>>) {
        self.partners.retain(|node, _| partners.contains_key(node));
        for (node, parts) in partners {
            let standing = self.partners.entry(*node).or_default();
            standing.parts.retain(|part, _| parts.contains(part));
            standing.apart.retain(|part, _| parts.contains(part));
            for part in parts {
                standing.parts.entry(*part).or_default();
            }
        }
    }

    /// All partners, by node.
    pub fn partners(&self) -> impl Iterator<Item = (NodeId, &Standing)> {
        self.partners.iter().map(|(node, standing)| (*node, standing))
    }

    /// One partner.
    #[must_use]
    pub fn partner(&self, node: NodeId) -> Option<&Standing> {
        self.partners.get(&node)
    }

    /// Notes that a round with `node` begins.
    pub fn begin(&mut self, node: NodeId) {
        if let Some(standing) = self.partners.get_mut(&node) {
            standing.running = true;
        }
    }

    /// Notes that `node` was not compared, and why.
    pub fn skip(&mut self, node: NodeId, reason: &str, now: WallMs) {
        if let Some(standing) = self.partners.get_mut(&node) {
            standing.error = Some(reason.to_owned());
            standing.ended_at = Some(now);
            for part in standing.parts.keys() {
                standing.apart.entry(*part).or_insert(Apart::NotCompared);
            }
        }
    }

    /// Notes how a comparison of `scope` with `node` ended. What was found equal was equal when it
    /// began, at `since`.
    pub fn end(
        &mut self,
        node: NodeId,
        scope: &BTreeSet<ClassPart>,
        result: &ExchangeResult,
        (since, now): (WallMs, WallMs),
    ) {
        let Some(standing) = self.partners.get_mut(&node) else { return };
        let counts = &result.counts;
        let repaired = counts.pushed.saturating_add(counts.pulled);
        standing.running = false;
        standing.ended_at = Some(now);
        standing.keys_compared = standing.keys_compared.saturating_add(counts.keys);
        standing.keys_repaired = standing.keys_repaired.saturating_add(repaired);
        standing.bytes = standing.bytes.saturating_add(counts.bytes_moved());
        for part in scope.difference(&result.left) {
            if let Some(agreed) = standing.parts.get_mut(part) {
                *agreed = Some(since);
                standing.apart.remove(part);
            }
        }
        for part in result.left.iter().filter(|part| standing.parts.contains_key(part)) {
            match &result.end {
                // What was found to differ still does, as far as is known.
                ExchangeEnd::Failed { .. } => {
                    standing.apart.entry(*part).or_insert(Apart::NotCompared);
                }
                _ => drop(standing.apart.insert(*part, Apart::Differs)),
            }
        }
        standing.error = match &result.end {
            ExchangeEnd::Agreed => None,
            ExchangeEnd::DifferencesLeft => Some("differences were left".to_owned()),
            ExchangeEnd::Failed { side, failure } => Some(format!("{side:?}: {failure}")),
        };
        standing.keys_behind = match &result.end {
            ExchangeEnd::Agreed => 0,
            _ => counts.differing.saturating_sub(counts.settled.saturating_add(repaired)),
        };
        let oldest = standing.parts.values().min().copied().flatten();
        standing.agreed_at = standing.agreed_at.max(oldest);
    }

    /// When each partition was last found equal with every partner that has it in common; `None`
    /// for never with one of them.
    #[must_use]
    pub fn partitions(&self) -> BTreeMap<PartitionId, Option<WallMs>> {
        least_of_each(self.partners.values().flat_map(|standing| &standing.parts))
    }

    /// The partners with whom a partition was not found equal by the last comparison, and why.
    #[must_use]
    pub fn apart(&self) -> BTreeMap<PartitionId, BTreeMap<NodeId, Apart>> {
        let mut partitions: BTreeMap<PartitionId, BTreeMap<NodeId, Apart>> = BTreeMap::new();
        for (node, standing) in &self.partners {
            for (partition, apart) in least_of_each(&standing.apart) {
                partitions.entry(partition).or_default().insert(*node, apart);
            }
        }
        partitions
    }

    /// Up to `most` partitions that are apart, each with a partner and when both were last found
    /// equal; those that differ first, then the longest ago.
    #[must_use]
    pub fn furthest_behind(&self, most: usize) -> Vec<((PartitionId, NodeId), Option<WallMs>)> {
        let mut all = Vec::new();
        for (node, standing) in &self.partners {
            let agreed = least_of_each(&standing.parts);
            let at = |partition| agreed.get(&partition).copied().flatten();
            let apart = least_of_each(&standing.apart).into_iter();
            all.extend(apart.map(|(partition, why)| (why, at(partition), (partition, *node))));
        }
        all.sort_unstable();
        all.truncate(most);
        all.into_iter().map(|(_, agreed, behind)| (behind, agreed)).collect()
    }

    /// The time since which everything in common has been found equal with everybody; `None` where
    /// something never was. With nobody to compare with it is `now`.
    #[must_use]
    pub fn full_round(&self, now: WallMs) -> Option<WallMs> {
        let parts = self.partners.values().flat_map(|standing| standing.parts.values());
        parts.min().copied().unwrap_or(Some(now))
    }

    /// Whether `part` was found equal with each of `nodes` no longer than before `since`.
    #[must_use]
    pub fn agreed_since(&self, part: ClassPart, nodes: &[NodeId], since: WallMs) -> bool {
        nodes.iter().all(|node| {
            let agreed = self.partners.get(node).and_then(|standing| standing.parts.get(&part));
            agreed.copied().flatten().is_some_and(|at| at >= since)
        })
    }
}

/// What stands for the parts of each partition together: the least of it.
fn least_of_each<'a, T: Copy + Ord + 'a>(
    parts: impl IntoIterator<Item = (&'a ClassPart, &'a T)>,
) -> BTreeMap<PartitionId, T> {
    let mut partitions = BTreeMap::new();
    for ((_, partition), value) in parts {
        let known = partitions.entry(*partition).or_insert(*value);
        *known = (*known).min(*value);
    }
    partitions
}

#[cfg(test)]
mod tests {
    use dynamo_core::merkle::exchange::{ExchangeCounts, ExchangeFailure, Side};

    use super::*;

    const A: NodeId = NodeId(1);
    const B: NodeId = NodeId(2);

    fn part(partition: u32) -> ClassPart {
        (3, PartitionId(partition))
    }

    fn ended(left: &[ClassPart]) -> ExchangeResult {
        let end = if left.is_empty() { ExchangeEnd::Agreed } else { ExchangeEnd::DifferencesLeft };
        let counts = ExchangeCounts { keys: 9, differing: 5, pushed: 2, ..Default::default() };
        ExchangeResult { end, left: left.iter().copied().collect(), witness: None, counts }
    }

    #[test]
    fn a_partition_is_as_old_as_its_oldest_comparison() {
        let both = BTreeSet::from([part(0), part(1)]);
        let mut agreement = Agreement::default();
        assert_eq!(agreement.full_round(WallMs(7)), Some(WallMs(7)), "nobody to compare with");
        agreement.set_partners(&BTreeMap::from([(A, both.clone()), (B, both.clone())]));
        assert_eq!(agreement.full_round(WallMs(7)), None);
        agreement.end(A, &both, &ended(&[]), (WallMs(10), WallMs(11)));
        assert!(!agreement.agreed_since(part(0), &[A, B], WallMs(0)));
        agreement.end(B, &both, &ended(&[part(1)]), (WallMs(20), WallMs(21)));
        assert!(agreement.agreed_since(part(0), &[A, B], WallMs(10)));
        assert!(!agreement.agreed_since(part(0), &[A, B], WallMs(11)));
        assert_eq!(
            agreement.partitions(),
            BTreeMap::from([(PartitionId(0), Some(WallMs(10))), (PartitionId(1), None)])
        );
        let standing = agreement.partner(B).unwrap();
        assert_eq!((standing.agreed_at, standing.keys_behind), (None, 3));
        agreement.end(B, &both, &ended(&[]), (WallMs(30), WallMs(31)));
        assert_eq!(agreement.full_round(WallMs(40)), Some(WallMs(10)));
        assert_eq!(agreement.partner(B).unwrap().keys_behind, 0);
    }

    #[test]
    fn what_was_found_to_differ_does_until_it_is_found_equal() {
        let both = BTreeSet::from([part(0), part(1)]);
        let mut agreement = Agreement::default();
        agreement.set_partners(&BTreeMap::from([(A, both.clone()), (B, both.clone())]));
        assert_eq!(agreement.apart(), BTreeMap::new(), "nothing was compared yet");
        let at = (WallMs(10), WallMs(11));
        agreement.end(A, &both, &ended(&[part(1)]), at);
        agreement.skip(B, "not reachable", WallMs(12));
        let with_b = (B, Apart::NotCompared);
        let differs = BTreeMap::from([(A, Apart::Differs), with_b]);
        let expected =
            BTreeMap::from([(PartitionId(0), BTreeMap::from([with_b])), (PartitionId(1), differs)]);
        assert_eq!(agreement.apart(), expected);
        let failure = ExchangeFailure::Building;
        let end = ExchangeEnd::Failed { side: Side::Far, failure };
        let failed = ExchangeResult { end, ..ended(&[part(0), part(1)]) };
        agreement.end(A, &both, &failed, at);
        let apart = agreement.apart();
        assert_eq!(apart[&PartitionId(0)][&A], Apart::NotCompared);
        assert_eq!(apart[&PartitionId(1)][&A], Apart::Differs, "nothing else was seen since");
        let furthest = agreement.furthest_behind(2);
        let expected = [((PartitionId(1), A), None), ((PartitionId(0), B), None)];
        assert_eq!(furthest, expected, "what differs, then the longest ago");
        agreement.end(A, &both, &ended(&[]), at);
        agreement.end(B, &both, &ended(&[]), at);
        assert_eq!(agreement.apart(), BTreeMap::new());
    }

    #[test]
    fn what_is_no_longer_in_common_is_forgotten() {
        let both = BTreeSet::from([part(0), part(1)]);
        let mut agreement = Agreement::default();
        agreement.set_partners(&BTreeMap::from([(A, both.clone()), (B, both.clone())]));
        agreement.end(A, &both, &ended(&[]), (WallMs(10), WallMs(11)));
        agreement.set_partners(&BTreeMap::from([(A, BTreeSet::from([part(1), part(2)]))]));
        assert_eq!(
            agreement.partitions(),
            BTreeMap::from([(PartitionId(1), Some(WallMs(10))), (PartitionId(2), None)])
        );
        agreement.end(B, &both, &ended(&[]), (WallMs(10), WallMs(11)));
        assert!(agreement.partner(B).is_none());
    }
}
