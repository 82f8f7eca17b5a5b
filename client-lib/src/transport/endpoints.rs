//! The addresses that a client talks to, and which of them are suspect. A suspect endpoint gets
//! no user requests while another one is left; it is probed in the background and returns with
//! its first answer.
//!
//! The view is local (paper section 4.2.3 of membership: nobody declares anybody else dead), and
//! pure: time and dice are arguments.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use dynamo_core::routing::{NodeLoad, aged_latency};

use crate::limits::{PROBE_PAUSE_MAX, PROBE_PAUSE_MIN};
use crate::transport::backoff::Dice;

/// Answers that the average latency remembers.
const LATENCY_MEMORY: u32 = 8;

#[derive(Debug)]
struct Endpoint {
    base: Arc<str>,
    in_flight: u32,
    /// Moving average of the time for an answer; zero while nothing is known.
    latency: Duration,
    answered_at: Instant,
    /// Set while suspect: how long until the next probe, and when that is.
    suspect: Option<Suspicion>,
}

#[derive(Debug, Clone, Copy)]
struct Suspicion {
    pause: Duration,
    probe_at: Instant,
}

impl Endpoint {
    fn new(base: Arc<str>) -> Self {
        Self {
            base,
            in_flight: 0,
            latency: Duration::ZERO,
            answered_at: Instant::now(),
            suspect: None,
        }
    }
}

/// A set of base URLs (`http://host:port`). Small; every operation is a scan.
#[derive(Debug, Default)]
pub(crate) struct Endpoints {
    list: Mutex<Vec<Endpoint>>,
}

impl Endpoints {
    /// Endpoints that are all trusted.
    pub(crate) fn new(bases: impl IntoIterator<Item = Arc<str>>) -> Self {
        Self { list: Mutex::new(bases.into_iter().map(Endpoint::new).collect()) }
    }

    /// A random trusted endpoint that is not in `tried`, else a random suspect one that is not,
    /// else none.
    pub(crate) fn pick(&self, tried: &[Arc<str>], dice: &Dice) -> Option<Arc<str>> {
        let list = self.lock();
        let open = |endpoint: &&Endpoint| !tried.contains(&endpoint.base);
        let trusted: Vec<_> =
            list.iter().filter(open).filter(|endpoint| endpoint.suspect.is_none()).collect();
        let among = if trusted.is_empty() { list.iter().filter(open).collect() } else { trusted };
        among.get(dice.index(among.len())).map(|endpoint| Arc::clone(&endpoint.base))
    }

    /// What is known of `base`, for choosing among coordinators. An address never seen is
    /// trusted.
    pub(crate) fn load(&self, base: &str) -> NodeLoad {
        let list = self.lock();
        let Some(endpoint) = list.iter().find(|endpoint| &*endpoint.base == base) else {
            return NodeLoad { reachable: true, slow: false, in_flight: 0, latency_us: 0 };
        };
        NodeLoad {
            reachable: endpoint.suspect.is_none(),
            slow: false,
            in_flight: endpoint.in_flight,
            latency_us: aged_latency(endpoint.latency, endpoint.answered_at.elapsed()),
        }
    }

    /// Notes that a request is sent to `base`; it is in flight until the guard is dropped.
    pub(crate) fn send(self: &Arc<Self>, base: &Arc<str>) -> InFlight {
        self.with(base, |endpoint| endpoint.in_flight += 1);
        InFlight { endpoints: Arc::clone(self), base: Arc::clone(base), sent_at: Instant::now() }
    }

    /// Notes an answer of any kind: the endpoint is trusted again.
    pub(crate) fn answered(&self, base: &str) {
        self.with(base, |endpoint| endpoint.suspect = None);
    }

    /// Notes a failure. True where the endpoint became suspect with it.
    pub(crate) fn failed(&self, base: &str, now: Instant) -> bool {
        let mut became_suspect = false;
        self.with(base, |endpoint| {
            became_suspect = endpoint.suspect.is_none();
            let probe_at = now + PROBE_PAUSE_MIN;
            endpoint.suspect.get_or_insert(Suspicion { pause: PROBE_PAUSE_MIN, probe_at });
        });
        became_suspect
    }

    /// The suspect endpoints whose probe is due; their next one is moved on.
    pub(crate) fn due(&self, now: Instant) -> Vec<Arc<str>> {
        let mut due = Vec::new();
        for endpoint in self.lock().iter_mut() {
            if let Some(suspicion) = &mut endpoint.suspect
                && suspicion.probe_at <= now
            {
                suspicion.pause = (suspicion.pause * 2).min(PROBE_PAUSE_MAX);
                suspicion.probe_at = now + suspicion.pause;
                due.push(Arc::clone(&endpoint.base));
            }
        }
        due
    }

    /// When the next probe is due; `None` while all are trusted.
    pub(crate) fn next_probe(&self) -> Option<Instant> {
        self.lock().iter().filter_map(|endpoint| endpoint.suspect.map(|s| s.probe_at)).min()
    }

