//! The bounds of the worker, each with its reason and what happens when it is hit. Bounds of the
//! protocol are in `dynamo_core::limits`; what is tunable is a default of the settings.

use std::time::Duration;

/// Default seconds between two comparisons of a pair of nodes. Both ends drive, each at half this
/// rate.
pub const EXCHANGE_INTERVAL_S_DEFAULT: u64 = 60;

/// Shortest settable interval, in seconds: below it one round would not end before the next.
pub const EXCHANGE_INTERVAL_S_MIN: u64 = 1;

/// Longest settable interval, in seconds: replicas have to be compared well within the age of a
/// hint, or a hint that was dropped is noticed by nobody for long.
pub const EXCHANGE_INTERVAL_S_MAX: u64 = 24 * 60 * 60;

/// Share of an interval by which it is shortened at random, in percent, so that the rounds of many
/// nodes do not coincide.
pub const EXCHANGE_JITTER_PERCENT: u32 = 30;

/// Default comparisons that one worker drives at once. Each may hold the keys of some leaves and
/// one batch of records on each side; what repairs is bounded by the storage nodes' admission.
pub const EXCHANGES_MAX_DEFAULT: usize = 2;

/// Longest settable grace of tombstones, in seconds: a year. What was deleted is to be gone some
/// day.
pub const TOMBSTONE_GRACE_S_MAX: u64 = 365 * 24 * 60 * 60;

/// Largest settable number of comparisons at once.
pub const PARALLEL_MAX: usize = 64;

/// Pause after a peer came back, or the ring changed, before it is compared ahead of its turn:
/// hints are delivered first, and changes come in groups.
pub const EARLY_ROUND_PAUSE: Duration = Duration::from_secs(1);

/// Pause between two looks at what is due.
pub const SCHEDULE_TICK: Duration = Duration::from_millis(200);

/// Time for one call to a storage node, its wait for admission included. Longer than any page
/// takes to read or merge on a slow disk; beyond it the peer counts as silent.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(20);

/// Tries of one call that is refused as `overloaded`: background work waits until there is room.
/// After the last one the work is given up and comes again with its next round.
pub const OVERLOADED_TRIES_MAX: u32 = 6;

/// First pause after a call was refused as `overloaded`; doubled by each further refusal.
pub const OVERLOADED_PAUSE_MIN: Duration = Duration::from_millis(100);

/// Longest pause after a call was refused as `overloaded`.
pub const OVERLOADED_PAUSE_MAX: Duration = Duration::from_secs(3);

/// Time for one probe of a storage node that is not trusted now.
pub const PROBE_TIMEOUT: Duration = Duration::from_millis(500);

/// Pause between two looks at which storage nodes are due for a probe.
pub const PROBE_TICK: Duration = Duration::from_millis(200);

/// Time for one call to the local membership agent.
pub const AGENT_TIMEOUT: Duration = Duration::from_secs(2);

/// Pause before the local agent is asked again for this host's identity at the first start.
pub const AGENT_RETRY: Duration = Duration::from_millis(200);

/// Bytes of page cache of the progress file, which is a few rows per partition on the move.
pub const PROGRESS_CACHE_BYTES: usize = 1024 * 1024;

/// Pause between two looks at what is to be moved, where nothing happens, and between two questions
/// to the own store while something is on the move.
pub const MOVE_TICK: Duration = Duration::from_secs(1);

/// Pause between two questions to the own store what it has, where nothing is on the move: so late
/// is noticed that a store was replaced while the ring stayed the same.
pub const OWN_INTERVAL_IDLE: Duration = Duration::from_secs(5);

/// Time without progress of a running transfer after which it is logged.
pub const STALL_WARN_AFTER: Duration = Duration::from_secs(60);

/// Pause between two looks at whether a partition may be looked through for what is dead, where no
/// comparison has ended meanwhile.
pub const REAP_TICK: Duration = Duration::from_secs(5);

/// Longest pause between two looks through a partition for what is dead: its keys are listed for
/// it, which costs the store a read of all of them.
pub const DEAD_INTERVAL_MAX: Duration = Duration::from_secs(60 * 60);

/// Pause between two looks through a partition for long clocks, for which all its records are
/// read. A clock grows by an entry per restart of a node or so, and nothing of it may go before it
/// is a day old.
pub const CLOCKS_INTERVAL: Duration = Duration::from_secs(24 * 60 * 60);

/// Pause before a partition is looked through again where not every node could be asked.
pub const REAP_RETRY: Duration = Duration::from_secs(30);

/// Share of these pauses by which they are shortened at random, in percent.
pub const VISIT_JITTER_PERCENT: u32 = 20;

/// Comparisons that a pair may have missed for what is known of it to still be called fresh.
pub const FRESH_INTERVALS: u32 = 4;

/// Pause between two looks at the ages and totals that metrics show.
pub const SHOW_INTERVAL: Duration = Duration::from_secs(1);

/// Requests of operators at once; more are shed with `overloaded`.
pub const ADMIN_REQUESTS_MAX: usize = 64;

/// Repairs asked for that are remembered. Beyond it the oldest finished one is forgotten; where
/// none is finished the request is refused.
pub const REPAIRS_MAX: usize = 64;
