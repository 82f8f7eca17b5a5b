//! Who is reachable, judged from this process's own traffic alone (paper section 4.8.3): a peer
//! may be up for others and down for us, and nobody is told.
//!
//! - A refused connection, or [`PEER_FAILURES_MAX`] failures in a row, make a peer *down*. Requests
//!   no longer go there; it is probed out of band, with growing pauses. User requests are never
//!   probes.
//! - A successful probe makes it *suspect*; [`PROBES_TO_RECOVER`] in a row make it *up* again, and
//!   so does any answer to ordinary traffic.
//! - A peer that fell *silent* recovers only [`PEER_RECOVERY_GAP_MS`] after such a recovery before,
//!   so one behind a bad network changes its state at most twice a minute (F-11); the first
//!   recovery is prompt. A peer that refused or broke connections is a process that went away:
//!   when it answers again it was started again, and is back at once.
//! - *Slow* is not down (hazard C16): a peer that answers much later than the others stays
//!   reachable and its answers count, but it gets no patience, so a stand-in is asked along with
//!   it at once, and it is not chosen to coordinate. Slowness is relative to the other peers: in
//!   an overloaded cluster nobody is routed around for it. It ends with prompt answers, or
//!   [`PEER_SLOW_FORGET_MS`] after the last slow one: who is avoided cannot show that it is better.
//!
//! Not here: sending probes, and what is done about any of it.

mod latency;

use std::collections::BTreeMap;
use std::time::Duration;

use crate::entropy::Entropy;
use crate::failure_view::latency::Latency;
use crate::id::NodeId;
use crate::limits::{
    PATIENCE_MS_MAX, PATIENCE_MS_MIN, PEER_FAILURES_MAX, PEER_RECOVERY_GAP_MS, PEER_SLOW_FACTOR,
    PEER_SLOW_FORGET_MS, PEER_SLOW_STRIKES, PEER_TIMEOUT_EVIDENCE_MS, PROBE_BACKOFF_MS_MAX,
    PROBE_BACKOFF_MS_MIN, PROBE_TIMEOUT_MS, PROBES_TO_RECOVER,
};
use crate::time::Mono;

/// How a request to a peer failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureKind {
    /// Nobody listens there: the process is gone.
    Refused,
    /// No connection, or it broke.
    ConnectionLost,
    /// No answer.
    Timeout {
        /// How long was waited. Short waits are the asker's choice and no evidence.
        waited: Duration,
    },
    /// It answered that it has too much to do: alive, but not to be preferred.
    Overloaded,
}

/// What is thought of a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PeerState {
    /// It answers.
    Up,
    /// It was down and answers probes again.
    Suspect,
    /// It does not answer.
    Down,
}

/// A peer became reachable or unreachable. One that became reachable is due its hints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerChange {
    /// The peer.
    pub node: NodeId,
    /// Whether it is reachable now.
    pub up: bool,
}

#[derive(Debug, Default)]
struct Peer {
    /// `None` while up.
    outage: Option<Outage>,
    failures: u32,
    latency: Latency,
    /// Since when it is slow without a break; moved on by every further slow answer.
    slow: Option<Mono>,
    slow_strikes: u32,
    prompt_answers: u32,
    /// When the last outage by silence ended.
    recovered_at: Option<Mono>,
    /// When the last outage of any kind ended.
    up_since: Option<Mono>,
}

#[derive(Debug)]
struct Outage {
    /// Whether it began with requests that nobody answered.
    by_silence: bool,
    backoff: Duration,
    probe_at: Mono,
    /// Since when a probe is on its way.
    probing: Option<Mono>,
    successes: u32,
}

/// The view of one process on its peers. Peers that it knows nothing of are reachable.
#[derive(Debug, Default)]
pub struct FailureView {
    peers: BTreeMap<NodeId, Peer>,
}

impl FailureView {
    /// A view of nobody: everyone is reachable.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether requests go to `node`.
    #[must_use]
    pub fn reachable(&self, node: NodeId) -> bool {
        self.peers.get(&node).is_none_or(|peer| peer.outage.is_none())
    }

    /// Whether `node` is reachable and prompt: who to prefer where there is a choice.
    #[must_use]
    pub fn routable(&self, node: NodeId) -> bool {
        self.peers.get(&node).is_none_or(|peer| peer.outage.is_none() && peer.slow.is_none())
    }

