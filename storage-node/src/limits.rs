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

/// Longest time for which the writer lets a batch grow before it syncs, while jobs come several at
/// a time. A fraction of what a loaded sync takes; it saves the processor, and under load also
/// time, as fewer syncs stand in line.
pub const COMMIT_GATHER_TIME: Duration = Duration::from_micros(1_500);

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

/// Signs of damage that a check of the file did not confirm, before the file is replaced all the
/// same. A single one may be a passing fault of memory.
pub const DAMAGES_MAX: u32 = 3;

/// Time without a sign of damage after which earlier ones no longer count.
pub const DAMAGE_CALM: Duration = Duration::from_secs(3_600);

/// Openings in a row at which the disk does not give the bytes of a file before it is replaced.
pub const UNREADABLE_OPENS_MAX: u32 = 5;

/// Pause between these openings at the start of the process.
pub const UNREADABLE_PAUSE: Duration = Duration::from_millis(200);

/// Records unreadable at one time before the file is opened anew and, where that does not help,
/// replaced. A few are mended one by one from other replicas; so many say that the disk or the file
/// is rotten, and copying everything anew is safer than finding the rest one by one.
pub const UNREADABLE_RECORDS_MAX: usize = 1_000;

/// Files set aside that are kept per file; the oldest goes first. They are evidence for an operator
/// and of no use to the node, so all of them go when the disk is full.
pub const SET_ASIDE_MAX: usize = 2;

/// Bytes set apart for deletes on a full disk: some thousand deletes, each of which rewrites a few
/// pages. On a small file system a sixteenth of it.
pub const SPACE_RESERVE_BYTES: u64 = 8 * 1024 * 1024;

/// Free bytes below which no values are taken any more, so that the disk is never quite full: two
/// largest commits. On a small file system a twentieth of it.
pub const SPACE_LOW_BYTES: u64 = 64 * 1024 * 1024;

/// Free bytes below which the reserve is given back. On a small file system a 64th of it.
pub const SPACE_COMMIT_BYTES: u64 = 1024 * 1024;

/// Pause between two looks at the free space, so that a node is back within seconds.
pub const SPACE_CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Time for which a store may be neither readable nor writable before the node says that it is not
/// ready: most reopenings take milliseconds, and probes should not see them.
pub const STORE_READY_GRACE: Duration = Duration::from_secs(2);

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

/// Operations that have to wait for one peer before a second request goes while the first is on
/// its way. Fewer travel together in the next one: requests cost more than the operations in them,
/// and the peer's sync is the same for all.
pub const PEER_GATHER_OPS: usize = 32;

/// Bytes of records that have to wait for the same; large values are not worth gathering.
pub const PEER_GATHER_BYTES: usize = 256 * 1024;

/// Bytes of records in one request to a peer, well below `PEER_MESSAGE_BYTES_MAX`; a single larger
/// operation travels alone.
pub const PEER_BATCH_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Bytes of records in one answer to a replica message, well below `PEER_MESSAGE_BYTES_MAX`; a
/// single larger record travels alone. Beyond it a read is refused, and its asker asks again for it
/// by itself.
pub const REPLICA_ANSWER_BYTES_MAX: usize = 8 * 1024 * 1024;

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

/// Changes in the log of the tree at which it is folded into the blocks. A fold writes every block
/// that changed, at most a megabyte per class; with it the log costs every write some 250 bytes,
/// and opening reads a few thousand small rows.
pub const TREE_LOG_ENTRIES_MAX: usize = 4_096;

/// Changes in one row of the log; a batch that has more writes several rows.
pub const TREE_ROW_ENTRIES_MAX: usize = 16_384;

/// Bytes of records after which one step of the scrub ends, with the leaf that it is in: a step is
/// one read transaction, and what is overwritten meanwhile stays on disk for it.
pub const SCRUB_STEP_BYTES: u64 = 8 * 1024 * 1024;

/// Leaves of one step of the scrub in its own time.
pub const SCRUB_STEP_LEAVES: u16 = 16;

/// Leaves of one step while the tree is being built: then the scrub is in a hurry.
pub const BUILD_STEP_LEAVES: u16 = 256;

/// Requests of background workers at once, those that wait for a slice included; more are shed with
/// `overloaded`.
pub const BACKGROUND_REQUESTS_MAX: usize = 512;

/// Longest wait for a slice of background work; then 503 `overloaded`, so that a worker can turn to
/// another node.
pub const SLICE_WAIT_MAX: Duration = Duration::from_secs(5);

/// Seconds after which refused background work may be tried again.
pub const SLICE_RETRY_AFTER_S: u32 = 2;

/// Pause after a step of the scrub that failed, and while there is nothing to scrub.
pub const SCRUB_RETRY: Duration = Duration::from_secs(2);

/// Default seconds of a full pass of the scrub: a week, in which a terabyte is read at less than
/// two megabytes per second.
pub const SCRUB_INTERVAL_S_DEFAULT: u64 = 7 * 24 * 60 * 60;

/// Longest wait of a delivery of hints for a slice; then its target backs off.
pub const HINT_SLICE_WAIT: Duration = Duration::from_secs(30);

/// Time between two estimates of the freshness of reads: as often as metrics are usually scraped,
/// and a few milliseconds of computing each.
pub const FRESHNESS_INTERVAL: Duration = Duration::from_secs(10);
