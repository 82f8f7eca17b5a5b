//! Every bound of the system, with its reason and what happens when it is hit. A bound that is
//! tunable has its default here and its setting in the service's configuration.

/// Bytes of a bucket name. Names are typed by people and appear in every log line; longer: 400.
pub const BUCKET_BYTES_MAX: usize = 64;

/// Bytes of a key after percent-decoding. Keys are B-tree keys and travel with every replica
/// message; longer: 400 `key_too_long`.
pub const KEY_BYTES_MAX: usize = 1024;

/// Default bytes of one value (the paper's objects are below 1 MB). Larger: 413 before the body is
/// read where the length is announced, at the limit where it is not.
pub const VALUE_BYTES_MAX: usize = 1024 * 1024;

/// Bytes of a stored `Content-Type`; longer: 400.
pub const CONTENT_TYPE_BYTES_MAX: usize = 255;

/// Bytes of all user metadata of one object together, names and values; more: 431.
pub const META_BYTES_MAX: usize = 4 * 1024;

/// Entries of user metadata of one object; more: 431.
pub const META_ENTRIES_MAX: usize = 32;

/// Siblings of one key from which on a warning is logged and counted.
pub const SIBLINGS_WARN: usize = 25;

/// Siblings of one key. A put that would leave more is refused with 409 `too_many_siblings` and
/// the context that resolves them: without a cap, blind writers grow one record without bound.
pub const SIBLINGS_MAX: usize = 100;

/// Bytes of an encoded causal context token. Larger ones are 400 `bad_context`.
pub const CONTEXT_BYTES_MAX: usize = 4 * 1024;

/// Tokens that one context header may join (a client-driven read holds one per replica).
pub const CONTEXT_TOKENS_MAX: usize = 8;

/// Actors in one clock before the oldest removable ones are dropped (paper section 4.4).
pub const CLOCK_ACTORS_THRESHOLD: usize = 10;

/// Actors and runs of loose dots accepted in one clock of a message. A clock beyond it is hostile:
/// truncation keeps real ones near [`CLOCK_ACTORS_THRESHOLD`]. What a node has stored itself is
/// read back at any size.
pub const CLOCK_ENTRIES_MAX: usize = 4096;

/// Age in milliseconds below which a clock entry is never truncated: older than any request or
/// hint retry still on its way.
pub const CLOCK_TRUNCATE_AGE_MS: u64 = 24 * 60 * 60 * 1000;

/// Copies of one object (N). Above seven a write costs more than it protects.
pub const REPLICAS_MAX: u8 = 7;

/// Default N (paper section 6).
pub const REPLICAS_DEFAULT: u8 = 3;

/// Deviation from its fair share of the load, in thousandths, from which on a node is out of balance
/// (paper section 6.2).
pub const LOAD_OUT_OF_BALANCE_MILLI: i64 = 150;

/// Operations that a node must be due in a window before its load is judged. Random counts deviate
/// by one over their root: of four hundred a twentieth, a third of what is looked for.
pub const LOAD_JUDGED_MIN: u64 = 400;

/// Partitions that are named as behind in one answer and in the metrics of one worker, the worst
/// first: enough to see what they have in common. Their number is told besides.
pub const PARTITIONS_BEHIND_SHOWN_MAX: usize = 20;

/// Windows in seconds over which nodes count their operations: what happens now, and the window of
/// the paper's measurement (section 6.2).
pub const LOAD_WINDOWS_S: [u64; 2] = [60, 30 * 60];

/// Partitions of a production ring by default: hundreds of nodes with several partitions each.
pub const PARTITIONS_DEFAULT: u32 = 1024;

/// Partitions of a ring. More would make the ring snapshot the largest message of the system.
pub const PARTITIONS_MAX: u32 = 65_536;

/// Members of one ring: the stated scale is hundreds; simulated to 1,000.
pub const MEMBERS_MAX: usize = 1024;