    /// What is thought of `node`.
    #[must_use]
    pub fn state(&self, node: NodeId) -> PeerState {
        match self.peers.get(&node).and_then(|peer| peer.outage.as_ref()) {
            None => PeerState::Up,
            Some(outage) if outage.successes > 0 => PeerState::Suspect,
            Some(_) => PeerState::Down,
        }
    }

    /// How long to wait for `node` before a stand-in is asked as well: rarely exceeded while it
    /// behaves as usual, within [`PATIENCE_MS_MIN`] and [`PATIENCE_MS_MAX`]; zero while it is slow.
    #[must_use]
    pub fn patience(&self, node: NodeId) -> Duration {
        let most = Duration::from_millis(PATIENCE_MS_MAX);
        let Some(peer) = self.peers.get(&node) else { return most };
        if peer.slow.is_some() {
            return Duration::ZERO;
        }
        let usual = peer.latency.usual().unwrap_or(most);
        usual.clamp(Duration::from_millis(PATIENCE_MS_MIN), most)
    }

    /// Smoothed latency of `node`; `None` before its first answer.
    #[must_use]
    pub fn latency(&self, node: NodeId) -> Option<Duration> {
        self.peers.get(&node).and_then(|peer| peer.latency.smoothed())
    }

    /// A request to `node` was answered after `latency`.
    pub fn on_success(&mut self, node: NodeId, now: Mono, latency: Duration) -> Option<PeerChange> {
        let is_slow = self.is_slow(node, latency);
        let peer = self.peers.entry(node).or_default();
        peer.failures = 0;
        peer.latency.observe(latency);
        if is_slow {
            peer.strike(now);
        } else {
            peer.answered_promptly();
        }
        peer.recover(now).then_some(PeerChange { node, up: true })
    }

    /// A request to `node` failed.
    pub fn on_failure(
        &mut self,
        node: NodeId,
        now: Mono,
        kind: FailureKind,
        entropy: &mut impl Entropy,
    ) -> Option<PeerChange> {
        let peer = self.peers.entry(node).or_default();
        let evidence = Duration::from_millis(PEER_TIMEOUT_EVIDENCE_MS);
        match kind {
            FailureKind::Refused => peer.failures = peer.failures.max(PEER_FAILURES_MAX),
            FailureKind::ConnectionLost => peer.failures = peer.failures.saturating_add(1),
            FailureKind::Timeout { waited } if waited >= evidence && peer.was_up(now, waited) => {
                peer.failures = peer.failures.saturating_add(1);
            }
            FailureKind::Timeout { .. } => {}
            FailureKind::Overloaded => {
                peer.failures = 0;
                peer.strike(now);
            }
        }
        if peer.outage.is_some() || peer.failures < PEER_FAILURES_MAX {
            return None;
        }
        let backoff = Duration::from_millis(PROBE_BACKOFF_MS_MIN);
        let probe_at = now.plus(jittered(backoff, entropy));
        let by_silence = matches!(kind, FailureKind::Timeout { .. });
        peer.outage = Some(Outage { by_silence, backoff, probe_at, probing: None, successes: 0 });
        Some(PeerChange { node, up: false })
    }

    /// A request to `node` exceeded its patience. Its answer, if it comes, is reported as well.
    pub fn on_overdue(&mut self, node: NodeId, now: Mono) {
        // Known latencies say whether the others are slow too; without them nobody is compared.
        if self.is_slow(node, Duration::from_millis(PATIENCE_MS_MAX).saturating_mul(2)) {
            self.peers.entry(node).or_default().strike(now);
        }
    }

    /// The peers that are to be probed now; also forgets old slowness. Each peer is due again only
    /// after its result was reported, or [`PROBE_TIMEOUT_MS`] passed without one, which counts as a
    /// failure.
    pub fn due_probes(&mut self, now: Mono, entropy: &mut impl Entropy) -> Vec<NodeId> {
        let timeout = Duration::from_millis(PROBE_TIMEOUT_MS);
        let mut due = Vec::new();
        for (node, peer) in &mut self.peers {
            peer.forget_slowness(now);
            let Some(outage) = &mut peer.outage else { continue };
            if outage.probing.is_some_and(|since| now.since(since) >= timeout) {
                outage.probe_failed(now, entropy);
            }
            if outage.probing.is_none() && outage.probe_at <= now {
                outage.probing = Some(now);
                due.push(*node);
            }
        }
        due
    }

