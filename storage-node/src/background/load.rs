//! How many operations this node had lately, read off its own counters once a second: what the
//! router compares to see how even the load is. What its peers took is looked at in the same turn.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dynamo_core::limits::LOAD_WINDOWS_S;
use dynamo_core::wire::load::LoadWindow;
use service_kit::shutdown::Shutdown;
use service_kit::window::Growth;

use crate::metrics::Metrics;
use crate::node::Node;

/// Pause between two looks at the counters.
const TICK: Duration = Duration::from_secs(1);

/// Operations of the last half hour, a number per second.
#[derive(Debug)]
pub struct RecentLoad {
    inner: Mutex<Counted>,
}

#[derive(Debug)]
struct Counted {
    coordinated: Growth,
    replica: Growth,
}

impl Default for RecentLoad {
    fn default() -> Self {
        let ticks = LOAD_WINDOWS_S.into_iter().max().map_or(0, ticks);
        let growth = || Growth::new(ticks);
        Self { inner: Mutex::new(Counted { coordinated: growth(), replica: growth() }) }
    }
}

impl RecentLoad {
    /// Takes the numbers of now.
    pub fn tick(&self, metrics: &Metrics) {
        let mut inner = self.lock();
        inner.coordinated.tick(metrics.coordinator.requests());
        inner.replica.tick(metrics.replica.for_requests());
    }

    /// What there was within each of the windows.
    #[must_use]
    pub fn windows(&self) -> Vec<LoadWindow> {
        let inner = self.lock();
        let window = |window_s| {
            let (coordinated, seconds) = inner.coordinated.over(ticks(window_s));
            let (replica, _) = inner.replica.over(ticks(window_s));
            LoadWindow { window_s, seconds: seconds as u64, coordinated, replica }
        };
        LOAD_WINDOWS_S.into_iter().map(window).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Counted> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn ticks(seconds: u64) -> usize {
    usize::try_from(seconds).unwrap_or(usize::MAX)
}

/// Counts until the stop.
pub async fn run(node: Arc<Node>, shutdown: Shutdown) {
    loop {
        node.load.tick(&node.metrics);
        let view = node.view.load();
        node.health.times.tick(|peer| Some(view.as_deref()?.node(peer)?.name.clone()));
        let weight = view.as_deref().and_then(|view| {
            view.members().find(|member| member.id == node.me).map(|member| member.weight)
        });
        drop(view);
        node.metrics.load.show(&node.load.windows(), weight);
        if shutdown.unless_requested(tokio::time::sleep(TICK)).await.is_none() {
            return;
        }
    }
}