/// Nodes of every preference list that a ring precomputes: the largest N and as many fallbacks as
/// a request normally needs. A request that needs more walks the ring.
pub const LIST_PREFIX_MAX: usize = 12;

/// Default request deadline in milliseconds.
pub const TIMEOUT_MS_DEFAULT: u64 = 2_000;

/// Longest request deadline in milliseconds a client may ask for; more: 400.
pub const TIMEOUT_MS_MAX: u64 = 60_000;

/// Milliseconds each hop keeps back of the remaining deadline for its own answer.
pub const DEADLINE_HOP_MS: u64 = 5;

/// Milliseconds of wall-clock lead over our own that a hybrid timestamp of a peer may have;
/// beyond it the message is refused with `clock_skew` and our clock does not move.
pub const CLOCK_SKEW_MS_MAX: u64 = 60_000;

/// Time in seconds for which a replica remembers the dot of a put id after the sibling is gone. A
/// later attempt of a superseded put makes a new version.
pub const PUT_ID_MEMORY_S: u64 = 600;

/// Put ids remembered by one replica, some 160 bytes each; beyond it the oldest are forgotten first.
pub const PUT_ID_MEMORY_MAX: usize = 200_000;

/// Superseded puts of one object that are told along with a hint. Beyond it a late version of one
/// that was not told may show as a sibling.
pub const TOLD_PUTS_MAX: usize = 32;

/// Time in milliseconds that the coordinator of a put waits for what the other replicas remember
/// of it, where another attempt may have been applied. What comes later is not looked at: the put
/// may then make a second version of the same value.
pub const CATCH_UP_MS: u64 = 250;

/// Milliseconds on the way after which an attempt of a put counts as one that may have been
/// repeated elsewhere. More than clocks differ and than a loaded node lets requests wait, as each
/// such put asks all replicas first; attempts that are repeated earlier find the first one there.
pub const LATE_PUT_MS: u64 = 500;

/// Bytes of one message between processes. Larger ones are refused before they are read.
pub const PEER_MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Bytes of the JSON header of a frame.
pub const FRAME_HEADER_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Replica operations in one coalesced request to a peer.
pub const REPLICA_BATCH_MAX: usize = 128;

/// Bytes of events and states in one gossip delta: one round stays a small message; what does not
/// fit goes with the next round.
pub const GOSSIP_DELTA_BYTES_MAX: usize = 256 * 1024;

/// Bytes of the hint file's records per node; beyond it new hints are dropped, counted, and left
/// to anti-entropy (a write never fails because of it).
pub const HINT_BYTES_MAX: u64 = 1024 * 1024 * 1024;

/// Hints held by one node; the same rule as [`HINT_BYTES_MAX`].
pub const HINTS_MAX: u64 = 1_000_000;

/// Bytes of an error answer.
pub const ERROR_BYTES_MAX: usize = 1024;

/// Escaped bytes of a caller's input that an error answer or a log line repeats.
pub const ECHO_BYTES_MAX: usize = 64;

/// Bytes of a node's name (a pod name fits); longer: refused.
pub const NODE_NAME_BYTES_MAX: usize = 64;

/// Bytes of a zone's name; longer: refused.
pub const ZONE_BYTES_MAX: usize = 64;

/// Bytes of a `host:port`: the longest DNS name, a colon and a port; longer: refused.
pub const ADDRESS_BYTES_MAX: usize = 253 + 6;

/// Weight of a member where nobody says otherwise.
pub const WEIGHT_DEFAULT: u32 = 100;

/// Largest weight of a member: a hundred times the default leaves room for any mix of machines.
pub const WEIGHT_MAX: u32 = 10_000;

/// Nodes that are known without being members: candidates and former members with something to
/// say. Beyond it new ones are ignored until others fall silent.
pub const CANDIDATES_MAX: usize = 1024;

/// Membership changes (commits) in the life of a cluster. The history is kept whole and gossiped
/// by digest; at the bound a commit is refused. One commit may carry any number of changes.
pub const HISTORY_EVENTS_MAX: usize = 16_384;

