//! A real cluster: the `atoll` binary starts its child processes in a temporary directory on free
//! loopback ports. Nothing is simulated, and nothing outlives the value that owns it.
//!
//! Not here: what a scenario means. Scenarios are in `tests/it`.

mod cluster;
mod http;
mod ports;

pub use cluster::{Cluster, Service};
pub use http::{Answer, Http, send};

use std::time::{Duration, Instant};

/// Waits until `probe` holds, asking every 50 ms.
///
/// # Panics
/// After `limit`, naming `what` was awaited. The limit is a bound against hanging, generous enough
/// to never be a measurement.
pub fn eventually(what: &str, limit: Duration, mut probe: impl FnMut() -> bool) {
    let start = Instant::now();
    while !probe() {
        assert!(start.elapsed() < limit, "not within {limit:?}: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}
