//! Every bound of the client, with its reason.

use std::time::Duration;

/// Time a call may take, retries included, unless the caller says otherwise: the server's own
/// default deadline.
pub const TIMEOUT_DEFAULT: Duration =
    Duration::from_millis(dynamo_core::limits::TIMEOUT_MS_DEFAULT);

/// Longest timeout of a call: the longest deadline that the server takes.
pub const TIMEOUT_MAX: Duration = Duration::from_millis(dynamo_core::limits::TIMEOUT_MS_MAX);

/// Time that a call waits beyond the deadline it has told the server, so that the server's own
/// answer ("deadline exceeded", with the outcome) arrives rather than our guess.
pub const ANSWER_GRACE: Duration = Duration::from_millis(100);

/// Time for a TCP connection. A host that is up answers in one round trip; one that drops packets
/// must not cost the whole deadline.
pub const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);

/// Attempts of one call, the first included. More only add load to a cluster in trouble.
pub const ATTEMPTS_MAX: usize = 3;

/// Share of the deadline after which a silent endpoint is given a second chance at another one;
/// the first answer counts. Frozen hosts are found this way: they accept connections and say
/// nothing. One half leaves a slow but living cluster alone.
pub const PATIENCE_DIVISOR: u32 = 2;

/// Longest patience with a silent endpoint, however long the deadline is.
pub const PATIENCE_MAX: Duration = Duration::from_secs(1);

/// Base of the backoff between attempts: full jitter over 10 ms times 2^k.
pub const BACKOFF_BASE: Duration = Duration::from_millis(10);

/// Longest backoff between two attempts.
pub const BACKOFF_MAX: Duration = Duration::from_secs(1);

/// Seconds that the retry budget looks back over.
pub const BUDGET_WINDOW_S: u64 = 10;

/// Retries that the budget allows, in percent of the calls of the window.
pub const BUDGET_PERCENT: u64 = 20;

/// Retries per second that the budget allows beside its percentage, so that a quiet client can
/// retry at all.
pub const BUDGET_FLOOR_PER_S: u64 = 10;

/// First pause before a suspect endpoint is probed; doubles up to [`PROBE_PAUSE_MAX`].
pub const PROBE_PAUSE_MIN: Duration = Duration::from_millis(200);

/// Longest pause between two probes of a suspect endpoint.
pub const PROBE_PAUSE_MAX: Duration = Duration::from_secs(5);

/// Time that a probe waits for any answer at all.
pub const PROBE_TIMEOUT: Duration = Duration::from_secs(1);

/// Endpoints of one client. More are a mistake: give it a load balancer or a direct mode.
pub const ENDPOINTS_MAX: usize = 256;

/// Bytes of one answer: the largest sibling set that a key may have (100 values of 1 MiB), in
/// base64, with room for its metadata. Larger answers are refused while they arrive.
pub const ANSWER_BYTES_MAX: usize = 160 * 1024 * 1024;

/// Connections kept open to one address while idle. Beyond it they are closed after use.
pub const IDLE_CONNECTIONS_MAX: usize = 1024;

/// Time after which an idle connection is closed: before the server's 60 s, so that a request
/// seldom meets a connection that the server is about to close.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(50);

/// Time between two looks at a random node's ring (paper section 6.4).
pub const RING_POLL: Duration = Duration::from_secs(10);

/// Shortest time between two looks at the ring, however stale it is found to be: a burst of
/// failures must not become a burst of ring downloads.
pub const RING_REFRESH_PAUSE: Duration = Duration::from_millis(100);

/// Reads and merges of one [`update`](crate::Bucket::update) until it gives up.
pub const UPDATE_ROUNDS_MAX: usize = 5;