/// Changes in one membership event, and staged at once: a founding with every member at its bound.
pub const CHANGES_MAX: usize = MEMBERS_MAX + 1;

/// Nodes that ever joined one cluster; a join beyond it has no effect. Ids of former members are
/// remembered for good, so that none comes back.
pub const NODES_EVER_MAX: usize = 16_384;

/// Nodes in one view: members, former members and candidates.
pub const NODES_KNOWN_MAX: usize = NODES_EVER_MAX + CANDIDATES_MAX;

/// Buckets with properties of their own, deleted ones included: each is gossiped to every node.
/// Beyond it a new bucket's properties are refused; buckets without own properties are unlimited.
pub const BUCKETS_MAX: usize = 1024;

/// Time between two gossip rounds of a node (paper section 4.8.1: every second).
pub const GOSSIP_INTERVAL_MS: u64 = 1_000;

/// One in this many gossip rounds goes to a seed, so that separated groups meet (paper section
/// 4.8.2) and seeds are no hot spots.
pub const GOSSIP_SEED_ONE_IN: u64 = 10;

/// Time within which a gossip request must be answered: one round never overlaps many others.
pub const GOSSIP_TIMEOUT_MS: u64 = 2_000;

/// Gossip rounds of one node under way; at the bound the next round waits for the next second.
pub const GOSSIP_ROUNDS_MAX: usize = 8;

/// Gossip requests per second above which an alarm is raised. A node is asked twice a second on
/// average; a single seed of 1,000 nodes 200 times.
pub const GOSSIP_RATE_ALARM_PER_S: u64 = 300;

/// Gossip requests per second above which they are refused with `overloaded`: gossip must never
/// take the machine (hazard C14).
pub const GOSSIP_RATE_MAX_PER_S: u64 = 1_000;

/// Time after which a node that is no member says again that it is there.
pub const CANDIDATE_REFRESH_MS: u64 = 60_000;

/// Time of silence after which a node that is no member is forgotten, as judged by each node.
pub const CANDIDATE_SILENCE_MS: u64 = 10 * 60_000;

/// Longest wait of a ring poll; more: 400.
pub const RING_WAIT_MS_MAX: u64 = 60_000;

/// Milliseconds a get waits on after its answer for late replies, in order to repair stale
/// replicas (paper section 5). Longer would keep the state of answered requests in memory.
pub const READ_REPAIR_WAIT_MS: u64 = 500;

/// Shortest time in milliseconds that a replica is given before the next fallback is asked as
/// well: below it, ordinary jitter would double the traffic.
pub const PATIENCE_MS_MIN: u64 = 30;

/// Longest time in milliseconds that a replica is given before the next fallback is asked as well.
pub const PATIENCE_MS_MAX: u64 = 100;

/// Failures in a row after which a peer counts as down.
pub const PEER_FAILURES_MAX: u32 = 3;

/// Slow or missing answers in a row after which a peer counts as slow, and prompt ones in a row
/// after which it no longer does.
pub const PEER_SLOW_STRIKES: u32 = 5;

/// How many times slower than the median of the other peers an answer must be to count as slow.
/// Slowness is relative: when everyone is slow, nobody is routed around.
pub const PEER_SLOW_FACTOR: u32 = 4;

/// Seconds over which a node measures its peers for operators: long enough for a hundred messages in
/// a cluster with little to do, short enough that a host which is well again looks so soon.
pub const PEER_SIGHT_WINDOW_S: u64 = 30;

/// Messages to a peer within [`PEER_SIGHT_WINDOW_S`] below which nobody judges it by its p99: of
/// fewer, the slowest one would be that.
pub const PEER_SIGHT_MESSAGES_MIN: u64 = 100;

/// Milliseconds after the last slow answer of a peer after which its slowness is forgotten.
pub const PEER_SLOW_FORGET_MS: u64 = 10_000;