    /// A probe of `node` ended.
    pub fn on_probe(
        &mut self,
        node: NodeId,
        now: Mono,
        ok: bool,
        entropy: &mut impl Entropy,
    ) -> Option<PeerChange> {
        let peer = self.peers.get_mut(&node)?;
        let outage = peer.outage.as_mut()?;
        if !ok {
            outage.probe_failed(now, entropy);
            return None;
        }
        outage.probing = None;
        outage.successes = outage.successes.saturating_add(1);
        outage.backoff = Duration::from_millis(PROBE_BACKOFF_MS_MIN);
        outage.probe_at = now.plus(jittered(outage.backoff, entropy));
        let recovered = outage.successes >= PROBES_TO_RECOVER && peer.recover(now);
        recovered.then_some(PeerChange { node, up: true })
    }

    /// When [`FailureView::due_probes`] is to be called next; `None` while all is well.
    #[must_use]
    pub fn next_probe(&self) -> Option<Mono> {
        let timeout = Duration::from_millis(PROBE_TIMEOUT_MS);
        let outages = self.peers.values().filter_map(|peer| peer.outage.as_ref());
        let probes =
            outages.map(|outage| outage.probing.map_or(outage.probe_at, |at| at.plus(timeout)));
        let forget = Duration::from_millis(PEER_SLOW_FORGET_MS);
        let slow = self.peers.values().filter_map(|peer| peer.slow).map(|at| at.plus(forget));
        probes.chain(slow).min()
    }

    /// Forgets the peers that are not to be kept: those that left the ring.
    pub fn retain(&mut self, keep: impl Fn(NodeId) -> bool) {
        self.peers.retain(|node, _| keep(*node));
    }

    /// Whether `latency` stands out against the longest patience and against the median of the
    /// other peers.
    fn is_slow(&self, node: NodeId, latency: Duration) -> bool {
        if latency <= Duration::from_millis(PATIENCE_MS_MAX) {
            return false;
        }
        let mut others: Vec<Duration> = self
            .peers
            .iter()
            .filter(|(other, peer)| **other != node && peer.outage.is_none())
            .filter_map(|(_, peer)| peer.latency.smoothed())
            .collect();
        others.sort_unstable();
        let median = others.get(others.len() / 2);
        median.is_some_and(|median| latency > median.saturating_mul(PEER_SLOW_FACTOR))
    }
}

impl Peer {
    fn strike(&mut self, now: Mono) {
        self.prompt_answers = 0;
        self.slow_strikes = self.slow_strikes.saturating_add(1);
        if self.slow_strikes >= PEER_SLOW_STRIKES {
            self.slow = Some(now);
        }
    }

    fn answered_promptly(&mut self) {
        self.slow_strikes = 0;
        self.prompt_answers = self.prompt_answers.saturating_add(1);
        if self.prompt_answers >= PEER_SLOW_STRIKES {
            self.slow = None;
        }
    }

    fn forget_slowness(&mut self, now: Mono) {
        let forget = Duration::from_millis(PEER_SLOW_FORGET_MS);
        if self.slow.is_some_and(|at| now.since(at) >= forget) {
            self.slow = None;
            self.slow_strikes = 0;
        }
    }

    /// Ends the outage, if there is one and it is not one of many in a short time.
    fn recover(&mut self, now: Mono) -> bool {
        let Some(outage) = &self.outage else { return false };
        if outage.by_silence {
            let gap = Duration::from_millis(PEER_RECOVERY_GAP_MS);
            if self.recovered_at.is_some_and(|at| now.since(at) < gap) {
                return false;
            }
            self.recovered_at = Some(now);
        }
        self.outage = None;
        self.failures = 0;
        self.up_since = Some(now);
        true
    }

    /// Whether a request that waited so long was sent to a peer that was up. What was sent into an
    /// outage times out after it and says nothing new.
    fn was_up(&self, now: Mono, waited: Duration) -> bool {
        self.up_since.is_none_or(|since| now.since(since) >= waited)
    }
}

impl Outage {
    fn probe_failed(&mut self, now: Mono, entropy: &mut impl Entropy) {
        self.probing = None;
        self.successes = 0;
        self.probe_at = now.plus(jittered(self.backoff, entropy));
        let most = Duration::from_millis(PROBE_BACKOFF_MS_MAX);
        self.backoff = self.backoff.saturating_mul(2).min(most);
    }
}

/// Between a half and the whole of `pause`, so that peers do not probe in step.
fn jittered(pause: Duration, entropy: &mut impl Entropy) -> Duration {
    let half = pause / 2;
    let micros = u64::try_from(half.as_micros()).unwrap_or(u64::MAX);
    half + Duration::from_micros(entropy.below(micros.saturating_add(1)))
}

#[cfg(test)]
mod tests;
