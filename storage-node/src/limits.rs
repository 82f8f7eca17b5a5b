//! The bounds of the storage node, each with its reason and what happens when it is hit. Bounds of
//! the protocol are in `dynamo_core::limits`; what is tunable is a default of the settings.

use std::time::Duration;

/// Jobs waiting for the writer of one file. Beyond it a write is refused with `overloaded`: the
/// queue is then some seconds of disk time long, more than any deadline.
pub const STORE_QUEUE_MAX: usize = 16 * 1024;

/// Bytes of records waiting for the writer of one file; the same rule.
pub const STORE_QUEUE_BYTES_MAX: usize = 128 * 1024 * 1024;

/// Jobs in one commit. The commit in flight makes the next batch, so this only bounds how long one
/// commit may take.
pub const COMMIT_JOBS_MAX: usize = 1024;

/// Bytes of records in one commit; the same reason.
pub const COMMIT_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Longest time for which a buffered write is in memory only (paper section 6.1).
pub const BUFFER_AGE_MAX: Duration = Duration::from_millis(50);

/// Buffered writes in memory only; the paper found a buffer of a thousand objects to be enough.
pub const BUFFER_JOBS_MAX: usize = 1_000;

/// Default bytes of the page cache of the main file. The operating system's own cache makes a
/// larger one hardly matter, and a small pod must not be killed for it.
pub const STORE_CACHE_BYTES_DEFAULT: usize = 64 * 1024 * 1024;

/// Bytes of the page cache of the hint file, which is written and read in order.
pub const HINT_CACHE_BYTES: usize = 8 * 1024 * 1024;

/// Bytes of a store file from which commits save the allocator's state, so that the file opens at
/// once after a crash. Below it the whole file is walked instead, which takes less than a second.
pub const QUICK_REPAIR_FILE_BYTES: u64 = 128 * 1024 * 1024;

/// First pause before a failed store is opened anew; doubles up to [`REOPEN_BACKOFF_MAX`].
pub const REOPEN_BACKOFF_MIN: Duration = Duration::from_millis(100);

/// Longest pause before a failed store is opened anew, so that a node is back within seconds after
/// the disk has space again.
pub const REOPEN_BACKOFF_MAX: Duration = Duration::from_secs(5);

/// Time without failure after which the next pause starts at [`REOPEN_BACKOFF_MIN`] again.
pub const REOPEN_CALM: Duration = Duration::from_secs(30);

/// Commits that met a damaged page before the file is given up: it is then set aside at the next
/// start, and the node refills from its peers. A single one may be a passing fault of memory.
pub const DAMAGED_COMMITS_MAX: u32 = 3;

/// Keys whose unreadable record is remembered, so that one bad record ends the epoch once and not
/// at every read. Beyond it every read of a further bad record ends the epoch.
pub const CORRUPT_KEYS_MAX: usize = 10_000;

/// Rows of one page of a scan, so that no read transaction lives long.
pub const SCAN_ROWS_MAX: usize = 1_024;

/// Bytes of one page of a scan.
pub const SCAN_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Pause between two looks at which targets are due for delivery.
pub const HINT_TICK: Duration = Duration::from_millis(250);

/// Time given to one delivery message; a target that is slower is tried again later.
pub const HINT_DELIVERY_TIMEOUT: Duration = Duration::from_secs(5);

/// Targets that are delivered to at once, so that handoff yields to requests.
pub const HINT_DELIVERIES_MAX: usize = 4;

/// Pause between two rounds in which hints that are too old are dropped.
pub const HINT_EXPIRY_INTERVAL: Duration = Duration::from_secs(600);

/// Sync points remembered; beyond it the oldest is forgotten.
pub const SYNC_POINTS_MAX: usize = 256;

/// Operations waiting to be sent to one peer. Beyond it an operation fails at once as not sent,
/// and a fallback takes its place.
pub const PEER_QUEUE_MAX: usize = 4_096;

/// Requests to one peer on their way at once. While they are, further operations gather.
pub const PEER_REQUESTS_MAX: usize = 2;

/// Bytes of records in one request to a peer, well below `PEER_MESSAGE_BYTES_MAX`; a single larger
/// operation travels alone.
pub const PEER_BATCH_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Time given to one out-of-band probe of a peer that is not trusted now.
pub const PROBE_TIMEOUT: Duration = Duration::from_millis(500);

/// Pause between two looks at which peers are due for a probe.
pub const PROBE_TICK: Duration = Duration::from_millis(50);

/// Default client requests that one node coordinates at once; more are shed with `overloaded`.
pub const COORDINATED_MAX_DEFAULT: usize = 4_096;

/// Default replica messages that one node works on at once; more are shed with `overloaded`. Fewer
/// are needed than client requests, since each carries many operations.
pub const REPLICA_MESSAGES_MAX_DEFAULT: usize = 1_024;

/// Hints, probes of operators and other administration at once.
pub const ADMIN_REQUESTS_MAX: usize = 64;

/// Repairs of stale replicas on their way at once, over all requests. Beyond it a repair is left
/// to the next read or to anti-entropy, and counted.
pub const READ_REPAIRS_MAX: usize = 1_024;

/// Time given to a replica write that nobody waits for any more (repair, late replicas).
pub const BACKGROUND_WRITE_TIMEOUT: Duration = Duration::from_secs(5);

/// Pause between two advertisements to the local membership agent where nothing changed.
pub const ADVERTISE_INTERVAL: Duration = Duration::from_secs(1);

/// Time given to one call to the local membership agent.
pub const AGENT_TIMEOUT: Duration = Duration::from_secs(2);

/// Pause before the local agent is asked again for this host's identity at the first start.
pub const AGENT_RETRY: Duration = Duration::from_millis(200);

/// Bytes of `node.json`; a larger file is not ours.
pub const NODE_FILE_BYTES_MAX: u64 = 64 * 1024;

/// Time for a hint by reference to become durable. An answer waits for it; where the hint store
/// does not manage, the write stands without the hint and is left to read repair.
pub const KEEP_HINT_TIME: Duration = Duration::from_millis(500);