/// Milliseconds of waiting in vain from which on a timeout is evidence against a peer. A client
/// that sets a deadline of one millisecond must not make its peers look dead.
pub const PEER_TIMEOUT_EVIDENCE_MS: u64 = 500;

/// Milliseconds until the first probe of a peer that counts as down; doubled after each failure.
pub const PROBE_BACKOFF_MS_MIN: u64 = 250;

/// Longest time in milliseconds between two probes of a peer.
pub const PROBE_BACKOFF_MS_MAX: u64 = 5_000;

/// Milliseconds after which a probe without a result counts as failed.
pub const PROBE_TIMEOUT_MS: u64 = 2_000;

/// Probes in a row that must succeed before a peer counts as up again.
pub const PROBES_TO_RECOVER: u32 = 2;

/// Milliseconds between two recoveries of one peer from silence: one behind a bad network changes
/// its state at most twice a minute, however often it comes and goes.
pub const PEER_RECOVERY_GAP_MS: u64 = 60_000;

/// Hints in one delivery to a target.
pub const HINT_BATCH_MAX: usize = 64;

/// Bytes of the records in one delivery of hints to a target. A single larger one goes alone.
pub const HINT_BATCH_BYTES_MAX: usize = 1024 * 1024;

/// Milliseconds until a failed delivery of hints is tried again; doubled after each failure.
pub const HINT_BACKOFF_MS_MIN: u64 = 500;

/// Longest time in milliseconds between two attempts to deliver hints to a target.
pub const HINT_BACKOFF_MS_MAX: u64 = 30_000;

/// Age in milliseconds beyond which a hint is dropped, counted, and left to anti-entropy: a target
/// that is away for longer needs a full comparison anyway.
pub const HINT_AGE_MS_MAX: u64 = 24 * 60 * 60 * 1000;

/// Requests of one router that a coordinator has in flight from which on it can be overloaded:
/// below it the fastest reader is preferred whatever the others have (hazard C17).
pub const COORDINATOR_HERD_MIN: u32 = 16;

/// Bits of a leaf of the Merkle tree: 65,536 leaves are a megabyte of sums, and a leaf of a node
/// with thirty million keys lists some hundred of them. No partition is smaller than a leaf.
pub const TREE_LEAF_BITS: u8 = 16;

/// Subtrees in one request for digests: every partition of the largest ring. More: 400.
pub const TREE_PREFIXES_MAX: usize = PARTITIONS_MAX as usize;

/// Leaves in one request for keys; more: 400. The scan behind it stays short.
pub const TREE_LEAVES_MAX: usize = 256;

/// Keys in one page of keys: with the longest names still below [`PEER_MESSAGE_BYTES_MAX`].
pub const TREE_KEYS_MAX: usize = 2_048;

/// Records in one page of a transfer: merging a page stays one short commit.
pub const TRANSFER_PAGE_RECORDS_MAX: usize = 1_024;

/// Bytes of the records in one page of a transfer; a single larger record goes alone.
pub const TRANSFER_PAGE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Partitions that one node copies at a time. More would not be faster: the slices of background
/// work are shared, and a partition that is nearly copied is worth nothing yet.
pub const TRANSFERS_MAX: usize = 4;

/// Of these, how many from one source: a node that joins draws on all holders evenly (paper section
/// 4.9). Beyond it, where no other holder is left, a partition waits.
pub const TRANSFERS_PER_SOURCE_MAX: usize = 2;

/// Partitions that one node gives up at a time.
pub const RELEASES_MAX: usize = 4;

/// Milliseconds until a failed step of a transfer is tried again; doubled after each failure.
pub const TRANSFER_BACKOFF_MS_MIN: u64 = 500;

/// Longest time in milliseconds between two attempts of a step of a transfer.
pub const TRANSFER_BACKOFF_MS_MAX: u64 = 30_000;

