//! The bounds of the shell, each with its reason and what happens when it is hit. Bounds of the
//! protocol are in `dynamo_core::limits`; tunable ones here are defaults of a settings struct.

use std::time::Duration;

/// Connections of one listener. Beyond it a connection is answered 503 and closed at once: each
/// one costs a socket and two buffers.
pub const CONNECTIONS_MAX: usize = 4096;

/// Connections of one client address on a listener, so that one client cannot take all of them.
/// Loopback is exempt: there one address stands for every process of the host.
pub const CONNECTIONS_PER_IP_MAX: usize = 256;

/// Time in which a request head must arrive; beyond it the connection is closed without an answer
/// (slow senders would otherwise hold connections for free).
pub const HEADER_READ_TIMEOUT: Duration = Duration::from_secs(5);

/// Time an idle keep-alive connection, or one whose peer does not take our answer, is kept.
pub const KEEP_ALIVE_IDLE: Duration = Duration::from_secs(60);

/// Bytes of a request head; larger: 431 (414 where the request line alone is larger) and close.
pub const HEAD_BYTES_MAX: usize = 16 * 1024;

/// The same for peers, who are trusted with more: it is also the largest single read, and frames
/// between peers are megabytes.
pub const PEER_HEAD_BYTES_MAX: usize = 64 * 1024;

/// Header lines of a request; more: 431 and close.
pub const HEADERS_MAX: usize = 64;

/// Time for a TLS handshake: two round trips and a signature; beyond it the connection is closed.
pub const TLS_HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// TLS handshakes of one listener at once, a quarter of its connections: each holds buffers and ends
/// in a signature. Beyond it a connection is closed at once.
pub const TLS_HANDSHAKES_MAX: usize = 1024;

/// Shortest time between two log lines about failed handshakes of one listener; those in between
/// are counted, so that a port scan does not fill a disk.
pub const TLS_FAILURES_LOG_INTERVAL: Duration = Duration::from_secs(10);

/// Bytes of a file of certificates or of a private key; larger ones are a mistake in the path.
pub const TLS_FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Requests on one client connection before it is closed, so that clients spread anew.
pub const CLIENT_REQUESTS_PER_CONNECTION_MAX: u64 = 100_000;

/// Requests on one peer connection before it is closed: only a bound on counters, peers are few.
pub const PEER_REQUESTS_PER_CONNECTION_MAX: u64 = 100_000;

/// Life of a client connection, shortened at random by up to a fifth: after a change of the
/// deployment clients find the new routers without being told.
pub const CLIENT_CONNECTION_LIFETIME: Duration = Duration::from_secs(600);

/// Connections waiting in the kernel to be accepted.
pub const LISTEN_BACKLOG: i32 = 1024;

/// Pause after a failed accept (usually: no file descriptor left), so that the loop does not spin.
pub const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// Bytes of request bodies in memory at once; a request that does not fit is 503 `overloaded`.
pub const BODY_BUDGET_BYTES: usize = 256 * 1024 * 1024;

/// Bytes that one chunk of a body may announce, the largest body of any route; more: 400 and close.
pub const CHUNK_BYTES_MAX: u64 = dynamo_core::limits::PEER_MESSAGE_BYTES_MAX as u64;

/// Bytes of a body on a method that has no use for one (GET, HEAD, DELETE): read and dropped up
/// to here so that the connection stays usable; more: 413 and close.
pub const IGNORED_BODY_BYTES_MAX: usize = 64 * 1024;

/// Time after which a body must arrive at [`BODY_MIN_BYTES_PER_S`]; slower: 408 and close.
pub const BODY_RATE_GRACE: Duration = Duration::from_secs(5);

/// Slowest accepted body after [`BODY_RATE_GRACE`].
pub const BODY_MIN_BYTES_PER_S: u64 = 1024;

/// Total time for a body, the longest deadline a request may have; beyond it: 408 and close.
pub const BODY_TIMEOUT: Duration = Duration::from_secs(60);

/// Longest accepted `X-Request-Id`; a longer or unsafe one is replaced by a minted one.
pub const REQUEST_ID_BYTES_MAX: usize = 64;

/// Bytes of the `detail` of an error answer, so that the whole stays under
/// `dynamo_core::limits::ERROR_BYTES_MAX`.
pub const ERROR_DETAIL_BYTES_MAX: usize = 400;

/// Nesting of a JSON body; deeper: 400 `bad_json`. Our own messages are at most a dozen deep.
pub const JSON_DEPTH_MAX: usize = 64;

/// Time for a new connection to a peer. Within one data centre a handshake takes a millisecond;
/// a dead host must not eat the deadline of a request.
pub const PEER_CONNECT_TIMEOUT: Duration = Duration::from_millis(500);

/// Idle connections kept per peer.
pub const PEER_IDLE_PER_PEER_MAX: usize = 32;

/// Connections per peer, busy ones included. A call beyond it waits within its deadline.
pub const PEER_CONNECTIONS_PER_PEER_MAX: usize = 256;

