//! The shell every Atoll service shares: HTTP server, peer client, configuration, telemetry,
//! readiness.
//!
//! Nothing here knows what is replicated, versioned or owned: a decision of the protocol belongs
//! in `dynamo-core`, a route in the service that serves it.
//!
//! | module | what it gives |
//! |---|---|
//! | [`time`], [`rng`] | the only clock and the only entropy of a process |
//! | [`config`] | defaults < file < environment < flags, refused with one clear line |
//! | [`telemetry`], [`metrics`] | logs, traces and an injected Prometheus registry |
//! | [`window`] | what those metrics saw lately |
//! | [`http`] | accept loop with limits, strict requests, bodies, the one error table |
//! | [`auth`] | API keys of clients, and files that are read again when they change |
//! | [`audit`] | who changed what, as a chain of lines |
//! | [`peer`] | calls between processes: identity, pool, deadlines, what is known of the outcome |
//! | [`tls`] | certificates that are replaced while the process runs, handshakes with limits |
//! | [`ring_watch`] | the newest snapshot of something that is long-polled, cached on disk |
//! | [`readiness`], [`shutdown`] | the life of a process |
//! | [`datadir`], [`launch`] | private files, and the `main` that all services share |

pub mod audit;
pub mod auth;
pub mod config;
pub mod datadir;
pub mod http;
pub mod launch;
pub mod limits;
pub mod metrics;
pub mod peer;
pub mod readiness;
pub mod ring_watch;
pub mod rng;
pub mod shutdown;
pub mod telemetry;
pub mod time;
pub mod tls;
pub mod window;