/// Milliseconds between giving up a partition and deleting its data: by then every node has heard
/// that it is no longer held there (gossip), and every request that began before has ended.
pub const RELEASE_GRACE_MS: u64 = TIMEOUT_MS_MAX + 10 * GOSSIP_INTERVAL_MS;

/// Bytes of the durable progress of one transfer: a cursor with the longest key, and numbers.
/// A longer one is no progress of ours; the partition starts over.
pub const PROGRESS_BYTES_MAX: usize = 4 * 1024;

/// Keys in one check or one order of the reaper; more: 400.
pub const REAP_KEYS_MAX: usize = 1_024;

/// Default age in milliseconds below which nothing dead is removed: older than any request or hint
/// still on its way ([`TIMEOUT_MS_MAX`], [`HINT_BACKOFF_MS_MAX`]).
pub const TOMBSTONE_GRACE_MS_DEFAULT: u64 = 24 * 60 * 60 * 1000;

/// Least grace that may be configured, for tests: the longest request and the longest pause
/// between two deliveries of a hint.
pub const TOMBSTONE_GRACE_MS_MIN: u64 = TIMEOUT_MS_MAX + HINT_BACKOFF_MS_MAX;

/// Slices of background work that a node hands out at most.
pub const SLICES_MAX: u32 = 16;

/// Slices that it always hands out: background work never stands still (I-15).
pub const SLICES_MIN: u32 = 1;

/// Milliseconds between two changes of the number of slices: one change must show in the
/// measurements before the next.
pub const SLICES_STEP_MS: u64 = 5_000;

/// Requests of one kind that wait for a slice; more: 503 `overloaded` with `Retry-After`.
pub const SLICE_WAITERS_MAX: usize = 64;

/// Milliseconds between finding a key different and looking at it again (paper section 4.7). A
/// write reaches its last replica within a fraction of it; only what stays different is repaired.
pub const EXCHANGE_CONFIRM_MS: u64 = 500;

/// Differing subtrees that one question of an exchange opens: their children fill one request
/// ([`TREE_PREFIXES_MAX`]). What is beyond it is opened later.
pub const EXCHANGE_PREFIXES_MAX: usize = TREE_PREFIXES_MAX / 16;

/// Leaves whose keys an exchange compares before it repairs what it found. The rest follows in
/// turns, so that findings are fresh when they are acted upon.
pub const EXCHANGE_LEAVES_MAX: usize = 4_096;

/// Differing keys that an exchange has in work at once: some megabytes of names. The rest follows
/// in turns.
pub const EXCHANGE_KEYS_MAX: usize = 4_096;

/// Records that an exchange reads at once while it does not know how large they are.
pub const EXCHANGE_READS_FIRST: usize = 8;

/// Bytes of records in one step of an exchange, well below [`PEER_MESSAGE_BYTES_MAX`]; a single
/// larger record goes alone.
pub const EXCHANGE_BATCH_BYTES: usize = 4 * 1024 * 1024;

/// Bytes of records that one exchange moves by default. Beyond it the exchange ends with
/// differences left, and other partners have their turn.
pub const EXCHANGE_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// Requests of one exchange: those of a complete comparison of a hundred million keys. Beyond it
/// the exchange ends with differences left; a partner whose answers never end is given up.
pub const EXCHANGE_REQUESTS_MAX: u64 = 200_000;

/// Times an exchange starts again at the roots to see that what it repaired is equal now. Where
/// that does not suffice the next round goes on.
pub const EXCHANGE_PASSES_MAX: u32 = 4;

/// Puts in one sample of the freshness of reads: each meets every get of the sample, which bounds
/// what an estimate costs to a hundred thousand meetings, a few milliseconds.
pub const FRESHNESS_PUTS_MAX: usize = 512;

/// Gets in one sample of the freshness of reads; their delays vary less than those of puts.
pub const FRESHNESS_GETS_MAX: usize = 64;

/// Puts and gets from which on a sample says anything. A smaller one goes on growing.
pub const FRESHNESS_SAMPLES_MIN: usize = 32;