/// Time an idle connection is kept; half of what the server side allows, so that we close first.
pub const PEER_IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// Age at which a pooled connection is replaced, so that a changed DNS answer is followed.
pub const PEER_CONNECTION_AGE_MAX: Duration = Duration::from_secs(300);

/// Addresses with a pool; beyond it pools without connections are dropped, the rest is kept (a
/// ring has at most `dynamo_core::limits::MEMBERS_MAX` members, each with three listeners).
pub const PEER_ADDRESSES_MAX: usize = 4096;

/// Senders whose incarnation a gate remembers; beyond it the map is emptied, which costs at most
/// one unfenced message per stale sender.
pub const GATE_SENDERS_MAX: usize = 8192;

/// Default time a stopping process waits for requests in flight.
pub const DRAIN_TIMEOUT_MS: u64 = 10_000;

/// Pause between two failed polls of a watched snapshot.
pub const WATCH_RETRY: Duration = Duration::from_millis(500);

/// Bytes of a secret file; larger ones are a mistake in the path.
pub const SECRET_FILE_BYTES_MAX: u64 = 64 * 1024;

/// Time for one batch of spans to reach the collector; later it is dropped.
pub const TELEMETRY_SEND_TIMEOUT: Duration = Duration::from_secs(10);

/// Time the trace exporter may take to send what is left when the process stops.
pub const TELEMETRY_FLUSH_TIMEOUT: Duration = Duration::from_secs(3);

/// Bytes of a log level that a process is told while it runs; longer: 400. A dozen parts with theirs.
pub const LOG_LEVEL_BYTES_MAX: usize = 512;

/// Bytes of the request that changes it: the level with every byte escaped, and the names of a node and
/// a process.
pub const LOG_LEVEL_BODY_BYTES_MAX: usize = 8 * 1024;

/// Bytes of one file of API keys; larger ones are a mistake in the path. About ten thousand keys.
pub const API_KEY_FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Files in a directory of API keys; more: the directory is refused.
pub const API_KEY_FILES_MAX: usize = 64;

/// API keys of a cluster; more: the file is refused. Each request looks one up in a map.
pub const API_KEYS_MAX: usize = 10_000;

/// Versions of one API key; more: the file is refused. A rotation needs two, and what is revoked
/// may stay listed for a while.
pub const API_KEY_VERSIONS_MAX: usize = 8;

/// Buckets patterns of one API key; more: the file is refused. Each request tries them in order.
pub const API_KEY_BUCKETS_MAX: usize = 64;

/// Bytes of the id of an API key.
pub const API_KEY_ID_BYTES_MAX: usize = 32;

/// Bytes of a pattern of bucket names: a bucket name, and some stars.
pub const BUCKET_PATTERN_BYTES_MAX: usize = 80;

/// Time between two looks at files that may be replaced while the process runs: keys that are
/// revoked must be refused within five seconds.
pub const RELOAD_INTERVAL: Duration = Duration::from_secs(2);

/// Sources whose failed authentications are counted; beyond it those that have long been quiet are
/// forgotten, and further sources are refused as if they had failed too often.
pub const FAILED_SOURCES_MAX: usize = 4096;

/// Failed authentications of one source at once; beyond it 429 until time has passed. Valid
/// credentials are never refused for it.
pub const FAILED_AUTH_BURST: u32 = 20;

/// Failed authentications that one source is granted per second in the long run.
pub const FAILED_AUTH_PER_S: u32 = 1;

/// Keys in a keyring of peers: the new one, the one in use, and one that some host still has.
pub const PEER_KEYS_MAX: usize = 3;

/// Bytes of a shared secret; shorter: the start is refused. 32 random bytes cannot be guessed.
pub const SHARED_SECRET_BYTES_MIN: usize = 32;

/// Distinct bytes in a shared secret; fewer: the start is refused. It is a placeholder.
pub const SHARED_SECRET_DISTINCT_BYTES_MIN: usize = 8;

/// How far the clocks of two hosts may differ; beyond it a signed message is refused with
/// `clock_skew`, so that it cannot be kept and sent later.
pub const PEER_SKEW_MAX: Duration = Duration::from_secs(60);

/// Streams of signed messages that a process tells apart: one per sending process and address of
/// ours. Beyond it, and with none that has been quiet for long, new ones are refused with 503.
pub const PEER_STREAMS_MAX: usize = 16_384;

/// How far messages of one stream may overtake each other. A stream has at most
/// [`PEER_CONNECTIONS_PER_PEER_MAX`] messages in flight; an older one was given up by its sender.
pub const PEER_REORDER_MAX: u64 = 4096;

/// Bytes of one field of an entry of the audit log; the rest is cut off.
pub const AUDIT_FIELD_BYTES_MAX: usize = 512;

/// Bytes of an entry of the audit log: all fields, each byte escaped to six at worst.
pub const AUDIT_LINE_BYTES_MAX: u64 = 16 * 1024;