    /// Makes `bases` the set; what is known of those that stay is kept.
    pub(crate) fn replace(&self, bases: impl IntoIterator<Item = Arc<str>>) {
        let mut list = self.lock();
        let mut former = std::mem::take(&mut *list);
        for base in bases {
            let endpoint = match former.iter().position(|endpoint| endpoint.base == base) {
                Some(index) => former.swap_remove(index),
                None => Endpoint::new(base),
            };
            list.push(endpoint);
        }
    }

    fn with(&self, base: &str, act: impl FnOnce(&mut Endpoint)) {
        if let Some(endpoint) = self.lock().iter_mut().find(|endpoint| &*endpoint.base == base) {
            act(endpoint);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Endpoint>> {
        // Nothing under the lock can panic half way, so a poisoned list is still a good one.
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request on its way.
#[derive(Debug)]
pub(crate) struct InFlight {
    endpoints: Arc<Endpoints>,
    base: Arc<str>,
    sent_at: Instant,
}

impl InFlight {
    /// Notes its answer, and with it that the endpoint is trusted.
    pub(crate) fn answered(&self) {
        let took = self.sent_at.elapsed();
        self.endpoints.with(&self.base, |endpoint| {
            endpoint.suspect = None;
            endpoint.answered_at = Instant::now();
            endpoint.latency = match endpoint.latency {
                Duration::ZERO => took,
                known => (known * (LATENCY_MEMORY - 1) + took) / LATENCY_MEMORY,
            };
        });
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.endpoints.with(&self.base, |endpoint| {
            endpoint.in_flight = endpoint.in_flight.saturating_sub(1);
        });
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn set(names: &[&str]) -> (Endpoints, Vec<Arc<str>>) {
        let bases: Vec<Arc<str>> = names.iter().map(|name| Arc::from(*name)).collect();
        (Endpoints::new(bases.clone()), bases)
    }

    fn picks(endpoints: &Endpoints, tried: &[Arc<str>]) -> BTreeSet<String> {
        let dice = Dice::seeded();
        (0..200).filter_map(|_| endpoints.pick(tried, &dice)).map(|b| b.to_string()).collect()
    }

    #[test]
    fn suspects_are_avoided_but_better_than_nothing() {
        let (endpoints, bases) = set(&["a", "b", "c"]);
        let now = Instant::now();
        assert_eq!(picks(&endpoints, &[]).len(), 3);
        assert!(endpoints.failed(&bases[0], now));
        assert!(!endpoints.failed(&bases[0], now), "already suspect");
        assert_eq!(picks(&endpoints, &[]), BTreeSet::from(["b".into(), "c".into()]));
        assert_eq!(picks(&endpoints, &bases[1..]), BTreeSet::from(["a".into()]));
        assert_eq!(picks(&endpoints, &bases), BTreeSet::new());
        endpoints.answered("a");
        assert!(endpoints.load("a").reachable);
        assert_eq!(picks(&endpoints, &[]).len(), 3);
    }

    #[test]
    fn probes_back_off_to_a_ceiling_and_stop_with_the_first_answer() {
        let (endpoints, bases) = set(&["a"]);
        let mut now = Instant::now();
        assert_eq!(endpoints.next_probe(), None);
        endpoints.failed(&bases[0], now);
        let mut pauses = Vec::new();
        for _ in 0..8 {
            let at = endpoints.next_probe().unwrap();
            pauses.push(at - now);
            assert_eq!(endpoints.due(now), Vec::<Arc<str>>::new());
            now = at;
            assert_eq!(endpoints.due(now), bases);
        }
        assert_eq!(pauses[0], PROBE_PAUSE_MIN);
        assert!(pauses.windows(2).all(|pair| pair[0] <= pair[1]));
        assert_eq!(pauses[7], PROBE_PAUSE_MAX);
        endpoints.answered("a");
        assert_eq!(endpoints.next_probe(), None);
    }

    #[test]
    fn requests_are_counted_while_they_are_in_flight() {
        let endpoints = Arc::new(set(&["a", "b"]).0);
        let base: Arc<str> = "a".into();
        let first = endpoints.send(&base);
        let second = endpoints.send(&base);
        assert_eq!(endpoints.load("a").in_flight, 2);
        first.answered();
        drop(first);
        drop(second);
        assert_eq!(endpoints.load("a").in_flight, 0);
        assert_eq!(endpoints.load("b").in_flight, 0);
    }

    #[test]
    fn a_new_set_keeps_what_is_known_of_those_that_stay() {
        let (endpoints, bases) = set(&["a", "b"]);
        endpoints.failed("a", Instant::now());
        endpoints.replace([Arc::clone(&bases[0]), "c".into()]);
        assert!(!endpoints.load("a").reachable);
        assert_eq!(picks(&endpoints, &[]), BTreeSet::from(["c".into()]));
        assert!(!endpoints.failed("b", Instant::now()), "no longer in the set");
    }
}
