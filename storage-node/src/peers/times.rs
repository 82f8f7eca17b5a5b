//! How long the peers took to answer lately: what operators see, and nothing is decided by.
//!
//! One histogram for each peer, kept here and not shown as such: of hundreds of peers it would be
//! thousands of series. Requests pay for one observation.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use dynamo_core::id::NodeId;
use dynamo_core::limits::{PEER_SIGHT_MESSAGES_MIN, PEER_SIGHT_WINDOW_S};
use prometheus::{GaugeVec, Histogram, HistogramOpts};
use service_kit::metrics::LATENCY_BUCKETS;
use service_kit::window::Window;

/// What one peer took within the window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Took {
    /// Messages.
    pub messages: u64,
    /// The median; `None` without any.
    pub p50: Option<Duration>,
    /// 99 of 100 took at most this long.
    pub p99: Option<Duration>,
}

/// The last seconds of all peers.
#[derive(Debug)]
pub struct PeerTimes {
    all_time: RwLock<BTreeMap<NodeId, Histogram>>,
    windows: Mutex<BTreeMap<NodeId, Recent>>,
    shown: GaugeVec,
}

#[derive(Debug)]
struct Recent {
    window: Window,
    /// The name under which its p99 is shown.
    shown_as: Option<String>,
}

impl PeerTimes {
    /// Nothing yet. `shown` takes the p99 by the name of the peer.
    #[must_use]
    pub fn new(shown: GaugeVec) -> Self {
        Self { all_time: RwLock::default(), windows: Mutex::default(), shown }
    }

    /// A message to `node` was answered after `took`, or in vain waited for so long.
    pub fn observe(&self, node: NodeId, took: Duration) {
        let known = self.all_time.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(histogram) = known.get(&node) {
            histogram.observe(took.as_secs_f64());
            return;
        }
        drop(known);
        let mut known = self.all_time.write().unwrap_or_else(PoisonError::into_inner);
        known.entry(node).or_insert_with(histogram).observe(took.as_secs_f64());
    }

    /// Takes the numbers of now; once per second.
    pub fn tick(&self, name: impl Fn(NodeId) -> Option<String>) {
        let known = self.all_time.read().unwrap_or_else(PoisonError::into_inner).clone();
        let mut windows = self.windows();
        let ticks = usize::try_from(PEER_SIGHT_WINDOW_S).unwrap_or(usize::MAX);
        for (node, histogram) in known {
            let recent = windows.entry(node).or_insert_with(|| Recent {
                window: Window::new(vec![histogram], ticks),
                shown_as: None,
            });
            recent.window.tick();
            self.show(recent, name(node));
        }
    }

    fn show(&self, recent: &mut Recent, name: Option<String>) {
        let took = took(&recent.window);
        let p99 = took.p99.filter(|_| took.messages >= PEER_SIGHT_MESSAGES_MIN);
        let name = name.filter(|_| p99.is_some());
        if name != recent.shown_as {
            self.hide(recent);
            recent.shown_as = name;
        }
        if let (Some(name), Some(p99)) = (&recent.shown_as, p99) {
            self.shown.with_label_values(&[name]).set(p99.as_secs_f64());
        }
    }

    fn hide(&self, recent: &mut Recent) {
        if let Some(name) = recent.shown_as.take() {
            // It is there: it was shown.
            drop(self.shown.remove_label_values(&[name]));
        }
    }

    /// What each peer took within the window.
    #[must_use]
    pub fn recent(&self) -> BTreeMap<NodeId, Took> {
        self.windows().iter().map(|(node, recent)| (*node, took(&recent.window))).collect()
    }

    /// Forgets peers that are not part of the ring any more.
    pub fn retain(&self, keep: impl Fn(NodeId) -> bool) {
        self.all_time.write().unwrap_or_else(PoisonError::into_inner).retain(|node, _| keep(*node));
        self.windows().retain(|node, recent| {
            let kept = keep(*node);
            if !kept {
                self.hide(recent);
            }
            kept
        });
    }

    fn windows(&self) -> MutexGuard<'_, BTreeMap<NodeId, Recent>> {
        self.windows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn took(window: &Window) -> Took {
    Took { messages: window.observations(), p50: window.quantile(500), p99: window.quantile(990) }
}

fn histogram() -> Histogram {
    let options =
        HistogramOpts::new("peer_seconds", "Not shown.").buckets(LATENCY_BUCKETS.to_vec());
    Histogram::with_opts(options).expect("the name is valid and the buckets ascend")
}

#[cfg(test)]
mod tests {
    use prometheus::Opts;
    use prometheus::core::Collector;

    use super::*;

    const A: NodeId = NodeId(1);
    const B: NodeId = NodeId(2);

    #[test]
    fn a_peer_is_shown_while_there_is_enough_to_say() {
        let shown = GaugeVec::new(Opts::new("p99", "p99"), &["peer_name"]).unwrap();
        let times = PeerTimes::new(shown.clone());
        let name = |node: NodeId| Some(format!("host-{}", node.0));
        let series = || shown.collect()[0].get_metric().len();
        let ms = |node| times.recent().get(&node).and_then(|took| took.p99).map(|p| p.as_millis());
        // The first look at a peer is where its window begins.
        times.observe(A, Duration::from_secs(9));
        times.observe(B, Duration::from_secs(9));
        times.tick(name);
        assert_eq!((ms(A), series()), (None, 0));
        (0..PEER_SIGHT_MESSAGES_MIN).for_each(|_| times.observe(A, Duration::from_millis(3)));
        times.observe(B, Duration::from_millis(3));
        times.tick(name);
        assert_eq!((ms(A), ms(B), series()), (Some(3), Some(3), 1), "B had one message");
        (0..PEER_SIGHT_WINDOW_S).for_each(|_| times.tick(name));
        assert_eq!((ms(A), series()), (None, 0), "long ago");
        (0..PEER_SIGHT_MESSAGES_MIN).for_each(|_| times.observe(A, Duration::from_millis(3)));
        times.tick(name);
        assert_eq!(series(), 1);
        times.retain(|node| node == B);
        assert_eq!((times.recent().len(), series()), (1, 0), "it left the ring");
    }
}
