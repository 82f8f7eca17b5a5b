//! The bounds of the front door, each with its reason and what happens when it is hit. Bounds of
//! the protocol are in `dynamo_core::limits`, those of every server in `service_kit::limits`.

use std::time::Duration;

/// Coordinators that one client request is sent to at most. More would turn one slow request into
/// a storm; nodes that could not be reached at all do not count.
pub const ATTEMPTS_MAX: usize = 3;

/// Nodes that are tried for one client request, unreachable ones included.
pub const CANDIDATES_MAX: usize = dynamo_core::limits::LIST_PREFIX_MAX;

/// Client requests in flight by default; beyond it 503 `overloaded`. Each one holds a connection,
/// its body and one call to a coordinator.
pub const REQUESTS_IN_FLIGHT_MAX: usize = 4096;

/// Administrative requests in flight by default: a pool of their own, so that a flood of client
/// requests cannot lock operators out.
pub const ADMIN_REQUESTS_IN_FLIGHT_MAX: usize = 256;

/// Long polls in flight by default; each one is a parked task and a connection.
pub const LONG_POLLS_MAX: usize = 2048;

/// Query parameters of one request; more: 400. No route knows as many.
pub const QUERY_PARAMETERS_MAX: usize = 16;

/// Entity tags in one `If-Match` or `If-None-Match`; more: 400. A client knows one, or a few.
pub const ETAGS_MAX: usize = 32;

/// Bytes of one entity tag without its quotes; longer: 400. Ours are far shorter.
pub const ETAG_BYTES_MAX: usize = 64;

/// Bytes of an `Idempotency-Key`; longer: 400.
pub const IDEMPOTENCY_KEY_BYTES_MAX: usize = 255;

/// Media ranges in `Accept`; more: 400. Browsers send about ten.
pub const ACCEPT_RANGES_MAX: usize = 32;

/// Longest time to live in seconds: a hundred years. More: 400.
pub const TTL_S_MAX: u64 = 100 * 365 * 24 * 3600;

/// Time that a request waits for a newer ring after a coordinator said that ours is old.
pub const RING_REFRESH_WAIT: Duration = Duration::from_millis(50);

/// Calls of one fan-out to the storage nodes that run at once.
pub const FAN_OUT_PARALLEL_MAX: usize = 32;

/// Time for one node to answer within a fan-out. Health is asked for when things are bad: a node
/// that does not answer by then counts as unreachable.
pub const FAN_OUT_TIMEOUT: Duration = Duration::from_millis(500);

/// Time for one worker to answer within a fan-out. On a busy host background processes wait for the
/// processor; it stays well below the default deadline of clients, who wait for the slowest.
pub const WORKER_TIMEOUT: Duration = Duration::from_secs(1);

/// Time for one node's part of a bulk request: reading a page, merging one, listing keys. Most of it
/// may be spent waiting for a slice of background work.
pub const BULK_TIMEOUT: Duration = Duration::from_secs(20);

/// Bytes of the body of a merge: what processes send each other. More: 413.
pub const MERGE_BODY_BYTES_MAX: usize = dynamo_core::limits::PEER_MESSAGE_BYTES_MAX;

/// Seconds that `/v1/stats` looks back: enough requests for a percentile, and still now.
pub const STATS_WINDOW_S: usize = 10;

/// Time for a call to the local membership agent.
pub const AGENT_TIMEOUT: Duration = Duration::from_secs(5);

/// Pause between two looks at which suspect nodes are due for a probe.
pub const PROBE_TICK: Duration = Duration::from_millis(50);

/// Time for a probe: what it takes for silence to be evidence. A node that cannot answer a ping by
/// then would cost a request more.
pub const PROBE_TIMEOUT: Duration =
    Duration::from_millis(dynamo_core::limits::PEER_TIMEOUT_EVIDENCE_MS);

/// Probes that run at once.
pub const PROBES_MAX: usize = 32;

/// Hedges that may be sent at once when nothing was hedged for long. Enough that all requests of
/// a busy router survive the moment in which two of five hosts freeze.
pub const HEDGE_BURST: u32 = 1024;

/// A hedge is earned by this many requests: in the long run at most a fifth of all requests is
/// sent twice.
pub const REQUESTS_PER_HEDGE: u32 = 5;

/// Hedges earned per second without any traffic, so that a quiet router can hedge too.
pub const HEDGES_PER_S_MIN: u32 = 10;

/// Bytes of the JSON body of an administrative request; more: 413.
pub const ADMIN_BODY_BYTES_MAX: usize = 64 * 1024;

/// Siblings in one multipart or JSON answer are bounded by the store's cap; this is the room that
/// the head of each part takes in the buffer that is reserved for the answer.
pub const PART_HEAD_BYTES: usize = 256;
